package firewalltest

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"shekara/netctl/nstest"
)

// Bounds of the wait for an answer: where one has to come it takes microseconds, but on a busy machine; where none may come it is the length of the test.
const (
	patient   = 10 * time.Second
	impatient = 700 * time.Millisecond
)

// echo lets the client send a word to a TCP server that sends it back. The server listens for this one call.
func echo(t *testing.T, server, client *nstest.H, from, to string, port uint16, wait time.Duration) error {
	t.Helper()
	at := netip.AddrPortFrom(netip.MustParseAddr(to), port)
	var listener net.Listener
	server.Do(func() {
		var err error
		if listener, err = net.Listen("tcp", at.String()); err != nil {
			t.Fatal(err)
		}
	})
	defer listener.Close()
	go func() {
		if c, err := listener.Accept(); err == nil {
			_, _ = io.Copy(c, c) // the client judges
			c.Close()
		}
	}()
	var failure error
	client.Do(func() {
		dialer := net.Dialer{Timeout: wait, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0))}
		c, err := dialer.Dial("tcp", at.String())
		if err != nil {
			failure = err
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		got := make([]byte, 4)
		if _, err := c.Write([]byte("word")); err != nil {
			failure = err
		} else if _, err := io.ReadFull(c, got); err != nil || string(got) != "word" {
			failure = fmt.Errorf("read %q: %w", got, err)
		}
	})
	return failure
}
