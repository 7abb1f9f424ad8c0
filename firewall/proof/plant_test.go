package proof_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"shekara/firewall"
	"shekara/firewall/proof"
	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
)

// plants are mistakes of the compiler and of the loader: a pattern in the text that is loaded for testdata/site.txtar, and what stands there
// instead. What changes no packet's way is proved all the same.
var plants = []struct {
	name, pattern, instead string
	want                   proof.Verdict
	says                   string
}{
	// The compiler writes another rule.
	{"a mask too long", `(saddr & )255\.255\.255\.240( .* th dport @)`, "${1}255.255.255.248$2", proof.Violated, "is stopped"},
	{"a mask of ports too short", `th dport & 65532`, "th dport & 65528", proof.Violated, "40000>8101"},
	{"answers looked up as openings", `th sport @flow4_28_32_16`, "th dport @flow4_28_32_16", proof.Violated, "reply direction"},
	{"a judged connection is not marked", `(@flow4_28_32_16) goto pass`, "$1 accept", proof.Proved, ""}, // it is judged again, packet by packet
	{"what no flow names is accepted", `(chain open_forward \{(?:\n\t\tjump.*)*\n\t\t)goto forward\.no_flow`, "${1}accept", proof.Violated, "in ext0 out adm0"},
	{"a policy that accepts behind a rule that drops", `(hook forward priority filter; policy) drop`, "$1 accept", proof.Proved, ""},
	{"a device may send from anywhere", `(chain source_device_sk-agencies \{(?:\n\t\t.*)*)\n\t\tgoto prerouting\.spoofed`, "$1", proof.Violated, "cannot have its source"},
	{"a zone twice as large", `ip saddr \{ 10\.64\.0\.0/12 \} return`, "ip saddr { 10.64.0.0/11 } return", proof.Violated, "cannot have its source"},
	{"the internet may send from our zones", `ip saddr \{ [^}]* \} goto prerouting\.spoofed`, "ip saddr { 10.20.0.0/24 } goto prerouting.spoofed", proof.Violated, "cannot have its source"},
	{"a marked connection goes where it likes", ` ct mark & 0x003ff000 \. oifname @to_place jump verify`, " jump verify", proof.Violated, "connection mark"},
	{"a marked connection comes whence it likes", `ct direction original ct mark & 0xffc00000 \. iifname @from_place (ct mark)`, "ct direction original $1", proof.Violated, "connection mark"},
	{"the two ends of an answer are swapped", `reply ct mark & 0xffc00000 \. oifname @from_place ct mark & 0x003ff000 \. iifname`, "reply ct mark & 0xffc00000 . iifname @from_place ct mark & 0x003ff000 . oifname", proof.Violated, "connection mark"},
	{"openings are judged as answers", `original : goto open_forward, reply : goto answer_forward`, "original : goto answer_forward, reply : goto open_forward", proof.Violated, ""},
	{"errors are judged as packets", `ct state new,established (ct direction vmap @judge)`, "ct state new,established,related $1", proof.Violated, "chain verify"},
	{"half a generation", `ct mark & 0x00000fff == 0x00000001`, "ct mark & 0x000007ff == 0x00000001", proof.Violated, "connection mark"},
	{"two zones exchanged at this box", `(10\.20\.0\.0/24 : )0x00c00000`, "${1}0x01000000", proof.Violated, "out sk-agencies"},
	{"another port of management", `th dport 22 accept`, "th dport 23 accept", proof.Violated, "in adm0"},
	{"management from a network twice as large", `ip saddr \{ 192\.168\.100\.0/24 \} (ct direction original jump management)`, "ip saddr { 192.168.100.0/23 } $1", proof.Proved, ""}, // its zone is no larger
	{"sealed packets from another address", `ip saddr \{ 203\.0\.113\.10/32 \} accept`, "ip saddr { 203.0.113.11/32 } accept", proof.Violated, "mark 0x534b0001"},
	{"a tunnel's other port", `203\.0\.113\.10 \. 51820`, "203.0.113.10 . 51821", proof.Violated, "51820"},
	{"messages that are too short", `udp length < 40`, "udp length < 8", proof.Violated, ">51820"},
	{"redirects are taken for path MTU", `icmp type \{ 3, 11, 12 \}`, "icmp type { 3, 5, 11, 12 }", proof.Violated, "icmp type 5"},
	{"packet too big is forgotten", `icmpv6 type \{ 1, 2, 3, 4 \}`, "icmpv6 type { 1, 3, 4 }", proof.Violated, "icmpv6 type 2"},
	{"neighbours behind a router", `ip6 hoplimit 255`, "ip6 hoplimit > 253", proof.Violated, "icmpv6 type 13"},
	{"whoever has no address yet sends what it likes", `ip saddr 0\.0\.0\.0 udp sport 68 udp dport 67 return`, "ip saddr 0.0.0.0 return", proof.Violated, "0.0.0.0 > "},
	{"more than link-local", `ip6 saddr fe80::/10 return`, "ip6 saddr fe80::/9 return", proof.Violated, "cannot have its source"},
	{"another question than a probe's", `icmp type 8 (ct direction original iifname)`, "icmp type 13 $1", proof.Violated, "icmp type 13"},
	{"everything but loopback", `iifname "lo" accept`, `iifname != "lo" accept`, proof.Violated, ""},

	// The compiler puts another element.
	{"another protocol", `(10\.20\.0\.10 \. )6( \. 443)`, "${1}17$2", proof.Violated, "udp"},
	{"the other device", `0x01403000 \. 10`, "0x01803000 . 10", proof.Violated, "in sk-agencies"},
	{"from and to exchanged", `0x01403000 \. 10`, "0x00c05000 . 10", proof.Violated, "is stopped"},
	{"source and destination exchanged", `(0x00c05000) \. (10\.\S*) \. (10\.\S*) \.`, "$1 . $3 . $2 .", proof.Violated, "is stopped"},
	{"a place at another interface", `0x01400000 \. "sk-agencies"`, `0x01400000 . "ext0"`, proof.Violated, "in ext0"},

	// The loader leaves something out, or puts it elsewhere.
	{"no elements of one set", `(?s)add element inet shekara flow4_28_32_16 \{.*?\n\}\n`, "", proof.Violated, "is stopped"},
	{"elements in the set beside", `add element inet shekara flow4_28_32_14 \{`, "add element inet shekara flow4_28_32_11 {", proof.Violated, ""},
	{"a set that no rule asks for answers", `\n.* th sport @flow4_28_32_16 goto pass`, "", proof.Violated, "reply direction"},
	{"the next generation is asked and the old one written", `(ct mark & 0x00000fff ==) 0x00000001`, "$1 0x00000002", proof.Violated, "connection mark"},
	{"the next generation is written and the old one asked", `(ct mark set meta mark \|) 0x00000001`, "$1 0x00000002", proof.Violated, "connection mark"},
	{"a base chain without its hook", `\n\t\ttype filter hook prerouting priority raw; policy accept;`, "", proof.Violated, "cannot have its source"},
	{"judged too late to stop what others let in", `hook forward priority filter; policy drop`, "hook postrouting priority filter; policy drop", proof.Violated, ""},
	{"a table of another name", `inet shekara `, "inet other ", proof.Proved, ""}, // packets do not ask for its name
	{"the table before is still there", `(?s)\A(.*)\z`, "${1}table inet old { chain f { type filter hook forward priority -1; policy drop; }; }\n", proof.Violated, "table inet old"},
}

// TestPlants: a mistake of the compiler or of the loader that changes what passes is found in what the kernel then holds.
func TestPlants(t *testing.T) {
	probetest.Need(t, probe.NFTables)
	host := nstest.Host(t, "box")
	policy := sitePolicy(t)
	rules, err := firewall.Compile(policy)
	if err != nil {
		t.Fatal(err)
	}
	text, err := rules.Text(1)
	if err != nil {
		t.Fatal(err)
	}
	var prover proof.Prover
	for _, p := range plants {
		t.Run(p.name, func(t *testing.T) {
			planted := regexp.MustCompile(p.pattern).ReplaceAllString(text, p.instead)
			if planted == text {
				t.Fatalf("nothing in the rules is like %s", p.pattern)
			}
			host.RunInput("flush ruleset\n"+planted, "nft", "-f", "-")
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
			if result.Verdict != p.want || !strings.Contains(said, p.says) {
				t.Errorf("%s, want %s and %q", result.Verdict, p.want, p.says)
			}
		})
	}
}
