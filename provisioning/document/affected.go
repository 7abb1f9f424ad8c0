package document

import (
	"reflect"
	"slices"
)

// Affected are the documents of s whose validity, or whose part of what a box should hold, may differ from that before the changes that
// led to s; sorted, and never nil. A document that is removed is not among them.
//
// A Site speaks for every peer, tunnel and flow on it, and a TimeService for it: a change of one affects all documents. So does a change of what the contour rules
// judge by: the registers (Organisation, System, Gateway, Service, CryptoModule), and what a Zone says beside its prefixes. Everything
// else stays near: a Tunnel affects its Flows, a Flow its Tunnel, a Peer the Tunnels and Sites that name it, a Zone what names it and the
// Tunnels of the Sites that touch it. Where two documents contradict each other the one that came later is at fault, and that is the changed one.
func (s *Set) Affected(changes []Change) []Ref {
	a := affected{set: s, refs: map[Ref]bool{}}
	for _, c := range changes {
		if c.speaksForAll() {
			return s.allRefs()
		}
		a.refs[c.Ref] = true
		a.referrers(c.Ref)
		for _, d := range []*Document{c.Before, c.After} {
			if d != nil {
				a.neighbours(d)
			}
		}
	}
	refs := make([]Ref, 0, len(a.refs))
	for r := range a.refs {
		if s.Get(r) != nil {
			refs = append(refs, r)
		}
	}
	slices.SortFunc(refs, Ref.Compare)
	return refs
}

// speaksForAll reports whether the change may matter to any document.
func (c Change) speaksForAll() bool {
	if c.Ref.Kind != KindZone {
		// A TimeService says which Flows may lead to an appliance, and adds to the base of its own.
		return c.Ref.Kind == KindSite || c.Ref.Kind == KindTimeService || c.Ref.Kind.IsRegister()
	}
	if c.Before == nil || c.After == nil {
		return true
	}
	before, after := *c.Before.Spec.(*Zone), *c.After.Spec.(*Zone)
	before.Prefixes, after.Prefixes = nil, nil
	return !reflect.DeepEqual(before, after)
}

func (s *Set) allRefs() []Ref {
	refs := make([]Ref, 0, s.Len())
	for d := range s.All() {
		refs = append(refs, d.Ref())
	}
	return refs
}

type affected struct {
	set  *Set
	refs map[Ref]bool
}

func (a affected) referrers(r Ref) {
	for _, from := range kinds() {
		for h := range a.set.References(r, from) {
			a.refs[h.Ref] = true
		}
	}
}

func (a affected) neighbours(d *Document) {
	switch spec := d.Spec.(type) {
	case *Flow:
		if spec.Tunnel != "" {
			a.refs[Ref{KindTunnel, spec.Tunnel}] = true
		}
	case *Peer:
		// A selector of IPsec that holds the new address of a peer would carry that peer's outer packets.
		if p, err := ParseAddress(spec.PublicIP); err == nil {
			for _, h := range a.set.Selectors(single(p)) {
				a.refs[h.Ref] = true
			}
		}
	case *Zone:
		a.zone(d.Name)
	}
}

func (a affected) zone(name string) {
	// Zones without prefixes are what the others leave over.
	for h := range a.set.holders(keyOpenZones()) {
		a.referrers(h.Ref)
	}
	// To the tunnels of a site that touches the zone, its prefixes are local.
	for h := range a.set.References(Ref{KindZone, name}, KindSite) {
		site := a.set.Site(h.Name)
		for _, peer := range site.Peers {
			a.referrers(Ref{KindPeer, peer})
		}
	}
}
