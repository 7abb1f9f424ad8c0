package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestCommandLineTable: docs/command-line.md has every command, and each exit code and kind in it is what the command answers.
func TestCommandLineTable(t *testing.T) {
	documented := commandTable(t)
	dir := t.TempDir()
	for name, text := range map[string]string{"one.yaml": "kind: Zone\n", "two.yaml": "kind: Flow\n", "failing.yaml": "failing\n", "hole.yaml": "hole\n",
		"zone.yaml":     "apiVersion: shekara/v1\nkind: Zone\nmetadata: {name: a}\nspec: {contour: external, kind: internet}\n",
		"psk":           "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=\n",
		"empty/nothing": ""} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	running, err := os.MkdirTemp("", "sk") // a unix socket's path holds 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(running)
	if err := os.Symlink(filepath.Join(running, "journal"), "journal"); err != nil {
		t.Fatal(err)
	}
	stop, err := serveMemory(running, true, 1000)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}()
	answered := map[string]map[int]bool{}
	for _, c := range commandCases(timeServer(t)) {
		verb, rest, _ := strings.Cut(c.words, " / ")
		ctx, interrupt := context.WithCancel(t.Context())
		out := &interrupting{after: c.interruptAfter, interrupt: interrupt}
		args := append([]string{"--run-dir", running}, strings.Fields(verb+" "+rest)...)
		if verb == "testbed" {
			args = args[2:] // it gets its words unread
		}
		var problems strings.Builder
		code := run(ctx, args, strings.NewReader(""), out, &problems)
		interrupt()
		if code != c.code {
			t.Errorf("shekara %s %s = %d, want %d\n%s%s", verb, rest, code, c.code, &out.text, &problems)
		}
		if answered[verb] == nil {
			answered[verb] = map[int]bool{}
		}
		answered[verb][code] = true
		if strings.Contains(rest, "--json") && code != 1 {
			var object struct{ APIVersion, Kind string }
			if err := json.Unmarshal([]byte(out.text.String()), &object); err != nil || object.APIVersion != "shekara/v1" || !strings.Contains(documented[verb].kind, "`"+object.Kind+"`") {
				t.Errorf("shekara %s %s prints %s of %s, %v; the table says %s", verb, rest, object.Kind, object.APIVersion, err, documented[verb].kind)
			}
		}
	}
	for verb, row := range documented {
		if got := slices.Sorted(maps.Keys(answered[verb])); !slices.Equal(got, row.codes) {
			t.Errorf("shekara %s answered %v, the table says %v", verb, got, row.codes)
		}
	}
	leaves := commandLeaves(commands(newTerminal(strings.NewReader(""), io.Discard, io.Discard, false)))
	for verb, c := range leaves {
		row, found := documented[verb]
		if !found {
			t.Errorf("docs/command-line.md lacks shekara %s", verb)
		}
		if flag := c.Flags().Lookup("json"); (flag != nil) != (row.kind != "") {
			t.Errorf("shekara %s: the table says %q of --json, the flag is %v", verb, row.kind, flag)
		}
	}
	if len(documented) != len(leaves) {
		t.Errorf("the table has %d commands, the program %d", len(documented), len(leaves))
	}
}

type commandRow struct {
	codes []int
	kind  string
}

func commandTable(t *testing.T) map[string]commandRow {
	t.Helper()
	text, err := os.ReadFile("../../docs/command-line.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]commandRow{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 || !strings.HasPrefix(cells[1], " `shekara ") {
			continue
		}
		row := commandRow{kind: strings.TrimSpace(cells[3])}
		for _, code := range regexp.MustCompile(`(?:^|[;:.] )\s*([0-9]+) `).FindAllStringSubmatch(cells[2], -1) {
			var n int
			fmt.Sscan(code[1], &n)
			if !slices.Contains(row.codes, n) {
				row.codes = append(row.codes, n)
			}
		}
		slices.Sort(row.codes)
		rows[strings.Trim(strings.TrimPrefix(cells[1], " `shekara "), " `")] = row
	}
	return rows
}

// commandLeaves are the commands that do something.
func commandLeaves(c *cobra.Command) map[string]*cobra.Command {
	leaves := map[string]*cobra.Command{}
	for _, child := range c.Commands() {
		if child.HasAvailableSubCommands() {
			maps.Copy(leaves, commandLeaves(child))
		} else if child.Name() != "help" {
			leaves[strings.TrimPrefix(child.CommandPath(), "shekara ")] = child
		}
	}
	return leaves
}

type commandCase struct {
	words          string // verb / arguments
	code           int
	interruptAfter string // once it has printed this
}

// commandCases are in the order of a day: later ones rest on what earlier ones did.
// commandCases are run in turn. clock is the address of a time server.
func commandCases(clock string) []commandCase {
	return []commandCase{
		{words: "init / made --site owner"}, {words: "init / made --site owner", code: 1},
		{words: "validate / zone.yaml --json"}, {words: "validate / one.yaml", code: 1}, {words: "validate / empty", code: 2},
		{words: "plan / one.yaml --json", code: 2}, {words: "plan / nowhere.yaml", code: 1},
		{words: "status / --check ready", code: 1}, {words: "status / --check live"}, {words: "status / --json"},
		{words: "confirm", code: 1},
		{words: "verify / --json", code: 3},
		{words: "apply / one.yaml --yes --json"}, {words: "apply / two.yaml", code: 1}, {words: "plan / one.yaml"},
		{words: "apply / two.yaml --yes --confirm-within 5m"}, {words: "confirm / --json"},
		{words: "apply / failing.yaml --yes", code: 3}, {words: "rollback / 1 --json"}, {words: "rollback / 3", code: 3}, {words: "rollback / 99", code: 1},
		{words: "history / --json"}, {words: "history / 1", code: 1},
		{words: "compare / 1 2 --json"}, {words: "compare / 99", code: 1},
		{words: "tunnel list / --json"}, {words: "tunnel list / --state frob", code: 1},
		{words: "tunnel show / agency-a --json"}, {words: "tunnel show / nobody", code: 1},
		{words: "tunnel watch", interruptAfter: "agency-a"}, {words: "tunnel watch / --run-dir nowhere", code: 1},
		{words: "flows / agency-* --sort bytes --json"}, {words: "flows / --sort frob", code: 1}, {words: "incidents / --json"}, {words: "incidents / scan", code: 1},
		{words: "explain / 10.64.1.5 10.20.0.10 tcp/443 --json"}, {words: "explain / 10.64.1.5 10.20.0.10 tcp/80 --json", code: 2}, {words: "explain / 10.64.1.5 nowhere", code: 1},
		{words: "matrix / --json"}, {words: "matrix / --file nowhere.yaml", code: 1},
		{words: "time status / --json"}, {words: "time status / now", code: 1}, {words: "time clients / --json"}, {words: "time clients / all", code: 1},
		{words: "verify / --json"}, {words: "apply / hole.yaml --yes", code: 3}, {words: "verify / --trace", code: 2}, {words: "verify / --run-dir nowhere", code: 1}, {words: "time status / --json", code: 3},
		{words: "journal list / --json"}, {words: "journal list / --limit 0", code: 1},
		{words: "journal key"}, {words: "journal key / --run-dir nowhere", code: 1},
		{words: "journal checkpoint"}, {words: "journal checkpoint / --run-dir nowhere", code: 1},
		{words: "journal stats / --json"}, {words: "journal stats / --run-dir nowhere", code: 1},
		{words: "journal rotate-key / --json"}, {words: "journal rotate-key / --lost", code: 1},
		{words: "journal prove / 7"}, {words: "journal prove / 0", code: 1},
		{words: "journal export / journal --tunnel agency-a"}, {words: "journal export / journal --tunnel absent", code: 1},
		{words: "journal verify / empty --key " + auditKey + " --json"}, {words: "journal verify / absent --key " + auditKey, code: 1},
		{words: "journal tail / -n 2000", interruptAfter: "drift.find"}, {words: "journal tail / --run-dir nowhere", code: 1},
		{words: "metrics"}, {words: "metrics / --run-dir nowhere", code: 1},
		{words: "peer export"}, {words: "peer export / --run-dir nowhere", code: 1},
		{words: "secret new / agency"}, {words: "secret new / agency", code: 1},
		{words: "secret list / --json"}, {words: "secret list / x", code: 1},
		{words: "secret import / other psk"}, {words: "secret import / third -", code: 1},
		{words: "secret export / agency --to age1box"}, {words: "secret export / agency", code: 1},
		{words: "hold / 30m"}, {words: "hold / --end"}, {words: "hold / long", code: 1},
		{words: "time check / " + clock + " --json"}, {words: "time check / " + clock + " --key nowhere:1", code: 1},
		{words: "completion / bash"}, {words: "completion / tcsh", code: 1},
		{words: "man / ."}, {words: "man / nowhere", code: 1},
		{words: "version"}, {words: "version / x", code: 1},
		{words: "testbed / list"}, {words: "testbed / run no-such-scenario", code: 1}, {words: "testbed / frob", code: 2},
	}
}

// interrupting collects what is printed, and interrupts once it has seen what it waits for.
type interrupting struct {
	text      strings.Builder
	after     string
	interrupt func()
}

func (w *interrupting) Write(p []byte) (int, error) {
	n, err := w.text.Write(p)
	if w.after != "" && strings.Contains(w.text.String(), w.after) {
		w.interrupt()
	}
	return n, err
}

// TestReadmeIsTrue: every link of the README and the guides leads somewhere, and every make target that is named is one.
func TestReadmeIsTrue(t *testing.T) {
	const root = "../.."
	guides, err := filepath.Glob(root + "/docs/*.md")
	if err != nil || len(guides) < 5 {
		t.Fatalf("guides are %v, %v", guides, err)
	}
	makefile, err := os.ReadFile(root + "/Makefile")
	if err != nil {
		t.Fatal(err)
	}
	targets := 0
	for _, path := range append(guides, root+"/README.md") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range regexp.MustCompile(`\]\(([^)#]+)[^)]*\)`).FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), link[1])); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
		for _, target := range regexp.MustCompile("(?m)(?:^|`)(?:sudo )?make ([a-z-]+)").FindAllStringSubmatch(string(text), -1) {
			targets++
			if !regexp.MustCompile(`(?m)^([a-z -]+ )?` + target[1] + `( [a-z -]+)?:`).Match(makefile) {
				t.Errorf("%s: make %s is no target", path, target[1])
			}
		}
	}
	if targets < 6 {
		t.Errorf("%d make targets are named, want those of the README", targets)
	}
	if _, err := exec.LookPath("make"); err == nil {
		if out, err := exec.Command("make", "-C", root, "-n", "demo", "test").CombinedOutput(); err != nil {
			t.Errorf("make -n demo test: %v\n%s", err, out)
		}
	}
}
