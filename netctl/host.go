package netctl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"shekara/netctl/ns"
)

// Host is the network of a namespace: that of the thread which called Open. It may be used from any goroutine.
type Host struct {
	rtnl      *rtnl
	links     *netlink.Handle
	space     *ns.Namespace
	originals originals
}

// Open takes hold of the calling thread's network namespace.
func Open() (*Host, error) {
	space, err := ns.Current()
	if err != nil {
		return nil, err
	}
	h := &Host{space: space}
	if h.rtnl, err = openRTNL(); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	if h.links, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, errors.Join(fmt.Errorf("open routing netlink: %w", err), h.Close())
	}
	return h, nil
}

// KeepOriginals names the file in which the values of sysctls are kept from before their first change, for Cleanup. Apply
// refuses to change a sysctl without it. Call it before the Host is used by several goroutines.
func (h *Host) KeepOriginals(path string) { h.originals = originals{path} }

// Close lets go of the host and changes nothing on it.
func (h *Host) Close() error {
	var err error
	if h.links != nil {
		h.links.Close()
	}
	if h.rtnl != nil {
		err = h.rtnl.close()
	}
	return errors.Join(err, h.space.Close())
}

// Observe reads from the kernel what is there now: our routes of all tables, our rules, all links, and the sysctls named.
func (h *Host) Observe(ctx context.Context, sysctls []string) (State, error) {
	var state State
	var err error
	if state.Links, err = h.observeLinks(); err != nil {
		return State{}, err
	}
	if err := ctx.Err(); err != nil {
		return State{}, err
	}
	names := make(map[int]string, len(state.Links))
	for _, link := range state.Links {
		names[link.Index] = link.Name
	}
	name := func(index int) string {
		if name, found := names[index]; found {
			return name
		}
		return fmt.Sprintf("#%d", index) // gone, or new since
	}
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		routes, err := h.rtnl.dumpRoutes(routeFilter{family: family}, name)
		if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
			return State{}, &Error{Op: "list routes", Object: familyName(family), Err: err}
		}
		state.Routes = append(state.Routes, routes...)
		if err := ctx.Err(); err != nil {
			return State{}, err
		}
	}
	slices.SortFunc(state.Routes, compareRoutes)
	if err := h.observeStrangers(&state, name); err != nil {
		return State{}, err
	}
	rules, err := h.rtnl.dumpRules()
	if err != nil {
		return State{}, &Error{Op: "list rules", Err: err}
	}
	for _, rule := range rules {
		if rule.ours() {
			state.Rules = append(state.Rules, rule.Rule)
		} else if rule.shadows() {
			state.Shadowing = append(state.Shadowing, rule.describe())
		}
	}
	slices.SortFunc(state.Rules, compareRules)
	if len(sysctls) > 0 {
		err = h.space.Do(func() (err error) { state.Sysctls, err = readSysctls(sysctls); return err })
	}
	return state, err
}

// observeStrangers looks for routes of others in our tables. The kernel filters a dump by one protocol or not at all, so this reads the
// tables that are ours once more.
func (h *Host) observeStrangers(state *State, name func(index int) string) error {
	tables := map[uint32]bool{InnerTable: true}
	for _, route := range state.Routes {
		if OwnTable(route.Table) {
			tables[route.Table] = true
		}
	}
	for table := range tables {
		for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
			routes, err := h.rtnl.dumpRoutes(routeFilter{family: family, table: table, strangers: true}, name)
			if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
				return &Error{Op: "list routes of others", Object: fmt.Sprintf("table %d, %s", table, familyName(family)), Err: err}
			}
			state.Strangers = append(state.Strangers, routes...)
		}
	}
	slices.SortFunc(state.Strangers, compareRoutes)
	for _, route := range state.Strangers {
		state.Shadowing = append(state.Shadowing, "route "+route.String())
	}
	return nil
}

func familyName(family byte) string {
	if family == unix.AF_INET6 {
		return "ipv6"
	}
	return "ipv4"
}

func (h *Host) observeLinks() ([]Link, error) {
	list, err := retryDump(h.links.LinkList)
	if err != nil {
		return nil, &Error{Op: "list links", Err: err}
	}
	addresses, err := retryDump(func() ([]netlink.Addr, error) { return h.links.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, &Error{Op: "list addresses", Err: err}
	}
	links := make([]Link, 0, len(list))
	position := make(map[int]int, len(list))
	for _, link := range list {
		attributes := link.Attrs()
		position[attributes.Index] = len(links)
		kind := link.Type()
		if kind == "device" {
			kind = ""
		}
		links = append(links, Link{
			Name: attributes.Name, Index: attributes.Index, Kind: kind, MTU: attributes.MTU,
			Up: attributes.RawFlags&unix.IFF_UP != 0,
		})
	}
	for _, address := range addresses {
		at, found := position[address.LinkIndex]
		ip, ok := netip.AddrFromSlice(address.IP)
		if !found || !ok {
			continue
		}
		bits, _ := address.Mask.Size()
		links[at].Addresses = append(links[at].Addresses, netip.PrefixFrom(ip.Unmap(), bits))
	}
	for _, link := range links {
		slices.SortFunc(link.Addresses, netip.Prefix.Compare)
	}
	slices.SortFunc(links, func(a, b Link) int { return strings.Compare(a.Name, b.Name) })
	return links, nil
}

func retryDump[T any](dump func() ([]T, error)) ([]T, error) {
	for attempt := 1; ; attempt++ {
		list, err := dump()
		if !errors.Is(err, netlink.ErrDumpInterrupted) || attempt == 10 {
			return list, err
		}
	}
}

// RouteHeld asks whether the kernel has exactly this route of ours. Its cost does not grow with the table for IPv4, nor
// for the IPv6 route that packets without a mark take now; other IPv6 routes are looked for among those of their kind.
func (h *Host) RouteHeld(route Route) (bool, error) {
	route = route.canonical()
	index, err := h.linkIndex(route, map[string]int{})
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if route.Prefix.Addr().Is4() && route.Kind != Other {
		// A change that may neither create nor replace changes nothing, and its error tells: fib_table_insert() finds a
		// route that is equal in all, protocol too (EEXIST), or would have to create one (ENOENT).
		err := h.rtnl.execute([]request{changeRoute(route, index, 0)})[0]
		switch {
		case errors.Is(err, unix.EEXIST):
			return true, nil
		case err != nil: // ENOENT; or its link is down or its gateway not reachable, so the kernel cannot hold it
			return false, nil
		}
		return false, &Error{Op: "look up route", Object: route.String(), Err: errors.New("the kernel made it")}
	}
	// IPv6 has no such probe: a change without NLM_F_CREATE is logged as a fault of its sender, and made all the same.
	name := func(at int) string {
		if at == index {
			return route.Link
		}
		return fmt.Sprintf("#%d", at)
	}
	if route.Kind == Unicast {
		var taken []Route
		err := h.rtnl.ask(matchRoute(route, index), func(kind uint16, body []byte) {
			if kind == unix.RTM_NEWROUTE && ofProtocol(body) {
				taken = decodeRoute(nil, body, name)
			}
		})
		if err == nil && len(taken) == 1 && taken[0] == route {
			return true, nil
		}
	}
	filter := routeFilter{family: family(route.Prefix), table: route.Table, kind: unix.RTN_UNICAST, link: index}
	if route.Kind == Unreachable {
		filter.kind = unix.RTN_UNREACHABLE
	}
	routes, err := h.rtnl.dumpRoutes(filter, name)
	if err != nil {
		return false, &Error{Op: "look up route", Object: route.String(), Err: err}
	}
	return slices.Contains(routes, route), nil
}

// linkIndex is 0 for a route without a link. known is what this call has asked for already.
func (h *Host) linkIndex(route Route, known map[string]int) (int, error) {
	if route.Kind != Unicast {
		return 0, nil
	}
	if index, found := known[route.Link]; found {
		return index, nil
	}
	link, err := h.links.LinkByName(route.Link)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return 0, &Error{Op: "find link", Object: route.Link, Err: fs.ErrNotExist}
	}
	if err != nil {
		return 0, &Error{Op: "find link", Object: route.Link, Err: err}
	}
	known[route.Link] = link.Attrs().Index
	return link.Attrs().Index, nil
}
