package incidents_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"shekara/journal"
	"shekara/journal/incident"
	"shekara/provisioning/document"
	"shekara/provisioning/incidents"
)

func decode(t testing.TB, text string) *document.Set {
	t.Helper()
	docs, problems := document.Decode([]document.File{{Name: "rules.yaml", Data: []byte(text)}})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	set, _ := document.NewSet().Replace(docs)
	return set
}

func inForce(t testing.TB, set *document.Set, site string) []incident.Rule {
	t.Helper()
	rules, err := incidents.InForce(set, site)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

// TestStarterSet: every built-in rule passes its own cases, as those of documents must.
func TestStarterSet(t *testing.T) {
	if rules := inForce(t, document.NewSet(), "owner"); len(rules) < 10 {
		t.Errorf("%d built-in rules", len(rules))
	}
}

// TestStarterSetKnowsItsEvents: the events of the cases, and so what the rules look at in them, have fields that the catalogue declares.
func TestStarterSetKnowsItsEvents(t *testing.T) {
	declared := map[string]bool{}
	for _, entry := range journal.Catalogue() {
		for _, f := range entry.Fields {
			declared[string(entry.Type)+" "+f.Name] = true
		}
	}
	docs, err := incidents.Starter()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, d := range docs {
		for _, test := range d.Spec.(*document.IncidentRule).Tests {
			for _, e := range test.Events {
				for _, field := range e.Fields {
					seen++
					if name, _, _ := strings.Cut(field, "="); !declared[e.Type+" "+name] {
						t.Errorf("%s, case %q: %s has no field %q", d.Name, test.Name, e.Type, name)
					}
				}
			}
		}
	}
	if seen < 20 {
		t.Errorf("%d fields: the test does not see them", seen)
	}
}

// TestOperatorsReadOfEachRule: the table of docs/incidents.md is the starter set.
func TestOperatorsReadOfEachRule(t *testing.T) {
	text, err := os.ReadFile("../../docs/incidents.md")
	if err != nil {
		t.Fatal(err)
	}
	rules := inForce(t, document.NewSet(), "owner")
	for _, r := range rules {
		if row := fmt.Sprintf("| `%s` | %s | %s |\n", r.Name, r.Severity, r.Summary); !strings.Contains(string(text), row) {
			t.Errorf("docs/incidents.md lacks %s", row)
		}
	}
	if rows := strings.Count(string(text), "\n| `") - 3; rows != len(rules) {
		t.Errorf("docs/incidents.md has %d rules, %d are built in", rows, len(rules))
	}
}

const twoDowns = `apiVersion: shekara/v1
kind: IncidentRule
metadata: {name: NAME}
spec:
  sites: [owner]
  summary: two downs
  threshold: {events: {types: [tunnel.state], fields: [after=down]}, count: 2, within: 1m}
  tests:
    - {name: two, events: [{type: tunnel.state, fields: [after=down], times: 2}], opens: 1, open: 1}
    - {name: one, events: [{type: tunnel.state, fields: [after=down]}]}
`

func TestDocumentsTakeThePlaceOfBuiltInRules(t *testing.T) {
	const off = "---\napiVersion: shekara/v1\nkind: IncidentRule\nmetadata: {name: silence}\nspec: {off: true}\n"
	set := decode(t, strings.Replace(twoDowns, "NAME", "tunnel-flapping", 1)+"---\n"+strings.Replace(twoDowns, "NAME", "own", 1)+off)
	names := func(rules []incident.Rule) (names []string) {
		for _, r := range rules {
			names = append(names, r.Name+"/"+r.Summary)
		}
		return names
	}
	built := len(inForce(t, document.NewSet(), "owner"))
	got := names(inForce(t, set, "owner"))
	if len(got) != built || !slices.Contains(got, "tunnel-flapping/two downs") || !slices.Contains(got, "own/two downs") || strings.Contains(strings.Join(got, " "), "silence/") {
		t.Errorf("of %d built in: %q", built, got)
	}
	if other := names(inForce(t, set, "other")); len(other) != built-1 || slices.Contains(other, "own/two downs") {
		t.Errorf("another site has %q", other)
	}
}

// TestRulesAreHeldToTheirCases: one that opens too late, too often, for others or does not close is refused where the case stands.
func TestRulesAreHeldToTheirCases(t *testing.T) {
	for want, change := range map[string][2]string{
		"spec.tests[0]: the rule fails its test: 0 incidents open, not 1 \"two\"":                {"count: 2", "count: 3"},
		"spec.tests[1]: the rule fails its test: 1 incidents open, not 0 \"one\"":                {"count: 2", "count: 1"},
		"spec.tests[0]: the rule fails its test: 0 incidents are open at the end, not 1 \"two\"": {"times: 2}]", "times: 2}], for: 11m"},
		"spec.tests[0].keys: the rule fails its test: incidents open for others \"x\"":           {"open: 1}", "open: 1, keys: [x]}"},
		"spec.tests: rule without tests that show both \"1\"":                                    {"    - {name: one, events: [{type: tunnel.state, fields: [after=down]}]}\n", ""},
		"spec.threshold.within: not a length of time \"1min\"":                                   {"within: 1m", "within: 1min"},
		"spec.threshold.within: not a length of time \"\"":                                       {", within: 1m", ""},
		"spec.threshold.within: not a length of time \"48h\"":                                    {"within: 1m", "within: 48h"},
		"spec.threshold.count: count out of range \"0\"":                                         {"count: 2", "count: 0"},
		"spec.threshold.events.types[0]: there is no event of this type \"tunnel.stat\"":         {"types: [tunnel.state]", "types: [tunnel.stat]"},
		"spec.threshold.events.fields[0]: not a field and its value \"down\"":                    {"fields: [after=down]}, count", "fields: [down]}, count"},
		"spec.by[0]: events have no such attribute \"source\"":                                   {"  summary", "  by: [source]\n  summary"},
		"spec.severity: unknown value \"grave\"":                                                 {"  summary", "  severity: grave\n  summary"},
		"spec.summary: rule without a summary \"\"":                                              {"  summary: two downs\n", ""},
		"spec: a rule needs one of threshold, sequence and absence \"2\"":                        {"  summary", "  absence: {events: {}, within: 1m}\n  summary"},
		"spec.off: a rule that is off and says more \"true\"":                                    {"  summary", "  off: true\n  summary"},
		"spec.tests[0].events[0].type: an event has one type \"tunnel.*\"":                       {"events: [{type: tunnel.state, fields: [after=down], times: 2}]", "events: [{type: tunnel.*}]"},
		"spec.tests: too many events in the tests \"more than 10000\"":                           {"times: 2", "times: 10002"},
		"spec.by: too long a list \"101\"":                                                       {"  summary", "  by: [" + strings.Repeat("type, ", 101) + "]\n  summary"},
		"spec.threshold.events.severities: too long a list \"101\"":                              {"events: {types", "events: {severities: [" + strings.Repeat("info, ", 101) + "], types"},
		"spec.tests[0].events[0]: too long an event \"4111\"":                                    {"[after=down], times: 2", "[after=down, \"x=" + strings.Repeat("{n}", 1366) + "1\"], times: 2"},
	} {
		text := strings.Replace(twoDowns, change[0], change[1], 1)
		if text == twoDowns {
			t.Fatalf("%q is not in the rule", change[0])
		}
		spec := decode(t, strings.Replace(text, "NAME", "own", 1)).IncidentRule("own")
		_, problems := incidents.Rule("own", spec)
		got := []string{}
		for _, p := range problems {
			got = append(got, fmt.Sprintf("%s: %s %q", p.Path, p.What, p.Value))
			if p.Hint == "" {
				t.Errorf("%s: no hint", p.Path)
			}
		}
		if !slices.Contains(got, want) {
			t.Errorf("%s: %q", want, got)
		}
	}
	if _, problems := incidents.Rule("own", decode(t, strings.Replace(twoDowns, "NAME", "own", 1)).IncidentRule("own")); len(problems) > 0 {
		t.Errorf("the rule as it was: %v", problems)
	}
}

// BenchmarkStarterSet is events a second through the built-in rules, of the sorts and in the parts that a busy border has.
func BenchmarkStarterSet(b *testing.B) {
	engine := incident.New(inForce(b, document.NewSet(), "owner"))
	var mix []journal.Event
	for i := range 1000 {
		e := journal.Event{Type: journal.ConnectionStart, Severity: journal.Info, Object: "tunnel/agency-" + fmt.Sprint(i%50), Fields: map[string]string{"source": "10.64.1.5", "destination": "10.20.0.10"}}
		switch i % 10 {
		case 0, 1, 2, 3:
			e.Type = journal.ConnectionEnd
		case 4, 5:
			e = journal.Event{Type: journal.PacketDrop, Severity: journal.Notice, Object: "rule/forward.no_flow", Fields: map[string]string{"reason": "no_flow", "protocol": "tcp", "rule": "forward.no_flow",
				"source": fmt.Sprintf("10.64.%d.5", i%250), "destination": "10.20.0.10", "destinationPort": fmt.Sprint(i)}}
		case 6:
			e.Type, e.Fields = journal.TunnelState, map[string]string{"after": "down"}
		case 7:
			e = journal.Event{Type: journal.JournalCheckpoint}
		}
		mix = append(mix, e)
	}
	clock := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	b.ReportAllocs()
	n := uint64(0)
	for b.Loop() {
		n++
		e := mix[n%1000]
		e.Sequence, e.Time = n, clock.Add(time.Duration(n)*10*time.Microsecond)
		engine.See(&e)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
