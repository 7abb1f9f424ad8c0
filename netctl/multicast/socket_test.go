package multicast_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"shekara/netctl/multicast"
	"shekara/netctl/nstest"
)

func open(t *testing.T, h *nstest.H) *multicast.Socket {
	t.Helper()
	var s *multicast.Socket
	h.Do(func() {
		var err error
		if s, err = multicast.Open(unix.NETLINK_ROUTE, unix.RTNLGRP_IPV4_ROUTE); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { s.Close() })
	return s
}

// take counts the messages that wait.
func take(t *testing.T, s *multicast.Socket) (routes int, lost bool) {
	t.Helper()
	lost, err := s.Take(func(messages []byte) {
		if len(messages) >= unix.SizeofNlMsghdr && binary.NativeEndian.Uint16(messages[4:]) == unix.RTM_NEWROUTE {
			routes++
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return routes, lost
}

func TestAllThatCameIsTaken(t *testing.T) {
	h := nstest.Host(t, "h")
	s := open(t, h)
	if routes, lost := take(t, s); routes != 0 || lost {
		t.Errorf("%d routes, lost: %v, though nothing changed", routes, lost)
	}
	// What the kernel has done it has told: nothing is waited for.
	for range 3 {
		for i := range 10 {
			h.Run("ip", "route", "add", fmt.Sprintf("198.51.100.%d", i), "dev", "lo")
		}
		if routes, lost := take(t, s); routes != 10 || lost {
			t.Errorf("%d routes of 10, lost: %v", routes, lost)
		}
		h.Run("ip", "route", "flush", "table", "main")
		take(t, s)
	}
}

func TestWaitEndsWithNewsOrTheEnd(t *testing.T) {
	h := nstest.Host(t, "h")
	s := open(t, h)
	ended := make(chan error)
	go func() { ended <- s.Wait() }()
	h.Run("ip", "route", "add", "198.51.100.1", "dev", "lo")
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if routes, _ := take(t, s); routes != 1 {
		t.Errorf("%d routes", routes)
	}
	go func() { ended <- s.Wait() }()
	s.Close()
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Errorf("wait on a closed socket ends with %v", err)
	}
}
