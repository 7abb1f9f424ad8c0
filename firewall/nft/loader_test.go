package nft_test

import (
	"context"
	"testing"

	"shekara/firewall"
	"shekara/firewall/firewalltest"
	"shekara/firewall/nft"
	"shekara/netctl/nstest"
	"shekara/netctl/probe"
)

func engine() firewalltest.Engine {
	return firewalltest.Engine{
		Needs:   []probe.Feature{probe.NFTables},
		New:     func(ctx context.Context) (firewall.Loader, error) { return nft.New(ctx) },
		Unhide:  "nft flush chain inet shekara hide_device_sk-b",
		Unguard: "nft flush chain inet shekara leave_device_sk-b",
		Limits:  true,
		Prove:   prove,
		List:    []string{"nft", "list", "counters"},
	}
}

func open(t testing.TB, host *nstest.H) firewalltest.Inside { return engine().Open(t, host) }

func TestContract(t *testing.T) { firewalltest.Contract(t, engine()) }

func TestLoaderContract(t *testing.T) {
	firewalltest.LoaderContract(t, func(t *testing.T) firewalltest.Host {
		host := nstest.Host(t, "box")
		return firewalltest.Host{
			Loader:  open(t, host),
			Restart: func() firewall.Loader { return open(t, host) },
			Tamper: func(set, element string) {
				host.Run("nft", "add", "element", "inet", "shekara", set, "{", element, "}")
			},
			Vanish: func() { host.Run("nft", "delete", "table", "inet", "shekara") },
			Counts: true,
		}
	})
}
