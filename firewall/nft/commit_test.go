package nft_test

import (
	"fmt"
	"sync"
	"testing"

	"shekara/firewall"
	"shekara/firewall/firewalltest"
	"shekara/firewall/nft"
	"shekara/netctl/nftables"
	"shekara/netctl/nstest"
)

// TestOwnTransactionsAreToldFromOthers: also where others change nftables all the time in between, and by the same program.
func TestOwnTransactionsAreToldFromOthers(t *testing.T) {
	host := nstest.Host(t, "box")
	in := open(t, host)
	var listener *nftables.Listener
	host.Do(func() {
		var err error
		if listener, err = nftables.Listen(); err != nil {
			t.Fatal(err)
		}
	})
	defer listener.Close()
	// Not without an end: nft begins its listing anew whenever somebody comes in between.
	const strange = 20
	var others sync.WaitGroup
	others.Go(func() {
		for i := range strange {
			host.Run("nft", "add", "table", "inet", fmt.Sprint("other", i))
		}
	})
	policy := firewalltest.ConnectionPolicy("10.64.1.1", "10.20.0.10", false)
	for range 3 {
		rules := firewalltest.Load(t, in, policy)
		if err := in.Change(t.Context(), nil, rules.Elements); err != nil {
			t.Fatal(err)
		}
		if seen, err := in.Observe(t.Context()); err != nil || len(seen.Drift) > 0 {
			t.Fatalf("%+v, %v", seen, err)
		}
	}
	others.Wait()
	host.Run("nft", "flush", "chain", "inet", "shekara", "forward") // a hand in our table
	ours, theirs, hands := 0, 0, 0
	lost, err := listener.Take(func(tx nftables.Transaction) {
		var own bool
		in.Do(func(l firewall.Loader) { own = l.(*nft.Loader).Own(tx) })
		ourTable := tx.Touches(func(o nftables.Object) bool { return o.Table == firewall.Table || o.Table == "inet shekara-check" })
		switch {
		case own && !ourTable:
			t.Errorf("taken for ours: %+v", tx)
		case own:
			ours++
		case ourTable:
			hands++
			theirs++
		default:
			theirs++
		}
	})
	if err != nil || lost {
		t.Fatalf("lost: %v, %v", lost, err)
	}
	if ours < 6 || theirs != strange+1 || hands != 1 {
		t.Errorf("%d ours, %d of others of which %d in our table; others made %d", ours, theirs, hands, strange+1)
	}
}
