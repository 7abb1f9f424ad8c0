package iptables_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"shekara/firewall"
	"shekara/firewall/firewalltest"
	"shekara/firewall/iptables"
	door "shekara/netctl/iptables"
	"shekara/netctl/nstest"
	"shekara/netctl/probe"
)

// variants are those of the programs, each through another interface of the kernel. In haste one must do.
func variants() []door.Variant {
	if testing.Short() {
		return []door.Variant{door.NFT}
	}
	return []door.Variant{door.NFT, door.Legacy}
}

func engine(v door.Variant) firewalltest.Engine {
	flush := func(table, chain string) string {
		program := "iptables-" + string(v) + " -t " + table
		return program + " -F $(" + program + ` -S | sed -n 's/^-N \(SHEKARA-.-` + chain + `-.*\)/\1/p')`
	}
	return firewalltest.Engine{
		Needs:   []probe.Feature{probe.Tool("iptables-" + string(v)), probe.Tool("ip6tables-" + string(v)), probe.Tool("ipset")},
		New:     func(ctx context.Context) (firewall.Loader, error) { return iptables.New(ctx, v) },
		Prove:   func(host *nstest.H, p firewall.Policy) error { return prove(host, v, p) },
		Unhide:  flush("nat", "hide"),
		Unguard: flush("nat", "unhidden") + "; " + flush("mangle", "leave"),
		Slow:    true,
		List:    []string{"iptables-" + string(v) + "-save", "-c", "-t", "mangle"},
	}
}

func TestContract(t *testing.T) {
	for _, v := range variants() {
		t.Run(string(v), func(t *testing.T) { firewalltest.Contract(t, engine(v)) })
	}
}

func TestLoaderContract(t *testing.T) {
	for _, v := range variants() {
		t.Run(string(v), func(t *testing.T) {
			firewalltest.LoaderContract(t, func(t *testing.T) firewalltest.Host {
				host := nstest.Host(t, "box")
				return firewalltest.Host{
					Loader:  engine(v).Open(t, host),
					Restart: func() firewall.Loader { return engine(v).Open(t, host) },
					Tamper:  func(set, element string) { host.Run("ipset", "-exist", "add", nameOf(host, set), entryOf(element)) },
					Says:    func(set, element string) []string { return []string{nameOf(host, set), entryOf(element)} },
					Vanish: func() {
						for _, program := range []string{"iptables-", "ip6tables-"} {
							for _, table := range []string{"raw", "mangle"} {
								host.Run(program+string(v), "-t", table, "-F")
								host.Run(program+string(v), "-t", table, "-X")
							}
						}
						// The kernel frees rules that are gone a little later, and until then holds their sets.
						for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
							if out, err := host.Try("ipset", "destroy"); err == nil {
								return
							} else if time.Now().After(deadline) {
								t.Fatalf("destroy sets: %v\n%s", err, out)
							}
						}
					},
				}
			})
		})
	}
}

// TestNatIsLeft: when the last device that translates is gone nothing of ours is left in nat, and what is loaded is proved. What others have there stays.
func TestNatIsLeft(t *testing.T) {
	for _, v := range variants() {
		t.Run(string(v), func(t *testing.T) {
			host := nstest.Host(t, "box")
			in := engine(v).Open(t, host)
			inNat := func() string {
				return host.Run("iptables-"+string(v)+"-save", "-t", "nat") + host.Run("ip6tables-"+string(v)+"-save", "-t", "nat")
			}
			host.Run("iptables-"+string(v), "-t", "nat", "-N", "OTHER")
			firewalltest.Load(t, in, firewalltest.Example(t, "translated"))
			if got := inNat(); strings.Count(got, ":SHEKARA-postrouting.unhidden") != 2 {
				t.Errorf("while a device translates: %s", got)
			}
			p := firewalltest.Example(t, "site")
			rules := firewalltest.Load(t, in, p)
			if got := inNat(); strings.Contains(got, "SHEKARA") || !strings.Contains(got, ":OTHER") {
				t.Errorf("when none does: %s", got)
			}
			if err := prove(host, v, p); err != nil {
				t.Error(err)
			}
			if drift, err := in.Matches(t.Context(), rules); err != nil || len(drift) > 0 {
				t.Errorf("%q, %v", drift, err)
			}
		})
	}
}

// TestProbe: a Loader that has loaded nothing leaves nothing, no table either that its probe did not need.
func TestProbe(t *testing.T) {
	for _, v := range variants() {
		host := nstest.Host(t, "box")
		engine(v).Open(t, host)
		for _, program := range []string{"iptables-", "ip6tables-"} {
			if out := host.Run(program + string(v) + "-save"); !strings.Contains(out, "*mangle") || strings.Contains(out, "*nat") || strings.Contains(out, "SHEKARA") {
				t.Errorf("left behind:\n%s", out)
			}
		}
		if names := host.Run("ipset", "list", "-n"); names != "" {
			t.Errorf("sets left: %q", names)
		}
	}
}

// nameOf is the set that holds what Elements calls set.
func nameOf(host *nstest.H, set string) string {
	names := strings.Fields(host.Run("ipset", "list", "-n"))
	suffix := map[string]string{"tunnel_any4": "4-any"}[set]
	i := slices.IndexFunc(names, func(name string) bool { return strings.HasSuffix(name, suffix) })
	return names[i]
}

func entryOf(element string) string { return strings.Replace(element, " . ", ",udp:", 1) }
