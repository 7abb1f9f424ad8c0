package proof_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"shekara/firewall"
	"shekara/firewall/firewalltest"
	"shekara/firewall/proof"
	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
)

// mutation is a change of a loaded ruleset, as an intruder or a mistake would make it, and what the proof must say. A rule is named by
// "<chain|part of its text>", which becomes its handle.
type mutation struct {
	name   string
	change string
	want   proof.Verdict
	says   string // in a witness with its rule, or in a reason
}

// mutations are those of testdata/site.txtar.
var mutations = []mutation{
	// Nothing that matters.
	{"nothing", "", proof.Proved, ""},
	{"a comment", `add rule inet shekara forward counter comment "seen"`, proof.Proved, ""},
	{"a policy that no packet reaches", "add chain inet shekara forward { policy accept; }", proof.Proved, ""},
	{"a drop that the policy repeats", "delete rule inet shekara forward handle <forward|no_flow>", proof.Proved, ""},
	{"an accept that ends only its own chain", "add table inet x; add chain inet x f { type filter hook forward priority -10; }; add rule inet x f accept", proof.Proved, ""},
	{"an element that no masked address equals", "add element inet shekara flow4_28_32_16 { 0x01403000 . 10.64.1.5 . 10.20.0.10 . 6 . 443 }", proof.Proved, ""},
	{"a table of arp", "add table arp x; add chain arp x i { type filter hook input priority 0; policy drop; }", proof.Proved, ""},

	// Rules added.
	{"everything is forwarded", "insert rule inet shekara forward accept", proof.Violated, "chain forward, handle"},
	{"one host is forwarded", "insert rule inet shekara forward iifname sk-agencies ip saddr 10.64.1.33 oifname adm0 accept", proof.Violated, "in sk-agencies out adm0 10.64.1.33 > "},
	{"a port of any protocol", "insert rule inet shekara forward @th,16,16 443 accept", proof.Violated, "443"},
	{"internal to external", "insert rule inet shekara open_forward iifname dmz0.100 oifname ext0 ip daddr 192.0.2.7 accept", proof.Violated, "> 192.0.2.7 tcp 40000>40000"},
	{"a host drops out", "insert rule inet shekara forward ip saddr 10.64.1.5 drop", proof.Violated, "ip saddr 10.64.1.5 drop"},
	{"this box from the internet", `insert rule inet shekara input iifname "ext0" tcp dport 22 accept`, proof.Violated, "in ext0"},
	{"a pattern of interfaces", `insert rule inet shekara input iifname "ext*" udp dport 53 accept`, proof.Violated, ">53"},
	{"another management port", "add rule inet shekara management tcp dport 23 accept", proof.Violated, ">23"},
	{"a source for an interface", "insert rule inet shekara source_zone_admin ip saddr 10.20.0.9 return", proof.Violated, "10.20.0.9 > "},
	{"a packet mark", "insert rule inet shekara output meta mark set 0x534b0001", proof.Violated, ""},
	{"a connection mark", "insert rule inet shekara prerouting ct mark set 0x00c04001", proof.Proved, ""}, // before conntrack: nothing is written
	{"a connection mark that is judged", "insert rule inet shekara open_forward ct mark set 0x00c04001", proof.Violated, "connection mark 0x00c04001"},

	// Rules removed.
	{"no anti-spoofing", "flush chain inet shekara prerouting", proof.Violated, "cannot have its source"},
	{"no anti-spoofing of our own addresses", "delete rule inet shekara source_zone_internet handle <source_zone_internet|fib saddr>", proof.Violated, "cannot have its source"},
	{"no drop, and the policy accepts", "delete rule inet shekara open_forward handle <open_forward|no_flow>; add chain inet shekara forward { policy accept; }", proof.Violated, ""},
	{"tunnels are not judged", "delete rule inet shekara output handle <output|into_tunnel>", proof.Violated, "policy accept"},
	{"sealed packets from any address", "delete rule inet shekara outer_0x534b0001 handle <outer_0x534b0001|wrong_source>", proof.Violated, "mark 0x534b0001"},
	{"sealed packets into a tunnel", "delete rule inet shekara outer_0x534b0001 handle <outer_0x534b0001|loop>", proof.Violated, "out sk-agencies"},
	{"invalid neighbour discovery", "delete rule inet shekara input handle <input|ct state 0x1 >", proof.Violated, "invalid"},
	{"short messages to a tunnel port", "delete rule inet shekara tunnel_port handle <tunnel_port|no_message>", proof.Violated, ">51820"},
	{"no path MTU", "delete rule inet shekara input handle <input|icmp type>", proof.Violated, "is stopped"},
	{"no answers to this box", "delete rule inet shekara input handle <input|answers to this box>", proof.Violated, "reply direction"},
	{"no management", "delete rule inet shekara management handle <management|tcp dport 22>", proof.Violated, "in adm0"},

	// Rules changed.
	{"a wider mask", "replace rule inet shekara flows_open handle <flows_open|@flow4_28_32_16> meta mark . ct original ip saddr & 255.255.255.0 . ct original ip daddr . meta l4proto . th dport @flow4_28_32_16 goto pass", proof.Violated, "10.64.1."},
	{"answers by the wrong port", "replace rule inet shekara flows_answer handle <flows_answer|@flow4_28_32_16> meta mark . ct original ip saddr & 255.255.255.240 . ct original ip daddr . meta l4proto . th dport @flow4_28_32_16 goto pass", proof.Violated, "reply direction"},
	{"whatever was marked passes", "flush chain inet shekara verify; add rule inet shekara verify accept", proof.Violated, "jump verify"},
	{"another generation passes", "flush chain inet shekara verify; add rule inet shekara verify ct mark and 0xfff == 2 accept", proof.Violated, "chain verify"},
	{"another generation is written", "replace rule inet shekara pass handle <pass|ct mark set> ct mark set meta mark or 2", proof.Violated, "chain verify"},
	{"errors are judged", "insert rule inet shekara forward ct state related ct direction vmap { original : goto open_forward, reply : goto answer_forward }", proof.Violated, "connection mark"},
	{"neighbours behind routers", "replace rule inet shekara input handle <input|hoplimit> iifname @zone_links icmpv6 type { 133, 134, 135, 136, 137 } accept", proof.Violated, "icmpv6 type 13"},
	{"management from anywhere in its zone's contour", "replace rule inet shekara input handle <input|jump management> iifname adm0 ct direction original jump management", proof.Violated, "fe80::"},
	{"two places swapped", `replace rule inet shekara from_iif handle <from_iif|map> meta mark set iifname map { "adm0" : 0x00400000, "dmz0.100" : 0x01000000, "ext0" : 0x00c00000, "sk-agencies" : 0x01400000, "sk-agencies6" : 0x01800000 }`, proof.Violated, "ext0"},
	{"two ways swapped", `flush chain inet shekara to_oif; add rule inet shekara to_oif oifname vmap { "adm0" : goto to_zone_gateway-dmz, "dmz0.100" : goto to_zone_admin, "ext0" : goto to_zone_internet, "sk-agencies" : goto to_device_sk-agencies, "sk-agencies6" : goto to_device_sk-agencies6 }`, proof.Violated, "out adm0"},
	{"another home of this box", "add rule inet shekara from_address meta mark set 0x00400000", proof.Violated, "out sk-agencies"},
	{"flows that end at this box", "insert rule inet shekara input ct direction original meta mark set 0x01403000 jump flows_open", proof.Violated, "input, new: in sk-agencies 10.64.1."},
	{"a chain leads nowhere", "flush chain inet shekara open_forward", proof.Violated, "is stopped"},

	// Elements.
	{"a port more", "add element inet shekara flow4_28_32_16 { 0x01403000 . 10.64.1.0 . 10.20.0.10 . 6 . 444 }", proof.Violated, "40000>444"},
	{"another host behind the tunnel", "add element inet shekara flow4_28_32_16 { 0x01403000 . 10.64.2.16 . 10.20.0.10 . 6 . 443 }", proof.Violated, "10.64.2."},
	{"the flow of another place", "add element inet shekara flow4_28_32_16 { 0x01401000 . 10.64.1.0 . 10.20.0.10 . 6 . 443 }", proof.Violated, "out adm0"},
	{"a flow less", "delete element inet shekara flow4_28_32_16 { 0x01403000 . 10.64.1.0 . 10.20.0.10 . 6 . 443 }", proof.Violated, "is stopped"},
	{"an IPv6 flow less", "delete element inet shekara flow6_48_128_16 { 0x01403000 . fd00:64:1:: . fd00:20::10 . 6 . 443 }", proof.Violated, "fd00:64:1:"},
	{"a peer more", "add element inet shekara tunnel_peer4 { 203.0.113.10 . 51820 . 198.51.100.99 }", proof.Violated, "198.51.100.99 > 203.0.113.10"},
	{"a peer less", "flush set inet shekara tunnel_peer4", proof.Violated, "198.51.100.20 > 203.0.113.10"},
	{"no tunnel port", "flush set inet shekara tunnel_port4", proof.Violated, "udp"},
	{"a probe more", `add element inet shekara probe_in4 { "sk-agencies" . 10.64.9.9 . 10.20.0.10 }`, proof.Violated, "10.64.9.9 > 10.20.0.10 icmp type 8"},
	{"a probe less", "flush set inet shekara probe_out4", proof.Violated, "out sk-agencies"},
	{"a tunnel among the zones' links", `add element inet shekara zone_links { "sk-agencies" }`, proof.Violated, "in sk-agencies"},
	{"a device forgotten", `delete element inet shekara device_links { "sk-agencies" }`, proof.Violated, "out sk-agencies"},
	{"a place at another interface", `add element inet shekara from_place { 0x01400000 . "ext0" }`, proof.Violated, "in ext0"},

	// What this box serves.
	{"a client more", "add element inet shekara flow4_28_32_16 { 0x017ff000 . 10.64.2.16 . 10.20.0.1 . 17 . 123 }", proof.Violated, "> 10.20.0.1 udp 40000>123"},
	{"a client behind another tunnel", "add element inet shekara flow4_28_32_16 { 0x01bff000 . 10.64.1.0 . 10.20.0.1 . 17 . 123 }", proof.Violated, "in sk-agencies6"},
	{"a client less", "delete element inet shekara flow6_48_128_16 { 0x017ff000 . fd00:64:1:: . fd00:20::1 . 17 . 123 }", proof.Violated, "fd00:20::1 udp"},
	{"another port of this box", "add element inet shekara flow4_28_32_16 { 0x017ff000 . 10.64.1.0 . 10.20.0.1 . 17 . 124 }", proof.Violated, ">124"},
	{"another address of this box", "add element inet shekara flow4_28_32_16 { 0x017ff000 . 10.64.1.0 . 10.20.0.2 . 17 . 123 }", proof.Violated, "> 10.20.0.2 udp"},
	{"whoever opened to this box goes on", "insert rule inet shekara input ct state established ct direction original jump verify", proof.Violated, "established, original direction"},
	{"answers that nobody judges", "flush chain inet shekara answer_output", proof.Violated, "passes, but the policy does not allow it"},
	{"no answers of a service", "insert rule inet shekara into_tunnel ct direction reply udp sport 123 drop", proof.Violated, "is stopped"},
	{"answers of what is no service", "insert rule inet shekara into_tunnel ct direction reply udp sport 124 accept", proof.Violated, "124>"},

	// Tables of others.
	{"a table that drops", "add table inet x; add chain inet x f { type filter hook forward priority -10; }; add rule inet x f tcp dport 443 drop", proof.Violated, "table inet x"},
	{"a table that rejects in one family", "add table ip x; add chain ip x f { type filter hook forward priority 10; }; add rule ip x f ip daddr 10.20.0.10 reject", proof.Violated, "table ip x, chain f, handle 2: ip daddr 10.20.0.10 reject"},
	{"a table whose policy drops", "add table ip6 x; add chain ip6 x f { type filter hook forward priority 10; policy drop; }", proof.Violated, "table ip6 x, chain f, handle 0: policy drop"},
	{"a table that marks connections", "add table inet x; add chain inet x f { type filter hook forward priority -10; }; add rule inet x f iifname sk-agencies ct mark set 0x01403001", proof.Violated, "connection mark 0x01403001"},
	{"a table that marks connections from themselves", "add table inet x; add chain inet x f { type filter hook forward priority -10; }; add rule inet x f ct mark set ct mark or 1", proof.Indeterminate, "table inet x, chain f, handle"},
	{"a table that marks at our priority", "add table inet x; add chain inet x f { type filter hook forward priority 0; }; add rule inet x f ct mark set 1", proof.Indeterminate, "one priority"},
	{"a table that asks for marks at our priority", "add table inet x; add chain inet x f { type filter hook forward priority 0; }; add rule inet x f meta mark 1 drop", proof.Indeterminate, "one priority"},
	{"a table that drops at our priority", "add table inet x; add chain inet x f { type filter hook forward priority 0; }; add rule inet x f tcp dport 443 drop", proof.Violated, "table inet x, chain f, handle"},
	{"a table that accepts at our priority", "add table inet x; add chain inet x f { type filter hook forward priority 0; }; add rule inet x f accept", proof.Proved, ""},
	{"translation", "add table ip x; add chain ip x p { type nat hook postrouting priority 100; }; add rule ip x p masquerade", proof.Violated, "translated to another address than the policy says (table ip x, chain p"},
	{"translation that no packet meets", "add table ip x; add chain ip x p { type nat hook postrouting priority 100; }; add rule ip x p oifname nowhere masquerade", proof.Violated, "out nowhere"},
	{"translation that no chain leads to", "add table ip x; add chain ip x p { type nat hook postrouting priority 100; }; add chain ip x q; add rule ip x q masquerade", proof.Proved, ""},
	{"translation that a chain leads to", "add table ip x; add chain ip x p { type nat hook postrouting priority 100; }; add chain ip x q; add rule ip x q masquerade; add rule ip x p ip daddr vmap { 10.20.0.10 : jump q }", proof.Violated, "translated to another address than the policy says (table ip x, chain q"},
	{"chains of nat that let all pass", "add table ip x; add chain ip x p { type nat hook postrouting priority 100; }; add chain ip x o { type nat hook prerouting priority -100; }; add rule ip x p oifname dmz0.100 accept; add rule ip x o counter", proof.Proved, ""},
	{"a chain of nat that drops", "add table ip x; add chain ip x p { type nat hook postrouting priority 100; }; add rule ip x p ip daddr 10.20.0.10 drop", proof.Violated, "ip daddr 10.20.0.10 drop"},
	{"a chain of nat whose policy drops", "add table ip x; add chain ip x p { type nat hook postrouting priority 100; policy drop; }", proof.Violated, "table ip x, chain p, handle 0: policy drop"},
	{"a chain of nat that drops by a map", "add table ip x; add chain ip x p { type nat hook prerouting priority -100; }; add rule ip x p ip daddr vmap { 10.20.0.10 : drop }", proof.Violated, "table ip x, chain p, handle"},
	{"what is not modelled in a chain that nothing leads to", "add table ip x; add chain ip x q; add rule ip x q tcp dport 80 redirect; add rule ip x q ip dscp 4 drop", proof.Proved, ""},
	{"a conntrack zone in a chain that nothing leads to", "add table inet x; add chain inet x q; add rule inet x q ct zone set 5", proof.Proved, ""},
	{"translation to this box", "add table ip x; add chain ip x p { type nat hook prerouting priority -100; }; add rule ip x p tcp dport 80 redirect", proof.Indeterminate, "redirect"},
	{"translation to another port", "add table ip x; add chain ip x p { type nat hook prerouting priority -100; }; add rule ip x p tcp dport 80 dnat to 10.20.0.10:443", proof.Indeterminate, "dnat"},
	{"a rate", "insert rule inet shekara forward limit rate 1/second accept", proof.Indeterminate, "a rate decides"},
	{"a rate that drops", "insert rule inet shekara forward limit rate over 1/second tcp dport 443 drop", proof.Indeterminate, "a rate decides"},
	{"a rate that marks", "insert rule inet shekara forward limit rate 1/second log meta mark set 1", proof.Indeterminate, "a rate decides"},
	{"a rate by a name", "add limit inet shekara l { rate 1/second }; insert rule inet shekara forward limit name l goto pass", proof.Indeterminate, "a rate decides"},
	{"a rate by which is only logged", `insert rule inet shekara forward limit rate 1/second tcp dport 443 log prefix "x" group 7 counter`, proof.Proved, ""},
	{"records are gone", "delete rule inet shekara forward.no_flow handle <forward.no_flow|limit>", proof.Proved, ""},
	{"what is over the rate of records passes", "insert rule inet shekara forward.no_flow limit rate over 5/second accept", proof.Indeterminate, "chain forward.no_flow"},
	{"untracked", "insert rule inet shekara prerouting notrack", proof.Indeterminate, "notrack"},
	{"elements that expire", "add set inet shekara s { type ipv4_addr; flags timeout; }", proof.Indeterminate, "set s: flag timeout"},
	{"before fragments are whole", "add table inet x; add chain inet x f { type filter hook prerouting priority -450; }; add rule inet x f udp dport 53 drop", proof.Indeterminate, "fragments"},
	{"before fragments are whole, by what each of them has", "add table inet x; add chain inet x f { type filter hook prerouting priority -450; }; add rule inet x f ip daddr 10.20.0.99 counter", proof.Proved, ""},
	{"a conntrack zone", "add table inet x; add chain inet x f { type filter hook prerouting priority -450; }; add rule inet x f iifname sk-agencies ct zone set 5", proof.Violated, "another conntrack zone"},
	{"a bridge", "add table bridge x; add chain bridge x f { type filter hook forward priority 0; }", proof.Indeterminate, "bridge"},
	{"an ingress hook", "add table netdev x; add chain netdev x f { type filter hook ingress device lo priority 0; }", proof.Indeterminate, "ingress"},
	{"another address type", "insert rule inet shekara forward fib daddr type broadcast accept", proof.Indeterminate, "fib daddr type"},
	{"a field that is not modelled", "insert rule inet shekara forward ip dscp 4 accept", proof.Indeterminate, "dscp"},
}

func sitePolicy(t testing.TB) firewall.Policy { return firewalltest.Example(t, "site") }

var named = regexp.MustCompile(`<([^|]*)\|([^>]*)>`)

// TestMutations: every change that lets one packet more or one less through is found, with a packet that shows it, and what is not
// understood is named. What changes nothing is still proved, so that the proof is not mere comparison.
func TestMutations(t *testing.T) { mutate(t, sitePolicy(t), mutations) }

func mutate(t *testing.T, policy firewall.Policy, mutations []mutation) {
	t.Helper()
	probetest.Need(t, probe.NFTables)
	host := nstest.Host(t, "box")
	host.Run("ip", "link", "set", "lo", "up")
	rules, err := firewall.Compile(policy)
	if err != nil {
		t.Fatal(err)
	}
	text, err := rules.Text(1)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "rules.nft")
	load := func(script string) {
		if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
			t.Fatal(err)
		}
		host.Run("nft", "-f", file)
	}
	var prover proof.Prover
	for _, m := range mutations {
		t.Run(m.name, func(t *testing.T) {
			load("flush ruleset\n" + text)
			if m.change != "" {
				load(named.ReplaceAllStringFunc(m.change, func(name string) string {
					parts := named.FindStringSubmatch(name)
					for line := range strings.Lines(host.Run("nft", "-n", "-a", "list", "chain", "inet", "shekara", parts[1])) {
						if rule, handle, found := strings.Cut(line, " # handle "); found && strings.Contains(rule, parts[2]) && !strings.HasSuffix(rule, "{") {
							return strings.TrimSpace(handle)
						}
					}
					t.Fatalf("no rule is %s", name)
					return ""
				}) + "\n")
			}
			loaded, err := proof.Decode([]byte(host.Run("nft", "-n", "-j", "list", "ruleset")))
			if err != nil {
				t.Fatal(err)
			}
			result, err := prover.Prove(t.Context(), loaded, policy)
			if err != nil {
				t.Fatal(err)
			}
			said := strings.Join(result.Reasons, "\n")
			for _, v := range result.Violations {
				said += fmt.Sprintf("\n%s, %s: %s", v.Path, v.Class, v)
			}
			t.Log(said)
			if result.Verdict != m.want || !strings.Contains(said, m.says) {
				t.Errorf("%s, want %s and %q", result.Verdict, m.want, m.says)
			}
		})
	}
}
