package netctltest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"shekara/netctl"
)

// Host is what is examined: a netctl.Host or a Kernel.
type Host interface {
	Observe(ctx context.Context, sysctls []string) (netctl.State, error)
	Apply(ctx context.Context, ops []netctl.Op) []netctl.Failure
	RouteHeld(route netctl.Route) (bool, error)
	Cleanup(ctx context.Context) error
}

// World is a host with the links eth0 (192.0.2.1/24, 2001:db8:1::1/64), eth1 (198.51.100.1/24, 2001:db8:2::1/64) and
// sk-a (without an address, as links of ours are), and the hand of somebody else.
type World struct {
	Host            Host
	AddLink         func(name string, addresses ...string)
	DeleteLink      func(name string)
	AddForeignRoute func(route netctl.Route)
	ForeignRoutes   func() int
	DeleteRoute     func(route netctl.Route) // one of ours, behind our back
	ReplaceRoute    func(route netctl.Route) // one of ours by one of his
	AddAddress      func(link, address string)
}

// Contract examines the hosts that open makes, one for each part.
func Contract(t *testing.T, open func(t *testing.T) World) {
	parts := map[string]func(t *testing.T, w World){
		"AppliedPlanIsEmpty":  appliedPlanIsEmpty,
		"AllKindsOfRoutes":    allKindsOfRoutes,
		"RefusedAlone":        refusedAlone,
		"TwiceIsNoFailure":    twiceIsNoFailure,
		"ForeignIsLeft":       foreignIsLeft,
		"PlacesAreTakenBack":  placesAreTakenBack,
		"LinkTakesItsRoutes":  linkTakesItsRoutes,
		"DriftIsSeen":         driftIsSeen,
		"Sysctls":             sysctls,
		"CleanupLeavesOthers": cleanupLeavesOthers,
		"CanceledDoesNothing": canceledDoesNothing,
	}
	for name, part := range parts {
		t.Run(name, func(t *testing.T) { part(t, open(t)) })
	}
}

func prefix(text string) netip.Prefix { return netip.MustParsePrefix(text) }
func address(text string) netip.Addr  { return netip.MustParseAddr(text) }

func unreachable(text string, table uint32) netctl.Route {
	return netctl.Route{Table: table, Prefix: prefix(text), Kind: netctl.Unreachable, Metric: netctl.UnreachableMetric}
}

func onLink(text, link string) netctl.Route {
	return netctl.Route{Table: netctl.InnerTable, Prefix: prefix(text), Link: link}
}

func mustApply(t testing.TB, host Host, spec netctl.Spec) {
	t.Helper()
	for _, failure := range host.Apply(context.Background(), netctl.Diff(spec, observe(t, host, spec))) {
		t.Fatalf("%s: %v", failure.Op, failure.Err)
	}
}

func observe(t testing.TB, host Host, spec netctl.Spec) netctl.State {
	t.Helper()
	var keys []string
	for key := range spec.Sysctls {
		keys = append(keys, key)
	}
	state, err := host.Observe(context.Background(), keys)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

func wantEmpty(t testing.TB, host Host, spec netctl.Spec) {
	t.Helper()
	for _, op := range netctl.Diff(spec, observe(t, host, spec)) {
		t.Errorf("left to do: %s", op)
	}
}

// specs generates what a World can hold: routes that are like one another, so that many differ in one field.
func specs() *rapid.Generator[netctl.Spec] {
	prefixes := []string{"10.1.0.0/16", "10.1.1.0/24", "10.1.1.1/32", "0.0.0.0/0", "2001:db8:a::/48", "2001:db8:a:b::/64", "2001:db8:a::1/128", "::/0"}
	route := rapid.Custom(func(t *rapid.T) netctl.Route {
		r := netctl.Route{
			Table:  rapid.SampledFrom([]uint32{netctl.InnerTable, 100, 70000}).Draw(t, "table"),
			Prefix: prefix(rapid.SampledFrom(prefixes).Draw(t, "prefix")),
			Metric: rapid.SampledFrom([]uint32{0, 7, 1024, netctl.UnreachableMetric}).Draw(t, "metric"),
			Kind:   rapid.SampledFrom([]netctl.RouteKind{netctl.Unicast, netctl.Unreachable}).Draw(t, "kind"),
		}
		if r.Kind == netctl.Unreachable {
			return r
		}
		r.Link = rapid.SampledFrom([]string{"eth0", "eth1", "sk-a"}).Draw(t, "link")
		gateways := map[string][]string{"eth0": {"192.0.2.9", "2001:db8:1::9"}, "eth1": {"198.51.100.9", "2001:db8:2::9"}}
		sources := []string{"192.0.2.1", "2001:db8:1::1"}
		family := 0
		if r.Prefix.Addr().Is6() {
			family = 1
		}
		if by := gateways[r.Link]; by != nil && rapid.Bool().Draw(t, "by gateway") {
			r.Gateway = address(by[family])
		}
		if rapid.Bool().Draw(t, "with source") {
			r.Source = address(sources[family])
		}
		return r
	})
	rule := rapid.Custom(func(t *rapid.T) netctl.Rule {
		r := netctl.Rule{
			IPv6:     rapid.Bool().Draw(t, "ipv6"),
			Priority: rapid.IntRange(5200, 5202).Draw(t, "priority"),
			Mark:     rapid.SampledFrom([]uint32{0, 1, 0x534b0001}).Draw(t, "mark"),
			Table:    rapid.SampledFrom([]uint32{netctl.InnerTable, 100}).Draw(t, "table"),
		}
		if r.Priority == 5202 {
			r.In = rapid.SampledFrom([]string{netctl.LocalIn, "eth0", "absent0"}).Draw(t, "in")
		}
		if r.Mark == 0 { // to no table of the routes above: an unreachable default there would cut off their gateways
			r.Table = 200
		}
		return r
	})
	return rapid.Custom(func(t *rapid.T) netctl.Spec {
		return netctl.Spec{
			Routes: rapid.SliceOfN(route, 0, 12).Draw(t, "routes"),
			Rules:  rapid.SliceOfN(rule, 0, 4).Draw(t, "rules"),
			Sysctls: rapid.MapOfN(rapid.SampledFrom([]string{"net.ipv4.conf.eth0.rp_filter", "net.ipv4.conf.all.src_valid_mark"}),
				rapid.SampledFrom([]string{"0", "1"}), 0, 2).Draw(t, "sysctls"),
		}
	})
}

func appliedPlanIsEmpty(t *testing.T, w World) {
	rapid.Check(t, func(r *rapid.T) {
		for i := range 2 { // what is there before is what the last one left, and what the first of these two leaves
			spec := specs().Draw(r, fmt.Sprint("spec", i))
			ops := netctl.Diff(spec, observe(t, w.Host, spec))
			if again := netctl.Diff(spec, observe(t, w.Host, spec)); !cmp.Equal(texts(ops), texts(again)) {
				r.Fatalf("two plans of one thing differ: %s", cmp.Diff(texts(ops), texts(again)))
			}
			for _, failure := range w.Host.Apply(t.Context(), ops) {
				r.Fatalf("%s: %v", failure.Op, failure.Err)
			}
			if left := netctl.Diff(spec, observe(t, w.Host, spec)); len(left) > 0 {
				r.Fatalf("left to do: %v", left)
			}
		}
	})
}

func allKindsOfRoutes(t *testing.T, w World) {
	spec := netctl.Spec{Routes: []netctl.Route{
		unreachable("10.64.0.0/12", netctl.InnerTable), onLink("10.64.0.0/12", "sk-a"),
		unreachable("2001:db8:f::/48", netctl.InnerTable), onLink("2001:db8:f::/48", "sk-a"),
		unreachable("0.0.0.0/0", 100), unreachable("::/0", 100),
		{Table: 100, Prefix: prefix("0.0.0.0/0"), Link: "eth0", Gateway: address("192.0.2.254"), Source: address("192.0.2.1")},
		{Table: 100, Prefix: prefix("::/0"), Link: "eth0", Gateway: address("2001:db8:1::fe"), Source: address("2001:db8:1::1"), Metric: 5},
	}, Rules: []netctl.Rule{
		{Priority: netctl.OuterRulePriority, Mark: 0x534b0001, Table: 100}, {IPv6: true, Priority: netctl.OuterRulePriority, Mark: 0x534b0002, Table: 100},
		{Priority: netctl.AnswerRulePriority, Mark: 0x534d0001, In: netctl.LocalIn, Table: 100}, {IPv6: true, Priority: netctl.AnswerRulePriority, Mark: 0x534d0001, In: "sk-a", Table: 100},
		{Priority: netctl.InnerRulePriority, Table: netctl.InnerTable}, {IPv6: true, Priority: netctl.InnerRulePriority, Table: netctl.InnerTable},
	}}
	for _, route := range spec.Routes {
		if held, err := w.Host.RouteHeld(route); held || err != nil {
			t.Errorf("%s is held before: %v", route, err)
		}
	}
	mustApply(t, w.Host, spec)
	wantEmpty(t, w.Host, spec)
	for _, route := range spec.Routes {
		if held, err := w.Host.RouteHeld(route); !held || err != nil {
			t.Errorf("%s is not held: %v", route, err)
		}
		route.Metric += 3
		if held, err := w.Host.RouteHeld(route); held || err != nil {
			t.Errorf("%s is held, but that is another: %v", route, err)
		}
	}
	state := observe(t, w.Host, spec)
	if len(state.Routes) != len(spec.Routes) || len(state.Rules) != len(spec.Rules) {
		t.Errorf("state holds %v and %v", state.Routes, state.Rules)
	}
	at := slices.IndexFunc(state.Links, func(l netctl.Link) bool { return l.Name == "eth0" })
	if at < 0 || !slices.Contains(state.Links[at].Addresses, prefix("192.0.2.1/24")) || !state.Links[at].Up || state.Links[at].MTU != 1500 {
		t.Errorf("links are %+v", state.Links)
	}

	// A changed route is replaced in one step.
	spec.Routes[1].Link = "eth1"
	ops := netctl.Diff(spec, state)
	if len(ops) != 1 || ops[0].Verb != netctl.Set {
		t.Errorf("a changed route makes %v", ops)
	}
	mustApply(t, w.Host, spec)
	wantEmpty(t, w.Host, spec)
	mustApply(t, w.Host, netctl.Spec{})
	if state := observe(t, w.Host, netctl.Spec{}); len(state.Routes) != 0 || len(state.Rules) != 0 {
		t.Errorf("state still holds %v and %v", state.Routes, state.Rules)
	}
}

func refusedAlone(t *testing.T, w World) {
	good, better := onLink("10.1.0.0/16", "sk-a"), onLink("2001:db8:a::/48", "sk-a")
	missing := onLink("10.2.0.0/16", "sk-missing")
	farGateway := netctl.Route{Table: 100, Prefix: prefix("10.3.0.0/16"), Link: "eth0", Gateway: address("203.0.113.1")}
	farSource := netctl.Route{Table: 100, Prefix: prefix("10.4.0.0/16"), Link: "eth0", Source: address("203.0.113.1")}
	var ops []netctl.Op
	for _, route := range []netctl.Route{missing, good, farGateway, farSource, better} {
		ops = append(ops, netctl.Op{Verb: netctl.Add, Route: &route})
	}
	failures := w.Host.Apply(t.Context(), ops)
	var refused []netctl.Route
	for _, failure := range failures {
		refused = append(refused, *failure.Op.Route)
		var seam *netctl.Error
		if !errors.As(failure.Err, &seam) {
			t.Errorf("%s: %v is no *netctl.Error", failure.Op, failure.Err)
		}
		if *failure.Op.Route == missing && !errors.Is(failure.Err, fs.ErrNotExist) {
			t.Errorf("missing link: %v", failure.Err)
		}
	}
	less := cmpopts.SortSlices(func(a, b netctl.Route) bool { return a.String() < b.String() })
	compare := cmp.Comparer(func(a, b netctl.Route) bool { return a == b })
	if diff := cmp.Diff([]netctl.Route{missing, farGateway, farSource}, refused, less, compare); diff != "" {
		t.Errorf("refused are others: %s", diff)
	}
	for _, route := range []netctl.Route{good, better} {
		if held, err := w.Host.RouteHeld(route); !held {
			t.Errorf("%s is not held: %v", route, err)
		}
	}
	if held, err := w.Host.RouteHeld(missing); held || err != nil {
		t.Errorf("a route on no link is held, %v", err)
	}
}

func twiceIsNoFailure(t *testing.T, w World) {
	for _, route := range []netctl.Route{onLink("10.1.0.0/16", "sk-a"), unreachable("10.1.0.0/16", 100), onLink("2001:db8:a::/48", "sk-a"), unreachable("2001:db8:a::/48", 100)} {
		rule := netctl.Rule{IPv6: route.Prefix.Addr().Is6(), Priority: 5200, Mark: 1, Table: 100}
		for _, verb := range []netctl.Verb{netctl.Add, netctl.Add, netctl.Delete, netctl.Delete} {
			ops := []netctl.Op{{Verb: verb, Route: &route}, {Verb: verb, Rule: &rule}}
			if failures := w.Host.Apply(t.Context(), ops); len(failures) > 0 {
				t.Errorf("%s: %v", failures[0].Op, failures[0].Err)
			}
			if held, err := w.Host.RouteHeld(route); held != (verb == netctl.Add) || err != nil {
				t.Errorf("after %s of %s, held is %v, %v", verb, route, held, err)
			}
		}
	}
}

func placesAreTakenBack(t *testing.T, w World) {
	spec := netctl.Spec{Routes: []netctl.Route{
		unreachable("10.64.0.0/12", netctl.InnerTable), onLink("10.64.0.0/12", "sk-a"), onLink("2001:db8:f::/48", "sk-a"),
	}}
	mustApply(t, w.Host, spec)
	for _, text := range []string{"10.64.0.0/12", "2001:db8:f::/48"} {
		w.ReplaceRoute(onLink(text, "eth0"))
	}
	beside := onLink("10.64.1.0/24", "eth0")
	w.AddForeignRoute(beside)
	for _, text := range []string{"192.0.2.99/32", "2001:db8:3::1/128"} {
		w.AddAddress("sk-a", text)
	}
	state := observe(t, w.Host, spec)
	if len(state.Strangers) != 3 || len(state.Shadowing) != 3 {
		t.Errorf("strangers are %v, shadowing is %q", state.Strangers, state.Shadowing)
	}
	ops := netctl.Diff(spec, state)
	if len(ops) != 4 {
		t.Errorf("to do: %v", ops)
	}
	mustApply(t, w.Host, spec)
	wantEmpty(t, w.Host, spec)
	if state = observe(t, w.Host, spec); len(state.Routes) != 3 || !slices.Equal(state.Strangers, []netctl.Route{beside}) {
		t.Errorf("routes are %v, strangers %v", state.Routes, state.Strangers)
	}
	other := netctl.Address{Link: "eth0", Prefix: prefix("192.0.2.1/24")}
	if failures := w.Host.Apply(t.Context(), []netctl.Op{{Verb: netctl.Delete, Address: &other}}); len(failures) != 1 {
		t.Error("an address of a link that is not ours can be taken away")
	}
}

func foreignIsLeft(t *testing.T, w World) {
	for _, text := range []string{"10.9.0.0/16", "2001:db8:9::/48"} {
		foreign := onLink(text, "eth0")
		foreign.Metric = 50
		before := w.ForeignRoutes()
		w.AddForeignRoute(foreign)
		if w.ForeignRoutes() != before+1 {
			t.Fatalf("the route of somebody else is not there")
		}
		if held, err := w.Host.RouteHeld(foreign); held || err != nil {
			t.Errorf("a route of somebody else is held as ours, %v", err)
		}
		if state := observe(t, w.Host, netctl.Spec{}); len(state.Routes) != 0 {
			t.Errorf("seen as ours: %v", state.Routes)
		}
		failures := w.Host.Apply(t.Context(), []netctl.Op{{Verb: netctl.Add, Route: &foreign}})
		if len(failures) != 1 || !errors.Is(failures[0].Err, unix.EEXIST) {
			t.Errorf("a route of somebody else in the way: %v", failures)
		}
		if failures := w.Host.Apply(t.Context(), []netctl.Op{{Verb: netctl.Delete, Route: &foreign}}); len(failures) != 0 {
			t.Errorf("delete: %v", failures[0].Err)
		}
		if w.ForeignRoutes() != before+1 {
			t.Error("the route of somebody else is gone")
		}
	}
}

func linkTakesItsRoutes(t *testing.T, w World) {
	w.AddLink("sk-b", "10.0.0.2/32")
	routes := []netctl.Route{onLink("10.1.0.0/16", "sk-b"), onLink("2001:db8:a::/48", "sk-b"), unreachable("10.1.0.0/16", netctl.InnerTable), unreachable("2001:db8:a::/48", netctl.InnerTable)}
	spec := netctl.Spec{Routes: routes}
	mustApply(t, w.Host, spec)
	w.DeleteLink("sk-b")
	state := observe(t, w.Host, spec)
	if len(state.Routes) != 2 || state.Routes[0].Kind != netctl.Unreachable || state.Routes[1].Kind != netctl.Unreachable {
		t.Errorf("left are %v, want the unreachable two", state.Routes)
	}
	ops := netctl.Diff(spec, state)
	if len(ops) != 2 {
		t.Errorf("to do: %v", ops)
	}
	if failures := w.Host.Apply(t.Context(), ops); len(failures) != 2 {
		t.Errorf("routes on a link that is gone: %v", failures)
	}
	var deletes []netctl.Op
	for _, route := range routes[:2] {
		deletes = append(deletes, netctl.Op{Verb: netctl.Delete, Route: &route})
	}
	if failures := w.Host.Apply(t.Context(), deletes); len(failures) != 0 {
		t.Errorf("delete routes that went with their link: %v", failures[0].Err)
	}
	w.AddLink("sk-b", "10.0.0.2/32")
	mustApply(t, w.Host, spec)
	wantEmpty(t, w.Host, spec)
}

func driftIsSeen(t *testing.T, w World) {
	spec := netctl.Spec{Routes: []netctl.Route{onLink("10.1.0.0/16", "sk-a"), onLink("2001:db8:a::/48", "sk-a")}}
	mustApply(t, w.Host, spec)
	for _, route := range spec.Routes {
		w.DeleteRoute(route)
		if held, err := w.Host.RouteHeld(route); held || err != nil {
			t.Errorf("%s is held, %v", route, err)
		}
		if ops := netctl.Diff(spec, observe(t, w.Host, spec)); len(ops) != 1 || ops[0].Verb != netctl.Add || ops[0].Route.Prefix != route.Prefix {
			t.Errorf("to do: %v", ops)
		}
		mustApply(t, w.Host, spec)
	}
}

func sysctls(t *testing.T, w World) {
	w.AddLink("eth0.100")
	const forward, filter, missing = "net.ipv4.ip_forward", "net.ipv4.conf.eth0/100.rp_filter", "net.ipv4.conf.nothing.rp_filter"
	before := observe(t, w.Host, netctl.Spec{Sysctls: map[string]string{forward: "", filter: "", missing: ""}}).Sysctls
	if _, found := before[missing]; found || before[forward] != "0" || before[filter] == "" {
		t.Fatalf("sysctls are %v", before)
	}
	spec := netctl.Spec{Sysctls: map[string]string{forward: "1", filter: "2"}}
	if ops := netctl.Diff(spec, observe(t, w.Host, spec)); len(ops) != 2 || ops[0].Key != forward || ops[0].Was != "0" {
		t.Errorf("to do: %v", ops)
	}
	mustApply(t, w.Host, spec)
	wantEmpty(t, w.Host, spec)
	bad := netctl.Spec{Sysctls: map[string]string{missing: "1", forward: "x"}}
	failures := w.Host.Apply(t.Context(), netctl.Diff(bad, observe(t, w.Host, bad)))
	if len(failures) != 2 {
		t.Fatalf("failures are %v", failures)
	}
	for _, failure := range failures {
		if want := map[string]error{missing: fs.ErrNotExist, forward: unix.EINVAL}[failure.Op.Key]; !errors.Is(failure.Err, want) {
			t.Errorf("%s: %v, want %v", failure.Op, failure.Err, want)
		}
	}
	wantEmpty(t, w.Host, spec)
	if err := w.Host.Cleanup(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := observe(t, w.Host, spec).Sysctls; after[forward] != before[forward] || after[filter] != before[filter] {
		t.Errorf("after cleanup %v, before %v", after, before)
	}
}

func cleanupLeavesOthers(t *testing.T, w World) {
	foreign := onLink("10.9.0.0/16", "eth0")
	w.AddForeignRoute(foreign)
	count := w.ForeignRoutes()
	mustApply(t, w.Host, netctl.Spec{
		Routes: []netctl.Route{onLink("10.1.0.0/16", "sk-a"), unreachable("::/0", 100)},
		Rules:  []netctl.Rule{{Priority: netctl.InnerRulePriority, Table: netctl.InnerTable}},
	})
	for range 2 {
		if err := w.Host.Cleanup(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	state := observe(t, w.Host, netctl.Spec{})
	if len(state.Routes) != 0 || len(state.Rules) != 0 {
		t.Errorf("left are %v and %v", state.Routes, state.Rules)
	}
	var names []string
	for _, link := range state.Links {
		names = append(names, link.Name)
	}
	if slices.Contains(names, "sk-a") || !slices.Contains(names, "eth0") {
		t.Errorf("left are the links %v", names)
	}
	if w.ForeignRoutes() != count {
		t.Error("a route of somebody else went too")
	}
}

func canceledDoesNothing(t *testing.T, w World) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	route := onLink("10.1.0.0/16", "sk-a")
	failures := w.Host.Apply(ctx, []netctl.Op{{Verb: netctl.Add, Route: &route}})
	if len(failures) != 1 || !errors.Is(failures[0].Err, context.Canceled) {
		t.Errorf("failures are %v", failures)
	}
	if held, err := w.Host.RouteHeld(route); held || err != nil {
		t.Errorf("held is %v, %v", held, err)
	}
	if _, err := w.Host.Observe(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("observe: %v", err)
	}
	if err := w.Host.Cleanup(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cleanup: %v", err)
	}
}

func texts(ops []netctl.Op) []string {
	var texts []string
	for _, op := range ops {
		texts = append(texts, op.String())
	}
	return texts
}
