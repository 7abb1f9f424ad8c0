package netctl_test

import (
	"fmt"
	"strings"
	"testing"

	"shekara/netctl"
)

// TestOthersAreSeen: ways in the table that comes first, and rules before ours with what they look in; nothing else.
func TestOthersAreSeen(t *testing.T) {
	host, h, _ := world(t)
	if o, err := host.Others(t.Context()); err != nil || len(o.Rules)+len(o.Routes) > 0 {
		t.Fatalf("on a host of nobody: %v, %v", o, err)
	}
	inner, ours := fmt.Sprint(netctl.InnerTable), fmt.Sprint(netctl.RouteProtocol)
	for _, argv := range []string{
		"ip route add 10.64.1.0/28 dev eth0 table " + inner + " protocol " + ours,
		"ip route add 10.64.1.8/29 dev eth0 table " + inner,
		"ip route add 10.64.2.0/28 dev eth0 table local",
		"ip route add 10.64.3.0/28 dev eth0 table 77",
		"ip route add 10.64.4.0/28 dev eth0 table 78",
		"ip route add 10.64.5.0/28 dev eth0",
		"ip rule add pref 100 lookup 77",
		"ip rule add pref 101 from 10.0.0.0/8 lookup 7",
		"ip rule add pref 6000 lookup 78",
	} {
		h.Run(strings.Fields(argv)...)
	}
	o, err := host.Others(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range o.Routes {
		got = append(got, fmt.Sprintf("%s %d", r.Prefix, r.Table))
	}
	for _, want := range []string{"10.64.2.0/28 255", "10.64.3.0/28 77"} {
		if !strings.Contains(strings.Join(got, "\n"), want) {
			t.Errorf("the route %s is not among %q", want, got)
		}
	}
	if len(got) != 2 || len(o.Rules) != 2 || o.Rules[0].More || !o.Rules[1].More || o.Rules[0].Table != 77 {
		t.Errorf("routes %q, rules %+v", got, o.Rules)
	}
}
