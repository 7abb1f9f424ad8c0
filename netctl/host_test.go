package netctl_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"shekara/netctl"
	"shekara/netctl/netctltest"
	"shekara/netctl/nstest"
)

// world makes a host out of a namespace, with a neighbour at the other end of its links.
func world(t *testing.T) (*netctl.Host, *nstest.H, *nstest.H) {
	t.Helper()
	h, neighbour := nstest.Host(t, "host"), nstest.Host(t, "neighbour")
	nstest.Link(t, h, "eth0", []string{"192.0.2.1/24", "2001:db8:1::1/64"}, neighbour, "eth0", []string{"192.0.2.254/24", "2001:db8:1::fe/64"})
	nstest.Link(t, h, "eth1", []string{"198.51.100.1/24", "2001:db8:2::1/64"}, neighbour, "eth1", []string{"198.51.100.254/24", "2001:db8:2::fe/64"})
	nstest.Link(t, h, "sk-a", nil, neighbour, "a", nil)
	var host *netctl.Host
	h.Do(func() {
		var err error
		if host, err = netctl.Open(); err != nil {
			t.Fatal(err)
		}
	})
	host.KeepOriginals(filepath.Join(t.TempDir(), "sysctls.json"))
	t.Cleanup(func() { host.Close() })
	return host, h, neighbour
}

func family(route netctl.Route) string {
	if route.Prefix.Addr().Is6() {
		return "-6"
	}
	return "-4"
}

func TestHostContract(t *testing.T) {
	netctltest.Contract(t, func(t *testing.T) netctltest.World {
		host, h, neighbour := world(t)
		links := 0
		return netctltest.World{
			Host: host,
			AddLink: func(name string, addresses ...string) {
				links++
				nstest.Link(t, h, name, addresses, neighbour, fmt.Sprint("peer", links), nil)
			},
			DeleteLink: func(name string) { h.Run("ip", "link", "delete", name) },
			AddForeignRoute: func(route netctl.Route) {
				h.Run("ip", family(route), "route", "add", route.Prefix.String(), "dev", route.Link, "metric", fmt.Sprint(route.Metric),
					"table", fmt.Sprint(route.Table), "proto", "static")
			},
			ForeignRoutes: func() int {
				count := 0
				for _, family := range []string{"-4", "-6"} {
					count += strings.Count(h.Run("ip", family, "route", "show", "table", "all", "proto", "static"), "\n")
				}
				return count
			},
			DeleteRoute: func(route netctl.Route) {
				h.Run("ip", family(route), "route", "delete", route.Prefix.String(), "dev", route.Link, "table", fmt.Sprint(route.Table))
			},
			ReplaceRoute: func(route netctl.Route) {
				h.Run("ip", family(route), "route", "replace", route.Prefix.String(), "dev", route.Link, "table", fmt.Sprint(route.Table))
			},
			AddAddress: func(link, address string) { h.Run("ip", "address", "add", address, "dev", link) },
		}
	})
}
