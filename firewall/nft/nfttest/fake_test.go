package nfttest_test

import (
	"testing"

	"shekara/firewall/nft/nfttest"
)

func TestFakeKeepsTheContract(t *testing.T) {
	nfttest.Contract(t, func(*testing.T) nfttest.Host {
		f := &nfttest.Fake{}
		return nfttest.Host{Loader: f, Restart: func() nfttest.Loader { f.Restart(); return f }, Tamper: f.Tamper, Vanish: f.Vanish}
	})
}
