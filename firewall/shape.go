package firewall

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// shape is what flows have in common that can be looked up in one hash set: how many leading bits of source, destination and
// port count. There are few in practice, since sites are given ranges of few sizes.
//
// Why not one interval set: measured with nft 1.0.6 on Linux 6.18, a concatenation of intervals (pipapo) takes 0.84 s to
// load 10,000 elements and 11.8 s for 40,000, and 75 ms to delete one of 10,000. A hash set is linear to load, and one
// element costs the same at any size.
type shape struct {
	is4                             bool
	source, destination, portLength int
}

const maxShapes = 256 // each is one rule that the first packet of a connection may have to pass

// set is the name of the set, "flow4_28_32_16"; without ports "flow4_28_32".
func (s shape) set() string {
	b := append(make([]byte, 0, 16), "flow"+family(s.is4)+"_"...)
	b = append(strconv.AppendInt(b, int64(s.source), 10), '_')
	b = strconv.AppendInt(b, int64(s.destination), 10)
	if s.portLength > 0 {
		b = strconv.AppendInt(append(b, '_'), int64(s.portLength), 10)
	}
	return string(b)
}

// parseShape is the inverse of set.
func parseShape(set string) (shape, bool) {
	var s shape
	rest, is4 := strings.CutPrefix(set, "flow4_")
	if !is4 {
		var is6 bool
		if rest, is6 = strings.CutPrefix(set, "flow6_"); !is6 {
			return s, false
		}
	}
	s.is4 = is4
	fields := strings.Split(rest, "_")
	if len(fields) < 2 || len(fields) > 3 {
		return s, false
	}
	for i, into := range []*int{&s.source, &s.destination, &s.portLength}[:len(fields)] {
		n, err := strconv.Atoi(fields[i])
		if err != nil {
			return s, false
		}
		*into = n
	}
	longest := 128
	if is4 {
		longest = 32
	}
	ok := s.source <= longest && s.destination <= longest && s.portLength <= 16 && s.source >= 0 && s.destination >= 0 && s.portLength >= 0
	return s, ok && s.set() == set
}

// shapes are those of the flow sets among the elements, the most specific first.
func (e Elements) shapes() ([]shape, error) {
	var out []shape
	for set := range e {
		if s, ok := parseShape(set); ok {
			out = append(out, s)
		} else if !isFixed(set) {
			return nil, fmt.Errorf("no set is named %q", set)
		}
	}
	if len(out) > maxShapes {
		return nil, fmt.Errorf("flows use %d different combinations of prefix lengths and port block sizes, more than %d", len(out), maxShapes)
	}
	slices.SortFunc(out, func(x, y shape) int {
		if x.is4 != y.is4 {
			return map[bool]int{true: -1, false: 1}[x.is4]
		}
		return cmp.Or(y.source-x.source, y.destination-x.destination, y.portLength-x.portLength)
	})
	return out, nil
}

// isFixed says whether a name of Elements is one that needs no shape of flows.
func isFixed(set string) bool {
	_, ofLimits := parseLimitMap(set)
	_, known := fixedSets[set]
	return known || ofLimits || set == Limits
}

// fixedSets are the sets that are always there, and their types.
var fixedSets = map[string]string{
	"tunnel_peer4": "ipv4_addr . inet_service . ipv4_addr",
	"tunnel_peer6": "ipv6_addr . inet_service . ipv6_addr",
	"tunnel_any4":  "ipv4_addr . inet_service",
	"tunnel_any6":  "ipv6_addr . inet_service",
	"probe_in4":    "ifname . ipv4_addr . ipv4_addr",
	"probe_in6":    "ifname . ipv6_addr . ipv6_addr",
	"probe_out4":   "ifname . ipv4_addr",
	"probe_out6":   "ifname . ipv6_addr",
}

func (s shape) keyType() string {
	address := "ipv" + family(s.is4) + "_addr"
	t := "mark . " + address + " . " + address + " . inet_proto"
	if s.portLength > 0 {
		t += " . inet_service"
	}
	return t
}

// rule looks a connection up by the addresses with which it was opened. port is "dport" for packets in the direction of the
// opening, "sport" for answers.
func (s shape) rule(port string) string {
	var b strings.Builder
	b.WriteString("meta mark")
	for _, side := range []struct {
		name   string
		length int
	}{{"saddr", s.source}, {"daddr", s.destination}} {
		all, keyword := netip.IPv6Unspecified(), "ip6"
		if s.is4 {
			all, keyword = netip.IPv4Unspecified(), "ip"
		}
		fmt.Fprintf(&b, " . ct original %s %s", keyword, side.name)
		if side.length < all.BitLen() {
			fmt.Fprintf(&b, " & %s", maskOf(all, side.length))
		}
	}
	b.WriteString(" . meta l4proto")
	if s.portLength > 0 {
		b.WriteString(" . th " + port)
		if s.portLength < 16 {
			fmt.Fprintf(&b, " & %d", uint16(0xffff)<<(16-s.portLength))
		}
	}
	return b.String() + " @" + s.set() + " goto pass"
}

// maskOf is the netmask of a prefix length, as an address of zero's family.
func maskOf(zero netip.Addr, length int) netip.Addr {
	bytes := zero.AsSlice()
	for i := range length {
		bytes[i/8] |= 0x80 >> (i % 8)
	}
	mask, _ := netip.AddrFromSlice(bytes) // of the length of an address
	return mask
}
