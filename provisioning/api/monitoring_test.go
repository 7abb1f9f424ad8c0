package api_test

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
	"shekara/provisioning/api"
)

const monitoring = "../../docs/monitoring/prometheus"

func metricNames(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, name := range regexp.MustCompile(`\b(shekara|wireguard)(_[a-z]+)+\b`).FindAllString(string(text), -1) {
		names[name] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// TestMonitoringAsksForWhatThereIs: rules, dashboard and reference name the metrics that are served, and no others.
func TestMonitoringAsksForWhatThereIs(t *testing.T) {
	served := api.MetricNames(t)
	for _, file := range []string{"shekara.rules.yaml", "shekara.test.yaml", "dashboard.json"} {
		names := metricNames(t, filepath.Join(monitoring, file))
		if len(names) < 15 {
			t.Errorf("%s names %d metrics", file, len(names))
		}
		for _, name := range names {
			if !slices.Contains(served, name) {
				t.Errorf("%s asks for %s, which is not served", file, name)
			}
		}
	}
	documented := metricNames(t, "../../docs/api.md")
	if diff := cmp.Diff(served, documented); diff != "" {
		t.Errorf("docs/api.md (+) and what is served (-):\n%s", diff)
	}
}

func TestDashboardIsWhole(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(monitoring, "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			ID      int
			Type    string
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	ids, places := map[int]bool{}, map[[2]int]string{}
	for _, p := range dashboard.Panels {
		if ids[p.ID] || p.Title == "" {
			t.Errorf("panel %d, %q", p.ID, p.Title)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if under := places[[2]int{x, y}]; under != "" || x >= 24 {
					t.Fatalf("%q lies over %q", p.Title, under)
				}
				places[[2]int{x, y}] = p.Title
			}
		}
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("%q asks for nothing", p.Title)
		}
	}
}

// TestAlertRules: promtool takes the rules; each speaks up when it must, and none while all is well.
func TestAlertRules(t *testing.T) {
	probetest.Need(t, probe.Tool("promtool"))
	for _, args := range [][]string{{"check", "rules", "shekara.rules.yaml"}, {"test", "rules", "shekara.test.yaml"}} {
		command := exec.CommandContext(t.Context(), "promtool", args...)
		command.Dir = monitoring
		if out, err := command.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	rules, err := os.ReadFile(filepath.Join(monitoring, "shekara.rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile(filepath.Join(monitoring, "shekara.test.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range regexp.MustCompile(`alert: ([A-Za-z]+)`).FindAllStringSubmatch(string(rules), -1) {
		if !strings.Contains(string(tests), `alertname="`+found[1]+`"`) {
			t.Errorf("no test of %s", found[1])
		}
	}
}
