package document

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"shekara/firewall"
)

// validName reports whether s is a DNS label in lower case (RFC 1123, 2.1).
func validName(s string) bool {
	if len(s) == 0 || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// SyntaxError says what is wrong with a value and what to write instead.
type SyntaxError struct{ What, Hint string }

func (e *SyntaxError) Error() string { return e.What + ": " + e.Hint }

// ParsePrefix reads "10.64.1.0/28" or "2001:db8::/48": no host bits, no zone, no IPv4-mapped IPv6. The error is a *SyntaxError.
func ParsePrefix(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
			return netip.Prefix{}, &SyntaxError{"prefix has no length", fmt.Sprintf("write %s/%d for this address alone", s, a.BitLen())}
		}
		return netip.Prefix{}, &SyntaxError{"not a prefix", "write an address and a length, as in 10.64.1.0/28 or 2001:db8:1::/64"}
	}
	if p.Addr().Is4In6() {
		return netip.Prefix{}, &SyntaxError{"IPv4-mapped IPv6 prefix", "write it as IPv4"}
	}
	if p != p.Masked() {
		return netip.Prefix{}, &SyntaxError{"host bits are set", fmt.Sprintf("write %s for the network, or %s/%d for the address", p.Masked(), p.Addr(), p.Addr().BitLen())}
	}
	return p, nil
}

// ParseAddress reads an address without length, zone or IPv4-mapped form. The error is a *SyntaxError.
func ParseAddress(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		return netip.Addr{}, &SyntaxError{"not an address", "write an IPv4 or IPv6 address without a prefix length"}
	case a.Is4In6():
		return netip.Addr{}, &SyntaxError{"IPv4-mapped IPv6 address", "write it as IPv4"}
	case a.Zone() != "":
		return netip.Addr{}, &SyntaxError{"address with a zone", "write it without " + "%" + a.Zone()}
	}
	return a, nil
}

// ParseInterfaceAddress reads an address with its prefix length, as `ip address` shows it. The error is a *SyntaxError.
func ParseInterfaceAddress(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return netip.Prefix{}, &SyntaxError{"not an address with prefix length", "write it as ip address shows it, as in 203.0.113.10/24"}
	case p.Addr().Is4In6():
		return netip.Prefix{}, &SyntaxError{"IPv4-mapped IPv6 address", "write it as IPv4"}
	}
	return p, nil
}

// protocols are those that a Flow can name. It never changes.
var protocols = map[string]firewall.Protocol{"icmp": firewall.ICMP, "tcp": firewall.TCP, "udp": firewall.UDP, "icmpv6": firewall.ICMPv6, "sctp": firewall.SCTP}

// maxMonths is a hundred years.
const maxMonths = 1200

// ParseMonths reads calendar time, as 4y or 50mo, in months.
func ParseMonths(s string) (int, error) {
	number, each := strings.TrimSuffix(s, "y"), 12
	if number == s {
		number, each = strings.TrimSuffix(s, "mo"), 1
	}
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil || number == s || int(n)*each > maxMonths {
		return 0, &SyntaxError{What: "not calendar time", Hint: "write years or months, as 4y or 50mo, at most 100y"}
	}
	return int(n) * each, nil
}

// ParseService reads "tcp/443", "udp/5000-5010", "tcp", "icmp". The error is a *SyntaxError.
func ParseService(s string) (firewall.Service, error) {
	name, ports, hasPorts := strings.Cut(s, "/")
	protocol, known := protocols[name]
	if !known {
		hint := "write tcp, udp, sctp, icmp or icmpv6, as in tcp/443, udp/5000-5010 or icmp"
		if near := Nearest(name, []string{"icmp", "icmpv6", "tcp", "udp", "sctp"}); near != "" {
			hint = "did you mean " + near + strings.TrimPrefix(s, name) + "?"
		}
		return firewall.Service{}, &SyntaxError{"unknown service", hint}
	}
	service := firewall.Service{Protocol: protocol}
	if !hasPorts {
		return service, nil
	}
	if protocol == firewall.ICMP || protocol == firewall.ICMPv6 {
		return firewall.Service{}, &SyntaxError{"service has no ports", "write " + name}
	}
	low, high, isRange := strings.Cut(ports, "-")
	if !isRange {
		high = low
	}
	first, err1 := port(low)
	last, err2 := port(high)
	if errors.Join(err1, err2) != nil || first > last {
		return firewall.Service{}, &SyntaxError{"bad port", "write a port from 1 to 65535, or a range as in " + name + "/5000-5010"}
	}
	service.FirstPort, service.LastPort = first, last
	return service, nil
}

func port(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err == nil && (n == 0 || s[0] == '0') {
		return 0, errors.New("no port")
	}
	return uint16(n), err
}

// single is the prefix that holds one address alone.
func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
