package nft_test

import (
	"os"
	"path/filepath"
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
