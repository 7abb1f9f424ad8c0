package nft_test

import (
	"math/rand/v2"
	"testing"

	"shekara/firewall"
	"shekara/firewall/proof"
	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
)

// proved lists what a host's kernel holds and proves it against a policy.
func proved(t testing.TB, host *nstest.H, p firewall.Policy) proof.Result {
	t.Helper()
	loaded, err := proof.Decode([]byte(host.Run("nft", "-n", "-j", "list", "ruleset")))
	if err != nil {
		t.Fatal(err)
	}
	result, err := proof.Prove(loaded, p)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// TestCompiledIsProved: what the compiler makes of random policies and the kernel holds is what they say, for all packets.
func TestCompiledIsProved(t *testing.T) {
	probetest.Need(t, probe.NFTables)
	host := nstest.Host(t, "box")
	in := open(t, host)
	rounds := uint64(60)
	if testing.Short() {
		rounds = 6
	}
	for seed := range rounds {
		p := somePolicy(rand.New(rand.NewPCG(seed, 2)))
		load(t, in, p)
		if result := proved(t, host, p); result.Verdict != proof.Proved {
			t.Fatalf("seed %d: %s %v %v", seed, result.Verdict, result.Reasons, result.Violations)
		}
	}
}
