package netctl_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shekara/netctl"
)

func TestDiffOrder(t *testing.T) {
	route := func(prefix, link string) netctl.Route {
		return netctl.Route{Table: 1, Prefix: netip.MustParsePrefix(prefix), Link: link}
	}
	under := func(prefix string) netctl.Route {
		return netctl.Route{Table: 1, Prefix: netip.MustParsePrefix(prefix), Kind: netctl.Unreachable, Metric: netctl.UnreachableMetric}
	}
	state := netctl.State{
		Routes:  []netctl.Route{under("10.3.0.0/16"), route("10.3.0.0/16", "sk-a"), route("10.2.0.0/16", "sk-a"), route("10.4.0.0/16", "sk-a")},
		Rules:   []netctl.Rule{{Priority: 5210, Table: 9}},
		Sysctls: map[string]string{"net.ipv4.ip_forward": "0", "net.ipv4.conf.all.rp_filter": "0"},
	}
	spec := netctl.Spec{
		Routes: []netctl.Route{route("2001:db8::/32", "sk-a"), route("10.1.0.0/16", "sk-a"), under("10.1.0.0/16"), route("10.2.0.0/16", "sk-b"),
			route("10.2.0.0/16", "sk-c"), route("10.4.0.1/16", "sk-a")},
		Rules:   []netctl.Rule{{Priority: 5210, Table: 1}, {Priority: 5200, Mark: 1, Table: 2}, {IPv6: true, Priority: 5200, Mark: 1, Table: 2}, {Priority: 5210, Table: 1}},
		Sysctls: map[string]string{"net.ipv4.ip_forward": "1", "net.ipv4.conf.all.rp_filter": "0", "net.ipv4.conf.a.rp_filter": "2"},
	}
	want := `add route unreachable 10.1.0.0/16 table 1 metric 4294967294
add route 10.1.0.0/16 dev sk-a table 1 metric 0
set route 10.2.0.0/16 dev sk-b table 1 metric 0
add route 2001:db8::/32 dev sk-a table 1 metric 1024
add ipv4 rule 5200: fwmark 0x1 lookup 2
add ipv6 rule 5200: fwmark 0x1 lookup 2
add ipv4 rule 5210: lookup 1
set sysctl net.ipv4.ip_forward to 1 (was 0)
set sysctl net.ipv4.conf.a.rp_filter to 2
delete ipv4 rule 5210: lookup 9
delete route 10.3.0.0/16 dev sk-a table 1 metric 0
delete route unreachable 10.3.0.0/16 table 1 metric 4294967294
`
	text := func(ops []netctl.Op) string {
		var b strings.Builder
		for _, op := range ops {
			b.WriteString(op.String() + "\n")
		}
		return b.String()
	}
	if diff := cmp.Diff(want, text(netctl.Diff(spec, state))); diff != "" {
		t.Error(diff)
	}
	slices.Reverse(spec.Routes)
	slices.Reverse(spec.Rules)
	slices.Reverse(state.Routes)
	if diff := cmp.Diff(want, text(netctl.Diff(spec, state))); diff != "" {
		t.Errorf("the order of spec and state matters: %s", diff)
	}
}

// TestDiffOfSeveralNextHops is about what only somebody else's hand can make.
func TestDiffOfSeveralNextHops(t *testing.T) {
	by := func(gateway string) netctl.Route {
		return netctl.Route{Table: 1, Prefix: netip.MustParsePrefix("::/0"), Link: "a", Gateway: netip.MustParseAddr(gateway), Metric: 5}
	}
	state := netctl.State{Routes: []netctl.Route{by("2001:db8::1"), by("2001:db8::2")}}
	ops := netctl.Diff(netctl.Spec{Routes: []netctl.Route{by("2001:db8::2")}}, state)
	if len(ops) != 3 || ops[0].Verb != netctl.Delete || ops[1].Verb != netctl.Delete || ops[2].Verb != netctl.Add {
		t.Errorf("to do: %v", ops)
	}
}
