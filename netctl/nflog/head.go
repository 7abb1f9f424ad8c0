package nflog

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// Head is what the headers of a packet say, as far as they are there.
type Head struct {
	Source, Destination netip.Addr
	Protocol            uint8 // of the transport: IANA's number; for a chain of IPv6 headers that is cut off, that of the missing one
	Length              int   // bytes of the whole packet, by its own word
	Fragment            bool  // not the first one: it has no transport header
	// SourcePort and DestinationPort are of TCP, UDP, DCCP, SCTP and UDP-Lite, Type and Code of ICMP and ICMPv6. Transport: they were there.
	SourcePort, DestinationPort uint16
	Type, Code                  uint8
	Transport                   bool
}

// Numbers of protocols and IPv6 headers (IANA, assigned internet protocol numbers).
const (
	icmp, tcp, udp, dccp, icmp6, sctp, udpLite               = 1, 6, 17, 33, 58, 132, 136
	hopByHop, routing, fragment, authentication, destination = 0, 43, 44, 51, 60
	mobility, hip, shim6                                     = 135, 139, 140
)

// maxHeaders bounds the chain of IPv6 headers; each that RFC 8200 (4.1) names stands once, destination options twice.
const maxHeaders = 10

var (
	errVersion = errors.New("neither IPv4 nor IPv6")
	errShort   = errors.New("shorter than its network header")
)

// ParseHead reads the first bytes of an IP packet. An error says that there is not even a network header.
func ParseHead(b []byte) (Head, error) {
	if len(b) == 0 {
		return Head{}, errShort
	}
	switch b[0] >> 4 {
	case 4:
		return parse4(b)
	case 6:
		return parse6(b)
	}
	return Head{}, errVersion
}

// parse4 reads the header of RFC 791, 3.1.
func parse4(b []byte) (Head, error) {
	if len(b) < 20 {
		return Head{}, errShort
	}
	h := Head{Source: netip.AddrFrom4([4]byte(b[12:16])), Destination: netip.AddrFrom4([4]byte(b[16:20])), Protocol: b[9],
		Length: int(binary.BigEndian.Uint16(b[2:4])), Fragment: binary.BigEndian.Uint16(b[6:8])&0x1fff != 0}
	if length := int(b[0]&0x0f) * 4; length >= 20 && length <= len(b) {
		h.transport(b[length:])
	}
	return h, nil
}

// parse6 reads the header of RFC 8200, 3, and the extension headers behind it.
func parse6(b []byte) (Head, error) {
	if len(b) < 40 {
		return Head{}, errShort
	}
	h := Head{Source: netip.AddrFrom16([16]byte(b[8:24])), Destination: netip.AddrFrom16([16]byte(b[24:40])), Protocol: b[6],
		Length: 40 + int(binary.BigEndian.Uint16(b[4:6]))}
	b = b[40:]
	for range maxHeaders {
		if len(b) < 8 {
			break
		}
		length := 0
		switch h.Protocol {
		case hopByHop, routing, destination, mobility, hip, shim6:
			length = 8 + int(b[1])*8
		case authentication:
			length = 8 + int(b[1])*4
		case fragment:
			length = 8
			h.Fragment = h.Fragment || binary.BigEndian.Uint16(b[2:4])&0xfff8 != 0
		}
		if length == 0 || length > len(b) || h.Fragment {
			if length != 0 && h.Fragment {
				h.Protocol = b[0] // what the pieces are of
			}
			break
		}
		h.Protocol, b = b[0], b[length:]
	}
	h.transport(b)
	return h, nil
}

// transport reads the first bytes of the transport header.
func (h *Head) transport(b []byte) {
	if h.Fragment || len(b) < 4 {
		return
	}
	switch h.Protocol {
	case tcp, udp, dccp, sctp, udpLite:
		h.SourcePort, h.DestinationPort, h.Transport = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:]), true
	case icmp, icmp6:
		h.Type, h.Code, h.Transport = b[0], b[1], true
	}
}
