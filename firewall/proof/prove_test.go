package proof

import (
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"shekara/firewall"
)

func readPolicy(t testing.TB, name string) firewall.Policy {
	t.Helper()
	archive, err := txtar.ParseFile(filepath.Join("..", "testdata", name+".txtar"))
	if err != nil {
		t.Fatal(err)
	}
	var p firewall.Policy
	if err := json.Unmarshal(archive.Files[0].Data, &p); err != nil {
		t.Fatal(err)
	}
	return p
}

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
	for _, name := range []string{"empty", "nested", "site"} {
		result, err := Prove(readListing(t, name), readPolicy(t, name))
		if err != nil {
			t.Fatal(err)
		}
		if result.Verdict != Proved {
			t.Errorf("%s: %+v", name, result)
		}
		again, err := Prove(readListing(t, name), readPolicy(t, name))
		if diff := cmp.Diff(result, again); diff != "" || err != nil {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
	result, err := Prove(readListing(t, "empty"), readPolicy(t, "site"))
	if err != nil || result.Verdict != Violated {
		t.Errorf("site's policy on the rules of none: %+v, %v", result, err)
	}
	nothing, err := Decode([]byte(`{"nftables": []}`))
	if err != nil {
		t.Fatal(err)
	}
	if result, err = Prove(nothing, readPolicy(t, "site")); err != nil || result.Verdict != Violated {
		t.Errorf("no rules at all: %+v, %v", result, err)
	}
}

// TestPolicyIsOne: what no compiler would take is refused, not proved.
func TestPolicyIsOne(t *testing.T) {
	p := readPolicy(t, "site")
	p.Flows[0].From.Device = "sk-nobody"
	if _, err := Prove(readListing(t, "site"), p); err == nil || !strings.Contains(err.Error(), "sk-nobody") {
		t.Errorf("%v", err)
	}
}

// sample are addresses around those of the site.
var sample = func() (out []netip.Addr) {
	for _, text := range strings.Fields(`10.64.1.0 10.64.1.5 10.64.1.15 10.64.1.16 10.64.1.1 10.20.0.10 10.20.0.11 10.20.1.1 192.168.100.7 192.168.101.7
		198.51.100.20 198.51.100.53 203.0.113.10 8.8.8.8 fd00:64:1::5 fd00:64:2::5 fd00:20::10 fd00:20::11 2001:db8:113::10 2001:db8:53::53 fe80::1 ::`) {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}()

// TestEvaluationAgreesWithExplain: what comes out of the evaluation of all packets is, for each of thousands, and for its answer, what
// Explain says of that one. The two share neither the text of the rules nor a line of code.
func TestEvaluationAgreesWithExplain(t *testing.T) {
	policy := readPolicy(t, "site")
	rules, err := firewall.Compile(policy)
	if err != nil {
		t.Fatal(err)
	}
	explainer, err := firewall.NewExplainer(rules, nil)
	if err != nil {
		t.Fatal(err)
	}
	loaded := readListing(t, "site")
	p := newComparison(t.Context(), newEngine(interfaces(loaded, policy), maxNodes), loaded, policy)
	p.evaluate()
	random := rand.New(rand.NewPCG(1, 2))
	passed, answered, stopped := 0, 0, 0
	for range 60_000 {
		k := p.random(random)
		x, err := explainer.Explain(k)
		if err != nil {
			continue // two families
		}
		if x.Reason == firewall.Martian || x.Connection.State != firewall.StateNew {
			continue
		}
		path := map[[2]bool]string{{false, false}: "forward", {false, true}: "input", {true, false}: "output"}[[2]bool{k.From == "", k.To == ""}]
		a := p.assign(k)
		if got := p.holds(p.runs[[2]string{path, classNew}].passes, a); got != x.Pass {
			t.Fatalf("%+v: evaluated %v, explained %+v", k, got, x)
		}
		if !x.Pass {
			stopped++
			continue
		}
		passed++
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
		if got := p.holds(p.runs[[2]string{back, classReply}].passes, a); got != answer.Pass {
			t.Fatalf("answer %+v: evaluated %v, explained %+v", reply, got, answer)
		}
		answered++
	}
	t.Logf("%d pass, %d of them answered, %d do not", passed, answered, stopped)
	if passed < 2000 || answered < 1000 || stopped < 10_000 {
		t.Error("the packets are no test: too few of one kind")
	}
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

// assign is a packet as values of the variables, of an opening one.
func (p *comparison) assign(k firewall.Packet) assignment {
	a := make(assignment, p.levels)
	a[p.level(p.version6)] = !k.Source.Is4()
	p.put(a, p.from, uint64(p.interfaceNumber[k.From]))
	p.put(a, p.to, uint64(p.interfaceNumber[k.To]))
	p.putAddress(a, p.source, k.Source)
	p.putAddress(a, p.target, k.Destination)
	p.put(a, p.protocol, uint64(k.Protocol))
	p.put(a, p.sourcePort, uint64(k.SourcePort))
	p.put(a, p.targetPort, uint64(k.DestinationPort))
	if k.Protocol == firewall.ICMP || k.Protocol == firewall.ICMPv6 {
		p.put(a, p.sourcePort, uint64(k.ICMPType)<<8)
	}
	p.put(a, p.packetMark, uint64(k.Mark))
	p.put(a, p.flags, 2)
	p.put(a, p.udpLength, uint64(k.UDPLength))
	p.put(a, p.hops, 64)
	return a
}

// random draws a packet, half of them near to what the site allows.
func (p *comparison) random(r *rand.Rand) firewall.Packet {
	one := func(list ...string) string { return list[r.IntN(len(list))] }
	links := []string{"ext0", "dmz0.100", "adm0", "sk-agencies", "sk-agencies6", "lo", ""}
	k := firewall.Packet{From: one(links...), To: one(links...), Source: sample[r.IntN(len(sample))], Destination: sample[r.IntN(len(sample))],
		Protocol:   []firewall.Protocol{firewall.TCP, firewall.UDP, firewall.ICMP, firewall.ICMPv6}[r.IntN(4)],
		SourcePort: []uint16{40000, 68, 443}[r.IntN(3)], DestinationPort: []uint16{443, 22, 53, 67, 8000, 8100, 8101, 51820}[r.IntN(8)],
		UDPLength: []uint16{39, 40, 1000}[r.IntN(3)], Mark: []uint32{0, 0, 1397424129}[r.IntN(3)]}
	if k.From != "" {
		k.Mark = 0
	}
	k.ICMPType = []uint8{8, 128}[r.IntN(2)]
	if r.IntN(2) == 0 {
		k.From, k.Source, k.Destination = "sk-agencies", netip.MustParseAddr("10.64.1.5"), netip.MustParseAddr("10.20.0.10")
		k.To = one("dmz0.100", "dmz0.100", "", "adm0")
	}
	if k.Protocol != firewall.TCP && k.Protocol != firewall.UDP {
		k.SourcePort, k.DestinationPort = 0, 0
	}
	return k
}
