package netctl

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"
)

// defaultMetric6 is what the kernel makes of metric 0 in an IPv6 route (IP6_RT_PRIO_USER).
const defaultMetric6 uint32 = 1024

// canonical is the route as the kernel will show it.
func (r Route) canonical() Route {
	r.Prefix = r.Prefix.Masked()
	if r.Prefix.Addr().Is6() && r.Metric == 0 {
		r.Metric = defaultMetric6
	}
	if r.Kind != Unicast { // IPv6 shows them on lo
		r.Link, r.Gateway, r.Source = "", netip.Addr{}, netip.Addr{}
	}
	return r
}

// routeKey is what the kernel allows one route for (with the flags used here).
type routeKey struct {
	Table  uint32
	Prefix netip.Prefix
	Metric uint32
}

func (r Route) key() routeKey { return routeKey{r.Table, r.Prefix, r.Metric} }

func family(prefix netip.Prefix) byte {
	if prefix.Addr().Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// routeHeader is struct rtmsg.
func routeHeader(r Route, scope, kind byte) []byte {
	return []byte{family(r.Prefix), byte(r.Prefix.Bits()), 0, 0, unix.RT_TABLE_UNSPEC, RouteProtocol, scope, kind, 0, 0, 0, 0}
}

// changeRoute is a request to add (flags NLM_F_CREATE|NLM_F_EXCL) or replace (NLM_F_CREATE|NLM_F_REPLACE) a route.
func changeRoute(r Route, link int, flags uint16) request {
	kind := byte(unix.RTN_UNICAST)
	scope := byte(unix.RT_SCOPE_UNIVERSE)
	switch {
	case r.Kind == Unreachable:
		kind = unix.RTN_UNREACHABLE
	case r.Prefix.Addr().Is4() && !r.Gateway.IsValid():
		scope = unix.RT_SCOPE_LINK // as ip-route(8): else the kernel takes it for a route by a gateway
	}
	m := newRequest(unix.RTM_NEWROUTE, flags, routeHeader(r, scope, kind))
	m.routeAttributes(r, link)
	return m
}

// deleteRoute names everything but the kind, and so deletes exactly this route, and only if it is ours.
func deleteRoute(r Route, link int) request {
	m := newRequest(unix.RTM_DELROUTE, 0, routeHeader(r, unix.RT_SCOPE_NOWHERE, unix.RTN_UNSPEC))
	m.routeAttributes(r, link)
	return m
}

func (m *request) routeAttributes(r Route, link int) {
	m.attribute32(unix.RTA_TABLE, r.Table)
	m.attribute(unix.RTA_DST, r.Prefix.Addr().AsSlice())
	if r.Metric != 0 {
		m.attribute32(unix.RTA_PRIORITY, r.Metric)
	}
	if r.Kind != Unicast {
		return
	}
	m.attribute32(unix.RTA_OIF, uint32(link))
	if r.Gateway.IsValid() {
		m.attribute(unix.RTA_GATEWAY, r.Gateway.AsSlice())
	}
	if r.Source.IsValid() {
		m.attribute(unix.RTA_PREFSRC, r.Source.AsSlice())
	}
}

// matchRoute is a request for the route that a packet to the prefix's first address by the link would take.
func matchRoute(r Route, link int) request {
	header := make([]byte, unix.SizeofRtMsg)
	header[0], header[1] = family(r.Prefix), byte(r.Prefix.Addr().BitLen())
	binary.NativeEndian.PutUint32(header[8:], unix.RTM_F_FIB_MATCH)
	m := newRequest(unix.RTM_GETROUTE, 0, header)
	m.attribute(unix.RTA_DST, r.Prefix.Addr().AsSlice())
	m.attribute32(unix.RTA_OIF, uint32(link))
	return m
}

// routeFilter narrows a dump, in the kernel. Zero fields do not.
type routeFilter struct {
	family byte
	table  uint32
	kind   byte
	link   int
	// strangers asks for the routes of others instead of ours. The kernel does not know this filter: all of the table are read.
	strangers bool
}

// dumpRoutes returns our routes, or those of others. name gives the name of a link by its index.
func (r *rtnl) dumpRoutes(filter routeFilter, name func(index int) string) ([]Route, error) {
	header := make([]byte, unix.SizeofRtMsg)
	header[0], header[5], header[7] = filter.family, RouteProtocol, filter.kind
	if filter.strangers {
		header[5] = unix.RTPROT_UNSPEC
	}
	var routes []Route
	for attempt := 1; ; attempt++ {
		m := newRequest(unix.RTM_GETROUTE, 0, header)
		if filter.table != 0 {
			m.attribute32(unix.RTA_TABLE, filter.table)
		}
		if filter.link != 0 {
			m.attribute32(unix.RTA_OIF, uint32(filter.link))
		}
		routes = routes[:0]
		err := r.dump(m, func(kind uint16, body []byte) {
			if kind == unix.RTM_NEWROUTE && ofProtocol(body) != filter.strangers {
				routes = decodeRoute(routes, body, name)
			}
		})
		switch {
		case err == nil:
			return routes, nil
		case errors.Is(err, errDumpInterrupted) && attempt < 10:
			continue
		case errors.Is(err, unix.ENOENT) && filter.table != 0: // no route was ever in that table
			return nil, nil
		default:
			return nil, err
		}
	}
}

// ofProtocol says whether the route in the body of a message bears our number.
func ofProtocol(body []byte) bool { return len(body) >= unix.SizeofRtMsg && body[5] == RouteProtocol }

// decodeRoute appends the route in the body of an RTM_NEWROUTE message, or several if it has several next hops; nothing if
// it is malformed or only cached.
func decodeRoute(routes []Route, body []byte, name func(index int) string) []Route {
	if len(body) < unix.SizeofRtMsg {
		return routes
	}
	flags := binary.NativeEndian.Uint32(body[8:])
	var address netip.Addr
	switch body[0] {
	case unix.AF_INET:
		address = netip.IPv4Unspecified()
	case unix.AF_INET6:
		address = netip.IPv6Unspecified()
	default:
		return routes
	}
	if flags&unix.RTM_F_CLONED != 0 { // a cached exception
		return routes
	}
	route := Route{Table: uint32(body[4]), Kind: Other}
	switch body[7] {
	case unix.RTN_UNICAST:
		route.Kind = Unicast
	case unix.RTN_UNREACHABLE:
		route.Kind = Unreachable
	}
	var hops []byte
	for kind, value := range attributes(body[unix.SizeofRtMsg:]) {
		number := uint32(0)
		if len(value) == 4 {
			number = binary.NativeEndian.Uint32(value)
		}
		switch kind {
		case unix.RTA_TABLE:
			route.Table = number
		case unix.RTA_PRIORITY:
			route.Metric = number
		case unix.RTA_DST:
			if a, ok := netip.AddrFromSlice(value); ok {
				address = a
			}
		case unix.RTA_PREFSRC:
			route.Source, _ = netip.AddrFromSlice(value)
		case unix.RTA_OIF:
			route.Link = name(int(number))
		case unix.RTA_GATEWAY:
			route.Gateway, _ = netip.AddrFromSlice(value)
		case unix.RTA_MULTIPATH:
			hops = value
		}
	}
	prefix, err := address.Prefix(int(body[1]))
	if err != nil {
		return routes
	}
	route.Prefix = prefix
	if hops == nil {
		return append(routes, route.canonical())
	}
	for len(hops) >= unix.SizeofRtNexthop {
		length := int(binary.NativeEndian.Uint16(hops))
		if length < unix.SizeofRtNexthop || length > len(hops) {
			break
		}
		hop := route
		hop.Link = name(int(binary.NativeEndian.Uint32(hops[4:])))
		for kind, value := range attributes(hops[unix.SizeofRtNexthop:length]) {
			if kind == unix.RTA_GATEWAY {
				hop.Gateway, _ = netip.AddrFromSlice(value)
			}
		}
		routes = append(routes, hop.canonical())
		hops = hops[min(len(hops), (length+3)&^3):]
	}
	return routes
}
