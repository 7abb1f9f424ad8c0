package firewalltest

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"shekara/firewall"
	"shekara/netctl/nstest"
	testbed "shekara/testbed/packet"
)

// rig is a box with six neighbours, one on each link, and packet sockets on all ends. The links sk-a and sk-b stand for tunnel devices.
type rig struct {
	t      testing.TB
	engine Engine
	box    *nstest.H
	ends   map[string]*end // by the box's link
	next   uint32          // packet ID
}

// end is one link: the neighbour's packet socket, and one at the box's side to inject what no filter sees.
type end struct {
	link              string
	host              *nstest.H
	socket, inject    int
	index, boxIndex   int
	mac, boxMAC       net.HardwareAddr
	address, address6 string // of the neighbour
}

// links of the rig: the box has .1 (::1), the neighbour .2 (::2); routes lead the box to the neighbour.
var rigLinks = []struct {
	link, net4, net6 string
	routes           []string
}{
	{"ext0", "203.0.113.", "2001:db8:113::", []string{"0.0.0.0/0", "::/0"}},
	{"dmz0", "10.20.0.", "fd00:20::", []string{"10.20.0.0/24", "fd00:20::/64"}},
	{"lan0", "10.30.0.", "fd00:30::", []string{"10.30.0.0/24", "fd00:30::/64"}},
	{"adm0", "192.168.100.", "fd00:100::", []string{"192.168.100.0/24", "fd00:100::/64"}},
	{"sk-a", "10.64.0.", "fd00:64::", []string{"10.64.0.0/12", "fd00:64::/32"}},
	{"sk-b", "10.96.0.", "fd00:96::", []string{"10.96.0.0/12", "fd00:96::/32"}},
}

// rigPolicy is the rig without flows.
func rigPolicy() firewall.Policy {
	prefixes := func(list ...string) (out []netip.Prefix) {
		for _, s := range list {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	return firewall.Policy{
		Zones: []firewall.Zone{{Name: "internet"},
			{Name: "gateway-dmz", Prefixes: prefixes("10.20.0.0/24", "fd00:20::/64")},
			{Name: "lan", Prefixes: prefixes("10.30.0.0/24", "fd00:30::/64")},
			{Name: "admin", Prefixes: prefixes("192.168.100.0/24", "fd00:100::/64")},
			{Name: "agencies", Prefixes: prefixes("10.64.0.0/12", "fd00:64::/32")},
			{Name: "agencies-inner", Prefixes: prefixes("10.65.7.0/24", "fd00:64:2::/48")}, // not behind sk-a, though inside its zone's prefixes
			{Name: "banks", Prefixes: prefixes("10.96.0.0/12", "fd00:96::/32")}},
		Interfaces: []firewall.Interface{{Name: "ext0", Zone: "internet"}, {Name: "dmz0", Zone: "gateway-dmz"},
			{Name: "lan0", Zone: "lan"}, {Name: "adm0", Zone: "admin"}},
		Devices: []firewall.Device{
			{Name: "sk-a", FarZone: "agencies", LocalIP: netip.MustParseAddr("203.0.113.1"), Port: 51820, Mark: 0x534b0001, MTU: 1420},
			{Name: "sk-b", FarZone: "banks", LocalIP: netip.MustParseAddr("2001:db8:113::1"), Port: 51821, Mark: 0x534b0002, MTU: 1400}},
		Management: firewall.Management{Zone: "admin", From: prefixes("192.168.100.16/28", "fd00:100::16/128"),
			Services: []firewall.Service{{Protocol: firewall.UDP, FirstPort: 22, LastPort: 22}, {Protocol: firewall.TCP, FirstPort: 22, LastPort: 22}}},
	}
}

func newRig(t testing.TB, e Engine) *rig {
	r := &rig{t: t, engine: e, box: nstest.Host(t, "box"), ends: map[string]*end{}}
	r.box.Forwarding()
	for _, scope := range []string{"all", "default"} {
		r.box.Sysctl("net.ipv4.conf."+scope+".rp_filter", "0") // what is dropped, our rules drop
	}
	for _, l := range rigLinks {
		host := nstest.Host(t, l.link)
		e := &end{link: l.link, host: host, address: l.net4 + "2", address6: l.net6 + "2"}
		nstest.Link(t, r.box, l.link, []string{l.net4 + "1/30", l.net6 + "1/126"}, host, "eth0", []string{l.net4 + "2/30", l.net6 + "2/126"})
		e.boxMAC, e.boxIndex = hardware(t, r.box, l.link)
		e.mac, e.index = hardware(t, host, "eth0")
		// No neighbour discovery on the links that stand for devices, which have none.
		for _, next := range []string{e.address, e.address6} {
			r.box.Run("ip", "neigh", "replace", next, "lladdr", e.mac.String(), "dev", l.link, "nud", "permanent")
		}
		for _, gateway := range []string{l.net4 + "1", l.net6 + "1"} {
			host.Run("ip", "neigh", "replace", gateway, "lladdr", e.boxMAC.String(), "dev", "eth0", "nud", "permanent")
			host.Route("default", gateway)
		}
		for i, route := range l.routes {
			r.box.Route(route, []string{e.address, e.address6}[i])
		}
		e.socket, e.inject = packetSocket(t, host, e.index), packetSocket(t, r.box, e.boxIndex)
		r.ends[l.link] = e
	}
	return r
}

func hardware(t testing.TB, h *nstest.H, name string) (net.HardwareAddr, int) {
	t.Helper()
	link, err := h.Netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return link.Attrs().HardwareAddr, link.Attrs().Index
}

const etherTypeAll, fenceType = 0x0300, 0x88b5 // ETH_P_ALL in network order; IEEE 802 local experimental

func packetSocket(t testing.TB, h *nstest.H, index int) int {
	t.Helper()
	var fd int
	h.Do(func() {
		var err error
		if fd, err = syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, etherTypeAll); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUFFORCE, 64<<20); err != nil {
		t.Fatal(err)
	}
	limit := syscall.NsecToTimeval((20 * time.Second).Nanoseconds()) // only a broken rig waits so long
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &limit); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrLinklayer{Protocol: etherTypeAll, Ifindex: index}); err != nil {
		t.Fatal(err)
	}
	return fd
}

// packet is what is sent. Its ID travels in the payload.
type packet struct {
	id                  uint32
	source, to          netip.Addr
	protocol            firewall.Protocol
	sport, dport        uint16
	flags               string // of TCP: "" is S; "SA", "A"
	icmpReply           bool
	size                int    // bytes more of payload
	short               bool   // the ID alone: less than the shortest WireGuard message
	arriveOn, deliverTo string // links of the box; deliverTo "": the box itself
	pieces              pieces
}

// pieces says whether a packet is sent in fragments.
type pieces int

const (
	whole pieces = iota
	both         // in two fragments
	later        // the second one alone
)

func (p packet) bytes(t testing.TB, from, to net.HardwareAddr) []byte {
	t.Helper()
	ether := &layers.Ethernet{SrcMAC: from, DstMAC: to, EthernetType: layers.EthernetTypeIPv4}
	var network gopacket.NetworkLayer
	protocol := layers.IPProtocol(p.protocol)
	if p.source.Is4() {
		network = &layers.IPv4{Version: 4, TTL: 64, Protocol: protocol, SrcIP: p.source.AsSlice(), DstIP: p.to.AsSlice()}
	} else {
		ether.EthernetType = layers.EthernetTypeIPv6
		network = &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: protocol, SrcIP: p.source.AsSlice(), DstIP: p.to.AsSlice()}
	}
	stack := []gopacket.SerializableLayer{ether, network.(gopacket.SerializableLayer)}
	switch p.protocol {
	case firewall.TCP:
		flags := p.flags
		if flags == "" {
			flags = "S"
		}
		tcp := &layers.TCP{SrcPort: layers.TCPPort(p.sport), DstPort: layers.TCPPort(p.dport), Window: 65535, Seq: 1}
		for _, f := range flags {
			tcp.SYN, tcp.ACK = tcp.SYN || f == 'S', tcp.ACK || f == 'A'
		}
		if tcp.SYN {
			tcp.Options = []layers.TCPOption{{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{0x05, 0xb4}}}
		}
		_ = tcp.SetNetworkLayerForChecksum(network)
		stack = append(stack, tcp)
	case firewall.UDP:
		udp := &layers.UDP{SrcPort: layers.UDPPort(p.sport), DstPort: layers.UDPPort(p.dport)}
		_ = udp.SetNetworkLayerForChecksum(network)
		stack = append(stack, udp)
	case firewall.ICMP:
		kind := layers.ICMPv4TypeEchoRequest
		if p.icmpReply {
			kind = layers.ICMPv4TypeEchoReply
		}
		stack = append(stack, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(uint8(kind), 0), Id: p.sport})
	case firewall.ICMPv6:
		kind := layers.ICMPv6TypeEchoRequest
		if p.icmpReply {
			kind = layers.ICMPv6TypeEchoReply
		}
		icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(uint8(kind), 0)}
		_ = icmp.SetNetworkLayerForChecksum(network)
		stack = append(stack, icmp, &layers.ICMPv6Echo{Identifier: p.sport})
	}
	payload := p.payload()
	if p.protocol == firewall.SCTP { // connection tracking wants INIT first; receivers skip a parameter of this type (RFC 9260, 3.2.1)
		payload = nil
		stack = append(stack, &layers.SCTP{SrcPort: layers.SCTPPort(p.sport), DstPort: layers.SCTPPort(p.dport)},
			&layers.SCTPInit{SCTPChunk: layers.SCTPChunk{Type: layers.SCTPChunkTypeInit}, InitiateTag: 1, AdvertisedReceiverWindowCredit: 65535,
				OutboundStreams: 1, InboundStreams: 1, InitialTSN: 1, Parameters: []layers.SCTPInitParameter{{Type: 0x8fff, Value: p.payload()}}})
	}
	buffer := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		append(stack, gopacket.Payload(payload))...); err != nil {
		t.Fatal(err)
	}
	return buffer.Bytes()
}

// payload is what the packet is known by.
func (p packet) payload() []byte {
	payload := binary.BigEndian.AppendUint32([]byte("shek"), p.id)
	switch {
	case p.pieces != whole: // known by either fragment
		payload = append(append(payload, make([]byte, 200)...), payload...)
	case !p.short:
		payload = append(payload, make([]byte, 24+p.size)...)
	}
	return payload
}

// send lets the neighbour on p.arriveOn send the packet, whatever its source, and returns its ID.
func (r *rig) send(p packet) uint32 {
	r.t.Helper()
	r.next++
	p.id = r.next
	e := r.ends[p.arriveOn]
	frame := p.bytes(r.t, e.mac, e.boxMAC)
	if p.pieces == whole {
		transmit(r.t, e.socket, e.index, frame)
		return p.id
	}
	fragments, err := testbed.Fragment(frame[14:], uint16(p.id))
	if err != nil {
		r.t.Fatal(err)
	}
	if p.pieces == later {
		fragments = fragments[1:]
	}
	for _, f := range fragments {
		transmit(r.t, e.socket, e.index, append(append([]byte{}, frame[:14]...), f...))
	}
	return p.id
}

func transmit(t testing.TB, fd, index int, frame []byte) {
	t.Helper()
	if err := syscall.Sendto(fd, frame, 0, &syscall.SockaddrLinklayer{Ifindex: index}); err != nil {
		t.Fatal(err)
	}
}

// arrived returns the IDs of all packets that came to each neighbour since the last call. It does not wait for a time: fences, which no filter sees, follow
// all packets. A busy kernel keeps a queue for each processor (softnet_data), in which a packet stands once on its way to the box and once on its way on,
// so a fence follows in each queue, and another when it has come.
func (r *rig) arrived() map[string]map[uint32]gopacket.Packet {
	r.t.Helper()
	out := map[string]map[uint32]gopacket.Packet{}
	for link := range r.ends {
		out[link] = map[uint32]gopacket.Packet{}
	}
	for range 2 {
		r.next++
		fences := r.sendFences(r.next)
		for link, e := range r.ends {
			r.receive(e, r.next, fences, out[link])
		}
	}
	return out
}

// sendFences sends one on each link by each processor that this process may use, and says by how many.
func (r *rig) sendFences(fence uint32) (each int) {
	r.t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		r.t.Fatal(err)
	}
	defer func() {
		if err := unix.SchedSetaffinity(0, &all); err != nil {
			r.t.Fatal(err)
		}
	}()
	for processor := 0; each < all.Count(); processor++ {
		if !all.IsSet(processor) {
			continue
		}
		each++
		var one unix.CPUSet
		one.Set(processor)
		if err := unix.SchedSetaffinity(0, &one); err != nil {
			r.t.Fatal(err)
		}
		for _, e := range r.ends {
			frame := append(append(append([]byte{}, e.mac...), e.boxMAC...), byte(fenceType>>8), byte(fenceType&0xff))
			transmit(r.t, e.inject, e.boxIndex, append(binary.BigEndian.AppendUint32(frame, fence), make([]byte, 46)...))
		}
	}
	return each
}

// receive notes what comes to one end until so many fences have come.
func (r *rig) receive(e *end, fence uint32, fences int, out map[uint32]gopacket.Packet) {
	r.t.Helper()
	buffer := make([]byte, 65536)
	for fences > 0 {
		n, from, err := syscall.Recvfrom(e.socket, buffer, 0)
		if err != nil {
			r.t.Fatalf("wait for the fence on %s: %v", e.link, err)
		}
		if a, ok := from.(*syscall.SockaddrLinklayer); ok && a.Pkttype == syscall.PACKET_OUTGOING {
			continue
		}
		if n >= 18 && binary.BigEndian.Uint16(buffer[12:]) == fenceType {
			if binary.BigEndian.Uint32(buffer[14:]) == fence {
				fences--
			}
			continue
		}
		if id, p, ok := identify(buffer[:n]); ok {
			out[id] = p
		}
	}
}

// quoted marks the ID of an ICMP error that quotes a packet.
const quoted = 1 << 31

// identify finds the ID of a packet of ours, or of the one that an ICMP error quotes.
func identify(frame []byte) (uint32, gopacket.Packet, bool) {
	p := gopacket.NewPacket(append([]byte{}, frame...), layers.LayerTypeEthernet, gopacket.Default)
	var payload []byte
	var bit uint32
	if v4, _ := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); v4 != nil && v4.TypeCode.Type() == layers.ICMPv4TypeDestinationUnreachable {
		payload, bit = v4.LayerPayload(), quoted
	}
	if v6, _ := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); v6 != nil && v6.TypeCode.Type() == layers.ICMPv6TypePacketTooBig {
		payload, bit = v6.LayerPayload(), quoted
	}
	switch at := bytes.LastIndex(payload, []byte("shek")); {
	case bit != 0 && at >= 0:
		payload = payload[at:]
	case bit != 0:
		return 0, nil, false
	case p.Layer(gopacket.LayerTypeFragment) != nil:
		if payload = p.Layer(gopacket.LayerTypeFragment).LayerContents(); bytes.Contains(payload, []byte("shek")) {
			payload = payload[bytes.Index(payload, []byte("shek")):]
		}
	case p.Layer(layers.LayerTypeSCTP) != nil:
		if payload = p.Layer(layers.LayerTypeSCTP).LayerPayload(); bytes.Contains(payload, []byte("shek")) {
			payload = payload[bytes.Index(payload, []byte("shek")):]
		}
	case p.Layer(layers.LayerTypeTCP) != nil:
		payload = p.Layer(layers.LayerTypeTCP).LayerPayload()
	case p.Layer(layers.LayerTypeUDP) != nil:
		payload = p.Layer(layers.LayerTypeUDP).LayerPayload()
	case p.Layer(layers.LayerTypeICMPv4) != nil:
		payload = p.Layer(layers.LayerTypeICMPv4).LayerPayload()
	case p.Layer(layers.LayerTypeICMPv6Echo) != nil:
		payload = p.Layer(layers.LayerTypeICMPv6).LayerPayload()[4:]
	}
	if len(payload) < 8 || string(payload[:4]) != "shek" {
		return 0, nil, false
	}
	return binary.BigEndian.Uint32(payload[4:]) | bit, p, true
}

// tooBig is the error of a router with a small MTU about a packet that it got.
func tooBig(t testing.TB, router netip.Addr, about []byte, e *end) []byte {
	t.Helper()
	network := about[14:] // without the Ethernet header
	ether := &layers.Ethernet{SrcMAC: e.mac, DstMAC: e.boxMAC, EthernetType: layers.EthernetTypeIPv4}
	var stack []gopacket.SerializableLayer
	if router.Is4() {
		stack = []gopacket.SerializableLayer{ether,
			&layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolICMPv4, SrcIP: router.AsSlice(), DstIP: network[12:16]},
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 4), Seq: 1300}}
	} else {
		ether.EthernetType = layers.EthernetTypeIPv6
		ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolICMPv6, SrcIP: router.AsSlice(), DstIP: network[8:24]}
		icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(2, 0)}
		_ = icmp.SetNetworkLayerForChecksum(ip)
		stack = []gopacket.SerializableLayer{ether, ip, icmp, gopacket.Payload([]byte{0, 0, 0x05, 0x14})} // MTU 1300
	}
	stack = append(stack, gopacket.Payload(network))
	buffer := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, stack...); err != nil {
		t.Fatal(err)
	}
	return buffer.Bytes()
}
