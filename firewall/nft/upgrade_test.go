package nft_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"shekara/firewall"
	"shekara/firewall/firewalltest"
	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
)

// TestOlderTableIsKept: a table of a version that knew no limits is swapped like any other. Its hooked chains stay where they are, as their handles
// show; so no packet meets a moment without them.
func TestOlderTableIsKept(t *testing.T) {
	probetest.Need(t, probe.NFTables)
	host := nstest.Host(t, "box")
	rules, err := firewall.Compile(firewalltest.RigPolicy())
	if err != nil {
		t.Fatal(err)
	}
	text, err := rules.Text(1)
	if err != nil {
		t.Fatal(err)
	}
	start := strings.Index(text, "\tchain limited_open {")
	end := strings.Index(text[start:], "counter ") + start
	if start < 0 || !strings.Contains(text[start:end], "\tchain limited {") {
		t.Fatalf("no chains of limits in\n%s", text)
	}
	file := filepath.Join(t.TempDir(), "older.nft")
	if err := os.WriteFile(file, []byte(text[:start]+text[end:]), 0o600); err != nil {
		t.Fatal(err)
	}
	host.Run("nft", "-f", file)
	handle := func() string {
		for line := range strings.Lines(host.Run("nft", "-a", "list", "chain", "inet", "shekara", "forward")) {
			if strings.Contains(line, "chain forward {") {
				return line
			}
		}
		t.Fatal("no chain forward")
		return ""
	}
	before := handle()
	in := open(t, host)
	firewalltest.Load(t, in, firewalltest.RigPolicy())
	if after := handle(); after != before {
		t.Errorf("the chain was replaced: %q, then %q", before, after)
	}
	if seen, err := in.Observe(t.Context()); err != nil || !seen.Present || len(seen.Drift) > 0 {
		t.Errorf("%+v, %v", seen, err)
	}
}

// TestLeftBehind: a daemon that is killed when it has loaded a ruleset and has not yet deleted what only the old one needed leaves unused chains and maps
// behind. The next one finds them, and its load takes them away.
func TestLeftBehind(t *testing.T) {
	probetest.Need(t, probe.NFTables)
	host := nstest.Host(t, "box")
	firewalltest.Load(t, open(t, host), firewalltest.RigPolicy())
	host.Run("nft", "add chain inet shekara source_device_sk-old { accept; }; add map inet shekara source.0123456789ab { type ifname : verdict; size 1; elements = { sk-old : goto source_device_sk-old }; }")
	rules, err := firewall.Compile(firewalltest.RigPolicy())
	if err != nil {
		t.Fatal(err)
	}
	in := open(t, host)
	drift, err := in.Matches(t.Context(), rules)
	if want := []string{"chain source_device_sk-old added", "map source.0123456789ab added", `set source.0123456789ab: element "sk-old" : goto source_device_sk-old added`}; err != nil || !slices.Equal(drift, want) {
		t.Errorf("differs by %q, %v; want %q", drift, err, want)
	}
	firewalltest.Load(t, in, firewalltest.RigPolicy())
	if left := host.Run("nft", "list", "table", "inet", "shekara"); strings.Contains(left, "sk-old") {
		t.Errorf("still there:\n%s", left)
	}
	if seen, err := in.Observe(t.Context()); err != nil || !seen.Present || len(seen.Drift) > 0 {
		t.Errorf("%+v, %v", seen, err)
	}
}

// TestMapOfOthers: who takes an entry out of a map is seen, and it is put back with no chain replaced.
func TestMapOfOthers(t *testing.T) {
	probetest.Need(t, probe.NFTables)
	host := nstest.Host(t, "box")
	in := open(t, host)
	firewalltest.Load(t, in, firewalltest.RigPolicy())
	before := host.Run("nft", "-a", "-s", "list", "table", "inet", "shekara")
	start := strings.Index(before, "map source.")
	name, _, _ := strings.Cut(before[max(start, 0)+len("map "):], " {")
	if start < 0 || !firewall.IsLookup(name) {
		t.Fatalf("no map named source in\n%s", before)
	}
	host.Run("nft", "delete", "element", "inet", "shekara", name, "{ sk-a }")
	if seen, err := in.Observe(t.Context()); err != nil || len(seen.Drift) != 1 || !strings.Contains(seen.Drift[0], name) {
		t.Errorf("%+v, %v", seen, err)
	}
	firewalltest.Load(t, in, firewalltest.RigPolicy())
	if seen, err := in.Observe(t.Context()); err != nil || !seen.Present || len(seen.Drift) > 0 {
		t.Errorf("%+v, %v", seen, err)
	}
	after := host.Run("nft", "-a", "-s", "list", "table", "inet", "shekara")
	for line := range strings.Lines(before) {
		if strings.HasPrefix(line, "\tchain ") && !strings.Contains(after, line) {
			t.Errorf("replaced: %s", line)
		}
	}
}
