package swarm

import (
	"encoding/binary"
	"net/netip"
)

// TCP flags (RFC 9293).
const (
	tcpFIN = 1
	tcpSYN = 2
	tcpRST = 4
	tcpPSH = 8
	tcpURG = 32
)

// innerBreakages are packets through the tunnel, well encrypted, that no honest kernel behind the peer would send.
func innerBreakages() []Breakage {
	list := []Breakage{
		{Name: "inner-flood", Means: "UDP to one place (to, port)", inner: func(_ Break, w innerAddresses) []byte { return w.udp(w.source, 1024).build() }},
		{Name: "inner-scan", Means: "UDP to every port and, without to, every address", inner: func(_ Break, w innerAddresses) []byte { return w.udp(w.source, 0).build() }},
		{Name: "inner-connections", Means: "UDP from ever new ports: fills a connection table", inner: func(_ Break, w innerAddresses) []byte { return w.udp(w.source, 1).build() }},
		{Name: "inner-syn-flood", Means: "TCP SYN from ever new ports (to, port)", inner: func(_ Break, w innerAddresses) []byte { return w.tcp(tcpSYN).build() }},
		{Name: "inner-rst-flood", Means: "TCP RST of connections that are not there", inner: func(_ Break, w innerAddresses) []byte { return w.tcp(tcpRST).build() }},
		{Name: "inner-odd-flags", Means: "TCP with FIN, PSH and URG at once, or none", inner: func(_ Break, w innerAddresses) []byte {
			return w.tcp([]uint8{0, tcpFIN | tcpPSH | tcpURG, tcpSYN | tcpFIN, 255}[w.random.IntN(4)]).build()
		}},
		{Name: "inner-oversized", Means: "an inner packet of 60,000 bytes, far over the MTU", Weight: 40, inner: func(_ Break, w innerAddresses) []byte { return w.udp(w.source, 60000).build() }},
		{Name: "inner-other-family", Means: "IPv6 in a tunnel of IPv4, and the reverse", inner: func(_ Break, w innerAddresses) []byte {
			v4 := w.source.Is4()
			w.source, w.to = randomAddress(w.random, !v4), randomAddress(w.random, !v4)
			return w.udp(w.source, 16).build()
		}},
		{Name: "inner-protocol", Means: "IP protocols that nobody speaks", inner: func(_ Break, w innerAddresses) []byte {
			return datagram{w.source, w.to, uint8(140 + w.random.IntN(116)), randomBytes(w.random, 40)}.build()
		}},
		{Name: "inner-icmp-redirect", Means: "ICMP redirects to the peer itself (RFC 792)", inner: func(_ Break, w innerAddresses) []byte { return w.complaint(5, 1, 137, 0).build() }},
		{Name: "inner-icmp-too-big", Means: "ICMP that lies about the path MTU: 68 or 1280 bytes", inner: func(_ Break, w innerAddresses) []byte {
			if w.source.Is4() {
				return w.complaint(3, 4, 2, 0).withMTU(68).build()
			}
			return w.complaint(3, 4, 2, 0).withMTU(1280).build()
		}},
		{Name: "inner-icmp-unreachable", Means: "ICMP that lies about a host being gone", inner: func(_ Break, w innerAddresses) []byte { return w.complaint(3, 1, 1, 3).build() }},
	}
	list = append(list, spoofBreakages()...)
	return append(list, headerBreakages()...)
}

// spoofBreakages pretend another source, which the far end's allowed IPs must refuse.
func spoofBreakages() []Breakage {
	spoof := func(name, means, v4, v6 string) Breakage {
		return Breakage{Name: name, Means: means, inner: func(_ Break, w innerAddresses) []byte {
			source := netip.MustParseAddr(v4)
			if w.to.Is6() {
				source = netip.MustParseAddr(v6)
			}
			return w.udp(source, 16).build()
		}}
	}
	return []Breakage{
		{Name: "spoof-source", Means: "another inner source (source), such as a neighbour's", inner: func(_ Break, w innerAddresses) []byte { return w.udp(w.source, 16).build() }},
		{Name: "spoof-random", Means: "random inner sources", inner: func(_ Break, w innerAddresses) []byte {
			return w.udp(randomAddress(w.random, w.to.Is4()), 16).build()
		}},
		{Name: "spoof-destination", Means: "source and destination are one", inner: func(_ Break, w innerAddresses) []byte { return w.udp(w.to, 16).build() }},
		spoof("spoof-loopback", "the source is loopback", "127.0.0.1", "::1"),
		spoof("spoof-multicast", "the source is a group", "224.0.0.1", "ff02::1"),
		spoof("spoof-broadcast", "the source is everybody, or all nodes", "255.255.255.255", "ff02::2"),
		spoof("spoof-unspecified", "the source is nobody", "0.0.0.0", "::"),
		spoof("spoof-link-local", "the source is of a link", "169.254.1.1", "fe80::1"),
	}
}

// headerBreakages have a header that is wrong. They go as IPv4 whatever the family of to is, except where there is such a thing in IPv6.
func headerBreakages() []Breakage {
	edit := func(name, means string, change func(packet []byte, w innerAddresses) []byte) Breakage {
		return Breakage{Name: name, Means: means, inner: func(_ Break, w innerAddresses) []byte {
			packet := w.udp(w.source, 64).build()
			if w.to.Is6() {
				packet[6+w.random.IntN(2)] = byte(w.random.Uint32()) // next header or hop limit: all that there is to get wrong
				return packet
			}
			return change(packet, w)
		}}
	}
	fragment := func(name, means string, field func(w innerAddresses) uint16) Breakage {
		return edit(name, means, func(packet []byte, w innerAddresses) []byte {
			binary.BigEndian.PutUint16(packet[4:], uint16(w.random.Uint32()))
			binary.BigEndian.PutUint16(packet[6:], field(w))
			fixHeader(packet)
			return packet
		})
	}
	const moreFragments = 1 << 13
	return []Breakage{
		edit("header-checksum", "a wrong header checksum", func(packet []byte, _ innerAddresses) []byte {
			packet[10] ^= 0xff
			return packet
		}),
		edit("header-length", "a total length that is not the packet's", func(packet []byte, w innerAddresses) []byte {
			binary.BigEndian.PutUint16(packet[2:], uint16(w.random.IntN(len(packet))))
			fixHeader(packet)
			return packet
		}),
		edit("header-size", "a header size under 20 bytes, or over the packet", func(packet []byte, w innerAddresses) []byte {
			packet[0] = 4<<4 | []byte{0, 4, 15}[w.random.IntN(3)]
			fixHeader(packet)
			return packet[:header4Bytes+8]
		}),
		edit("header-ttl", "a time to live of 0 or 1", func(packet []byte, w innerAddresses) []byte {
			packet[8] = byte(w.random.IntN(2))
			fixHeader(packet)
			return packet
		}),
		edit("header-source-route", "a loose source route (RFC 791)", func(packet []byte, w innerAddresses) []byte {
			source := w.source.As4()
			option := append([]byte{131, 7, 4}, append(source[:], 0)...)
			routed := append(append(append([]byte{}, packet[:header4Bytes]...), option...), packet[header4Bytes:]...)
			routed[0] = 4<<4 | 7
			binary.BigEndian.PutUint16(routed[2:], uint16(len(routed)))
			fixHeader(routed)
			return routed
		}),
		fragment("fragment-first", "first fragments that never get a second", func(innerAddresses) uint16 { return moreFragments }),
		fragment("fragment-later", "later fragments that never had a first", func(w innerAddresses) uint16 { return uint16(1 + w.random.IntN(8000)) }),
		fragment("fragment-beyond", "fragments that end beyond 65,535 bytes", func(innerAddresses) uint16 { return 0x1fff }),
		fragment("fragment-overlap", "fragments of few packets that lie over one another", func(w innerAddresses) uint16 { return moreFragments | uint16(w.random.IntN(4)) }),
	}
}

func (w innerAddresses) udp(source netip.Addr, length int) datagram {
	port := uint16(1024 + w.random.IntN(64511))
	return udp(netip.AddrPortFrom(source, port), netip.AddrPortFrom(w.to, w.port), make([]byte, length))
}

func (w innerAddresses) tcp(flags uint8) datagram {
	port := uint16(1024 + w.random.IntN(64511))
	return tcp(netip.AddrPortFrom(w.source, port), netip.AddrPortFrom(w.to, w.port), flags, w.random.Uint32())
}

// complaint is an ICMP error about a packet that to is said to have sent; the kind and code are those of IPv4 or of IPv6.
func (w innerAddresses) complaint(kind4, code4, kind6, code6 uint8) datagram {
	about := udp(netip.AddrPortFrom(w.to, w.port), netip.AddrPortFrom(w.source, w.port), make([]byte, 16)).build()
	if w.source.Is4() {
		return icmp(w.source, w.to, kind4, code4, 0, about)
	}
	return icmp(w.source, w.to, kind6, code6, 0, about)
}

// withMTU writes the next hop's MTU (RFC 1191, RFC 4443).
func (d datagram) withMTU(mtu uint32) datagram {
	binary.BigEndian.PutUint32(d.payload[4:], mtu)
	return d.checksum(2)
}
