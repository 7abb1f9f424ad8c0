package validate_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"shekara/provisioning/document"
	"shekara/provisioning/document/documenttest"
	"shekara/provisioning/validate"
)

func validSet(t testing.TB) *document.Set {
	t.Helper()
	documents, problems := document.Decode([]document.File{{Name: "valid.yaml", Data: []byte(validText(t))}})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return document.NewSet(documents...)
}

// After any change of a valid set, the affected documents have every problem that there is.
func TestScopedFindsWhatFullFinds(t *testing.T) {
	start := validSet(t)
	valid, invalid := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		set := start
		options := validate.Options{Site: rapid.SampledFrom([]string{"", "owner"}).Draw(t, "site")}
		for range rapid.IntRange(1, 8).Draw(t, "edits") {
			after, changes := documenttest.Mutate(t, set)
			full := validate.Check(after, options)
			options.Scope = after.Affected(changes)
			scoped := validate.Check(after, options)
			options.Scope = nil
			if diff := cmp.Diff(full, scoped); diff != "" {
				t.Fatalf("changes %v, affected %v (-full +scoped):\n%s", changes, after.Affected(changes), diff)
			}
			if len(full) > 0 {
				invalid++
				continue
			}
			valid++
			set = after
		}
	})
	if valid == 0 || invalid == 0 {
		t.Errorf("%d valid and %d invalid changes: the test must see both", valid, invalid)
	}
	t.Logf("%d changes gave a valid set, %d an invalid one", valid, invalid)
}

func TestNoScopeChecksNothing(t *testing.T) {
	set, _ := validSet(t).Without(document.Ref{Kind: document.KindZone, Name: "dmz"})
	if p := validate.Check(set, validate.Options{Scope: []document.Ref{}}); len(p) > 0 {
		t.Errorf("empty scope: %v", p)
	}
	if p := validate.Check(set, validate.Options{}); len(p) == 0 {
		t.Error("control: no problem without the zone")
	}
}
