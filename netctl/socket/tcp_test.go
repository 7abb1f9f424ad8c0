package socket_test

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"shekara/netctl/socket"
)

func TestRefused(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	conn, err := net.Dial("tcp", address)
	if err != nil || socket.Refused(err) {
		t.Fatal(err)
	}
	conn.Close()
	listener.Close()
	if _, err := net.Dial("tcp", address); !socket.Refused(err) {
		t.Errorf("where nobody listens: %v", err)
	}
	if socket.Refused(net.ErrClosed) {
		t.Error("a closed connection is no refusal")
	}
}

// What the other end's kernel has is acknowledged, though nobody there has read it; what it has no room for is not.
func TestUnacknowledged(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	tcp := conn.(*net.TCPConn)
	if err := socket.GiveUpAfter(tcp, time.Minute); err != nil {
		t.Fatal(err)
	}
	if _, err := tcp.Write(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	await := func(what string, so func(int) bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			n, err := socket.Unacknowledged(tcp)
			if err != nil {
				t.Fatal(err)
			}
			if so(n) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %d bytes", what, n)
			}
		}
	}
	await("a little is acknowledged", func(n int) bool { return n == 0 })
	// How much it has room for grows with what arrives, and on a busy machine one write may end before that is full: written is on and on.
	await("much is not", func(int) bool {
		if err := tcp.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := tcp.Write(make([]byte, 64<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("64 MiB written, and nobody reads: %v", err)
		}
		time.Sleep(100 * time.Millisecond) // what there is room for is acknowledged by then
		n, err := socket.Unacknowledged(tcp)
		return err == nil && n > 0
	})
	if err := tcp.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := socket.Unacknowledged(tcp); err == nil {
		t.Error("a closed socket answers")
	}
}

func TestFreebind(t *testing.T) {
	for _, address := range []string{"192.0.2.1:0", "[2001:db8::1]:0"} {
		if l, err := net.Listen("tcp", address); err == nil { // the control: it is not this host's
			l.Close()
			t.Errorf("this host has %s", address)
		}
		l, err := (&net.ListenConfig{Control: socket.Freebind}).Listen(t.Context(), "tcp", address)
		if err != nil {
			t.Errorf("listen at %s: %v", address, err)
			continue
		}
		l.Close()
	}
}
