package nft_test

import (
	"context"
	"testing"

	"shekara/firewall"
	"shekara/firewall/nft"
	"shekara/firewall/nft/nfttest"
	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
)

// inside calls a Loader in a host's namespace, as a daemon there would.
type inside struct {
	host   *nstest.H
	loader *nft.Loader
}

func open(t testing.TB, host *nstest.H) inside {
	t.Helper()
	probetest.Need(t, probe.NFTables)
	in := inside{host: host}
	host.Do(func() {
		var err error
		if in.loader, err = nft.New(context.Background()); err != nil {
			t.Fatal(err)
		}
	})
	return in
}

func (in inside) Load(ctx context.Context, r firewall.Ruleset) (err error) {
	in.host.Do(func() { err = in.loader.Load(ctx, r) })
	return err
}

func (in inside) Change(ctx context.Context, add, remove firewall.Elements) (err error) {
	in.host.Do(func() { err = in.loader.Change(ctx, add, remove) })
	return err
}

func (in inside) Observe(ctx context.Context) (seen nft.Observation, err error) {
	in.host.Do(func() { seen, err = in.loader.Observe(ctx) })
	return seen, err
}

func (in inside) Matches(ctx context.Context, r firewall.Ruleset) (drift []string, err error) {
	in.host.Do(func() { drift, err = in.loader.Matches(ctx, r) })
	return drift, err
}

func (in inside) Remove(ctx context.Context) (err error) {
	in.host.Do(func() { err = in.loader.Remove(ctx) })
	return err
}

func TestLoaderKeepsTheContract(t *testing.T) {
	nfttest.Contract(t, func(t *testing.T) nfttest.Host {
		host := nstest.Host(t, "box")
		return nfttest.Host{
			Loader:  open(t, host),
			Restart: func() nfttest.Loader { return open(t, host) },
			Tamper: func(set, element string) {
				host.Run("nft", "add", "element", "inet", "shekara", set, "{", element, "}")
			},
			Vanish: func() { host.Run("nft", "delete", "table", "inet", "shekara") },
		}
	})
}
