// Package documenttest makes documents for tests and benchmarks: many that are valid, and random changes of a set.
//
// Owns: nothing but those.
// Never: is imported by anything but tests and the testbed.
// Imports: provisioning/document, rapid.
// Test: it is one.
package documenttest

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/netip"
	"strings"

	"shekara/provisioning/document"
)

// MaxMany is how many tunnels Many can number.
const MaxMany = 65536

// Many is the documents of one site, "owner", with n tunnels: each with a peer and a flow of its own, one file an agency. The public
// IPs are of RFC 2544, the agencies' prefixes of 10.64.0.0/12.
func Many(n int) []document.File {
	files := []document.File{{Name: "owner.yaml", Data: []byte(owner)}}
	for i := range min(n, MaxMany) {
		files = append(files, document.File{Name: Name(i) + ".yaml", Data: []byte(Agency(i))})
	}
	return files
}

// Name is what peer, tunnel and flow i of Many are called.
func Name(i int) string { return fmt.Sprintf("agency-%05d", i) }

// Agency is the documents of agency i of Many.
func Agency(i int) string {
	key := sha256.Sum256([]byte(Name(i)))
	key[31] &= 0x7f // as every Curve25519 public key has it (RFC 7748, 5)
	public := netip.AddrFrom4([4]byte{198, 18 + byte(i>>16), byte(i >> 8), byte(i)}).Next().Next()
	// 10.64.0.0/12 has 65,536 networks of 16 addresses.
	network := netip.AddrFrom4([4]byte{10, 64 + byte(i>>12), byte(i >> 4), byte(i << 4)})
	return strings.NewReplacer("NAME", Name(i), "PUBLIC", public.String(), "NETWORK", network.String(), "HOST", network.Next().String(),
		"KEY", base64.StdEncoding.EncodeToString(key[:])).Replace(agency)
}

// Zones are those of an owner's box, with the marker behind the last: an internet, agencies in 10.64.0.0/12 beyond tunnels, a screened
// subnet 10.20.0.0/24 and a network of administrators.
const Zones = `apiVersion: shekara/v1
kind: Zone
metadata: {name: internet}
spec: {contour: external, kind: internet}
---
apiVersion: shekara/v1
kind: Zone
metadata: {name: agencies}
spec: {contour: external, kind: partners, prefixes: [10.64.0.0/12]}
---
apiVersion: shekara/v1
kind: Zone
metadata: {name: gateway-dmz}
spec: {contour: integration, kind: screened-subnet, prefixes: [10.20.0.0/24]}
---
apiVersion: shekara/v1
kind: Zone
metadata: {name: admin}
spec: {contour: internal, kind: management, prefixes: [192.168.100.0/24]}
---
`

const owner = Zones + `apiVersion: shekara/v1
kind: Site
metadata: {name: owner}
spec:
  lab: true
  peers: [owner-edge]
  interfaces:
    - {name: ext0, zone: internet, addresses: [203.0.113.10/24], gateways: [203.0.113.1]}
    - {name: dmz0, zone: gateway-dmz, addresses: [10.20.0.1/24]}
    - {name: adm0, zone: admin, addresses: [192.168.100.1/24]}
  management: {zone: admin, from: [192.168.100.0/24], allow: [tcp/22]}
---
apiVersion: shekara/v1
kind: Peer
metadata: {name: owner-edge}
spec:
  side: owner
  publicIP: 203.0.113.10
  wireguard: [{farZone: agencies, environment: production, port: 51820}]
`

const agency = `apiVersion: shekara/v1
kind: Peer
metadata: {name: NAME}
spec:
  side: initiator
  publicIP: PUBLIC
  wireguard:
    - {farZone: gateway-dmz, environment: production, port: 51820, publicKey: KEY}
---
apiVersion: shekara/v1
kind: Tunnel
metadata: {name: NAME}
spec:
  environment: production
  protocol: wireguard
  initiator: {peer: NAME, zone: agencies, prefixes: [NETWORK/28]}
  owner: {peer: owner-edge, zone: gateway-dmz, prefixes: [10.20.0.0/24]}
---
apiVersion: shekara/v1
kind: Flow
metadata: {name: NAME}
spec: {tunnel: NAME, from: [HOST/32], to: [10.20.0.10/32], allow: [tcp/443]}
`
