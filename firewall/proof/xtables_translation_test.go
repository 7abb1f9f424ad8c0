package proof_test

import (
	"testing"

	"shekara/firewall/proof"
)

// otherNAT are rules of others in nat, before ours.
func otherNAT(builtin, rule string) [2]string {
	jump := "-A " + builtin + " -j SHEKARA-a-nat-"
	return [2]string{jump, "-A " + builtin + " " + rule + "\n" + jump}
}

// xtTranslated are mutations of what iptables holds of testdata/translated.txtar: what those of nftables are in translation_test.go.
func xtTranslated() []xtMutation {
	masquerade, dnat, accept := otherNAT("POSTROUTING", "-o ext0 -j MASQUERADE"), otherNAT("PREROUTING", "-i sk-b -j DNAT --to-destination 10.30.0.99"), otherNAT("POSTROUTING", "-s 10.30.1.7/32 -j ACCEPT")
	const (
		toFar  = "-A SHEKARA-a-nat-prerouting -d 10.64.2.0/28 -j NETMAP --to 192.168.1.0/28\n"
		known  = "-A SHEKARA-a-known-05 -s 192.168.1.0/28 -j NETMAP --to 10.64.2.0/28\n"
		hide   = "-A SHEKARA-a-hide-06 -s 10.30.1.0/24 -j SNAT --to-source 10.20.0.253\n"
		shown  = "-A SHEKARA-a-shown-05 -d 10.20.0.16/28 -j NETMAP --to 10.30.0.16/28\n"
		own    = "-A SHEKARA-a-nat-output -d 10.64.1.0/28 -j NETMAP --to 192.168.1.0/28\n"
		from   = "-A SHEKARA-a-zones-from -i sk-b -j CT --zone 2\n"
		to     = "-A SHEKARA-a-zones-to -d 10.64.2.0/28 -j CT --zone 2\n"
		last   = "-A SHEKARA-a-unhidden-06 -g SHEKARA-postrouting.unhidden\n"
		leave  = "-A SHEKARA-a-leave-06 -g SHEKARA-postrouting.unhidden\n"
		errors = "-A SHEKARA-a-errors-05 -m conntrack --ctstate SNAT -m conntrack --ctrepldst 10.20.0.254 --ctdir ORIGINAL -j RETURN\n"
		guard  = "-m mark --mark 0xa080000/0xfffc0000 -m conntrack --ctstate DNAT --ctorigdst 10.20.0.16/28 -m set --match-set shekara-a4-00001-0282n dst,dst"
		marked = "-A SHEKARA-a-into-tunnel -m mark --mark 0x0 -m set --match-set shekara-a4-marks dst,dst -g SHEKARA-output.no_flow\n"
	)
	return []xtMutation{
		// Nothing that matters.
		{"nothing", "4", hide, hide, proof.Proved, ""},
		{"the same source by a range of one", "4", hide, "-A SHEKARA-a-hide-06 -s 10.30.1.0/24 -j SNAT --to-source 10.20.0.253-10.20.0.253:1024-65535 --random\n", proof.Proved, ""},
		{"the same target by another name", "4", shown, "-A SHEKARA-a-shown-05 -d 10.20.0.18/32 -j DNAT --to-destination 10.30.0.18\n" + shown, proof.Proved, ""},
		{"hidden hosts that no flow lets out are hidden otherwise", "4", "-A SHEKARA-a-hide-05 -s 10.30.0.16/28", "-A SHEKARA-a-hide-05 -s 10.30.0.16/28 -j SNAT --to-source 10.20.0.254\n-A SHEKARA-a-hide-05 -s 10.30.0.16/28", proof.Proved, ""},

		// Another address than the policy says.
		{"one agency is known by the other's addresses", "4", known, "-A SHEKARA-a-known-05 -s 192.168.1.0/28 -j NETMAP --to 10.64.1.0/28\n", proof.Violated, "becomes 10.64.1."},
		{"an agency is known by its own addresses", "4", known, "", proof.Violated, "in sk-b out lan0 192.168.1."},
		{"a wrong target", "4", toFar, "-A SHEKARA-a-nat-prerouting -d 10.64.2.0/28 -j NETMAP --to 192.168.1.16/28\n", proof.Violated, "> 10.64.2."},
		{"one target for all", "4", toFar, "-A SHEKARA-a-nat-prerouting -d 10.64.2.0/28 -j DNAT --to-destination 192.168.1.5\n", proof.Violated, "another address"},
		{"half a prefix", "4", toFar, "-A SHEKARA-a-nat-prerouting -d 10.64.2.0/29 -j NETMAP --to 192.168.1.0/29\n", proof.Violated, "> 10.64.2."},
		{"IPv6 is not translated", "6", "-A SHEKARA-a-nat-prerouting -d fd00:64:2::/64 -j NETMAP", "-A SHEKARA-a-nat-prerouting -d fd00:64:3::/64 -j NETMAP", proof.Violated, "> fd00:64:2:"},
		{"this box is forgotten", "4", own, "", proof.Violated, "output out sk-a"},
		{"the host shown is none", "4", shown, "", proof.Violated, "> 10.20.0.18"},
		{"somebody's masquerade", "4", masquerade[0], masquerade[1], proof.Violated, "rule 1: -o ext0 -j MASQUERADE"},
		{"somebody's target", "4", dnat[0], dnat[1], proof.Violated, "10.30.0.99"},

		// Zones.
		{"a zone missing", "4", from, "", proof.Violated, "another conntrack zone"},
		{"a zone missing on the way back", "4", to, "", proof.Violated, "another conntrack zone"},
		{"another zone", "4", to, "-A SHEKARA-a-zones-to -d 10.64.2.0/28 -j CT --zone 3\n", proof.Violated, "another conntrack zone"},
		{"a zone of one direction", "4", to, "-A SHEKARA-a-zones-to -d 10.64.2.0/28 -j CT --zone-orig 2\n", proof.Indeterminate, "CT --zone-orig 2"},
		{"a mapped range without its zone", "sets", "add shekara-a4-mapped 10.64.2.0/28 skbmark 0x534c0002\n", "", proof.Violated, "another conntrack zone"},

		// What is to be hidden.
		{"no rule that hides", "4", hide, "", proof.Violated, "chain SHEKARA-postrouting.unhidden"},
		{"no last look at first packets", "4", last, "", proof.Proved, ""}, // what hides is for all that may pass
		{"no last look at others", "4", leave, "", proof.Violated, "leaves with a source that is to be hidden"},
		{"a last look that lets more pass", "4", "-A SHEKARA-a-leave-06 -m conntrack --ctrepldst 10.20.0.253", "-A SHEKARA-a-leave-06 -s 10.30.1.7/32 -j RETURN\n-A SHEKARA-a-leave-06 -m conntrack --ctrepldst 10.20.0.253", proof.Violated, "10.30.1.7"},
		{"a last look without one address", "4", "-A SHEKARA-a-leave-06 -m conntrack --ctrepldst 10.20.0.253 --ctdir ORIGINAL -j RETURN\n", "", proof.Violated, "is stopped"},
		{"answers are looked at as openings", "4", "-A SHEKARA-a-leave-05 -m conntrack --ctorigdst 10.20.0.16/28 --ctdir REPLY", "-A SHEKARA-a-leave-05 -m conntrack --ctrepldst 10.20.0.16/28 --ctdir REPLY", proof.Violated, "reply direction"},
		{"errors of what is hidden", "4", errors, "-A SHEKARA-a-errors-05 -m conntrack --ctdir ORIGINAL -j RETURN\n", proof.Violated, "related, original direction"},
		{"hidden in the wrong order", "4", "-A SHEKARA-a-hide-05 -s 10.30.0.16/28", "-A SHEKARA-a-hide-05 -s 10.30.1.0/25 -j SNAT --to-source 10.20.0.17\n-A SHEKARA-a-hide-05 -s 10.30.0.16/28", proof.Violated, "becomes 10.20.0.17"},
		{"accepted before it is hidden", "4", accept[0], accept[1], proof.Violated, "10.30.1.7"},

		// What was translated, and marks.
		{"not where it was", "4", guard, "-m mark --mark 0xa080000/0xfffc0000 -m conntrack --ctstate DNAT -m set --match-set shekara-a4-00001-0282n dst,dst", proof.Violated, "> 198.51.100."},
		{"whether translated or not", "4", guard, "-m mark --mark 0xa080000/0xfffc0000 -m set --match-set shekara-a4-00001-0282n dst,dst", proof.Violated, "in sk-b out lan0"},
		{"never what was translated", "4", guard, "-m mark --mark 0xa080000/0xfffc0000 -m conntrack ! --ctstate DNAT -m set --match-set shekara-a4-00001-0282n dst,dst", proof.Violated, "is stopped"},
		{"a packet of this box that is not marked", "4", marked, "", proof.Indeterminate, "routed anew"},
		{"a mark too much", "4", "-A SHEKARA-a-marked -o sk-a -m mark --mark 0x534d0001", "-A SHEKARA-a-marked -o sk-a -m mark --mark 0x534d0002", proof.Indeterminate, "routed anew"},
		{"a queue that others read", "4", "NFQUEUE --queue-num 21323", "NFQUEUE --queue-num 1", proof.Indeterminate, "NFQUEUE --queue-num 1"},
		{"a queue that is passed by", "4", "NFQUEUE --queue-num 21323", "NFQUEUE --queue-num 21323 --queue-bypass", proof.Indeterminate, "--queue-bypass"},
	}
}

// TestXTablesTranslatedMutations: what TestTranslatedMutations says, of rules that iptables holds.
func TestXTablesTranslatedMutations(t *testing.T) { mutateSaved(t, "translated", xtTranslated()) }
