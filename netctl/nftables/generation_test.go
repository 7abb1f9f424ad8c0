package nftables_test

import (
	"testing"

	"shekara/netctl/nftables"
	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
)

func TestGenerationCountsTransactions(t *testing.T) {
	probetest.Need(t, probe.NFTables)
	h := nstest.Host(t, "h")
	ask := func() (n uint32) {
		h.Do(func() {
			var err error
			if n, err = nftables.Generation(); err != nil {
				t.Fatal(err)
			}
		})
		return n
	}
	before := ask()
	if again := ask(); again != before {
		t.Errorf("generation went from %d to %d though nothing changed", before, again)
	}
	h.Run("nft", "add", "table", "inet", "x")
	if after := ask(); after == before {
		t.Errorf("generation stays %d though a table was added", after)
	}
}
