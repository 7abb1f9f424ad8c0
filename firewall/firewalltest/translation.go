package firewalltest

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"shekara/firewall"
	"shekara/netctl/probe/probetest"
)

// translatedRig is the rig with one range behind both devices, and the lan hidden from the second: one to one but for one host.
func translatedRig() firewall.Policy {
	p := rigPolicy()
	prefix := netip.MustParsePrefix
	mapping := func(inside, outside string) firewall.Mapping {
		return firewall.Mapping{Inside: prefix(inside), Outside: prefix(outside), Shared: prefix(outside).IsSingleIP()}
	}
	p.Devices[0].Sources, p.Devices[1].Sources = []netip.Prefix{prefix("192.0.2.0/28"), prefix("2001:db8:2::/64")}, []netip.Prefix{prefix("192.0.2.0/28"), prefix("2001:db8:2::/64")}
	p.Devices[0].Translation = &firewall.Translation{Zone: 7, Mark: 0x534c0007, LocalMark: 0x534d0007,
		Far: []firewall.Mapping{mapping("10.64.1.0/28", "192.0.2.0/28"), mapping("fd00:64:1::/64", "2001:db8:2::/64")}}
	p.Devices[1].Translation = &firewall.Translation{Zone: 8, Mark: 0x534c0008, LocalMark: 0x534d0008,
		Far:   []firewall.Mapping{mapping("10.96.1.0/28", "192.0.2.0/28"), mapping("fd00:96:1::/64", "2001:db8:2::/64")},
		Local: []firewall.Mapping{mapping("10.30.0.0/28", "10.99.0.16/28"), mapping("10.30.0.16/28", "10.99.0.1/32"), mapping("fd00:30::/64", "fd00:99::/64")}}
	flow := func(name string, from, to firewall.Place, source, destination string) firewall.Flow {
		return firewall.Flow{Name: name, From: from, To: to, Sources: []netip.Prefix{prefix(source)}, Destinations: []netip.Prefix{prefix(destination)},
			Services: []firewall.Service{{Protocol: firewall.UDP, FirstPort: 53, LastPort: 53}}}
	}
	a, b, lan := firewall.Place{Device: "sk-a"}, firewall.Place{Device: "sk-b"}, firewall.Place{Zone: "lan"}
	p.Flows = []firewall.Flow{flow("a-in", a, lan, "10.64.1.0/28", "10.30.0.2/32"), flow("a-out", lan, a, "10.30.0.0/24", "10.64.1.5/32"),
		flow("b-in", b, lan, "10.96.1.0/28", "10.30.0.2/32"), flow("b-out", lan, b, "10.30.0.0/24", "10.96.1.5/32"),
		flow("a-in6", a, lan, "fd00:64:1::/64", "fd00:30::2/128"), flow("b-in6", b, lan, "fd00:96:1::/64", "fd00:30::2/128"), flow("b-out6", lan, b, "fd00:30::/64", "fd00:96:1::5/128")}
	return p
}

// newTranslatedRig is the rig with the route tables of both devices.
func newTranslatedRig(t *testing.T, e Engine) *rig {
	r := newRig(t, e)
	r.routeMapped()
	return r
}

// routeMapped leads to each device what is mapped there, by its mark.
func (r *rig) routeMapped() {
	for i, device := range []string{"sk-a", "sk-b"} {
		table, mark := fmt.Sprint(1007+i), fmt.Sprint(0x534c0007+i)
		for family, route := range map[string][2]string{"-4": {"192.0.2.0/28", r.ends[device].address}, "-6": {"2001:db8:2::/64", r.ends[device].address6}} {
			r.box.Run("ip", family, "rule", "add", "pref", "100", "iif", device, "lookup", "main")
			r.box.Run("ip", family, "rule", "add", "pref", "101", "fwmark", mark, "lookup", table)
			r.box.Run("ip", family, "route", "add", route[0], "via", route[1], "dev", device, "table", table)
		}
	}
}

// translation: what the kernel makes of packets is what the explainer says, addresses too; and answers come back to who asked.
func (e Engine) translation(t *testing.T) {
	if !e.Translates {
		return // it refuses such a policy, which its own tests see to
	}
	probetest.Need(t, e.Needs...)
	r := newTranslatedRig(t, e)
	policy := translatedRig()
	explains, rules := explainer(t, policy)
	r.box.Do(func() {
		loader, err := e.New(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second keeps the hooked chains
			if err := loader.Load(t.Context(), rules); err != nil {
				t.Fatal(err)
			}
		}
		if seen, err := loader.Observe(t.Context()); err != nil || !seen.Present || len(seen.Drift) > 0 {
			t.Fatalf("%+v, %v", seen, err)
		}
	})
	address := netip.MustParseAddr
	passed := 0
	for _, k := range []packet{
		{arriveOn: "sk-a", source: address("192.0.2.5"), to: address("10.30.0.2"), deliverTo: "lan0"},
		{arriveOn: "sk-b", source: address("192.0.2.5"), to: address("10.99.0.18"), deliverTo: "lan0"}, // the same ports too
		{arriveOn: "sk-b", source: address("192.0.2.5"), to: address("10.30.0.2"), deliverTo: "lan0"},
		{arriveOn: "sk-a", source: address("192.0.2.5"), to: address("10.99.0.18"), deliverTo: "lan0"},
		{arriveOn: "sk-a", source: address("10.64.1.5"), to: address("10.30.0.2"), deliverTo: "lan0"},
		{arriveOn: "lan0", source: address("10.30.0.2"), to: address("10.64.1.5"), deliverTo: "sk-a"},
		{arriveOn: "lan0", source: address("10.30.0.2"), to: address("10.96.1.5"), deliverTo: "sk-b"},
		{arriveOn: "lan0", source: address("10.30.0.17"), to: address("10.96.1.5"), deliverTo: "sk-b"},
		{arriveOn: "lan0", source: address("10.30.0.33"), to: address("10.96.1.5"), deliverTo: "sk-b"}, // allowed, and to be hidden by nothing
		{arriveOn: "lan0", source: address("10.30.0.2"), to: address("10.96.1.6"), deliverTo: "sk-b"},
		{arriveOn: "sk-a", source: address("2001:db8:2::5"), to: address("fd00:30::2"), deliverTo: "lan0"},
		{arriveOn: "sk-b", source: address("2001:db8:2::5"), to: address("fd00:99::2"), deliverTo: "lan0"},
		{arriveOn: "lan0", source: address("fd00:30::2"), to: address("fd00:96:1::5"), deliverTo: "sk-b"},
	} {
		k.protocol, k.sport, k.dport = firewall.UDP, 4000, 53
		x := explain(t, explains, k.explained())
		id := r.send(k)
		got, came := r.arrived()[k.deliverTo][id]
		if came != x.Pass {
			t.Errorf("%s %s -> %s: arrives at %s: %v, explained: %v %s", k.arriveOn, k.source, k.to, k.deliverTo, came, x.Pass, x.Reason)
		}
		if !came || !x.Pass {
			continue
		}
		passed++
		became := firewall.Addresses{Source: k.source, Destination: k.to}
		if x.Becomes != nil {
			became = *x.Becomes
		}
		if source, destination := addressesOf(t, got); source != became.Source || destination != became.Destination {
			t.Errorf("%s %s -> %s: arrives as %s -> %s, explained as %+v", k.arriveOn, k.source, k.to, source, destination, became)
		}
		answer := packet{arriveOn: k.deliverTo, source: became.Destination, to: became.Source, protocol: firewall.UDP, sport: 53, dport: 4000, deliverTo: k.arriveOn}
		id = r.send(answer)
		back, came := r.arrived()[k.arriveOn][id]
		if !came {
			t.Errorf("%s %s -> %s: the answer does not come back", k.arriveOn, k.source, k.to)
			continue
		}
		if source, destination := addressesOf(t, back); source != k.to || destination != k.source {
			t.Errorf("%s %s -> %s: the answer is %s -> %s", k.arriveOn, k.source, k.to, source, destination)
		}
	}
	if passed != 8 {
		t.Errorf("%d passed, want 8", passed)
	}
}

func addressesOf(t testing.TB, p gopacket.Packet) (source, destination netip.Addr) {
	t.Helper()
	switch ip := p.NetworkLayer().(type) {
	case *layers.IPv4:
		source, _ = netip.AddrFromSlice(ip.SrcIP.To4())
		destination, _ = netip.AddrFromSlice(ip.DstIP.To4())
	case *layers.IPv6:
		source, _ = netip.AddrFromSlice(ip.SrcIP)
		destination, _ = netip.AddrFromSlice(ip.DstIP)
	default:
		t.Fatalf("no IP packet: %v", p)
	}
	return source, destination
}
