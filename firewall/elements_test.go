package firewall_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"shekara/firewall"
)

var someElements = rapid.Custom(func(t *rapid.T) firewall.Elements {
	return firewall.Union(firewall.Elements{
		"a": rapid.SliceOfN(rapid.SampledFrom([]string{"1", "2", "3", "4"}), 0, 4).Draw(t, "a"),
		"b": rapid.SliceOfN(rapid.SampledFrom([]string{"1", "2"}), 0, 2).Draw(t, "b"),
	})
})

// TestDiffAppliedIsEmpty: what Diff says, done, leaves nothing to say.
func TestDiffAppliedIsEmpty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		have, want := someElements.Draw(t, "have"), someElements.Draw(t, "want")
		add, remove := have.Diff(want)
		for set, list := range remove {
			for _, element := range list {
				if !strings.Contains(strings.Join(have[set], " "), element) {
					t.Fatalf("removes %s of %s, which is not there", element, set)
				}
			}
		}
		reached := minus(firewall.Union(have, add), remove)
		if diff := cmp.Diff(want, reached); diff != "" {
			t.Fatal(diff)
		}
	})
}

func minus(have, gone firewall.Elements) firewall.Elements {
	out := firewall.Elements{}
	for set, list := range have {
		for _, element := range list {
			if !strings.Contains(" "+strings.Join(gone[set], " ")+" ", " "+element+" ") {
				out[set] = append(out[set], element)
			}
		}
	}
	return out
}

// TestTally: owners come, change and go in any order; what Replace says keeps a table equal to the union of what they hold.
func TestTally(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tally firewall.Tally
		owners, table := map[int]firewall.Elements{}, firewall.Elements{}
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			owner := rapid.IntRange(0, 3).Draw(t, "owner")
			next := someElements.Draw(t, "next")
			add, remove := tally.Replace(owners[owner], next)
			for set, list := range add {
				for _, element := range list {
					if strings.Contains(strings.Join(table[set], " "), element) {
						t.Fatalf("adds %s to %s twice", element, set)
					}
				}
			}
			table = minus(firewall.Union(table, add), remove)
			owners[owner] = next
			want := firewall.Union(owners[0], owners[1], owners[2], owners[3])
			if diff := cmp.Diff(want, table); diff != "" {
				t.Fatal(diff)
			}
			if diff := cmp.Diff(want, tally.Elements()); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}

// TestPortRanges: the elements of a range of ports cover its ports and no other, each once.
func TestPortRanges(t *testing.T) {
	base, err := firewall.CompileBase(site(t))
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		first := rapid.Uint16Range(1, 65535).Draw(t, "first")
		last := rapid.Uint16Range(first, 65535).Draw(t, "last")
		all := []netip.Prefix{netip.MustParsePrefix("10.64.0.0/16")}
		elements, err := base.Elements(firewall.Policy{Flows: []firewall.Flow{{From: firewall.Place{Device: "sk-agencies"}, To: firewall.Place{Zone: "gateway-dmz"},
			Sources: all, Destinations: all, Services: []firewall.Service{{Protocol: firewall.TCP, FirstPort: first, LastPort: last}}}}})
		if err != nil {
			t.Fatal(err)
		}
		if n := elements.Count(); n > 30 {
			t.Fatalf("%d elements", n)
		}
		covered := make([]int, 65536)
		for set, list := range elements {
			bits := 0
			if _, err := fmt.Sscanf(set, "flow4_16_16_%d", &bits); err != nil && set != "flow4_16_16" {
				t.Fatalf("set %s: %v", set, err)
			}
			for _, element := range list {
				port := 0
				if bits > 0 {
					fields := strings.Split(element, " . ")
					if _, err := fmt.Sscan(fields[len(fields)-1], &port); err != nil {
						t.Fatal(err)
					}
				}
				for p := port; p < port+1<<(16-bits); p++ {
					covered[p]++
				}
			}
		}
		for port := range 65536 {
			want := 0
			if int(first) <= port && port <= int(last) {
				want = 1
			}
			if covered[port] != want {
				t.Fatalf("port %d is covered %d times, want %d", port, covered[port], want)
			}
		}
	})
}
