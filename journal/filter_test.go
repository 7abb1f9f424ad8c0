package journal

import (
	"testing"
	"time"
)

// TestFilter: each condition chooses, and leaves out; all that are given must hold.
func TestFilter(t *testing.T) {
	at := time.Date(2026, 11, 26, 2, 0, 0, 0, time.UTC)
	e := Event{Type: DriftFind, Severity: Warning, Object: "tunnel/agency-a", Message: "The filter differs", Time: at, Actor: Actor{User: "Aigerim"},
		Systems: []string{"registry", "tax"}, Fields: map[string]string{"by": "nft (process 7)"}}
	for name, c := range map[string]struct{ yes, no Filter }{
		"type":     {Filter{Types: []Type{PlanMake, DriftFind}}, Filter{Types: []Type{DriftRepair}}},
		"noun":     {Filter{Types: []Type{"drift.*"}}, Filter{Types: []Type{"dri*"}}},
		"severity": {Filter{Severities: []Severity{Alert, Warning}}, Filter{Severities: []Severity{Alert}}},
		"object":   {Filter{Object: "tunnel/agency-a"}, Filter{Object: "tunnel/agency"}},
		"below":    {Filter{Object: "tunnel/"}, Filter{Object: "tunnel"}},
		"message":  {Filter{Text: "FILTER d"}, Filter{Text: "nothing"}},
		"user":     {Filter{Text: "aigerim"}, Filter{Text: "nobody"}},
		"system":   {Filter{System: "tax"}, Filter{System: "ta"}},
		"systems":  {Filter{Text: "REGIS"}, Filter{Text: "register"}},
		"field":    {Filter{Text: "process 7"}, Filter{Text: "process 8"}},
		"since":    {Filter{Since: at}, Filter{Since: at.Add(1)}},
		"until":    {Filter{Until: at.Add(1)}, Filter{Until: at}},
		"both":     {Filter{Object: "tunnel/", Text: "nft"}, Filter{Object: "tunnel/", Text: "iptables"}},
	} {
		if !c.yes.Matches(e) {
			t.Errorf("%s: %+v does not choose it", name, c.yes)
		}
		if c.no.Matches(e) {
			t.Errorf("%s: %+v chooses it", name, c.no)
		}
	}
}

func TestFilterCheck(t *testing.T) {
	now := time.Now()
	for _, f := range []Filter{{}, {Types: []Type{"drift.*", PlanMake}, Severities: Severities()}, {Since: now, Until: now.Add(1)}} {
		if err := f.Check(); err != nil {
			t.Errorf("%+v: %v", f, err)
		}
	}
	for _, f := range []Filter{{Types: []Type{"drift.fnd"}}, {Types: []Type{"*"}}, {Types: []Type{"drif.*"}}, {Severities: []Severity{"grave"}}, {Since: now, Until: now}} {
		if f.Check() == nil {
			t.Errorf("%+v: no error", f)
		}
	}
}

// TestDay: a legal day begins at five hours before midnight UTC (one clock for all of Kazakhstan, UTC+5, since 2024-03-01).
func TestDay(t *testing.T) {
	begins, ends, err := Day("2026-11-26")
	if want := time.Date(2026, 11, 25, 19, 0, 0, 0, time.UTC); err != nil || !begins.Equal(want) || !ends.Equal(want.Add(24*time.Hour)) {
		t.Errorf("the day is %s to %s, %v", begins, ends, err)
	}
	// The day on which the clock was put back had 25 hours.
	if begins, ends, err := Day("2024-02-29"); err != nil || ends.Sub(begins) != 25*time.Hour {
		t.Errorf("2024-02-29 has %s, %v", ends.Sub(begins), err)
	}
	if _, _, err := Day("26.11.2026"); err == nil {
		t.Error("26.11.2026: no error")
	}
}
