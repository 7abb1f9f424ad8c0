package validate

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"shekara/firewall"
	"shekara/provisioning/contour"
	"shekara/provisioning/document"
)

// maxPrefixes is what one end may have: tunnels takes no more allowed IPs for one peer.
const maxPrefixes = 10_000

// end is one end of a tunnel as far as it could be read.
type end struct {
	document.End
	path     string // "spec.initiator"
	side     string // "initiator"
	peer     *document.Peer
	prefixes []prefix
	shown    []prefix // as they stand in the tunnel
	known    []prefix // as the other side writes them
}

func (c *checker) tunnel(t *document.Tunnel) {
	c.oneOf("spec.environment", string(t.Environment), "test", "production")
	c.oneOf("spec.protocol", t.Protocol, "wireguard", "ipsec")
	if t.Keepalive < 0 || t.Keepalive > 65535 {
		c.add("spec.keepalive", "keepalive out of range", fmt.Sprint(t.Keepalive), "write 1 to 65535 seconds, or leave it out", "")
	}
	c.limits(t)
	if t.Initiator.Peer == t.Owner.Peer && t.Owner.Peer != "" {
		c.add("spec.owner.peer", "both ends are one peer", t.Owner.Peer, "name the other peer: a tunnel joins two", "DEF-33")
	}
	initiator := c.end("spec.initiator", "initiator", t.Initiator)
	owner := c.end("spec.owner", "owner", t.Owner)
	c.selectors(initiator, owner)
	c.probes(t, initiator, owner)
	c.presharedKey(t)
	c.pair(t, initiator, owner)
	if t.Translated() && t.Protocol == "ipsec" {
		c.add("spec.protocol", "translation in a tunnel of protocol ipsec", "ipsec", "write protocol: wireguard: mapped and hide need a device of their own", "")
	}
	switch {
	case !c.fine("spec.environment"):
	case t.Protocol == "wireguard":
		c.devices(t, initiator, owner)
	case t.Protocol == "ipsec":
		c.ipsec(t, initiator, owner)
	}
	if t.CryptoModule != "" {
		c.reference("spec.cryptoModule", document.KindCryptoModule, t.CryptoModule)
	}
	if t.Inactive || !c.fine("spec.owner.peer") {
		return // a wrong pair makes every prefix look wrong
	}
	c.remote(t, initiator, owner)
	c.remote(t, owner, initiator)
	if c.sound() {
		c.contours(c.judge.Tunnel(&contour.Tunnel{Initiator: initiator.contour(), Owner: owner.contour(), CryptoModule: t.CryptoModule, IPsec: t.IPsec}))
	}
}

func (c *checker) limits(t *document.Tunnel) {
	for _, l := range []struct {
		field    string
		is, most int
	}{{"newPerSecond", t.Limits.NewPerSecond, firewall.MaxNewPerSecond}, {"connections", t.Limits.Connections, firewall.MaxConnections},
		{"mbitPerSecond", t.Limits.MbitPerSecond, firewall.MaxMbitPerSecond}} {
		if l.is < 0 || l.is > l.most {
			c.add("spec.limits."+l.field, "limit out of range", fmt.Sprint(l.is), fmt.Sprintf("write 1 to %d, or leave it out for no limit", l.most), "VPN-08")
		}
	}
	if t.Limits != (document.Limits{}) && t.Protocol == "ipsec" {
		c.add("spec.limits", "limits of a tunnel of protocol ipsec", "", "leave them out: only wireguard has them so far", "VPN-08")
	}
}

// contour is the end as the contour rules see it.
func (e end) contour() contour.Side {
	return contour.Side{Zone: e.Zone, Prefixes: plain(e.prefixes), Shown: plain(e.shown), Path: e.path + ".prefixes"}
}

// end checks what can be said of one end by itself.
func (c *checker) end(path, side string, e document.End) end {
	made := end{End: e, path: path, side: side}
	if c.reference(path+".peer", document.KindPeer, e.Peer) {
		made.peer = c.set.Peer(e.Peer)
		if made.peer.Side != side && (made.peer.Side == "initiator" || made.peer.Side == "owner") {
			c.add(path+".peer", "peer is of the other side", e.Peer, fmt.Sprintf("its side is %s: exchange the ends, or name a peer with side %s", made.peer.Side, side), "DEF-09")
		}
	}
	if len(e.Prefixes) == 0 {
		c.add(path+".prefixes", "end without prefixes", "", "list what is reached behind it", "VPN-03")
	}
	if len(e.Prefixes) > maxPrefixes {
		c.add(path+".prefixes", "too many prefixes", fmt.Sprintf("a list of %d", len(e.Prefixes)), fmt.Sprintf("an end may have %d: join neighbours into wider ones", maxPrefixes), "")
	}
	made.prefixes = c.prefixes(path+".prefixes", e.Prefixes)
	c.notations(&made)
	hasZone := c.reference(path+".zone", document.KindZone, e.Zone)
	zone := c.set.Zone(e.Zone)
	inZone := made.prefixes
	if len(e.Mapped) > 0 {
		// The true range of a device that no Site is matters to nobody here.
		if inZone = made.known; len(c.set.SitesOf(e.Peer)) > 0 {
			inZone = slices.Concat(made.prefixes, made.known)
		}
	}
	for _, p := range inZone {
		switch {
		case p.Bits() == 0:
			// Its route would catch what the box sends to its own networks: those stand in the main table, which is asked later.
			c.add(p.path, "selector is a default route", p.written, "list the prefixes that the service needs", "")
		case hasZone && !c.inside(zone, p.Prefix):
			c.add(p.path, "prefix is outside the zone", p.written, zoneText(e.Zone, zone)+": write prefixes inside it", "VPN-03")
		}
	}
	for _, name := range c.set.SitesOf(e.Peer) {
		if site := c.set.Site(name); hasZone && !c.touches(site, e.Zone) {
			c.add(path+".zone", "no interface is in the zone", e.Zone, fmt.Sprintf("place an interface of site %s in zone %s, or name a zone that it touches", name, e.Zone), "")
		}
	}
	return made
}

// selectors checks the two ends' prefixes against each other.
func (c *checker) selectors(a, b end) {
	if !c.fine(a.path+".prefixes") || !c.fine(b.path+".prefixes") {
		return
	}
	for _, pair := range [][2]end{{a, b}, {b, a}} {
		mine, other := pair[0], pair[1]
		for _, p := range mine.prefixes {
			if len(other.prefixes) > 0 && !slices.ContainsFunc(other.prefixes, func(q prefix) bool { return q.Addr().Is6() == p.Addr().Is6() }) {
				c.add(p.path, "address families mixed", p.written, fmt.Sprintf("the %s has no prefix of this family: nothing could pass", other.side), "VPN-03")
			}
		}
	}
	// At each end its own prefixes and what it knows of the other's; between them what is shown.
	for _, sides := range [][2][]prefix{{a.prefixes, b.known}, {a.shown, b.shown}, {a.known, b.prefixes}} {
		for _, p := range sides[1] {
			for _, q := range sides[0] {
				if p.Overlaps(q.Prefix) && c.fine(q.path) {
					c.add(p.path, "prefix is at both ends", p.written, fmt.Sprintf("the initiator has %s: %s", q.written, mappedForm(b, p)), "VPN-03")
				}
			}
		}
	}
}

func (c *checker) probes(t *document.Tunnel, ends ...end) {
	for _, e := range ends {
		if e.ProbeAddress == "" {
			continue
		}
		path := e.path + ".probeAddress"
		a, err := document.ParseAddress(e.ProbeAddress)
		if err != nil {
			c.syntax(path, e.ProbeAddress, err)
			continue
		}
		if !anyHolds(e.Prefixes, netip.PrefixFrom(a, a.BitLen())) {
			c.add(path, "probe address is outside the prefixes", e.ProbeAddress, fmt.Sprintf("the %s has %s: write an address inside", e.side, few(e.Prefixes)), "")
		}
	}
	first, second := ends[0], ends[1]
	if t.Probe && first.ProbeAddress == "" && second.ProbeAddress == "" {
		c.add("spec.probe", "probe without an address to ask", "true", "write probeAddress at the end that answers, or at both", "")
	}
	a, errA := netip.ParseAddr(first.ProbeAddress)
	b, errB := netip.ParseAddr(second.ProbeAddress)
	if errA == nil && errB == nil && a.Is6() != b.Is6() {
		c.add(second.path+".probeAddress", "address families mixed", second.ProbeAddress, "write addresses of one family at both ends", "")
	}
}

var secretName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$`)

func (c *checker) presharedKey(t *document.Tunnel) {
	const path = "spec.presharedKey"
	if t.PresharedKey == "" {
		return
	}
	if !secretName.MatchString(t.PresharedKey) {
		c.add(path, "not the name of a secret", "[not shown]", "write a name, never the key: letters, digits, dots, - and _", "")
		return
	}
	if looksLikeKey(t.PresharedKey) {
		c.add(path, "looks like a key, not a name", "[not shown]", "import it with shekara secret import NAME and write the name", "")
		return
	}
	if t.Inactive {
		return
	}
	for h := range c.set.PresharedKeys(t.PresharedKey) {
		if other := c.set.Tunnel(h.Name); other != nil && other.Environment != t.Environment && c.later(h.Ref) {
			c.add(path, "secret is shared by test and production", t.PresharedKey, fmt.Sprintf("tunnel %s, %s, uses it too: make another", h.Name, other.Environment), "VPN-11")
		}
	}
}

// pair is DEF-33 and VPN-03: two nodes, once in each environment.
func (c *checker) pair(t *document.Tunnel, initiator, owner end) {
	const path = "spec.owner.peer"
	if initiator.Peer == owner.Peer {
		return
	}
	for _, site := range c.set.SitesOf(initiator.Peer) {
		if slices.Contains(c.set.SitesOf(owner.Peer), site) {
			c.add(path, "both ends are one appliance", owner.Peer, fmt.Sprintf("site %s lists %s and %s: a tunnel joins two nodes", site, initiator.Peer, owner.Peer), "DEF-33")
			return
		}
	}
	if initiator.peer != nil && owner.peer != nil {
		a, errA := document.ParseAddress(initiator.peer.PublicIP)
		b, errB := document.ParseAddress(owner.peer.PublicIP)
		if errA == nil && errB == nil && a.Is6() != b.Is6() {
			c.add(path, "address families mixed", owner.Peer, fmt.Sprintf("public IPs %s and %s: both are of one family", a, b), "VPN-01")
		}
		if initiator.peer.BehindNAT && owner.peer.BehindNAT {
			c.add(path, "both ends are behind NAT", owner.Peer, "nobody could begin: one end needs a public IP of its own", "VPN-02")
		}
	}
	if t.Inactive {
		return
	}
	for h := range c.set.Pair(t) {
		if other := c.set.Tunnel(h.Name); h.Ref != c.doc.Ref() && other.Environment == t.Environment && c.later(h.Ref) {
			c.add(path, "pair exists in this environment", owner.Peer, fmt.Sprintf("tunnel %s joins the same two peers: add its prefixes there", h.Name), "VPN-03")
		}
	}
}

// devices needs an entry at each end for the other end's zone.
func (c *checker) devices(t *document.Tunnel, initiator, owner end) {
	if t.IPsec != nil {
		c.add("spec.ipsec", "ipsec in a tunnel of protocol wireguard", "", "remove it, or set protocol: ipsec", "")
	}
	for _, pair := range [][2]end{{initiator, owner}, {owner, initiator}} {
		mine, other := pair[0], pair[1]
		if mine.peer == nil {
			continue
		}
		alone := t.DeviceFor(c.doc.Name, &mine.End, &other.End)
		port := mine.peer.Port(other.Zone, t.Environment, alone)
		switch {
		case port == nil && (c.unsure(mine) || c.set.Zone(other.Zone) == nil):
		case port == nil && alone != "":
			c.add(mine.path+".peer", "peer has no WireGuard device for this tunnel alone", mine.Peer,
				fmt.Sprintf("addresses are translated: add {farZone: %s, environment: %s, tunnel: %s, ...} to wireguard of peer %s", other.Zone, t.Environment, alone, mine.Peer), "HID-01")
		case port == nil:
			c.add(mine.path+".peer", "peer has no WireGuard device for the far end", mine.Peer,
				fmt.Sprintf("add {farZone: %s, environment: %s, ...} to wireguard of peer %s", other.Zone, t.Environment, mine.Peer), "")
		case port.MTU != 0 && port.MTU < 1280 && hasIPv6(mine.prefixes):
			c.add(mine.path+".peer", "MTU of the peer's device is too small for IPv6", mine.Peer,
				fmt.Sprintf("mtu is %d: write at least 1280 (RFC 8200, 5), or leave it out", port.MTU), "")
		}
	}
}

// unsure reports whether the peer has an entry with a problem of its own, which may be the one that is meant.
func (c *checker) unsure(e end) bool {
	return c.set.Get(document.Ref{Kind: document.KindPeer, Name: e.Peer}).Broken("spec.wireguard") ||
		slices.ContainsFunc(e.peer.WireGuard, func(w document.WireGuardPort) bool {
			return c.set.Zone(w.FarZone) == nil || w.Environment != document.Test && w.Environment != document.Production
		})
}

func hasIPv6(list []prefix) bool {
	return slices.ContainsFunc(list, func(p prefix) bool { return p.Addr().Is6() })
}

var proposal = regexp.MustCompile(`^[a-z0-9_]+(-[a-z0-9_]+)*$`)

func (c *checker) ipsec(t *document.Tunnel, initiator, owner end) {
	if t.IPsec == nil {
		c.add("spec.ipsec", "tunnel of protocol ipsec without ipsec", "", "write ipsec: {encapsulation: esp}", "")
	} else {
		c.oneOf("spec.ipsec.encapsulation", t.IPsec.Encapsulation, "esp", "ah")
		c.proposals("spec.ipsec.proposals", t.IPsec.Proposals)
		c.proposals("spec.ipsec.ikeProposals", t.IPsec.IKEProposals)
	}
	for _, e := range []end{initiator, owner} {
		if e.peer == nil {
			continue
		}
		if e.peer.BehindNAT && t.IPsec != nil && t.IPsec.Encapsulation == "ah" {
			// AH covers the addresses that NAT changes (RFC 4302, 3.3.3.1.1.1; RFC 3715, 2.1).
			c.add("spec.ipsec.encapsulation", "AH through NAT", "ah", fmt.Sprintf("peer %s is behind NAT: write esp", e.Peer), "VPN-02")
		}
		if !slices.ContainsFunc(e.peer.IPsec, func(id document.IPsecIdentity) bool { return id.Environment == t.Environment }) {
			c.add(e.path+".peer", "peer has no IPsec identity", e.Peer, fmt.Sprintf("add {environment: %s, type: ip, value: ...} to ipsec of peer %s", t.Environment, e.Peer), "")
		}
		if t.Inactive {
			continue
		}
		for _, p := range e.prefixes {
			for ip, h := range c.set.PublicIPs(p.Prefix) {
				c.add(p.path, "selector contains a peer's public IP", p.written,
					fmt.Sprintf("%s is of peer %s: its outer packets would go into the tunnel; write prefixes without it", ip.Addr(), h.Name), "VPN-03")
				break
			}
		}
	}
}

func (c *checker) proposals(path string, list []string) {
	for i, s := range list {
		if !proposal.MatchString(s) {
			c.add(document.Index(path, i), "not a proposal", s, "write it as in swanctl.conf, as aes256gcm16-prfsha384-ecp384", "")
		}
	}
}

// remote checks the far end's prefixes as each Site of the local end sees them: they overlap no zone that it touches, and no other
// far end.
func (c *checker) remote(t *document.Tunnel, local, far end) {
	c.environments(t, local, far)
	for _, name := range c.set.SitesOf(local.Peer) {
		site := c.set.Site(name)
		for _, p := range far.known {
			if !c.fine(p.path) {
				continue
			}
			for z, h := range c.set.Zones(p.Prefix) {
				if slices.ContainsFunc(site.Interfaces, func(n document.Interface) bool { return n.Zone == h.Name }) {
					c.add(p.path, "remote prefix overlaps local zone "+h.Name, p.written, fmt.Sprintf("site %s has an interface in it, and it holds %s: %s", name, z, mappedForm(far, p)), "VPN-03")
					break
				}
			}
			for _, peer := range site.Peers {
				for q, h := range c.set.Remotes(peer, p.Prefix) {
					if h.Ref != c.doc.Ref() && c.later(h.Ref) {
						c.add(p.path, "remote prefix overlaps tunnel "+h.Name, p.written, fmt.Sprintf("to site %s, %s is at the far end of that: %s", name, q, mappedForm(far, p)), "VPN-03")
						break
					}
				}
			}
		}
	}
}

// environments is VPN-11: what one pair joins in test it does not join in production.
func (c *checker) environments(t *document.Tunnel, local, far end) {
	for _, p := range far.known {
		for q, h := range c.set.Remotes(local.Peer, p.Prefix) {
			other := c.set.Tunnel(h.Name)
			if h.Ref == c.doc.Ref() || other.Environment == t.Environment || !c.later(h.Ref) || !samePair(t, other) {
				continue
			}
			c.add(p.path, "selectors of test and production overlap", p.written, fmt.Sprintf("tunnel %s, %s, of the same pair has %s: use other addresses", h.Name, other.Environment, q), "VPN-11")
			break
		}
	}
}

func samePair(a, b *document.Tunnel) bool {
	return a.Initiator.Peer == b.Initiator.Peer && a.Owner.Peer == b.Owner.Peer || a.Initiator.Peer == b.Owner.Peer && a.Owner.Peer == b.Initiator.Peer
}

// looksLikeKey reports whether a name is 64 hexadecimal digits: a secret that was written where its name belongs. Base64 ends in "=",
// which no name does.
func looksLikeKey(s string) bool {
	return len(s) == 64 && strings.Trim(strings.ToLower(s), "0123456789abcdef") == ""
}
