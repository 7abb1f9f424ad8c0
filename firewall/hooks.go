package firewall

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// verify accepts what was judged under the present generation and is where it was judged to be. %s: which place, which side.
const (
	bothWays = "ct state established,related ct direction %s ct mark & 0xffc00000 . %s @from_place ct mark & 0x003ff000 . %s @to_place jump verify"
	toOnly   = "ct state established,related ct direction %s ct mark & 0x003ff000 . %s @to_place jump verify"
	fromOnly = "ct state established,related ct direction %s ct mark & 0xffc00000 . %s @from_place ct mark & 0x003ff000 == 0x003ff000 jump verify" // to this box
)

const (
	icmpErrors4 = "icmp type { 3, 11, 12 } ct state related accept"    // unreachable (4: fragmentation needed), time exceeded, parameter problem
	icmpErrors6 = "icmpv6 type { 1, 2, 3, 4 } ct state related accept" // the same, and packet too big
	echo4, ask6 = "icmp type 8", "icmpv6 type 128"                     // echo request
	tell4, say6 = "icmp type 0", "icmpv6 type 129"                     // echo reply
	asked, told = " ct direction original", " ct direction reply"      // conntrack's word that it is a request, or answers one
	pathMTU     = ` comment "path MTU"`                                // RFC 1191, RFC 8201: without these, connections hang
	probeName   = ` accept comment "probe"`                            //
	hooked      = "type filter hook %s priority filter; policy %s;"    //
	// Never for an ICMP error: it would be judged by its own protocol, and its connection marked as allowed that is not.
	byDirection = "ct state new,established ct direction vmap "
	toBox       = "meta mark set meta mark | 0x003ff000" // BoxPlace
	ofBox       = ` comment "` + OwnService + `"`
)

// OwnService is the purpose of what an offer lets pass (Explanation.BuiltIn).
const OwnService = "service of this box"

// judgeChains look up what verify did not accept, in the direction of the opening (open) and of the answer: through this box, and opened by
// it into a tunnel. Its own connection has the zone of its address for the first place; what others open to it goes to it as to a place, which no
// flow does.
func (w *writer) judgeChains() {
	w.chain("open_forward", "jump from_iif", "jump to_oif", "jump flows_open", drop("forward", NoFlow))
	w.chain("answer_forward", "jump from_oif", "jump to_iif", "jump flows_answer", drop("forward", NoFlow))
	w.chain("open_output", "jump from_address", "jump to_oif", "jump flows_open", drop("output", NoFlow))
	w.chain("answer_input", "jump from_address", "jump to_iif", "jump flows_answer", drop("input", NoFlow))
	w.chain("open_input", "jump from_iif", toBox, "jump flows_open"+ofBox, drop("input", NoFlow))
	w.chain("answer_output", "jump from_oif", toBox, "jump flows_answer"+ofBox, drop("output", NoFlow))
}

func (b *Base) forwardChains(w *writer, p Policy) {
	w.chain("forward", fmt.Sprintf(hooked, "forward", "drop"),
		"ct state invalid "+drop("forward", Invalid),
		`tcp flags & (syn | rst) == syn jump mss comment "path MTU"`,
		fmt.Sprintf(bothWays, "original", "iifname", "oifname"),
		fmt.Sprintf(bothWays, "reply", "oifname", "iifname"),
		byDirection+w.lookup("judge", directionVerdict, []string{"original : goto open_forward", "reply : goto answer_forward"}),
		drop("forward", NoFlow))
	byMTU := map[int][]string{}
	for _, c := range b.places {
		if c.device && b.device[c.interfaces[0]].MTU != 0 {
			mtu := b.device[c.interfaces[0]].MTU
			byMTU[mtu] = append(byMTU[mtu], quoted(c.interfaces)...)
		}
	}
	// The kernel only ever lowers the option. rt mtu: what the route's own MTU allows, so a path MTU that was learnt counts.
	rules := []string{"tcp option maxseg size set rt mtu"}
	for _, mtu := range slices.Sorted(maps.Keys(byMTU)) {
		for _, side := range []string{"iifname", "oifname"} {
			for _, version := range []struct {
				name   string
				header int
			}{{"ipv4", 40}, {"ipv6", 60}} {
				rules = append(rules, fmt.Sprintf("%s %s meta nfproto %s tcp option maxseg size set %d",
					side, braces(byMTU[mtu]), version.name, mtu-version.header))
			}
		}
	}
	w.chain("mss", rules...)
}

func (b *Base) inputChains(w *writer, p Policy) error {
	w.chain("tunnel_port",
		// A WireGuard message has 32 bytes or more after the 8 of UDP. The userspace library stops at an empty datagram and forgets
		// the others of its batch (splitCoalescedMessages in conn/bind_std.go): one peer's empty datagrams cost other peers' packets.
		"udp length < 40 "+drop("input", NoMessage),
		"ip daddr . udp dport . ip saddr @tunnel_peer4 accept",
		"ip daddr . udp dport @tunnel_any4 accept",
		"ip6 daddr . udp dport . ip6 saddr @tunnel_peer6 accept",
		"ip6 daddr . udp dport @tunnel_any6 accept",
		drop("input", NoPeer))
	rules := []string{fmt.Sprintf(hooked, "input", "drop"),
		`iifname "lo" accept`,
		// Before conntrack's word: else a peer that was removed would go on as an answer to what we once sent it.
		`ip daddr . udp dport @tunnel_port4 goto tunnel_port comment "tunnel ports"`,
		`ip6 daddr . udp dport @tunnel_port6 goto tunnel_port comment "tunnel ports"`,
		"ct state invalid " + drop("input", Invalid),
	}
	management, err := b.management(w, p.Management)
	if err != nil {
		return err
	}
	rules = append(rules, management...)
	rules = append(rules,
		// What this box asked a zone for is not marked; anti-spoofing binds the answer to the zone.
		`ct state established,related ct direction reply ct mark 0x00000000 iifname @zone_links accept comment "answers to this box"`,
		fmt.Sprintf(toOnly, "reply", "iifname"),
		fmt.Sprintf(fromOnly, "original", "iifname"),
		// Probes are judged packet by packet: what no longer asks, or is asked, ends at once.
		echo4+asked+" iifname . ct original ip saddr . ct original ip daddr @probe_in4"+probeName,
		ask6+asked+" iifname . ct original ip6 saddr . ct original ip6 daddr @probe_in6"+probeName,
		tell4+told+" iifname . ip saddr @probe_out4"+probeName,
		say6+told+" iifname . ip6 saddr @probe_out6"+probeName,
		icmpErrors4+pathMTU, icmpErrors6+pathMTU,
		// RFC 4861 6.1, 7.1: a hop limit of 255 proves that no router was between. No redirects: a router takes none (8.2).
		`iifname @zone_links icmpv6 type { 133, 134, 135, 136 } ip6 hoplimit 255 accept comment "neighbour discovery"`,
		// RFC 4541: without our answer a switch forgets our solicited-node groups.
		`iifname @zone_links ip6 saddr fe80::/10 icmpv6 type 130 accept comment "neighbour discovery"`,
		// Whatever flows say: they end at hosts behind this box, never at the box.
		byDirection+w.lookup("judge", directionVerdict, []string{"original : goto open_input", "reply : goto answer_input"}),
		drop("input", NoFlow))
	w.chain("input", rules...)
	return nil
}

// management is judged packet by packet, so what the Site no longer allows ends at once and what it allows needs no mark.
func (b *Base) management(w *writer, m Management) ([]string, error) {
	if m.Zone == "" && len(m.From) == 0 && len(m.Services) == 0 {
		return nil, nil
	}
	number, err := b.resolve(Place{Zone: m.Zone})
	if err != nil {
		return nil, fmt.Errorf("management: %w", err)
	}
	var rules, from []string
	for _, prefix := range m.From {
		if err := checkPrefix(prefix); err != nil {
			return nil, fmt.Errorf("management: %w", err)
		}
		from = append(from, prefix.String())
	}
	for _, service := range m.Services {
		if _, err := service.blocks(); err != nil {
			return nil, fmt.Errorf("management: %w", err)
		}
		match := fmt.Sprintf("meta l4proto %d", service.Protocol)
		switch {
		case service.Protocol == ICMP:
			match = echo4
		case service.Protocol == ICMPv6:
			match = ask6
		case service.LastPort != 0 && service.FirstPort == service.LastPort:
			match += fmt.Sprintf(" th dport %d", service.FirstPort)
		case service.LastPort != 0:
			match += fmt.Sprintf(" th dport %d-%d", service.FirstPort, service.LastPort)
		}
		rules = append(rules, match+fmt.Sprintf(" accept comment %q", "management "+service.String()))
	}
	w.chain("management", rules...)
	interfaces := quoted(b.places[number-1].interfaces)
	if len(interfaces) == 0 || len(rules) == 0 {
		return nil, nil
	}
	var jumps []string
	for _, rule := range matchPrefixes("saddr", from, `ct direction original jump management comment "management"`) {
		jumps = append(jumps, "iifname "+braces(interfaces)+" "+rule)
	}
	return jumps, nil
}

// farRules: what belongs to a zone that is behind tunnels alone leaves by no other interface, should its routes be gone.
// The longest prefix says to which zone an address belongs, so the rules stand in that order.
func (b *Base) farRules(p Policy) []string {
	near := map[string]bool{}
	for _, i := range p.Interfaces {
		near[i.Zone] = true
	}
	type claim struct {
		prefix netip.Prefix
		far    bool
	}
	var far, claims []claim
	for _, zone := range b.zones {
		behind := !near[zone.Name] && slices.ContainsFunc(p.Devices, func(d Device) bool { return d.FarZone == zone.Name })
		for _, prefix := range zone.Prefixes {
			if claims = append(claims, claim{prefix, behind}); behind {
				far = append(far, claim{prefix, behind})
			}
		}
	}
	claims = slices.DeleteFunc(claims, func(c claim) bool { // what lies within no far prefix needs no exception
		return !c.far && !slices.ContainsFunc(far, func(f claim) bool { return f.prefix.Overlaps(c.prefix) && f.prefix.Bits() < c.prefix.Bits() })
	})
	slices.SortStableFunc(claims, func(x, y claim) int { return y.prefix.Bits() - x.prefix.Bits() })
	var rules []string
	for len(claims) > 0 {
		same := 1
		for same < len(claims) && claims[same].far == claims[0].far {
			same++
		}
		var list []string
		for _, c := range claims[:same] {
			list = append(list, c.prefix.String())
		}
		verdict := "accept"
		if claims[0].far {
			verdict = drop("output", NoFlow)
		}
		rules = append(rules, matchPrefixes("daddr", list, verdict+` comment "behind tunnels alone"`)...)
		claims = claims[same:]
	}
	return rules
}

// mappedRules: what is for a host that is known here by a mapped address leaves by no other interface either. Its address is translated by
// then; the mark tells it, which every such packet got.
func (b *Base) mappedRules() []string {
	_, far := b.translated()
	if len(far) == 0 {
		return nil
	}
	marks := make([]string, len(far))
	for i, d := range far {
		marks[i] = fmt.Sprintf("0x%08x", d.LocalMark)
	}
	return []string{"meta mark " + braces(marks) + " " + drop("output", NoFlow) + ` comment "behind tunnels alone"`}
}

// outputChains: this box may speak to its zones freely, but to those behind tunnels only through these; into a tunnel only as a flow or
// probe says; what is sealed (marked by a device) leaves from that device's address or not at all.
func (b *Base) outputChains(w *writer, p Policy) error {
	var resolvers []string
	for _, address := range p.DNS {
		if !plain(address) {
			return fmt.Errorf("resolver %s cannot be filtered on", address)
		}
		resolvers = append(resolvers, netip.PrefixFrom(address, address.BitLen()).String())
	}
	sources := map[uint32][]string{}
	for _, d := range b.device {
		if d.Mark != 0 {
			sources[d.Mark] = append(sources[d.Mark], netip.PrefixFrom(d.LocalIP, d.LocalIP.BitLen()).String())
		}
	}
	rules := []string{fmt.Sprintf(hooked, "output", "accept"), `oifname "lo" accept`}
	var verdicts []string
	for _, mark := range slices.Sorted(maps.Keys(sources)) {
		name := fmt.Sprintf("outer_0x%08x", mark)
		slices.Sort(sources[mark])
		w.chain(name, append(append([]string{"oifname @device_links " + drop("output", Loop)},
			matchPrefixes("saddr", sources[mark], "accept")...), drop("output", WrongSource))...)
		verdicts = append(verdicts, fmt.Sprintf("0x%08x : goto %s", mark, name))
	}
	if len(verdicts) > 0 {
		rules = append(rules, "meta mark vmap "+w.lookup("outer", markVerdict, verdicts)+` comment "outer packets"`)
	}
	rules = append(rules, `oifname @device_links goto into_tunnel comment "this box into tunnels"`)
	rules = append(rules, b.mappedRules()...)
	rules = append(rules, b.farRules(p)...)
	for _, rule := range matchPrefixes("daddr", resolvers, `meta l4proto { 6, 17 } th dport 53 accept comment "resolvers"`) {
		rules = append(rules, "oifname @zone_links "+rule)
	}
	w.chain("output", rules...)
	w.chain("into_tunnel",
		"ct state invalid "+drop("output", Invalid),
		fmt.Sprintf(toOnly, "original", "oifname"),
		fmt.Sprintf(fromOnly, "reply", "oifname"),
		echo4+asked+" oifname . ip daddr @probe_out4"+probeName,
		ask6+asked+" oifname . ip6 daddr @probe_out6"+probeName,
		tell4+told+" oifname . ct original ip saddr . ct original ip daddr @probe_in4"+probeName,
		say6+told+" oifname . ct original ip6 saddr . ct original ip6 daddr @probe_in6"+probeName,
		icmpErrors4+pathMTU, icmpErrors6+pathMTU,
		byDirection+w.lookup("judge", directionVerdict, []string{"original : goto open_output", "reply : goto answer_output"}),
		drop("output", NoFlow))
	return nil
}
