package validate

import (
	"fmt"
	"net/netip"
	"strings"

	"shekara/provisioning/document"
	"shekara/tunnels"
)

func (c *checker) peer(p *document.Peer) {
	c.oneOf("spec.side", p.Side, "initiator", "owner")
	public := c.publicIP(p)
	c.nat(p, public)
	if p.Endpoint != "" {
		c.endpoint(p)
	}
	for i, w := range p.WireGuard {
		c.wireguard(p, i, w)
	}
	for i, id := range p.IPsec {
		c.identity(document.Index("spec.ipsec", i), p.IPsec[:i], id)
	}
}

// publicIP is VPN-01: of the Internet, and nobody else's.
func (c *checker) publicIP(p *document.Peer) netip.Addr {
	const path = "spec.publicIP"
	a, err := document.ParseAddress(p.PublicIP)
	if err != nil {
		c.syntax(path, p.PublicIP, err)
		return netip.Addr{}
	}
	if kind, lab, is := special(a); is && !(lab && c.lab(c.doc.Name)) {
		hint := "write the address that the device has on the Internet"
		if lab {
			hint += "; in a lab set lab: true on the Site"
		}
		c.add(path, "public IP is "+kind, p.PublicIP, hint, "VPN-01")
	}
	if p.Inactive {
		return a
	}
	for _, h := range c.set.PublicIPs(netip.PrefixFrom(a, a.BitLen())) {
		if h.Ref != c.doc.Ref() && c.later(h.Ref) {
			c.add(path, "public IP is used twice", p.PublicIP, fmt.Sprintf("peer %s has it too: give each its own, or set inactive: true on one", h.Name), "VPN-01")
		}
	}
	return a
}

func (c *checker) nat(p *document.Peer, public netip.Addr) {
	const path = "spec.insideIP"
	switch {
	case p.InsideIP == "" && p.BehindNAT && c.own(c.doc.Name):
		c.add(path, "peer behind NAT without insideIP", "", "write the address that the device has on its uplink", "VPN-02")
		return
	case p.InsideIP == "":
		return
	case !p.BehindNAT:
		c.add(path, "insideIP without behindNAT", p.InsideIP, "set behindNAT: true, or remove insideIP", "VPN-02")
		return
	}
	a, err := document.ParseAddress(p.InsideIP)
	switch {
	case err != nil:
		c.syntax(path, p.InsideIP, err)
	case a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.IsLinkLocalUnicast():
		c.add(path, "not the address of a host", p.InsideIP, "write the address that the device has on its uplink", "VPN-02")
	case a == public:
		c.add(path, "insideIP is publicIP", p.InsideIP, "write the address before translation, or remove behindNAT and insideIP", "VPN-02")
	case public.IsValid() && a.Is6() != public.Is6():
		c.add(path, "address families mixed", p.InsideIP, fmt.Sprintf("publicIP is %s: both are of one family", public), "VPN-02")
	}
}

func (c *checker) endpoint(p *document.Peer) {
	if a, err := netip.ParseAddr(p.Endpoint); err == nil {
		if a.String() != p.PublicIP {
			c.add("spec.endpoint", "endpoint is another address than publicIP", p.Endpoint, "remove endpoint, or write a host name that resolves to publicIP", "VPN-01")
		}
		return
	}
	if !hostName(p.Endpoint) {
		c.add("spec.endpoint", "not a host name", p.Endpoint, "write a name as in vpn.example.kz, without port", "")
	}
}

// hostName follows RFC 1123, 2.1: labels of letters, digits and hyphens; the last one not of digits alone.
func hostName(s string) bool {
	s = strings.TrimSuffix(s, ".")
	if s == "" || len(s) > 253 {
		return false
	}
	labels := strings.Split(strings.ToLower(s), ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' || strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return strings.Trim(labels[len(labels)-1], "0123456789") != ""
}

func (c *checker) wireguard(p *document.Peer, i int, w document.WireGuardPort) {
	path := document.Index("spec.wireguard", i)
	c.reference(path+".farZone", document.KindZone, w.FarZone)
	c.oneOf(path+".environment", string(w.Environment), "test", "production")
	if w.Port < 1 || w.Port > 65535 {
		c.add(path+".port", "port out of range", fmt.Sprint(w.Port), "write 1 to 65535", "")
	}
	if w.MTU != 0 && (w.MTU < 576 || w.MTU > 65443) {
		c.add(path+".mtu", "MTU out of range", fmt.Sprint(w.MTU), "write 576 to 65443, at least 1280 where IPv6 passes, or leave it out", "")
	}
	for j, other := range p.WireGuard[:i] {
		if other.FarZone == w.FarZone && other.Environment == w.Environment && other.Tunnel == w.Tunnel {
			c.add(path+".farZone", "second entry for one zone and environment", w.FarZone, fmt.Sprintf("wireguard[%d] is for %s, %s too: remove one", j, w.FarZone, w.Environment), "")
		}
	}
	if !p.Inactive {
		c.port(p, i, w)
		c.publicKey(p, i, w)
	}
}

// port is unique on one appliance: the kernel's device listens at every address.
func (c *checker) port(p *document.Peer, i int, w document.WireGuardPort) {
	path := document.Index("spec.wireguard", i) + ".port"
	for j, other := range p.WireGuard[:i] {
		if other.Port == w.Port {
			c.add(path, "port is used twice", fmt.Sprint(w.Port), fmt.Sprintf("wireguard[%d] has it too: each device of an appliance has its own", j), "")
		}
	}
	for _, site := range c.set.SitesOf(c.doc.Name) {
		for _, name := range c.set.Site(site).Peers {
			ref := document.Ref{Kind: document.KindPeer, Name: name}
			neighbour := c.set.Peer(name)
			if neighbour == nil || neighbour.Inactive || !c.later(ref) {
				continue
			}
			for _, other := range neighbour.WireGuard {
				if other.Port == w.Port {
					c.add(path, "port is used twice", fmt.Sprint(w.Port), fmt.Sprintf("peer %s on the same appliance, site %s, has it too: each device has its own", name, site), "")
				}
			}
		}
	}
}

func (c *checker) publicKey(p *document.Peer, i int, w document.WireGuardPort) {
	path := document.Index("spec.wireguard", i) + ".publicKey"
	if w.PublicKey == "" {
		if !c.own(c.doc.Name) {
			c.add(path, "public key is missing", "", "write what shekara peer export, or wg pubkey, printed on the far device", "")
		}
		return
	}
	if _, err := tunnels.ParsePublicKey(w.PublicKey); err != nil {
		c.add(path, "bad public key", w.PublicKey, "write the 44 characters of base64 that wg pubkey prints", "")
		return
	}
	for h := range c.set.PublicKeys(w.PublicKey) {
		if h.Ref == c.doc.Ref() && h.Path >= path || h.Ref != c.doc.Ref() && !c.later(h.Ref) {
			continue
		}
		rule, hint := "", fmt.Sprintf("peer %s has it too: each device has a key of its own", h.Name)
		if environmentOf(c.set.Peer(h.Name), h.Path) != w.Environment {
			rule, hint = "VPN-11", fmt.Sprintf("peer %s has it in the other environment: test and production share no key", h.Name)
		}
		c.add(path, "duplicate public key", w.PublicKey, hint, rule)
	}
}

// environmentOf is the environment of the wireguard entry that the path of a key lies in.
func environmentOf(p *document.Peer, path string) document.Environment {
	for i, w := range p.WireGuard {
		if path == document.Index("spec.wireguard", i)+".publicKey" {
			return w.Environment
		}
	}
	return ""
}

func (c *checker) identity(path string, before []document.IPsecIdentity, id document.IPsecIdentity) {
	c.oneOf(path+".environment", string(id.Environment), "test", "production")
	for _, other := range before {
		if other.Environment == id.Environment {
			c.add(path+".environment", "second identity for one environment", string(id.Environment), "remove one of them", "")
		}
	}
	if !c.oneOf(path+".type", id.Type, "ip", "fqdn", "dn") {
		return
	}
	switch {
	case id.Type == "ip":
		if _, err := document.ParseAddress(id.Value); err != nil {
			c.syntax(path+".value", id.Value, err)
		}
	case id.Type == "fqdn" && !hostName(id.Value):
		c.add(path+".value", "not a host name", id.Value, "write a name as in vpn.example.kz", "")
	case id.Type == "dn" && !strings.Contains(id.Value, "="):
		c.add(path+".value", "not a distinguished name", id.Value, `write it as in "C=KZ, O=Agency, CN=vpn.example.kz"`, "")
	}
}
