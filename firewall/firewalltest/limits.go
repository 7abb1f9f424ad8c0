package firewalltest

import (
	"net/netip"
	"testing"
	"time"

	"shekara/firewall"
	"shekara/netctl/probe/probetest"
)

// limitedRig is two tunnels behind sk-a and one behind sk-b that may all reach the lan and be reached from there, of both families. The limits are of
// tunnel a, the first behind sk-a.
func limitedRig(limits ...firewall.Limit) firewall.Policy {
	p := rigPolicy()
	udp := []firewall.Service{{Protocol: firewall.UDP}}
	for _, x := range []struct{ device, far4, far6 string }{{"sk-a", "10.64.0.0/12", "fd00:64::/32"}, {"sk-b", "10.96.0.0/12", "fd00:96::/32"}} {
		far := []netip.Prefix{netip.MustParsePrefix(x.far4), netip.MustParsePrefix(x.far6)}
		near := []netip.Prefix{netip.MustParsePrefix("10.30.0.0/24"), netip.MustParsePrefix("fd00:30::/64")}
		device, lan := firewall.Place{Device: x.device}, firewall.Place{Zone: "lan"}
		p.Flows = append(p.Flows, firewall.Flow{Name: "in-" + x.device, From: device, To: lan, Sources: far, Destinations: near, Services: udp},
			firewall.Flow{Name: "out-" + x.device, From: lan, To: device, Sources: near, Destinations: far, Services: udp})
	}
	p.Limits = limits
	return p
}

func limitOf(tunnel string, prefixes ...string) firewall.Limit {
	l := firewall.Limit{Tunnel: tunnel, Device: "sk-a"}
	for _, p := range prefixes {
		l.Prefixes = append(l.Prefixes, netip.MustParsePrefix(p))
	}
	return l
}

func limitOfA() firewall.Limit { return limitOf("a", "10.64.1.0/28", "fd00:64:1::/64") }

// limitRig sends UDP packets, each a connection of its own unless it is told its port.
type limitRig struct {
	*rig
	in   Inside
	port uint16
}

func newLimitRig(t *testing.T, e Engine) *limitRig {
	r := newRig(t, e)
	return &limitRig{rig: r, in: e.Open(t, r.box), port: 1024}
}

// ways are whose packets: from tunnel a, to it, from its neighbour in the device, to the other device, by family.
type way struct{ on, source, to, deliver string }

var (
	fromA  = []way{{"sk-a", "10.64.1.5", "10.30.0.2", "lan0"}, {"sk-a", "fd00:64:1::5", "fd00:30::2", "lan0"}}
	toA    = []way{{"lan0", "10.30.0.2", "10.64.1.6", "sk-a"}, {"lan0", "fd00:30::2", "fd00:64:1::6", "sk-a"}}
	others = []way{{"sk-a", "10.64.1.17", "10.30.0.2", "lan0"}, {"lan0", "fd00:30::2", "fd00:64:7::5", "sk-a"}, {"lan0", "10.30.0.2", "10.96.1.5", "sk-b"}}
)

func (w way) packet() packet {
	return packet{arriveOn: w.on, deliverTo: w.deliver, source: netip.MustParseAddr(w.source), to: netip.MustParseAddr(w.to), protocol: firewall.UDP, dport: 53}
}

// open sends n packets of new connections on each way, and counts those that arrive.
func (r *limitRig) open(n int, ways ...way) int {
	r.t.Helper()
	sent := map[uint32]string{}
	for range n {
		for _, w := range ways {
			k := w.packet()
			r.port++
			k.sport = r.port
			sent[r.send(k)] = w.deliver
		}
	}
	came, count := r.arrived(), 0
	for id, link := range sent {
		if _, there := came[link][id]; there {
			count++
		}
	}
	return count
}

func (r *limitRig) wants(what string, got, want int) {
	r.t.Helper()
	if got != want {
		r.t.Errorf("%s: %d arrive, want %d\n%s", what, got, want, r.state())
	}
}

// settled says that what is loaded is what was asked for, also by the proof.
func (r *limitRig) settled(p firewall.Policy) {
	r.t.Helper()
	if seen, err := r.in.Observe(r.t.Context()); err != nil || !seen.Present || len(seen.Drift) > 0 {
		r.t.Errorf("%+v, %v", seen, err)
	}
	if r.engine.Prove != nil {
		if err := r.engine.Prove(r.box, p); err != nil {
			r.t.Error(err)
		}
	}
}

// change goes from one policy to another by elements alone.
func (r *limitRig) change(from, to firewall.Policy) {
	r.t.Helper()
	var elements [2]firewall.Elements
	for i, p := range []firewall.Policy{from, to} {
		rules, err := firewall.Compile(p)
		if err != nil {
			r.t.Fatal(err)
		}
		elements[i] = rules.Elements
	}
	add, remove := elements[0].Diff(elements[1])
	if err := r.in.Change(r.t.Context(), add, remove); err != nil {
		r.t.Fatal(err)
	}
	r.settled(to)
}

// limitsConnections: what both sides open together, of both families, is bounded; who closes makes room; neighbours lose nothing; and what a
// tunnel has open is remembered while limits of others, and the rules of the box, change.
func (e Engine) limitsConnections(t *testing.T) {
	if !e.Limits {
		return // it refuses such a policy, which its own tests see to
	}
	probetest.Need(t, e.Needs...)
	r := newLimitRig(t, e)
	free := limitedRig()
	load(t, r.in, free)
	r.wants("without a limit", r.open(5, fromA...), 10)
	r.box.Run("conntrack", "-F")
	a := limitOfA()
	a.Connections = 4
	one := limitedRig(a)
	r.change(free, one)
	first := fromA[0].packet()
	first.sport = 999
	r.expect("the first connection", first, "lan0")
	r.wants("to a limit of four, with one open", r.open(1, toA...)+r.open(5, fromA...), 3)
	r.wants("at the limit", r.open(3, append(fromA, toA...)...), 0)
	r.wants("neighbours", r.open(20, others...), 60)
	r.expect("the first connection goes on", first, "lan0")
	b := limitOf("b", "10.64.2.0/24")
	b.Connections, b.NewPerSecond, b.MbitPerSecond = 1, 10, 128
	two := limitedRig(a, b)
	r.change(one, two)
	r.wants("at the limit, when another has got one", r.open(3, fromA...), 0)
	other := two
	other.Interfaces = append(other.Interfaces[:len(other.Interfaces):len(other.Interfaces)], firewall.Interface{Name: "new0", Zone: "lan"})
	load(t, r.in, other)
	r.settled(other)
	r.wants("at the limit, under another base", r.open(3, fromA...), 0)
	load(t, r.in, two)
	r.box.Run("conntrack", "-F")
	r.wants("with room again", r.open(3, append(fromA, toA...)...), 4)
	more := a
	more.Connections = 6
	r.change(two, limitedRig(more, b))
	r.wants("with a limit of six from now on", r.open(3, append(fromA, toA...)...), 6)
	if id := "forward." + firewall.TooManyConnections; r.counted(id) < 6 {
		t.Errorf("%s: %d", id, r.counted(id))
	}
	r.change(limitedRig(more, b), free)
	r.wants("without a limit again", r.open(5, fromA...), 10)
}

func (r *limitRig) counted(id string) (packets uint64) {
	r.t.Helper()
	r.box.Do(func() {
		all, err := r.in.loader.(counter).Counters(r.t.Context())
		if err != nil {
			r.t.Fatal(err)
		}
		packets = all[id].Packets
	})
	return packets
}

// limitsNew: connections that are opened in a second are bounded, for both sides and families together; packets of a connection that is open are not,
// answered or not.
func (e Engine) limitsNew(t *testing.T) {
	if !e.Limits {
		return
	}
	probetest.Need(t, e.Needs...)
	r := newLimitRig(t, e)
	const rate = 10
	a := limitOfA()
	a.NewPerSecond = rate
	p := limitedRig(a)
	load(t, r.in, p)
	r.settled(p)
	first := toA[0].packet()
	first.sport = 999
	start := time.Now()
	r.expect("the first connection", first, "sk-a")
	came := r.open(25, append(fromA, toA...)...)
	if most := 2*rate + int(time.Since(start)/(time.Second/rate)); came < rate-1 || came > most {
		t.Errorf("of 100 connections %d are opened, want %d to %d\n%s", came, rate-1, most, r.state())
	}
	r.wants("neighbours", r.open(40, others...), 120)
	for range 3 * rate {
		r.expect("one connection, never answered", first, "sk-a")
	}
	if id := "forward." + firewall.TooManyNew; r.counted(id) < 50 {
		t.Errorf("%s: %d", id, r.counted(id))
	}
	load(t, r.in, limitedRig())
	r.wants("without a limit", r.open(25, append(fromA, toA...)...), 100)
}

// limitsBandwidth: bytes of a connection that is open are bounded, in each direction on its own and both families together.
func (e Engine) limitsBandwidth(t *testing.T) {
	if !e.Limits {
		return
	}
	probetest.Need(t, e.Needs...)
	r := newLimitRig(t, e)
	a := limitOfA()
	a.MbitPerSecond = 1
	p := limitedRig(a)
	load(t, r.in, p)
	r.settled(p)
	const size, header, rate = 1200, 28 + 28 + 4, 125_000
	// Each way and its answers: what comes second is of a connection that is established.
	flood := append(append([]way{}, fromA...), others[0])
	packets := make([]packet, 0, 2*len(flood))
	for _, w := range flood {
		k := w.packet()
		k.sport, k.size = 4000, size
		back := k
		back.arriveOn, back.deliverTo, back.source, back.to, back.sport, back.dport = k.deliverTo, k.arriveOn, k.to, k.source, k.dport, k.sport
		packets = append(packets, k, back)
	}
	type passed struct {
		sent, bytes        [2]int
		others, sentOthers int
		took               time.Duration
	}
	run := func(duration time.Duration) (p passed) {
		way := map[uint32]int{}
		start := time.Now()
		for time.Since(start) < duration {
			for range 4 { // some 40 Mbit/s, and on a busy machine still more than the limit
				for i, k := range packets {
					way[r.send(k)] = i
				}
			}
			time.Sleep(2 * time.Millisecond)
		}
		came := r.arrived()
		p.took = time.Since(start)
		for id, i := range way {
			_, there := came[packets[i].deliverTo][id]
			switch {
			case i >= 4:
				p.sentOthers++
				if there {
					p.others++
				}
			default:
				p.sent[i%2] += size + header
				if there {
					p.bytes[i%2] += size + header
				}
			}
		}
		return p
	}
	run(time.Second) // what a second keeps is used up
	limited := run(3 * time.Second)
	wanted := int(rate * limited.took.Seconds())
	for direction, n := range limited.bytes {
		if sent := limited.sent[direction]; n < min(wanted, sent)/2 || n > wanted*3/2 {
			t.Errorf("direction %d: %d bytes of %d in %s, of a limit of %d\n%s", direction, n, sent, limited.took, wanted, r.state())
		}
	}
	if limited.others != limited.sentOthers {
		t.Errorf("of the neighbour's %d packets %d arrive", limited.sentOthers, limited.others)
	}
	if id := "forward." + firewall.Bandwidth; r.counted(id) < 100 {
		t.Errorf("%s: %d", id, r.counted(id))
	}
	r.change(p, limitedRig())
	if free := run(time.Second); free.bytes != free.sent {
		t.Errorf("without a limit %d bytes of %d arrive", free.bytes, free.sent)
	}
}

// limitsTranslated: a tunnel whose far side is mapped is known by what stands in the device, both ways, though another has the same range.
func (e Engine) limitsTranslated(t *testing.T) {
	if !e.Limits {
		return
	}
	probetest.Need(t, e.Needs...)
	r := newTranslatedRig(t, e)
	in := &limitRig{rig: r, in: e.Open(t, r.box), port: 1024}
	p := translatedRig()
	load(t, in.in, p)
	ways := []way{{"sk-a", "192.0.2.5", "10.30.0.2", "lan0"}, {"lan0", "10.30.0.2", "10.64.1.5", "sk-a"}}
	in.wants("without a limit", in.open(3, ways...), 6)
	r.box.Run("conntrack", "-F")
	a := limitOf("a", "192.0.2.0/28")
	a.Connections = 2
	p.Limits = []firewall.Limit{a}
	load(t, in.in, p)
	in.wants("at a limit of two", in.open(3, ways...), 2)
	in.wants("the other, with the same range", in.open(3, way{"sk-b", "192.0.2.5", "10.99.0.18", "lan0"}, way{"lan0", "10.30.0.2", "10.96.1.5", "sk-b"}), 6)
}
