package proof

import (
	"cmp"
	"net/netip"
	"slices"

	"shekara/firewall"
)

// allowed is a policy as sets of packets and connections. It is written from the meaning of a Policy alone and shares nothing with the
// compiler: neither numbers of places, nor sets, nor the order of rules.
type allowed struct {
	*engine
	policy                  firewall.Policy
	byTarget                bool // rules judge by where a connection goes, not by what its opener wrote (package firewall/iptables)
	devices                 map[string]firewall.Device
	notations               notations
	links                   map[firewall.Place][]string
	zones                   map[string][]netip.Prefix
	zoneLinks, deviceLinks  []string
	pairs                   []pair
	forward, inward, onward opening // connections through this box, to it and from it into tunnels: who may open them
}

// pair are all flows between two places, or all offers to one: their addresses, as who opens writes them, and services.
type pair struct {
	from, to firewall.Place // to no place: to this box
	flows    formula
	reaching formula // by where they go in place of what the opener writes; never: that is the same, or rules do not judge so
}

func (e *engine) newAllowed(p firewall.Policy, byTarget bool) *allowed {
	a := &allowed{engine: e, policy: p, byTarget: byTarget && e.translates, devices: map[string]firewall.Device{}, links: map[firewall.Place][]string{}, zones: map[string][]netip.Prefix{}}
	for _, z := range p.Zones {
		a.zones[z.Name] = z.Prefixes
	}
	for _, i := range p.Interfaces {
		place := firewall.Place{Zone: i.Zone}
		a.links[place] = append(a.links[place], i.Name)
		a.zoneLinks = append(a.zoneLinks, i.Name)
	}
	for _, d := range p.Devices {
		a.devices[d.Name] = d
		a.links[firewall.Place{Device: d.Name}] = []string{d.Name}
		a.deviceLinks = append(a.deviceLinks, d.Name)
	}
	a.notations = a.newNotations()
	a.addFlows()
	a.connections()
	return a
}

// at is where an interface is one of those named.
func (a *allowed) at(interfaces vector, names ...string) formula {
	var any []formula
	for _, name := range names {
		any = append(any, a.equal(interfaces, small(uint64(a.interfaceNumber[name]))))
	}
	return a.any(any...)
}

// inside is where an address lies in a prefix of its family.
func (a *allowed) inside(address vector, p netip.Prefix) formula {
	if p.Addr().Is4() {
		return a.and(not(a.version6), a.prefix(address[:32], addressNumber(p.Addr()), p.Bits()))
	}
	return a.and(a.version6, a.prefix(address, addressNumber(p.Addr()), p.Bits()))
}

func (a *allowed) is(address vector, is netip.Addr) formula {
	return a.inside(address, exactly(is))
}

func (a *allowed) insideAny(address vector, list []netip.Prefix) formula {
	any := make([]formula, len(list))
	for i, p := range list {
		any[i] = a.inside(address, p)
	}
	return a.any(any...)
}

// belongs says in which zone each address is: the longest prefix decides. Whatever no zone claims is in each of those without prefixes.
func (a *allowed) belongs(address vector) map[string]formula {
	type claim struct {
		zone   string
		prefix netip.Prefix
	}
	var claims []claim
	for _, z := range a.policy.Zones {
		for _, p := range z.Prefixes {
			claims = append(claims, claim{z.Name, p})
		}
	}
	slices.SortStableFunc(claims, func(x, y claim) int { return cmp.Compare(y.prefix.Bits(), x.prefix.Bits()) })
	out, taken := map[string]formula{}, never
	for _, z := range a.policy.Zones {
		out[z.Name] = never
	}
	for _, c := range claims {
		in := a.inside(address, c.prefix)
		out[c.zone] = a.or(out[c.zone], a.without(in, taken))
		taken = a.or(taken, in)
	}
	for name, prefixes := range a.zones {
		if len(prefixes) == 0 {
			out[name] = not(taken)
		}
	}
	return out
}

// farAlone is where an address belongs to a zone that this box reaches through tunnels alone.
func (a *allowed) farAlone(address vector) formula {
	zones, out := a.belongs(address), never
	for _, d := range a.policy.Devices {
		near := slices.ContainsFunc(a.policy.Interfaces, func(i firewall.Interface) bool { return i.Zone == d.FarZone })
		if len(a.zones[d.FarZone]) > 0 && !near {
			out = a.or(out, zones[d.FarZone])
		}
	}
	return out
}

// home is the one zone of an address of this box itself, from which it opens connections: two zones that claim nothing leave it without.
func (a *allowed) home(address vector) map[string]formula {
	out := a.belongs(address)
	var open []string
	for name, prefixes := range a.zones {
		if len(prefixes) == 0 {
			open = append(open, name)
		}
	}
	if len(open) > 1 {
		for _, name := range open {
			out[name] = never
		}
	}
	return out
}

// service is where a connection is to one of a flow's services, by its protocol and by its ports.
func (a *allowed) service(s firewall.Service) (protocol, ports formula) {
	protocol = a.equal(a.protocol, small(uint64(s.Protocol)))
	switch {
	case s.Protocol == firewall.ICMP:
		return a.and(not(a.version6), protocol), always
	case s.Protocol == firewall.ICMPv6:
		return a.and(a.version6, protocol), always
	case s.LastPort == 0:
		return protocol, always
	}
	return protocol, a.between(a.targetPort, small(uint64(s.FirstPort)), small(uint64(s.LastPort)))
}

// asFlows are offers, to no place.
func asFlows(offers []firewall.Offer) (out []firewall.Flow) {
	for _, o := range offers {
		f := firewall.Flow{From: o.From, Sources: o.Sources, Services: o.Services}
		for _, address := range o.Addresses {
			f.Destinations = append(f.Destinations, exactly(address))
		}
		out = append(out, f)
	}
	return out
}

// addFlows joins the flows of each pair of places, and what this box offers to each.
func (a *allowed) addFlows() {
	lists, reached := map[[2]firewall.Place][]permission{}, map[[2]firewall.Place][]permission{}
	var order [][2]firewall.Place
	services := map[firewall.Service][2]formula{}
	for _, f := range slices.Concat(a.policy.Flows, asFlows(a.policy.Offers)) {
		between := [2]firewall.Place{f.From, f.To}
		if _, known := lists[between]; !known {
			order = append(order, between)
		}
		written, behind := a.mappings(f.From, f.To)
		var far, near []firewall.Mapping // who opens writes the other side's notation
		if t := a.devices[f.From.Device].Translation; t != nil {
			far, near = t.Far, t.Local
		}
		for _, s := range f.Services {
			if _, known := services[s]; !known {
				protocol, ports := a.service(s)
				services[s] = [2]formula{protocol, ports}
			}
			for _, source := range f.Sources {
				for _, destination := range f.Destinations {
					if source.Addr().Is4() == destination.Addr().Is4() {
						lists[between] = append(lists[between], permission{outside(far, source), outside(near, destination), services[s][0], services[s][1]})
						if len(written) > 0 {
							reached[between] = append(reached[between], permission{outside(far, source), outside(behind, destination), services[s][0], services[s][1]})
						}
					}
				}
			}
		}
	}
	for _, between := range order {
		flows := a.permitted(a.source, a.target, lists[between])
		reaching := a.reaching(between[0], between[1], a.source, reached[between])
		if between[1] == (firewall.Place{}) {
			reaching = a.or(reaching, a.answering(between[0], lists[between], reached[between]))
		}
		a.pairs = append(a.pairs, pair{between[0], between[1], flows, reaching})
	}
}

// connections says which may be opened, by the variables of a connection. No flow ends at this box itself, whatever its destinations; offers do.
func (a *allowed) connections() {
	var through, throughExactly, from, fromExactly, to, toExactly []formula
	n := a.notations
	translated := a.and(n.onward, n.shown)
	source := a.home(a.source)
	for _, p := range a.pairs {
		if p.to == (firewall.Place{}) {
			opener := a.at(a.from, a.links[p.from]...)
			may := a.and(opener, p.flows)
			to, toExactly = append(to, may, a.and(opener, p.reaching)), append(toExactly, a.and(may, n.inward))
			continue
		}
		opener, other := a.at(a.from, a.links[p.from]...), a.at(a.to, a.links[p.to]...)
		may := a.all(opener, other, p.flows)
		through, throughExactly = append(through, may, a.all(opener, other, p.reaching)), append(throughExactly, a.and(may, translated))
		if zone := p.from.Zone; zone != "" {
			may = a.all(other, source[zone], p.flows)
			from, fromExactly = append(from, may, a.all(other, source[zone], p.reaching)), append(fromExactly, a.and(may, translated))
		}
	}
	asked, asking := a.probes()
	askedToo, askingToo := a.reachingProbes()
	// An echo has code 0 (RFC 792, RFC 4443): what else is sent with its type may pass, and need not.
	code := a.equal(a.sourcePort[8:], number{})
	a.forward = a.opening(through, throughExactly)
	a.onward = a.opening(append(from, asked, askedToo), append(fromExactly, a.all(asked, code, translated)))
	a.inward = a.opening(append(to, asking, askingToo), append(toExactly, a.all(asking, code, n.inward)))
}

func (a *allowed) echo() formula {
	return a.choose(a.version6,
		a.and(a.equal(a.protocol, small(icmp6)), a.equal(a.sourcePort[:8], small(firewall.EchoRequest6))),
		a.and(a.equal(a.protocol, small(icmpNumber)), a.equal(a.sourcePort[:8], small(firewall.EchoRequest))))
}

// probes are the echo requests that this box sends, and those that it is sent. Both are known by what stands in them on the device.
func (a *allowed) probes() (asked, asking formula) {
	echo := a.echo()
	sent, received := map[string][]permission{}, map[string][]permission{}
	for _, p := range a.policy.Probes {
		if !p.Remote.IsValid() {
			continue
		}
		remote, asked := exactly(p.Remote), p.Local.IsValid()
		var local netip.Prefix
		if asked {
			local = exactly(p.Local)
		}
		if t := a.devices[p.Device].Translation; t != nil {
			remote = outside(t.Far, remote)
			if asked {
				local = outside(t.Local, local)
			}
			// Who is behind one address together with others cannot be asked.
			asked = asked && !slices.ContainsFunc(t.Local, func(m firewall.Mapping) bool { return m.Shared && m.Inside.Contains(p.Local) })
		}
		sent[p.Device] = append(sent[p.Device], permission{first: remote})
		if asked {
			received[p.Device] = append(received[p.Device], permission{first: remote, second: local})
		}
	}
	asked, asking = never, never
	for _, d := range a.policy.Devices {
		if list := sent[d.Name]; len(list) > 0 {
			asked = a.or(asked, a.all(a.at(a.to, d.Name), echo, a.permitted(a.toTarget, nil, list)))
		}
		if list := received[d.Name]; len(list) > 0 {
			asking = a.or(asking, a.all(a.at(a.from, d.Name), echo, a.permitted(a.source, a.target, list)))
		}
	}
	return asked, asking
}

// genuine is where a packet's source is one that the interface it arrives by may send.
func (a *allowed) genuine(v *view) formula {
	home := a.belongs(v.source)
	out := not(a.at(v.input, append(slices.Clone(a.zoneLinks), a.deviceLinks...)...)) // of others nothing is known, and nothing is allowed
	own := a.and(a.version6, a.sourceLocal)                                           // for IPv4 the kernel sees to it (fib_validate_source)
	for _, i := range a.policy.Interfaces {
		out = a.or(out, a.and(a.at(v.input, i.Name), a.or(a.without(home[i.Zone], own), a.linkLocal(v))))
	}
	for _, d := range a.policy.Devices {
		may := home[d.FarZone]
		if len(d.Sources) > 0 {
			may = a.insideAny(v.source, d.Sources)
		}
		out = a.or(out, a.and(a.at(v.input, d.Name), a.without(may, own)))
	}
	return out
}

// linkLocal are what neighbours on a link send before or beside their addresses (RFC 4861, RFC 3810, RFC 2131).
func (a *allowed) linkLocal(v *view) formula {
	header := not(v.headerless)
	unspecified := a.all(a.is(v.source, netip.IPv6Unspecified()), a.equal(v.protocol, small(icmp6)), header, a.oneOf(v.head[:8], 131, 132, 133, 135, 143))
	dhcp := a.all(a.is(v.source, netip.IPv4Unspecified()), a.equal(v.protocol, small(17)), header, a.equal(v.head, small(68)), a.equal(v.second, small(67)))
	return a.any(unspecified, a.inside(v.source, netip.MustParsePrefix("fe80::/10")), dhcp)
}

func (a *allowed) oneOf(v vector, list ...uint64) formula {
	var any []formula
	for _, n := range list {
		any = append(any, a.equal(v, small(n)))
	}
	return a.any(any...)
}

// tunnelPorts are the packets to a device's address and port, and those of them that a registered peer may have sent.
func (a *allowed) tunnelPorts(v *view) (all, registered formula) {
	peers, open := map[string][]permission{}, map[string]bool{}
	for _, p := range a.policy.Ports {
		if p.From.IsValid() {
			peers[p.Device] = append(peers[p.Device], permission{first: exactly(p.From)})
		} else {
			open[p.Device] = true
		}
	}
	long := a.atLeast(a.udpLength, small(40)) // the shortest WireGuard message and the header
	all, registered = never, never
	for _, d := range a.policy.Devices {
		at := a.all(a.is(v.target, d.LocalIP), a.equal(v.protocol, small(17)), a.equal(v.second, small(uint64(d.Port))), not(v.headerless))
		if at == never { // this class of packets is not of UDP
			continue
		}
		from := always
		if !open[d.Name] {
			from = a.permitted(v.source, nil, peers[d.Name])
		}
		all, registered = a.or(all, at), a.or(registered, a.all(from, at, long))
	}
	return all, registered
}

// management is where a packet is one by which this box is managed.
func (a *allowed) management(v *view) formula {
	m := a.policy.Management
	var services []formula
	for _, s := range m.Services {
		switch s.Protocol {
		case firewall.ICMP:
			services = append(services, a.all(not(a.version6), a.equal(v.protocol, small(icmpNumber)), a.equal(v.head[:8], small(firewall.EchoRequest))))
		case firewall.ICMPv6:
			services = append(services, a.all(a.version6, a.equal(v.protocol, small(icmp6)), a.equal(v.head[:8], small(firewall.EchoRequest6))))
		default:
			ports := always
			if s.LastPort != 0 {
				ports = a.between(v.second, small(uint64(s.FirstPort)), small(uint64(s.LastPort)))
			}
			services = append(services, a.and(a.equal(v.protocol, small(uint64(s.Protocol))), ports))
		}
	}
	return a.all(a.at(v.input, a.links[firewall.Place{Zone: m.Zone}]...), a.insideAny(v.source, m.From), a.any(services...))
}

// neighbours is neighbour discovery on links to zones: RFC 4861 wants a hop limit of 255, RFC 3810 a link-local querier.
func (a *allowed) neighbours(v *view) formula {
	discovery := a.and(a.oneOf(v.head[:8], 133, 134, 135, 136), a.equal(a.hops, small(255)))
	query := a.and(a.inside(v.source, netip.MustParsePrefix("fe80::/10")), a.equal(v.head[:8], small(130)))
	return a.all(a.version6, a.at(v.input, a.zoneLinks...), a.equal(v.protocol, small(icmp6)), not(v.headerless), a.or(discovery, query))
}

// pathErrors are the ICMP errors without which connections hang (RFC 1191, RFC 8201).
func (a *allowed) pathErrors(v *view) formula {
	return a.choose(a.version6, a.oneOf(v.head[:8], 1, 2, 3, 4), a.oneOf(v.head[:8], 3, 11, 12))
}

// exactly is the prefix that holds one address.
func exactly(address netip.Addr) netip.Prefix { return netip.PrefixFrom(address, address.BitLen()) }
