package iptables_test

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"shekara/netctl/iptables"
	"shekara/netctl/nftables"
	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
)

// TestTables: chains come in one transaction or not at all, and single rules are put in and taken away.
func TestTables(t *testing.T) { nstest.WithOwnPIDs(t, testTables) }

func testTables(t *testing.T) {
	probetest.Need(t, probe.Tool("iptables-nft"), probe.Tool("iptables-legacy"), probe.Tool("ipset"))
	for _, v := range []iptables.Variant{iptables.Default, iptables.NFT, iptables.Legacy} {
		for _, v6 := range []bool{false, true} {
			host, commits := nstest.Host(t, "box"), nftables.Commits{}
			var listener *nftables.Listener
			host.Do(func() {
				var err error
				if listener, err = nftables.Listen(); err != nil {
					t.Fatal(err)
				}
				tables, err := iptables.Open(v, v6, &commits)
				if err != nil {
					t.Fatal(err)
				}
				must := func(err error) {
					t.Helper()
					if err != nil {
						t.Fatalf("%q IPv6 %v: %v", v, v6, err)
					}
				}
				rules := func() []string {
					out, err := tables.Save(t.Context())
					must(err)
					var rules []string
					for line := range strings.Lines(string(out)) {
						if _, rule, is := strings.Cut(line, "] -A "); is {
							rules = append(rules, strings.TrimSpace(rule))
						}
					}
					return rules
				}
				must(tables.Restore(t.Context(), "*mangle\n:A - [0:0]\n:B - [0:0]\n-A A -j DROP\nCOMMIT\n"))
				must(tables.Restore(t.Context(), "*mangle\n:D - [0:0]\nCOMMIT\n*raw\n:D - [0:0]\nCOMMIT\n*raw\n-X D\nCOMMIT\n*mangle\n-X D\nCOMMIT\n"))
				must(tables.Insert("mangle", "FORWARD", "-j", "A"))
				must(tables.Restore(t.Context(), "*mangle\n-D FORWARD -j A\n-I FORWARD 1 -j B\nCOMMIT\n"))
				if got, want := rules(), []string{"FORWARD -j B", "A -j DROP"}; !slices.Equal(got, want) {
					t.Errorf("%q IPv6 %v: rules %q, want %q", v, v6, got, want)
				}
				if err := tables.Restore(t.Context(), "*mangle\n-A A -j ACCEPT\n-A C -j DROP\nCOMMIT\n"); err == nil || !strings.Contains(err.Error(), "tables") {
					t.Errorf("%q IPv6 %v: a chain that is not there: %v", v, v6, err)
				}
				if all, err := iptables.SaveAll(t.Context(), v, v6); err != nil || !strings.Contains(string(all), "-A FORWARD -j B\n-A A -j DROP\nCOMMIT") || strings.Contains(string(all), "*nat") {
					t.Errorf("%q IPv6 %v: all tables %q, %v", v, v6, all, err)
				}
				must(tables.Delete("mangle", "FORWARD", "-j", "B"))
				if got, want := rules(), []string{"A -j DROP"}; !slices.Equal(got, want) {
					t.Errorf("%q IPv6 %v: rules %q, want %q", v, v6, got, want)
				}
				if err := tables.Delete("mangle", "FORWARD", "-j", "B"); err == nil {
					t.Errorf("%q IPv6 %v: a rule that is not there is deleted", v, v6)
				}
			})
			if v == iptables.NFT { // what we did to nftables is told from what another does by the same program
				host.Run(map[bool]string{false: "iptables-nft", true: "ip6tables-nft"}[v6], "-t", "mangle", "-A", "FORWARD", "-j", "ACCEPT")
				told := map[bool]int{}
				if _, err := listener.Take(func(tx nftables.Transaction) { told[commits.Own(tx)]++ }); err != nil {
					t.Error(err)
				}
				if told[true] != 8 || told[false] != 1 {
					t.Errorf("IPv6 %v: %d transactions are ours, %d another's", v6, told[true], told[false])
				}
			}
			if err := listener.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if all, err := iptables.SaveAll(t.Context(), "nonsense", true); all != nil || err != nil {
		t.Errorf("without the program: %q, %v", all, err)
	}
	if _, err := iptables.Open("nonsense", false, &nftables.Commits{}); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "iptables-nonsense") {
		t.Errorf("a program that is not there: %v", err)
	}
}

func TestSets(t *testing.T) {
	probetest.Need(t, probe.Tool("ipset"))
	nstest.Host(t, "box").Do(func() {
		if names, err := iptables.SetNames(t.Context()); err != nil || len(names) > 0 {
			t.Errorf("sets before: %q, %v", names, err)
		}
		if err := iptables.RestoreSets(t.Context(), "create a hash:ip\nadd a 192.0.2.1\n"); err != nil {
			t.Fatal(err)
		}
		out, err := iptables.SaveSets(t.Context())
		if err != nil || !strings.Contains(string(out), "add a 192.0.2.1\n") {
			t.Errorf("saved %q, %v", out, err)
		}
		if names, err := iptables.SetNames(t.Context()); err != nil || !slices.Equal(names, []string{"a"}) {
			t.Errorf("names %q, %v", names, err)
		}
		if err := iptables.RestoreSets(t.Context(), "add b 192.0.2.1\n"); err == nil || !strings.Contains(err.Error(), "does not exist") {
			t.Errorf("a set that is not there: %v", err)
		}
	})
}
