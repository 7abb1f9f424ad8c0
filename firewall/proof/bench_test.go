package proof_test

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"shekara/firewall"
	"shekara/firewall/proof"
	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
)

// estate is the site with n agencies, each with a peer, a flow to one of 200 hosts, echo and a probe, over so many devices; every tenth has
// IPv6 as well. Addresses are scattered: diagrams of those that follow each other are small, and nobody has such.
func estate(t testing.TB, n, devices int) firewall.Policy {
	p := sitePolicy(t)
	p.Ports, p.Flows, p.Probes = nil, nil, nil
	names := []string{p.Devices[0].Name}
	for i := 1; i < devices; i++ {
		d := p.Devices[0]
		d.Name, d.Port, d.Mark = fmt.Sprintf("sk-%d", i), d.Port+uint16(i), d.Mark+uint32(i+1)
		p.Devices, names = append(p.Devices, d), append(names, d.Name)
	}
	services := []firewall.Service{{Protocol: firewall.TCP, FirstPort: 443, LastPort: 443}, {Protocol: firewall.ICMP}}
	for i := range n {
		name, device := fmt.Sprint("agency-", i), names[i%devices]
		spread := uint16(i * 40503) // odd: no two are the same
		source := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64 + byte(spread>>12), byte(spread >> 4), byte(spread << 4)}), 28)
		host := netip.AddrFrom4([4]byte{10, 20, 0, 1 + byte(i*i%200)})
		p.Ports = append(p.Ports, firewall.TunnelPort{Tunnel: name, Device: device, From: netip.AddrFrom4([4]byte{198, 18, byte(spread >> 8), byte(spread)})})
		flow := firewall.Flow{Name: name, From: firewall.Place{Device: device}, To: firewall.Place{Zone: "gateway-dmz"},
			Sources: []netip.Prefix{source}, Destinations: []netip.Prefix{netip.PrefixFrom(host, 32)}, Services: services}
		if i%10 == 0 {
			six := netip.AddrFrom16([16]byte{0xfd, 0, 0, 0x64, byte(spread >> 8), byte(spread)})
			flow.Sources = append(flow.Sources, netip.PrefixFrom(six, 48))
			flow.Destinations = append(flow.Destinations, netip.MustParsePrefix("fd00:20::10/128"))
		}
		p.Flows = append(p.Flows, flow)
		p.Probes = append(p.Probes, firewall.Probe{Tunnel: name, Device: device, Local: netip.MustParseAddr("10.20.0.10"), Remote: source.Addr().Next()})
	}
	return p
}

// scattered are n flows between two zones, each from another source to another host: pairs in which no two have anything in common. Prefixes
// are of three lengths. The command bench has the same.
func scattered(n int) firewall.Policy {
	left, right := netip.MustParsePrefix("10.64.0.0/12"), netip.MustParsePrefix("10.20.0.0/17")
	p := firewall.Policy{
		Zones:      []firewall.Zone{{Name: "left", Prefixes: []netip.Prefix{left}}, {Name: "right", Prefixes: []netip.Prefix{right}}},
		Interfaces: []firewall.Interface{{Name: "left0", Zone: "left"}, {Name: "right0", Zone: "right"}},
	}
	for i := range n {
		spread, host := uint16(i*40503), 1+i*7919%30000
		source := netip.AddrFrom4([4]byte{10, 64 + byte(spread>>12), byte(spread >> 4), byte(spread << 4)})
		p.Flows = append(p.Flows, firewall.Flow{Name: fmt.Sprint("flow-", i), From: firewall.Place{Zone: "left"}, To: firewall.Place{Zone: "right"},
			Sources:      []netip.Prefix{netip.PrefixFrom(source, [3]int{28, 30, 32}[i%3])},
			Destinations: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 20, byte(host >> 8), byte(host)}), 32)},
			Services:     []firewall.Service{{Protocol: firewall.UDP, FirstPort: 443, LastPort: 443}}})
	}
	return p
}

// BenchmarkProve is a proof from nothing, and one after one flow was added or taken away and the generation of judgement has changed, each
// with reading the listing. What nft takes to list is told beside it.
func BenchmarkProve(b *testing.B) {
	probetest.Need(b, probe.NFTables)
	for _, c := range []struct{ flows, devices int }{{10, 1}, {1000, 1}, {10000, 1}, {10000, 50}, {10000, 200}, {10000, 1000}, {50000, 1}, {10, 0}, {1000, 0}, {10000, 0}} {
		b.Run(fmt.Sprintf("flows=%d/devices=%d", c.flows, c.devices), func(b *testing.B) {
			policy := scattered(c.flows)
			if c.devices > 0 {
				policy = estate(b, c.flows, c.devices)
			}
			box := newLoaded(b, policy)
			b.Run("from-nothing", func(b *testing.B) {
				for b.Loop() {
					box.prove(b, new(proof.Prover))
				}
				box.report(b)
			})
			b.Run("one-change", func(b *testing.B) {
				var kept proof.Prover
				box.prove(b, &kept)
				for b.Loop() {
					b.StopTimer()
					box.change(b)
					b.StartTimer()
					box.prove(b, &kept)
				}
				box.report(b)
			})
		})
	}
}

// loaded is a policy in a kernel, of which one flow comes and goes.
type loaded struct {
	host       *nstest.H
	policy     firewall.Policy
	all        []firewall.Flow
	generation int
	listing    []byte
	listed     time.Duration // what nft took
	peak       uint64        // bytes of heap
	nodes      int
}

func newLoaded(b *testing.B, p firewall.Policy) *loaded {
	l := &loaded{host: nstest.Host(b, "box"), policy: p, all: p.Flows, generation: 1}
	rules, err := firewall.Compile(p)
	if err != nil {
		b.Fatal(err)
	}
	text, err := rules.Text(1)
	if err != nil {
		b.Fatal(err)
	}
	l.host.RunInput(text, "nft", "-f", "-")
	l.list()
	return l
}

func (l *loaded) list() {
	start := time.Now()
	l.listing = []byte(l.host.Run("nft", "-n", "-j", "list", "ruleset"))
	l.listed = time.Since(start)
}

// change takes away the last flow, or brings it back.
func (l *loaded) change(b *testing.B) {
	before := l.policy
	l.policy.Flows = l.all[:2*len(l.all)-1-len(before.Flows)]
	base, err := firewall.CompileBase(l.policy)
	if err != nil {
		b.Fatal(err)
	}
	elements := func(p firewall.Policy) firewall.Elements {
		out, err := base.Elements(p)
		if err != nil {
			b.Fatal(err)
		}
		return out
	}
	old, next := elements(before), elements(l.policy)
	add, remove := old.Diff(next)
	l.generation = l.generation%firewall.Generations + 1
	text, err := firewall.Change(old, next, add, remove, l.generation)
	if err != nil {
		b.Fatal(err)
	}
	l.host.RunInput(text, "nft", "-f", "-")
	l.list()
}

func (l *loaded) prove(b *testing.B, prover *proof.Prover) {
	ruleset, err := proof.Decode(l.listing)
	if err != nil {
		b.Fatal(err)
	}
	result, err := prover.Prove(b.Context(), ruleset, l.policy)
	if err != nil || result.Verdict != proof.Proved {
		b.Fatal(result, err)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	l.peak, l.nodes = max(l.peak, m.HeapAlloc), result.Nodes
}

func (l *loaded) report(b *testing.B) {
	b.ReportMetric(float64(l.peak)/(1<<20), "MiB-heap")
	b.ReportMetric(float64(l.nodes), "nodes")
	b.ReportMetric(float64(l.listed.Milliseconds()), "ms-nft-list")
	l.peak = 0
}
