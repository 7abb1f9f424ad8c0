package probe_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"shekara/netctl/probe"
)

func TestHas(t *testing.T) {
	if err := probe.Has(probe.Tool("sh")); err != nil {
		t.Errorf("sh: %v", err)
	}
	for _, feature := range []probe.Feature{probe.Tool("no-such-program-anywhere"), "no-such-feature"} {
		var missing *probe.Missing
		if err := probe.Has(feature); !errors.As(err, &missing) || missing.Feature != feature {
			t.Errorf("%s: %v", feature, err)
		}
	}
	if got := probe.Has(probe.Root) == nil; got && os.Geteuid() != 0 {
		t.Error("another user is root")
	}
}

// TestLeavesNothing asks everything and compares the host before and after.
func TestLeavesNothing(t *testing.T) {
	look := func() (links, files []string) {
		links, _ = filepath.Glob("/sys/class/net/probe*")
		files, _ = filepath.Glob("/proc/self/fd/*")
		return links, files
	}
	_ = probe.Has(probe.TUN) // the runtime opens its poller with the first
	_, before := look()
	for _, feature := range []probe.Feature{probe.Root, probe.Namespaces, probe.TUN, probe.KernelWireGuard, probe.NFTables, probe.Conntrack, probe.RawICMP, probe.Terminal, probe.QEMU} {
		t.Logf("%s: %v", feature, probe.Has(feature))
	}
	links, after := look()
	if len(links) != 0 {
		t.Errorf("left links %v", links)
	}
	if len(after) > len(before)+2 { // Glob itself, and a pidfd of os/exec that is just being closed
		t.Errorf("%d files open, %d before", len(after), len(before))
	}
}
