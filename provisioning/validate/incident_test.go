package validate_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"shekara/provisioning/validate"
)

func incidentRule(name, spec string) string { return doc("IncidentRule", name, "{"+spec+"}") }

const incidentTests = "tests: [{name: two, events: [{type: tunnel.roam, times: 2}], opens: 1, open: 1}, {name: one, events: [{type: tunnel.roam}]}]"

func incidentCases() []broken {
	threshold := func(count int) string {
		return fmt.Sprintf("summary: two, threshold: {events: {types: [tunnel.roam]}, count: %d, within: 1m}, ", count) + incidentTests
	}
	return []broken{
		{"rule site unknown", "", incidentRule("r", "sites: [gate], "+threshold(2)), "there is no Site", "gate", ""},
		{"rule site twice", "", incidentRule("r", "sites: [gateway, gateway], "+threshold(2)), "site is listed twice", "gateway", ""},
		{"rule off that is not built in", "", incidentRule("r", "off: true"), "there is no built-in rule of this name", "r", ""},
		{"rule that fails its test", "", incidentRule("r", threshold(3)), "the rule fails its test", "two", ""},
		{"rule event type", "", incidentRule("r", strings.Replace(threshold(2), "types: [tunnel.roam]", "types: [tunnel.rome]", 1)), "there is no event of this type", "tunnel.rome", ""},
	}
}

// TestIncidentRulesThatHold is the control of the cases above.
func TestIncidentRulesThatHold(t *testing.T) {
	text := strings.Join([]string{example(t, "zones"), example(t, "registers"), example(t, "site")}, "---\n") + incidentRule("silence", "off: true") + incidentRule("r", "sites: [gateway], summary: two, threshold: {events: {types: [tunnel.roam]}, count: 2, within: 1m}, "+incidentTests)
	if p := check(t, text, validate.Options{Day: dayOfCases}); len(p) > 0 {
		t.Error(p)
	}
}

func TestTooManyIncidentRules(t *testing.T) {
	text := strings.Join([]string{example(t, "zones"), example(t, "registers")}, "---\n")
	for i := range 201 {
		text += incidentRule(fmt.Sprintf("r%d", i), "summary: two, threshold: {events: {types: [tunnel.roam]}, count: 2, within: 1m}, "+incidentTests)
	}
	if p := check(t, text, validate.Options{Day: dayOfCases}); len(p) != 1 || p[0].What != "too many rules" {
		t.Errorf("%v", p)
	}
}

// TestEventsOfAllIncidentRulesAreBounded: of rules that are each small enough only so many are held to their tests in one check. Times that add up to less than nothing
// are no way past it.
func TestEventsOfAllIncidentRulesAreBounded(t *testing.T) {
	rules := func(n int, tests string) string {
		text := strings.Join([]string{example(t, "zones"), example(t, "registers")}, "---\n")
		for i := range n {
			text += incidentRule(fmt.Sprintf("r%d", i), "summary: two, threshold: {events: {types: [tunnel.roam]}, count: 2, within: 1m}, tests: ["+tests+"]")
		}
		return text
	}
	const opens, stays = "{name: many, events: [{type: tunnel.roam, times: %d}%s], opens: 1, open: 1}", ", {name: one, events: [{type: tunnel.roam}]}"
	for _, c := range []struct {
		name, text, what string
	}{
		{"as many as may be", rules(10, fmt.Sprintf(opens, 9999, "")+stays), ""},
		{"one rule more", rules(11, fmt.Sprintf(opens, 9999, "")+stays), "too many events in the tests of all rules"},
		{"a sum that overflows", rules(1, fmt.Sprintf(opens, math.MaxInt, ", {type: tunnel.roam, times: 1}")+stays), "too many events in the tests"},
	} {
		p := check(t, c.text, validate.Options{Day: dayOfCases})
		if len(p) > 1 || len(p) == 1 && p[0].What != c.what || len(p) == 0 && c.what != "" {
			t.Errorf("%s: %v", c.name, p)
		}
	}
}
