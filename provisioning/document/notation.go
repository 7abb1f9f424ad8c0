package document

import (
	"net/netip"
	"slices"
)

// Shown are an end's prefixes as they stand in the tunnel: its selectors.
func (e *End) Shown() []string {
	if len(e.Hide) > 0 {
		return e.Hide
	}
	return e.Prefixes
}

// Known are an end's prefixes as the other side writes them.
func (e *End) Known() []string {
	if len(e.Mapped) > 0 {
		return e.Mapped
	}
	return e.Shown()
}

// Hides says whether all that is behind the end stands behind single addresses, so that nobody can open connections to it.
func (e *End) Hides() bool { return len(e.Hide) > 0 && !OneToOne(e.Prefixes, e.Hide) }

// OneToOne says whether the lists are as long as one another, and prefix by prefix of one family and length.
func OneToOne(prefixes, others []string) bool {
	return slices.EqualFunc(prefixes, others, func(s, other string) bool {
		a, errA := netip.ParsePrefix(s)
		b, errB := netip.ParsePrefix(other)
		return errA == nil && errB == nil && a.Bits() == b.Bits() && a.Addr().Is4() == b.Addr().Is4()
	})
}

// Translated says whether either end is known to the other by other addresses than its own.
func (t *Tunnel) Translated() bool {
	return len(t.Initiator.Mapped)+len(t.Initiator.Hide)+len(t.Owner.Mapped)+len(t.Owner.Hide) > 0
}

// DeviceFor is what the wireguard entry of an end's Peer has for tunnel: the tunnel's name if its box must keep the tunnel apart from
// others, else "".
func (t *Tunnel) DeviceFor(name string, local, far *End) string {
	if len(local.Hide)+len(far.Hide)+len(far.Mapped) > 0 {
		return name
	}
	return ""
}

// Port is the peer's device for what is at the far end of a tunnel, nil if it has none.
func (p *Peer) Port(farZone string, environment Environment, tunnel string) *WireGuardPort {
	for i, w := range p.WireGuard {
		if w.FarZone == farZone && w.Environment == environment && w.Tunnel == tunnel {
			return &p.WireGuard[i]
		}
	}
	return nil
}
