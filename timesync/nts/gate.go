package nts

import (
	"net/netip"
	"sync"
	"time"
)

// Limits of key establishment. An honest client comes once, and again when it has been away for days or its server lost the keys of its cookies; behind one address there may be many.
const (
	maxOpen        = 64 // connections at once
	maxOpenOfOne   = 8
	burst          = 32 // connections that one may make before it must wait for each
	eachAfter      = time.Second
	maxVisitors    = 8192
	visitorBits6   = 64 // of an IPv6 address are one visitor's: it can choose the rest
	refilledWithin = burst * eachAfter
)

// gate keeps one client, or all of them, from holding the server.
type gate struct {
	mutex    sync.Mutex
	open     int
	visitors map[netip.Prefix]*visitor
}

type visitor struct {
	open int
	// next is when one more may come than have; it lies up to refilledWithin ahead.
	next time.Time
}

func newGate() gate { return gate{visitors: map[netip.Prefix]*visitor{}} }

func visitorOf(client netip.Addr) netip.Prefix {
	bits := client.BitLen()
	if client.Is6() {
		bits = visitorBits6
	}
	prefix, _ := client.WithZone("").Prefix(bits) // the error is of bits alone
	return prefix
}

// enter counts a connection in, which must leave; or says ErrTooMany.
func (g *gate) enter(client netip.Addr) error {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	now := time.Now()
	of := visitorOf(client)
	v := g.visitors[of]
	if v == nil {
		if len(g.visitors) >= maxVisitors {
			g.forget(now)
		}
		if len(g.visitors) >= maxVisitors {
			return ErrTooMany
		}
		v = &visitor{next: now}
		g.visitors[of] = v
	}
	if v.next.Before(now) {
		v.next = now
	}
	if g.open >= maxOpen || v.open >= maxOpenOfOne || v.next.Sub(now) > refilledWithin-eachAfter {
		return ErrTooMany
	}
	v.next = v.next.Add(eachAfter)
	v.open++
	g.open++
	return nil
}

func (g *gate) leave(client netip.Addr) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.visitors[visitorOf(client)].open--
	g.open--
}

// forget drops those who may do all that a new one may.
func (g *gate) forget(now time.Time) {
	for of, v := range g.visitors {
		if v.open == 0 && !v.next.After(now) {
			delete(g.visitors, of)
		}
	}
}
