package packet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// Showing counts, for each prefix, the packets of a pcap that show an address of it: in an IP header, in one that an ICMP error quotes,
// or, where the prefix is a single address, anywhere in the packet.
func Showing(pcap []byte, prefixes []netip.Prefix) (map[netip.Prefix]int, error) {
	reader, err := pcapgo.NewReader(bytes.NewReader(pcap))
	if err != nil {
		return nil, fmt.Errorf("read pcap: %w", err)
	}
	shown := map[netip.Prefix]int{}
	for {
		data, _, err := reader.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return shown, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read pcap: %w", err)
		}
		if reader.LinkType() == layers.LinkTypeEthernet {
			if len(data) < 14 || binary.BigEndian.Uint16(data[12:]) != 0x0800 && binary.BigEndian.Uint16(data[12:]) != 0x86dd {
				continue // address resolution between neighbours, who know one another
			}
			data = data[14:]
		}
		addresses := headers(data)
		for _, p := range prefixes {
			for _, a := range addresses {
				if p.Contains(a) || p.IsSingleIP() && bytes.Contains(data, p.Addr().AsSlice()) {
					shown[p]++
					break
				}
			}
		}
	}
}

// headers are the addresses in an IP packet's header and in the one that it quotes, if it is an ICMP error.
func headers(data []byte) []netip.Addr {
	if len(data) == 0 {
		return nil
	}
	first := gopacket.LayerType(layers.LayerTypeIPv4)
	if data[0]>>4 == 6 {
		first = layers.LayerTypeIPv6
	}
	p := gopacket.NewPacket(data, first, gopacket.NoCopy)
	network := p.NetworkLayer()
	if network == nil {
		return nil
	}
	var all []netip.Addr
	for _, end := range [][]byte{network.NetworkFlow().Src().Raw(), network.NetworkFlow().Dst().Raw()} {
		if a, ok := netip.AddrFromSlice(end); ok {
			all = append(all, a)
		}
	}
	if v4, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok {
		switch v4.TypeCode.Type() {
		case layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4TypeTimeExceeded, layers.ICMPv4TypeParameterProblem, layers.ICMPv4TypeRedirect:
			all = append(all, headers(v4.LayerPayload())...)
		}
	}
	if v6, ok := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); ok && v6.TypeCode.Type() < 128 && len(v6.LayerPayload()) > 4 {
		all = append(all, headers(v6.LayerPayload()[4:])...)
	}
	return all
}
