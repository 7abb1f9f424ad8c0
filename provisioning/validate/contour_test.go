package validate_test

import (
	"strings"
	"testing"
	"time"

	"shekara/provisioning/contour"
	"shekara/provisioning/contour/contourtest"
	"shekara/provisioning/document"
	"shekara/provisioning/validate"
)

const dayOfCases = "2026-11-24"

func TestEachContourRuleBrokenAlone(t *testing.T) {
	tried := map[string]bool{}
	for _, c := range contourtest.Cases() {
		tried[c.Rule] = true
		t.Run(c.Rule+" "+c.Name, func(t *testing.T) {
			broken, mended := c.Texts(t)
			options := validate.Options{Site: "gateway", Day: dayOfCases}
			problems := validate.Check(contourtest.Set(t, broken), options)
			if len(problems) != 1 {
				t.Fatalf("%d problems, want one:\n%v", len(problems), problems)
			}
			p := problems[0]
			if p.Rule != c.Rule || p.Value != c.Value {
				t.Errorf("got %s (rule %s), want rule %s, value %q", p, p.Rule, c.Rule, c.Value)
			}
			if line := strings.Split(broken, "\n")[p.Position.Line-1]; !strings.Contains(line, c.Value) {
				t.Errorf("%q is not on line %d: %s", c.Value, p.Position.Line, line)
			}
			if rule := row(t, c.Rule); !strings.Contains(p.String(), rule.Act+", paragraph "+rule.Paragraph) || !strings.Contains(p.Hint, rule.Mend) {
				t.Errorf("neither paragraph nor next step: %s", p)
			}
			if problems := validate.Check(contourtest.Set(t, mended), options); len(problems) > 0 {
				t.Errorf("mended, but:\n%v", problems)
			}
		})
	}
	for _, r := range contour.Rules {
		if tried[r.ID] == (r.Kept != "") {
			t.Errorf("%s: broken by a case: %t; kept whatever a document says: %q", r.ID, tried[r.ID], r.Kept)
		}
	}
}

func row(t *testing.T, id string) contour.Rule {
	for _, r := range contour.Rules {
		if r.ID == id {
			return r
		}
	}
	t.Fatalf("there is no rule %s", id)
	return contour.Rule{}
}

// A waiver holds to the end of its last day in Almaty, and lets no rule pass that allows none.
func TestWaiver(t *testing.T) {
	for _, c := range contourtest.Cases() {
		if c.Rule != "GWY-05" || c.Name != "waived" {
			continue
		}
		_, text := c.Texts(t)
		last := time.Date(2040, 5, 31, 18, 59, 59, 0, time.UTC) // 23:59:59 in Almaty
		for moment, want := range map[time.Time]int{last: 0, last.Add(time.Second): 1} {
			o := validate.Options{Day: contour.Day(moment)}
			problems := validate.Check(contourtest.Set(t, text), o)
			if len(problems) != want {
				t.Errorf("at %s: %v", moment, problems)
			}
			if want == 1 && (problems[0].Rule != "GWY-05" || problems[0].Value != "2040-05-31" || !strings.Contains(problems[0].Hint, "the waiver expired with 2040-05-31")) {
				t.Errorf("at %s: %s", moment, problems[0])
			}
			waived := validate.Waived(contourtest.Set(t, text), o)
			if len(waived) != 1-want || want == 0 && !strings.Contains(waived[0], "flow added breaks GWY-05 by a waiver of head of security until 2040-05-31: the old line goes in May") {
				t.Errorf("at %s: waived %q", moment, waived)
			}
		}
	}
	for _, c := range contourtest.Cases() {
		broken, _ := c.Texts(t)
		set := contourtest.Set(t, broken)
		problems := validate.Check(set, validate.Options{Day: dayOfCases})
		if len(problems) != 1 || problems[0].Kind != document.KindFlow {
			continue
		}
		flow := *set.Flow(problems[0].Name)
		flow.Waiver = &document.Waiver{Reason: "r", Approver: "a", Expires: "2030-01-01"}
		made, err := document.New(problems[0].Name, &flow)
		if err != nil {
			t.Fatal(err)
		}
		waived, _ := set.Merge([]*document.Document{made})
		if left := validate.Check(waived, validate.Options{Day: dayOfCases}); (len(left) == 0) != row(t, c.Rule).Waivable {
			t.Errorf("%s %s with a waiver: %v", c.Rule, c.Name, left)
		}
	}
}
