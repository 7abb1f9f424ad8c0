package firewall

import (
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

const maxElementsPerFlow = 65536 // sources x destinations x services; a flow beyond it is a mistake, and would cost seconds

// Elements is what ports, flows, probes, offers and limits of a policy put into the sets of a ruleset with this base; of the rest of the policy it looks
// at nothing. The order of the input does not matter. Called with one tunnel's it costs microseconds, whatever else there is.
func (b *Base) Elements(p Policy) (Elements, error) {
	out := Elements{}
	for _, port := range p.Ports {
		if err := b.addPort(out, port); err != nil {
			return nil, fmt.Errorf("tunnel %q: %w", port.Tunnel, err)
		}
	}
	for _, flow := range p.Flows {
		if err := b.addFlow(out, flow); err != nil {
			return nil, fmt.Errorf("flow %q: %w", flow.Name, err)
		}
	}
	for _, probe := range p.Probes {
		if err := b.addProbe(out, probe); err != nil {
			return nil, fmt.Errorf("probe of tunnel %q: %w", probe.Tunnel, err)
		}
	}
	for _, offer := range p.Offers {
		if err := b.addOffer(out, offer); err != nil {
			return nil, fmt.Errorf("offer %q: %w", offer.Name, err)
		}
	}
	for _, limit := range p.Limits {
		if err := b.addLimit(out, limit); err != nil {
			return nil, fmt.Errorf("limits of tunnel %q: %w", limit.Tunnel, err)
		}
	}
	out.normalise()
	return out, nil
}

func (e Elements) put(set, element string) { e[set] = append(e[set], element) }

func family(is4 bool) string {
	if is4 {
		return "4"
	}
	return "6"
}

func (b *Base) addPort(out Elements, port TunnelPort) error {
	device, ok := b.device[port.Device]
	if !ok {
		return fmt.Errorf("no device %q", port.Device)
	}
	at := fmt.Sprintf("%s . %d", device.LocalIP, device.Port)
	switch {
	case port.From == netip.Addr{}:
		out.put("tunnel_any"+family(device.LocalIP.Is4()), at)
	case !plain(port.From) || port.From.Is4() != device.LocalIP.Is4():
		return fmt.Errorf("peer address %s is not of the family of %s, the address of device %q", port.From, device.LocalIP, port.Device)
	default:
		out.put("tunnel_peer"+family(device.LocalIP.Is4()), at+" . "+port.From.String())
	}
	return nil
}

func (b *Base) addProbe(out Elements, probe Probe) error {
	device, ok := b.device[probe.Device]
	if !ok {
		return fmt.Errorf("no device %q", probe.Device)
	}
	if (probe.Remote == netip.Addr{}) {
		return nil // nobody to ask and nobody who asks
	}
	if !plain(probe.Remote) {
		return fmt.Errorf("address %s cannot be filtered on", probe.Remote)
	}
	addressable := true
	if t := device.Translation; t != nil { // both as they stand on the device: a hidden address is asked by what is shown of it alone
		remote, _ := Out(t.Far, netip.PrefixFrom(probe.Remote, probe.Remote.BitLen()))
		probe.Remote = remote.Addr()
		if probe.Local.IsValid() {
			var local netip.Prefix
			local, addressable = Out(t.Local, netip.PrefixFrom(probe.Local, probe.Local.BitLen()))
			probe.Local = local.Addr()
		}
	}
	v := family(probe.Remote.Is4())
	out.put("probe_out"+v, fmt.Sprintf("%q . %s", probe.Device, probe.Remote))
	if (probe.Local == netip.Addr{}) || !addressable {
		return nil
	}
	if !plain(probe.Local) || probe.Local.Is4() != probe.Remote.Is4() {
		return fmt.Errorf("local address %s is not of the family of %s", probe.Local, probe.Remote)
	}
	out.put("probe_in"+v, fmt.Sprintf("%q . %s . %s", probe.Device, probe.Remote, probe.Local))
	return nil
}

func (b *Base) addFlow(out Elements, flow Flow) error {
	from, err := b.resolve(flow.From)
	if err != nil {
		return fmt.Errorf("from: %w", err)
	}
	to, err := b.resolve(flow.To)
	if err != nil {
		return fmt.Errorf("to: %w", err)
	}
	if len(flow.Sources) == 0 || len(flow.Destinations) == 0 || len(flow.Services) == 0 {
		return fmt.Errorf("needs sources, destinations and services")
	}
	for _, prefix := range slices.Concat(flow.Sources, flow.Destinations) {
		if err := checkPrefix(prefix); err != nil {
			return err
		}
	}
	// Rules look at the addresses with which a connection was opened: its opener's.
	if flow.Sources, flow.Destinations, err = b.device[flow.From.Device].Opened(flow); err != nil {
		return err
	}
	return out.permit(from, to, flow)
}

// addOffer is a flow to the box itself.
func (b *Base) addOffer(out Elements, offer Offer) error {
	from, err := b.resolve(offer.From)
	if err != nil {
		return fmt.Errorf("from: %w", err)
	}
	if len(offer.Sources) == 0 || len(offer.Addresses) == 0 || len(offer.Services) == 0 {
		return fmt.Errorf("needs sources, addresses and services")
	}
	for _, prefix := range offer.Sources {
		if err := checkPrefix(prefix); err != nil {
			return err
		}
	}
	for _, address := range offer.Addresses {
		if !plain(address) {
			return fmt.Errorf("address %s cannot be filtered on", address)
		}
	}
	flow := offer.flow()
	device := b.device[offer.From.Device]
	if t := device.Translation; t != nil && len(t.Far) > 0 {
		return fmt.Errorf("device %q maps its far side: what this box answered would not find the way back", device.Name)
	}
	if flow.Sources, flow.Destinations, err = device.Opened(flow); err != nil {
		return err
	}
	return out.permit(from, BoxPlace, flow)
}

// flow is an offer as a flow to the box's own addresses.
func (o Offer) flow() Flow {
	f := Flow{Name: o.Name, From: o.From, Sources: o.Sources, Services: o.Services}
	for _, address := range o.Addresses {
		f.Destinations = append(f.Destinations, netip.PrefixFrom(address, address.BitLen()))
	}
	return f
}

// permit puts a flow between two places, its addresses as its opener writes them.
func (e Elements) permit(from, to uint32, flow Flow) error {
	key := element{mark: from<<fromShift | to<<toShift}
	count := 0
	for _, service := range flow.Services {
		blocks, err := service.blocks()
		if err != nil {
			return err
		}
		used := false
		for _, source := range flow.Sources {
			for _, destination := range flow.Destinations {
				is4 := source.Addr().Is4()
				if is4 != destination.Addr().Is4() || service.Protocol == ICMP && !is4 || service.Protocol == ICMPv6 && is4 {
					continue
				}
				used = true
				if count += len(blocks); count > maxElementsPerFlow {
					return fmt.Errorf("takes more than %d set elements: use fewer or larger prefixes or port ranges", maxElementsPerFlow)
				}
				key.source, key.destination, key.protocol = source, destination, service.Protocol
				for _, key.ports = range blocks {
					e.put(key.shape().set(), key.String())
				}
			}
		}
		if !used {
			return fmt.Errorf("service %s: no source and destination are of one address family that it fits", service)
		}
	}
	return nil
}

// ports is an aligned block of ports: those that agree with first in the leading bits. Zero bits: all ports, and no port in the key.
type ports struct {
	first uint16
	bits  int
}

// hasPorts reports whether the first four bytes of the protocol's header are source and destination port.
func hasPorts(p Protocol) bool { return p == TCP || p == UDP || p == SCTP || p == 33 || p == 136 } // 33 DCCP, 136 UDP-Lite

// blocks splits a range of ports into the fewest aligned blocks, at most 30.
func (s Service) blocks() ([]ports, error) {
	switch {
	case s.Protocol == 0:
		return nil, fmt.Errorf("service without a protocol")
	case s.FirstPort == 0 && s.LastPort == 0:
		return []ports{{}}, nil
	case !hasPorts(s.Protocol):
		return nil, fmt.Errorf("service: protocol %d has no ports", s.Protocol)
	case s.FirstPort == 0 || s.FirstPort > s.LastPort:
		return nil, fmt.Errorf("service: %d-%d is not a range of ports", s.FirstPort, s.LastPort)
	}
	var out []ports
	for first, last := uint32(s.FirstPort), uint32(s.LastPort); first <= last; {
		size := uint32(1) << bits.TrailingZeros32(first) // first > 0
		for first+size-1 > last {
			size >>= 1
		}
		out = append(out, ports{uint16(first), 16 - bits.TrailingZeros32(size)})
		first += size
	}
	return out, nil
}

// element is one permission: what stands in a flow set.
type element struct {
	mark                uint32 // from and to place
	source, destination netip.Prefix
	protocol            Protocol
	ports               ports
}

// String is the element as nft -n lists it.
func (e element) String() string {
	b := make([]byte, 0, 96)
	b = fmt.Appendf(b, "0x%08x . ", e.mark)
	b = e.source.Addr().AppendTo(b)
	b = append(b, " . "...)
	b = e.destination.Addr().AppendTo(b)
	b = append(b, " . "...)
	b = strconv.AppendUint(b, uint64(e.protocol), 10)
	if e.ports.bits > 0 {
		b = append(b, " . "...)
		b = strconv.AppendUint(b, uint64(e.ports.first), 10)
	}
	return string(b)
}

func (e element) shape() shape {
	return shape{e.source.Addr().Is4(), e.source.Bits(), e.destination.Bits(), e.ports.bits}
}

// Permission is an element of a flow set, read: connections from a place to a place, by numbers of Base.Places, or to the box itself (BoxPlace).
type Permission struct {
	From, To            uint32
	Source, Destination netip.Prefix
	Protocol            Protocol
	FirstPort, LastPort uint16 // both 0: no port is asked for
}

// Permissions reads all elements of flow sets.
func (e Elements) Permissions() ([]Permission, error) {
	var out []Permission
	for _, set := range e.Sets() {
		shape, ofFlows := parseShape(set)
		if !ofFlows {
			continue
		}
		for _, text := range e[set] {
			p, err := shape.permission(text)
			if err != nil {
				return nil, fmt.Errorf("set %s: element %q: %w", set, text, err)
			}
			out = append(out, p)
		}
	}
	return out, nil
}

func (s shape) permission(element string) (Permission, error) {
	fields := strings.Split(element, " . ")
	if want := 4 + min(s.portLength, 1); len(fields) != want {
		return Permission{}, fmt.Errorf("has %d fields, not %d", len(fields), want)
	}
	mark, err := strconv.ParseUint(fields[0], 0, 32)
	source, errSource := netip.ParseAddr(fields[1])
	destination, errDestination := netip.ParseAddr(fields[2])
	protocol, errProtocol := strconv.ParseUint(fields[3], 10, 8)
	if err := errors.Join(err, errSource, errDestination, errProtocol); err != nil {
		return Permission{}, err
	}
	p := Permission{From: uint32(mark) >> fromShift, To: uint32(mark) & toMask >> toShift, Protocol: Protocol(protocol),
		Source: netip.PrefixFrom(source, s.source), Destination: netip.PrefixFrom(destination, s.destination)}
	if s.portLength > 0 {
		first, err := strconv.ParseUint(fields[4], 10, 16)
		if err != nil {
			return Permission{}, err
		}
		p.FirstPort, p.LastPort = uint16(first), uint16(first)|uint16(uint32(0xffff)>>s.portLength)
	}
	return p, nil
}
