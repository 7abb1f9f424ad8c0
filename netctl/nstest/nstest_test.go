package nstest_test

import (
	"context"
	"net"
	"strings"
	"testing"

	"shekara/netctl/nstest"
)

func TestTwoHostsAndARouter(t *testing.T) {
	a, r, b := nstest.Host(t, "a"), nstest.Host(t, "r"), nstest.Host(t, "b")
	nstest.Link(t, a, "eth0", []string{"192.0.2.2/24", "2001:db8:1::2/64"}, r, "eth0", []string{"192.0.2.1/24", "2001:db8:1::1/64"})
	nstest.Link(t, r, "eth1", []string{"198.51.100.1/24", "2001:db8:2::1/64"}, b, "eth0", []string{"198.51.100.2/24", "2001:db8:2::2/64"})
	for _, gateway := range []string{"192.0.2.1", "2001:db8:1::1"} {
		a.Route("default", gateway)
	}
	for _, gateway := range []string{"198.51.100.1", "2001:db8:2::1"} {
		b.Route("default", gateway)
	}
	for _, address := range []string{"198.51.100.2", "2001:db8:2::2"} {
		if out, err := a.Try("ping", "-c1", "-W1", address); err == nil {
			t.Errorf("%s answers though r does not forward:\n%s", address, out)
		}
	}
	r.Forwarding()
	for _, address := range []string{"198.51.100.2", "2001:db8:2::2"} {
		a.Run("ping", "-c1", "-W5", address)
	}

	// Sockets made inside stay inside.
	var listener net.Listener
	b.Do(func() {
		var err error
		if listener, err = net.Listen("tcp", "[2001:db8:2::2]:80"); err != nil {
			t.Fatal(err)
		}
	})
	defer listener.Close()
	go func() {
		if conn, err := listener.Accept(); err == nil {
			_, _ = conn.Write([]byte("hello"))
			conn.Close()
		}
	}()
	a.Do(func() {
		conn, err := net.Dial("tcp", "[2001:db8:2::2]:80")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		got := make([]byte, 5)
		if _, err := conn.Read(got); err != nil || string(got) != "hello" {
			t.Fatalf("read %q, %v", got, err)
		}
	})
	if out := a.RunInput("ping", "cat"); out != "ping" {
		t.Errorf("standard input comes out as %q", out)
	}
	if out, err := a.Command(context.Background(), "ip", "-o", "link").Output(); err != nil || !strings.Contains(string(out), "eth0") || strings.Contains(string(out), "eth1") {
		t.Errorf("ip link on a: %v\n%s", err, out)
	}
}
