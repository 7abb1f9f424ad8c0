package oracle

import (
	"net/netip"
	"strings"
	"testing"
)

const translated = `
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
spec: {publicIP: 198.51.100.21}
---
kind: Tunnel
metadata: {name: a}
spec:
  protocol: wireguard
  probe: true
  initiator: {peer: a, zone: agencies, prefixes: [192.168.1.0/28], mapped: [10.127.1.0/28], probeAddress: 192.168.1.1}
  owner: {peer: owner, zone: archive, prefixes: [10.30.1.0/28, 10.30.2.0/28], hide: [10.99.1.16/28, 10.99.1.32/28], probeAddress: 10.30.1.1}
---
kind: Tunnel
metadata: {name: b}
spec:
  protocol: wireguard
  initiator: {peer: b, zone: agencies, prefixes: [192.168.1.0/28], mapped: [10.127.2.0/28]}
  owner: {peer: owner, zone: archive, prefixes: [10.30.1.0/28], hide: [10.99.0.1/32]}
---
kind: Flow
metadata: {name: a-in}
spec: {tunnel: a, from: [192.168.1.5/32], to: [10.30.2.7/32], allow: [tcp/443]}
---
kind: Flow
metadata: {name: a-out}
spec: {tunnel: a, from: [10.30.1.7/32], to: [192.168.1.5/32], allow: [tcp/443]}
---
kind: Flow
metadata: {name: b-in}
spec: {tunnel: b, from: [192.168.1.5/32], to: [10.30.1.7/32], allow: [tcp/443]}
---
kind: Flow
metadata: {name: b-out}
spec: {tunnel: b, from: [10.30.1.7/32], to: [192.168.1.5/32], allow: [tcp/443]}
`

// TestTranslation: each side writes the other as it knows it, and only so.
func TestTranslation(t *testing.T) {
	o, err := Read([]byte(translated))
	if err != nil {
		t.Fatal(err)
	}
	a, b, archive := Location{Zone: "agencies", Peer: "a"}, Location{Zone: "agencies", Peer: "b"}, Location{Zone: "archive", Peer: "owner"}
	for _, test := range []struct {
		name                string
		from, to            Location
		source, destination string
		want                bool
		reason              string
	}{
		{"from A by the shown address", a, archive, "192.168.1.5", "10.99.1.39", true, "flow a-in"},
		{"from A by the true address", a, archive, "192.168.1.5", "10.30.2.7", false, "destination is none"},
		{"from A with the mapped source", a, archive, "10.127.1.5", "10.99.1.39", false, "source is none"},
		{"from A to another host", a, archive, "192.168.1.5", "10.99.1.40", false, "flow a-"},
		{"to A by the mapped address", archive, a, "10.30.1.7", "10.127.1.5", true, "flow a-out"},
		{"to A by the true address", archive, a, "10.30.1.7", "192.168.1.5", false, "destination is none"},
		{"to A by B's range", archive, a, "10.30.1.7", "10.127.2.5", false, "destination is none"},
		{"to B", archive, b, "10.30.1.7", "10.127.2.5", true, "flow b-out"},
		{"from B to who is behind one address", b, archive, "192.168.1.5", "10.99.0.1", false, "hidden"},
		{"from B by the true address", b, archive, "192.168.1.5", "10.30.1.7", false, "hidden"},
		{"probe by the shown address", Location{Peer: "a", Appliance: true}, Location{Peer: "owner", Appliance: true}, "192.168.1.1", "10.99.1.17", true, "probe"},
		{"probe by the true address", Location{Peer: "a", Appliance: true}, Location{Peer: "owner", Appliance: true}, "192.168.1.1", "10.30.1.1", false, "only management"},
	} {
		protocol, port := "tcp", uint16(443)
		if strings.HasPrefix(test.name, "probe") {
			protocol, port = "icmp", 0
		}
		p := Packet{From: test.from, To: test.to, Source: netip.MustParseAddr(test.source), Destination: netip.MustParseAddr(test.destination), Protocol: protocol, Port: port}
		if got, reason := o.Allowed(p); got != test.want || !strings.Contains(reason, test.reason) {
			t.Errorf("%s: %v because %q, want %v because %q", test.name, got, reason, test.want, test.reason)
		}
	}
}
