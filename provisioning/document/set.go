package document

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"
)

// Set is documents by kind and name, with indexes for what validate and compile ask. A Set never changes: Merge and Replace give a
// new one that shares with the old all that is the same, so that one document among thirty thousand is changed in microseconds and
// the old Set stays good to use. Many goroutines may read a Set, and derive from it, at once.
type Set struct {
	documents table[entry]    // by Ref.String
	facts     table[*holders] // by key of index.go
	prefixes  table[roots]    // by scope
	next      uint64
}

// entry is a document and when it came: of two that contradict each other, the later one is blamed.
type entry struct {
	*Document
	order uint64
}

// NewSet is the set of these documents. Of two with the same kind and name the later one counts; Decode has reported them.
func NewSet(documents ...*Document) *Set {
	empty := &Set{documents: newTable[entry](), facts: newTable[*holders](), prefixes: newTable[roots]()}
	s, _ := empty.Merge(documents)
	return s
}

// Verb is what a Change does.
type Verb string

const (
	Add    Verb = "add"
	Modify Verb = "change"
	Remove Verb = "remove"
)

// Change is one document that differs between two Sets.
type Change struct {
	Verb   Verb
	Ref    Ref
	Before *Document // nil for Add
	After  *Document // nil for Remove
}

// Merge is the set with these documents added or put in place of those of the same kind and name, and what that changes, sorted
// by kind and name. A document that is equal to the one that is there is no change.
func (s *Set) Merge(documents []*Document) (*Set, []Change) { return s.edit(documents, nil) }

// Replace is the set of these documents alone, and what that changes, removals included.
func (s *Set) Replace(documents []*Document) (*Set, []Change) {
	keep := make(map[Ref]bool, len(documents))
	for _, d := range documents {
		keep[d.Ref()] = true
	}
	var absent []Ref
	for d := range s.All() {
		if !keep[d.Ref()] {
			absent = append(absent, d.Ref())
		}
	}
	return s.edit(documents, absent)
}

// Without is the set without these documents, and what that changes.
func (s *Set) Without(refs ...Ref) (*Set, []Change) { return s.edit(nil, refs) }

func (s *Set) edit(put []*Document, remove []Ref) (*Set, []Change) {
	made := &Set{documents: s.documents.copied(), facts: s.facts.copied(), prefixes: s.prefixes.copied(), next: s.next}
	for _, r := range remove {
		if old, known := made.documents.get(r.String()); known {
			made.erase(old.Document)
			made.documents.remove(r.String())
		}
	}
	touched := slices.Clone(remove)
	for _, d := range put {
		key := d.Ref().String()
		old, known := made.documents.get(key)
		if known && old.canonical == d.canonical {
			continue
		}
		if known {
			made.erase(old.Document)
		}
		made.insert(d)
		made.documents.set(key, entry{d, made.next})
		made.next++
		touched = append(touched, d.Ref())
	}
	slices.SortFunc(touched, Ref.Compare)
	return made, s.changes(made, slices.Compact(touched))
}

func (s *Set) changes(made *Set, touched []Ref) []Change {
	var changes []Change
	for _, r := range touched {
		before, after := s.Get(r), made.Get(r)
		switch {
		case before == nil && after == nil || before != nil && after != nil && before.canonical == after.canonical:
		case before == nil:
			changes = append(changes, Change{Add, r, nil, after})
		case after == nil:
			changes = append(changes, Change{Remove, r, before, nil})
		default:
			changes = append(changes, Change{Modify, r, before, after})
		}
	}
	return changes
}

// Len is how many documents there are.
func (s *Set) Len() int { return s.documents.size }

// Get is the document, nil if there is none.
func (s *Set) Get(r Ref) *Document {
	e, _ := s.documents.get(r.String())
	return e.Document
}

// Zone is the spec of a zone, nil if there is none of that name.
func (s *Set) Zone(name string) *Zone { return spec[Zone](s, KindZone, name) }

// Site is the spec of a site, nil if there is none of that name.
func (s *Set) Site(name string) *Site { return spec[Site](s, KindSite, name) }

// Peer is the spec of a peer, nil if there is none of that name.
func (s *Set) Peer(name string) *Peer { return spec[Peer](s, KindPeer, name) }

// Tunnel is the spec of a tunnel, nil if there is none of that name.
func (s *Set) Tunnel(name string) *Tunnel { return spec[Tunnel](s, KindTunnel, name) }

// Flow is the spec of a flow, nil if there is none of that name.
func (s *Set) Flow(name string) *Flow { return spec[Flow](s, KindFlow, name) }

// Organisation is the spec of an organisation, nil if there is none of that name.
func (s *Set) Organisation(name string) *Organisation {
	return spec[Organisation](s, KindOrganisation, name)
}

// System is the spec of a system, nil if there is none of that name.
func (s *Set) System(name string) *System { return spec[System](s, KindSystem, name) }

// Gateway is the spec of a gateway, nil if there is none of that name.
func (s *Set) Gateway(name string) *Gateway { return spec[Gateway](s, KindGateway, name) }

// Service is the spec of a service, nil if there is none of that name.
func (s *Set) Service(name string) *Service { return spec[Service](s, KindService, name) }

// CryptoModule is the spec of a module, nil if there is none of that name.
func (s *Set) CryptoModule(name string) *CryptoModule {
	return spec[CryptoModule](s, KindCryptoModule, name)
}

// Assertion is the spec of an assertion, nil if there is none of that name.
func (s *Set) Assertion(name string) *Assertion { return spec[Assertion](s, KindAssertion, name) }

// IncidentRule is the spec of a rule, nil if there is none of that name.
func (s *Set) IncidentRule(name string) *IncidentRule {
	return spec[IncidentRule](s, KindIncidentRule, name)
}

// TimeService is the spec of a time service, nil if there is none of that name.
func (s *Set) TimeService(name string) *TimeService {
	return spec[TimeService](s, KindTimeService, name)
}

// TimeServiceOf is the name and the spec of the site's time service, nil if it has none.
func (s *Set) TimeServiceOf(site string) (string, *TimeService) {
	for h := range s.References(Ref{KindSite, site}, KindTimeService) {
		return h.Name, s.TimeService(h.Name)
	}
	return "", nil
}

// EventSink is the spec of a sink, nil if there is none of that name.
func (s *Set) EventSink(name string) *EventSink { return spec[EventSink](s, KindEventSink, name) }

func spec[T any](s *Set, k Kind, name string) *T {
	d := s.Get(Ref{k, name})
	if d == nil {
		return nil
	}
	t, _ := d.Spec.(*T)
	return t
}

// Later reports whether a came into the Set after b; false unless both are there.
func (s *Set) Later(a, b Ref) bool {
	x, hasX := s.documents.get(a.String())
	y, hasY := s.documents.get(b.String())
	return hasX && hasY && x.order > y.order
}

// All is every document, sorted by kind and name.
func (s *Set) All() iter.Seq[*Document] {
	return func(yield func(*Document) bool) {
		for _, d := range s.sorted(func(*Document) bool { return true }) {
			if !yield(d) {
				return
			}
		}
	}
}

// Of is every document of a kind, sorted by name.
func (s *Set) Of(k Kind) iter.Seq[*Document] {
	if k.IsRegister() || k == KindIncidentRule {
		return func(yield func(*Document) bool) {
			for h := range s.holders(keyKind(k)) {
				if !yield(s.Get(h.Ref)) {
					return
				}
			}
		}
	}
	return func(yield func(*Document) bool) {
		for _, d := range s.sorted(func(d *Document) bool { return d.Kind == k }) {
			if !yield(d) {
				return
			}
		}
	}
}

func (s *Set) sorted(want func(*Document) bool) []*Document {
	list := make([]*Document, 0, s.Len())
	s.documents.all(func(_ string, e entry) {
		if want(e.Document) {
			list = append(list, e.Document)
		}
	})
	slices.SortFunc(list, func(a, b *Document) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return list
}

// Sites are the names of all sites, sorted.
func (s *Set) Sites() []string { return names(s.holders(keySites())) }

// SitesOf are the names of the sites that list the peer, sorted: one, in a valid set, or none for a far peer.
func (s *Set) SitesOf(peer string) []string {
	return names(s.References(Ref{KindPeer, peer}, KindSite))
}

func names(list iter.Seq[Holder]) []string {
	var found []string
	for h := range list {
		if len(found) == 0 || found[len(found)-1] != h.Name {
			found = append(found, h.Name)
		}
	}
	return found
}

func (s *Set) holders(key string) iter.Seq[Holder] {
	return func(yield func(Holder) bool) {
		t, _ := s.facts.get(key)
		t.walk(yield)
	}
}

// References are the fields, of documents of the kind from, that name the document to, whether it is there or not; sorted.
func (s *Set) References(to Ref, from Kind) iter.Seq[Holder] {
	return s.holders(keyReference(to, from))
}

// PublicKeys are the fields of active peers that hold the key.
func (s *Set) PublicKeys(key string) iter.Seq[Holder] { return s.holders(keyPublicKey(key)) }

// PresharedKeys are the fields of active tunnels that name the secret.
func (s *Set) PresharedKeys(name string) iter.Seq[Holder] { return s.holders(keyPresharedKey(name)) }

// Pair are the active tunnels between the two peers of t, in either order and any environment; t itself too, if it is in the set.
func (s *Set) Pair(t *Tunnel) iter.Seq[Holder] { return s.holders(keyPair(t)) }

// Zones are the prefixes of zones that overlap p.
func (s *Set) Zones(p netip.Prefix) iter.Seq2[netip.Prefix, Holder] {
	return s.overlapping(scopeZone, p)
}

// Parties are the prefixes of systems and gateways that overlap p.
func (s *Set) Parties(p netip.Prefix) iter.Seq2[netip.Prefix, Holder] {
	return s.overlapping(scopeParty, p)
}

// Waivers are the flows that carry a waiver, sorted by name.
func (s *Set) Waivers() iter.Seq[Holder] { return s.holders(keyWaivers()) }

// BINs are the organisations that have the number.
func (s *Set) BINs(bin string) iter.Seq[Holder] { return s.holders(keyBIN(bin)) }

// ServiceCodes are the services that have the code.
func (s *Set) ServiceCodes(code string) iter.Seq[Holder] { return s.holders(keyServiceCode(code)) }

// Remotes are the prefixes of active tunnels that overlap p and are the far ones as the peer's side writes them.
func (s *Set) Remotes(peer string, p netip.Prefix) iter.Seq2[netip.Prefix, Holder] {
	return s.overlapping(scopeRemote+peer, p)
}

// PublicIPs are the public addresses of active peers inside p.
func (s *Set) PublicIPs(p netip.Prefix) iter.Seq2[netip.Prefix, Holder] {
	return s.overlapping(scopeAddr, p)
}

// Selectors are the prefixes of active IPsec tunnels that overlap p.
func (s *Set) Selectors(p netip.Prefix) iter.Seq2[netip.Prefix, Holder] {
	return s.overlapping(scopeIPsec, p)
}

func (s *Set) overlapping(scope string, p netip.Prefix) iter.Seq2[netip.Prefix, Holder] {
	return func(yield func(netip.Prefix, Holder) bool) {
		r, _ := s.prefixes.get(scope)
		r.overlapping(p, yield)
	}
}
