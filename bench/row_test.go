package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRowsAreWrittenAndPrinted(t *testing.T) {
	rows := []row{
		newRow("met", 10, "s", []float64{1, 3, 2}).against("peer", []float64{4}).should("ratio <= 1", true),
		newRow("missed", 10, "s", []float64{9}).should("<= 5 s", false),
		paired("unsure", "ms", []float64{1, 2}, []float64{2, 2}, "peer"),
	}
	rows[2].Target = "ratio >= 1"
	folder := t.TempDir()
	if err := write(folder, "tunnels", rows, machine{Cores: 2}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(folder, "tunnels.json"))
	if err != nil {
		t.Fatal(err)
	}
	var read []map[string]any
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"name", "n", "unit", "ours", "peer", "peer_name", "ratio", "target", "ok", "runs"} {
		if _, there := read[0][name]; !there {
			t.Errorf("a row has no %q", name)
		}
	}
	if read[0]["ours"] != 2.0 || read[0]["ratio"] != 0.5 || read[0]["ok"] != true || read[1]["peer"] != nil || read[1]["ok"] != false || read[2]["ok"] != nil {
		t.Errorf("rows are written as %s", text)
	}
	var table bytes.Buffer
	if err := printTable(&table, rows, machine{}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(table.String(), "\n")
	for i, verdict := range []string{"met", "MISSED", "inconclusive"} {
		if !strings.Contains(lines[i+1], verdict) {
			t.Errorf("line %q does not say %s", lines[i+1], verdict)
		}
	}
}

func TestTargetsOfThroughput(t *testing.T) {
	steady := func(value float64, rounds int) *path {
		p := &path{}
		for i := range rounds {
			p.speed, p.delay = append(p.speed, value+float64(i%2)/1000), append(p.delay, 1)
		}
		return p
	}
	noisy := steady(100, targetRounds)
	for i := range noisy.speed {
		noisy.speed[i] *= 1 + float64(i%5)/10
	}
	for _, c := range []struct {
		name                string
		ours, bare, control *path
		want                string
	}{
		{"as fast", steady(100, 40), steady(100, 40), steady(100, 40), "met"},
		{"too slow", steady(90, 40), steady(100, 40), steady(100, 40), "MISSED"},
		{"noise", steady(100, 40), steady(100, 40), noisy, "inconclusive"},
		{"too few rounds", steady(100, 4), steady(100, 4), steady(100, 4), "inconclusive"},
	} {
		if got := throughputRows(c.ours, c.bare, c.control)[0].verdict(); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestFlags(t *testing.T) {
	bin := t.TempDir()
	for _, program := range []string{"shekarad", "shekara"} {
		if err := os.WriteFile(filepath.Join(bin, program), nil, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	b, err := parse([]string{"-bin", bin, "-n", "10,20", "-only", "apply"}, os.Stderr)
	if err != nil || len(b.sizes) != 2 || b.sizes[1] != 20 || len(b.only) != 1 {
		t.Errorf("flags are read as %+v, %v", b, err)
	}
	for _, wrong := range [][]string{{"-area", "moon"}, {"-n", "few"}, {"-n", "0"}, {"-runs", "0"}, {"-bin", t.TempDir()}, {"-only", "moon"}, {"word"}} {
		if _, err := parse(append([]string{"-bin", bin}, wrong...), os.Stderr); err == nil {
			t.Errorf("%q is not refused", wrong)
		}
	}
}
