package nfttest_test

import (
	"testing"

	"shekara/firewall"
	"shekara/firewall/firewalltest"
	"shekara/firewall/nft/nfttest"
)

func TestFakeKeepsTheContract(t *testing.T) {
	firewalltest.LoaderContract(t, func(*testing.T) firewalltest.Host {
		f := &nfttest.Fake{}
		return firewalltest.Host{Loader: f, Restart: func() firewall.Loader { f.Restart(); return f }, Tamper: f.Tamper, Vanish: f.Vanish, Counts: true}
	})
}
