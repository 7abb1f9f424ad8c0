package nts

import (
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		one, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
		enter := func(client netip.Addr, want error) {
			t.Helper()
			if err := g.enter(client); !errors.Is(err, want) {
				t.Fatalf("%s: %v, want %v", client, err, want)
			}
		}
		for range maxOpenOfOne {
			enter(one, nil)
		}
		enter(one, ErrTooMany)
		enter(other, nil)
		g.leave(one)
		enter(one, nil)
		for range burst - maxOpenOfOne - 1 {
			g.leave(one)
			enter(one, nil)
		}
		g.leave(one)
		enter(one, ErrTooMany) // though fewer are open than may be
		time.Sleep(eachAfter)
		enter(one, nil)
		g.leave(one)
		enter(one, ErrTooMany)
		enter(other, nil)

		// An address of IPv6 is of a prefix in which its host may have any.
		for range maxOpenOfOne {
			enter(netip.MustParseAddr("2001:db8:0:1::1"), nil)
		}
		enter(netip.MustParseAddr("2001:db8:0:1::2"), ErrTooMany)
		enter(netip.MustParseAddr("2001:db8:0:2::1"), nil)
	})
}

func TestGateIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		at := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}) }
		for n := range maxOpen {
			if err := g.enter(at(n)); err != nil {
				t.Fatal(err)
			}
		}
		if err := g.enter(at(maxOpen)); !errors.Is(err, ErrTooMany) {
			t.Errorf("one more than may be open: %v", err)
		}
		for n := range maxOpen {
			g.leave(at(n))
		}
		for n := range 2 * maxVisitors {
			err := g.enter(at(n))
			if full := n >= maxVisitors; errors.Is(err, ErrTooMany) != full {
				t.Fatalf("visitor %d: %v", n, err)
			}
			if err == nil {
				g.leave(at(n))
			}
		}
		time.Sleep(2 * eachAfter) // they are forgotten once that takes nothing from their limit
		if err := g.enter(at(3 * maxVisitors)); err != nil || len(g.visitors) != 1 {
			t.Errorf("%v, %d visitors", err, len(g.visitors))
		}
	})
}
