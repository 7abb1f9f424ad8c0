package netctltest_test

import (
	"testing"

	"shekara/netctl/netctltest"
)

func TestKernelContract(t *testing.T) {
	netctltest.Contract(t, func(t *testing.T) netctltest.World {
		k := netctltest.NewKernel()
		k.AddLink("eth0", "192.0.2.1/24", "2001:db8:1::1/64")
		k.AddLink("eth1", "198.51.100.1/24", "2001:db8:2::1/64")
		k.AddLink("sk-a")
		return netctltest.World{
			Host: k, AddLink: k.AddLink, DeleteLink: k.DeleteLink, AddForeignRoute: k.AddForeignRoute, DeleteRoute: k.DeleteRoute,
			ReplaceRoute: k.ReplaceRoute, AddAddress: k.AddAddress,
			ForeignRoutes: func() int { return len(k.ForeignRoutes()) },
		}
	})
}
