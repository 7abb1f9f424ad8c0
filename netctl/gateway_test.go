package netctl_test

import (
	"fmt"
	"testing"

	"shekara/netctl"
	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
)

// TestGateways: default routes of the main table with a gateway, the preferred first, those with several next hops too; other
// routes, other tables and routes without a gateway do not count.
func TestGateways(t *testing.T) {
	probetest.Need(t, probe.Root, probe.Namespaces)
	box, far := nstest.Host(t, "box"), nstest.Host(t, "far")
	nstest.Link(t, box, "ext0", []string{"203.0.113.10/24", "2001:db8::10/64"}, far, "far0", []string{"203.0.113.1/24", "2001:db8::1/64"})
	nstest.Link(t, box, "ext1", []string{"198.51.100.10/24"}, far, "far1", []string{"198.51.100.1/24"})
	read := func() string {
		var got string
		box.Do(func() {
			host, err := netctl.Open()
			if err != nil {
				t.Error(err)
				return
			}
			defer host.Close()
			gateways, err := host.Gateways()
			if err != nil {
				t.Error(err)
			}
			for _, g := range gateways {
				got += fmt.Sprintf("%s %s %d\n", g.Link, g.Address, g.Metric)
			}
		})
		return got
	}
	if got := read(); got != "" {
		t.Errorf("without default routes there is %s", got)
	}
	box.Run("ip", "route", "add", "default", "via", "198.51.100.1", "dev", "ext1", "metric", "200")
	box.Run("ip", "route", "add", "default", "via", "203.0.113.1", "dev", "ext0", "metric", "100")
	box.Run("ip", "route", "add", "default", "dev", "ext1", "metric", "50")
	box.Run("ip", "route", "add", "default", "via", "203.0.113.77", "dev", "ext0", "table", "77")
	box.Run("ip", "route", "add", "192.0.2.0/24", "via", "203.0.113.99", "dev", "ext0")
	box.Run("ip", "-6", "route", "add", "default", "via", "2001:db8::1", "dev", "ext0", "metric", "1024")
	if got, want := read(), "ext0 203.0.113.1 100\next1 198.51.100.1 200\next0 2001:db8::1 1024\n"; got != want {
		t.Errorf("gateways are\n%swant\n%s", got, want)
	}
	box.Run("ip", "route", "add", "default", "metric", "10", "nexthop", "via", "203.0.113.2", "dev", "ext0", "nexthop", "via", "198.51.100.2", "dev", "ext1")
	if got, want := read(), "ext0 203.0.113.2 10\next1 198.51.100.2 10\next0 203.0.113.1 100\next1 198.51.100.1 200\next0 2001:db8::1 1024\n"; got != want {
		t.Errorf("gateways are\n%swant\n%s", got, want)
	}
}
