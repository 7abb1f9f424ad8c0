package nflog

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

func compareAddr(a, b netip.Addr) bool { return a == b }

// build serialises layers with right lengths and checksums.
func build(t testing.TB, stack ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buffer := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true}, stack...); err != nil {
		t.Fatal(err)
	}
	return buffer.Bytes()
}

type sample struct {
	name   string
	packet []byte
	want   Head
}

func samples(t testing.TB) []sample {
	at := netip.MustParseAddr
	a4, b4, a6, b6 := at("192.0.2.1"), at("198.51.100.2"), at("2001:db8::1"), at("2001:db8::2")
	ip4 := func(p layers.IPProtocol) *layers.IPv4 {
		return &layers.IPv4{Version: 4, TTL: 64, Protocol: p, SrcIP: a4.AsSlice(), DstIP: b4.AsSlice()}
	}
	ip6 := func(p layers.IPProtocol) *layers.IPv6 {
		return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: p, SrcIP: a6.AsSlice(), DstIP: b6.AsSlice()}
	}
	options := ip4(layers.IPProtocolTCP)
	options.Options = []layers.IPv4Option{{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}}} // router alert
	later := ip4(layers.IPProtocolUDP)
	later.FragOffset = 100
	ports := &layers.UDP{SrcPort: 4000, DstPort: 53}
	open := &layers.TCP{SrcPort: 4000, DstPort: 443, SYN: true}
	chain := append([]byte{60, 0, 1, 4, 0, 0, 0, 0, // hop by hop, then destination options
		44, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // 16 bytes of these, then a fragment header
		6, 0, 0, 1, 0, 0, 0, 9}, // the first piece, of TCP
		build(t, open)...)
	piece := []byte{17, 0, 0x05, 0x78, 0, 0, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8} // offset 1400
	return []sample{
		{"TCP", build(t, ip4(layers.IPProtocolTCP), open), Head{Source: a4, Destination: b4, Protocol: 6, Length: 40, SourcePort: 4000, DestinationPort: 443, Transport: true}},
		{"TCP behind options", build(t, options, open), Head{Source: a4, Destination: b4, Protocol: 6, Length: 44, SourcePort: 4000, DestinationPort: 443, Transport: true}},
		{"ICMP", build(t, ip4(layers.IPProtocolICMPv4), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 4)}), Head{Source: a4, Destination: b4, Protocol: 1, Length: 28, Type: 3, Code: 4, Transport: true}},
		{"a later fragment", build(t, later, gopacket.Payload{1, 2, 3, 4}), Head{Source: a4, Destination: b4, Protocol: 17, Length: 24, Fragment: true}},
		{"a protocol without ports", build(t, ip4(47), gopacket.Payload{1, 2, 3, 4}), Head{Source: a4, Destination: b4, Protocol: 47, Length: 24}},
		{"no whole transport header", build(t, ip4(layers.IPProtocolTCP), gopacket.Payload{1, 2, 3}), Head{Source: a4, Destination: b4, Protocol: 6, Length: 23}},
		{"UDP over IPv6", build(t, ip6(layers.IPProtocolUDP), ports), Head{Source: a6, Destination: b6, Protocol: 17, Length: 48, SourcePort: 4000, DestinationPort: 53, Transport: true}},
		{"IPv6 extension headers", build(t, ip6(0), gopacket.Payload(chain)), Head{Source: a6, Destination: b6, Protocol: 6, Length: 40 + len(chain), SourcePort: 4000, DestinationPort: 443, Transport: true}},
		{"a later IPv6 fragment", build(t, ip6(44), gopacket.Payload(piece)), Head{Source: a6, Destination: b6, Protocol: 17, Length: 56, Fragment: true}},
		{"an extension header that is cut off", build(t, ip6(0), gopacket.Payload{6, 200, 0, 0, 0, 0, 0, 0, 0}), Head{Source: a6, Destination: b6, Protocol: 0, Length: 49}},
		{"ICMPv6", build(t, ip6(layers.IPProtocolICMPv6), gopacket.Payload{128, 0, 0, 0, 0, 1, 0, 1}), Head{Source: a6, Destination: b6, Protocol: 58, Length: 48, Type: 128, Transport: true}},
	}
}

func TestParseHead(t *testing.T) {
	for _, s := range samples(t) {
		got, err := ParseHead(s.packet)
		if diff := cmp.Diff(s.want, got, cmp.Comparer(compareAddr)); err != nil || diff != "" {
			t.Errorf("%s: %v (- want, + got)\n%s", s.name, err, diff)
		}
	}
	for _, none := range [][]byte{nil, {0x45}, make([]byte, 19), make([]byte, 40), {0x60, 0, 0, 0, 0, 0, 59, 64}} {
		if got, err := ParseHead(none); err == nil {
			t.Errorf("% x is read as %+v", none, got)
		}
	}
}

// TestHeadersAreBounded: a chain of headers that goes on and on is followed only so far.
func TestHeadersAreBounded(t *testing.T) {
	var chain gopacket.Payload
	for range 30 {
		chain = append(chain, 60, 0, 1, 4, 0, 0, 0, 0)
	}
	packet := build(t, &layers.IPv6{Version: 6, NextHeader: 60, SrcIP: make([]byte, 16), DstIP: make([]byte, 16)}, chain)
	if got, err := ParseHead(packet); err != nil || got.Protocol != 60 || got.Transport {
		t.Errorf("%+v, %v", got, err)
	}
}

// FuzzParseHead: no bytes crash it; what it says of ports and types follows from the protocol; more bytes never change what was there.
func FuzzParseHead(f *testing.F) {
	for _, s := range samples(f) {
		f.Add(s.packet)
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		h, err := ParseHead(packet)
		if err != nil {
			if h != (Head{}) {
				t.Errorf("%v, and yet %+v", err, h)
			}
			return
		}
		if !h.Source.IsValid() || h.Source.Is4() != h.Destination.Is4() {
			t.Errorf("addresses %s and %s", h.Source, h.Destination)
		}
		if (h.SourcePort|h.DestinationPort != 0 || h.Type|h.Code != 0) && (!h.Transport || h.Fragment) {
			t.Errorf("ports or types without a transport header: %+v", h)
		}
		if longer, err := ParseHead(append(packet[:len(packet):len(packet)], 0)); err != nil || h.Transport && longer != h {
			t.Errorf("%+v, and with one byte more %+v, %v", h, longer, err)
		}
	})
}
