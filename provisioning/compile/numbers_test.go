package compile

import (
	"fmt"
	"net/netip"
	"regexp"
	"testing"

	"pgregory.net/rapid"

	"shekara/provisioning/document"
)

var linkPattern = regexp.MustCompile(`^sk-[a-z0-9][a-z0-9-]*$`)

// Names are unique, fit the kernel, and do not change when other devices come, but where two hashes meet.
func TestLinkNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var keys []deviceKey
		for range rapid.IntRange(1, 20).Draw(t, "devices") {
			keys = append(keys, deviceKey{rapid.StringMatching("[a-z]{1,3}").Draw(t, "peer"), rapid.StringMatching("[a-z]([a-z-]{0,8}[a-z])?").Draw(t, "zone"),
				rapid.SampledFrom([]document.Environment{document.Test, document.Production}).Draw(t, "environment"),
				rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "tunnel")})
		}
		names, seen := linkNames(keys), map[string]deviceKey{}
		for key, name := range names {
			if other, twice := seen[name]; twice {
				t.Fatalf("%v and %v are both %s", key, other, name)
			}
			seen[name] = key
			if len(name) > 15 || !linkPattern.MatchString(name) {
				t.Fatalf("%v is called %q", key, name)
			}
			if alone := linkNames([]deviceKey{key})[key]; alone != name {
				t.Fatalf("%v is %s among others, %s alone", key, name, alone)
			}
		}
	})
}

// Enough addresses that hashes of 16 bits meet: still each has its own mark, and always the same.
func TestMarks(t *testing.T) {
	var addresses []netip.Addr
	for i := range 3000 {
		addresses = append(addresses, netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}))
	}
	made, seen, moved := marks(addresses), map[uint32]bool{}, 0
	for _, a := range addresses {
		m := made[a]
		if seen[m] || m&0xffff0000 != markBase {
			t.Fatalf("%s has mark %x", a, m)
		}
		seen[m] = true
		if marks([]netip.Addr{a})[a] != m {
			moved++
		}
	}
	if moved == 0 || moved > 300 {
		t.Errorf("%d of 3000 marks moved: the test must see hashes meet, and only those may move", moved)
	}
	if again := marks(addresses[1:]); fmt.Sprint(again[addresses[5]]) != fmt.Sprint(made[addresses[5]]) {
		t.Error("a mark depends on an address that it does not meet")
	}
}
