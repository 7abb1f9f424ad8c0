package engine

import (
	"context"
	"errors"
	"strings"
	"testing"

	"shekara/firewall"
	"shekara/firewall/firewalltest"
	"shekara/firewall/iptables"
	"shekara/firewall/nft"
	"shekara/firewall/nft/nfttest"
	door "shekara/netctl/iptables"
	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
)

// fakes are both engines without a kernel.
type fakes struct {
	nftables, iptables nfttest.Fake
	broken             map[firewall.Engine]error // cannot be opened
}

func (f *fakes) open(ctx context.Context) (*Loader, error) {
	kindOf := func(name firewall.Engine, fake *nfttest.Fake) kind {
		return kind{
			func(context.Context) (firewall.Loader, error) { return fake, f.broken[name] },
			func(context.Context) (bool, error) { _, there := fake.Table(); return there, nil },
		}
	}
	return open(ctx, map[firewall.Engine]kind{firewall.NFTables: kindOf(firewall.NFTables, &f.nftables), firewall.IPTables: kindOf(firewall.IPTables, &f.iptables)})
}

func ruleset(t *testing.T, e firewall.Engine) firewall.Ruleset {
	t.Helper()
	p := firewalltest.Policy()
	p.Engine = e
	r, err := firewall.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestKeepsTheContract(t *testing.T) {
	firewalltest.LoaderContract(t, func(t *testing.T) firewalltest.Host {
		f := &fakes{}
		open := func() firewall.Loader {
			f.nftables.Restart()
			l, err := f.open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
		return firewalltest.Host{Loader: open(), Restart: open, Tamper: f.nftables.Tamper, Vanish: f.nftables.Vanish, Counts: true}
	})
}

// TestChoice: by probing, or as the policy says; what cannot be opened is an error that says why.
func TestChoice(t *testing.T) {
	old := errors.New("no nf_tables in this kernel")
	f := &fakes{broken: map[firewall.Engine]error{firewall.NFTables: old}}
	l, err := f.open(t.Context())
	if err != nil || l.Engine() != firewall.IPTables {
		t.Fatalf("an older kernel: %v, %v", l, err)
	}
	if err := l.Load(t.Context(), ruleset(t, firewall.AnyEngine)); err != nil {
		t.Error(err)
	}
	if _, there := f.iptables.Table(); !there {
		t.Error("nothing is loaded")
	}
	if err := l.Load(t.Context(), ruleset(t, firewall.NFTables)); !errors.Is(err, old) {
		t.Errorf("an engine that the host cannot run: %v", err)
	}
	if err := l.Load(t.Context(), ruleset(t, "pf")); err == nil || !strings.Contains(err.Error(), `"pf"`) {
		t.Errorf("an engine that there is not: %v", err)
	}
	f.broken[firewall.IPTables] = errors.New("no ipset")
	if _, err := f.open(t.Context()); !errors.Is(err, old) || !strings.Contains(err.Error(), "no ipset") {
		t.Errorf("a host that can run neither: %v", err)
	}
}

// TestChange: the new engine's rules are there before the old one's go; a daemon that was killed between finds and removes what was left.
func TestChange(t *testing.T) {
	f := &fakes{}
	l, err := f.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	there := func(nftables, iptables bool) {
		t.Helper()
		_, a := f.nftables.Table()
		_, b := f.iptables.Table()
		if a != nftables || b != iptables {
			t.Errorf("nftables %v, iptables %v; want %v, %v", a, b, nftables, iptables)
		}
	}
	for _, step := range []struct {
		load               firewall.Engine
		nftables, iptables bool
	}{{firewall.AnyEngine, true, false}, {firewall.IPTables, false, true}, {firewall.NFTables, true, false}} {
		if err := l.Load(t.Context(), ruleset(t, step.load)); err != nil {
			t.Fatal(err)
		}
		there(step.nftables, step.iptables)
	}
	f.nftables.Break(errors.New("the kernel refuses"))
	if err := l.Load(t.Context(), ruleset(t, firewall.IPTables)); err == nil {
		t.Error("the old rules could not be removed: no error")
	}
	there(true, true)
	if _, err := l.Observe(t.Context()); !errors.Is(err, firewall.ErrNotLoaded) {
		t.Errorf("it is not known what is loaded, but: %v", err)
	}
	f.nftables.Break(nil)
	again, err := f.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if drift, err := again.Matches(t.Context(), ruleset(t, firewall.IPTables)); err != nil || len(drift) != 1 || !strings.Contains(drift[0], "nftables") {
		t.Errorf("rules of two engines: %q, %v", drift, err)
	}
	if err := again.Load(t.Context(), ruleset(t, firewall.IPTables)); err != nil {
		t.Fatal(err)
	}
	there(false, true)
	if err := again.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	there(false, false)
}

// TestLive: the real engines, one after the other and back, and nothing of ours after that.
func TestLive(t *testing.T) {
	probetest.Need(t, probe.NFTables, probe.Tool("iptables"), probe.Tool("ipset"))
	host := nstest.Host(t, "box")
	host.Do(func() {
		l, err := New(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range []firewall.Engine{firewall.NFTables, firewall.IPTables, firewall.NFTables, firewall.IPTables} {
			if err := l.Load(t.Context(), ruleset(t, e)); err != nil {
				t.Fatal(err)
			}
			if seen, err := l.Observe(t.Context()); err != nil || !seen.Present || len(seen.Drift) > 0 || l.Engine() != e {
				t.Errorf("%s: %+v, %v", e, seen, err)
			}
			if counters, err := l.Counters(t.Context()); err != nil || len(counters) == 0 {
				t.Errorf("%s: counters %v, %v", e, counters, err)
			}
		}
		if err := l.Remove(t.Context()); err != nil {
			t.Error(err)
		}
	})
	for _, list := range []string{"nft list ruleset", "iptables-save", "ip6tables-save", "ipset list -n"} {
		out, err := host.Try(strings.Fields(list)...)
		if err != nil || strings.Contains(strings.ToLower(out), "shekara") {
			t.Errorf("%s: %v\n%s", list, err, out)
		}
	}
}

// TestForwardingClosedIsReplaced: what closed forwarding while this host seemed to have no nftables is removed when it has.
func TestForwardingClosedIsReplaced(t *testing.T) {
	probetest.Need(t, probe.NFTables, probe.Tool("iptables"), probe.Tool("ipset"))
	host := nstest.Host(t, "box")
	rules := func() string { return host.Run("iptables-save") + host.Run("ip6tables-save") }
	host.Do(func() {
		without, err := open(t.Context(), map[firewall.Engine]kind{
			firewall.NFTables: {func(context.Context) (firewall.Loader, error) { return nil, errors.New("no nf_tables in this kernel") }, nft.Left},
			firewall.IPTables: {func(ctx context.Context) (firewall.Loader, error) { return iptables.New(ctx, door.Default) }, iptables.Left},
		})
		if err != nil {
			t.Fatal(err)
		}
		if closed, err := without.LoadIfAbsent(t.Context(), firewall.ForwardingClosed()); !closed || err != nil {
			t.Fatalf("closed %v, %v", closed, err)
		}
		if got := rules(); strings.Count(got, "-A FORWARD -j SHEKARA-") != 2 {
			t.Errorf("closed, there is\n%s", got)
		}
		with, err := New(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if closed, err := with.LoadIfAbsent(t.Context(), firewall.ForwardingClosed()); closed || err != nil {
			t.Errorf("closed again: %v, %v", closed, err)
		}
		if err := with.Load(t.Context(), ruleset(t, firewall.AnyEngine)); err != nil {
			t.Fatal(err)
		}
	})
	if got := rules(); strings.Contains(got, "SHEKARA") || host.Run("ipset", "list", "-n") != "" {
		t.Errorf("the old engine leaves\n%s", got)
	}
}
