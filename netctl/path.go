package netctl

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	resolveTimeout = 5 * time.Second
	maxAddresses   = 64 // of one name
)

// PathMTU is the size in bytes of the largest packet that leaves for an address whole: the MTU of the link which the
// packet leaves by, or of its route, where that has one (a path MTU that was discovered, too). from may be zero; mark is
// the packet's firewall mark, which may select the route.
func (h *Host) PathMTU(from, to netip.Addr, mark uint32) (int, error) {
	options := &netlink.RouteGetOptions{Mark: mark}
	if from.IsValid() {
		options.SrcAddr = net.IP(from.AsSlice())
	}
	routes, err := h.links.RouteGetWithOptions(net.IP(to.AsSlice()), options)
	if err != nil {
		return 0, &Error{Op: "find route to", Object: to.String(), Err: err}
	}
	if len(routes) == 0 {
		return 0, &Error{Op: "find route to", Object: to.String(), Err: unix.ENETUNREACH}
	}
	link, err := h.links.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return 0, &Error{Op: "find link to", Object: to.String(), Err: err}
	}
	if mtu := routes[0].MTU; mtu > 0 {
		return min(mtu, link.Attrs().MTU), nil
	}
	return link.Attrs().MTU, nil
}

// ResolveHost returns the addresses of a host name, sorted, at most 64, within 5 seconds. An address is its own name.
func ResolveHost(ctx context.Context, name string) ([]netip.Addr, error) {
	if address, err := netip.ParseAddr(name); err == nil {
		return []netip.Addr{address.Unmap()}, nil
	}
	if name == "" || len(name) > 253 || strings.ContainsAny(name, " \t\n/\x00") {
		return nil, fmt.Errorf("resolve %q: not a host name", name)
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return nil, fmt.Errorf("resolve %q: %w", name, err)
	}
	for i := range addresses {
		addresses[i] = addresses[i].Unmap().WithZone("")
	}
	slices.SortFunc(addresses, netip.Addr.Compare)
	addresses = slices.Compact(addresses)
	return addresses[:min(len(addresses), maxAddresses)], nil
}
