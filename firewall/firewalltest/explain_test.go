package firewalltest

import (
	"math/rand/v2"
	"testing"
)

// TestExplainAgreesWithReference: what the explainer says of thousands of packets is what follows from the meaning of the policy.
func TestExplainAgreesWithReference(t *testing.T) {
	var count tally
	for seed := range uint64(40) {
		d := newDrawer(seed, somePolicy(rand.New(rand.NewPCG(seed, 2))))
		e, _ := explainer(t, d.policy)
		for n := range 1500 {
			k := d.draw(n)
			want := allowed(d.policy, k) && !(k.short && tunnelPort(d.policy, k))
			x := explain(t, e, k.explained())
			if x.Pass != want {
				t.Fatalf("seed %d: %+v: explained as %+v, want pass %v", seed, k, x, want)
			}
			if x.Pass == (x.Reason != "") {
				t.Fatalf("seed %d: %+v: pass %v with reason %q", seed, k, x.Pass, x.Reason)
			}
			if want {
				count.passed++
			} else {
				count.dropped++
			}
		}
	}
	count.enough(t, 15000)
}
