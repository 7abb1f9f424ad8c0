package firewalltest

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/gopacket/gopacket"

	"shekara/firewall"
)

// explainer reads the policy's ruleset for the rig's box.
func explainer(t testing.TB, p firewall.Policy) (*firewall.Explainer, firewall.Ruleset) {
	t.Helper()
	rules, err := firewall.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	var local []netip.Addr
	for _, link := range rigLinks {
		local = append(local, netip.MustParseAddr(link.net4+"1"), netip.MustParseAddr(link.net6+"1"))
	}
	e, err := firewall.NewExplainer(rules, local)
	if err != nil {
		t.Fatal(err)
	}
	return e, rules
}

// explained is a packet of the rig as the explainer takes it.
func (p packet) explained() firewall.Packet {
	x := firewall.Packet{From: p.arriveOn, To: p.deliverTo, Source: p.source, Destination: p.to, Protocol: p.protocol, SourcePort: p.sport, DestinationPort: p.dport}
	switch p.protocol {
	case firewall.ICMP:
		x.ICMPType = firewall.EchoRequest
	case firewall.ICMPv6:
		x.ICMPType = firewall.EchoRequest6
	case firewall.UDP:
		if x.UDPLength = 8 + 32; p.short {
			x.UDPLength = 8 + 8
		}
	}
	return x
}

func explain(t testing.TB, e *firewall.Explainer, p firewall.Packet) firewall.Explanation {
	t.Helper()
	x, err := e.Explain(p)
	if err != nil {
		t.Fatalf("%+v: %v", p, err)
	}
	return x
}

// home is the link that an address of the pools is behind, and whether the box itself has it.
func home(a netip.Addr) (link string, ofTheBox bool) {
	for _, l := range rigLinks {
		if slices.Contains(ofBox[l.link], a) {
			return l.link, true
		}
		if slices.Contains(pool[l.link], a) {
			return l.link, false
		}
	}
	return "ext0", false
}

// drawer draws packets for a policy: a third that it allows, a third one field away from these, a third at random.
type drawer struct {
	random *rand.Rand
	policy firewall.Policy
	all    []netip.Addr
}

func newDrawer(seed uint64, p firewall.Policy) *drawer {
	d := &drawer{random: rand.New(rand.NewPCG(seed, 3)), policy: p, all: written(p)}
	for _, l := range rigLinks {
		d.all = slices.Concat(d.all, pool[l.link], ofBox[l.link])
	}
	return d
}

func pick[T any](random *rand.Rand, list []T) T { return list[random.IntN(len(list))] }

func (d *drawer) link() string { return pick(d.random, rigLinks).link }

func (d *drawer) draw(n int) packet {
	switch n % 3 {
	case 0:
		return d.allowed()
	case 1:
		return d.mutate(d.allowed())
	}
	source := pick(d.random, d.all)
	p := packet{source: source, to: d.other(source), arriveOn: d.link(), protocol: pick(d.random, []firewall.Protocol{firewall.UDP, firewall.TCP, firewall.ICMP}), dport: pick(d.random, ports)}
	return d.whole(p)
}

// other is an address of the same family.
func (d *drawer) other(than netip.Addr) netip.Addr {
	for {
		if a := pick(d.random, d.all); a.Is4() == than.Is4() && a != than {
			return a
		}
	}
}

// towards sends a packet where its destination is.
func (d *drawer) towards(p packet) packet {
	link, own := home(inside(d.policy, p).to)
	if p.deliverTo = link; own {
		p.deliverTo = ""
	}
	return p
}

// whole makes a packet one that can be sent, and whose fate can be seen.
func (d *drawer) whole(p packet) packet {
	if p = d.towards(p); p.deliverTo == "" && (p.protocol == firewall.TCP || p.protocol == firewall.SCTP) {
		p.protocol = firewall.UDP // who listens on the box listens for UDP
	}
	if p.protocol == firewall.ICMP || p.protocol == firewall.ICMPv6 {
		p.dport = 0
		if p.protocol = firewall.ICMPv6; p.source.Is4() {
			p.protocol = firewall.ICMP
		}
	} else if p.dport == 0 || p.deliverTo == "" && !slices.Contains(ports, p.dport) {
		p.dport = pick(d.random, ports)
	}
	return p
}

// allowed is a packet of some flow, port, probe or of management.
func (d *drawer) allowed() packet {
	for {
		p := packet{}
		switch d.random.IntN(9) {
		case 0:
			device := d.policy.Devices[d.random.IntN(len(d.policy.Devices))]
			from := pick(d.random, pool["ext0"])
			if from.Is4() != device.LocalIP.Is4() {
				continue
			}
			p = packet{source: from, to: device.LocalIP, arriveOn: "ext0", protocol: firewall.UDP, dport: device.Port}
		case 1:
			i := d.random.IntN(2)
			p = packet{source: pool["adm0"][2*i], to: ofBox["adm0"][i], arriveOn: "adm0", protocol: firewall.UDP, dport: 22}
		case 2:
			probe := pick(d.random, d.policy.Probes)
			p = packet{source: probe.Remote, to: probe.Local, arriveOn: probe.Device, protocol: firewall.ICMP}
		case 3:
			if len(d.policy.Offers) == 0 {
				continue
			}
			p = d.ofOffer(pick(d.random, d.policy.Offers))
		default:
			var found bool
			if p, found = d.ofFlow(pick(d.random, d.policy.Flows)); !found {
				continue
			}
		}
		p, addressable := outside(d.policy, p)
		if p = d.whole(p); addressable && allowed(d.policy, inside(d.policy, p)) {
			return p
		}
	}
}

// ofOffer is a packet to the box: of TCP nothing listens there.
func (d *drawer) ofOffer(o firewall.Offer) packet {
	clients, service := d.behind(o.From, o.Sources[0]), o.Services[0]
	arriveOn, _ := home(clients[0])
	return packet{source: pick(d.random, clients), to: o.Addresses[0], arriveOn: arriveOn, protocol: service.Protocol, dport: service.FirstPort}
}

func (d *drawer) ofFlow(f firewall.Flow) (packet, bool) {
	service := pick(d.random, f.Services)
	sources, destinations := d.behind(f.From, f.Sources[0]), d.behind(f.To, f.Destinations[0])
	if len(sources) == 0 || len(destinations) == 0 {
		return packet{}, false
	}
	source, to := pick(d.random, sources), pick(d.random, destinations)
	arriveOn, _ := home(source)
	p := packet{source: source, to: to, arriveOn: arriveOn, protocol: service.Protocol, dport: pick(d.random, ports)}
	if service.LastPort != 0 && d.random.IntN(2) == 0 {
		p.dport = pick(d.random, []uint16{service.FirstPort, service.LastPort})
	}
	return p, source != to
}

// behind are the addresses of a prefix that are at a place.
func (d *drawer) behind(place firewall.Place, prefix netip.Prefix) (list []netip.Addr) {
	link := place.Device
	for _, i := range d.policy.Interfaces {
		if place.Zone == i.Zone {
			link = i.Name
		}
	}
	for _, a := range slices.Concat(pool[link], ofBox[link]) {
		if prefix.Contains(a) {
			list = append(list, a)
		}
	}
	return list
}

// mutate changes one field.
func (d *drawer) mutate(p packet) packet {
	switch d.random.IntN(6) {
	case 0:
		p.source = d.other(p.to)
	case 1:
		p.to = d.other(p.source)
	case 2:
		p.arriveOn = d.link()
	case 3:
		p.protocol = pick(d.random, []firewall.Protocol{firewall.UDP, firewall.TCP, firewall.ICMP})
	case 4:
		p.dport += uint16(d.random.IntN(3)) - 1
	default:
		p.short = p.protocol == firewall.UDP && p.deliverTo == ""
	}
	return d.whole(p)
}

// tally counts what was compared, so that a test that compares too little of a kind is none.
type tally struct {
	passed, dropped, replies, errors int
	hit                              func(firewall.Explanation) // nil, or told of each explanation that the kernel bore out
}

// explain notes what was explained; whoever compares it with the kernel stops at the first difference.
func (c *tally) explain(t testing.TB, e *firewall.Explainer, p firewall.Packet) firewall.Explanation {
	t.Helper()
	x := explain(t, e, p)
	if c.hit != nil {
		c.hit(x)
	}
	return x
}

func (c tally) enough(t *testing.T, each int) {
	t.Helper()
	t.Logf("%d packets pass, %d do not; of those that pass %d are replies and %d errors", c.passed, c.dropped, c.replies, c.errors)
	if c.passed < each || c.dropped < each {
		t.Errorf("the packets are no test: too few of one kind")
	}
}

func tunnelPort(p firewall.Policy, k packet) bool {
	return k.protocol == firewall.UDP && slices.ContainsFunc(p.Devices, func(d firewall.Device) bool { return d.LocalIP == k.to && d.Port == k.dport })
}

// explainAgreesWithKernel sends packets, and replies to them, through the rules that the kernel holds, and compares what arrives
// with what the explainer says.
func (e Engine) explainAgreesWithKernel(t *testing.T) {
	r := newRig(t, e)
	loader := e.Open(t, r.box)
	heard := listen(t, r)
	rounds := uint64(40)
	if testing.Short() {
		rounds = 2
	}
	var count tally
	sport := uint16(1024)
	for seed := range rounds {
		d := newDrawer(seed, somePolicy(rand.New(rand.NewPCG(seed, 2))))
		x, rules := explainer(t, d.policy)
		if err := loader.Load(t.Context(), rules); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			sent := make([]packet, 400)
			for n := range sent {
				if sport++; sport < 1024 || sport == 51820 || sport == 51821 {
					sport = 52000
				}
				sent[n] = d.draw(n)
				sent[n].sport = sport
				sent[n].id = r.send(sent[n])
			}
			connections := count.compare(t, seed, x, sent, r.arrived(), heard())
			if seed%2 == 1 { // a removal begins a new generation: replies are judged by the flows, not by what verify remembers
				element := firewall.Elements{"tunnel_any4": {"203.0.113.9 . 9"}}
				for _, step := range []struct{ add, remove firewall.Elements }{{add: element}, {remove: element}} {
					if err := loader.Change(t.Context(), step.add, step.remove); err != nil {
						t.Fatal(err)
					}
				}
				for id, c := range connections {
					c.Mark &^= firewall.Generations
					connections[id] = c
				}
			}
			count.compareReplies(t, seed, x, r, sent, connections)
		}
		r.box.Run("conntrack", "-F")
	}
	count.enough(t, int(rounds)*300)
	if count.replies < int(rounds)*100 || count.errors < int(rounds)*20 {
		t.Errorf("only %d replies and %d errors passed", count.replies, count.errors)
	}
}

// compare gives the connections that packets which passed left behind.
func (c *tally) compare(t *testing.T, seed uint64, e *firewall.Explainer, sent []packet, here map[string]map[uint32]gopacket.Packet, local map[uint32]bool) map[uint32]firewall.Connection {
	t.Helper()
	connections := map[uint32]firewall.Connection{}
	for _, k := range sent {
		x := c.explain(t, e, k.explained())
		want, there := x.Pass, local[k.id]
		if k.deliverTo != "" {
			_, there = here[k.deliverTo][k.id]
		} else if k.protocol != firewall.UDP { // the box itself answers echo: seen is that its answer comes
			back := k.explained()
			back.From, _ = k.origin()
			want = want && c.explain(t, e, back.Reply(x.Connection)).Pass
			_, there = here[back.From][k.id]
		}
		if want != there {
			t.Fatalf("seed %d: %+v: arrives %v, but explained as %+v", seed, k, there, x)
		}
		c.became(t, k.source, k.to, here[k.deliverTo][k.id], x)
		if want {
			c.passed++
			connections[k.id] = x.Connection
		} else {
			c.dropped++
		}
	}
	return connections
}

// became compares the addresses that a packet arrives with, if it does, with those that were explained.
func (*tally) became(t *testing.T, source, to netip.Addr, got gopacket.Packet, x firewall.Explanation) {
	t.Helper()
	if got == nil {
		return
	}
	want := firewall.Addresses{Source: source, Destination: to}
	if x.Becomes != nil {
		want = *x.Becomes
	}
	if source, to := addressesOf(t, got); source != want.Source || to != want.Destination {
		t.Fatalf("%s -> %s arrives as %s -> %s, but explained as %+v", want.Source, want.Destination, source, to, x)
	}
}

// compareReplies answers every packet that could be forwarded, whether it was or not.
func (c *tally) compareReplies(t *testing.T, seed uint64, e *firewall.Explainer, r *rig, sent []packet, connections map[uint32]firewall.Connection) {
	t.Helper()
	expected := map[uint32]firewall.Explanation{}
	answers := map[uint32]packet{}
	for _, k := range sent {
		if source, own := k.origin(); k.deliverTo == "" || own || source != k.arriveOn {
			continue
		}
		connection, passed := connections[k.id]
		reply := k.explained().Reply(connection)
		if !passed {
			reply.Connection = firewall.Connection{}
		}
		back := packet{source: reply.Source, to: reply.Destination, protocol: k.protocol, sport: k.dport, dport: k.sport, flags: "SA", icmpReply: true, arriveOn: k.deliverTo, deliverTo: k.arriveOn}
		if back.sport == 0 {
			back.sport = k.sport // the identifier of an echo
		}
		id := r.send(back)
		answers[id], expected[id] = back, c.explain(t, e, reply)
		if k.protocol == firewall.UDP && (passed || !expected[id].Pass) { // else the word is about what was sent the other way
			reply.Connection.Mark = expected[id].Connection.Mark
			answers[k.id|quoted], expected[k.id|quoted] = back, c.tooBig(t, e, r, k, reply)
		}
	}
	here := r.arrived()
	for id, x := range expected {
		if _, there := here[answers[id].deliverTo][id]; there != x.Pass {
			t.Fatalf("seed %d: reply %+v: arrives %v, but explained as %+v", seed, answers[id], there, x)
		}
		if id&quoted == 0 {
			c.became(t, answers[id].source, answers[id].to, here[answers[id].deliverTo][id], x)
		}
		switch {
		case x.Pass && id&quoted != 0:
			c.errors++
		case x.Pass:
			c.replies++
		}
		if x.Pass {
			c.passed++
		} else {
			c.dropped++
		}
	}
}

// tooBig lets the neighbour where a packet was to go say that it was too big, and explains that word.
func (c *tally) tooBig(t *testing.T, e *firewall.Explainer, r *rig, k packet, reply firewall.Packet) firewall.Explanation {
	t.Helper()
	end := r.ends[k.deliverTo]
	word := reply // the reply went before it
	word.Protocol, word.ICMPType, word.Source = firewall.ICMP, 3, netip.MustParseAddr(end.address)
	if !k.source.Is4() {
		word.Protocol, word.ICMPType, word.Source = firewall.ICMPv6, 2, netip.MustParseAddr(end.address6)
	}
	if reply.Source != k.to { // mapped: routers there have none of our addresses either
		word.Source = reply.Source
	}
	k.source, k.to = reply.Destination, reply.Source // as it stood there
	if word.Connection.State != "" {
		word.Connection.State = firewall.StateRelated
	}
	transmit(t, end.socket, end.index, tooBig(t, word.Source, k.bytes(t, end.boxMAC, end.mac), end))
	return c.explain(t, e, word)
}
