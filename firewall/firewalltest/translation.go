package firewalltest

import (
	"bytes"
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

// translation: what the kernel makes of packets is what the explainer says, addresses too; answers come back to who asked, and errors, in the notation
// of who gets them.
func (e Engine) translation(t *testing.T) {
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
		k.id = r.send(k)
		got, came := r.arrived()[k.deliverTo][k.id]
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
		id := r.send(answer)
		back, came := r.arrived()[k.arriveOn][id]
		if !came {
			t.Errorf("%s %s -> %s: the answer does not come back", k.arriveOn, k.source, k.to)
			continue
		}
		if source, destination := addressesOf(t, back); source != k.to || destination != k.source {
			t.Errorf("%s %s -> %s: the answer is %s -> %s", k.arriveOn, k.source, k.to, source, destination)
		}
		r.translatedError(k, got)
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

// routers are those that tell of a packet that is too big, by the link behind which they are.
var routers = map[string][2]string{"lan0": {"10.30.0.9", "fd00:30::9"}, "sk-a": {"192.0.2.9", "2001:db8:2::9"}, "sk-b": {"192.0.2.9", "2001:db8:2::9"}}

// translatedError has a router on the way tell that a packet was too big which arrived as got. What is quoted is what was sent, and nothing that is to be
// hidden stands in the error.
func (r *rig) translatedError(k packet, got gopacket.Packet) {
	r.t.Helper()
	e := r.ends[k.deliverTo]
	router := netip.MustParseAddr(routers[k.deliverTo][0])
	if !k.source.Is4() {
		router = netip.MustParseAddr(routers[k.deliverTo][1])
	}
	transmit(r.t, e.socket, e.index, tooBig(r.t, router, got.Data(), e))
	told, came := r.arrived()[k.arriveOn][k.id|quoted]
	if !came {
		r.t.Errorf("%s %s -> %s: the error does not come back\n%s", k.arriveOn, k.source, k.to, r.state())
		return
	}
	if _, destination := addressesOf(r.t, told); destination != k.source {
		r.t.Errorf("%s %s -> %s: the error is for %s", k.arriveOn, k.source, k.to, destination)
	}
	sent := append(append([]byte{}, k.source.AsSlice()...), k.to.AsSlice()...)
	if network := told.Data()[14+len(sent):]; !bytes.Contains(network, sent) {
		r.t.Errorf("%s %s -> %s: the error quotes something else: %x", k.arriveOn, k.source, k.to, network)
	}
	for _, inside := range [][]byte{{10, 30, 0}, {0xfd, 0, 0, 0x30}} {
		if k.arriveOn == "sk-b" && bytes.Contains(told.Data()[14:], inside) {
			r.t.Errorf("%s %s -> %s: an inside address leaves in the error: %x", k.arriveOn, k.source, k.to, told.Data())
		}
	}
}

// hiddenRig is the rig with translation in which the lan stands in sk-b as the range that is given, or as it is.
func hiddenRig(behind string) firewall.Policy {
	p := translatedRig()
	translation := *p.Devices[1].Translation
	translation.Local = nil
	if behind != "" {
		translation.Local = []firewall.Mapping{{Inside: netip.MustParsePrefix("10.30.0.0/28"), Outside: netip.MustParsePrefix(behind)}}
	}
	p.Devices[1].Translation = &translation
	return p
}

// olderThanHiding: a connection that began with inside addresses does not go on with them when they are to be hidden; a new one is hidden.
func (e Engine) olderThanHiding(t *testing.T) {
	r := newTranslatedRig(t, e)
	in := e.Open(t, r.box)
	load(t, in, hiddenRig(""))
	k := packet{arriveOn: "lan0", source: netip.MustParseAddr("10.30.0.2"), to: netip.MustParseAddr("10.96.1.5"), protocol: firewall.UDP, sport: 4000, dport: 53, deliverTo: "sk-b"}
	r.expect("the connection, not hidden yet", k, "sk-b")
	load(t, in, hiddenRig("10.99.0.16/28"))
	r.expect("the connection, to be hidden", k, "")
	k.sport = 4001
	r.expect("a new one", k, "sk-b")
	load(t, in, hiddenRig(""))
	r.expect("the new one, when nothing is to be hidden", k, "sk-b")
}

// hidingTakenAway: without what hides nothing leaves with an inside address, and what stops it is counted; without the last check it would leave.
func (e Engine) hidingTakenAway(t *testing.T) {
	r := newTranslatedRig(t, e)
	in := e.Open(t, r.box)
	load(t, in, hiddenRig("10.99.0.16/28"))
	k := packet{arriveOn: "lan0", source: netip.MustParseAddr("10.30.0.2"), to: netip.MustParseAddr("10.96.1.5"), protocol: firewall.UDP, sport: 4000, dport: 53, deliverTo: "sk-b"}
	r.expect("hidden", k, "sk-b")
	r.box.Run("sh", "-ec", e.Unhide)
	k.sport++
	r.expect("without what hides", k, "")
	r.box.Do(func() {
		counted, err := in.loader.(counter).Counters(t.Context())
		if id := "postrouting." + firewall.Unhidden; err != nil || counted[id].Packets == 0 {
			t.Errorf("%s: %+v, %v", id, counted[id], err)
		}
	})
	r.box.Run("sh", "-ec", e.Unguard)
	k.sport++
	r.expect("without the last check", k, "sk-b")
}

// translationReplaced: while rulesets come and go that hide the lan in sk-b behind one range or another, nothing leaves there with an inside address,
// and what goes elsewhere misses none of the maps that translate it.
func (e Engine) translationReplaced(t *testing.T) {
	r := newTranslatedRig(t, e)
	in := e.Open(t, r.box)
	ranges := []string{"10.99.0.16/28", "10.98.0.16/28"}
	rulesets := []firewall.Ruleset{compiled(t, hiddenRig(ranges[0])), compiled(t, hiddenRig(ranges[1]))}
	if err := in.Load(t.Context(), rulesets[0]); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		for i := range e.times(40) {
			if err := in.Load(t.Context(), rulesets[(i+1)%2]); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	other := packet{arriveOn: "lan0", source: netip.MustParseAddr("10.30.0.2"), to: netip.MustParseAddr("10.64.1.5"), protocol: firewall.UDP, sport: 4000, dport: 53, deliverTo: "sk-a"}
	hidden := other
	hidden.to, hidden.deliverTo, hidden.sport = netip.MustParseAddr("10.96.1.5"), "sk-b", 1024
	sent, came, lost := 0, 0, 0
	for end := false; !end; {
		select {
		case err := <-done:
			if end = true; err != nil {
				t.Fatal(err)
			}
		default:
		}
		ids := map[uint32]bool{}
		for range 20 {
			ids[r.send(other)] = true
			if hidden.sport++; hidden.sport < 1024 {
				hidden.sport = 1024
			}
			r.send(hidden)
			sent++
		}
		arrived := r.arrived()
		for id := range ids {
			if _, there := arrived["sk-a"][id]; !there {
				lost++
			}
		}
		for _, p := range arrived["sk-b"] {
			source, _ := addressesOf(t, p)
			if !netip.MustParsePrefix(ranges[0]).Contains(source) && !netip.MustParsePrefix(ranges[1]).Contains(source) {
				t.Fatalf("%s leaves through sk-b", source)
			}
			came++
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d packets through sk-a are lost", lost, sent)
	}
	if came < sent/2 {
		t.Errorf("of %d packets through sk-b %d arrive", sent, came)
	}
}
