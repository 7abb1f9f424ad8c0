package firewall

import (
	"net/netip"
	"slices"
	"strconv"
)

// term reads one expression of a packet, with a mask or a bit to set if one follows.
func (c *cursor) term() (expression, error) {
	e, err := c.bare()
	if err != nil {
		return nil, err
	}
	switch {
	case c.take("|"):
		n, err := strconv.ParseUint(c.next(), 0, 32)
		return func(w *walk) (value, bool) { v, ok := e(w); v.number |= n; return v, ok }, err
	case c.take("&", "("):
		var mask uint64
		for !c.take(")") {
			n, known := flagNumbers[c.next()]
			if !known {
				return nil, c.unknown("flag")
			}
			mask |= n
			c.take("|")
		}
		return masked(e, mask), nil
	case c.take("&"):
		word := c.next()
		if n, err := strconv.ParseUint(word, 0, 32); err == nil {
			return masked(e, n), nil
		}
		mask, err := netip.ParseAddr(word)
		return func(w *walk) (value, bool) {
			v, ok := e(w)
			if ok {
				v.address = under(v.address, mask)
			}
			return v, ok && v.address.IsValid()
		}, err
	}
	return e, nil
}

func masked(e expression, mask uint64) expression {
	return func(w *walk) (value, bool) { v, ok := e(w); v.number &= mask; return v, ok }
}

// under is the address and the mask; zero if they are of two families.
func under(a, mask netip.Addr) netip.Addr {
	bytes, bits := a.AsSlice(), mask.AsSlice()
	if len(bytes) != len(bits) {
		return netip.Addr{}
	}
	for i := range bytes {
		bytes[i] &= bits[i]
	}
	out, _ := netip.AddrFromSlice(bytes) // of the length of an address
	return out
}

// bare reads an expression without what may follow it.
func (c *cursor) bare() (expression, error) {
	for _, known := range expressions {
		if c.take(known.words...) {
			return known.read, nil
		}
	}
	return nil, c.unknown("expression")
}

func number(n uint64, ok bool) (value, bool) { return value{number: n}, ok }

func mark(n uint32, ok bool) (value, bool) { return value{number: uint64(n), form: "0x%08x"}, ok }

func address(a netip.Addr, ok bool) (value, bool) { return value{address: a}, ok }

// link is a name as rules quote it. A packet that comes from, or goes to, the box itself has no such link, and matches no name.
func link(name string) (value, bool) { return value{word: `"` + name + `"`}, name != "" }

func (p Packet) is4() bool { return p.Source.Is4() }

// has says whether the packet is of the protocol, and of the family for which nft(8) reads its header.
func (p Packet) has(protocol Protocol) bool {
	return p.Protocol == protocol && (protocol != ICMP || p.is4()) && (protocol != ICMPv6 || !p.is4())
}

// expressions are all that this package writes into rules. What a packet lacks (another family's address, another protocol's port) ends
// the rule, as in the kernel.
var expressions = []struct {
	words []string
	read  expression
}{
	{[]string{"meta", "mark"}, func(w *walk) (value, bool) { return mark(w.mark, true) }},
	{[]string{"meta", "l4proto"}, func(w *walk) (value, bool) { return number(uint64(w.packet.Protocol), true) }},
	{[]string{"meta", "nfproto"}, func(w *walk) (value, bool) { return value{word: "ipv" + family(w.packet.is4())}, true }},
	{[]string{"iifname"}, func(w *walk) (value, bool) { return link(w.packet.From) }},
	{[]string{"oifname"}, func(w *walk) (value, bool) { return link(w.packet.To) }},
	{[]string{"ct", "state"}, func(w *walk) (value, bool) { return value{word: string(w.connection.State)}, true }},
	{[]string{"ct", "status"}, func(w *walk) (value, bool) {
		first := w.connection.State == StateNew && (w.packet.Connection.State == "" || w.packet.Connection.Mark == 0)
		return number(map[bool]uint64{false: statusConfirmed}[first], w.tracked())
	}},
	{[]string{"ct", "direction"}, func(w *walk) (value, bool) {
		return value{word: map[bool]string{false: "original", true: "reply"}[w.connection.Reply]}, w.tracked()
	}},
	{[]string{"ct", "mark"}, func(w *walk) (value, bool) { return mark(w.connection.Mark, w.tracked()) }},
	{[]string{"ct", "original", "ip", "saddr"}, func(w *walk) (value, bool) { return address(w.connection.Source, w.tracked() && w.packet.is4()) }},
	{[]string{"ct", "original", "ip", "daddr"}, func(w *walk) (value, bool) {
		return address(w.connection.Destination, w.tracked() && w.packet.is4())
	}},
	{[]string{"ct", "original", "ip6", "saddr"}, func(w *walk) (value, bool) { return address(w.connection.Source, w.tracked() && !w.packet.is4()) }},
	{[]string{"ct", "original", "ip6", "daddr"}, func(w *walk) (value, bool) {
		return address(w.connection.Destination, w.tracked() && !w.packet.is4())
	}},
	{[]string{"ip", "saddr"}, func(w *walk) (value, bool) { return address(w.packet.Source, w.packet.is4()) }},
	{[]string{"ip", "daddr"}, func(w *walk) (value, bool) { return address(w.packet.Destination, w.packet.is4()) }},
	{[]string{"ip6", "saddr"}, func(w *walk) (value, bool) { return address(w.packet.Source, !w.packet.is4()) }},
	{[]string{"ip6", "daddr"}, func(w *walk) (value, bool) { return address(w.packet.Destination, !w.packet.is4()) }},
	{[]string{"ip6", "hoplimit"}, func(w *walk) (value, bool) { return number(uint64(w.packet.hopLimit()), !w.packet.is4()) }},
	{[]string{"udp", "sport"}, func(w *walk) (value, bool) { return number(uint64(w.packet.SourcePort), w.packet.has(UDP)) }},
	{[]string{"udp", "dport"}, func(w *walk) (value, bool) { return number(uint64(w.packet.DestinationPort), w.packet.has(UDP)) }},
	{[]string{"udp", "length"}, func(w *walk) (value, bool) { return number(uint64(w.packet.udpLength()), w.packet.has(UDP)) }},
	{[]string{"th", "sport"}, func(w *walk) (value, bool) {
		return number(uint64(w.packet.SourcePort), hasPorts(w.packet.Protocol))
	}},
	{[]string{"th", "dport"}, func(w *walk) (value, bool) {
		return number(uint64(w.packet.DestinationPort), hasPorts(w.packet.Protocol))
	}},
	{[]string{"tcp", "flags"}, func(w *walk) (value, bool) { return number(uint64(w.packet.flags()), w.packet.has(TCP)) }},
	{[]string{"icmp", "type"}, func(w *walk) (value, bool) { return number(uint64(w.packet.ICMPType), w.packet.has(ICMP)) }},
	{[]string{"icmpv6", "type"}, func(w *walk) (value, bool) { return number(uint64(w.packet.ICMPType), w.packet.has(ICMPv6)) }},
	{[]string{"fib", "saddr", "type"}, func(w *walk) (value, bool) {
		if slices.Contains(w.local, w.packet.Source) {
			return value{word: "local"}, true
		}
		return value{}, true
	}},
}
