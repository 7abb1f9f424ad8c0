package main

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
)

// TestManPages: mandoc has nothing to say against them.
func TestManPages(t *testing.T) {
	dir := t.TempDir()
	if code := run(t.Context(), []string{"man", dir}, strings.NewReader(""), io.Discard, io.Discard); code != 0 {
		t.Fatalf("shekara man answered %d", code)
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*.8"))
	if err != nil || len(pages) < 20 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	apply, err := os.ReadFile(filepath.Join(dir, "shekara-apply.8"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{".It Fl m , Fl -message Ar string\n", ".Nm shekara apply\n", "(default /run/shekara)", ".Xr shekara 8"} {
		if !strings.Contains(string(apply), want) {
			t.Errorf("shekara-apply.8 lacks %q:\n%s", want, apply)
		}
	}
	probetest.Need(t, probe.Tool("mandoc"))
	out, err := exec.Command("mandoc", append([]string{"-Tlint"}, pages...)...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if !strings.Contains(line, "referenced manual not found") { // they are not installed
			t.Error(strings.TrimSpace(line))
		}
	}
}
