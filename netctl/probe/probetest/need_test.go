package probetest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"shekara/netctl/probe"
)

const missing = probe.Feature("tool:no-such-program-anywhere")

func TestRequired(t *testing.T) {
	for list, want := range map[string]bool{
		"": false, "tun": true, "nftables,tun": true, " tun ": true, "nftables": false, "all": true, "all,-tun": false, "all,-nftables": true, "-tun,all": true, "-all": false,
	} {
		if got := required(list, probe.TUN); got != want {
			t.Errorf("%q requires tun: %v", list, got)
		}
	}
}

// TestNeed runs the test below in a process of its own, in which it needs what no host has.
func TestNeed(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for require, outcome := range map[string]string{
		"": "--- SKIP: TestNeedsMissing", "all": "--- FAIL: TestNeedsMissing", string(missing): "--- FAIL: TestNeedsMissing", "all,-" + string(missing): "--- SKIP: TestNeedsMissing",
	} {
		skips := filepath.Join(t.TempDir(), "skips")
		child := exec.Command(self, "-test.v", "-test.run=^TestNeedsMissing$")
		child.Env = append(os.Environ(), "SHEKARA_REQUIRE="+require, "SHEKARA_SKIPS="+skips, "SHEKARA_PROBE_TEST=1")
		out, _ := child.CombinedOutput() // fails where the test does
		if !strings.Contains(string(out), outcome) || !strings.Contains(string(out), string(missing)) {
			t.Errorf("SHEKARA_REQUIRE=%q: want %q\n%s", require, outcome, out)
		}
		text, _ := os.ReadFile(skips) // none where it failed
		if recorded := strings.HasPrefix(string(text), string(missing)+"\tTestNeedsMissing\t"); recorded != strings.Contains(outcome, "SKIP") {
			t.Errorf("SHEKARA_REQUIRE=%q: recorded %q", require, text)
		}
	}
}

func TestNeedsMissing(t *testing.T) {
	if os.Getenv("SHEKARA_PROBE_TEST") == "" {
		t.Log("runs as the child of TestNeed")
		return
	}
	Need(t, probe.Tool("sh"), missing)
	t.Error("goes on")
}

// TestSkipsCanFail: what leaves tests out of a run by time or by a neighbour fails in a run that must be whole.
func TestSkipsCanFail(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ test, require, outcome string }{
		{"TestNeedsTime", "", "--- SKIP"}, {"TestNeedsTime", "all", "--- FAIL"}, {"TestNeedsTime", "all,-time", "--- SKIP"},
		{"TestNeedsIdle", "", "--- SKIP"}, {"TestNeedsIdle", "all", "--- FAIL"}, {"TestNeedsIdle", "time", "--- SKIP"},
	} {
		child := exec.Command(self, "-test.v", "-test.short", "-test.run=^"+c.test+"$")
		child.Env = append(os.Environ(), "SHEKARA_REQUIRE="+c.require, "SHEKARA_SKIPS=", "SHEKARA_PROBE_TEST=1")
		out, _ := child.CombinedOutput() // fails where the test does
		if !strings.Contains(string(out), c.outcome+": "+c.test) || !strings.Contains(string(out), "the reason") {
			t.Errorf("SHEKARA_REQUIRE=%q: want %s\n%s", c.require, c.outcome, out)
		}
	}
}

func TestNeedsTime(t *testing.T) {
	if os.Getenv("SHEKARA_PROBE_TEST") != "" {
		NeedTime(t, "the reason")
		t.Error("goes on")
	}
}

func TestNeedsIdle(t *testing.T) {
	if os.Getenv("SHEKARA_PROBE_TEST") != "" {
		NeedIdle(t, errors.New("the reason"))
		t.Error("goes on")
	}
}
