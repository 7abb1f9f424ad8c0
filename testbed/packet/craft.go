package packet

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"
)

// Packet is what to craft. Zero ports are left out of ICMP.
type Packet struct {
	Source      netip.Addr
	Destination netip.Addr
	Protocol    string // tcp, udp, icmp (of the addresses' family), sctp, gre, or the number of another
	SourcePort  uint16 // 0: 40000
	Port        uint16
	Flags       string // of TCP: "syn" (default), "ack", "synack", "rst", "fin"
	TTL         uint8  // 0: 64
	Size        int    // of the payload in bytes, with the marker; less than its length: the marker's
	Options     bool   // IPv4: with a source route option (RFC 791, 3.1); IPv6: with a destination options header
	Pieces      Pieces
}

// Pieces says which fragments of a packet are sent.
type Pieces string

const (
	Whole Pieces = ""          // the packet in one piece
	Both  Pieces = "fragments" // in two, first the one with the ports
	Later Pieces = "later"     // the second alone: it names no ports, and nothing comes that would
)

func (p Packet) String() string {
	text := fmt.Sprintf("%s %s -> %s", p.Protocol, p.Source, p.Destination)
	if p.Port != 0 {
		text += fmt.Sprintf(" port %d", p.Port)
	}
	switch p.Pieces {
	case Both:
		text += " in two fragments"
	case Later:
		text += ", its second fragment alone"
	}
	return text
}

// Marker is what a crafted packet is known by.
type Marker string

const (
	markerStart  = "SHEKARA-TESTBED-"
	markerLength = len(markerStart) + 16
)

// NewMarker makes a marker that no other packet has.
func NewMarker() Marker {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return Marker(markerStart + hex.EncodeToString(b[:]))
}

// findMarker looks for a marker anywhere in a packet.
func findMarker(data []byte) (Marker, bool) {
	at := bytes.Index(data, []byte(markerStart))
	if at < 0 || len(data) < at+markerLength {
		return "", false
	}
	return Marker(data[at : at+markerLength]), true
}

// Build is the whole packet from its IP header on, checksums filled in.
func (p Packet) Build(marker Marker) ([]byte, error) {
	if p.Source.Is4() != p.Destination.Is4() || !p.Source.IsValid() || !p.Destination.IsValid() {
		return nil, fmt.Errorf("craft %s: source and destination must be addresses of one family", p)
	}
	ttl, sourcePort := p.TTL, p.SourcePort
	if ttl == 0 {
		ttl = 64
	}
	if sourcePort == 0 {
		sourcePort = 40000
	}
	payload := []byte(marker)
	if p.Size > len(payload) {
		payload = append(payload, bytes.Repeat([]byte{0x5a}, p.Size-len(payload))...)
	}
	if p.Pieces != Whole { // once more where the second fragment ends
		payload = append(payload, marker...)
	}
	transport, protocol, err := p.transport(sourcePort, payload)
	if err != nil {
		return nil, fmt.Errorf("craft %s: %w", p, err)
	}
	var stack []gopacket.SerializableLayer
	var network gopacket.NetworkLayer
	if p.Source.Is4() {
		ip := &layers.IPv4{Version: 4, TTL: ttl, Protocol: protocol, SrcIP: p.Source.AsSlice(), DstIP: p.Destination.AsSlice(), Flags: layers.IPv4DontFragment}
		if p.Options {
			ip.Options = []layers.IPv4Option{{OptionType: 131, OptionLength: 7, OptionData: append([]byte{4}, p.Destination.AsSlice()...)}, {OptionType: 0, OptionLength: 1}}
		}
		network, stack = ip, append(stack, ip)
	} else {
		ip := &layers.IPv6{Version: 6, HopLimit: ttl, NextHeader: protocol, SrcIP: p.Source.AsSlice(), DstIP: p.Destination.AsSlice()}
		network, stack = ip, append(stack, ip)
		if p.Options {
			ip.NextHeader = layers.IPProtocolIPv6Destination
			options := &layers.IPv6Destination{}
			options.NextHeader = protocol
			options.Options = []*layers.IPv6DestinationOption{{OptionType: 1, OptionLength: 4, ActualLength: 6, OptionData: make([]byte, 4)}}
			stack = append(stack, options)
		}
	}
	for _, layer := range transport {
		if c, needs := layer.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); needs {
			if err := c.SetNetworkLayerForChecksum(network); err != nil {
				return nil, err
			}
		}
	}
	buffer := gopacket.NewSerializeBuffer()
	stack = append(stack, transport...)
	if p.Protocol != "sctp" {
		stack = append(stack, gopacket.Payload(payload))
	}
	if err := gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, stack...); err != nil {
		return nil, fmt.Errorf("craft %s: %w", p, err)
	}
	return buffer.Bytes(), nil
}

// transport makes the layers above IP. SCTP has no place for a payload but a chunk, and connection tracking wants INIT first: the
// payload is a parameter of it that receivers skip (RFC 9260, 3.2.1).
func (p Packet) transport(sourcePort uint16, payload []byte) ([]gopacket.SerializableLayer, layers.IPProtocol, error) {
	switch p.Protocol {
	case "tcp":
		tcp := &layers.TCP{SrcPort: layers.TCPPort(sourcePort), DstPort: layers.TCPPort(p.Port), Seq: 0x5348454b, Window: 64240}
		switch p.Flags {
		case "", "syn":
			tcp.SYN = true
		case "ack":
			tcp.ACK, tcp.Ack = true, 1
		case "synack":
			tcp.SYN, tcp.ACK, tcp.Ack = true, true, 1
		case "rst":
			tcp.RST = true
		case "fin":
			tcp.FIN, tcp.ACK, tcp.Ack = true, true, 1
		default:
			return nil, 0, fmt.Errorf("TCP flags %q: syn, ack, synack, rst and fin are known", p.Flags)
		}
		return []gopacket.SerializableLayer{tcp}, layers.IPProtocolTCP, nil
	case "udp":
		return []gopacket.SerializableLayer{&layers.UDP{SrcPort: layers.UDPPort(sourcePort), DstPort: layers.UDPPort(p.Port)}}, layers.IPProtocolUDP, nil
	case "sctp":
		init := &layers.SCTPInit{
			SCTPChunk: layers.SCTPChunk{Type: layers.SCTPChunkTypeInit}, InitiateTag: 1, AdvertisedReceiverWindowCredit: 65535,
			OutboundStreams: 1, InboundStreams: 1, InitialTSN: 1,
			Parameters: []layers.SCTPInitParameter{{Type: 0x8fff, Value: payload}},
		}
		return []gopacket.SerializableLayer{&layers.SCTP{SrcPort: layers.SCTPPort(sourcePort), DstPort: layers.SCTPPort(p.Port)}, init}, layers.IPProtocolSCTP, nil
	case "gre": // RFC 2784, 2.1: no checksum, version 0, carries Ethernet
		return []gopacket.SerializableLayer{&layers.GRE{Protocol: layers.EthernetTypeTransparentEthernetBridging}}, layers.IPProtocolGRE, nil
	case "icmp":
		if p.Source.Is4() {
			return []gopacket.SerializableLayer{&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0), Id: sourcePort, Seq: 1}}, layers.IPProtocolICMPv4, nil
		}
		return []gopacket.SerializableLayer{
			&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeEchoRequest, 0)},
			&layers.ICMPv6Echo{Identifier: sourcePort, SeqNumber: 1},
		}, layers.IPProtocolICMPv6, nil
	}
	if number, err := strconv.ParseUint(p.Protocol, 10, 8); err == nil {
		return nil, layers.IPProtocol(number), nil // the marker stands right behind the IP header
	}
	return nil, 0, fmt.Errorf("protocol %q: tcp, udp, icmp, sctp, gre and numbers up to 255 are known", p.Protocol)
}

// Place is somewhere in the network: inside its namespace functions can be run (lab.Host).
type Place interface {
	Do(func() error) error
}

// Send hands a packet to the place's own kernel, which routes it; with iface, it leaves there or not at all. What the kernel
// refuses (no route, its own filter) is no error: the packet just does not go, as the report will show.
func Send(from Place, iface string, data []byte) error {
	if len(data) < 20 {
		return errors.New("send: not an IP packet")
	}
	family := unix.AF_INET
	var to unix.Sockaddr = &unix.SockaddrInet4{Addr: [4]byte(data[16:20])}
	if data[0]>>4 == 6 {
		if len(data) < 40 {
			return errors.New("send: not an IP packet")
		}
		family, to = unix.AF_INET6, &unix.SockaddrInet6{Addr: [16]byte(data[24:40])}
	}
	return from.Do(func() error {
		// IPPROTO_RAW means that the header is ours (raw(7), IPV6_HDRINCL by default for it).
		fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return fmt.Errorf("open raw socket: %w", err)
		}
		defer unix.Close(fd)
		if iface != "" {
			if err := unix.BindToDevice(fd, iface); err != nil {
				return fmt.Errorf("bind to %s: %w", iface, err)
			}
		}
		switch err := unix.Sendto(fd, data, 0, to); {
		case err == nil, errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES), errors.Is(err, unix.EINVAL):
			return nil
		default:
			return os.NewSyscallError("sendto", err)
		}
	})
}

// Inject puts an IP packet on the cable behind an interface, for all who hear: past the place's routes and filter. It shows
// that a watch at the other end is not deaf.
func Inject(from Place, iface string, data []byte) error {
	return from.Do(func() error {
		i, err := net.InterfaceByName(iface)
		if err != nil {
			return fmt.Errorf("inject at %s: %w", iface, err)
		}
		protocol := uint16(unix.ETH_P_IP)
		if data[0]>>4 == 6 {
			protocol = unix.ETH_P_IPV6
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open packet socket: %w", err)
		}
		defer unix.Close(fd)
		to := &unix.SockaddrLinklayer{Ifindex: i.Index, Protocol: binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, protocol)), Halen: 6, Addr: [8]byte{255, 255, 255, 255, 255, 255}}
		return os.NewSyscallError("sendto", unix.Sendto(fd, data, 0, to))
	})
}
