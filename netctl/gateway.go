package netctl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Gateway is the next hop of a default route of the main table, whoever made it.
type Gateway struct {
	Link    string
	Address netip.Addr
	Metric  uint32
}

// Gateways reads the default routes of the main table that have a gateway, the preferred ones (the lowest metric) first. A host
// without IPv6 has none there.
func (h *Host) Gateways() ([]Gateway, error) {
	list, err := h.observeLinks()
	if err != nil {
		return nil, err
	}
	names := make(map[uint32]string, len(list))
	for _, link := range list {
		names[uint32(link.Index)] = link.Name
	}
	var gateways []Gateway
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		found, err := h.rtnl.dumpGateways(family, names)
		if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
			return nil, &Error{Op: "list default routes", Object: familyName(family), Err: err}
		}
		gateways = append(gateways, found...)
	}
	return gateways, nil
}

func (r *rtnl) dumpGateways(family byte, links map[uint32]string) ([]Gateway, error) {
	for attempt := 1; ; attempt++ {
		header := make([]byte, unix.SizeofRtMsg)
		header[0], header[7] = family, unix.RTN_UNICAST
		m := newRequest(unix.RTM_GETROUTE, 0, header)
		m.attribute32(unix.RTA_TABLE, unix.RT_TABLE_MAIN)
		var gateways []Gateway
		err := r.dump(m, func(kind uint16, body []byte) {
			if kind == unix.RTM_NEWROUTE {
				gateways = append(gateways, decodeGateways(body, links)...)
			}
		})
		if errors.Is(err, errDumpInterrupted) && attempt < 10 {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the main table: %w", err)
		}
		slices.SortStableFunc(gateways, func(a, b Gateway) int { return int(int64(a.Metric) - int64(b.Metric)) })
		return gateways, nil
	}
}

// decodeGateways is the next hops in the body of an RTM_NEWROUTE message, if it is a default route.
func decodeGateways(body []byte, links map[uint32]string) []Gateway {
	if len(body) < unix.SizeofRtMsg || body[1] != 0 || body[7] != unix.RTN_UNICAST ||
		binary.NativeEndian.Uint32(body[8:])&unix.RTM_F_CLONED != 0 {
		return nil
	}
	var gateway Gateway
	var hops []byte
	for kind, value := range attributes(body[unix.SizeofRtMsg:]) {
		switch {
		case kind == unix.RTA_GATEWAY:
			gateway.Address, _ = netip.AddrFromSlice(value)
		case kind == unix.RTA_OIF && len(value) == 4:
			gateway.Link = links[binary.NativeEndian.Uint32(value)]
		case kind == unix.RTA_PRIORITY && len(value) == 4:
			gateway.Metric = binary.NativeEndian.Uint32(value)
		case kind == unix.RTA_MULTIPATH:
			hops = value
		}
	}
	var gateways []Gateway
	if gateway.Address.IsValid() {
		gateways = append(gateways, gateway)
	}
	for len(hops) >= unix.SizeofRtNexthop {
		length := int(binary.NativeEndian.Uint16(hops))
		if length < unix.SizeofRtNexthop || length > len(hops) {
			break
		}
		hop := Gateway{Link: links[binary.NativeEndian.Uint32(hops[4:])], Metric: gateway.Metric}
		for kind, value := range attributes(hops[unix.SizeofRtNexthop:length]) {
			if kind == unix.RTA_GATEWAY {
				hop.Address, _ = netip.AddrFromSlice(value)
			}
		}
		if hop.Address.IsValid() {
			gateways = append(gateways, hop)
		}
		hops = hops[min(len(hops), (length+3)&^3):]
	}
	return gateways
}
