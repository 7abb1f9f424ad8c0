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

// teller has the kernel of a host tell of a route once more at each call.
func teller(t *testing.T, h *nstest.H) (tell func()) {
	t.Helper()
	lo, err := h.Netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	message := make([]byte, 0, 64)
	message = binary.NativeEndian.AppendUint32(message, unix.SizeofNlMsghdr+unix.SizeofRtMsg+8+8)
	message = binary.NativeEndian.AppendUint16(message, unix.RTM_NEWROUTE)
	message = binary.NativeEndian.AppendUint16(message, unix.NLM_F_REQUEST|unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	message = append(message, make([]byte, 8)...) // sequence and port
	message = append(message, unix.AF_INET, 32, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, unix.RT_SCOPE_LINK, unix.RTN_UNICAST, 0, 0, 0, 0)
	message = binary.NativeEndian.AppendUint16(message, 8)
	message = binary.NativeEndian.AppendUint16(message, unix.RTA_DST)
	message = append(message, 198, 51, 100, 1)
	message = binary.NativeEndian.AppendUint16(message, 8)
	message = binary.NativeEndian.AppendUint16(message, unix.RTA_OIF)
	message = binary.NativeEndian.AppendUint32(message, uint32(lo.Attrs().Index))
	var fd int
	h.Do(func() { fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return func() {
		message[unix.SizeofNlMsghdr+5] ^= unix.RTPROT_STATIC ^ unix.RTPROT_BOOT // of one that replaces its like nothing is told
		if err := unix.Sendto(fd, message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			t.Fatal(err)
		}
	}
}

// full is more datagrams than wait in a buffer of BufferSize, which the kernel doubles.
const full = 2 * multicast.BufferSize / 512

func TestAFullBufferIsTakenWhole(t *testing.T) {
	h := nstest.Host(t, "h")
	s, tell := open(t, h), teller(t, h)
	for range full {
		tell()
	}
	if routes, lost := take(t, s); routes < full/10 || !lost {
		t.Errorf("%d routes of %d, lost: %v", routes, full, lost)
	}
	if routes, lost := take(t, s); routes != 0 || lost {
		t.Errorf("%d routes were left, lost: %v", routes, lost)
	}
}

// TestNewsThatNeverEndDoNotKeep: each datagram that is handed over brings the next one.
func TestNewsThatNeverEndDoNotKeep(t *testing.T) {
	h := nstest.Host(t, "h")
	s, tell := open(t, h), teller(t, h)
	tell()
	told := 1
	lost, err := s.Take(func([]byte) {
		if told < 2*full { // then it ends all the same
			tell()
			told++
		}
	})
	if lost || err != nil || told < full || told == 2*full {
		t.Fatalf("%d were told, lost: %v, %v", told, lost, err)
	}
	// The rest waits, and is not waited for.
	if err := s.Wait(); err != nil {
		t.Fatal(err)
	}
	if routes, lost := take(t, s); routes != 1 || lost {
		t.Errorf("%d routes, lost: %v", routes, lost)
	}
}
