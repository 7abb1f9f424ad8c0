package proof

import (
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shekara/firewall"
	"shekara/firewall/firewalltest"
)

// readListing reads what nft 1.0.6 listed (-n -j list ruleset) of the rules of ../testdata in a kernel.
func readListing(t testing.TB, name string) *Ruleset {
	t.Helper()
	listing, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := Decode(listing)
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

// TestLoadedIsProved: the rules of the compiler's own examples are what their policies say, twice the same, and not those of another.
func TestLoadedIsProved(t *testing.T) {
	for _, name := range []string{"empty", "nested", "site", "translated"} {
		result, err := Prove(readListing(t, name), firewalltest.Example(t, name))
		if err != nil {
			t.Fatal(err)
		}
		if result.Verdict != Proved {
			t.Errorf("%s: %+v", name, result)
		}
		again, err := Prove(readListing(t, name), firewalltest.Example(t, name))
		if diff := cmp.Diff(result, again); diff != "" || err != nil {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
	result, err := Prove(readListing(t, "empty"), firewalltest.Example(t, "site"))
	if err != nil || result.Verdict != Violated {
		t.Errorf("site's policy on the rules of none: %+v, %v", result, err)
	}
	nothing, err := Decode([]byte(`{"nftables": []}`))
	if err != nil {
		t.Fatal(err)
	}
	if result, err = Prove(nothing, firewalltest.Example(t, "site")); err != nil || result.Verdict != Violated {
		t.Errorf("no rules at all: %+v, %v", result, err)
	}
}

// TestPolicyIsOne: what no compiler would take is refused, not proved.
func TestPolicyIsOne(t *testing.T) {
	p := firewalltest.Example(t, "site")
	p.Flows[0].From.Device = "sk-nobody"
	if _, err := Prove(readListing(t, "site"), p); err == nil || !strings.Contains(err.Error(), "sk-nobody") {
		t.Errorf("%v", err)
	}
}

// samples are packets around what an example allows.
type samples struct {
	addresses, links []string
	near             []firewall.Packet // half of all differ little from these
}

var sampled = map[string]samples{
	"site": {
		addresses: strings.Fields(`10.64.1.0 10.64.1.5 10.64.1.15 10.64.1.16 10.64.1.1 10.20.0.10 10.20.0.11 10.20.1.1 192.168.100.7 192.168.101.7
			198.51.100.20 198.51.100.53 203.0.113.10 8.8.8.8 fd00:64:1::5 fd00:64:2::5 fd00:20::10 fd00:20::11 2001:db8:113::10 2001:db8:53::53 fe80::1 ::`),
		links: []string{"ext0", "dmz0.100", "adm0", "sk-agencies", "sk-agencies6", "lo", ""},
		near: []firewall.Packet{{From: "sk-agencies", To: "dmz0.100", Source: netip.MustParseAddr("10.64.1.5"), Destination: netip.MustParseAddr("10.20.0.10")},
			{From: "sk-agencies", To: "", Source: netip.MustParseAddr("10.64.1.5"), Destination: netip.MustParseAddr("10.20.0.10")}},
	},
	"translated": {
		addresses: strings.Fields(`192.168.1.1 192.168.1.5 192.168.1.16 10.64.1.1 10.64.1.5 10.64.2.1 10.64.2.5 10.64.3.5 10.30.0.17 10.30.0.18 10.30.1.77 10.30.2.1 10.20.0.17 10.20.0.18
			10.20.0.254 10.20.0.253 203.0.113.10 198.51.100.20 8.8.8.8 fd00:30::7 fd00:64:2::5 fd00:1::5 fd00:20::fe`),
		links: []string{"ext0", "lan0", "sk-a", "sk-b", "sk-c", "lo", ""},
		near: []firewall.Packet{
			{From: "sk-a", To: "lan0", Source: netip.MustParseAddr("192.168.1.5"), Destination: netip.MustParseAddr("10.30.0.18")},
			{From: "sk-b", To: "lan0", Source: netip.MustParseAddr("192.168.1.5"), Destination: netip.MustParseAddr("10.20.0.18")},
			{From: "lan0", To: "sk-b", Source: netip.MustParseAddr("10.30.1.77"), Destination: netip.MustParseAddr("10.64.2.5")},
			{From: "lan0", To: "sk-b", Source: netip.MustParseAddr("fd00:30::7"), Destination: netip.MustParseAddr("fd00:64:2::5")},
			{From: "lan0", To: "sk-c", Source: netip.MustParseAddr("10.30.1.77"), Destination: netip.MustParseAddr("10.64.3.5")},
			{From: "", To: "sk-b", Source: netip.MustParseAddr("10.30.1.1"), Destination: netip.MustParseAddr("10.64.2.5")},
			{From: "sk-a", To: "", Source: netip.MustParseAddr("192.168.1.1"), Destination: netip.MustParseAddr("10.30.0.17")},
			{From: "", To: "sk-a", Source: netip.MustParseAddr("10.30.0.17"), Destination: netip.MustParseAddr("10.64.1.1")},
		},
	},
}

// TestEvaluationAgreesWithExplain: what comes out of the evaluation of all packets is, for each of thousands, and for its answer, what
// Explain says of that one, addresses included. The two share neither the text of the rules nor a line of code.
func TestEvaluationAgreesWithExplain(t *testing.T) {
	for name, s := range sampled {
		t.Run(name, func(t *testing.T) { agrees(t, name, s) })
	}
}

func agrees(t *testing.T, name string, s samples) {
	policy := firewalltest.Example(t, name)
	rules, err := firewall.Compile(policy)
	if err != nil {
		t.Fatal(err)
	}
	explainer, err := firewall.NewExplainer(rules, nil)
	if err != nil {
		t.Fatal(err)
	}
	loaded := readListing(t, name)
	p := newComparison(t.Context(), newEngine(interfaces(loaded, policy), loaded.translates, maxNodes), loaded, policy)
	p.evaluate()
	random := rand.New(rand.NewPCG(1, 2))
	passed, answered, translated, stopped := 0, 0, 0, 0
	for range 60_000 {
		k := s.random(random)
		x, err := explainer.Explain(k)
		if err != nil {
			continue // two families
		}
		if x.Reason == firewall.Martian || x.Connection.State != firewall.StateNew {
			continue
		}
		path := map[[2]bool]string{{false, false}: "forward", {false, true}: "input", {true, false}: "output"}[[2]bool{k.From == "", k.To == ""}]
		a := p.assign(k, x.Connection)
		if got := p.inSomeZone(p.runs[[2]string{path, classNew}].passes, a); got != x.Pass {
			t.Fatalf("%+v: evaluated %v, explained %+v", k, got, x)
		}
		if !x.Pass {
			stopped++
			continue
		}
		passed++
		if x.Becomes != nil { // anything else it does not become
			translated++
			if p.translates && p.inSomeZone(p.runs[[2]string{path, classNew}].passes, p.assign(k, firewall.Connection{})) {
				t.Fatalf("%+v: passes as it is, explained %+v", k, x)
			}
		}
		reply := k.Reply(x.Connection)
		answer, err := explainer.Explain(reply)
		if err != nil || answer.Reason == firewall.Martian {
			continue
		}
		for i := range 32 {
			a[p.level(p.connectionMark[i])] = x.Connection.Mark>>(31-i)&1 != 0
		}
		if k.Protocol == firewall.ICMP || k.Protocol == firewall.ICMPv6 {
			p.put(a, p.targetPort, uint64(reply.ICMPType)<<8)
		}
		back := map[string]string{"forward": "forward", "input": "output", "output": "input"}[path]
		if back == "output" {
			p.put(a, p.packetMark, 0)
		}
		if got := p.inSomeZone(p.runs[[2]string{back, classReply}].passes, a); got != answer.Pass {
			t.Fatalf("answer %+v: evaluated %v, explained %+v", reply, got, answer)
		}
		answered++
	}
	t.Logf("%d pass, %d of them translated, %d answered, %d do not", passed, translated, answered, stopped)
	if passed < 2000 || answered < 1000 || stopped < 10_000 || p.translates != (translated > 500) {
		t.Error("the packets are no test: too few of one kind")
	}
}

// inSomeZone says whether a packet is in a set, whatever its conntrack zone: Explain does not know it.
func (p *comparison) inSomeZone(f formula, a assignment) bool {
	if !p.translates {
		return p.holds(f, a)
	}
	for zone := range uint64(3) {
		p.put(a, p.connectionZone, zone)
		if p.holds(f, a) {
			return true
		}
	}
	return false
}

func (p *comparison) put(a assignment, v vector, n uint64) {
	for i, bit := range v {
		if at := len(v) - 1 - i; at < 64 {
			a[p.level(bit)] = n>>at&1 != 0
		}
	}
}

func (p *comparison) putAddress(a assignment, v vector, address netip.Addr) {
	n := addressNumber(address)
	for i, bit := range v[:address.BitLen()] {
		a[p.level(bit)] = n.bit(address.BitLen() - 1 - i)
	}
}

// assign is a packet as values of the variables, of an opening one, and what its connection becomes.
func (p *comparison) assign(k firewall.Packet, c firewall.Connection) assignment {
	a := make(assignment, p.levels)
	a[p.level(p.version6)] = !k.Source.Is4()
	p.put(a, p.from, uint64(p.interfaceNumber[k.From]))
	p.put(a, p.to, uint64(p.interfaceNumber[k.To]))
	p.putAddress(a, p.source, k.Source)
	p.putAddress(a, p.target, k.Destination)
	if p.translates {
		other := func(translated, own netip.Addr) netip.Addr {
			if translated.IsValid() {
				return translated
			}
			return own
		}
		p.putAddress(a, p.toSource, other(c.ToSource, k.Source))
		p.putAddress(a, p.toTarget, other(c.ToDestination, k.Destination))
	}
	p.put(a, p.protocol, uint64(k.Protocol))
	p.put(a, p.sourcePort, uint64(k.SourcePort))
	p.put(a, p.targetPort, uint64(k.DestinationPort))
	if k.Protocol == firewall.ICMP || k.Protocol == firewall.ICMPv6 {
		p.put(a, p.sourcePort, uint64(k.ICMPType)<<8)
	}
	if p.translates {
		p.put(a, p.toSourcePort, p.value(p.sourcePort, a).low)
	}
	p.put(a, p.packetMark, uint64(k.Mark))
	p.put(a, p.flags, 2)
	p.put(a, p.udpLength, uint64(k.UDPLength))
	p.put(a, p.hops, 64)
	return a
}

// random draws a packet, half of them near to what is allowed.
func (s samples) random(r *rand.Rand) firewall.Packet {
	one := func(list []string) string { return list[r.IntN(len(list))] }
	k := firewall.Packet{From: one(s.links), To: one(s.links), Source: netip.MustParseAddr(one(s.addresses)), Destination: netip.MustParseAddr(one(s.addresses)),
		Protocol:   []firewall.Protocol{firewall.TCP, firewall.UDP, firewall.ICMP, firewall.ICMPv6}[r.IntN(4)],
		SourcePort: []uint16{40000, 68, 443}[r.IntN(3)], DestinationPort: []uint16{443, 22, 53, 67, 8000, 8100, 8101, 51820}[r.IntN(8)],
		UDPLength: []uint16{39, 40, 1000}[r.IntN(3)], Mark: []uint32{0, 0, 1397424129}[r.IntN(3)]}
	k.ICMPType = []uint8{8, 128}[r.IntN(2)]
	if r.IntN(2) == 0 {
		near := s.near[r.IntN(len(s.near))]
		k.From, k.Source, k.Destination = near.From, near.Source, near.Destination
		if k.To = near.To; r.IntN(4) == 0 {
			k.To = one(s.links)
		}
		if r.IntN(2) == 0 {
			k.Protocol, k.DestinationPort = firewall.TCP, 443
		}
	}
	if k.From != "" {
		k.Mark = 0
	}
	if k.Protocol != firewall.TCP && k.Protocol != firewall.UDP {
		k.SourcePort, k.DestinationPort = 0, 0
	}
	return k
}
