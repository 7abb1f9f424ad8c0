package nftables_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shekara/netctl/nftables"
	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
)

// TestTables: all tables of this namespace are listed, of each family, and whether one is dormant.
func TestTables(t *testing.T) {
	probetest.Need(t, probe.NFTables)
	host := nstest.Host(t, "box")
	host.RunInput("add table inet a\nadd chain inet a two { type filter hook input priority 0; }\nadd chain inet a inner\nadd chain inet a one { type filter hook input priority 1; }\nadd table ip6 b { flags dormant; }\nadd table arp c\n", "nft", "-f", "-")
	host.Do(func() {
		tables, err := nftables.Tables()
		slices.SortFunc(tables, func(x, y nftables.Table) int { return strings.Compare(x.Name, y.Name) })
		if want := []nftables.Table{{Family: "inet", Name: "a", Hooked: []string{"one", "two"}}, {Family: "ip6", Name: "b", Flags: 1}, {Family: "arp", Name: "c"}}; err != nil || !cmp.Equal(tables, want) {
			t.Errorf("%+v, %v, want %+v", tables, err, want)
		}
	})
	nstest.Host(t, "other").Do(func() {
		if tables, err := nftables.Tables(); err != nil || len(tables) > 0 {
			t.Errorf("another namespace: %+v, %v", tables, err)
		}
	})
}
