package iptables_test

import (
	"testing"

	"shekara/firewall"
	"shekara/firewall/firewalltest"
	"shekara/firewall/iptables"
	door "shekara/netctl/iptables"
	"shekara/netctl/nftables"
	"shekara/netctl/nstest"
)

// TestOwnTransactionsAreToldFromOthers: whatever a Loader does through iptables-nft is known as its own, also in a container, where processes
// cannot be told by their IDs; and what somebody does by hand is not.
func TestOwnTransactionsAreToldFromOthers(t *testing.T) {
	nstest.WithOwnPIDs(t, func(t *testing.T) {
		host := nstest.Host(t, "box")
		var listener *nftables.Listener
		host.Do(func() {
			var err error
			if listener, err = nftables.Listen(); err != nil {
				t.Fatal(err)
			}
		})
		defer listener.Close()
		in := engine(door.NFT).Open(t, host)
		// heard says how many transactions there were since it was asked last, and complains of those whose author is another than wanted.
		heard := func(after string, own bool) {
			n := 0
			lost, err := listener.Take(func(tx nftables.Transaction) {
				in.Do(func(l firewall.Loader) {
					if n++; l.(*iptables.Loader).Own(tx) != own {
						t.Errorf("%s: ours is %v, want %v: by %s, %v and %d more", after, !own, own, tx.By(), tx.Objects, tx.More)
					}
				})
			})
			if err != nil || lost {
				t.Fatalf("lost: %v, %v", lost, err)
			}
			if n == 0 {
				t.Errorf("%s: nothing is heard", after)
			}
		}
		heard("probed", true)
		for _, name := range []string{"translated", "site", "translated"} {
			rules := firewalltest.Load(t, in, firewalltest.Example(t, name))
			heard("loaded "+name, true)
			if err := in.Change(t.Context(), nil, rules.Elements); err != nil {
				t.Fatal(err)
			}
			if drift, err := in.Observe(t.Context()); err != nil || len(drift.Drift) > 0 {
				t.Fatalf("%q, %v", drift.Drift, err)
			}
			heard("changed "+name, true)
			host.Run("iptables-nft", "-t", "mangle", "-F", "SHEKARA-"+letterOf(host)+"-forward")
			heard("a hand in "+name, false)
		}
		if err := in.Remove(t.Context()); err != nil {
			t.Fatal(err)
		}
		heard("removed", true)
	})
}
