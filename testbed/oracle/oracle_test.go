package oracle

import (
	"net/netip"
	"strings"
	"testing"
)

const documents = `
apiVersion: shekara/v1
kind: Zone
metadata: {name: agencies}
spec: {contour: external, kind: partners, prefixes: [10.64.0.0/12]}
---
kind: Zone
metadata: {name: gateway}
spec: {contour: integration, kind: screened-subnet, prefixes: [10.20.0.0/24]}
---
kind: Zone
metadata: {name: internal}
spec: {contour: internal, kind: lan, prefixes: [10.30.0.0/24]}
---
kind: Zone
metadata: {name: internet}
spec: {contour: external, kind: internet}
---
kind: Peer
metadata: {name: owner}
spec: {publicIP: 203.0.113.10}
---
kind: Peer
metadata: {name: a}
spec: {publicIP: 198.51.100.20}
---
kind: Peer
metadata: {name: b}
spec: {publicIP: 192.0.2.30}
---
kind: Site
metadata: {name: owner-site}
spec:
  peers: [owner]
  management: {zone: internal, from: [10.30.0.7/32], allow: [tcp/22]}
---
kind: Tunnel
metadata: {name: a}
spec:
  protocol: wireguard
  probe: true
  initiator: {peer: a, zone: agencies, prefixes: [10.64.1.0/28], probeAddress: 10.64.1.1}
  owner: {peer: owner, zone: gateway, prefixes: [10.20.0.10/32], probeAddress: 10.20.0.1}
---
kind: Tunnel
metadata: {name: b}
spec:
  protocol: wireguard
  initiator: {peer: b, zone: agencies, prefixes: [10.64.2.0/28]}
  owner: {peer: owner, zone: gateway, prefixes: [10.20.0.10/32]}
---
kind: Flow
metadata: {name: a-http}
spec: {tunnel: a, from: [10.64.1.5/32], to: [10.20.0.10/32], allow: [tcp/443, udp/5000-5010, icmp]}
---
kind: Flow
metadata: {name: inside}
spec: {fromZone: internal, toZone: gateway, from: [10.30.0.0/24], to: [10.20.0.0/24], allow: [tcp]}
---
kind: Flow
metadata: {name: web}
spec: {fromZone: internet, toZone: gateway, from: [0.0.0.0/0], to: [10.20.0.80/32], allow: [tcp/80]}
`

func TestAllowed(t *testing.T) {
	o, err := Read([]byte(documents))
	if err != nil {
		t.Fatal(err)
	}
	agencyA, agencyB := Location{Zone: "agencies", Peer: "a"}, Location{Zone: "agencies", Peer: "b"}
	gateway, internal := Location{Zone: "gateway", Peer: "owner"}, Location{Zone: "internal", Peer: "owner"}
	internet, edge := Location{Zone: "internet", Peer: "owner"}, Location{Peer: "owner", Appliance: true}
	stranger := Location{Zone: "internet"}
	for _, test := range []struct {
		name                string
		from, to            Location
		source, destination string
		protocol            string
		port                uint16
		want                bool
		reason              string
	}{
		{"the flow", agencyA, gateway, "10.64.1.5", "10.20.0.10", "tcp", 443, true, "flow a-http"},
		{"the flow's range, first", agencyA, gateway, "10.64.1.5", "10.20.0.10", "udp", 5000, true, "flow a-http"},
		{"the flow's range, last", agencyA, gateway, "10.64.1.5", "10.20.0.10", "udp", 5010, true, "flow a-http"},
		{"behind the range", agencyA, gateway, "10.64.1.5", "10.20.0.10", "udp", 5011, false, "service"},
		{"a protocol without ports", agencyA, gateway, "10.64.1.5", "10.20.0.10", "icmp", 0, true, "flow a-http"},
		{"another port", agencyA, gateway, "10.64.1.5", "10.20.0.10", "tcp", 444, false, "service"},
		{"another source of the end", agencyA, gateway, "10.64.1.6", "10.20.0.10", "tcp", 443, false, "from"},
		{"a source that is not the end's", agencyA, gateway, "10.64.2.5", "10.20.0.10", "tcp", 443, false, "source is none"},
		{"another destination", agencyA, gateway, "10.64.1.5", "10.20.0.11", "tcp", 443, false, "destination is none"},
		{"the way back", gateway, agencyA, "10.20.0.10", "10.64.1.5", "tcp", 443, false, ""},
		{"the other agency with the first one's source", agencyB, gateway, "10.64.1.5", "10.20.0.10", "tcp", 443, false, ""},
		{"agency to agency", agencyA, agencyB, "10.64.1.5", "10.64.2.5", "tcp", 443, false, "no flow"},
		{"agency to the inside", agencyA, internal, "10.64.1.5", "10.30.0.7", "tcp", 443, false, ""},
		{"a stranger with the right source", stranger, gateway, "10.64.1.5", "10.20.0.10", "tcp", 443, false, ""},
		{"between zones, all ports", internal, gateway, "10.30.0.7", "10.20.0.10", "tcp", 9, true, "flow inside"},
		{"between zones, another protocol", internal, gateway, "10.30.0.7", "10.20.0.10", "udp", 9, false, "service"},
		{"from the internet", internet, gateway, "192.0.2.99", "10.20.0.80", "tcp", 80, true, "flow web"},
		{"from the internet with an inner source", internet, gateway, "10.30.0.7", "10.20.0.80", "tcp", 80, false, "belongs to another zone"},
		{"management", internal, edge, "10.30.0.7", "10.30.0.1", "tcp", 22, true, "management"},
		{"management from elsewhere", internal, edge, "10.30.0.8", "10.30.0.1", "tcp", 22, false, "only management"},
		{"management through a tunnel", agencyA, edge, "10.30.0.7", "10.30.0.1", "tcp", 22, false, "only management"},
		{"probe", Location{Peer: "a", Appliance: true}, edge, "10.64.1.1", "10.20.0.1", "icmp", 0, true, "probe"},
		{"a flow to the appliance's address", internal, edge, "10.30.0.7", "10.20.0.1", "tcp", 443, false, "only management"},
		{"a flow to the appliance's address through a tunnel", agencyA, edge, "10.64.1.5", "10.20.0.10", "tcp", 443, false, "only management"},
		{"a flow from the appliance's address through a tunnel", Location{Peer: "a", Appliance: true}, gateway, "10.64.1.5", "10.20.0.10", "tcp", 443, true, "flow a-http"},
		{"no flow from the appliance's address", Location{Peer: "a", Appliance: true}, gateway, "10.64.1.1", "10.20.0.10", "tcp", 443, false, "from"},
		{"the appliance to its zone", edge, gateway, "10.20.0.1", "10.20.0.10", "udp", 123, true, "its own zones"},
		{"port 0 is one of all", internal, gateway, "10.30.0.7", "10.20.0.10", "tcp", 0, true, "flow inside"},
		{"probe of a host behind a foreign device", edge, agencyA, "10.20.0.1", "10.64.1.1", "icmp", 0, true, "probe of tunnel a"},
		{"no probe of another host", edge, agencyA, "10.20.0.1", "10.64.1.2", "icmp", 0, false, ""},
		{"no probe of a host behind an appliance", Location{Peer: "a", Appliance: true}, gateway, "10.64.1.1", "10.20.0.1", "icmp", 0, false, ""},
		{"probe from another", agencyA, edge, "10.64.1.5", "10.20.0.1", "icmp", 0, false, "only management"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := Packet{From: test.from, To: test.to, Source: netip.MustParseAddr(test.source), Destination: netip.MustParseAddr(test.destination), Protocol: test.protocol, Port: test.port}
			got, reason := o.Allowed(p)
			if got != test.want || !strings.Contains(reason, test.reason) {
				t.Errorf("%v because %q, want %v because %q", got, reason, test.want, test.reason)
			}
		})
	}
}

func TestALaterFragmentAloneNeverPasses(t *testing.T) {
	o, err := Read([]byte(documents))
	if err != nil {
		t.Fatal(err)
	}
	p := Packet{From: Location{Zone: "agencies", Peer: "a"}, To: Location{Zone: "gateway", Peer: "owner"}, Source: netip.MustParseAddr("10.64.1.5"),
		Destination: netip.MustParseAddr("10.20.0.10"), Protocol: "udp", Port: 5000}
	if got, reason := o.Allowed(p); !got {
		t.Fatalf("the whole packet does not pass: %s", reason)
	}
	p.Later = true
	if got, _ := o.Allowed(p); got {
		t.Error("its second fragment alone passes")
	}
}

func TestJudges(t *testing.T) {
	o, err := Read([]byte(documents))
	if err != nil {
		t.Fatal(err)
	}
	agencyA, agencyB := Location{Zone: "agencies", Peer: "a"}, Location{Zone: "agencies", Peer: "b"}
	gateway, internal := Location{Zone: "gateway", Peer: "owner"}, Location{Zone: "internal", Peer: "owner"}
	stranger := Location{Zone: "internet"}
	for _, test := range []struct {
		from, to Location
		want     bool
	}{{agencyB, gateway, true}, {gateway, agencyB, true}, {gateway, internal, true}, {gateway, gateway, false}, {stranger, gateway, true}, {stranger, agencyB, false}, {agencyB, stranger, false}, {agencyA, agencyB, true}} {
		if got := o.Judges(Packet{From: test.from, To: test.to}); got != test.want {
			t.Errorf("%+v to %+v: %v, want %v", test.from, test.to, got, test.want)
		}
	}
}

func TestInactiveAndUnknownTunnelsPassNothing(t *testing.T) {
	p := Packet{From: Location{Zone: "agencies", Peer: "a"}, To: Location{Zone: "gateway", Peer: "owner"}, Source: netip.MustParseAddr("10.64.1.5"), Destination: netip.MustParseAddr("10.20.0.10"), Protocol: "tcp", Port: 443}
	for _, change := range [][2]string{
		{"protocol: wireguard\n  probe: true", "protocol: wireguard\n  inactive: true"},
		{"protocol: wireguard\n  probe: true", "protocol: ipsec"},
		{"198.51.100.20}", "198.51.100.20, inactive: true}"},
		{"{tunnel: a,", "{tunnel: gone,"},
	} {
		changed := strings.Replace(documents, change[0], change[1], 1)
		if changed == documents {
			t.Fatalf("nothing to replace: %q", change[0])
		}
		o, err := Read([]byte(changed))
		if err != nil {
			t.Fatal(err)
		}
		if got, reason := o.Allowed(p); got {
			t.Errorf("with %q: allowed by %s", change[1], reason)
		}
	}
}

func TestWithinIPv6(t *testing.T) {
	for text, want := range map[string]bool{"2001:db8::/32": true, "2001:db8:1::/48": false, "2001:db8::/33": true, "2001:db8:8000::/33": false, "::/0": true, "0.0.0.0/0": false, "2001:db8::/129": false, "2001:db8::": false} {
		if got := within(netip.MustParseAddr("2001:db8::1"), []string{text}); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(documents))
	f.Add([]byte("kind: Flow\nspec: {allow: [tcp/1-]}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := Read(data)
		if err != nil {
			return
		}
		p := Packet{From: Location{Peer: "a"}, To: Location{Peer: "b"}, Source: netip.MustParseAddr("192.0.2.1"), Destination: netip.MustParseAddr("192.0.2.2"), Protocol: "tcp", Port: 1}
		if ok, reason := o.Allowed(p); reason == "" {
			t.Errorf("%v without a reason", ok)
		}
	})
}
