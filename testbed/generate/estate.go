package generate

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/crypto/curve25519"
)

// MaxAgencies is what the inner range holds less the first /28, and far more than the outer range needs.
const MaxAgencies = 65_535

// Names and addresses of the owner's side.
const (
	OwnerSite  = "owner"
	OwnerPeer  = "owner-edge"
	Port       = 51820 // of every device
	flowPort   = 443   // of every flow, besides echo
	prefixBits = 28
)

// OuterNetwork holds all peers, OwnerInside what all agencies reach.
func OuterNetwork() netip.Prefix { return netip.MustParsePrefix("198.18.0.0/15") }

// OwnerOuter is the owner's peer IP.
func OwnerOuter() netip.Addr { return netip.MustParseAddr("198.18.0.1") }

// OwnerInside is the gateway behind the owner's edge.
func OwnerInside() netip.Addr { return netip.MustParseAddr("10.20.0.10") }

// OwnerNetwork is the network behind the owner's edge; the edge is its first address.
func OwnerNetwork() netip.Prefix { return netip.MustParsePrefix("10.20.0.0/24") }

// Agency is an agency: its edge, and the network behind it.
type Agency struct {
	Name       string // of the Peer; the Tunnel is "t-" and the Flow "f-" before it
	PrivateKey [32]byte
	PublicKey  string         // base64; may be replaced by that of a real device before documents are written
	Outer      netip.AddrPort // its peer IP and port
	Inside     netip.Prefix
	Host       netip.Addr // the second address of Inside; the edge has the first
}

// Estate is an owner and its agencies.
type Estate struct {
	OwnerKey string // base64; "": the owner's device makes its own
	Agencies []Agency
}

// New makes an estate out of a seed.
func New(seed uint64, agencies int) (*Estate, error) {
	if agencies < 0 || agencies > MaxAgencies {
		return nil, fmt.Errorf("%d agencies: at most %d", agencies, MaxAgencies)
	}
	e := &Estate{Agencies: make([]Agency, agencies)}
	for i := range e.Agencies {
		a := &e.Agencies[i]
		a.Name = fmt.Sprintf("agency-%05d", i)
		a.PrivateKey = sha256.Sum256(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, seed), uint64(i)))
		public, err := curve25519.X25519(a.PrivateKey[:], curve25519.Basepoint)
		if err != nil {
			return nil, fmt.Errorf("derive the key of %s: %w", a.Name, err)
		}
		a.PublicKey = base64.StdEncoding.EncodeToString(public)
		a.Outer = netip.AddrPortFrom(plus(netip.MustParseAddr("198.18.1.0"), uint32(i)), Port)
		inside := plus(netip.MustParseAddr("10.64.0.0"), uint32(i)<<(32-prefixBits))
		a.Inside, a.Host = netip.PrefixFrom(inside, prefixBits), plus(inside, 2)
	}
	return e, nil
}

func plus(a netip.Addr, n uint32) netip.Addr {
	b := a.As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+n)
	return netip.AddrFrom4(b)
}

// Edge is the first address of Inside: that of the agency's own edge.
func (a Agency) Edge() netip.Addr { return a.Inside.Addr().Next() }

const header = "apiVersion: shekara/v1\nkind: %s\nmetadata: {name: %s}\nspec: "

// Base is what everything else stands on: the Zones, the owner's Site (ext0 on the outer network, dmz0 on the owner's) and Peer.
func (e *Estate) Base() []byte {
	var b bytes.Buffer
	b.Write(e.Zones())
	fmt.Fprintf(&b, "---\n"+header+`
  lab: true
  peers: [%s]
  interfaces:
  - {name: ext0, zone: internet, addresses: [%s]}
  - {name: dmz0, zone: gateway-dmz}
  drift: repair
`, "Site", OwnerSite, OwnerPeer, netip.PrefixFrom(OwnerOuter(), OuterNetwork().Bits()))
	b.Write(e.OwnerDocument())
	return b.Bytes()
}

// Zones are the segments, which both ends know.
func (e *Estate) Zones() []byte {
	var b bytes.Buffer
	for _, z := range []struct{ name, contour, kind, prefixes string }{
		{"internet", "external", "internet", ""},
		{"agencies", "external", "partners", ", prefixes: [10.64.0.0/12]"},
		{"gateway-dmz", "integration", "screened-subnet", ", prefixes: [" + OwnerNetwork().String() + "]"},
	} {
		fmt.Fprintf(&b, "---\n"+header+"{contour: %s, kind: %s%s}\n", "Zone", z.name, z.contour, z.kind, z.prefixes)
	}
	return b.Bytes()
}

// OwnerDocument is the owner's Peer, with OwnerKey if that is known.
func (e *Estate) OwnerDocument() []byte {
	key := ""
	if e.OwnerKey != "" {
		key = fmt.Sprintf(", publicKey: %q", e.OwnerKey)
	}
	return fmt.Appendf(nil, "---\n"+header+"{side: owner, publicIP: %s, wireguard: [{farZone: agencies, environment: production, port: %d%s}]}\n",
		"Peer", OwnerPeer, OwnerOuter(), Port, key)
}

// AgencyBase is Base for an agency's own edge: its Site is named as its Peer, its outer interface ext0, its inner lan0.
// The owner's Peer is in it, but not the agency's own.
func (e *Estate) AgencyBase(i int) []byte {
	a := e.Agencies[i]
	b := bytes.NewBuffer(e.Zones())
	fmt.Fprintf(b, "---\n"+header+`
  lab: true
  peers: [%s]
  interfaces:
  - {name: ext0, zone: internet, addresses: [%s]}
  - {name: lan0, zone: agencies}
`, "Site", a.Name, a.Name, netip.PrefixFrom(a.Outer.Addr(), OuterNetwork().Bits()))
	b.Write(e.OwnerDocument())
	return b.Bytes()
}

// Tunnels are a Peer, a Tunnel and a Flow for each agency from first up to, but without, end.
func (e *Estate) Tunnels(first, end int) []byte {
	var b bytes.Buffer
	for i := first; i < end; i++ {
		a := e.Agencies[i]
		b.Write(a.Peer())
		b.Write(a.tunnel(0))
		b.Write(a.flow(flowPort))
	}
	return b.Bytes()
}

// Changed is the Tunnel and the Flow of an agency, as Tunnels has them for variation 0; odd variations have another keepalive,
// even ones another port in the flow, all different.
func (e *Estate) Changed(i, variation int) []byte {
	keepalive, port := 0, flowPort
	switch {
	case variation%2 == 1:
		keepalive = 1 + variation%65535
	case variation > 0:
		port = 1024 + variation%60000
	}
	return append(e.Agencies[i].tunnel(keepalive), e.Agencies[i].flow(port)...)
}

// Peer is the agency's Peer document.
func (a Agency) Peer() []byte {
	key := ""
	if a.PublicKey != "" {
		key = fmt.Sprintf(", publicKey: %q", a.PublicKey)
	}
	return fmt.Appendf(nil, "---\n"+header+"{side: initiator, publicIP: %s, wireguard: [{farZone: gateway-dmz, environment: production, port: %d%s}]}\n",
		"Peer", a.Name, a.Outer.Addr(), a.Outer.Port(), key)
}

func (a Agency) tunnel(keepaliveSeconds int) []byte {
	extra := ""
	if keepaliveSeconds > 0 {
		extra = fmt.Sprintf("  keepalive: %d\n", keepaliveSeconds)
	}
	return fmt.Appendf(nil, "---\n"+header+`
  environment: production
  protocol: wireguard
%s  initiator: {peer: %s, zone: agencies, prefixes: [%s]}
  owner: {peer: %s, zone: gateway-dmz, prefixes: [%s/32]}
`, "Tunnel", "t-"+a.Name, extra, a.Name, a.Inside, OwnerPeer, OwnerInside())
}

func (a Agency) flow(port int) []byte {
	return fmt.Appendf(nil, "---\n"+header+"{tunnel: t-%s, from: [%s], to: [%s/32], allow: [tcp/%d, tcp/5201, udp/7, icmp]}\n",
		"Flow", "f-"+a.Name, a.Name, a.Inside, OwnerInside(), port)
}
