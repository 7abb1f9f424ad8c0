package validate_test

import (
	"strings"

	"shekara/provisioning/document"
)

func zoneCases() []broken {
	return []broken{
		{"zone contour", "contour: integration", "contour: integrated", "unknown value", "integrated", ""},
		{"zone kind", "kind: partners", "kind: partner", "unknown value", "partner", ""},
		{"zone without prefixes", "", doc("Zone", "z", "{contour: external, kind: lan, prefixes: []}"), "zone without prefixes", "", ""},
		{"zone host bits", "10.64.0.0/12", "10.64.0.1/12", "host bits are set", "10.64.0.1/12", ""},
		{"zone host bits IPv6", "2001:db8:64::/48", "2001:db8:64::1/48", "host bits are set", "2001:db8:64::1/48", ""},
		{"zone not a prefix", "192.168.100.0/24]}\n---\napiVersion: shekara/v1\nkind: Site", "192.168.100.0/24, x]}\n---\napiVersion: shekara/v1\nkind: Site", "not a prefix", "x", ""},
		{"zone overlaps zone", "", doc("Zone", "z", "{contour: external, kind: lan, prefixes: [10.64.99.0/24]}"), "prefix overlaps zone agencies", "10.64.99.0/24", ""},
		{"zone overlaps zone IPv6", "", doc("Zone", "z", "{contour: external, kind: lan, prefixes: [\"2001:db8:20:1::/64\"]}"), "prefix overlaps zone dmz", "2001:db8:20:1::/64", ""},
		{"zone holds everything", "", doc("Zone", "z", "{contour: external, kind: lan, prefixes: [0.0.0.0/0]}"), "zone holds every address", "0.0.0.0/0", ""},
		{"zone lists a prefix twice", "10.20.0.0/16,", "10.20.0.0/16, 10.20.1.0/24,", "prefix is listed twice", "10.20.1.0/24", ""},
		{"zone mapped", "", doc("Zone", "z", "{contour: external, kind: lan, prefixes: [\"::ffff:10.1.0.0/112\"]}"), "IPv4-mapped IPv6", "::ffff:10.1.0.0/112", ""},
		{"zone multicast", "", doc("Zone", "z", "{contour: external, kind: lan, prefixes: [224.0.0.0/8]}"), "prefix overlaps what is multicast", "224.0.0.0/8", ""},
	}
}

func siteCases() []broken {
	return []broken{
		{"site peer unknown", "owner-a, owner-b]", "owner-a, owner-b, owner-c]", "there is no Peer", "owner-c", ""},
		{"site peer twice", "owner-a, owner-b]", "owner-a, owner-b, owner-a]", "peer is listed twice", "owner-a", ""},
		{"peer in two sites", "", doc("Site", "second", "{lab: true, peers: [six], interfaces: [{name: lan, zone: agencies}]}") +
			doc("Site", "third", "{lab: true, peers: [six], interfaces: [{name: lan, zone: agencies}]}"), "peer is listed by two sites", "six", "DEF-09"},
		{"interface zone unknown", "name: adm0, zone: admin", "name: adm0, zone: admn", "there is no Zone", "admn", ""},
		{"interface twice", "- {name: adm0, zone: admin}", "- {name: adm0, zone: admin}\n    - {name: adm0, zone: admin }", "interface is listed twice", "adm0", ""},
		{"interface in two zones", "- {name: adm0, zone: admin}", "- {name: adm0, zone: admin}\n    - {name: adm0, zone: dmz}", "interface is in two zones", "adm0", ""},
		{"interface name long", "name: adm0", "name: administrative00", "not the name of an interface", "administrative00", ""},
		{"interface name with @", "name: adm0", "name: adm0@if3", "not the name of an interface", "adm0@if3", ""},
		{"interface of ours", "name: adm0", "name: sk-adm0", "interface belongs to no zone", "sk-adm0", ""},
		{"interface lo", "name: adm0", "name: lo", "interface belongs to no zone", "lo", ""},
		{"interface address", "[10.20.0.1/24]", "[10.20.0.1]", "not an address with prefix length", "10.20.0.1", ""},
		{"interface address of network", "[10.20.0.1/24]", "[10.20.0.0/24]", "address of the network", "10.20.0.0/24", ""},
		{"interface address twice", "[10.20.0.1/24]", "[10.20.0.1/24, 203.0.113.10/25]", "address is listed twice", "203.0.113.10/25", ""},
		{"interface address multicast", "[10.20.0.1/24]", "[\"ff02::1/64\"]", "not the address of a host", "ff02::1/64", ""},
		{"gateway elsewhere", "gateways: [203.0.113.1,", "gateways: [203.0.114.1,", "gateway is not on", "203.0.114.1", ""},
		{"gateway elsewhere IPv6", "\"fe80::1\"", "\"2001:db8:fff::1\"", "gateway is not on", "2001:db8:fff::1", ""},
		{"gateway is the box", "gateways: [203.0.113.1,", "gateways: [203.0.113.10,", "gateway is not on", "203.0.113.10", ""},
		{"gateways of one family", "gateways: [203.0.113.1,", "gateways: [203.0.113.1, 203.0.113.2,", "second gateway", "203.0.113.2", ""},
		{"own address nowhere", "[203.0.113.10/24,", "[203.0.113.11/24,", "no interface has the peer's address", "owner-a", "VPN-01"},
		{"own address nowhere IPv6", "2001:db8:f::10/64", "2001:db8:f::11/64", "no interface has the peer's address", "owner-b", "VPN-01"},
		{"management zone unknown", "{zone: admin, from", "{zone: amdin, from", "there is no Zone", "amdin", ""},
		{"management zone not touched", "{zone: admin, from: [192.168.100.0/24]", "{zone: agencies, from: [10.64.0.0/24]", "no interface is in the zone", "agencies", ""},
		{"management without zone", "{zone: admin, from", "{from", "management without a zone", "", ""},
		{"management without from", "from: [192.168.100.0/24], allow: [tcp/22, icmp]", "allow: [tcp/22]", "management without sources", "", ""},
		{"management without allow", ", allow: [tcp/22, icmp]", "", "management without services", "", ""},
		{"management from outside", "from: [192.168.100.0/24]", "from: [192.168.0.0/16]", "source is outside the zone", "192.168.0.0/16", ""},
		{"management service", "tcp/22", "ssh", "unknown service", "ssh", ""},
		{"dns", "[192.168.100.53]", "[dns.example.kz]", "not an address", "dns.example.kz", ""},
		{"engine", "  dns:", "  engine: fast\n  dns:", "unknown value", "fast", ""},
		{"firewall engine", "  dns:", "  firewall: {engine: pf}\n  dns:", "unknown value", "pf", ""},
		{"drift", "  dns:", "  drift: ignore\n  dns:", "unknown value", "ignore", ""},
		{"journal kept too short", "  dns:", "  journal: {keep: 35mo}\n  dns:", "kept too short", "35mo", "JRN-11"},
		{"journal kept for no time", "  dns:", "  journal: {keep: 3 years}\n  dns:", "not calendar time", "3 years", ""},
		{"a unit without its kind", "  dns:", "  journal: {units: [ssh]}\n  dns:", "not a unit", "ssh", "JRN-04"},
		{"none beside units", "  dns:", "  journal: {units: [kernel, none]}\n  dns:", "not a unit", "none", "JRN-04"},
		{"too many units", "  dns:", "  journal: {units: [kernel" + strings.Repeat(", kernel", document.MaxUnits) + "]}\n  dns:", "too many units", "kernel", ""},
		{"unrecorded", "  dns:", "  unrecorded: drop\n  dns:", "unknown value", "drop", ""},
	}
}

func peerCases() []broken {
	const key, other = "iT3N63YOUxqGcdv8jbK8YJJDh2GBR4BK1BlqaSIqPRg=", "gJ2NRQ1YTXGEKw9c1iYFp7Zd0GZtWWyOBvGDQsvrOFs="
	const zero = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	return []broken{
		{"side", "side: initiator", "side: initator", "unknown value", "initator", ""},
		{"public IP no address", "198.51.100.4\n", "198.51.100.4/32\n", "not an address", "198.51.100.4/32", ""},
		{"public IP twice", "198.51.100.7\n", "198.51.100.4\n", "public IP is used twice", "198.51.100.4", "VPN-01"},
		{"public IP twice IPv6", "", doc("Peer", "p", "{side: initiator, publicIP: \"2001:db8:e::6\"}"), "public IP is used twice", "2001:db8:e::6", "VPN-01"},
		{"far zone unknown", "{farZone: dmz, environment: production", "{farZone: dmx, environment: production", "there is no Zone", "dmx", ""},
		{"peer environment", "farZone: dmz, environment: test", "farZone: dmz, environment: tests", "unknown value", "tests", ""},
		{"port zero", "port: 51821, pub", "port: 0, pub", "port out of range", "0", ""},
		{"port large", "port: 51821, pub", "port: 65536, pub", "port out of range", "65536", ""},
		{"mtu small", "mtu: 1400", "mtu: 575", "MTU out of range", "575", ""},
		{"mtu large", "mtu: 1400", "mtu: 65444", "MTU out of range", "65444", ""},
		{"mtu too small for IPv6", "port: 51822}", "port: 51822, mtu: 1279}", "MTU of the peer's device is too small for IPv6", "owner-b", ""},
		{"port twice in a peer", "port: 51821, mtu", "port: 51820, mtu", "port is used twice", "51820", ""},
		{"port twice at a site", "port: 51822", "port: 51820", "port is used twice", "51820", ""},
		{"second entry for a zone", "port: 51822}", "port: 51822}, {farZone: agencies, environment: production, port: 51823}", "second entry", "agencies", ""},
		{"key missing", ", publicKey: " + key, "", "public key is missing", "", ""},
		{"key bad", key, key[1:], "bad public key", key[1:], ""},
		{"key zero", key, zero, "bad public key", zero, ""},
		{"key duplicate in another peer", "LiqYbL2EDMqJ6iBbvCHJ6nfEeQnkb4RRdKmtIwIB9VA=", key, "duplicate public key", key, ""},
		{"key of test in production", other, key, "duplicate public key", key, "VPN-11"},
		{"endpoint with port", "four.example.kz", "four.example.kz:51820", "not a host name", "four.example.kz:51820", ""},
		{"endpoint another address", "four.example.kz", "198.51.100.44", "endpoint is another address", "198.51.100.44", "VPN-01"},
		{"inside without NAT", "endpoint: four.example.kz", "insideIP: 10.0.0.4", "insideIP without behindNAT", "10.0.0.4", "VPN-02"},
		{"inside is public", "behindNAT: true", "behindNAT: true\n  insideIP: 198.51.100.5", "insideIP is publicIP", "198.51.100.5", "VPN-02"},
		{"inside other family", "behindNAT: true", "behindNAT: true\n  insideIP: fd00::5", "address families mixed", "fd00::5", "VPN-02"},
		{"inside link-local", "behindNAT: true", "behindNAT: true\n  insideIP: 169.254.1.1", "not the address of a host", "169.254.1.1", "VPN-02"},
		{"own behind NAT without inside", "", doc("Site", "s", "{lab: true, peers: [nat], interfaces: [{name: lan, zone: agencies}]}"), "peer behind NAT without insideIP", "", "VPN-02"},
		{"identity type", "type: fqdn", "type: name", "unknown value", "name", ""},
		{"identity value", "value: sec.example.kz", "value: sec_example", "not a host name", "sec_example", ""},
		{"identity ip", "type: fqdn, value: sec.example.kz", "type: ip, value: sec.example.kz", "not an address", "sec.example.kz", ""},
		{"identity dn", "type: fqdn, value: sec.example.kz", "type: dn, value: sec.example.kz", "not a distinguished name", "sec.example.kz", ""},
		{"second identity", "value: sec.example.kz}", "value: sec.example.kz}, {environment: production, type: fqdn, value: b.example.kz}", "second identity", "production", ""},
	}
}

// addressCases put every kind of address that is not of the Internet into a public IP: first what even a lab may not have.
func addressCases() []broken {
	var cases []broken
	for _, c := range []struct{ address, kind string }{
		{"0.1.2.3", "this network"}, {"127.0.0.1", "loopback"}, {"169.254.1.1", "link-local"}, {"224.0.0.1", "multicast"}, {"192.0.0.8", "for protocols"},
		{"240.0.0.1", "reserved"}, {"255.255.255.255", "reserved"}, {"0.0.0.0", "this network"}, {"192.88.99.1", "reserved"},
	} {
		cases = append(cases, broken{"lab " + c.address, "198.51.100.7\n", c.address + "\n", "public IP is " + c.kind, c.address, "VPN-01"})
	}
	for _, c := range []struct{ address, kind string }{
		{"::", "unspecified"}, {"::1", "loopback"}, {"fe80::1", "link-local"}, {"ff02::1", "multicast"}, {"::5", "reserved"}, {"100::1", "discarded"},
		{"4000::1", "reserved"}, {"fec0::1", "reserved"}, {"64:ff9b::1", "for translation"}, {"2002::1", "6to4"},
	} {
		cases = append(cases, broken{"lab " + c.address, "2001:db8:e::6\n", "\"" + c.address + "\"\n", "public IP is " + c.kind, c.address, "VPN-01"})
	}
	return append(cases,
		broken{"mapped", "2001:db8:e::6\n", "\"::ffff:198.51.100.6\"\n", "IPv4-mapped IPv6", "::ffff:198.51.100.6", ""},
		broken{"zoned", "2001:db8:e::6\n", "\"fe80::1%eth0\"\n", "address with a zone", "fe80::1%eth0", ""})
}

func tunnelCases() []broken {
	return []broken{
		{"environment", "environment: test\n", "environment: stage\n", "unknown value", "stage", ""},
		{"protocol", "protocol: ipsec", "protocol: ikev2", "unknown value", "ikev2", ""},
		{"keepalive", "  probe: true", "  probe: true\n  keepalive: 65536", "keepalive out of range", "65536", ""},
		{"limit negative", "  probe: true", "  probe: true\n  limits: {newPerSecond: -1}", "limit out of range", "-1", "VPN-08"},
		{"limit of new connections", "  probe: true", "  probe: true\n  limits: {newPerSecond: 100001}", "limit out of range", "100001", "VPN-08"},
		{"limit of connections", "  probe: true", "  probe: true\n  limits: {connections: 10001}", "limit out of range", "10001", "VPN-08"},
		{"limit of bandwidth", "  probe: true", "  probe: true\n  limits: {mbitPerSecond: 100001}", "limit out of range", "100001", "VPN-08"},
		{"limits with ipsec", "protocol: ipsec", "protocol: ipsec\n  limits: {connections: 1}", "limits of a tunnel of protocol ipsec", "", "VPN-08"},
		{"keepalive negative", "  probe: true", "  probe: true\n  keepalive: -1", "keepalive out of range", "-1", ""},
		{"peer unknown", "{peer: four, zone: agencies, prefixes: [10.64", "{peer: five, zone: agencies, prefixes: [10.64", "there is no Peer", "five", ""},
		{"zone unknown", "{peer: nat, zone: agencies", "{peer: nat, zone: agenceis", "there is no Zone", "agenceis", ""},
		{"side of another", "", xPeer("owner") + xTunnel("x", "owner-a", "dmz", "10.20.9.0/28"), "peer is of the other side", "x", "DEF-09"},
		{"both ends one peer", "", xTunnel("sec", "sec", "dmz", "10.20.9.0/28"), "both ends are one peer", "sec", "DEF-33"},
		{"pair exists", "", doc("Tunnel", "t", "{environment: production, protocol: wireguard, initiator: {peer: four, zone: agencies, prefixes: [10.64.9.0/28]}, owner: {peer: owner-a, zone: dmz, prefixes: [10.20.9.0/28]}}"), "pair exists in this environment", "owner-a", "VPN-03"},
		{"two families outside", "{peer: nat, zone: agencies, prefixes: [10.64.5.0/28]}\n  owner: {peer: owner-a", "{peer: nat, zone: agencies, prefixes: [10.64.5.0/28]}\n  owner: {peer: owner-b", "address families mixed", "owner-b", "VPN-01"},
		{"both behind NAT", "publicIP: 203.0.113.10\n", "publicIP: 203.0.113.20\n  behindNAT: true\n  insideIP: 203.0.113.10\n", "both ends are behind NAT", "owner-a", "VPN-02"},
		{"one appliance", "", doc("Site", "s", "{lab: true, peers: [x, y], interfaces: [{name: lan, zone: agencies}, {name: dmz, zone: dmz}]}") +
			xPeer("initiator") + doc("Peer", "y", "{side: owner, publicIP: 198.51.100.97, "+xIdentity+"}") + xTunnel("x", "y", "dmz", "10.20.9.0/28"),
			"both ends are one appliance", "y", "DEF-33"},
		{"no device at the near end", "    - {farZone: agencies, environment: test, port: 51821, mtu: 1400}\n", "", "peer has no WireGuard device", "owner-a", ""},
		{"no device at the far end", "    - {farZone: dmz, environment: test, port: 51821, publicKey: gJ2NRQ1YTXGEKw9c1iYFp7Zd0GZtWWyOBvGDQsvrOFs=}\n", "", "peer has no WireGuard device", "four", ""},
		{"ipsec in wireguard", "  probe: true", "  probe: true\n  ipsec: {encapsulation: esp}", "ipsec in a tunnel of protocol wireguard", "", ""},
		{"secret no name", "presharedKey: four\n", "presharedKey: a/b\n", "not the name of a secret", "[not shown]", ""},
		{"secret itself", "presharedKey: four\n", "presharedKey: iT3N63YOUxqGcdv8jbK8YJJDh2GBR4BK1BlqaSIqPRg=\n", "not the name of a secret", "[not shown]", ""},
		{"secret shared", "presharedKey: four-test", "presharedKey: four", "secret is shared by test and production", "four", "VPN-11"},
		{"probe without address", "prefixes: [10.64.5.0/28]}\n  owner: {peer: owner-a, zone: dmz, prefixes: [10.20.5.0/28]}", "prefixes: [10.64.5.0/28]}\n  owner: {peer: owner-a, zone: dmz, prefixes: [10.20.5.0/28]}\n  probe: true", "probe without an address", "true", ""},
		{"probe address outside", "probeAddress: 10.64.4.1", "probeAddress: 10.64.4.16", "probe address is outside", "10.64.4.16", ""},
		{"probe address no address", "probeAddress: 10.64.4.1", "probeAddress: host", "not an address", "host", ""},
		{"probe addresses mixed", "10.64.6.0/28]}\n  owner: {peer: owner-b, zone: dmz, prefixes: [\"2001:db8:20:6::/64\", 10.20.6.0/28]}",
			"10.64.6.0/28], probeAddress: \"2001:db8:64:6::1\"}\n  owner: {peer: owner-b, zone: dmz, prefixes: [\"2001:db8:20:6::/64\", 10.20.6.0/28], probeAddress: 10.20.6.1}",
			"address families mixed", "10.20.6.1", ""},
		{"zone on no interface", "", doc("Zone", "closed", "{contour: internal, kind: lan, prefixes: [10.99.0.0/24]}") + xPeer("initiator") +
			xTunnel("x", "owner-a", "closed", "10.99.0.0/28"), "no interface is in the zone", "closed", ""},
	}
}

const xIdentity = "ipsec: [{environment: production, type: fqdn, value: x.example.kz}]"

// xPeer and xTunnel are a pair joined by IPsec, which needs no device at the other end.
func xPeer(side string) string {
	return doc("Peer", "x", "{side: "+side+", publicIP: 198.51.100.98, "+xIdentity+"}")
}

func xTunnel(initiator, owner, zone, prefix string) string {
	return doc("Tunnel", "x", "{environment: production, protocol: ipsec, ipsec: {encapsulation: esp}, initiator: {peer: "+initiator+
		", zone: agencies, prefixes: [10.64.9.0/28]}, owner: {peer: "+owner+", zone: "+zone+", prefixes: ["+prefix+"]}}")
}
