package firewall

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Compile turns a policy into a ruleset: pure, and equal policies give equal text. Policies that cannot be (an unknown zone, mixed
// families, ports on a protocol without) are errors that name the flow, tunnel, zone or device.
func Compile(p Policy) (Ruleset, error) {
	base, err := CompileBase(p)
	if err != nil {
		return Ruleset{}, err
	}
	elements, err := base.Elements(p)
	if err != nil {
		return Ruleset{}, err
	}
	return base.Ruleset(elements)
}

// CompileBase looks at zones, interfaces, devices, management and resolvers only; ports, flows, probes, offers and limits are for Elements.
func CompileBase(p Policy) (*Base, error) {
	b := &Base{policy: p}
	b.policy.Ports, b.policy.Flows, b.policy.Probes, b.policy.Offers, b.policy.Limits = nil, nil, nil, nil, nil
	if err := b.numberPlaces(p); err != nil {
		return nil, err
	}
	w := &writer{}
	w.dropChains()
	for _, set := range slices.Sorted(maps.Keys(fixedSets)) {
		w.set(set, fixedSets[set], nil)
	}
	b.placeSets(w, p)
	for _, c := range b.places {
		w.chain("to_"+c.chain, fmt.Sprintf("meta mark set meta mark | 0x%08x comment %q", c.number<<toShift, fmt.Sprintf("place %d: %s", c.number, c.label)))
	}
	b.placeChains(w)
	b.sourceChains(w)
	w.judgeChains()
	b.forwardChains(w, p)
	b.translationChains(w)
	if err := b.inputChains(w, p); err != nil {
		return nil, err
	}
	if err := b.outputChains(w, p); err != nil {
		return nil, err
	}
	b.text = w.String()
	return b, nil
}

// writer writes nft syntax. Every name that reaches it has passed identifier.
type writer struct {
	strings.Builder
	lookups map[string]bool // that are written
}

func (w *writer) chain(name string, rules ...string) {
	w.WriteString("\tchain " + name + " {\n")
	for _, rule := range rules {
		w.WriteString("\t\t" + rule + "\n")
	}
	w.WriteString("\t}\n")
}

func (w *writer) set(name, keyType string, elements []string) {
	fmt.Fprintf(w, "\tset %s {\n\t\ttype %s\n", name, keyType)
	if len(elements) > 0 {
		w.WriteString("\t\telements = " + braces(elements) + "\n")
	}
	w.WriteString("\t}\n")
}

func braces(list []string) string { return "{ " + strings.Join(list, ", ") + " }" }

func quoted(names []string) []string {
	out := make([]string, len(names))
	for i, name := range names {
		out[i] = `"` + name + `"` // passed identifier: nothing to escape
	}
	return out
}

// The reasons for which packets are dropped.
const (
	Spoofed     = "spoofed"      // arrives from a source that its interface or device cannot have
	Invalid     = "invalid"      // conntrack makes no sense of it
	NoFlow      = "no_flow"      // no flow lets it pass
	NoMessage   = "no_message"   // for a tunnel port, too short to be a WireGuard message
	NoPeer      = "no_peer"      // for a tunnel port, from an address that is no registered peer's
	WrongSource = "wrong_source" // an outer packet that would leave from another address than its device's
	Loop        = "loop"         // an outer packet that would go into a tunnel
	Unhidden    = "unhidden"     // would leave by a device with an address that is to be hidden
)

// dropIDs are those of all that drops: the hook and the reason. Each names a chain in which packets end, the counter that counts them, and
// the prefix of their records; it says the same across reloads, in records and for Explain.
var dropIDs = [...]string{
	"prerouting." + Spoofed,
	"forward." + Invalid, "forward." + NoFlow, "forward." + TooManyNew, "forward." + TooManyConnections, "forward." + Bandwidth,
	"input." + Invalid, "input." + NoFlow, "input." + NoPeer, "input." + NoMessage,
	"output." + Invalid, "output." + NoFlow, "output." + WrongSource, "output." + Loop,
	"postrouting." + Unhidden,
}

// Reason is that of the ID of what drops: "forward.no_flow".
func Reason(id string) string {
	_, reason, _ := strings.Cut(id, ".")
	return reason
}

// LogGroup is the netlink group to which the kernel sends records of dropped packets (NFLOG).
const LogGroup = 0x534b

// Of each ID so many packets a second are recorded, so many at once, and of each so many bytes.
const (
	LogRate  = 5
	LogBurst = 20
	LogBytes = 128
)

// DropIDs are those of all that drops.
func DropIDs() []string { return slices.Clone(dropIDs[:]) }

// record is the rule that sends one packet's first bytes (headers, with room for those of IPv6) to LogGroup. Only the record is limited: in a
// flood it costs next to nothing, while the rule behind it goes on to count and to drop every packet.
func record(id string) string {
	return fmt.Sprintf("limit rate %d/second burst %d packets log prefix %q group %d snaplen %d", LogRate, LogBurst, id, LogGroup, LogBytes)
}

func (w *writer) dropChains() {
	for _, id := range dropIDs {
		w.WriteString("\tcounter " + id + " {\n\t}\n")
		w.chain(id, record(id), "counter name "+id+" drop")
	}
}

// drop leads to the end of a packet.
func drop(hook, reason string) string { return "goto " + hook + "." + reason }

// placeSets are the sets by which verify compares a connection's mark with where the packet is.
func (b *Base) placeSets(w *writer, p Policy) {
	var from, to, tunnel4, tunnel6, interfaces, devices []string
	for _, c := range b.places {
		for _, name := range quoted(c.interfaces) {
			from = append(from, fmt.Sprintf("0x%08x . %s", c.number<<fromShift, name))
			to = append(to, fmt.Sprintf("0x%08x . %s", c.number<<toShift, name))
			if c.device {
				devices = append(devices, name)
			} else {
				interfaces = append(interfaces, name)
			}
		}
	}
	for _, d := range p.Devices {
		at := fmt.Sprintf("%s . %d", d.LocalIP, d.Port)
		if d.LocalIP.Is4() {
			tunnel4 = append(tunnel4, at)
		} else {
			tunnel6 = append(tunnel6, at)
		}
	}
	slices.Sort(tunnel4)
	slices.Sort(tunnel6)
	w.set("from_place", "mark . ifname", from)
	w.set("to_place", "mark . ifname", to)
	w.set("zone_links", "ifname", interfaces)
	w.set("device_links", "ifname", devices)
	w.set("tunnel_port4", "ipv4_addr . inet_service", tunnel4)
	w.set("tunnel_port6", "ipv6_addr . inet_service", tunnel6)
}

// placeChains write the two places of a connection into the packet's mark: from_X overwrites it, to_X adds to it. X is the
// interface that the packet came by or leaves by. What the box itself opens is from the one zone that its address lies in.
func (b *Base) placeChains(w *writer) {
	var from, to []string
	for _, c := range b.places {
		for _, name := range quoted(c.interfaces) {
			from = append(from, fmt.Sprintf("%s : 0x%08x", name, c.number<<fromShift))
			to = append(to, name+" : goto to_"+c.chain)
		}
	}
	for _, side := range []string{"iif", "oif"} {
		var fromRules, toRules []string
		if len(from) > 0 {
			fromRules = []string{"meta mark set " + side + "name map " + w.lookup("from", linkMark, from)}
			toRules = []string{side + "name vmap " + w.lookup("to", linkVerdict, to)}
		}
		w.chain("from_"+side, append([]string{"meta mark set 0x00000000"}, fromRules...)...)
		w.chain("to_"+side, toRules...)
	}
	fromAddress := []string{"meta mark set 0x00000000"}
	var open []place // zones without prefixes: all that no other claims. Two of them: nobody can tell which
	byLength := map[int][]netip.Prefix{}
	zoneOf := map[netip.Prefix]place{}
	for i, zone := range b.zones {
		if len(zone.Prefixes) == 0 {
			open = append(open, b.places[i])
		}
		for _, prefix := range zone.Prefixes {
			key := prefix.Bits() * 2
			if prefix.Addr().Is4() {
				key++
			}
			byLength[key] = append(byLength[key], prefix)
			zoneOf[prefix] = b.places[i]
		}
	}
	if len(open) == 1 {
		fromAddress[0] = fmt.Sprintf("meta mark set 0x%08x", open[0].number<<fromShift)
	}
	// Zones may nest: the longest prefix is written last.
	for _, length := range slices.Sorted(maps.Keys(byLength)) {
		var values []string
		keyword := "ip6"
		for _, prefix := range byLength[length] {
			if prefix.Addr().Is4() {
				keyword = "ip"
			}
			values = append(values, fmt.Sprintf("%s : 0x%08x", prefix, zoneOf[prefix].number<<fromShift))
		}
		fromAddress = append(fromAddress, fmt.Sprintf("meta mark set ct original %s saddr map %s", keyword, w.lookup("address", prefixMap(keyword, "meta mark"), values)))
	}
	w.chain("from_address", fromAddress...)
}

// sourceChains stop packets whose source the interface or device that they arrive on cannot have. Within a device the driver's
// cryptokey routing binds each peer to its own prefixes.
func (b *Base) sourceChains(w *writer) {
	var all, verdicts []string
	for _, zone := range b.zones {
		for _, prefix := range zone.Prefixes {
			all = append(all, prefix.String())
		}
	}
	for _, c := range b.places {
		if len(c.interfaces) == 0 {
			continue
		}
		var rules []string
		if !c.device {
			rules = append(rules,
				// RFC 4861 7.2.2, 6.3.7 and RFC 3810 5.2.13: these are sent from the unspecified address before there is another.
				`ip6 saddr :: icmpv6 type { 131, 132, 133, 135, 143 } return comment "neighbour discovery"`,
				`ip6 saddr fe80::/10 return comment "neighbour discovery"`,
				`ip saddr 0.0.0.0 udp sport 68 udp dport 67 return comment "DHCP"`)
		}
		// Our own address comes from nobody else. The kernel sees to that for IPv4 (fib_validate_source), not for IPv6.
		rules = append(rules, "meta nfproto ipv6 fib saddr type local "+drop("prerouting", Spoofed))
		own := texts(c.prefixes)
		if inner := b.inside(c.prefixes); len(inner) > 0 && len(b.device[c.interfaces[0]].Sources) == 0 {
			rules = append(rules, longestFirst(c.prefixes, inner)...)
		} else {
			rules = append(rules, matchPrefixes("saddr", own, "return")...)
		}
		if len(own) == 0 { // the internet: whatever none of our zones claims
			rules = append(rules, matchPrefixes("saddr", all, drop("prerouting", Spoofed))...)
		} else {
			rules = append(rules, drop("prerouting", Spoofed))
		}
		w.chain("source_"+c.chain, rules...)
		for _, name := range quoted(c.interfaces) {
			verdicts = append(verdicts, name+" : goto source_"+c.chain)
		}
	}
	rules := []string{fmt.Sprintf(filterHook, "prerouting", "raw")}
	if len(verdicts) > 0 {
		rules = append(rules, "iifname vmap "+w.lookup("source", linkVerdict, verdicts)+` comment "anti-spoofing"`)
	}
	w.chain("prerouting", rules...)
}

// inside are the prefixes of other zones that lie within those of one: its addresses are not in that one.
func (b *Base) inside(own []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, zone := range b.zones {
		for _, prefix := range zone.Prefixes {
			if !slices.Contains(own, prefix) && slices.ContainsFunc(own, func(o netip.Prefix) bool { return o.Bits() < prefix.Bits() && o.Contains(prefix.Addr()) }) {
				out = append(out, prefix)
			}
		}
	}
	return out
}

// longestFirst lets pass what lies in own and stops what lies in inner, the longest prefix deciding.
func longestFirst(own, inner []netip.Prefix) []string {
	verdict, byLength := map[netip.Prefix]string{}, map[int][]netip.Prefix{}
	for _, side := range []struct {
		list    []netip.Prefix
		verdict string
	}{{own, "return"}, {inner, drop("prerouting", Spoofed)}} {
		for _, prefix := range side.list {
			verdict[prefix] = side.verdict
			byLength[prefix.Bits()] = append(byLength[prefix.Bits()], prefix)
		}
	}
	var rules []string
	for _, length := range slices.Backward(slices.Sorted(maps.Keys(byLength))) {
		for _, v := range []string{"return", drop("prerouting", Spoofed)} {
			var list []netip.Prefix
			for _, prefix := range byLength[length] {
				if verdict[prefix] == v {
					list = append(list, prefix)
				}
			}
			rules = append(rules, matchPrefixes("saddr", texts(list), v)...)
		}
	}
	return rules
}

func texts(prefixes []netip.Prefix) []string {
	out := make([]string, len(prefixes))
	for i, prefix := range prefixes {
		out[i] = prefix.String()
	}
	return out
}

// matchPrefixes is one rule for each family that is there. Prefixes inside others are left out: an anonymous interval set
// refuses overlaps.
func matchPrefixes(side string, prefixes []string, verdict string) []string {
	lists := map[string][]netip.Prefix{}
	for _, text := range prefixes {
		prefix := netip.MustParsePrefix(text)
		keyword := "ip6"
		if prefix.Addr().Is4() {
			keyword = "ip"
		}
		lists[keyword] = append(lists[keyword], prefix)
	}
	var rules []string
	for _, keyword := range slices.Sorted(maps.Keys(lists)) {
		rules = append(rules, fmt.Sprintf("%s %s %s %s", keyword, side, braces(outermost(lists[keyword])), verdict))
	}
	return rules
}

// outermost leaves out prefixes that lie inside another, and sorts.
func outermost(list []netip.Prefix) []string {
	list = slices.Clone(list)
	slices.SortFunc(list, func(x, y netip.Prefix) int { return cmp.Or(x.Addr().Compare(y.Addr()), x.Bits()-y.Bits()) })
	var out []string
	var last netip.Prefix
	for _, prefix := range list {
		if last.IsValid() && last.Contains(prefix.Addr()) {
			continue
		}
		last = prefix
		out = append(out, prefix.String())
	}
	return out
}
