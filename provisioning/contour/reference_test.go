package contour_test

import (
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shekara/provisioning/contour"
)

//go:generate go test -run TestReferenceIsUpToDate -update

var update = flag.Bool("update", false, "write docs/contours.md anew")

func TestReferenceIsUpToDate(t *testing.T) {
	const path = "../../docs/contours.md"
	if *update {
		if err := os.WriteFile(path, []byte(contour.Reference()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(have), "\n"), strings.Split(contour.Reference(), "\n")); diff != "" {
		t.Errorf("%s is stale: go generate ./provisioning/contour (-have +want):\n%s", path, diff)
	}
}

func TestEveryRowIsWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range contour.Rules {
		if r.ID == "" || seen[r.ID] || r.Act == "" || r.Paragraph == "" || r.What == "" || (r.Mend == "") == (r.Kept == "") {
			t.Errorf("%+v", r)
		}
		seen[r.ID] = true
	}
}

// CRY-02: class and level run in opposite directions.
func TestRequiredLevel(t *testing.T) {
	for class, want := range map[int]int{1: 3, 2: 2, 3: 1} {
		if got := contour.RequiredLevel(class); got != want {
			t.Errorf("class %d: level %d, want %d", class, got, want)
		}
	}
}

// Days change at midnight in Almaty: at UTC+5 since 1 March 2024, at UTC+6 before.
func TestDay(t *testing.T) {
	for moment, want := range map[string]string{
		"2026-12-31T18:59:59Z": "2026-12-31", "2026-12-31T19:00:00Z": "2027-01-01",
		"2024-02-01T17:59:59Z": "2024-02-01", "2024-02-01T18:00:00Z": "2024-02-02",
	} {
		at, err := time.Parse(time.RFC3339, moment)
		if err != nil {
			t.Fatal(err)
		}
		if got := contour.Day(at); got != want {
			t.Errorf("%s: %s, want %s", moment, got, want)
		}
	}
}
