package proof_test

import (
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"shekara/firewall/firewalltest"
	"shekara/firewall/proof"
)

// saved is what was saved of the rules of ../testdata/site.txtar, by section: "4", "6" and "sets".
func saved(t testing.TB) map[string]string { return savedOf(t, "site") }

func savedOf(t testing.TB, name string) map[string]string {
	t.Helper()
	archive, err := txtar.ParseFile(filepath.Join("testdata", name+".iptables.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, f := range archive.Files {
		out[f.Name] = string(f.Data)
	}
	return out
}

func kernelOf(sections map[string]string, legacy bool) proof.Kernel {
	return proof.Kernel{XTables: []proof.XTables{{Legacy: legacy, Saved: []byte(sections["4"])}, {IPv6: true, Legacy: legacy, Saved: []byte(sections["6"])}}, Sets: []byte(sections["sets"])}
}

// xtMutation replaces the first text of a section by another, and what the proof must say then.
type xtMutation struct {
	name, section string
	old, new      string
	want          proof.Verdict
	says          string // in a witness with its rule, or in a reason
}

const (
	forward = "-A FORWARD -j SHEKARA-a-forward\n"
	input   = "-A INPUT -j SHEKARA-a-input\n"
	filter  = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n"
	end     = "COMMIT\n"
)

// beside is a table of others behind ours.
func beside(rules string) string { return end + filter + rules + end }

var xtMutations = []xtMutation{
	// Nothing that matters.
	{"nothing", "4", forward, forward, proof.Proved, ""},
	{"a comment", "4", forward, "-A FORWARD -m comment --comment \"a \\\"note\\\"\"\n" + forward, proof.Proved, ""},
	{"a record", "4", forward, "-A FORWARD -p tcp -m tcp --dport 22 -m limit --limit 1/sec -j LOG --log-prefix \"x \"\n" + forward, proof.Proved, ""},
	{"an accept of what passes anyway", "4", input, input + "-A INPUT -i lo -j ACCEPT\n", proof.Proved, ""},
	{"a drop that is met already", "4", forward, forward + "-A FORWARD -m conntrack --ctstate INVALID -j DROP\n", proof.Proved, ""},
	{"records are gone", "4", "-A SHEKARA-forward.no_flow -m limit", "-A SHEKARA-forward.no_flow -p udp -m limit", proof.Proved, ""},
	{"no MSS", "4", "-A SHEKARA-a-judge-forward -p tcp -m tcp --tcp-flags SYN,RST SYN -j SHEKARA-a-mss\n", "", proof.Proved, ""},
	{"a chain that nothing leads to", "4", ":SHEKARA-a-open - [0:0]\n", ":SHEKARA-a-open - [0:0]\n:others - [0:0]\n-A others -j ACCEPT\n", proof.Proved, ""},
	{"a set that no rule asks", "sets", "create shekara-a4-any", "create others list:set size 8\ncreate shekara-a4-any", proof.Proved, ""},

	// Rules added.
	{"everything is forwarded", "4", forward, "-A FORWARD -j ACCEPT\n" + forward, proof.Violated, "table ip mangle, chain FORWARD, rule 1: -j ACCEPT"},
	{"one host is forwarded", "4", forward, "-A FORWARD -s 10.64.1.33/32 -i sk-agencies -o adm0 -j ACCEPT\n" + forward, proof.Violated, "in sk-agencies out adm0 10.64.1.33 > "},
	{"ports are forwarded in our chain", "4", "-A SHEKARA-a-forward-open -j SHEKARA-a-begin\n", "-A SHEKARA-a-forward-open -i dmz0+ -o ext0 -p udp -m multiport --dports 53,60:61 -j RETURN\n-A SHEKARA-a-forward-open -j SHEKARA-a-begin\n", proof.Violated, "chain SHEKARA-a-forward-open, rule 1"},
	{"all but one network", "6", forward, "-A FORWARD ! -d fd00:20::/64 -i sk-agencies -j ACCEPT\n" + forward, proof.Violated, "fd00:64:"},
	{"this box from the internet", "4", input, "-A INPUT -i ext0 -p tcp -m tcp --dport 22 -j ACCEPT\n" + input, proof.Violated, "in ext0"},
	{"a packet mark", "4", "-A SHEKARA-a-judge-output -o lo", "-A SHEKARA-a-judge-output -j MARK --set-xmark 0x534b0001/0xffffffff\n-A SHEKARA-a-judge-output -o lo", proof.Indeterminate, "routed anew"},
	{"a connection mark", "4", "-A SHEKARA-a-forward-open -j SHEKARA-a-begin\n", "-A SHEKARA-a-forward-open -j CONNMARK --set-xmark 0x61007e4/0xffffffff\n-A SHEKARA-a-forward-open -j SHEKARA-a-begin\n", proof.Violated, "passes, but the policy"},
	{"a host drops out", "4", forward, "-A FORWARD -s 10.64.1.5/32 -j REJECT --reject-with icmp-port-unreachable\n" + forward, proof.Violated, "rule 1: -s 10.64.1.5/32 -j REJECT"},

	// Rules removed and changed.
	{"the jump is gone", "4", forward, "", proof.Violated, "policy"},
	{"the jump is behind another's", "4", input, "-A INPUT -s 10.20.0.0/24 -j ACCEPT\n" + input, proof.Violated, "chain INPUT, rule 1"},
	{"no anti-spoofing", "4", "-A PREROUTING -j SHEKARA-a-prerouting\n", "", proof.Violated, "cannot have its source"},
	{"no anti-spoofing of our own addresses", "6", "-A SHEKARA-a-prerouting -m set --match-set shekara-a6-from src,src -m addrtype --src-type LOCAL -g SHEKARA-prerouting.spoofed\n", "", proof.Violated, "cannot have its source"},
	{"nothing is dropped", "4", "-A SHEKARA-forward.no_flow -j DROP\n", "", proof.Violated, ""},
	{"tunnels are not judged", "4", "-A SHEKARA-a-judge-output -m set --match-set shekara-a4-tunnel dst,dst -g SHEKARA-a-into-tunnel\n", "", proof.Violated, "out sk-agencies"},
	{"sealed packets from any address", "4", "-A SHEKARA-a-outer-534b0001 -g SHEKARA-output.wrong_source\n", "", proof.Violated, "mark 0x534b0001"},
	{"short messages to a tunnel port", "4", "-A SHEKARA-a-tunnel-port -m u32", "-A SHEKARA-a-tunnel-port -s 198.51.100.21/32 -m u32", proof.Violated, ">51820"},
	{"other messages to a tunnel port", "6", "0x2c>>0x10=0x28:0xffff", "0x2c>>0x10=0x20:0xffff", proof.Violated, ">51820"},
	{"no path MTU", "4", "-A SHEKARA-a-to-box -p icmp -m icmp --icmp-type 3 -m conntrack --ctstate RELATED -j RETURN\n", "", proof.Violated, "is stopped"},
	{"neighbours behind routers", "6", "--icmpv6-type 135 -m set --match-set shekara-a6-zones src,src -m hl --hl-eq 255 -j RETURN", "--icmpv6-type 135 -m set --match-set shekara-a6-zones src,src -m hl --hl-gt 200 -j RETURN", proof.Violated, "icmpv6 type 135"},
	{"another generation is written", "4", "-A SHEKARA-a-pass -j MARK --set-xmark 0x7e4/0x3ffff", "-A SHEKARA-a-pass -j MARK --set-xmark 0x7e5/0x3ffff", proof.Violated, "is stopped"},
	{"another generation passes", "4", "-A SHEKARA-a-begin -j MARK --set-xmark 0x7e4/0xffffffff", "-A SHEKARA-a-begin -j MARK --set-xmark 0x7e3/0xffffffff", proof.Violated, "connection mark"},
	{"places are not asked", "4", "-A SHEKARA-a-forward-open -j CONNMARK --restore-mark --nfmask 0x0 --ctmask 0xffffffff", "-A SHEKARA-a-forward-open -j MARK --set-xmark 0x7e4/0xffffffff\n-A SHEKARA-a-forward-open -j CONNMARK --restore-mark --nfmask 0x0 --ctmask 0xfff", proof.Violated, "established"},
	{"the mark is replaced, not joined", "4", "-A SHEKARA-a-forward-open -j CONNMARK --restore-mark --nfmask 0x0 --ctmask 0xffffffff", "-A SHEKARA-a-forward-open -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff", proof.Indeterminate, "a mark made from a connection's mark"},
	{"a state and a direction", "4", forward, "-A FORWARD -m conntrack --ctstate NEW --ctdir ORIGINAL -j ACCEPT\n" + forward, proof.Violated, "chain FORWARD, rule 1"},
	{"a state that nothing has, and a direction", "4", forward, "-A FORWARD -m conntrack --ctstate DNAT --ctdir ORIGINAL -j ACCEPT\n" + forward, proof.Proved, ""},
	{"a direction is not asked of what has no connection", "4", forward, "-A FORWARD -m conntrack ! --ctstate NEW,RELATED,ESTABLISHED --ctdir REPLY -j ACCEPT\n" + forward, proof.Violated, "chain FORWARD, rule 1"},
	{"alone it has none", "4", forward, "-A FORWARD -m conntrack --ctdir ORIGINAL -m conntrack ! --ctstate NEW,RELATED,ESTABLISHED -j ACCEPT\n" + forward, proof.Proved, ""},
	{"who opened a connection", "4", forward, "-A FORWARD -m conntrack --ctorigdst 10.20.0.99 --ctdir REPLY -j ACCEPT\n" + forward, proof.Violated, "10.20.0.99 > "},
	{"whom answers are for", "4", forward, "-A FORWARD -m conntrack --ctstate NEW --ctrepldst 10.64.9.0/24 ! --ctstatus CONFIRMED -j ACCEPT\n" + forward, proof.Violated, "10.64.9."},
	{"two places swapped", "4", "-A SHEKARA-a-forward-open -j SET --map-set shekara-a4-to dst,dst --map-mark\n-A SHEKARA-a-forward-open -j SET --map-set shekara-a4-class", "-A SHEKARA-a-forward-open -j SET --map-set shekara-a4-to src,src --map-mark\n-A SHEKARA-a-forward-open -j SET --map-set shekara-a4-class", proof.Violated, ""},
	{"errors are judged", "4", "-A SHEKARA-a-forward-open -m conntrack ! --ctstate NEW,ESTABLISHED", "-A SHEKARA-a-forward-open -m conntrack ! --ctstate NEW,RELATED,ESTABLISHED", proof.Violated, "connection mark"},
	{"one port less in a block", "4", "-A SHEKARA-a-open-00003 -p udp -m multiport --dports 8000:8063", "-A SHEKARA-a-open-00003 -p udp -m multiport --dports 8001:8063", proof.Violated, "8000"},
	{"the class of another", "4", "-A SHEKARA-a-open -m mark --mark 0x3/0xf -g SHEKARA-a-open-00003", "-A SHEKARA-a-open -m mark --mark 0x3/0xf -g SHEKARA-a-open-00002", proof.Violated, ""},

	// Elements of each kind of set.
	{"a port more", "sets", "add shekara-a4-00003-0283 10.20.0.10,tcp:443\n", "add shekara-a4-00003-0283 10.20.0.10,tcp:443\nadd shekara-a4-00003-0283 10.20.0.10,tcp:444\n", proof.Violated, "40000>444"},
	{"a flow less", "sets", "add shekara-a6-00001-0283 fd00:20::10,udp:8100\n", "", proof.Violated, "8100"},
	{"another host behind the tunnel", "sets", "add shekara-a4-class 10.64.1.0/28 skbmark 0x3/0x0", "add shekara-a4-class 10.64.1.0/27 skbmark 0x3/0x0", proof.Violated, "shekara-a4-00003-0283"},
	{"a source of another class", "sets", "add shekara-a4-class 10.20.0.10 skbmark 0x1/0x0", "add shekara-a4-class 10.20.0.10 skbmark 0x3/0x0", proof.Violated, ""},
	{"a longer prefix hides a source", "sets", "add shekara-a4-class 10.20.0.0/24 skbmark 0x2/0x0", "add shekara-a4-class 10.20.0.0/24 skbmark 0x2/0x0\nadd shekara-a4-class 10.20.0.64/26 skbmark 0x0/0x0", proof.Violated, "is stopped"},
	{"no exception in the sources", "sets", "add shekara-a4-source 10.20.0.0/24,ext0 nomatch\n", "", proof.Violated, "in ext0"},
	{"an exception more", "sets", "add shekara-a4-source 10.20.0.0/24,dmz0.100\n", "add shekara-a4-source 10.20.0.0/24,dmz0.100\nadd shekara-a4-source 10.20.0.128/25,dmz0.100 nomatch\n", proof.Violated, "is stopped"},
	{"an exception that matches nothing", "sets", "add shekara-a4-source 10.20.0.0/24,dmz0.100\n", "add shekara-a4-source 10.20.0.0/24,dmz0.100\nadd shekara-a4-source 10.30.0.0/24,dmz0.100 nomatch\n", proof.Proved, ""},
	{"an exception of what is behind tunnels", "sets", "add shekara-a4-far 10.64.0.0/12\n", "add shekara-a4-far 10.64.0.0/12\nadd shekara-a4-far 10.64.8.0/24 nomatch\n", proof.Violated, "10.64.8."},
	{"a place at another interface", "sets", "0.0.0.0/0,ext0 skbmark 0x8000000/0x0", "0.0.0.0/0,ext0 skbmark 0xa000000/0x0", proof.Violated, "in ext0"},
	{"another home of this box", "sets", "add shekara-a4-home 10.64.0.0/12 skbmark 0x4000000/0x0", "add shekara-a4-home 10.64.0.0/12 skbmark 0x6000000/0x0", proof.Proved, ""}, // no flow is from there to a tunnel
	{"who manages", "sets", "add shekara-a4-manage 192.168.100.0/24,adm0\n", "add shekara-a4-manage 192.168.100.0/24,adm0\nadd shekara-a4-manage 10.20.0.0/28,dmz0.100\n", proof.Violated, "in dmz0.100"},
	{"a peer more", "sets", "add shekara-a4-peer 203.0.113.10,udp:51820,198.51.100.20\n", "add shekara-a4-peer 203.0.113.10,udp:51820,198.51.100.20\nadd shekara-a4-peer 203.0.113.10,udp:51820,198.51.100.99\n", proof.Violated, "198.51.100.99 > 203.0.113.10"},
	{"a peer of any port number", "sets", "add shekara-a4-peer 203.0.113.10,udp:51820,198.51.100.20\n", "add shekara-a4-peer 203.0.113.10,tcp:51820,198.51.100.20\n", proof.Violated, "is stopped"},
	{"no tunnel port", "sets", "add shekara-a4-port 203.0.113.10,udp:51820\n", "", proof.Violated, "udp"},
	{"a probe more", "sets", "add shekara-a4-probe-05 10.64.1.1,icmp:echo-request,10.20.0.10\n", "add shekara-a4-probe-05 10.64.1.1,icmp:echo-request,10.20.0.10\nadd shekara-a4-probe-05 10.64.9.9,icmp:8/0,10.20.0.10\n", proof.Violated, "10.64.9.9 > 10.20.0.10 icmp type 8"},
	{"a probe less", "sets", "add shekara-a4-asked 10.64.1.1,sk-agencies\n", "", proof.Violated, "out sk-agencies"},
	{"a tunnel among the zones' links", "sets", "add shekara-a4-zones 0.0.0.0/0,ext0\n", "add shekara-a4-zones 0.0.0.0/0,ext0\nadd shekara-a4-zones 0.0.0.0/0,sk-agencies\n", proof.Violated, "in sk-agencies"},
	{"a device forgotten", "sets", "add shekara-a4-tunnel 0.0.0.0/0,sk-agencies\n", "", proof.Violated, "out sk-agencies"},

	// What this box serves.
	{"a client more", "sets", "add shekara-a4-class 10.64.1.0/28 skbmark 0x3/0x0\n", "add shekara-a4-class 10.64.1.0/28 skbmark 0x3/0x0\nadd shekara-a4-class 10.64.9.0/28 skbmark 0x3/0x0\n", proof.Violated, "> 10.20.0.1 "},
	{"another service", "sets", "add shekara-a4-00003-02ff 10.20.0.1,udp:123\n", "add shekara-a4-00003-02ff 10.20.0.1,udp:123\nadd shekara-a4-00003-02ff 10.20.0.1,udp:124\n", proof.Violated, ">124"},
	{"a service less", "sets", "add shekara-a4-00003-02ff 10.20.0.1,tcp:4460\n", "", proof.Violated, "10.20.0.1 tcp 40000>4460"},
	{"a service at another place", "4", "-A SHEKARA-a-open-00002 -m mark --mark 0x7fc0000/0xfffc0000", "-A SHEKARA-a-open-00002 -m mark --mark 0x9fc0000/0xfffc0000", proof.Violated, "10.20.0.1 udp"},
	{"whoever opened to this box goes on", "4", "-A SHEKARA-a-box-open -j CONNMARK --restore-mark --nfmask 0x0 --ctmask 0xffffffff", "-A SHEKARA-a-box-open -j MARK --set-xmark 0x7e4/0xffffffff\n-A SHEKARA-a-box-open -j CONNMARK --restore-mark --nfmask 0x0 --ctmask 0xfff", proof.Violated, "established"},
	{"no answers of a service", "4", "-A SHEKARA-a-tunnel-answer -j SHEKARA-a-answer\n", "", proof.Violated, "is stopped"},

	// Policies, and tables of others.
	{"a policy that drops", "4", ":FORWARD ACCEPT", ":FORWARD DROP", proof.Violated, "table ip mangle, chain FORWARD, handle 0: policy drop"},
	{"a table that drops", "4", end, beside("-A FORWARD -p tcp -m state --state NEW -m tcp --dport 443 -j DROP\n"), proof.Violated, "table ip filter, chain FORWARD, rule 1"},
	{"a table whose policy drops", "6", end, strings.Replace(beside(""), ":INPUT ACCEPT", ":INPUT DROP", 1), proof.Violated, "table ip6 filter, chain INPUT, handle 0: policy drop"},
	{"a table that lets pass", "4", end, beside("-A FORWARD -i ext0 -j ACCEPT\n"), proof.Proved, ""},
	{"a table that marks connections", "4", end, beside("-A FORWARD -i sk-agencies -j CONNMARK --set-xmark 0x61007e4/0xffffffff\n"), proof.Violated, "connection mark"},

	// What is not understood.
	{"a match", "4", forward, "-A FORWARD -m string --string \"x\" --algo bm -j ACCEPT\n" + forward, proof.Indeterminate, "table ip mangle, chain FORWARD, rule 1: -m string --string x"},
	{"an option of a match", "4", forward, "-A FORWARD -m conntrack --ctexpire 5 -j ACCEPT\n" + forward, proof.Indeterminate, "--ctexpire 5"},
	{"two of conntrack, the state not first", "4", forward, "-A FORWARD -m conntrack --ctdir ORIGINAL --ctstate NEW -j ACCEPT\n" + forward, proof.Indeterminate, "behind another"},
	{"another status", "4", forward, "-A FORWARD -m conntrack --ctstatus SEEN_REPLY -j ACCEPT\n" + forward, proof.Indeterminate, "--ctstatus SEEN_REPLY"},
	{"a target", "4", forward, "-A FORWARD -j NFQUEUE --queue-num 0\n" + forward, proof.Indeterminate, "-j NFQUEUE --queue-num 0"},
	{"a rate", "4", forward, "-A FORWARD -m limit --limit 1/sec -j ACCEPT\n" + forward, proof.Indeterminate, "a rate decides"},
	{"untracked", "4", "-A PREROUTING -j SHEKARA", "-A PREROUTING -j CT --notrack\n-A PREROUTING -j SHEKARA", proof.Indeterminate, "-j CT --notrack"},
	{"fragments", "4", forward, "-A FORWARD -f -j ACCEPT\n" + forward, proof.Indeterminate, "-f"},
	{"u32 of something else", "4", forward, "-A FORWARD -m u32 --u32 \"0x0=0x45\" -j ACCEPT\n" + forward, proof.Indeterminate, "u32"},
	{"u32 of what is not UDP", "4", "-A SHEKARA-a-judge-input -p udp -m set", "-A SHEKARA-a-judge-input -m set", proof.Proved, ""}, // the set holds ports of UDP alone
	{"u32 of all", "4", "-A SHEKARA-a-judge-input -i lo", "-A SHEKARA-a-judge-input -m u32 ! --u32 \"0x0>>0x16&0x3c@0x4>>0x10=0x28:0xffff\" -j DROP\n-A SHEKARA-a-judge-input -i lo", proof.Indeterminate, "not UDP"},
	{"a set that is not there", "4", forward, "-A FORWARD -m set --match-set nobody src -j DROP\n" + forward, proof.Indeterminate, "set nobody is not listed"},
	{"a set whose elements expire", "sets", "create shekara-a4-any hash:ip,port family inet", "create shekara-a4-any hash:ip,port family inet timeout 60", proof.Indeterminate, "set with timeout"},
	{"a set of another type", "sets", "create shekara-a4-any hash:ip,port family", "create shekara-a4-any hash:mac family", proof.Indeterminate, "hash:mac"},
	{"masks that differ", "sets", "0.0.0.0/0,ext0 skbmark 0x8000000/0x0", "0.0.0.0/0,ext0 skbmark 0x8000000/0xff", proof.Indeterminate, "different masks"},
	{"a table of another kind", "4", end, end + "*broute\n:FORWARD DROP [0:0]\n" + end, proof.Indeterminate, "table ip broute, chain FORWARD"},
	{"an address is translated", "4", end, end + "*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -j MASQUERADE\n" + end, proof.Violated, "translated to another address than the policy says (table ip nat, chain POSTROUTING, rule 1: -j MASQUERADE"},
	{"a port is translated", "4", end, end + "*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.20.0.10:443\n" + end, proof.Indeterminate, "-j DNAT --to-destination 10.20.0.10:443"},
	{"translation to this box", "4", end, end + "*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp -m tcp --dport 80 -j REDIRECT\n" + end, proof.Indeterminate, "-j REDIRECT"},
	{"an address is translated in a chain that nothing leads to", "4", end, end + "*nat\n:POSTROUTING ACCEPT [0:0]\n:others - [0:0]\n-A others -j MASQUERADE\n" + end, proof.Proved, ""},
	{"an address is translated in a chain that a rule leads to", "4", end, end + "*nat\n:POSTROUTING ACCEPT [0:0]\n:others - [0:0]\n-A POSTROUTING -o ext0 -j others\n-A others -j MASQUERADE\n" + end, proof.Violated, "table ip nat, chain others, rule 1: -j MASQUERADE"},
	{"a rule of nat that ends what it matches", "4", end, end + "*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -o dmz0.100 -j ACCEPT\n" + end, proof.Proved, ""},
	{"a policy of nat that drops", "4", end, end + "*nat\n:POSTROUTING DROP [0:0]\n" + end, proof.Violated, "table ip nat, chain POSTROUTING, handle 0: policy drop"},
	{"a queue in a chain that nothing leads to", "4", ":SHEKARA-a-open - [0:0]\n", ":SHEKARA-a-open - [0:0]\n:others - [0:0]\n-A others -j NFQUEUE --queue-num 0\n", proof.Proved, ""},
	{"nat without rules", "4", end, end + "*nat\n:POSTROUTING ACCEPT [0:0]\n" + end, proof.Proved, ""},
}

// TestXTablesMutations: what TestMutations says, of rules that iptables holds.
func TestXTablesMutations(t *testing.T) { mutateSaved(t, "site", xtMutations) }

func mutateSaved(t *testing.T, name string, mutations []xtMutation) {
	t.Helper()
	policy := firewalltest.Example(t, name)
	var prover proof.Prover
	for _, m := range mutations {
		t.Run(m.name, func(t *testing.T) {
			sections := savedOf(t, name)
			changed := strings.Replace(sections[m.section], m.old, m.new, 1)
			if !strings.Contains(sections[m.section], m.old) {
				t.Fatalf("%q is not in section %s", m.old, m.section)
			}
			sections[m.section] = changed
			loaded, err := kernelOf(sections, false).Decode()
			if err != nil {
				t.Fatal(err)
			}
			result, err := prover.Prove(t.Context(), loaded, policy)
			if err != nil {
				t.Fatal(err)
			}
			if !found(result, m.want, m.says) {
				t.Errorf("want %s with %q, is %s", m.want, m.says, listed(result))
			}
		})
	}
}

func found(r proof.Result, want proof.Verdict, says string) bool {
	text := listed(r)
	return r.Verdict == want && strings.Contains(text, says)
}

func listed(r proof.Result) string {
	lines := append([]string{string(r.Verdict)}, r.Reasons...)
	for _, v := range r.Violations {
		lines = append(lines, v.Path+" "+v.String())
	}
	return strings.Join(lines, "\n")
}

// TestLegacyTables: the same rules in the kernel's older tables are proved as well, and named so.
func TestLegacyTables(t *testing.T) {
	sections := saved(t)
	for _, c := range []struct {
		new  string
		want proof.Verdict
		says string
	}{{forward, proof.Proved, ""}, {"-A FORWARD -j ACCEPT\n" + forward, proof.Violated, "table ip mangle (legacy), chain FORWARD, rule 1"}} {
		changed := map[string]string{"4": strings.Replace(sections["4"], forward, c.new, 1), "6": sections["6"], "sets": sections["sets"]}
		loaded, err := kernelOf(changed, true).Decode()
		if err != nil {
			t.Fatal(err)
		}
		result, err := proof.Prove(loaded, sitePolicy(t))
		if err != nil || !found(result, c.want, c.says) {
			t.Errorf("want %s with %q, is %s, %v", c.want, c.says, listed(result), err)
		}
	}
}

// TestSavedIsListing: what is none is an error.
func TestSavedIsListing(t *testing.T) {
	for _, text := range []string{"-A FORWARD -j ACCEPT\n", "*filter\n", "*filter\n-A FORWARD -j ACCEPT\nCOMMIT\n", "nonsense\n"} {
		if _, err := kernelOf(map[string]string{"4": text}, false).Decode(); err == nil {
			t.Errorf("%q is taken for what iptables-save prints", text)
		}
	}
	if _, err := kernelOf(map[string]string{"sets": "add x 192.0.2.1\n"}, false).Decode(); err == nil {
		t.Error("an element without its set is taken for what ipset saves")
	}
}

// FuzzSaved: the reader is given what anybody may have written: it takes it or says what is wrong, and does not break.
func FuzzSaved(f *testing.F) {
	sections := saved(f)
	f.Add(sections["4"], sections["sets"])
	f.Add("*mangle\n:FORWARD ACCEPT [0:0]\n-A FORWARD -m set ! --match-set a src,dst -m hl --hl-lt 0 -j MARK --set-xmark 0x1\nCOMMIT\n", "create a hash:net,port\nadd a 0.0.0.0/0,icmp:8/0 nomatch\nadd a 128.0.0.0/1,tcp:1\n")
	f.Fuzz(func(t *testing.T, table, sets string) {
		if _, err := kernelOf(map[string]string{"4": table, "sets": sets}, false).Decode(); err != nil && err.Error() == "" {
			t.Error("an error without words")
		}
	})
}
