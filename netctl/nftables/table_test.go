package nftables_test

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"shekara/netctl/nftables"
	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
)

func TestHasTable(t *testing.T) {
	probetest.Need(t, probe.NFTables)
	h := nstest.Host(t, "h")
	has := func(table string) (is bool) {
		t.Helper()
		h.Do(func() {
			var err error
			if is, err = nftables.HasTable(table); err != nil {
				t.Fatal(err)
			}
		})
		return is
	}
	tables := []string{"inet x", "ip x", "inet xy", "bridge x"}
	for i := range tables {
		h.Run("nft", "add", "table "+tables[i])
		for j, table := range tables {
			if got := has(table); got != (j <= i) {
				t.Errorf("with %q: table %q is there: %t", tables[:i+1], table, got)
			}
		}
	}
	h.Run("nft", "delete", "table inet x")
	if has("inet x") || !has("ip x") {
		t.Error("a table of another family was taken for the one asked for")
	}
	for _, table := range []string{"", "x", "inet6 x"} {
		if _, err := nftables.HasTable(table); !errors.Is(err, unix.EAFNOSUPPORT) {
			t.Errorf("table %q: %v", table, err)
		}
	}
}
