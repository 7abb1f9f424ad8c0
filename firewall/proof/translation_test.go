package proof_test

import (
	"strings"
	"testing"

	"shekara/firewall/firewalltest"
	"shekara/firewall/proof"
	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
)

const (
	oneZone   = "add table inet x; add chain inet x f { type filter hook prerouting priority -460; }; add rule inet x f ct zone set 5"
	toMapped  = "nat_prerouting handle <nat_prerouting|ip daddr map>"
	fromLater = "delete chain inet shekara postrouting; add chain inet shekara postrouting { type filter hook postrouting priority 50; }; add rule inet shekara postrouting oifname vmap { sk-b : goto leave_device_sk-b, sk-c : goto leave_device_sk-c }"
	noZones   = `flush chain inet shekara zone_device_sk-a; add rule inet shekara zone_device_sk-a meta mark set 0x534d0001;
		flush chain inet shekara zone_device_sk-b; add rule inet shekara zone_device_sk-b meta mark set 0x534d0002;
		delete rule inet shekara zones_prerouting handle <zones_prerouting|ct zone set ip daddr>; delete rule inet shekara zones_prerouting handle <zones_prerouting|ct zone set ip6 daddr>;
		delete rule inet shekara zones_output handle <zones_output|ct zone>`
)

// translated are mutations of testdata/translated.txtar: two agencies with one range, mapped here, of which the second and a third see one
// address for all hosts on this side, or one for each.
var translated = []mutation{
	// Nothing that matters.
	{"nothing", "", proof.Proved, ""},
	{"one map in two rules", "delete rule inet shekara " + toMapped + "; add rule inet shekara nat_prerouting dnat ip prefix to ip daddr map { 10.64.2.0/28 : 192.168.1.0/28 }; add rule inet shekara nat_prerouting dnat ip prefix to ip daddr map { 10.64.1.0/28 : 192.168.1.0/28 }", proof.Proved, ""},
	{"a zone of another number", `flush chain inet shekara zone_device_sk-a; add rule inet shekara zone_device_sk-a ct zone set 7 meta mark set 0x534d0001;
		delete rule inet shekara zones_prerouting handle <zones_prerouting|ct zone set ip daddr>; add rule inet shekara zones_prerouting ct zone set ip daddr map { 10.64.1.0/28 : 7, 10.64.2.0/28 : 2 };
		flush chain inet shekara zones_output; add rule inet shekara zones_output ct zone set oifname map { sk-a : 7, sk-b : 2 }; add rule inet shekara zones_output meta mark set ip daddr map { 10.64.1.0/28 : 0x534d0001, 10.64.2.0/28 : 0x534d0002 }; add rule inet shekara zones_output meta mark set ip6 daddr map { fd00:64:2::/64 : 0x534d0002 }`, proof.Proved, ""},
	{"a prefix too wide for those that are in it", "delete rule inet shekara " + toMapped + "; add rule inet shekara nat_prerouting dnat ip prefix to ip daddr map { 10.64.1.0/28 : 192.168.1.0/28, 10.64.2.0/28 : 192.168.1.0/27 }", proof.Proved, ""},
	{"no zones at all, as none of both is reached by the same addresses", noZones, proof.Proved, ""},
	{"the same source by a range of one", "delete rule inet shekara hide_device_sk-c handle <hide_device_sk-c|snat>; add rule inet shekara hide_device_sk-c ip saddr 10.30.1.0/24 snat ip to 10.20.0.253-10.20.0.253", proof.Proved, ""},
	{"ports at random", "delete rule inet shekara hide_device_sk-c handle <hide_device_sk-c|snat>; add rule inet shekara hide_device_sk-c ip saddr 10.30.1.0/24 snat ip to 10.20.0.253 fully-random", proof.Proved, ""},
	{"hidden hosts that no flow lets out are hidden otherwise", "insert rule inet shekara hide_device_sk-b ip saddr 10.30.0.16/28 snat ip to 10.20.0.254", proof.Proved, ""},

	// Another address than the policy says.
	{"one agency is known by the other's addresses", "flush chain inet shekara known_device_sk-b; add rule inet shekara known_device_sk-b snat ip prefix to ip saddr map { 192.168.1.0/28 : 10.64.1.0/28 }; add rule inet shekara known_device_sk-b snat ip6 prefix to ip6 saddr map { fd00:1::/64 : fd00:64:2::/64 }", proof.Violated, "becomes 10.64.1."},
	{"an agency is known by its own addresses", "flush chain inet shekara known_device_sk-a", proof.Violated, "in sk-a out lan0 192.168.1."},
	{"a device forgotten", `delete rule inet shekara nat_postrouting handle <nat_postrouting|iifname>; add rule inet shekara nat_postrouting iifname vmap { "sk-a" : goto known_device_sk-a }`, proof.Violated, "in sk-b out lan0 192.168.1."},
	{"a wrong target", "delete rule inet shekara " + toMapped + "; add rule inet shekara nat_prerouting dnat ip prefix to ip daddr map { 10.64.1.0/28 : 192.168.1.0/28, 10.64.2.0/28 : 192.168.2.0/28 }", proof.Violated, "192.168.2."},
	{"one target for all", "delete rule inet shekara " + toMapped + "; add rule inet shekara nat_prerouting dnat ip to ip daddr map { 10.64.1.0/28 : 192.168.1.5, 10.64.2.0/28 : 192.168.1.5 }", proof.Violated, "192.168.1.5"},
	{"a prefix of another length", "delete rule inet shekara " + toMapped + "; add rule inet shekara nat_prerouting dnat ip prefix to ip daddr map { 10.64.1.0/28 : 192.168.1.0/28, 10.64.2.0/28 : 192.168.1.0/29 }", proof.Violated, "another address"},
	{"half a prefix", "delete rule inet shekara " + toMapped + "; add rule inet shekara nat_prerouting dnat ip prefix to ip daddr map { 10.64.1.0/28 : 192.168.1.0/28, 10.64.2.0/29 : 192.168.1.0/29 }", proof.Violated, "> 10.64.2."},
	{"any of some", "delete rule inet shekara " + toMapped + "; add rule inet shekara nat_prerouting dnat ip to ip daddr map { 10.64.1.0/28 : 192.168.1.0-192.168.1.15, 10.64.2.0/28 : 192.168.1.0-192.168.1.15 }", proof.Violated, "another address"},
	{"IPv6 is not translated", "delete rule inet shekara nat_prerouting handle <nat_prerouting|ip6 daddr map>", proof.Violated, "> fd00:64:2:"},
	{"this box is forgotten", "flush chain inet shekara nat_output", proof.Violated, "output, new: out sk-"},
	{"the host shown is another", "flush chain inet shekara shown_device_sk-b; add rule inet shekara shown_device_sk-b dnat ip prefix to ip daddr map { 10.20.0.16/28 : 10.30.0.0/28 }", proof.Violated, "becomes 10.64.2"},
	{"the host shown is none", "flush chain inet shekara shown_device_sk-b", proof.Violated, "> 10.20.0.18"},
	{"a rule of others for what no rule of ours is for", "add table ip x; add chain ip x p { type nat hook postrouting priority 110; }; add rule ip x p masquerade", proof.Violated, "table ip x, chain p"},
	{"a rule of others before ours", "add table inet x; add chain inet x p { type nat hook prerouting priority -110; }; add rule inet x p iifname sk-b dnat ip to 10.30.0.99", proof.Violated, "10.30.0.99"},

	// Zones.
	{"a zone missing", "flush chain inet shekara zone_device_sk-b; add rule inet shekara zone_device_sk-b meta mark set 0x534d0002", proof.Violated, "another conntrack zone"},
	{"a zone missing on the way back", "delete rule inet shekara zones_prerouting handle <zones_prerouting|ct zone set ip daddr>", proof.Violated, "another conntrack zone"},
	{"one zone for all that arrives", oneZone, proof.Violated, "another conntrack zone than its connection's (table inet"},
	{"a zone for what has none, on arrival alone", "insert rule inet shekara prerouting ct zone set 9", proof.Violated, "(table inet shekara, chain prerouting, handle"},
	{"zones swapped on the way back", "delete rule inet shekara zones_prerouting handle <zones_prerouting|ct zone set ip daddr>; add rule inet shekara zones_prerouting ct zone set ip daddr map { 10.64.1.0/28 : 2, 10.64.2.0/28 : 1 }", proof.Violated, "another conntrack zone"},

	// What is to be hidden.
	{"no rule that hides", "flush chain inet shekara hide_device_sk-c", proof.Violated, "chain postrouting.unhidden"},
	{"no rule that hides, and no last check", "flush chain inet shekara hide_device_sk-c; flush chain inet shekara leave_device_sk-c", proof.Violated, "leaves with a source that is to be hidden"},
	{"no last check", "flush chain inet shekara leave_device_sk-c", proof.Violated, "established, original direction: in lan0 out sk-c"},
	{"a last check that lets more pass", "insert rule inet shekara leave_device_sk-b ip saddr 10.30.1.7 accept", proof.Violated, "10.30.1.7"},
	{"a last check without one address", "flush chain inet shekara leave_device_sk-b; add rule inet shekara leave_device_sk-b ip saddr 10.20.0.16/28 accept; add rule inet shekara leave_device_sk-b ip6 saddr fd00:20::fe accept; add rule inet shekara leave_device_sk-b goto postrouting.unhidden", proof.Violated, "is stopped"},
	{"a last check too early", fromLater, proof.Violated, "is stopped"},
	{"a last check for one device", `flush chain inet shekara postrouting; add rule inet shekara postrouting oifname vmap { "sk-b" : goto leave_device_sk-b }`, proof.Violated, "out sk-c"},
	{"hidden in the wrong order", "insert rule inet shekara hide_device_sk-b ip saddr 10.30.1.0/25 snat ip to 10.20.0.17", proof.Violated, "becomes 10.20.0.17"},
	{"hidden behind the other device's address", "insert rule inet shekara hide_device_sk-b ip saddr 10.30.1.0/24 snat ip to 10.20.0.253", proof.Violated, "is stopped"},
	{"accepted before it is hidden", "insert rule inet shekara nat_postrouting ip saddr 10.30.1.7 accept", proof.Violated, "10.30.1.7"},
	{"a rule of others hides it before", "add table ip x; add chain ip x p { type nat hook postrouting priority 90; }; add rule ip x p oifname sk-c snat to 10.30.1.1", proof.Violated, "is stopped"},

	// Marks.
	{"what is for mapped hosts is not marked", "delete rule inet shekara zones_output handle <zones_output|mark set ip daddr>", proof.Violated, "out ext0"},
	{"a mark taken away", "add table inet x; add chain inet x f { type filter hook output priority -440; }; add rule inet x f meta mark set 0", proof.Violated, "out ext0"},
	{"a mark of a connection forged", "add table inet x; add chain inet x f { type filter hook forward priority -10; }; add rule inet x f iifname lan0 oifname sk-c ct mark set 0x00806001", proof.Violated, "connection mark 0x00806001"},
	{"a mark of a packet forged for sealed ones", "add table inet x; add chain inet x f { type filter hook output priority -10; }; add rule inet x f ip daddr 198.51.100.99 meta mark set 0x534b0001", proof.Violated, "198.51.100.99"},

	// What is not modelled.
	{"a zone of one direction", "insert rule inet shekara zones_prerouting ct original zone set 3", proof.Indeterminate, "zone"},
	{"a state before conntrack", "insert rule inet shekara prerouting ct state new drop", proof.Indeterminate, "ct state before conntrack"},
	{"a rule of others at our priority", "add table ip x; add chain ip x p { type nat hook postrouting priority 100; }; add rule ip x p oifname ext0 masquerade", proof.Indeterminate, "one priority"},
	{"a filter at the priority of translation", "add table ip x; add chain ip x p { type filter hook postrouting priority 100; }", proof.Indeterminate, "at the priority of translation"},
	{"a port", "insert rule inet shekara nat_prerouting tcp dport 80 dnat ip to 10.30.0.18:443", proof.Indeterminate, "dnat"},
}

// TestTranslatedMutations: the same of rules that translate.
func TestTranslatedMutations(t *testing.T) {
	mutate(t, firewalltest.Example(t, "translated"), translated)
}

// TestEqualAgencies: where two agencies with one range reach the same host by the same address, zones alone tell them apart.
func TestEqualAgencies(t *testing.T) {
	p := firewalltest.Example(t, "translated")
	p.Devices[1].Translation.Local, p.Probes = nil, nil
	mutate(t, p, []mutation{
		{"nothing", "", proof.Proved, ""},
		{"no zones at all", noZones, proof.Violated, "established, original direction, becomes 10.64."},
		{"one zone for all that arrives", oneZone, proof.Violated, "established, original direction, becomes 10.64."},
		{"a zone less", "flush chain inet shekara zone_device_sk-b; add rule inet shekara zone_device_sk-b meta mark set 0x534d0002", proof.Violated, "another conntrack zone"},
	})
}

// TestWhatTheKernelDoes: the model says that chains of type nat are asked at the priority of translation, whatever their own, and that of
// several zones for a packet the first counts.
func TestWhatTheKernelDoes(t *testing.T) {
	probetest.Need(t, probe.NFTables, probe.Conntrack, probe.Tool("conntrack"))
	host := nstest.Host(t, "box")
	host.Run("ip", "link", "set", "lo", "up")
	host.RunInput(`table ip x {
		chain n { type nat hook output priority -150; ip daddr 127.0.0.2 dnat to 127.0.0.3
		}
		chain before { type filter hook output priority -120; ip daddr 127.0.0.2 counter
		}
		chain behind { type filter hook output priority -90; ip daddr 127.0.0.3 counter
		}
		chain z { type filter hook output priority -450; ct zone set 1; ct zone set 2
		}
		chain zz { type filter hook output priority -300; ct zone set 3
		}
		chain back { type filter hook prerouting priority -300; ct zone set 1
		}
	}
	`, "nft", "-f", "-")
	host.Run("ping", "-n", "-c", "1", "-W", "5", "127.0.0.2")
	for _, chain := range []string{"before", "behind"} {
		if out := host.Run("nft", "list", "chain", "ip", "x", chain); !strings.Contains(out, "counter packets 1 ") {
			t.Errorf("%s translation: %s", chain, out)
		}
	}
	if out := host.Run("conntrack", "-L"); !strings.Contains(out, "dst=127.0.0.2") || !strings.Contains(out, "zone=1 ") {
		t.Errorf("%s", out)
	}
}
