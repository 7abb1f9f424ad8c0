package nft_test

import (
	"fmt"
	"slices"
	"testing"

	"shekara/firewall"
	"shekara/firewall/firewalltest"
	"shekara/netctl/nftables"
	"shekara/netctl/nstest"
)

// TestQuickChanges: an element of each kind of set comes and goes by netlink, and what the kernel holds then is, as nft lists it, what nft itself would have loaded.
// More than fits, and what needs other sets, is left to nft.
func TestQuickChanges(t *testing.T) {
	host := nstest.Host(t, "box")
	in := open(t, host)
	rules, err := firewall.Compile(firewalltest.RigPolicy())
	if err != nil {
		t.Fatal(err)
	}
	forms := map[string]string{ // %d: 1 to 9
		"tunnel_peer4": "192.0.2.%d . 51820 . 198.51.100.1", "tunnel_peer6": "2001:db8::%d . 65535 . 2001:db8:ffff::1", "tunnel_any4": "192.0.2.%d . 51820", "tunnel_any6": "2001:db8::%d . 1",
		"probe_in4": `"sk-a" . 10.64.1.%d . 10.20.0.1`, "probe_in6": `"sk-agencies.100" . fd00:64::%d . fd00::1`, "probe_out4": `"a" . 10.64.1.%d`, "probe_out6": `"sk-b" . fd00:64::%d`,
		"flow4_32_32": "0x00802000 . 10.64.1.%d . 10.20.0.10 . 1", "flow4_28_32_16": "0xfff02000 . 10.64.1.%d . 10.20.0.10 . 6 . 443",
		"flow6_128_64": "0x00802000 . fd00:64::%d . fd00:20:: . 58", "flow6_64_128_15": "0x00802000 . fd00:%d:: . fd00:20::a . 17 . 65534",
	}
	some := func(n int) firewall.Elements {
		e := firewall.Elements{}
		for set, form := range forms {
			e[set] = []string{fmt.Sprintf(form, n)}
		}
		return e
	}
	held := firewall.Union(rules.Elements, some(1), some(2))
	if err := in.Load(t.Context(), rules.With(held)); err != nil {
		t.Fatal(err)
	}
	var listener *nftables.Listener
	host.Do(func() {
		if listener, err = nftables.Listen(); err != nil {
			t.Fatal(err)
		}
	})
	defer listener.Close()
	change := func(what, by string, add, remove firewall.Elements) {
		t.Helper()
		if err := in.Change(t.Context(), add, remove); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		var commands []string
		if lost, err := listener.Take(func(tx nftables.Transaction) {
			if tx.Command != "nft" {
				tx.Command = "ours"
			}
			commands = append(commands, tx.Command)
		}); lost || err != nil || !slices.Equal(commands, []string{by}) {
			t.Errorf("%s: made by %q, want %q; lost: %t, %v", what, commands, by, lost, err)
		}
		less := firewall.Elements{}
		for set, list := range held {
			for _, element := range list {
				if !slices.Contains(remove[set], element) {
					less[set] = append(less[set], element)
				}
			}
		}
		held = firewall.Union(less, add)
		other := open(t, host) // it remembers nothing, and so looks
		if drift, err := other.Matches(t.Context(), rules.With(held)); err != nil || len(drift) > 0 {
			t.Errorf("%s: differs by %q, %v", what, drift, err)
		}
		if drift, err := other.Matches(t.Context(), rules.With(firewall.Union(held, some(9)))); err != nil || len(drift) != len(forms) {
			t.Errorf("%s: what is not there is missed by %q, %v", what, drift, err)
		}
		if lost, err := listener.Take(func(nftables.Transaction) {}); lost || err != nil { // of the looks
			t.Fatal(lost, err)
		}
	}
	for set := range forms {
		change("add to "+set, "ours", firewall.Elements{set: some(3)[set]}, nil)
		change("remove from "+set, "ours", nil, firewall.Elements{set: some(1)[set]})
	}
	change("some of all", "ours", some(4), some(3))
	many := firewall.Elements{}
	for i := range nftables.MaxBatch {
		many["tunnel_any4"] = append(many["tunnel_any4"], fmt.Sprintf("198.18.0.%d . 1", i))
	}
	slices.Sort(many["tunnel_any4"])
	change("as many as may be", "ours", many, nil)
	many["tunnel_any4"] = append(many["tunnel_any4"], "198.18.1.1 . 1")
	change("one", "ours", firewall.Elements{"tunnel_any4": {"198.18.1.1 . 1"}}, nil)
	change("more than may be", "nft", nil, many)
	change("another set", "nft", firewall.Elements{"flow4_24_24": {"0x00802000 . 10.64.1.0 . 10.20.0.0 . 1"}}, nil)
	change("a set less", "nft", nil, firewall.Elements{"flow4_24_24": {"0x00802000 . 10.64.1.0 . 10.20.0.0 . 1"}})
}
