package validate

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"shekara/journal"
	"shekara/netctl"
	"shekara/netctl/journald"
	"shekara/provisioning/document"
)

func (c *checker) site(s *document.Site) {
	c.sitePeers(s)
	c.interfaces(s)
	c.management(s)
	if s.Engine != "" {
		c.oneOf("spec.engine", s.Engine, "auto", "kernel", "userspace")
	}
	if s.Firewall.Engine != "" {
		c.oneOf("spec.firewall.engine", s.Firewall.Engine, "auto", "nftables", "iptables")
	}
	if s.Drift != "" {
		c.oneOf("spec.drift", s.Drift, "repair", "report")
	}
	if s.Unrecorded != "" {
		c.oneOf("spec.unrecorded", s.Unrecorded, "forward", "stop")
	}
	if keep := s.Journal.Keep; keep != "" {
		months, err := document.ParseMonths(keep)
		switch {
		case err != nil:
			c.syntax("spec.journal.keep", keep, err)
		case months < journal.KeepMonths:
			c.add("spec.journal.keep", "kept too short", keep, "records are kept for three years at least: write 3y or more, or leave it out", "JRN-11")
		}
	}
	c.units(s.Journal.Units)
	for i, a := range s.DNS {
		if _, err := document.ParseAddress(a); err != nil {
			c.syntax(document.Index("spec.dns", i), a, err)
		}
	}
}

func (c *checker) sitePeers(s *document.Site) {
	held, declared := map[netip.Addr]bool{}, false
	for _, n := range s.Interfaces {
		for _, a := range n.Addresses {
			if p, err := document.ParseInterfaceAddress(a); err == nil {
				held[p.Addr()], declared = true, true
			}
		}
	}
	for i, name := range s.Peers {
		path := document.Index("spec.peers", i)
		if slices.Contains(s.Peers[:i], name) {
			c.add(path, "peer is listed twice", name, "remove one of them", "")
			continue
		}
		if !c.reference(path, document.KindPeer, name) {
			continue
		}
		for _, other := range c.set.SitesOf(name) {
			if other != c.doc.Name && c.later(document.Ref{Kind: document.KindSite, Name: other}) {
				c.add(path, "peer is listed by two sites", name, fmt.Sprintf("site %s lists it too: a peer is one device (DEF-09)", other), "DEF-09")
			}
		}
		p := c.set.Peer(name)
		local := p.PublicIP
		if p.BehindNAT {
			local = p.InsideIP
		}
		if a, err := document.ParseAddress(local); err == nil && declared && !p.Inactive && !held[a] {
			c.add(path, "no interface has the peer's address", name,
				fmt.Sprintf("write %s with its prefix length into addresses of the interface that has it", local), "VPN-01")
		}
	}
}

// kernelName reports whether Linux takes the name (dev_valid_name) and a filter rule can hold it without quoting tricks.
func kernelName(s string) bool {
	return s != "" && len(s) <= 15 && s != "." && s != ".." && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
}

func (c *checker) interfaces(s *document.Site) {
	zones, addresses := map[string]string{}, map[netip.Addr]string{}
	for i, n := range s.Interfaces {
		path := document.Index("spec.interfaces", i)
		zone, twice := zones[n.Name]
		switch {
		case !kernelName(n.Name):
			c.add(path+".name", "not the name of an interface", n.Name, "write it as ip link shows it, without @ and what follows: 1 to 15 letters, digits, dots, - and _", "")
		case n.Name == "lo" || strings.HasPrefix(n.Name, netctl.LinkPrefix):
			c.add(path+".name", "interface belongs to no zone", n.Name, "leave it out: lo is the host's own, and "+netctl.LinkPrefix+" begins the names of tunnel devices", "")
		case twice && zone != n.Zone:
			c.add(path+".name", "interface is in two zones", n.Name, fmt.Sprintf("it is in zone %s too: remove one of them", zone), "")
		case twice:
			c.add(path+".name", "interface is listed twice", n.Name, "remove one of them", "")
		}
		zones[n.Name] = n.Zone
		c.reference(path+".zone", document.KindZone, n.Zone)
		c.interfaceAddresses(path, n, addresses)
		c.gateways(path, n)
	}
}

func (c *checker) interfaceAddresses(path string, n document.Interface, taken map[netip.Addr]string) {
	for i, s := range n.Addresses {
		at := document.Index(path+".addresses", i)
		p, err := document.ParseInterfaceAddress(s)
		if err != nil {
			c.syntax(at, s, err)
			continue
		}
		a := p.Addr()
		switch before, twice := taken[a]; {
		case a.IsUnspecified() || a.IsMulticast() || a.IsLoopback():
			c.add(at, "not the address of a host", s, "write what ip address shows on "+n.Name, "")
		case a.Is4() && p.Bits() < 31 && a == p.Masked().Addr():
			c.add(at, "address of the network, not of the host", s, "write the host's own address with the length", "")
		case twice:
			c.add(at, "address is listed twice", s, fmt.Sprintf("interface %s has it too: remove one of them", before), "")
		}
		taken[a] = n.Name
	}
}

func (c *checker) gateways(path string, n document.Interface) {
	families := map[bool]bool{}
	for i, s := range n.Gateways {
		at := document.Index(path+".gateways", i)
		a, err := document.ParseAddress(s)
		if err != nil {
			c.syntax(at, s, err)
			continue
		}
		if families[a.Is6()] {
			c.add(at, "second gateway of one family", s, "keep at most one for IPv4 and one for IPv6", "")
		}
		families[a.Is6()] = true
		reached := a.Is6() && a.IsLinkLocalUnicast()
		for _, s := range n.Addresses {
			p, err := document.ParseInterfaceAddress(s)
			reached = reached || err == nil && p.Contains(a) && p.Addr() != a
		}
		if !reached {
			c.add(at, "gateway is not on the interface's network", s, "write one inside the interface's addresses, and these with their prefix length", "")
		}
	}
}

func (c *checker) management(s *document.Site) {
	m := s.Management
	if m.Zone == "" && len(m.From) == 0 && len(m.Allow) == 0 {
		return
	}
	const path = "spec.management"
	if m.Zone == "" {
		c.add(path+".zone", "management without a zone", "", "write the zone that administrators come in by", "")
	} else if c.reference(path+".zone", document.KindZone, m.Zone) {
		if !c.touches(s, m.Zone) {
			c.add(path+".zone", "no interface is in the zone", m.Zone, "place the interface that administrators come in by in this zone", "")
		}
	}
	if len(m.From) == 0 {
		c.add(path+".from", "management without sources", "", "list the prefixes that administrators come from", "")
	}
	if len(m.Allow) == 0 {
		c.add(path+".allow", "management without services", "", "list what administrators may use, as tcp/22", "")
	}
	zone := c.set.Zone(m.Zone)
	for _, p := range c.prefixes(path+".from", m.From) {
		if zone != nil && !c.inside(zone, p.Prefix) {
			c.add(p.path, "source is outside the zone", p.written, zoneText(m.Zone, zone)+": write prefixes inside it", "")
		}
	}
	c.services(path+".allow", m.Allow)
	if c.fine(path + ".zone") {
		c.contours(c.judge.Management(m.Zone))
	}
}

// touches reports whether an interface of the site is in the zone. While one is in a zone that is not there it may well be meant.
func (c *checker) touches(s *document.Site, zone string) bool {
	return slices.ContainsFunc(s.Interfaces, func(n document.Interface) bool {
		return n.Zone == zone || c.set.Zone(n.Zone) == nil
	})
}

func (c *checker) units(units []string) {
	if len(units) == 1 && units[0] == document.NoUnits {
		return
	}
	if len(units) > document.MaxUnits {
		c.add(document.Index("spec.journal.units", document.MaxUnits), "too many units", units[document.MaxUnits], fmt.Sprintf("name %d at most", document.MaxUnits), "")
	}
	for i, unit := range units {
		if err := journald.CheckUnit(unit); err != nil {
			c.add(document.Index("spec.journal.units", i), "not a unit", unit, "write the unit's whole name, as ssh.service, or kernel; none stands alone", "JRN-04")
		}
	}
}
