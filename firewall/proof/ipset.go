package proof

import (
	"bytes"
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// savedSet is what ipset(8) saved of one set: what made it, and what was added. It is read only if a rule asks for it.
type savedSet struct {
	create   string
	elements []string
}

// readSets splits what "ipset save" prints into sets.
func readSets(saved []byte) (map[string]*savedSet, error) {
	sets := map[string]*savedSet{}
	for line := range bytes.Lines(saved) {
		verb, rest, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
		name, rest, _ := strings.Cut(rest, " ")
		switch s := sets[name]; {
		case verb == "":
		case verb == "create" && s == nil:
			sets[name] = &savedSet{create: rest}
		case verb == "add" && s != nil:
			s.elements = append(s.elements, rest)
		default:
			return nil, fmt.Errorf("line %q of ipset save", strings.TrimSpace(string(line)))
		}
	}
	return sets, nil
}

// ipset is a set as the kernel compares packets with it.
type ipset struct {
	parts    []string // of an element: "ip", "net", "port", "iface"
	six      bool
	elements []ipsetElement
	ports    bool // every element is of a protocol with ports
}

type ipsetElement struct {
	key     []span // one for each part, two for a port: protocol and port
	nomatch bool
	mark    number
	mask    uint64 // of the packet's mark: what is cleared first
}

// setProtocols are those whose ports ipset reads.
var setProtocols = []uint64{6, 17, 132, 136}

var setProtocolNumbers = map[string]uint64{"tcp": 6, "udp": 17, "sctp": 132, "udplite": 136, "icmp": icmpNumber, "ipv6-icmp": icmp6, "icmpv6": icmp6, "esp": 50, "ah": 51, "gre": 47, "dccp": 33}

// ICMP types that ipset writes by name, with the code in the low byte.
var setTypes = map[string]uint64{"icmp:echo-reply": 0, "icmp:echo-request": 8 << 8, "ipv6-icmp:echo-request": 128 << 8, "ipv6-icmp:echo-reply": 129 << 8}

// setOptions are those of a set that change nothing of what is in it, and how many words follow.
var setOptions = map[string]int{"hashsize": 1, "maxelem": 1, "bucketsize": 1, "initval": 1, "skbinfo": 0, "counters": 0, "comment": 0, "forceadd": 0}

func (saved *savedSet) read() (*ipset, error) {
	words, err := shellWords(saved.create)
	if err != nil || len(words) == 0 {
		return nil, fmt.Errorf("set %s", saved.create)
	}
	kind, is := strings.CutPrefix(words[0], "hash:")
	s := &ipset{parts: strings.Split(kind, ","), ports: true}
	for _, part := range s.parts {
		if !is || !slices.Contains([]string{"ip", "net", "port", "iface"}, part) {
			return nil, fmt.Errorf("set of type %s", words[0])
		}
	}
	for i := 1; i < len(words); i++ {
		more, known := setOptions[words[i]]
		if words[i] == "family" && i+1 < len(words) {
			s.six, more, known = words[i+1] == "inet6", 1, true
		}
		if !known {
			return nil, fmt.Errorf("set with %s", words[i])
		}
		i += more
	}
	for _, line := range saved.elements {
		e, err := s.element(line)
		if err != nil {
			return nil, fmt.Errorf("element %s: %w", line, err)
		}
		s.elements = append(s.elements, e)
	}
	return s, nil
}

func (s *ipset) element(line string) (ipsetElement, error) {
	words, err := shellWords(line)
	if err != nil || len(words) == 0 {
		return ipsetElement{}, fmt.Errorf("not understood")
	}
	var e ipsetElement
	fields := strings.Split(words[0], ",")
	if len(fields) != len(s.parts) {
		return e, fmt.Errorf("%d parts in a set of %d", len(fields), len(s.parts))
	}
	for i, field := range fields {
		switch s.parts[i] {
		case "port":
			protocol, port, err := setPort(field)
			if err != nil {
				return e, err
			}
			s.ports = s.ports && slices.Contains(setProtocols, protocol.low.low)
			e.key = append(e.key, protocol, port)
		case "iface":
			if strings.Contains(field, ":") {
				return e, fmt.Errorf("interface %s", field)
			}
			e.key = append(e.key, span{kind: named, name: field})
		default:
			address, err := prefixSpan(field)
			if err != nil || (address.kind == address6) != s.six || s.parts[i] == "ip" && address.low != address.high {
				return e, fmt.Errorf("address %s", field)
			}
			e.key = append(e.key, address)
		}
	}
	for i := 1; i < len(words); i++ {
		switch more := i+1 < len(words); {
		case words[i] == "nomatch":
			e.nomatch = true
		case words[i] == "skbmark" && more:
			value, mask, err := valueAndMask(words[i+1])
			if err != nil {
				return e, err
			}
			e.mark, e.mask = small(value), mask
			i++
		case slices.Contains([]string{"packets", "bytes", "comment", "skbprio", "skbqueue"}, words[i]) && more:
			i++
		default:
			return e, fmt.Errorf("with %s", words[i])
		}
	}
	return e, nil
}

// setPort reads "tcp:443", "icmp:8/0" or "icmp:echo-request".
func setPort(field string) (protocol, port span, err error) {
	name, number, _ := strings.Cut(field, ":")
	p, known := setProtocolNumbers[name]
	if !known {
		if p, err = strconv.ParseUint(name, 10, 8); err != nil {
			return protocol, port, fmt.Errorf("protocol %s", name)
		}
	}
	n, known := setTypes[field]
	if kind, code, is := strings.Cut(number, "/"); is && !known {
		high, err1 := strconv.ParseUint(kind, 10, 8)
		low, err2 := strconv.ParseUint(code, 10, 8)
		n, known = high<<8|low, err1 == nil && err2 == nil
	}
	if !known {
		if n, err = strconv.ParseUint(number, 10, 16); err != nil {
			return protocol, port, fmt.Errorf("port %s", field)
		}
	}
	return oneNumber(p), oneNumber(n), nil
}

func oneNumber(n uint64) span { return span{low: small(n), high: small(n)} }

// prefixSpan reads an address or a prefix, as iptables and ipset write it.
func prefixSpan(text string) (span, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		return spanOf(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return span{}, fmt.Errorf("prefix %s", text)
	}
	return spanOf(p.Addr(), p.Bits()), nil
}

// keys are what a rule with these sides ("src,dst") looks up in the set.
func (s *ipset) keys(sides string) ([]expression, error) {
	list := strings.Split(sides, ",")
	if len(list) < len(s.parts) {
		return nil, fmt.Errorf("%s is asked for the parts %s", sides, strings.Join(s.parts, ","))
	}
	var key []expression
	pick := func(source bool, is, other field) {
		key = append(key, expression{field: map[bool]field{true: is, false: other}[source]})
	}
	for i, part := range s.parts {
		source := list[i] == "src"
		switch {
		case !source && list[i] != "dst":
			return nil, fmt.Errorf("side %s", list[i])
		case part == "iface":
			pick(source, inputName, outputName)
		case part == "port" && s.ports:
			key = append(key, expression{field: metaProtocol})
			pick(source, sourcePort, destinationPort)
		case part == "port":
			key = append(key, expression{field: metaProtocol})
			pick(source, setSourcePort, setDestinationPort)
		case s.six:
			pick(source, source6, destination6)
		default:
			pick(source, source4, destination4)
		}
	}
	return key, nil
}

// content is what is in the set; marks: as a map, and which bits of the packet's mark are cleared before the value is joined to it.
func (s *ipset) content(name string, marks bool) (*set, uint64, error) {
	mask, masked, shadows := uint64(0), false, marks
	for _, e := range s.elements {
		switch {
		case e.nomatch:
			shadows = true
		case marks && masked && e.mask != mask:
			return nil, 0, fmt.Errorf("set %s: marks with different masks", name)
		default:
			mask, masked = e.mask, true
		}
	}
	elements := s.elements
	if shadows {
		var err error
		if elements, err = s.longest(); err != nil {
			return nil, 0, fmt.Errorf("set %s: %w", name, err)
		}
	}
	leads := ""
	if marks {
		leads = "mark"
	}
	out := make([]element, len(elements))
	for i, e := range elements {
		out[i] = element{key: e.key}
		if marks {
			out[i].data = e.mark
		}
	}
	return newSet(name, leads, out), mask, nil
}

// longest is the set with ranges in place of prefixes, of which the longest decides, so that no two have an address in common.
func (s *ipset) longest() ([]ipsetElement, error) {
	at, parts := -1, 0
	for i, part := range s.parts {
		if part == "net" {
			if at >= 0 {
				return nil, fmt.Errorf("two prefixes, of which the longest decides")
			}
			at = parts
		}
		parts++
		if part == "port" && i < len(s.parts) {
			parts++
		}
	}
	if at < 0 { // each element is one packet's
		return slices.DeleteFunc(slices.Clone(s.elements), func(e ipsetElement) bool { return e.nomatch }), nil
	}
	groups := map[string][]ipsetElement{}
	var order []string
	for _, e := range s.elements {
		rest := slices.Clone(e.key)
		rest[at] = span{}
		name := fmt.Sprint(rest)
		if groups[name] == nil {
			order = append(order, name)
		}
		groups[name] = append(groups[name], e)
	}
	var out []ipsetElement
	for _, name := range order {
		out = append(out, disjoint(groups[name], at)...)
	}
	return out, nil
}

// disjoint cuts prefixes where longer ones lie in them.
func disjoint(list []ipsetElement, at int) (out []ipsetElement) {
	slices.SortStableFunc(list, func(x, y ipsetElement) int {
		a, b := x.key[at], y.key[at]
		return cmp.Or(a.low.compare(b.low), b.high.compare(a.high))
	})
	var open []ipsetElement // each inside the one before
	from, ended := number{}, false
	emit := func(e ipsetElement, to number) {
		if e.nomatch || ended || to.less(from) {
			return
		}
		e.key = slices.Clone(e.key)
		e.key[at].low, e.key[at].high = from, to
		out = append(out, e)
	}
	closeTop := func() {
		top := open[len(open)-1]
		emit(top, top.key[at].high)
		open = open[:len(open)-1]
		var overflow bool
		from, overflow = top.key[at].high.next()
		ended = ended || overflow || fields[addressField(top.key[at].kind)].width == 32 && !from.fits(32)
	}
	for _, e := range list {
		low := e.key[at].low
		for len(open) > 0 && open[len(open)-1].key[at].high.less(low) {
			closeTop()
		}
		if len(open) > 0 && from.less(low) {
			emit(open[len(open)-1], low.before())
		}
		open, from, ended = append(open, e), low, false
	}
	for len(open) > 0 {
		closeTop()
	}
	return out
}

func addressField(k kind) field {
	if k == address6 {
		return source6
	}
	return source4
}
