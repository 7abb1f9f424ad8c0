package validate

import "net/netip"

// block is a part of the address space with a purpose of its own.
type block struct {
	prefix netip.Prefix
	kind   string
	lab    bool // may be a public peer IP in a lab
	route  bool // may be routed through a tunnel
}

// blocks are the special-purpose registries of IANA (RFC 6890 and its updates), as far as an address in them cannot be a public peer IP.
var blocks = []block{
	{netip.MustParsePrefix("0.0.0.0/8"), "this network (RFC 791)", false, false},
	{netip.MustParsePrefix("10.0.0.0/8"), "private (RFC 1918)", true, true},
	{netip.MustParsePrefix("100.64.0.0/10"), "shared by carriers, CGNAT (RFC 6598)", true, true},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback (RFC 1122)", false, false},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local (RFC 3927)", false, false},
	{netip.MustParsePrefix("172.16.0.0/12"), "private (RFC 1918)", true, true},
	{netip.MustParsePrefix("192.0.0.0/24"), "for protocols (RFC 6890)", false, true},
	{netip.MustParsePrefix("192.0.2.0/24"), "for documentation (RFC 5737)", true, true},
	{netip.MustParsePrefix("192.88.99.0/24"), "reserved, once 6to4 (RFC 7526)", false, true},
	{netip.MustParsePrefix("192.168.0.0/16"), "private (RFC 1918)", true, true},
	{netip.MustParsePrefix("198.18.0.0/15"), "for benchmarks (RFC 2544)", true, true},
	{netip.MustParsePrefix("198.51.100.0/24"), "for documentation (RFC 5737)", true, true},
	{netip.MustParsePrefix("203.0.113.0/24"), "for documentation (RFC 5737)", true, true},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast (RFC 5771)", false, false},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved (RFC 1112)", false, false},
	{netip.MustParsePrefix("::/128"), "unspecified (RFC 4291)", false, false},
	{netip.MustParsePrefix("::1/128"), "loopback (RFC 4291)", false, false},
	{netip.MustParsePrefix("::/96"), "reserved, once IPv4-compatible (RFC 4291)", false, false},
	{netip.MustParsePrefix("64:ff9b::/96"), "for translation (RFC 6052)", false, true},
	{netip.MustParsePrefix("64:ff9b:1::/48"), "for translation (RFC 8215)", false, true},
	{netip.MustParsePrefix("100::/64"), "discarded (RFC 6666)", false, false},
	{netip.MustParsePrefix("2001:db8::/32"), "for documentation (RFC 3849)", true, true},
	{netip.MustParsePrefix("3fff::/20"), "for documentation (RFC 9637)", true, true},
	{netip.MustParsePrefix("2001:2::/48"), "for benchmarks (RFC 5180)", true, true},
	{netip.MustParsePrefix("2001::/23"), "for protocols (RFC 2928)", false, true},
	{netip.MustParsePrefix("2002::/16"), "6to4 (RFC 3056)", false, true},
	{netip.MustParsePrefix("fc00::/7"), "unique local, ULA (RFC 4193)", true, true},
	{netip.MustParsePrefix("fe80::/10"), "link-local (RFC 4291)", false, false},
	{netip.MustParsePrefix("fec0::/10"), "reserved, once site-local (RFC 3879)", false, true},
	{netip.MustParsePrefix("ff00::/8"), "multicast (RFC 4291)", false, false},
}

// globalUnicast is the only part of IPv6 that is given out (IANA, IPv6 Address Space).
var globalUnicast = netip.MustParsePrefix("2000::/3")

// special says what an address is for, if it is not for the Internet at large, and whether a lab may use it all the same.
func special(a netip.Addr) (kind string, lab, is bool) {
	for _, b := range blocks {
		if b.prefix.Contains(a) {
			return b.kind, b.lab, true
		}
	}
	if a.Is6() && !globalUnicast.Contains(a) {
		return "reserved (RFC 4291)", false, true
	}
	return "", false, false
}

// unroutable says of what no router forwards a prefix holds a part. A default route is another matter.
func unroutable(p netip.Prefix) (kind string, is bool) {
	if p.Bits() == 0 {
		return "", false
	}
	for _, b := range blocks {
		if !b.route && b.prefix.Overlaps(p) {
			return "what is " + b.kind, true
		}
	}
	return "", false
}
