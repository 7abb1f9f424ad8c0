package validate_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"shekara/provisioning/contour/contourtest"
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

// contours is a set in which the contour rules have something to say.
func contours(t testing.TB) *document.Set {
	t.Helper()
	for _, c := range contourtest.Cases() {
		if c.Rule == "GWY-05" && c.Name == "waived" {
			_, mended := c.Texts(t)
			return contourtest.Set(t, mended)
		}
	}
	t.Fatal("there is no such case")
	return nil
}

// After any change of a valid set, the affected documents have every problem that there is.
func TestScopedFindsWhatFullFinds(t *testing.T) {
	t.Run("plain", func(t *testing.T) { scopedFindsWhatFullFinds(t, validSet(t), "owner") })
	t.Run("contours", func(t *testing.T) { scopedFindsWhatFullFinds(t, contours(t), "gateway") })
}

func scopedFindsWhatFullFinds(t *testing.T, start *document.Set, site string) {
	valid, invalid, unlawful := 0, 0, 0
	seen := func() bool { return valid > 0 && invalid > 0 && (site != "gateway" || unlawful > 0) }
	for round := 0; round == 0 || round < 50 && !seen() && !t.Failed(); round++ { // once is enough but for bad luck
		rapid.Check(t, func(t *rapid.T) {
			set := start
			options := validate.Options{Site: rapid.SampledFrom([]string{"", site}).Draw(t, "site"), Day: dayOfCases}
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
					if strings.Contains(full[0].Hint, ", paragraph ") {
						unlawful++
					}
					continue
				}
				valid++
				set = after
			}
		})
	}
	if valid == 0 || invalid == 0 {
		t.Errorf("%d valid and %d invalid changes: the test must see both", valid, invalid)
	}
	if site == "gateway" && unlawful == 0 {
		t.Error("no change broke a contour rule")
	}
	t.Logf("%d changes gave a valid set, %d an invalid one, %d of them against a contour rule", valid, invalid, unlawful)
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
