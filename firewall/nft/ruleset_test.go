package nft_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shekara/firewall"
	"shekara/firewall/firewalltest"
	"shekara/firewall/nft"
	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
)

// FuzzRuleset: whatever the names and numbers, a policy is refused, or the kernel takes its rules.
func FuzzRuleset(f *testing.F) {
	probetest.Need(f, probe.NFTables)
	host := nstest.Host(f, "box")
	f.Add("internet", "eth0", "sk-a", uint8(6), uint16(443), uint16(443), uint8(28), uint16(1420))
	f.Add("a b", "eth*", "sk-\"", uint8(1), uint16(0), uint16(0), uint8(0), uint16(0))
	f.Add("chain", "devices", "accept", uint8(132), uint16(1), uint16(65535), uint8(32), uint16(576))
	f.Add("-", ".", "_", uint8(255), uint16(0), uint16(0), uint8(33), uint16(65535))
	f.Add("x;flush", "a\nb", "{", uint8(17), uint16(8000), uint16(8100), uint8(1), uint16(1280))
	f.Add(strings.Repeat("z", 63), "123456789012345", "0", uint8(47), uint16(0), uint16(0), uint8(8), uint16(600))
	f.Fuzz(func(t *testing.T, zone, iface, device string, protocol uint8, first, last uint16, bits uint8, mtu uint16) {
		p := firewalltest.RigPolicy()
		p.Zones[1].Name, p.Interfaces[1].Zone = zone, zone
		p.Interfaces[1].Name, p.Devices[0].Name, p.Devices[0].MTU = iface, device, int(mtu)
		four, err4 := netip.MustParseAddr("10.64.1.1").Prefix(int(bits))
		six, err6 := netip.MustParseAddr("fd00:64:1::1").Prefix(int(bits))
		service := firewall.Service{Protocol: firewall.Protocol(protocol), FirstPort: first, LastPort: last}
		flow := firewall.Flow{Name: zone, From: firewall.Place{Device: device}, To: firewall.Place{Zone: zone}, Services: []firewall.Service{service}}
		if err4 == nil {
			flow.Sources, flow.Destinations = append(flow.Sources, four), append(flow.Destinations, four)
		}
		if err6 == nil {
			flow.Sources, flow.Destinations = append(flow.Sources, six), append(flow.Destinations, six)
		}
		p.Flows = []firewall.Flow{flow}
		p.Management.Services = append(p.Management.Services, service)
		rules, err := firewall.Compile(p)
		if err != nil {
			return
		}
		text, err := rules.Text(1)
		if err != nil {
			t.Fatal(err)
		}
		if out, err := host.TryInput(text, "nft", "--check", "-f", "-"); err != nil {
			t.Fatalf("%v\n%s\n%s", err, out, text)
		}
	})
}

// TestDriftInWords: each kind of meddling is said in words that name the chain or set.
func TestDriftInWords(t *testing.T) {
	host := nstest.Host(t, "box")
	in := open(t, host)
	rules := firewalltest.Load(t, in, firewalltest.ConnectionPolicy("10.64.1.1", "10.20.0.10", false))
	for _, c := range []struct {
		by   string
		want string
	}{
		{"add rule inet shekara forward accept", "chain forward: rule added: accept"},
		{"insert rule inet shekara input tcp dport 23 accept", "chain input: rule added: tcp dport 23 accept"},
		{"flush chain inet shekara verify", "chain verify: rule missing"},
		{"add chain inet shekara backdoor", "chain backdoor added"},
		{"add chain inet shekara forward { policy accept; }", "chain forward: rule missing: type filter hook forward"},
		{"add set inet shekara odd { type mark; }", "set odd added"},
		{"flush set inet shekara flow4_32_32_16", "set flow4_32_32_16: element 0x"},
		{"add element inet shekara zone_links { \"eth9\" }", "set zone_links: element \"eth9\" added"},
		{"delete element inet shekara zone_links { \"lan0\" }", "set zone_links: element \"lan0\" missing"},
		{"add table inet shekara { flags dormant; }", "table: rule added: flags dormant"},
		{"delete table inet shekara", "table inet shekara missing"},
	} {
		host.RunInput(c.by+"\n", "nft", "-f", "-")
		seen, err := in.Observe(t.Context())
		if err != nil || !slices.ContainsFunc(seen.Drift, func(d string) bool { return strings.HasPrefix(d, c.want) }) {
			t.Errorf("after %q: %q, %v; want %q", c.by, seen.Drift, err, c.want)
		}
		if err := in.Load(t.Context(), rules); err != nil {
			t.Fatalf("repair after %q: %v", c.by, err)
		}
		if drift, err := in.Matches(t.Context(), rules); err != nil || len(drift) > 0 {
			t.Errorf("after the repair of %q: %q, %v", c.by, drift, err)
		}
	}
}

// TestForeignTables: others' hooks are named, and left alone by all that a Loader does.
func TestForeignTables(t *testing.T) {
	host := nstest.Host(t, "box")
	in := open(t, host)
	foreign := func() (out []string) {
		in.Do(func(l firewall.Loader) {
			var err error
			if out, err = l.(*nft.Loader).Foreign(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
		return out
	}
	if got := foreign(); len(got) > 0 {
		t.Errorf("nobody else, but %q", got)
	}
	host.RunInput(`
table ip other {
	map verdicts { type ipv4_addr : verdict; }
	chain drops { type filter hook forward priority 10; policy drop; }
	chain calm { counter drop; }
	chain jumps { type filter hook forward priority 20; tcp dport 1 jump one; ip daddr vmap @verdicts; }
	chain one { ip saddr { 192.0.2.1, 192.0.2.2 } goto two; }
	chain two { meta mark set 1 reject; udp dport vmap { 1 : drop, 2 : accept }; }
	chain counts { type filter hook output priority 0; counter accept; }
}
table inet natted { chain source { type nat hook postrouting priority 100; oifname "ext0" masquerade; }; }
`, "nft", "-f", "-")
	before := host.Run("nft", "list", "ruleset")
	rules := firewalltest.Load(t, in, firewalltest.ConnectionPolicy("10.64.1.1", "10.20.0.10", false))
	if err := in.Change(t.Context(), nil, rules.Elements); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"table inet natted chain source: type nat hook postrouting priority 100 policy accept: translates addresses",
		"table ip other chain drops: type filter hook forward priority 10 policy drop: drops by its policy",
		"table ip other chain jumps: type filter hook forward priority 20 policy accept: changes packets or their way (mangle), drops, may drop by the map verdicts, rejects",
	}
	if diff := cmp.Diff(want, foreign()); diff != "" {
		t.Errorf("foreign chains: %s", diff)
	}
	if err := in.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := host.Run("nft", "list", "ruleset"); after != before {
		t.Errorf("left behind:\n%s\nwant\n%s", after, before)
	}
}
