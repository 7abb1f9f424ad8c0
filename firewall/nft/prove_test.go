package nft_test

import (
	"fmt"
	"math/rand/v2"
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

// TestTranslatedWitnessesAreReal: the same where addresses are translated. What a witness becomes by the changed rules is what arrives, and by
// those of the compiler it becomes what the policy says, or does not arrive.
func TestTranslatedWitnessesAreReal(t *testing.T) {
	probetest.Need(t, probe.NFTables)
	r := firewalltest.NewRig(t, engine())
	r.RouteMapped()
	in := open(t, r.Box())
	p := firewalltest.TranslatedPolicy()
	changes := []struct {
		change string
		kind   proof.Kind
	}{
		{"flush chain inet shekara known_device_sk-b", proof.Mistranslated},
		{"flush chain inet shekara known_device_sk-b; add rule inet shekara known_device_sk-b snat ip prefix to ip saddr map { 192.0.2.0/28 : 10.64.1.0/28 }", proof.Mistranslated},
		{"flush chain inet shekara nat_prerouting; add rule inet shekara nat_prerouting iifname vmap { sk-a : goto shown_device_sk-a, sk-b : goto shown_device_sk-b }; add rule inet shekara nat_prerouting dnat ip6 prefix to ip6 daddr map { fd00:64:1::/64 : 2001:db8:2::/64, fd00:96:1::/64 : 2001:db8:2::/64 }; add rule inet shekara nat_prerouting dnat ip prefix to ip daddr map { 10.64.1.0/28 : 192.0.2.0/28, 10.96.1.0/29 : 192.0.2.8/29 }", proof.Mistranslated},
		{"flush chain inet shekara hide_device_sk-b; flush chain inet shekara leave_device_sk-b", proof.ShowsHidden},
		{"flush chain inet shekara hide_device_sk-b", proof.IsStopped},
		{"insert rule inet shekara hide_device_sk-b ip saddr 10.30.0.16/28 snat ip to 10.99.0.17", proof.Mistranslated},
		{`insert rule inet shekara open_forward iifname "lan0" oifname "sk-b" ct original ip daddr 10.96.1.9 accept`, proof.PassesWrongly},
	}
	if testing.Short() {
		changes = changes[3:5]
	}
	for _, c := range changes {
		load := func(change string) proof.Result {
			r.Box().Run("nft", "flush", "ruleset")
			firewalltest.Load(t, in, p)
			if change != "" {
				r.Box().RunInput(change+"\n", "nft", "-f", "-")
			}
			r.Box().Run("conntrack", "-F")
			return proved(t, r.Box(), p)
		}
		var found *proof.Violation
		for _, v := range load(c.change).Violations {
			if v.Path == "forward" && v.Class == "new" && v.Kind == c.kind {
				found = &v
			}
		}
		if found == nil {
			t.Errorf("%s: no witness of a new packet that %q", c.change, c.kind)
			continue
		}
		t.Log(found)
		w := found.Witness
		seen := func() (proof.Connection, bool) {
			source, destination, there := r.Seen(firewall.Packet{From: w.In, To: w.Out, Source: w.Source, Destination: w.Destination, Protocol: w.Protocol,
				SourcePort: w.SourcePort, DestinationPort: w.DestinationPort})
			return proof.Connection{Source: source, Destination: destination}, there
		}
		became := proof.Connection{Source: w.Source, Destination: w.Destination}
		if w.Becomes != nil {
			became = *w.Becomes
		}
		after, came := seen()
		if came != (c.kind != proof.IsStopped) || came && after != became {
			t.Errorf("%s: arrives %v as %v", found, came, after)
		}
		if result := load(""); result.Verdict != proof.Proved {
			t.Fatalf("without the change: %+v", result)
		}
		if before, came := seen(); came == (c.kind == proof.PassesWrongly) || came && before == after {
			t.Errorf("%s: without the change arrives %v as %v", found, came, before)
		}
	}
}

// someTranslatedPolicy is one with random translations of the rig's devices, and flows in this side's notation, some of which nothing hides.
func someTranslatedPolicy(seed uint64) firewall.Policy {
	r := rand.New(rand.NewPCG(seed, 5))
	p := firewalltest.TranslatedPolicy()
	a, b := firewall.Place{Device: "sk-a"}, firewall.Place{Device: "sk-b"}
	known := map[string][]string{"sk-a": {"10.64.1.0/28", "10.64.1.5/32", "fd00:64:1::/64"}, "sk-b": {"10.96.1.0/28", "10.96.1.5/32", "fd00:96:1::5/128"}}
	for i := range p.Devices {
		d, t := &p.Devices[i], *p.Devices[i].Translation
		if r.IntN(3) == 0 { // the far side is known by its own addresses
			d.Sources = nil
			for _, m := range t.Far {
				d.Sources = append(d.Sources, m.Inside)
			}
			t.Far, t.Zone, t.Mark, t.LocalMark = nil, 0, 0, 0
		}
		switch r.IntN(4) {
		case 0:
			t.Local = nil
		case 1:
			hidden := netip.MustParsePrefix([]string{"10.99.0.1/32", "10.99.0.2/32"}[r.IntN(2)])
			t.Local = []firewall.Mapping{{Inside: netip.MustParsePrefix("10.30.0.0/24"), Outside: hidden, Shared: true}}
		case 2:
			t.Local = p.Devices[1].Translation.Local
		}
		if d.Translation = &t; len(t.Far)+len(t.Local) == 0 {
			d.Translation = nil
		}
	}
	places := []firewall.Place{a, b, {Zone: "lan"}, {Zone: "lan"}, {Zone: "gateway-dmz"}}
	pick := func(place firewall.Place) (list []netip.Prefix) {
		texts := known[place.Device]
		if place.Zone != "" {
			texts = []string{"10.30.0.0/28", "10.30.0.2/32", "10.30.0.16/28", "10.30.0.0/24", "fd00:30::/64"}
		}
		for _, text := range texts {
			if r.IntN(2) == 0 {
				list = append(list, netip.MustParsePrefix(text))
			}
		}
		return list
	}
	flows := p.Flows
	p.Flows = nil
	for n := range 8 {
		flows = append(flows, firewall.Flow{Name: fmt.Sprint("random-", n), From: places[r.IntN(len(places))], To: places[r.IntN(len(places))],
			Services: []firewall.Service{{Protocol: firewall.TCP, FirstPort: 443, LastPort: uint16(443 + r.IntN(3))}, {Protocol: firewall.SCTP}}[r.IntN(2):]})
	}
	for _, f := range flows {
		if len(f.Sources) == 0 {
			f.Sources, f.Destinations = pick(f.From), pick(f.To)
		}
		one := p
		one.Flows = []firewall.Flow{f}
		if f.From.Device != "" && f.To.Device != "" { // tunnels lead to this side's zones alone
			continue
		}
		if _, err := firewall.Compile(one); err == nil { // else to who is hidden, or of two families
			p.Flows = append(p.Flows, f)
		}
	}
	for i, device := range []string{"sk-a", "sk-b"} {
		if r.IntN(2) == 0 {
			remote := netip.MustParsePrefix(known[device][i]).Addr()
			p.Probes = append(p.Probes, firewall.Probe{Tunnel: device, Device: device, Local: netip.MustParseAddr("10.30.0.1"), Remote: remote})
		}
	}
	return p
}

// TestTranslatedIsProved: what the compiler makes of random translations is what they say, for all packets.
func TestTranslatedIsProved(t *testing.T) {
	probetest.Need(t, probe.NFTables)
	host := nstest.Host(t, "box")
	in := open(t, host)
	rounds := uint64(12)
	if testing.Short() {
		rounds = 2
	}
	for seed := range rounds {
		p := someTranslatedPolicy(seed)
		firewalltest.Load(t, in, p)
		if result := proved(t, host, p); result.Verdict != proof.Proved {
			t.Fatalf("seed %d: %s %v %v", seed, result.Verdict, result.Reasons, result.Violations)
		}
	}
}
