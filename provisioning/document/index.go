package document

import "net/netip"

// scope names one of the prefix indexes: "zone", "ipsec" (what such tunnels select), "address" (of active peers), "party" (of systems and gateways), or "remote/" and the peer from whose end the prefixes are remote.
const (
	scopeZone   = "zone"
	scopeIPsec  = "ipsec"
	scopeAddr   = "address"
	scopeParty  = "party"
	scopeRemote = "remote/"
)

// fact is what the Set must find a document by: under key stands the holder.
type fact struct {
	key    string
	holder Holder
}

// prefixFact is a prefix within a scope.
type prefixFact struct {
	scope  string
	prefix netip.Prefix
	holder Holder
}

// Keys of facts. The first byte tells them apart.
// References stand apart by the kind that they come from: a Peer that ten thousand Tunnels name finds its Site at once.
func keyReference(to Ref, from Kind) string {
	return "r" + string(from) + ">" + string(to.Kind) + "/" + to.Name
}
func keyPublicKey(key string) string     { return "k" + key }
func keyPresharedKey(name string) string { return "s" + name }
func keySites() string                   { return "S" }
func keyOpenZones() string               { return "Z" }
func keyBIN(bin string) string           { return "b" + bin }
func keyServiceCode(code string) string  { return "c" + code }
func keyKind(k Kind) string              { return "K" + string(k) }
func keyWaivers() string                 { return "W" }

// keyPair is the same for both orders of the peers (VPN-03).
func keyPair(t *Tunnel) string {
	a, b := t.Initiator.Peer, t.Owner.Peer
	return "p" + min(a, b) + "/" + max(a, b)
}

// facts are what a document is found by; a pure function of the document.
func facts(d *Document) ([]fact, []prefixFact) {
	c := collector{ref: d.Ref()}
	switch s := d.Spec.(type) {
	case *Zone:
		c.prefixes(scopeZone, "spec.prefixes", s.Prefixes)
		if len(s.Prefixes) == 0 {
			c.add(keyOpenZones(), "spec.prefixes")
		}
	case *Site:
		c.site(s)
	case *Peer:
		c.peer(s)
	case *Tunnel:
		c.tunnel(s)
	case *Flow:
		if s.Tunnel != "" {
			c.reference(KindTunnel, s.Tunnel, "spec.tunnel")
		}
		if s.FromZone != "" {
			c.reference(KindZone, s.FromZone, "spec.fromZone")
		}
		if s.ToZone != "" {
			c.reference(KindZone, s.ToZone, "spec.toZone")
		}
		if s.Waiver != nil {
			c.add(keyWaivers(), "spec.waiver")
		}
	case *Assertion:
		c.reference(KindSite, s.Site, "spec.site")
	case *EventSink:
		for i, name := range s.Sites {
			c.reference(KindSite, name, Index("spec.sites", i))
		}
	case *IncidentRule:
		c.add(keyKind(KindIncidentRule), "")
		for i, name := range s.Sites {
			c.reference(KindSite, name, Index("spec.sites", i))
		}
	case *TimeService:
		c.reference(KindSite, s.Site, "spec.site")
		for i, zone := range s.Zones {
			c.reference(KindZone, zone, Index("spec.zones", i))
		}
	default:
		c.register(d.Spec)
	}
	return c.facts, c.ranges
}

// register is for the kinds that are facts alone. A change of one affects every document, so what they name needs no index.
func (c *collector) register(spec any) {
	c.add(keyKind(c.ref.Kind), "")
	switch s := spec.(type) {
	case *Organisation:
		if s.BIN != "" {
			c.add(keyBIN(s.BIN), "spec.bin")
		}
	case *System:
		c.reference(KindZone, s.Zone, "spec.zone")
		c.prefixes(scopeParty, "spec.prefixes", s.Prefixes)
	case *Gateway:
		c.reference(KindZone, s.Zone, "spec.zone")
		c.prefixes(scopeParty, "spec.prefixes", s.Prefixes)
	case *Service:
		c.add(keyServiceCode(s.Code), "spec.code")
	}
}

type collector struct {
	ref    Ref
	facts  []fact
	ranges []prefixFact
}

func (c *collector) add(key, path string) {
	c.facts = append(c.facts, fact{key, Holder{c.ref, path}})
}

func (c *collector) reference(kind Kind, name, path string) {
	c.add(keyReference(Ref{kind, name}, c.ref.Kind), path)
}

// prefixes indexes those that can be read; validate reports the others.
func (c *collector) prefixes(scope, path string, list []string) {
	for i, s := range list {
		if p, err := ParsePrefix(s); err == nil {
			c.ranges = append(c.ranges, prefixFact{scope, p, Holder{c.ref, Index(path, i)}})
		}
	}
}

func (c *collector) site(s *Site) {
	c.add(keySites(), "")
	for i, p := range s.Peers {
		c.reference(KindPeer, p, Index("spec.peers", i))
	}
	for i, n := range s.Interfaces {
		c.reference(KindZone, n.Zone, Index("spec.interfaces", i)+".zone")
	}
	if s.Management.Zone != "" {
		c.reference(KindZone, s.Management.Zone, "spec.management.zone")
	}
}

func (c *collector) peer(p *Peer) {
	for i, w := range p.WireGuard {
		c.reference(KindZone, w.FarZone, Index("spec.wireguard", i)+".farZone")
		if w.Tunnel != "" {
			c.reference(KindTunnel, w.Tunnel, Index("spec.wireguard", i)+".tunnel")
		}
	}
	if p.Inactive {
		return
	}
	if a, err := ParseAddress(p.PublicIP); err == nil {
		c.ranges = append(c.ranges, prefixFact{scopeAddr, single(a), Holder{c.ref, "spec.publicIP"}})
	}
	for i, w := range p.WireGuard {
		if w.PublicKey != "" {
			c.add(keyPublicKey(w.PublicKey), Index("spec.wireguard", i)+".publicKey")
		}
	}
}

func (c *collector) tunnel(t *Tunnel) {
	c.reference(KindPeer, t.Initiator.Peer, "spec.initiator.peer")
	c.reference(KindPeer, t.Owner.Peer, "spec.owner.peer")
	c.reference(KindZone, t.Initiator.Zone, "spec.initiator.zone")
	c.reference(KindZone, t.Owner.Zone, "spec.owner.zone")
	if t.Inactive {
		return
	}
	c.add(keyPair(t), "spec.owner.peer")
	if t.PresharedKey != "" {
		c.add(keyPresharedKey(t.PresharedKey), "spec.presharedKey")
	}
	c.remotes(t.Initiator.Peer, "spec.owner", &t.Owner)
	c.remotes(t.Owner.Peer, "spec.initiator", &t.Initiator)
	if t.Protocol == "ipsec" {
		c.prefixes(scopeIPsec, "spec.initiator.prefixes", t.Initiator.Prefixes)
		c.prefixes(scopeIPsec, "spec.owner.prefixes", t.Owner.Prefixes)
	}
}

// remotes are what the peer's side writes for the other end.
func (c *collector) remotes(peer, path string, far *End) {
	switch {
	case len(far.Mapped) > 0:
		path += ".mapped"
	case len(far.Hide) > 0:
		path += ".hide"
	default:
		path += ".prefixes"
	}
	c.prefixes(scopeRemote+peer, path, far.Known())
}

// insert and erase keep the indexes with the documents.
func (s *Set) insert(d *Document) {
	exact, ranges := facts(d)
	for _, f := range exact {
		old, _ := s.facts.get(f.key)
		s.facts.set(f.key, old.add(f.holder))
	}
	for _, f := range ranges {
		r, _ := s.prefixes.get(f.scope)
		s.prefixes.set(f.scope, r.add(f.prefix, f.holder))
	}
}

func (s *Set) erase(d *Document) {
	exact, ranges := facts(d)
	for _, f := range exact {
		old, _ := s.facts.get(f.key)
		if left := old.remove(f.holder); left == nil {
			s.facts.remove(f.key)
		} else {
			s.facts.set(f.key, left)
		}
	}
	for _, f := range ranges {
		r, _ := s.prefixes.get(f.scope)
		if r = r.remove(f.prefix, f.holder); r == (roots{}) {
			s.prefixes.remove(f.scope)
		} else {
			s.prefixes.set(f.scope, r)
		}
	}
}
