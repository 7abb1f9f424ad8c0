package provisioning

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"shekara/firewall"
)

// outside gives a packet that arrives by a device the addresses that stand in it there, and returns it in this side's notation. The
// question may have either.
func (v *view) outside(p *firewall.Packet, link string) (inside firewall.Packet) {
	t := v.intent.base.Devices[link].Filter.Translation
	if t == nil {
		return *p
	}
	source, _ := firewall.Out(t.Far, whole(p.Source))
	destination, addressable := firewall.Out(t.Local, whole(p.Destination))
	if p.Source = source.Addr(); addressable {
		p.Destination = destination.Addr()
	}
	inside = *p
	inside.Source, inside.Destination = firewall.In(t.Far, whole(p.Source)).Addr(), firewall.In(t.Local, whole(p.Destination)).Addr()
	return inside
}

// written is a destination as documents have it: of a host behind a mapped far end, its own address.
func (v *view) written(destination netip.Addr, to ExplainedEnd) netip.Addr {
	t := v.intent.base.Devices[to.Interface].Filter.Translation
	if t == nil {
		return destination
	}
	out, _ := firewall.Out(t.Far, whole(destination))
	return out.Addr()
}

// behind are the tunnels whose far end has the address as it stands in the tunnel.
func (v *view) behind(a netip.Addr) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(v.intent.tunnels)) {
		if holds(v.intent.tunnels[name].Spec.AllowedIPs, a) >= 0 {
			names = append(names, name)
		}
	}
	return names
}

func (v *view) mapped(tunnel string) bool {
	t := v.intent.tunnels[tunnel]
	return !slices.Equal(t.Known, t.Spec.AllowedIPs)
}

// onThisSide is an address with the other one by which this side knows it.
func onThisSide(a string, other netip.Addr) string {
	if other.String() == a {
		return a
	}
	return fmt.Sprintf("%s (%s on this side)", a, other)
}

// translated says what the addresses of a packet become.
func translated(x firewall.Explanation) string {
	if x.Becomes == nil || !x.Pass {
		return ""
	}
	return fmt.Sprintf("; its addresses become %s to %s", x.Becomes.Source, x.Becomes.Destination)
}

func whole(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
