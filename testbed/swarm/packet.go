package swarm

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

const (
	protocolICMP   = 1
	protocolTCP    = 6
	protocolUDP    = 17
	protocolICMPv6 = 58

	echoPort     = 7 // RFC 862: a peer answers UDP on it
	defaultTTL   = 64
	header4Bytes = 20
	header6Bytes = 40
)

// datagram is an inner packet, of IPv4 or IPv6 as its addresses are.
type datagram struct {
	source, destination netip.Addr
	protocol            uint8
	payload             []byte // what stands after the IP header
}

var errMalformed = errors.New("malformed packet")

// parse reads an inner packet; payload is a part of packet.
func parse(packet []byte) (datagram, error) {
	var d datagram
	if len(packet) < 1 {
		return d, errMalformed
	}
	switch packet[0] >> 4 {
	case 4:
		header := int(packet[0]&15) * 4
		if len(packet) < header4Bytes || header < header4Bytes {
			return d, errMalformed
		}
		total := int(binary.BigEndian.Uint16(packet[2:]))
		if total < header || total > len(packet) {
			return d, errMalformed
		}
		d.source, d.destination = netip.AddrFrom4([4]byte(packet[12:])), netip.AddrFrom4([4]byte(packet[16:]))
		d.protocol, d.payload = packet[9], packet[header:total]
	case 6:
		if len(packet) < header6Bytes {
			return d, errMalformed
		}
		length := int(binary.BigEndian.Uint16(packet[4:]))
		if header6Bytes+length > len(packet) {
			return d, errMalformed
		}
		d.source, d.destination = netip.AddrFrom16([16]byte(packet[8:])), netip.AddrFrom16([16]byte(packet[24:]))
		d.protocol, d.payload = packet[6], packet[header6Bytes:header6Bytes+length]
	default:
		return d, errMalformed
	}
	return d, nil
}

// build writes the packet with a header that is right.
func (d datagram) build() []byte {
	if d.source.Is4() {
		packet := make([]byte, header4Bytes+len(d.payload))
		packet[0] = 4<<4 | header4Bytes/4
		binary.BigEndian.PutUint16(packet[2:], uint16(len(packet)))
		packet[8], packet[9] = defaultTTL, d.protocol
		source, destination := d.source.As4(), d.destination.As4()
		copy(packet[12:], source[:])
		copy(packet[16:], destination[:])
		copy(packet[header4Bytes:], d.payload)
		fixHeader(packet)
		return packet
	}
	packet := make([]byte, header6Bytes+len(d.payload))
	packet[0] = 6 << 4
	binary.BigEndian.PutUint16(packet[4:], uint16(len(d.payload)))
	packet[6], packet[7] = d.protocol, defaultTTL
	source, destination := d.source.As16(), d.destination.As16()
	copy(packet[8:], source[:])
	copy(packet[24:], destination[:])
	copy(packet[header6Bytes:], d.payload)
	return packet
}

// fixHeader makes the checksum of an IPv4 header right again (RFC 791).
func fixHeader(packet []byte) {
	header := min(max(int(packet[0]&15)*4, header4Bytes), len(packet))
	packet[10], packet[11] = 0, 0
	binary.BigEndian.PutUint16(packet[10:], ^sum(0, packet[:header]))
}

// sum is the one's complement sum of RFC 1071, not complemented.
func sum(initial uint32, b []byte) uint16 {
	for ; len(b) >= 2; b = b[2:] {
		initial += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		initial += uint32(b[0]) << 8
	}
	for initial > 0xffff {
		initial = initial>>16 + initial&0xffff
	}
	return uint16(initial)
}

// checksum fills the checksum at offset of payload, over the pseudo-header (RFC 768, RFC 9293, RFC 8200 section 8.1).
func (d datagram) checksum(offset int) datagram {
	d.payload[offset], d.payload[offset+1] = 0, 0
	var initial uint32
	if d.protocol != protocolICMP { // which alone has no pseudo-header (RFC 792)
		initial = uint32(d.protocol) + uint32(len(d.payload))
		initial += uint32(sum(0, d.source.AsSlice())) + uint32(sum(0, d.destination.AsSlice()))
	}
	value := ^sum(initial, d.payload)
	if value == 0 && d.protocol == protocolUDP {
		value = 0xffff // zero means none
	}
	binary.BigEndian.PutUint16(d.payload[offset:], value)
	return d
}

func udp(source, destination netip.AddrPort, data []byte) datagram {
	payload := make([]byte, 8+len(data))
	binary.BigEndian.PutUint16(payload, source.Port())
	binary.BigEndian.PutUint16(payload[2:], destination.Port())
	binary.BigEndian.PutUint16(payload[4:], uint16(len(payload)))
	copy(payload[8:], data)
	return datagram{source.Addr(), destination.Addr(), protocolUDP, payload}.checksum(6)
}

func tcp(source, destination netip.AddrPort, flags uint8, sequence uint32) datagram {
	payload := make([]byte, 20)
	binary.BigEndian.PutUint16(payload, source.Port())
	binary.BigEndian.PutUint16(payload[2:], destination.Port())
	binary.BigEndian.PutUint32(payload[4:], sequence)
	payload[12], payload[13] = 5<<4, flags
	binary.BigEndian.PutUint16(payload[14:], 65535)
	return datagram{source.Addr(), destination.Addr(), protocolTCP, payload}.checksum(16)
}

// icmp builds an ICMP or, between IPv6 addresses, ICMPv6 message. rest is the second word of the header.
func icmp(source, destination netip.Addr, kind, code uint8, rest uint32, data []byte) datagram {
	payload := make([]byte, 8+len(data))
	payload[0], payload[1] = kind, code
	binary.BigEndian.PutUint32(payload[4:], rest)
	copy(payload[8:], data)
	protocol := uint8(protocolICMP)
	if source.Is6() {
		protocol = protocolICMPv6
	}
	return datagram{source, destination, protocol, payload}.checksum(2)
}

// Types of echo messages: RFC 792 and RFC 4443.
func echoTypes(v6 bool) (request, reply uint8) {
	if v6 {
		return 128, 129
	}
	return 8, 0
}
