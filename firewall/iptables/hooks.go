package iptables

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"shekara/firewall"
)

// Every chain that judges is reached by goto from judge-HOOK, which the hook's own chain jumps to, so that RETURN leaves them all: the packet passes, and
// goes on with the next rule of ours, and then of whoever else. Only begin, mss and the lookup of flows are jumped to.
const (
	passes   = "-j RETURN"
	zeroMark = "-j MARK --set-xmark 0x0/0xffffffff"
	passed   = "-m mark --mark 0x0/0xffffffff -j RETURN" // verify's marks are equal, or pass was met
	invalid  = "-m conntrack --ctstate INVALID "
	original = "-m conntrack --ctdir ORIGINAL "
	reply    = "-m conntrack --ctdir REPLY "
	// Never for an ICMP error: it would be judged by its own protocol, and its connection marked as allowed that is not.
	notJudged = "-m conntrack ! --ctstate NEW,ESTABLISHED "
	related   = "-m conntrack --ctstate RELATED "
	anyMark   = 0xffffffff
	toThisBox = "-j MARK --set-xmark 0x1fc0000/0x0" // joins boxPlace
)

// dropChains are by table the chains in which packets end, for each ID of firewall.DropIDs. They stay, and count, when rulesets come and go. Those of nat
// are there only if a device translates.
func dropChains() map[string][]string {
	out := map[string][]string{nat: {"postrouting." + firewall.Unhidden}}
	for _, id := range firewall.DropIDs() {
		if firewall.IsLimit(firewall.Reason(id)) {
			continue // limits are refused
		}
		switch hook, _, _ := strings.Cut(id, "."); hook {
		case "prerouting":
			out[raw] = append(out[raw], id)
		default:
			out[mangle] = append(out[mangle], id)
		}
	}
	return out
}

// endOf is what ends packets in a table. The programs refuse DROP in nat; what goes to a queue that nobody reads is dropped too.
func endOf(table string) string {
	if table == nat {
		return fmt.Sprintf("-j NFQUEUE --queue-num %d", firewall.LogGroup)
	}
	return "-j DROP"
}

// dropRules record some packets of an ID and drop all.
func dropRules(table, id string) []string {
	return []string{fmt.Sprintf("-m limit --limit %d/second --limit-burst %d -j NFLOG --nflog-prefix %s --nflog-group %d --nflog-size %d",
		firewall.LogRate, firewall.LogBurst, id, firewall.LogGroup, firewall.LogBytes), endOf(table)}
}

// drops says whether a listed chain is what dropRules made. How the programs write the first rule differs from version to version.
func drops(rules []string, table, id string) bool {
	return len(rules) == 2 && rules[1] == endOf(table) && strings.Contains(rules[0], "-j NFLOG") && strings.Contains(rules[0], id) && strings.Contains(rules[0], "limit")
}

func (f family) icmp(kind4, kind6 int) string {
	if f == v4 {
		return fmt.Sprintf("-p icmp -m icmp --icmp-type %d ", kind4)
	}
	return fmt.Sprintf("-p ipv6-icmp -m icmp6 --icmpv6-type %d ", kind6)
}

func (f family) request() string { return f.icmp(firewall.EchoRequest, firewall.EchoRequest6) }
func (f family) answer() string  { return f.icmp(firewall.EchoReply, firewall.EchoReply6) }

// errors lets pass what routers say about a connection: without these, connections hang (RFC 1191, RFC 8201).
func (f family) errors() (rules []string) {
	kinds := [...][]int{{3, 11, 12}, {1, 2, 3, 4}}[f]
	for _, kind := range kinds {
		rules = append(rules, f.icmp(kind, kind)+related+passes)
	}
	return rules
}

// prerouting stops packets whose source the interface or device that they arrive on cannot have.
func (w *writer) prerouting() {
	var rules []string
	if w.family == v4 {
		rules = append(rules, "-s 0.0.0.0/32 -p udp -m udp --sport 68 --dport 67 "+w.in(zoneSet, "src,src")+passes)
	} else {
		// RFC 4861 7.2.2, 6.3.7 and RFC 3810 5.2.13: these are sent from the unspecified address before there is another.
		for _, kind := range []int{131, 132, 133, 135, 143} {
			rules = append(rules, "-s ::/128 "+w.family.icmp(0, kind)+w.in(zoneSet, "src,src")+passes)
		}
		rules = append(rules, "-s fe80::/10 "+w.in(zoneSet, "src,src")+passes,
			// Our own address comes from nobody else. The kernel sees to that for IPv4 (fib_validate_source), not for IPv6.
			w.in(fromSet, "src,src")+"-m addrtype --src-type LOCAL "+drop("prerouting", firewall.Spoofed))
	}
	w.chain(raw, "prerouting", slices.Concat(w.zones(), rules, []string{w.in(sourceSet, "src,src") + passes, w.in(fromSet, "src,src") + drop("prerouting", firewall.Spoofed)})...)
}

// verdicts are the two chains that a change of generation rewrites the first rule of.
func (w *writer) verdicts() {
	w.chain(mangle, "begin", beginRule(w.generation))
	w.chain(mangle, "pass", passRule(w.generation), "-j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff", zeroMark)
}

func beginRule(generation int) string {
	return fmt.Sprintf("-j MARK --set-xmark 0x%x/0xffffffff", generation)
}

func passRule(generation int) string {
	return fmt.Sprintf("-j MARK --set-xmark 0x%x/0x%x", generation, undecided|classMask)
}

// verify passes what was judged under the present generation to run between just these places. SET and CONNMARK join to the mark by exclusive or, so
// what remains of begin's generation and the places is nothing if the connection's mark is the same, within mask.
func (w *writer) verify(mask uint32, places ...string) []string {
	rules := append([]string{w.jump("begin")}, places...)
	return append(rules, fmt.Sprintf("-j CONNMARK --restore-mark --nfmask 0x0 --ctmask 0x%x", mask), passed)
}

// judge looks up what verify did not pass.
func (w *writer) judge(hook, way string, marks ...string) []string {
	rules := append([]string{notJudged + drop(hook, firewall.NoFlow), fmt.Sprintf("-j MARK --set-xmark 0x%x/0xffffffff", uint32(undecided))}, marks...)
	return append(rules, w.jump(way), passed, drop(hook, firewall.NoFlow))
}

func (w *writer) forward() {
	// Judging a packet costs it its mark, by which this box would answer.
	w.chain(mangle, "forward", append([]string{w.jump("judge-forward")}, w.markOf("src,src")...)...)
	w.chain(mangle, "judge-forward",
		invalid+drop("forward", firewall.Invalid),
		"-p tcp -m tcp --tcp-flags SYN,RST SYN "+w.jump("mss"),
		original+w.goTo("forward-open"), reply+w.goTo("forward-answer"),
		drop("forward", firewall.NoFlow))
	from, to := w.mapped(fromSet, "src,src"), w.mapped(toSet, "dst,dst")
	w.chain(mangle, "forward-open", slices.Concat(w.verify(anyMark, from, to), w.judge("forward", "open", from, to, w.mapped(classSet, "src")))...)
	from, to = w.mapped(fromSet, "dst,dst"), w.mapped(toSet, "src,src")
	w.chain(mangle, "forward-answer", slices.Concat(w.verify(anyMark, from, to), w.judge("forward", "answer", from, to, w.mapped(classSet, "dst")))...)
}

// mss lowers what a SYN offers; the kernel never raises it.
func (w *writer) mss() {
	const syn = "-p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS "
	rules := []string{syn + "--clamp-mss-to-pmtu"}
	for _, d := range w.policy.Devices {
		if d.MTU != 0 {
			for _, side := range []string{"-i", "-o"} {
				rules = append(rules, fmt.Sprintf("%s %s %s--set-mss %d", side, d.Name, syn, d.MTU-[...]int{40, 60}[w.family]))
			}
		}
	}
	w.chain(mangle, "mss", rules...)
}

func (w *writer) input() {
	w.chain(mangle, "input", append([]string{w.jump("judge-input")}, w.markOf("src,src")...)...)
	w.chain(mangle, "judge-input",
		"-i lo "+passes,
		// Before conntrack's word: else a peer that was removed would go on as an answer to what we once sent it.
		"-p udp "+w.in(portSet, "dst,dst")+w.goTo("tunnel-port"),
		invalid+drop("input", firewall.Invalid),
		w.in(manageSet, "src,src")+original+w.goTo("manage"),
		w.goTo("to-box"))
	// A WireGuard message has 32 bytes or more after the 8 of UDP: see firewall's tunnel_port. IPv6: with no header between.
	length := "0>>22&0x3C@4>>16=40:65535"
	if w.family == v6 {
		length = "4>>8&0xFF=17&&44>>16=40:65535"
	}
	w.chain(mangle, "tunnel-port",
		`-m u32 ! --u32 "`+length+`" `+drop("input", firewall.NoMessage),
		w.in(peerSet, "dst,dst,src")+passes, w.in(anySet, "dst,dst")+passes, drop("input", firewall.NoPeer))
	var manage []string
	for _, s := range w.policy.Management.Services {
		switch {
		case s.Protocol == firewall.ICMP && w.family == v4, s.Protocol == firewall.ICMPv6 && w.family == v6:
			manage = append(manage, w.family.request()+passes)
		case s.Protocol == firewall.ICMP, s.Protocol == firewall.ICMPv6:
		case s.LastPort != 0:
			manage = append(manage, fmt.Sprintf("-p %d -m multiport --dports %s ", s.Protocol, portRange(s.FirstPort, s.LastPort))+passes)
		default:
			manage = append(manage, fmt.Sprintf("-p %d ", s.Protocol)+passes)
		}
	}
	w.chain(mangle, "manage", append(manage, w.goTo("to-box"))...)
	toBox := []string{reply + w.goTo("box-answer")}
	for _, place := range w.places {
		if place.Device != "" {
			toBox = append(toBox, w.probes(place.Number, "-i "+place.Device+" "+w.family.request()+original, "src,dst,dst")...)
		}
	}
	toBox = append(toBox, w.family.errors()...)
	if w.family == v6 {
		// RFC 4861 6.1, 7.1: a hop limit of 255 proves that no router was between. RFC 4541: without our answer a switch forgets our groups.
		for _, kind := range []int{133, 134, 135, 136} {
			toBox = append(toBox, w.family.icmp(0, kind)+w.in(zoneSet, "src,src")+"-m hl --hl-eq 255 "+passes)
		}
		toBox = append(toBox, "-s fe80::/10 "+w.family.icmp(0, 130)+w.in(zoneSet, "src,src")+passes)
	}
	// Whatever flows say: they end at hosts behind this box, never at the box, which is a place of its own.
	w.chain(mangle, "to-box", append(toBox, original+w.goTo("box-open"), drop("input", firewall.NoFlow))...)
	from, to := w.mapped(fromSet, "src,src"), w.mapped(toSet, "src,src")
	w.chain(mangle, "box-open", slices.Concat(w.verify(anyMark, from, toThisBox), w.judge("input", "open", from, toThisBox, w.mapped(classSet, "src")))...)
	w.chain(mangle, "box-answer", slices.Concat(
		// What this box asked a zone for is not marked; anti-spoofing binds the answer to the zone.
		[]string{"-m connmark --mark 0x0 " + w.in(zoneSet, "src,src") + passes},
		w.verify(toMask|generationMask, to),
		[]string{zeroMark, w.family.answer() + w.in(askedSet, "src,src") + passes},
		w.family.errors(),
		w.judge("input", "answer", w.mapped(homeSet, "dst"), to, w.mapped(classSet, "dst")))...)
}

// output: this box may speak to its zones freely; into a tunnel only as a flow or probe says; what is sealed (marked by a device) leaves from that
// device's address or not at all.
func (w *writer) output() {
	rules := []string{"-o lo " + passes}
	marks := map[uint32][]firewall.Device{}
	for _, d := range w.policy.Devices {
		if d.Mark != 0 {
			marks[d.Mark] = append(marks[d.Mark], d)
		}
	}
	for _, mark := range slices.Sorted(maps.Keys(marks)) {
		name := fmt.Sprintf("outer-%08x", mark)
		rules = append(rules, fmt.Sprintf("-m mark --mark 0x%x/0xffffffff ", mark)+w.goTo(name))
		outer := []string{w.in(deviceSet, "dst,dst") + drop("output", firewall.Loop)}
		for _, d := range marks[mark] {
			if familyOf(d.LocalIP) == w.family {
				outer = append(outer, fmt.Sprintf("-s %s/%d ", d.LocalIP, d.LocalIP.BitLen())+passes)
			}
		}
		w.chain(mangle, name, append(outer, drop("output", firewall.WrongSource))...)
	}
	w.chain(mangle, "output", append([]string{w.jump("judge-output")}, w.markOf("dst,dst")...)...)
	w.chain(mangle, "judge-output", slices.Concat(rules, []string{w.in(deviceSet, "dst,dst") + w.goTo("into-tunnel")}, w.behindTunnels(),
		[]string{w.in(farSet, "dst") + drop("output", firewall.NoFlow)})...)
	to := w.mapped(toSet, "dst,dst")
	answers := []string{}
	for _, place := range w.places {
		if place.Device != "" {
			answers = append(answers, w.probes(place.Number, "-o "+place.Device+" "+w.family.answer(), "dst,dst,src")...)
		}
	}
	w.chain(mangle, "into-tunnel", slices.Concat([]string{
		invalid + drop("output", firewall.Invalid)},
		w.otherMarks(),
		[]string{reply + w.goTo("tunnel-answer")},
		w.verify(toMask|generationMask, to),
		[]string{zeroMark, w.family.request() + original + w.in(askedSet, "dst,dst") + passes},
		w.family.errors(),
		w.judge("output", "open", w.mapped(homeSet, "src"), to, w.mapped(classSet, "src")))...)
	from := w.mapped(fromSet, "dst,dst")
	w.chain(mangle, "tunnel-answer", slices.Concat(answers, w.family.errors(),
		w.verify(anyMark, from, toThisBox), w.judge("output", "answer", from, toThisBox, w.mapped(classSet, "dst")))...)
}
