package packet

import (
	"bytes"
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
			data = networkPart(data)
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

// Bytes are those of UDP payloads in a pcap that came to a port of an address, and those that left it. Fragments after the first count with neither.
func Bytes(pcap []byte, at netip.AddrPort) (in, out int, err error) {
	reader, err := pcapgo.NewReader(bytes.NewReader(pcap))
	if err != nil {
		return 0, 0, fmt.Errorf("read pcap: %w", err)
	}
	for {
		data, _, err := reader.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return in, out, nil
		}
		if err != nil {
			return 0, 0, fmt.Errorf("read pcap: %w", err)
		}
		p := gopacket.NewPacket(data, reader.LinkType(), gopacket.NoCopy)
		udp, ok := p.TransportLayer().(*layers.UDP)
		if !ok {
			continue
		}
		flow := p.NetworkLayer().NetworkFlow()
		source, _ := netip.AddrFromSlice(flow.Src().Raw())
		destination, _ := netip.AddrFromSlice(flow.Dst().Raw())
		switch at {
		case netip.AddrPortFrom(destination, uint16(udp.DstPort)):
			in += len(udp.Payload)
		case netip.AddrPortFrom(source, uint16(udp.SrcPort)):
			out += len(udp.Payload)
		}
	}
}
