package nftables

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
)

// TestCommits: what one call made is told from what others did, before, after and in the midst of it.
func TestCommits(t *testing.T) { nstest.WithOwnPIDs(t, testCommits) }

func testCommits(t *testing.T) {
	probetest.Need(t, probe.NFTables)
	if SamePIDs() && os.Getpid() == 1 {
		t.Fatal("this should be a PID namespace")
	}
	h := nstest.Host(t, "h")
	l := listen(t, h)
	var c Commits
	tables := 0
	nft := func() int {
		tables++
		command := h.Command(t.Context(), "nft", "add", "table", "inet", fmt.Sprint("t", tables))
		if out, err := command.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return command.Process.Pid
	}
	another := func() {
		h.Run("nft", "add", "table", "inet", "other")
		h.Run("nft", "delete", "table", "inet", "other")
	}
	for _, way := range []struct {
		name  string
		said  int
		make  func() int
		wants []bool // transaction by transaction
	}{
		{"one", 1, nft, []bool{true}},
		{"two of unknown processes", 2, func() int { nft(); nft(); return 0 }, []bool{true, true}},
		{"one, which changes nothing", 1, func() int { h.Run("nft", "flush", "ruleset"); h.Run("nft", "flush", "ruleset"); return 0 }, []bool{true}},
		{"one, and two of another's in the midst of it", 1, func() int { another(); return nft() }, []bool{false, false, SamePIDs()}},
		{"one of an unknown process, and two of another's", 1, func() int { another(); nft(); return 0 }, []bool{false, false, false}},
		{"two, of which one failed, and none of another's", 2, nft, []bool{SamePIDs()}},
	} {
		another()
		h.Do(func() {
			if _, _, err := c.Make(way.said, func() (int, error) { return way.make(), nil }); err != nil {
				t.Fatal(err)
			}
		})
		another()
		var own []bool
		for _, tx := range taken(t, l) {
			own = append(own, c.Own(tx))
		}
		if wants := slices.Concat([]bool{false, false}, way.wants, []bool{false, false}); !slices.Equal(own, wants) {
			t.Errorf("%s: ours are %v, want %v", way.name, own, wants)
		}
	}
}
