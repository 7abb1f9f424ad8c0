package journal

import (
	"context"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write docs/events.md")

func TestReferenceIsCurrent(t *testing.T) {
	const path = "../docs/events.md"
	if *update {
		if err := os.WriteFile(path, []byte(Reference()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil || string(text) != Reference() {
		t.Errorf("%s is not what the catalogue says: run go test ./journal -update (%v)", path, err)
	}
}

func TestCatalogueIsWhole(t *testing.T) {
	source, err := os.ReadFile("event.go")
	if err != nil {
		t.Fatal(err)
	}
	if declared := strings.Count(string(source), "Type = \""); declared != len(Catalogue()) {
		t.Errorf("event.go declares %d types, the catalogue has %d", declared, len(Catalogue()))
	}
	seen, nouns, last := map[Type]bool{}, map[string]bool{}, Type("")
	for _, e := range Catalogue() {
		before, _, _ := strings.Cut(string(last), ".")
		noun, _, is := strings.Cut(string(e.Type), ".")
		if seen[e.Type] || !is || noun != before && nouns[noun] {
			t.Errorf("%s is there twice, has no verb, or stands apart from others of its noun", e.Type)
		}
		seen[e.Type], nouns[noun], last = true, true, e.Type
		if !strings.HasSuffix(e.Meaning, ".") || !strings.HasSuffix(e.Do, ".") || strings.Contains(e.Meaning+e.Do, "\n") {
			t.Errorf("%s: meaning and what to do are sentences: %q, %q", e.Type, e.Meaning, e.Do)
		}
		if distinct := slices.Compact(slices.Sorted(slices.Values(e.Severities))); len(distinct) == 0 || len(distinct) != len(e.Severities) {
			t.Errorf("%s: severities %v", e.Type, e.Severities)
		}
		names := map[string]bool{}
		for _, f := range e.Fields {
			if names[f.Name] || f.Meaning == "" || strings.ContainsAny(f.Meaning, "|\n") {
				t.Errorf("%s: field %+v", e.Type, f)
			}
			names[f.Name] = true
		}
	}
}

// TestUndeclared: what an event is otherwise than its entry says is found.
func TestUndeclared(t *testing.T) {
	good := Event{Type: JournalFull, Severity: Alert, Fields: map[string]string{"since": "", "reserve": "0", "hint": ""}}
	for _, c := range []struct {
		change func(*Event)
		want   []string
	}{
		{func(*Event) {}, nil},
		{func(e *Event) { e.Type = "journal.burn" }, []string{"its type journal.burn"}},
		{func(e *Event) { e.Severity = Error }, []string{`journal.full: severity "error"`}},
		{func(e *Event) { e.Fields = map[string]string{"since": "", "reserves": "0", "hint": ""} }, []string{`journal.full: no field "reserve", which is always there`, `journal.full: field "reserves"`}},
		{func(e *Event) { *e = Event{Type: TunnelFail, Severity: Error} }, nil}, // its field is not always there
	} {
		e := good
		c.change(&e)
		if diff := cmp.Diff(c.want, Undeclared(e)); diff != "" {
			t.Error(diff)
		}
	}
}

// holdOwn holds what the journal in a folder says of itself to the catalogue.
func holdOwn(t testing.TB, dir string) {
	t.Helper()
	_ = eachLine(context.Background(), dir, 1, func(e Event, _ []byte) bool { // a test may have left it as it cannot be read to the end
		declared(t, e)
		return true
	})
}

// declared holds an event that the journal made of itself to the catalogue. Others in these tests are made up.
func declared(t testing.TB, e Event) {
	t.Helper()
	noun, _, _ := strings.Cut(string(e.Type), ".")
	if is := Undeclared(e); len(is) > 0 && (noun == "journal" || noun == "key") {
		t.Errorf("the catalogue does not declare %q: %+v", is, e)
	}
}
