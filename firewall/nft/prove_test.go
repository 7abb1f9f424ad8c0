package nft_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"shekara/firewall"
	"shekara/firewall/firewalltest"
	"shekara/firewall/proof"
	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
)

// proved lists what a host's kernel holds and proves it against a policy.
func proved(t testing.TB, host *nstest.H, p firewall.Policy) proof.Result {
	t.Helper()
	loaded, err := proof.Decode([]byte(host.Run("nft", "-n", "-j", "list", "ruleset")))
	if err != nil {
		t.Fatal(err)
	}
	result, err := proof.Prove(loaded, p)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// prove says why what a host's kernel holds is not proved to be the policy.
func prove(host *nstest.H, p firewall.Policy) error {
	out, err := host.Try("nft", "-n", "-j", "list", "ruleset")
	if err != nil {
		return fmt.Errorf("list: %w", err)
	}
	loaded, err := proof.Decode([]byte(out))
	if err != nil {
		return err
	}
	result, err := proof.Prove(loaded, p)
	if err == nil && result.Verdict != proof.Proved {
		err = fmt.Errorf("%s %v %v", result.Verdict, result.Reasons, result.Violations)
	}
	return err
}

// TestCompiledIsProved: what the compiler makes of random policies and the kernel holds is what they say, for all packets.
func TestCompiledIsProved(t *testing.T) {
	probetest.Need(t, probe.NFTables)
	host := nstest.Host(t, "box")
	in := open(t, host)
	rounds := uint64(60)
	if testing.Short() {
		rounds = 6
	}
	for seed := range rounds {
		p := firewalltest.SomePolicy(seed)
		firewalltest.Load(t, in, p)
		if result := proved(t, host, p); result.Verdict != proof.Proved {
			t.Fatalf("seed %d: %s %v %v", seed, result.Verdict, result.Reasons, result.Violations)
		}
	}
}

// TestNothingAllowedIsProved: where no flow is loaded nothing leads to the chain that writes marks, and no mark of its generation is on any
// connection for that.
func TestNothingAllowedIsProved(t *testing.T) {
	probetest.Need(t, probe.NFTables)
	host := nstest.Host(t, "box")
	p := firewall.Policy{
		Zones:      []firewall.Zone{{Name: "internet"}, {Name: "gateway-dmz", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.20.0.0/24")}}},
		Interfaces: []firewall.Interface{{Name: "ext0", Zone: "internet"}, {Name: "dmz0", Zone: "gateway-dmz"}},
	}
	firewalltest.Load(t, open(t, host), p)
	if result := proved(t, host, p); result.Verdict != proof.Proved {
		t.Errorf("%s %v %v", result.Verdict, result.Reasons, result.Violations)
	}
	// The control: a rule that lets more pass.
	host.Run("nft", "insert", "rule", "inet", "shekara", "forward", "iifname", "ext0", "oifname", "dmz0", "accept")
	if result := proved(t, host, p); result.Verdict != proof.Violated {
		t.Errorf("with a hole: %s %v", result.Verdict, result.Reasons)
	}
}

// TestWitnessesAreReal: the packet that a violation shows is sent through the kernel, before the rules are changed by hand and after: what
// passes wrongly did not pass before and does now, and what is stopped wrongly the other way round.
func TestWitnessesAreReal(t *testing.T) {
	probetest.Need(t, probe.NFTables)
	r := firewalltest.NewRig(t, engine())
	in := open(t, r.Box())
	p := firewalltest.ConnectionPolicy("10.64.1.1", "10.20.0.10", true)
	p.Flows = append(p.Flows, firewall.Flow{Name: "from the LAN", From: firewall.Place{Zone: "lan"}, To: firewall.Place{Zone: "gateway-dmz"},
		Sources: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}, Destinations: []netip.Prefix{netip.MustParsePrefix("10.20.0.11/32")},
		Services: []firewall.Service{{Protocol: firewall.TCP, FirstPort: 80, LastPort: 80}}})
	for _, c := range []struct {
		change string
		kind   proof.Kind
		rule   string
	}{
		{`insert rule inet shekara forward iifname "dmz0" oifname "ext0" accept`, proof.PassesWrongly, "iifname dmz0 oifname ext0 accept"},
		{`insert rule inet shekara open_forward iifname "lan0" ip daddr 10.64.1.20 oifname "sk-a" meta l4proto 17 th dport 161 accept`, proof.PassesWrongly, "ip daddr 10.64.1.20"},
		{"add element inet shekara flow4_32_32_16 { 0x%08x . 10.64.1.20 . 10.20.0.10 . 6 . 22 }", proof.PassesWrongly, "@flow4_32_32_16 goto pass"},
		{"flush chain inet shekara prerouting", proof.PassesSpoofed, "@flow4_0_32_16 goto pass"},
		{"delete element inet shekara flow4_32_32_16 { 0x%08x . 10.64.1.1 . 10.20.0.10 . 6 . 443 }", proof.IsStopped, "counter forward.no_flow drop"},
		{`add table inet x; add chain inet x f { type filter hook forward priority 10; }; add rule inet x f ip saddr 10.64.1.1 tcp dport 80 drop`, proof.IsStopped, "tcp dport 80 drop"},
	} {
		r.Box().Run("nft", "flush", "ruleset")
		rules := firewalltest.Load(t, in, p)
		change := c.change
		if strings.Contains(change, "%") {
			var mark uint32
			if _, err := fmt.Sscanf(rules.Elements["flow4_32_32_16"][0], "0x%x", &mark); err != nil {
				t.Fatal(err)
			}
			change = fmt.Sprintf(change, mark)
		}
		passes := func(w proof.Packet) bool {
			return r.Arrives(firewall.Packet{From: w.In, To: w.Out, Source: w.Source, Destination: w.Destination, Protocol: w.Protocol,
				SourcePort: w.SourcePort, DestinationPort: w.DestinationPort})
		}
		if result := proved(t, r.Box(), p); result.Verdict != proof.Proved {
			t.Fatalf("before: %+v", result)
		}
		r.Box().RunInput(change+"\n", "nft", "-f", "-")
		var found *proof.Violation
		for _, v := range proved(t, r.Box(), p).Violations {
			if v.Path == "forward" && v.Class == "new" && v.Kind == c.kind {
				found = &v
			}
		}
		if found == nil {
			t.Errorf("%s: no witness of a new packet that %q", change, c.kind)
			continue
		}
		t.Log(found)
		if !strings.Contains(found.Rule.Text, c.rule) {
			t.Errorf("%s: the rule is said to be %s", change, found.Rule)
		}
		after := passes(found.Witness)
		r.Box().Run("nft", "flush", "ruleset")
		firewalltest.Load(t, in, p)
		if before := passes(found.Witness); before == after || after != (c.kind != proof.IsStopped) {
			t.Errorf("%s: passes before %v, after %v", found, before, after)
		}
	}
}
