package validate_test

import (
	"fmt"
	"strings"
)

func selectorCases() []broken {
	six := func(initiator, owner string) string {
		return doc("Peer", "x", "{side: initiator, publicIP: \"2001:db8:e::98\", wireguard: [{farZone: dmz, environment: production, port: 1, publicKey: "+spareKey+"}]}") +
			doc("Tunnel", "x", "{environment: production, protocol: wireguard, initiator: {peer: x, zone: agencies, prefixes: ["+initiator+"]}, owner: {peer: owner-b, zone: dmz, prefixes: ["+owner+"]}}")
	}
	return []broken{
		{"host bits", "", spareTunnel("10.64.99.1/28", "10.20.99.0/28"), "host bits are set", "10.64.99.1/28", ""},
		{"host bits IPv6", "", six(`"2001:db8:64:9::1/64"`, `"2001:db8:20:9::/64"`), "host bits are set", "2001:db8:64:9::1/64", ""},
		{"no length", "", spareTunnel("10.64.99.1", "10.20.99.0/28"), "prefix has no length", "10.64.99.1", ""},
		{"no prefixes", "", spareTunnel("", "10.20.99.0/28"), "end without prefixes", "", "VPN-03"},
		{"local outside its zone", "", spareTunnel("10.64.99.0/28", "10.21.99.0/28"), "prefix is outside the zone", "10.21.99.0/28", "VPN-03"},
		{"local outside its zone IPv6", "", six(`"2001:db8:64:9::/64"`, `"2001:db8:21:9::/64"`), "prefix is outside the zone", "2001:db8:21:9::/64", "VPN-03"},
		{"local wider than its zone", "", spareTunnel("10.64.99.0/28", "10.0.0.0/10"), "prefix is outside the zone", "10.0.0.0/10", "VPN-03"},
		{"remote outside its zone", "", spareTunnel("10.128.99.0/28", "10.20.99.0/28"), "prefix is outside the zone", "10.128.99.0/28", "VPN-03"},
		{"remote overlaps another", "", spareTunnel("10.64.4.8/29", "10.20.99.0/28"), "remote prefix overlaps tunnel four", "10.64.4.8/29", "VPN-03"},
		{"remote contains another", "", spareTunnel("10.64.4.0/24", "10.20.99.0/28"), "remote prefix overlaps tunnel four", "10.64.4.0/24", "VPN-03"},
		{"remote overlaps another peer's of the site", "", spareTunnel("10.64.6.0/29", "10.20.99.0/28"), "remote prefix overlaps tunnel six", "10.64.6.0/29", "VPN-03"},
		{"remote overlaps another IPv6", "", six(`"2001:db8:64:6:1::/80"`, `"2001:db8:20:9::/64"`), "remote prefix overlaps tunnel six", "2001:db8:64:6:1::/80", "VPN-03"},
		{"remote overlaps a local zone", "", localZoneTunnel("10.20.88.0/28", "10.20.99.0/28"), "remote prefix overlaps local zone dmz", "10.20.88.0/28", "VPN-03"},
		{"remote overlaps a local zone IPv6", "", localZoneTunnel(`"2001:db8:20:8::/64"`, `"2001:db8:20:9::/64"`), "remote prefix overlaps local zone dmz", "2001:db8:20:8::/64", "VPN-03"},
		{"at both ends", "", bothEnds(), "prefix is at both ends", "10.20.88.0/29", "VPN-03"},
		{"default route", "", spareTunnel("0.0.0.0/0", "10.20.99.0/28"), "selector is a default route", "0.0.0.0/0", ""},
		{"default route IPv6", "", six("::/0", `"2001:db8:20:9::/64"`), "selector is a default route", "::/0", ""},
		{"default route at the near end", "", spareTunnel("10.64.99.0/28", "0.0.0.0/0"), "selector is a default route", "0.0.0.0/0", ""},
		{"listed twice", "", spareTunnel("10.64.99.0/28, 10.64.99.4/30", "10.20.99.0/28"), "prefix is listed twice", "10.64.99.4/30", ""},
		{"families mixed", "", spareTunnel(`10.64.99.0/28, "2001:db8:64:99::/64"`, "10.20.99.0/28"), "address families mixed", "2001:db8:64:99::/64", "VPN-03"},
		{"mapped selector", "", spareTunnel(`"::ffff:10.64.99.0/124"`, "10.20.99.0/28"), "IPv4-mapped IPv6", "::ffff:10.64.99.0/124", ""},
		{"multicast selector", "", spareTunnel("224.1.0.0/28", "10.20.99.0/28"), "prefix overlaps what is multicast", "224.1.0.0/28", ""},
		{"too many prefixes", "", spareTunnel(hosts(10_001), "10.20.99.0/28"), "too many prefixes", "a list of 10001", ""},
		{"test and production overlap", "10.65.4.0/28", "10.64.4.0/29", "selectors of test and production overlap", "10.64.4.0/29", "VPN-11"},
		{"test and production overlap at the owner", "10.20.14.0/28", "10.20.4.0/28", "selectors of test and production overlap", "10.20.4.0/28", "VPN-11"},
	}
}

// hosts is a list of addresses in 10.70.0.0/16.
func hosts(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("10.70.%d.%d/32", i>>8, i&255)
	}
	return strings.Join(list, ", ")
}

// localZoneTunnel leads from a site of its own to a far end in the zone that the site touches.
func localZoneTunnel(initiator, owner string) string {
	return doc("Site", "s", "{lab: true, peers: [own], interfaces: [{name: lan, zone: dmz}]}") + dmzPair(initiator, owner)
}

// bothEnds has no Site, so that only the two ends speak.
func bothEnds() string { return dmzPair("10.20.88.0/28", "10.20.88.0/29") }

func dmzPair(initiator, owner string) string {
	return doc("Peer", "x", "{side: initiator, publicIP: 198.51.100.98, "+xIdentity+"}") + doc("Peer", "own", "{side: owner, publicIP: 203.0.113.11, "+xIdentity+"}") +
		doc("Tunnel", "x", "{environment: production, protocol: ipsec, ipsec: {encapsulation: esp}, initiator: {peer: x, zone: dmz, prefixes: ["+initiator+"]}, owner: {peer: own, zone: dmz, prefixes: ["+owner+"]}}")
}

func ipsecCases() []broken {
	zone := doc("Zone", "outside", "{contour: external, kind: dedicated-segment, prefixes: [198.51.100.0/24, \"2001:db8:e::/64\"]}")
	tunnel := func(prefix, local string) string {
		return zone + doc("Peer", "x", "{side: initiator, publicIP: 192.0.2.98, "+xIdentity+"}") +
			doc("Tunnel", "x", "{environment: production, protocol: ipsec, ipsec: {encapsulation: esp}, initiator: {peer: x, zone: outside, prefixes: ["+prefix+"]}, owner: {peer: owner-a, zone: dmz, prefixes: ["+local+"]}}")
	}
	const identity = "  ipsec: [{environment: production, type: fqdn, value: sec.example.kz}]\n"
	return []broken{
		{"ipsec absent", "  ipsec: {encapsulation: esp, proposals: [aes256gcm16-ecp384], ikeProposals: [aes256gcm16-prfsha384-ecp384]}\n", "", "tunnel of protocol ipsec without ipsec", "", ""},
		{"encapsulation", "encapsulation: esp", "encapsulation: espp", "unknown value", "espp", ""},
		{"proposal", "proposals: [aes256gcm16-ecp384]", "proposals: [AES GCM]", "not a proposal", "AES GCM", ""},
		{"ike proposal", "aes256gcm16-prfsha384-ecp384", "aes256;", "not a proposal", "aes256;", ""},
		{"no identity", identity, "", "peer has no IPsec identity", "sec", ""},
		{"AH through NAT", "", doc("Peer", "x", "{side: initiator, publicIP: 198.51.100.98, behindNAT: true, "+xIdentity+"}") +
			strings.Replace(xTunnel("x", "owner-a", "dmz", "10.20.9.0/28"), "esp", "ah", 1), "AH through NAT", "ah", "VPN-02"},
		{"selector contains a public IP", "", tunnel("198.51.100.0/29", "10.20.99.0/28"), "selector contains a peer's public IP", "198.51.100.0/29", "VPN-03"},
		{"selector contains a public IP IPv6", "", tunnel(`"2001:db8:e::/80"`, `"2001:db8:20:99::/64"`), "selector contains a peer's public IP", "2001:db8:e::/80", "VPN-03"},
	}
}

func flowCases() []broken {
	return []broken{
		{"flow tunnel unknown", "tunnel: six,", "tunnel: sixx,", "there is no Tunnel", "sixx", ""},
		{"flow of nothing", "{tunnel: six, from", "{from", "flow without tunnel or zones", "", ""},
		{"flow of both", "{tunnel: six,", "{tunnel: six, fromZone: agencies, toZone: dmz,", "flow with tunnel and zones", "six", ""},
		{"flow of one zone", "toZone: internet, ", "", "flow with one zone alone", "", ""},
		{"flow zone unknown", "fromZone: dmz", "fromZone: dmzz", "there is no Zone", "dmzz", ""},
		{"flow without from", "from: [10.64.4.5/32]", "from: []", "flow without prefixes", "", ""},
		{"flow without to", "to: [10.20.4.10/32]", "to: []", "flow without prefixes", "", ""},
		{"flow without allow", "allow: [tcp/443]}", "allow: []}", "flow without services", "", ""},
		{"flow source outside", "from: [10.64.4.5/32]", "from: [10.64.5.5/32]", "source is outside the tunnel", "10.64.5.5/32", ""},
		{"flow source wider", "from: [10.64.4.5/32]", "from: [10.64.4.0/27]", "source is outside the tunnel", "10.64.4.0/27", ""},
		{"flow destination outside", "to: [10.20.4.10/32]", "to: [10.20.4.16/32]", "destination is outside the tunnel", "10.20.4.16/32", ""},
		{"flow destination at the same end", "to: [10.20.4.10/32]", "to: [10.64.4.6/32]", "destination is outside the tunnel", "10.64.4.6/32", ""},
		{"flow outside IPv6", "2001:db8:64:6::5/128", "2001:db8:64:7::5/128", "source is outside the tunnel", "2001:db8:64:7::5/128", ""},
		{"flow outside its zone", "from: [10.20.0.0/24]", "from: [10.30.0.0/24]", "prefix is outside the zone", "10.30.0.0/24", ""},
		{"flow to the internet that a zone claims", "to: [0.0.0.0/0]", "to: [10.64.0.0/16]", "prefix is outside the zone", "10.64.0.0/16", ""},
		{"flow to the appliance, by a tunnel", "addresses: [10.20.0.1/24]", "addresses: [10.20.0.1/24, 10.20.4.10/24]", "destination is the appliance itself", "10.20.4.10/32", ""},
		{"flow to the appliance, between zones", "to: [0.0.0.0/0]", "to: [203.0.113.10/32]", "destination is the appliance itself", "203.0.113.10/32", ""},
		{"flow host bits", "from: [10.64.4.5/32]", "from: [10.64.4.5/31]", "host bits are set", "10.64.4.5/31", ""},
		{"flow families", `to: ["2001:db8:20:6::/64"], allow: [tcp/443, icmpv6]`, "to: [10.20.6.0/28], allow: [tcp/443]", "address families mixed", "10.20.6.0/28", ""},
		{"flow icmp over IPv6", "icmpv6", "icmp", "address families mixed", "icmp", ""},
		{"flow service", "allow: [tcp/443]}", "allow: [tpc/443]}", "unknown service", "tpc/443", ""},
		{"flow port", "allow: [tcp/443]}", "allow: [tcp/0]}", "bad port", "tcp/0", ""},
		{"flow range", "udp/5000-5010", "udp/5010-5000", "bad port", "udp/5010-5000", ""},
		{"flow port of icmp", "5000-5010, icmp]", "5000-5010, icmp/8]", "service has no ports", "icmp/8", ""},
		{"flow too wide", "allow: [tcp/443]}", "allow: [tcp" + strings.Repeat(", tcp", 65536) + "]}", "flow is too wide", "65537 combinations", ""},
	}
}
