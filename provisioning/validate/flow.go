package validate

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"shekara/firewall"
	"shekara/provisioning/contour"
	"shekara/provisioning/document"
)

// maxFlowElements is the most that a flow may be multiplied out to; firewall refuses more.
const maxFlowElements = 65536

func (c *checker) flow(f *document.Flow) {
	from := c.flowPrefixes("spec.from", f.From)
	to := c.flowPrefixes("spec.to", f.To)
	all := slices.Concat(from, to)
	c.families(all)
	if len(f.Allow) == 0 {
		c.add("spec.allow", "flow without services", "", "list what may be used, as tcp/443", "")
	}
	c.services("spec.allow", f.Allow)
	for i, s := range f.Allow {
		c.family(document.Index("spec.allow", i), s, all)
	}
	if n := len(f.From) * len(f.To) * len(f.Allow); n > maxFlowElements {
		c.add("spec.allow", "flow is too wide", fmt.Sprintf("%d combinations", n), "use fewer or larger prefixes, or several flows", "")
	}
	if f.Service != "" {
		c.reference("spec.service", document.KindService, f.Service)
	}
	c.waiver(f.Waiver)
	fromZone, toZone := f.FromZone, f.ToZone
	var environment document.Environment
	switch {
	case f.Tunnel == "" && f.FromZone == "" && f.ToZone == "":
		c.add("spec.tunnel", "flow without tunnel or zones", "", "write tunnel:, or fromZone: and toZone:", "")
	case f.Tunnel != "" && (f.FromZone != "" || f.ToZone != ""):
		c.add("spec.tunnel", "flow with tunnel and zones", f.Tunnel, "keep tunnel:, or fromZone: and toZone:", "")
	case f.Tunnel != "":
		if c.reference("spec.tunnel", document.KindTunnel, f.Tunnel) {
			tunnel := c.set.Tunnel(f.Tunnel)
			fromZone, toZone = c.throughTunnel(f.Tunnel, tunnel, from, to, f.Allow)
			environment = tunnel.Environment
		}
	default:
		c.betweenZones("spec.fromZone", f.FromZone, from)
		c.betweenZones("spec.toZone", f.ToZone, to)
		var sites []string
		for h := range c.set.References(document.Ref{Kind: document.KindZone, Name: f.ToZone}, document.KindSite) {
			if s := c.set.Site(h.Name); c.touches(s, f.FromZone) && c.touches(s, f.ToZone) {
				sites = append(sites, h.Name)
			}
		}
		c.notAppliance(to, sites, f.Allow)
	}
	if !c.sound() {
		return
	}
	made := contour.Flow{From: contour.Side{Zone: fromZone, Prefixes: plain(from), Path: "spec.from"}, To: contour.Side{Zone: toZone, Prefixes: plain(to), Path: "spec.to"},
		Tunnel: f.Tunnel != "", Environment: environment, Service: f.Service, Waiver: f.Waiver}
	for _, s := range f.Allow {
		service, _ := document.ParseService(s) // it was read above
		made.Services = append(made.Services, service)
	}
	broken, waived := c.judge.Flow(&made)
	c.contours(broken)
	if len(waived) > 0 {
		w := contour.Waived{Flow: c.doc.Name, Reason: f.Waiver.Reason, Approver: f.Waiver.Approver, Expires: f.Waiver.Expires}
		for _, finding := range waived {
			w.Breaks = append(w.Breaks, finding.Breach())
		}
		c.waived = append(c.waived, w)
	}
}

// plain are prefixes without where they stand.
func plain(list []prefix) []netip.Prefix {
	made := make([]netip.Prefix, len(list))
	for i, p := range list {
		made[i] = p.Prefix
	}
	return made
}

// waiver checks what a waiver says; whether it has expired matters only to a flow that needs it.
func (c *checker) waiver(w *document.Waiver) {
	if w == nil {
		return
	}
	if strings.TrimSpace(w.Reason) == "" {
		c.add("spec.waiver.reason", "waiver without a reason", w.Reason, "say why the flow must pass all the same", "ARC-03")
	}
	if strings.TrimSpace(w.Approver) == "" {
		c.add("spec.waiver.approver", "waiver without an approver", w.Approver, "name who decided", "ARC-03")
	}
	c.date("spec.waiver.expires", w.Expires)
}

func (c *checker) flowPrefixes(path string, list []string) []prefix {
	if len(list) == 0 {
		c.add(path, "flow without prefixes", "", "list prefixes, as 10.64.1.5/32", "")
	}
	return c.prefixes(path, list)
}

// families holds prefixes to one: the first says which.
func (c *checker) families(list []prefix) {
	for _, p := range list {
		if p.Addr().Is6() != list[0].Addr().Is6() {
			c.add(p.path, "address families mixed", p.written, fmt.Sprintf("%s is of the other family: write one document for IPv4 and one for IPv6", list[0].written), "")
		}
	}
}

// family holds a service to that of the prefixes.
func (c *checker) family(path, written string, list []prefix) {
	service, err := document.ParseService(written)
	if err != nil || len(list) == 0 {
		return
	}
	ipv6 := list[0].Addr().Is6()
	if ipv6 && service.Protocol == firewall.ICMP || !ipv6 && service.Protocol == firewall.ICMPv6 {
		c.add(path, "address families mixed", written, "write icmp with IPv4 prefixes, icmpv6 with IPv6 ones", "")
	}
}

// throughTunnel finds which way the flow goes by its first source, holds every prefix to that, and says from which zone to which that is.
func (c *checker) throughTunnel(name string, t *document.Tunnel, from, to []prefix, allow []string) (fromZone, toZone string) {
	ends := []struct {
		side string
		document.End
	}{{"initiator", t.Initiator}, {"owner", t.Owner}}
	source, destination := ends[0], ends[1]
	if len(from) > 0 && !anyHolds(t.Initiator.Prefixes, from[0].Prefix) && anyHolds(t.Owner.Prefixes, from[0].Prefix) ||
		len(from) == 0 && len(to) > 0 && anyHolds(t.Initiator.Prefixes, to[0].Prefix) {
		source, destination = destination, source
	}
	for _, p := range from {
		if !anyHolds(source.Prefixes, p.Prefix) {
			c.add(p.path, "source is outside the tunnel", p.written, fmt.Sprintf("the %s of tunnel %s has %s: write prefixes inside", source.side, name, few(source.Prefixes)), "")
		}
	}
	for _, p := range to {
		if !anyHolds(destination.Prefixes, p.Prefix) {
			c.add(p.path, "destination is outside the tunnel", p.written, fmt.Sprintf("the %s of tunnel %s has %s: write prefixes inside", destination.side, name, few(destination.Prefixes)), "")
		}
	}
	if destination.Hides() && len(to) > 0 {
		c.add(to[0].path, "destination is hidden behind one address", to[0].written,
			fmt.Sprintf("the %s of tunnel %s hides behind %s, so it can only open connections: write hide one to one, or exchange from and to", destination.side, name, few(destination.Hide)), "HID-01")
	}
	c.notAppliance(to, c.set.SitesOf(destination.Peer), allow)
	return source.Zone, destination.Zone
}

// notAppliance refuses a destination that every site has as its own address at which the flow would end: what others open to an appliance itself
// no flow admits (firewall.Flow), so such a flow would have no effect. To a site that gives the time there it may lead: the appliance at the other end needs it.
func (c *checker) notAppliance(to []prefix, sites []string, allow []string) {
	for _, p := range to {
		var at []string
		for _, site := range sites {
			if n := interfaceOf(c.set.Site(site), p.Addr()); n != nil && p.IsSingleIP() && !c.servesTime(site, p.Addr(), allow) {
				at = append(at, n.Name+" of site "+site)
			}
		}
		if len(at) > 0 && len(at) == len(sites) {
			c.add(p.path, "destination is the appliance itself", p.written,
				fmt.Sprintf("%s has it, and no flow opens an appliance: write a host behind it; for its administrators there is management: of the Site, and udp/123 may be written to an address at which its TimeService serves", at[0]), "")
		}
	}
}

// anyHolds reports whether a prefix of another document's list holds p. Where that list is empty or cannot be read it is to blame
// itself, and nothing else is said.
func anyHolds(list []string, p netip.Prefix) bool {
	return len(list) == 0 || slices.ContainsFunc(list, func(s string) bool {
		q, err := netip.ParsePrefix(s)
		return err != nil || q.Bits() <= p.Bits() && q.Overlaps(p)
	})
}

func (c *checker) betweenZones(path, name string, list []prefix) {
	if name == "" {
		c.add(path, "flow with one zone alone", "", "write both fromZone: and toZone:", "")
		return
	}
	if !c.reference(path, document.KindZone, name) {
		return
	}
	zone := c.set.Zone(name)
	for _, p := range list {
		// A default route names the whole of a zone that holds what no other does.
		whole := p.Bits() == 0 && len(zone.Prefixes) == 0
		if !whole && !c.inside(zone, p.Prefix) {
			c.add(p.path, "prefix is outside the zone", p.written, zoneText(name, zone)+": write prefixes inside it", "")
		}
	}
}
