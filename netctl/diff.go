package netctl

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// Diff returns the steps from state to spec. It is pure, and its order is always the same: first what is added or
// replaced (an unreachable route before the route that lies over it), then rules, then sysctls, then what is deleted,
// the other way round. So at every moment a packet for one of our prefixes finds the old way, the new way, or unreachable.
//
// BUG: IPv6 look-ups that race with a change of just that route can get ENETUNREACH, about one in some thousand while it
// changes without pause, and very rarely (one in some millions) go on to the next rule (see TestReplacedWithoutGap). A
// second IPv6 rule for the same table makes that practically never; the packet filter must stop what still passes. An IPv4
// look-up that races so finds unreachable, about one in 100,000, where no other route has the same device, gateway, source,
// metric and table as the one that is replaced.
//
// Two routes of spec with the same table, prefix and metric cannot both be: the one that sorts first counts.
func Diff(spec Spec, state State) []Op {
	var adds, deletes []Op
	addsOfRoutes, deletesOfRoutes := diffRoutes(spec.Routes, state.Routes, state.Strangers)
	adds = append(adds, addsOfRoutes...)
	addsOfRules, deletesOfRules := diffRules(spec.Rules, state.Rules)
	adds = append(adds, addsOfRules...)
	adds = append(adds, diffSysctls(spec.Sysctls, state.Sysctls)...)
	deletes = append(deletes, diffAddresses(state.Links)...)
	deletes = append(deletes, deletesOfRules...)
	deletes = append(deletes, deletesOfRoutes...)
	return append(adds, deletes...)
}

// diffAddresses takes away what somebody put on links of ours: it would answer, and be a source, inside the tunnels.
func diffAddresses(links []Link) []Op {
	var ops []Op
	for _, link := range links {
		for _, prefix := range link.Addresses {
			if address := (Address{link.Name, prefix}); address.foreign() {
				ops = append(ops, Op{Verb: Delete, Address: &address})
			}
		}
	}
	return ops
}

func diffRoutes(want, have, strangers []Route) (changes, deletes []Op) {
	taken := make(map[routeKey]bool, len(strangers))
	for _, route := range strangers {
		taken[route.key()] = true
	}
	there := make(map[routeKey][]Route, len(have))
	for _, route := range sortedRoutes(have) {
		there[route.key()] = append(there[route.key()], route)
	}
	for _, route := range sortedRoutes(want) {
		key := route.key()
		old, found := there[key]
		if found && old == nil {
			continue // a second wish for the same key
		}
		there[key] = nil
		switch {
		case !found && taken[key]: // somebody replaced ours
			changes = append(changes, Op{Verb: Set, Route: &route})
		case !found:
			changes = append(changes, Op{Verb: Add, Route: &route})
		case len(old) > 1:
			// Several next hops, by somebody's hand: which of them Set would replace is not defined. The only change with a gap.
			changes = append(changes, deletesOf(old)...)
			changes = append(changes, Op{Verb: Add, Route: &route})
		case old[0] != route:
			changes = append(changes, Op{Verb: Set, Route: &route})
		}
	}
	for _, routes := range there {
		deletes = append(deletes, deletesOf(routes)...)
	}
	slices.SortFunc(deletes, func(a, b Op) int { return -compareRoutes(*a.Route, *b.Route) })
	return changes, deletes
}

func deletesOf(routes []Route) []Op {
	ops := make([]Op, len(routes))
	for i := range routes {
		ops[i] = Op{Verb: Delete, Route: &routes[i]}
	}
	return ops
}

func sortedRoutes(routes []Route) []Route {
	sorted := make([]Route, len(routes))
	for i, route := range routes {
		sorted[i] = route.canonical()
	}
	slices.SortFunc(sorted, compareRoutes)
	return sorted
}

// compareRoutes puts unreachable routes first, so that they are added first and, backwards, deleted last.
func compareRoutes(a, b Route) int {
	unreachable := func(r Route) int {
		if r.Kind == Unreachable {
			return 0
		}
		return 1
	}
	return cmp.Or(
		cmp.Compare(unreachable(a), unreachable(b)),
		cmp.Compare(a.Table, b.Table),
		a.Prefix.Addr().Compare(b.Prefix.Addr()),
		cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()),
		cmp.Compare(a.Metric, b.Metric),
		cmp.Compare(a.Kind, b.Kind),
		strings.Compare(a.Link, b.Link),
		a.Gateway.Compare(b.Gateway),
		a.Source.Compare(b.Source),
	)
}

func diffRules(want, have []Rule) (adds, deletes []Op) {
	there := make(map[Rule]bool, len(have))
	for _, rule := range have {
		there[rule] = true
	}
	wanted := make(map[Rule]bool, len(want))
	for _, rule := range want {
		wanted[rule] = true
	}
	for _, rule := range slices.SortedFunc(maps.Keys(wanted), compareRules) {
		if !there[rule] {
			adds = append(adds, Op{Verb: Add, Rule: &rule})
		}
	}
	for _, rule := range slices.SortedFunc(maps.Keys(there), compareRules) {
		if !wanted[rule] {
			deletes = append(deletes, Op{Verb: Delete, Rule: &rule})
		}
	}
	return adds, deletes
}

func compareRules(a, b Rule) int {
	family := func(r Rule) int {
		if r.IPv6 {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(family(a), family(b)), cmp.Compare(a.Mark, b.Mark), cmp.Compare(a.In, b.In), cmp.Compare(a.Table, b.Table))
}

func diffSysctls(want, have map[string]string) []Op {
	var ops []Op
	for _, key := range sortedSysctls(want) {
		if was, found := have[key]; !found || was != want[key] {
			ops = append(ops, Op{Verb: Set, Key: key, Value: want[key], Was: was})
		}
	}
	return ops
}
