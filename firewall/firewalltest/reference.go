package firewalltest

import (
	"net/netip"
	"slices"

	"shekara/firewall"
)

// allowed says whether the first packet of a connection should arrive. It is written from the meaning of a Policy alone and
// shares no code with the compiler.
func allowed(p firewall.Policy, k packet) bool {
	zones := map[string][]netip.Prefix{}
	for _, z := range p.Zones {
		zones[z.Name] = z.Prefixes
	}
	inside := func(a netip.Addr, list []netip.Prefix) bool {
		return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	belongs := func(a netip.Addr, zone string) bool { // the longest prefix says where an address lives
		home, longest := "", -1
		for name, list := range zones {
			for _, prefix := range list {
				if prefix.Contains(a) && prefix.Bits() > longest {
					home, longest = name, prefix.Bits()
				}
			}
		}
		return home == zone || longest < 0 && len(zones[zone]) == 0
	}
	zoneOfLink, farZone := map[string]string{}, map[string]string{}
	for _, i := range p.Interfaces {
		zoneOfLink[i.Name] = i.Zone
	}
	for _, d := range p.Devices {
		farZone[d.Name] = d.FarZone
	}

	// A source that cannot come from there: the box's own address from nowhere.
	for _, list := range ofBox {
		if slices.Contains(list, k.source) {
			return false
		}
	}
	if zone, ok := farZone[k.arriveOn]; ok {
		if !belongs(k.source, zone) {
			return false
		}
	} else if !belongs(k.source, zoneOfLink[k.arriveOn]) {
		return false
	}
	serves := func(list []firewall.Service) bool {
		return slices.ContainsFunc(list, func(s firewall.Service) bool {
			return s.Protocol == k.protocol && (s.LastPort == 0 || s.FirstPort <= k.dport && k.dport <= s.LastPort)
		})
	}
	if k.deliverTo == "" {
		for _, d := range p.Devices {
			if d.LocalIP == k.to && k.protocol == firewall.UDP && k.dport == d.Port {
				for _, port := range p.Ports {
					if port.Device == d.Name && (!port.From.IsValid() || port.From == k.source) {
						return true
					}
				}
				return false
			}
		}
		if m := p.Management; zoneOfLink[k.arriveOn] == m.Zone && inside(k.source, m.From) && serves(m.Services) {
			return true
		}
		for _, probe := range p.Probes {
			if probe.Device == k.arriveOn && probe.Remote == k.source && probe.Local == k.to &&
				(k.protocol == firewall.ICMP || k.protocol == firewall.ICMPv6) {
				return true
			}
		}
		for _, o := range p.Offers {
			from := o.From.Device == k.arriveOn || o.From.Zone != "" && o.From.Zone == zoneOfLink[k.arriveOn]
			if from && inside(k.source, o.Sources) && slices.Contains(o.Addresses, k.to) && serves(o.Services) {
				return true
			}
		}
		return false // no flow ends at the box itself
	}
	for _, f := range p.Flows {
		from := f.From.Device == k.arriveOn || f.From.Zone != "" && f.From.Zone == zoneOfLink[k.arriveOn]
		to := f.To.Device != "" && f.To.Device == k.deliverTo || f.To.Zone != "" && f.To.Zone == zoneOfLink[k.deliverTo]
		if from && to && inside(k.source, f.Sources) && inside(k.to, f.Destinations) && serves(f.Services) {
			return true
		}
	}
	return false
}
