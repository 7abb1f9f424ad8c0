package document

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// The trie against a list: what overlaps, after any additions and removals; and an older root stays as it was.
func TestTrieAgainstAList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r, old roots
		list := map[string]prefixFact{}
		for i := range rapid.IntRange(1, 40).Draw(t, "steps") {
			p := drawPrefix(t)
			h := Holder{Ref{KindZone, strconv.Itoa(i)}, ""}
			if len(list) > 0 && rapid.Bool().Draw(t, "remove") {
				keys := make([]string, 0, len(list))
				for k := range list {
					keys = append(keys, k)
				}
				slices.Sort(keys)
				gone := rapid.SampledFrom(keys).Draw(t, "gone")
				r = r.remove(list[gone].prefix, list[gone].holder)
				delete(list, gone)
			} else {
				r = r.add(p, h)
				list[h.Name] = prefixFact{prefix: p, holder: h}
			}
			before := found(old, p)
			query := drawPrefix(t)
			var want []string
			for name, f := range list {
				if f.prefix.Overlaps(query) {
					want = append(want, name)
				}
			}
			slices.Sort(want)
			if diff := cmp.Diff(want, found(r, query)); diff != "" {
				t.Fatalf("overlapping %s (-list +trie):\n%s", query, diff)
			}
			if diff := cmp.Diff(before, found(old, p)); diff != "" {
				t.Fatalf("the old root changed:\n%s", diff)
			}
			if i%7 == 0 {
				old = r
			}
		}
	})
}

func found(r roots, p netip.Prefix) []string {
	var names []string
	r.overlapping(p, func(_ netip.Prefix, h Holder) bool {
		names = append(names, h.Name)
		return true
	})
	slices.Sort(names)
	return names
}

// drawPrefix keeps to few bits, so that prefixes meet.
func drawPrefix(t *rapid.T) netip.Prefix {
	b := rapid.Byte().Draw(t, "bits")
	if rapid.Bool().Draw(t, "ipv6") {
		return netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0, b}), rapid.SampledFrom([]int{0, 16, 26, 28, 30, 32, 128}).Draw(t, "length")).Masked()
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, b}), rapid.SampledFrom([]int{0, 8, 25, 26, 28, 30, 31, 32}).Draw(t, "length")).Masked()
}

func TestHoldersAgainstAList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var root *holders
		have := map[Holder]bool{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			h := Holder{Ref{KindZone, rapid.StringMatching("[a-d]{1,2}").Draw(t, "name")}, rapid.SampledFrom([]string{"", "x"}).Draw(t, "path")}
			if rapid.Bool().Draw(t, "remove") {
				root = root.remove(h)
				delete(have, h)
			} else {
				root = root.add(h)
				have[h] = true
			}
			var got []Holder
			root.walk(func(h Holder) bool { got = append(got, h); return true })
			if len(got) != len(have) || !slices.IsSortedFunc(got, Holder.compare) || slices.ContainsFunc(got, func(h Holder) bool { return !have[h] }) {
				t.Fatalf("got %v, want %v", got, have)
			}
		}
	})
}

func TestTableAgainstAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		frozen := newTable[int]()
		table := frozen.copied() // from here on the frozen one is only read
		have, was := map[string]int{}, map[string]int{}
		for i := range rapid.IntRange(1, 60).Draw(t, "steps") {
			key := rapid.StringMatching("[a-c]{1,3}").Draw(t, "key")
			switch rapid.IntRange(0, 3).Draw(t, "verb") {
			case 0:
				table.remove(key)
				delete(have, key)
			case 1:
				frozen, was = table, maps.Clone(have)
				table = frozen.copied()
			default:
				table.set(key, i)
				have[key] = i
			}
			for k, v := range have {
				if got, known := table.get(k); !known || got != v {
					t.Fatalf("%q is %d, want %d", k, got, v)
				}
			}
			if diff := cmp.Diff(have, all(table)); diff != "" || table.size != len(have) {
				t.Fatalf("size %d (-want +got):\n%s", table.size, diff)
			}
			if diff := cmp.Diff(was, all(frozen)); diff != "" {
				t.Fatalf("the frozen one changed (-want +got):\n%s", diff)
			}
		}
	})
}

func all(t table[int]) map[string]int {
	m := map[string]int{}
	t.all(func(k string, v int) { m[k] = v })
	return m
}
