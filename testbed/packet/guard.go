package packet

import (
	"context"
	"encoding/binary"
	"io"
	"net/netip"
	"slices"

	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"
)

// Guard looks at what leaves by an interface until ctx ends, and writes each packet that shows an address of the prefixes as pcap: in
// its own header, in one that an ICMP error quotes, or in one that is tunnelled in the clear. It returns how many packets passed, both
// ways, and how many of those that left showed such an address.
func Guard(ctx context.Context, place Place, iface string, inside []netip.Prefix, out io.Writer, began func()) (seen, shown int, err error) {
	return capture(ctx, place, iface, out, began, func(data []byte, link layers.LinkType, outgoing bool) bool {
		if link == layers.LinkTypeEthernet {
			data = networkPart(data)
		}
		return outgoing && shows(data, inside)
	})
}

// networkPart is what an Ethernet frame carries, if that is IP: address resolution is between neighbours, who know one another.
func networkPart(frame []byte) []byte {
	if len(frame) < 14 {
		return nil
	}
	switch binary.BigEndian.Uint16(frame[12:]) {
	case unix.ETH_P_IP, unix.ETH_P_IPV6:
		return frame[14:]
	}
	return nil
}

// shows reports whether a packet, or one that stands in it in the clear, has an address of the prefixes.
func shows(data []byte, inside []netip.Prefix) bool {
	return slices.ContainsFunc(headers(data), func(a netip.Addr) bool {
		return slices.ContainsFunc(inside, func(p netip.Prefix) bool { return p.Contains(a) })
	})
}

// headers are the addresses in an IP packet's header, in the one that it quotes if it is an ICMP error, and in one that it carries.
func headers(data []byte) (all []netip.Addr) {
	for len(data) >= 20 {
		var protocol byte
		switch {
		case data[0]>>4 == 4:
			all = append(all, netip.AddrFrom4([4]byte(data[12:])), netip.AddrFrom4([4]byte(data[16:])))
			protocol, data = data[9], data[min(int(data[0]&15)*4, len(data)):]
		case data[0]>>4 == 6 && len(data) >= 40:
			all = append(all, netip.AddrFrom16([16]byte(data[8:])), netip.AddrFrom16([16]byte(data[24:])))
			protocol, data = data[6], data[40:]
		default:
			return all
		}
		switch {
		case protocol == unix.IPPROTO_IPIP || protocol == unix.IPPROTO_IPV6:
		case len(data) > 8 && (protocol == unix.IPPROTO_ICMP && slices.Contains([]byte{3, 5, 11, 12}, data[0]) || protocol == unix.IPPROTO_ICMPV6 && data[0] < 128):
			data = data[8:] // an error or a redirect: what it quotes follows (RFC 792, RFC 4443 2.4)
		default:
			return all
		}
	}
	return all
}
