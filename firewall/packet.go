package firewall

import "net/netip"

// Packet is one packet that a box receives, forwards or sends, as the rules see it.
type Packet struct {
	From, To            string // link by which it arrives and leaves; "": this box itself
	Source, Destination netip.Addr
	Protocol            Protocol
	SourcePort          uint16
	DestinationPort     uint16
	ICMPType            uint8  // of ICMP and ICMPv6
	Flags               uint8  // of TCP, the lowest eight; 0: SYN
	UDPLength           uint16 // bytes, with the header; 0: long enough for a WireGuard message
	HopLimit            uint8  // of IPv6; 0: 64
	Mark                uint32 // set by the socket of a packet that this box sends
	Connection          Connection
}

// Connection is what conntrack knows about a packet. State "" is for the first packet of a connection: what conntrack says of that then
// follows from the packet.
type Connection struct {
	State               ConnectionState
	Reply               bool   // the packet goes against the direction of the opening
	Mark                uint32 // as rules left it
	Source, Destination netip.Addr
	// What the opening's source and destination were translated to; zero: nothing else.
	ToSource, ToDestination netip.Addr
}

// or is a translated address, or the other one where there is none.
func or(translated, other netip.Addr) netip.Addr {
	if translated.IsValid() {
		return translated
	}
	return other
}

// ConnectionState is a ct state as nft(8) names it.
type ConnectionState string

const (
	StateNew         ConnectionState = "new"
	StateEstablished ConnectionState = "established"
	StateRelated     ConnectionState = "related"
	StateInvalid     ConnectionState = "invalid"
	StateUntracked   ConnectionState = "untracked"
)

// Types of ICMP and ICMPv6 (RFC 792, RFC 4443) that begin or answer something.
const (
	EchoRequest   = 8
	EchoReply     = 0
	EchoRequest6  = 128
	EchoReply6    = 129
	flagSYN       = 0x02
	flagACK       = 0x10
	flagDecisive  = 0x17 // FIN, SYN, RST, ACK
	shortestUDP   = 40   // smallest UDP length of a WireGuard message, see tunnel_port
	usualHopLimit = 64
)

func (p Packet) hopLimit() uint8 {
	if p.HopLimit == 0 {
		return usualHopLimit
	}
	return p.HopLimit
}

func (p Packet) udpLength() uint16 {
	if p.UDPLength == 0 {
		return shortestUDP
	}
	return p.UDPLength
}

func (p Packet) flags() uint8 {
	if p.Flags == 0 {
		return flagSYN
	}
	return p.Flags
}

// Reply is the first answer to a packet whose connection was left as in c: the other way, with ports and types turned round.
func (p Packet) Reply(c Connection) Packet {
	r := p
	r.From, r.To, r.Source, r.Destination = p.To, p.From, or(c.ToDestination, p.Destination), or(c.ToSource, p.Source)
	r.SourcePort, r.DestinationPort = p.DestinationPort, p.SourcePort
	r.Mark, r.Flags = 0, flagSYN|flagACK
	switch {
	case p.has(ICMP) && p.ICMPType == EchoRequest:
		r.ICMPType = EchoReply
	case p.has(ICMPv6) && p.ICMPType == EchoRequest6:
		r.ICMPType = EchoReply6
	}
	r.Connection = c
	r.Connection.State, r.Connection.Reply = StateEstablished, true
	return r
}

// first is the connection of a packet that conntrack has not seen before.
func (p Packet) first() Connection {
	return Connection{State: p.firstState(), Source: p.Source, Destination: p.Destination}
}

// firstState follows the kernel: nf_conntrack_proto_tcp.c (with tcp_loose, which is the default), icmp_new and icmpv6_new, and
// nf_conntrack_icmpv6_error, which does not track neighbour discovery. An error about nothing known is invalid.
func (p Packet) firstState() ConnectionState {
	switch {
	case p.Protocol == TCP:
		if f := p.flags() & flagDecisive; f != flagSYN && f != flagACK {
			return StateInvalid
		}
	case p.has(ICMP):
		if t := p.ICMPType; t != EchoRequest && t != 13 && t != 15 && t != 17 { // timestamp, information, address mask
			return StateInvalid
		}
	case p.has(ICMPv6):
		switch t := p.ICMPType; {
		case t >= 130 && t <= 136 || t == 143:
			return StateUntracked
		case t != EchoRequest6 && t != 139: // node information
			return StateInvalid
		}
	}
	return StateNew
}
