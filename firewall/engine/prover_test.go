package engine

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"shekara/firewall"
	"shekara/firewall/proof"
	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
)

// TestReadingIsSteady: what counts by itself is no change between two readings, and everything else is.
func TestReadingIsSteady(t *testing.T) {
	of := func(table, sets string) uncounted {
		return uncounted{legacy: []proof.XTables{{Legacy: true, Saved: []byte(table)}}, sets: []byte(sets)}
	}
	one := of("# Generated on Monday\n*filter\n:INPUT ACCEPT [1:40]\n-A INPUT -j DROP\nCOMMIT\n", "create a hash:ip counters\nadd a 192.0.2.1 packets 1 bytes 40\n")
	for _, c := range []struct {
		other uncounted
		same  bool
	}{
		{of("# Generated on Tuesday\n*filter\n:INPUT ACCEPT [2:80]\n-A INPUT -j DROP\nCOMMIT\n", "create a hash:ip counters\nadd a 192.0.2.1 packets 2 bytes 80\n"), true},
		{of("# Generated on Monday\n*filter\n:INPUT DROP [1:40]\n-A INPUT -j DROP\nCOMMIT\n", "create a hash:ip counters\nadd a 192.0.2.1 packets 1 bytes 40\n"), false},
		{of("# Generated on Monday\n*filter\n:INPUT ACCEPT [1:40]\nCOMMIT\n", "create a hash:ip counters\nadd a 192.0.2.1 packets 1 bytes 40\n"), false},
		{of("# Generated on Monday\n*filter\n:INPUT ACCEPT [1:40]\n-A INPUT -j DROP\nCOMMIT\n", "create a hash:ip counters\nadd a 192.0.2.2 packets 1 bytes 40\n"), false},
		{uncounted{sets: one.sets}, false},
	} {
		if got := one.same(c.other); got != c.same {
			t.Errorf("%+v: same %v, want %v", c.other, got, c.same)
		}
	}
}

// TestReadingWithoutNFT: where no nft lists what nftables hold it must be iptables-nft's; a table of another kind is named. Nothing is hidden by a
// table of iptables that is there for one family only.
func TestReadingWithoutNFT(t *testing.T) {
	probetest.Need(t, probe.NFTables, probe.Tool("iptables-nft"), probe.Tool("ip6tables-nft"))
	missing := errors.New("nft is missing")
	for _, c := range []struct{ commands, says string }{
		{"true", ""},
		{"iptables-nft -t mangle -A FORWARD -j DROP; nft add table arp x", ""},
		{"iptables-nft -t mangle -A FORWARD -j DROP; nft add table inet x", "table inet x"},
		{"ip6tables-nft -A FORWARD -j DROP; nft add table ip6 other", "table ip6 other"},
		{"iptables-nft -A FORWARD -j DROP; nft 'add chain ip filter forward { type filter hook forward priority 7; }'", "table ip filter"},
	} {
		host := nstest.Host(t, "box")
		host.Run("sh", "-c", c.commands)
		host.Do(func() {
			var p Prover
			l, err := p.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			err = l.whole(missing)
			if (err == nil) != (c.says == "") || err != nil && (!errors.Is(err, missing) || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("%s: %v, want %q", c.commands, err, c.says)
			}
		})
	}
}

// TestReadingCovers: legacy tables of both families are read, and no other is said to be. What is read is proved, and found wrong.
func TestReadingCovers(t *testing.T) {
	probetest.Need(t, probe.NFTables, probe.Tool("iptables-legacy"), probe.Tool("ip6tables-legacy"))
	host := nstest.Host(t, "box")
	host.Run("ip6tables-legacy", "-t", "raw", "-A", "PREROUTING", "-j", "DROP")
	host.Do(func() {
		var p Prover
		l, err := p.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for table, want := range map[string]bool{"ip6tables-legacy raw": true, "iptables-legacy raw": false, "ip6tables-legacy mangle": false, "arptables-legacy filter": false, "": false} {
			if got := l.Covers(table); got != want {
				t.Errorf("covers %q: %v", table, got)
			}
		}
		result, err := p.Prove(t.Context(), l, firewall.Policy{})
		if err != nil || result.Verdict != proof.Violated || !strings.Contains(fmt.Sprint(result.Violations), "table ip6 raw (legacy), chain PREROUTING, rule 1: -j DROP") {
			t.Errorf("%+v, %v", result, err)
		}
	})
}
