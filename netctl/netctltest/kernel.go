package netctltest

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"shekara/netctl"
)

// Kernel is the network of a host that is not there. Make it with NewKernel; it is safe for concurrent use.
type Kernel struct {
	mu        sync.Mutex
	links     map[string]netctl.Link
	routes    map[key]netctl.Route
	foreign   map[key]netctl.Route
	rules     map[netctl.Rule]bool
	sysctls   map[string]string
	originals map[string]string
	nextIndex int
}

// key is what Linux has one route for.
type key struct {
	table  uint32
	prefix netip.Prefix
	metric uint32
}

func keyOf(r netctl.Route) key { return key{r.Table, r.Prefix, r.Metric} }

// NewKernel is a host with a loopback link and the sysctls for forwarding and reverse path filtering.
func NewKernel() *Kernel {
	k := &Kernel{
		links: map[string]netctl.Link{}, routes: map[key]netctl.Route{}, foreign: map[key]netctl.Route{},
		rules: map[netctl.Rule]bool{}, originals: map[string]string{},
		sysctls: map[string]string{
			"net.ipv4.ip_forward": "0", "net.ipv6.conf.all.forwarding": "0",
			"net.ipv4.conf.all.rp_filter": "0", "net.ipv4.conf.default.rp_filter": "0",
			"net.ipv4.conf.all.src_valid_mark": "0",
		},
	}
	k.AddLink("lo", "127.0.0.1/8", "::1/128")
	return k
}

// AddLink adds a link that is up, with addresses.
func (k *Kernel) AddLink(name string, addresses ...string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.nextIndex++
	link := netctl.Link{Name: name, Index: k.nextIndex, Kind: "veth", MTU: 1500, Up: true}
	for _, address := range addresses {
		link.Addresses = append(link.Addresses, netip.MustParsePrefix(address))
	}
	k.links[name] = link
	k.sysctls["net.ipv4.conf."+strings.ReplaceAll(name, ".", "/")+".rp_filter"] = "0"
}

// DeleteLink deletes a link, and so the routes on it.
func (k *Kernel) DeleteLink(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.deleteLink(name)
}

func (k *Kernel) deleteLink(name string) {
	delete(k.links, name)
	onLink := func(_ key, r netctl.Route) bool { return r.Kind == netctl.Unicast && r.Link == name }
	maps.DeleteFunc(k.routes, onLink)
	maps.DeleteFunc(k.foreign, onLink)
	delete(k.sysctls, "net.ipv4.conf."+strings.ReplaceAll(name, ".", "/")+".rp_filter")
}

// AddForeignRoute adds a route that is not ours.
func (k *Kernel) AddForeignRoute(route netctl.Route) {
	k.mu.Lock()
	defer k.mu.Unlock()
	route = canonical(route)
	k.foreign[keyOf(route)] = route
}

// ForeignRoutes are those that AddForeignRoute added and that are still there.
func (k *Kernel) ForeignRoutes() []netctl.Route {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Collect(maps.Values(k.foreign))
}

// ReplaceRoute puts a route of somebody else in the place of ours, as an administrator would by hand.
func (k *Kernel) ReplaceRoute(route netctl.Route) {
	k.DeleteRoute(route)
	k.AddForeignRoute(route)
}

// AddAddress puts an address on a link.
func (k *Kernel) AddAddress(link, address string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	l := k.links[link]
	l.Addresses = append(slices.Clone(l.Addresses), netip.MustParsePrefix(address))
	k.links[link] = l
}

// DeleteRoute deletes a route of ours, as an administrator would by hand.
func (k *Kernel) DeleteRoute(route netctl.Route) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.routes, keyOf(canonical(route)))
}

func canonical(r netctl.Route) netctl.Route {
	r.Prefix = r.Prefix.Masked()
	if r.Prefix.Addr().Is6() && r.Metric == 0 {
		r.Metric = 1024
	}
	if r.Kind != netctl.Unicast {
		r.Link, r.Gateway, r.Source = "", netip.Addr{}, netip.Addr{}
	}
	return r
}

// Observe is as netctl.Host's.
func (k *Kernel) Observe(ctx context.Context, sysctls []string) (netctl.State, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return netctl.State{}, err
	}
	var state netctl.State
	for _, name := range slices.Sorted(maps.Keys(k.links)) {
		link := k.links[name]
		link.Addresses = slices.Clone(link.Addresses)
		state.Links = append(state.Links, link)
	}
	for _, route := range k.routes {
		state.Routes = append(state.Routes, route)
	}
	slices.SortFunc(state.Routes, func(a, b netctl.Route) int { return strings.Compare(a.String(), b.String()) })
	for _, route := range k.foreign {
		if netctl.OwnTable(route.Table) {
			state.Strangers = append(state.Strangers, route)
		}
	}
	slices.SortFunc(state.Strangers, func(a, b netctl.Route) int { return strings.Compare(a.String(), b.String()) })
	for _, route := range state.Strangers {
		state.Shadowing = append(state.Shadowing, "route "+route.String())
	}
	for rule := range k.rules {
		state.Rules = append(state.Rules, rule)
	}
	slices.SortFunc(state.Rules, func(a, b netctl.Rule) int { return strings.Compare(a.String(), b.String()) })
	if len(sysctls) > 0 {
		state.Sysctls = map[string]string{}
		for _, key := range sysctls {
			if value, found := k.sysctls[key]; found {
				state.Sysctls[key] = value
			}
		}
	}
	return state, nil
}

// Apply is as netctl.Host's.
func (k *Kernel) Apply(ctx context.Context, ops []netctl.Op) []netctl.Failure {
	k.mu.Lock()
	defer k.mu.Unlock()
	var failures []netctl.Failure
	for _, op := range ops {
		err := ctx.Err()
		if err == nil {
			err = k.apply(op)
		}
		if err != nil {
			failures = append(failures, netctl.Failure{Op: op, Err: &netctl.Error{Op: op.Verb.String(), Object: op.String(), Err: err}})
		}
	}
	return failures
}

func (k *Kernel) apply(op netctl.Op) error {
	switch {
	case op.Route != nil:
		return k.applyRoute(op.Verb, canonical(*op.Route))
	case op.Rule != nil && op.Verb == netctl.Delete:
		delete(k.rules, *op.Rule)
		return nil
	case op.Rule != nil:
		k.rules[*op.Rule] = true
		return nil
	case op.Address != nil:
		if op.Verb != netctl.Delete || !strings.HasPrefix(op.Address.Link, netctl.LinkPrefix) {
			return fs.ErrInvalid
		}
		if link, found := k.links[op.Address.Link]; found {
			link.Addresses = slices.DeleteFunc(slices.Clone(link.Addresses), func(p netip.Prefix) bool { return p == op.Address.Prefix })
			k.links[op.Address.Link] = link
		}
		return nil
	}
	was, found := k.sysctls[op.Key]
	if !found {
		return fs.ErrNotExist
	}
	if len(op.Value) != 1 || op.Value < "0" || op.Value > "2" {
		return unix.EINVAL
	}
	if _, kept := k.originals[op.Key]; !kept {
		k.originals[op.Key] = was
	}
	k.sysctls[op.Key] = op.Value
	return nil
}

func (k *Kernel) applyRoute(verb netctl.Verb, route netctl.Route) error {
	if verb == netctl.Delete {
		if k.routes[keyOf(route)] == route {
			delete(k.routes, keyOf(route))
		}
		return nil
	}
	if route.Kind == netctl.Unicast {
		if err := k.reachable(route); err != nil {
			return err
		}
	}
	if _, taken := k.foreign[keyOf(route)]; taken && verb == netctl.Add {
		return unix.EEXIST
	}
	delete(k.foreign, keyOf(route))
	if old, taken := k.routes[keyOf(route)]; taken && verb == netctl.Add && old != route {
		return unix.EEXIST
	}
	k.routes[keyOf(route)] = route
	return nil
}

// reachable refuses a route by a link that is not there, by a gateway that is on no link, from an address that is not the host's.
func (k *Kernel) reachable(route netctl.Route) error {
	link, found := k.links[route.Link]
	if !found {
		return fs.ErrNotExist
	}
	if route.Gateway.IsValid() && !slices.ContainsFunc(link.Addresses, func(p netip.Prefix) bool { return p.Contains(route.Gateway) }) {
		return unix.ENETUNREACH
	}
	if !route.Source.IsValid() {
		return nil
	}
	for _, link := range k.links {
		if slices.ContainsFunc(link.Addresses, func(p netip.Prefix) bool { return p.Addr() == route.Source }) {
			return nil
		}
	}
	return unix.EINVAL
}

// RouteHeld is as netctl.Host's.
func (k *Kernel) RouteHeld(route netctl.Route) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	route = canonical(route)
	held, found := k.routes[keyOf(route)]
	return found && held == route, nil
}

// Cleanup is as netctl.Host's.
func (k *Kernel) Cleanup(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	clear(k.routes)
	clear(k.rules)
	for name := range k.links {
		if strings.HasPrefix(name, netctl.LinkPrefix) {
			k.deleteLink(name)
		}
	}
	for key, value := range k.originals {
		if _, found := k.sysctls[key]; found {
			k.sysctls[key] = value
		}
	}
	clear(k.originals)
	return nil
}
