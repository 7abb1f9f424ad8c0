package incidents

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"shekara/journal"
	"shekara/journal/incident"
	"shekara/provisioning/document"
)

const (
	defaultQuiet    = 10 * time.Minute
	defaultSeverity = journal.Warning
	maxTimes        = 10_000 // events of all cases of a rule
	maxText         = 300
	// Who may only look may have a rule held to its cases (a plan), so what that takes is bounded: with maxTimes each event's bytes, and each list that is gone through for an event.
	maxEventText = 4 << 10
	maxListed    = 100
)

// Problem is what is wrong with a field of a rule.
type Problem struct{ Path, What, Value, Hint string }

// Rule makes a document's rule, and runs its cases. The rule means nothing if there are problems.
func Rule(name string, d *document.IncidentRule) (incident.Rule, []Problem) {
	m := maker{}
	if d.Off {
		m.off(d)
		return incident.Rule{}, m.problems
	}
	r := incident.Rule{Name: name, Severity: cmp.Or(journal.Severity(d.Severity), defaultSeverity), Summary: d.Summary, Advice: d.Advice, By: slices.Clone(d.By)}
	m.severity("spec.severity", r.Severity)
	m.sentence("spec.summary", d.Summary, true)
	m.sentence("spec.advice", d.Advice, false)
	m.attributes("spec.by", d.By)
	m.kind(&r, d)
	if d.Until != nil {
		until := m.events("spec.until", *d.Until)
		r.Until = &until
	}
	if r.Quiet = m.span("spec.quiet", d.Quiet, false); d.Quiet == "" && r.Until == nil && r.Absence == nil {
		r.Quiet = defaultQuiet
	}
	if len(m.problems) == 0 {
		if err := r.Check(); err != nil {
			m.add("spec", "not a rule", name, err.Error())
		}
	}
	if len(m.problems) == 0 {
		m.run(r, d)
	}
	return r, m.problems
}

type maker struct{ problems []Problem }

func (m *maker) add(path, what, value, hint string) {
	m.problems = append(m.problems, Problem{path, what, value, hint})
}

func (m *maker) off(d *document.IncidentRule) {
	rest := *d
	rest.Sites, rest.Off = nil, false
	if rest.Severity+rest.Summary+rest.Advice+rest.Quiet != "" || len(rest.By)+len(rest.Tests) > 0 || rest.Threshold != nil || rest.Sequence != nil || rest.Absence != nil || rest.Until != nil {
		m.add("spec.off", "a rule that is off and says more", "true", "leave the rest out, or off")
	}
}

func (m *maker) kind(r *incident.Rule, d *document.IncidentRule) {
	kinds := 0
	if t := d.Threshold; t != nil {
		kinds++
		m.attributes("spec.threshold.distinct", t.Distinct)
		if t.Count < 1 || t.Count > incident.MaxCount {
			m.add("spec.threshold.count", "count out of range", fmt.Sprint(t.Count), fmt.Sprintf("write 1 to %d", incident.MaxCount))
		}
		r.Threshold = &incident.Threshold{Events: m.events("spec.threshold.events", t.Events), Count: t.Count, Distinct: slices.Clone(t.Distinct), Within: m.span("spec.threshold.within", t.Within, t.Count > 1)}
	}
	if s := d.Sequence; s != nil {
		kinds++
		r.Sequence = &incident.Sequence{First: m.events("spec.sequence.first", s.First), Then: m.events("spec.sequence.then", s.Then), Within: m.span("spec.sequence.within", s.Within, true)}
	}
	if a := d.Absence; a != nil {
		kinds++
		r.Absence = &incident.Absence{Events: m.events("spec.absence.events", a.Events), Within: m.span("spec.absence.within", a.Within, true)}
		if a.After != nil {
			after := m.events("spec.absence.after", *a.After)
			r.Absence.After = &after
		}
	}
	if kinds != 1 {
		m.add("spec", "a rule needs one of threshold, sequence and absence", fmt.Sprint(kinds), "write one of them, or off: true")
	}
}

func (m *maker) sentence(path, text string, needed bool) {
	switch {
	case text == "" && needed:
		m.add(path, "rule without a summary", "", "write in one sentence what an incident means")
	case len(text) > maxText || strings.ContainsAny(text, "\n\r"):
		m.add(path, "too long, or of several lines", text[:min(len(text), 40)], fmt.Sprintf("write one line of at most %d bytes", maxText))
	}
}

// span reads a length of time; empty is 0 unless it is needed.
func (m *maker) span(path, text string, needed bool) time.Duration {
	if text == "" && !needed {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > incident.MaxWithin || needed && d == 0 {
		m.add(path, "not a length of time", text, fmt.Sprintf("write it as 30s, 10m or 2h, at most %s", incident.MaxWithin))
		return 0
	}
	return d
}

func (m *maker) severity(path string, s journal.Severity) {
	if !slices.Contains(journal.Severities(), s) {
		m.add(path, "unknown value", string(s), "write alert, error, warning, notice or info")
	}
}

func (m *maker) list(path string, length int) {
	if length > maxListed {
		m.add(path, "too long a list", fmt.Sprint(length), fmt.Sprintf("write at most %d", maxListed))
	}
}

func (m *maker) attributes(path string, names []string) {
	m.list(path, len(names))
	for i, name := range names {
		if err := incident.CheckAttribute(name); err != nil {
			m.add(document.Index(path, i), "events have no such attribute", name, "write type, severity, object, organisation, actor, or fields. and the name of a field, as fields.source")
		}
	}
}

func (m *maker) eventType(path, name string) {
	if (journal.Filter{Types: []journal.Type{journal.Type(name)}}).Check() == nil {
		return
	}
	types := []string{}
	for _, entry := range journal.Catalogue() {
		types = append(types, string(entry.Type))
	}
	hint := "docs/events.md lists them; drift.* is all of a noun"
	if near := document.Nearest(name, types); near != "" {
		hint = "did you mean " + near + "?"
	}
	m.add(path, "there is no event of this type", name, hint)
}

func (m *maker) events(path string, d document.RuleEvents) incident.Match {
	match := incident.Match{Filter: journal.Filter{Object: d.Object, Text: d.Text}}
	m.list(path+".types", len(d.Types))
	m.list(path+".severities", len(d.Severities))
	m.list(path+".fields", len(d.Fields))
	for i, t := range d.Types {
		m.eventType(document.Index(path+".types", i), t)
		match.Types = append(match.Types, journal.Type(t))
	}
	for i, s := range d.Severities {
		m.severity(document.Index(path+".severities", i), journal.Severity(s))
		match.Severities = append(match.Severities, journal.Severity(s))
	}
	for i, f := range d.Fields {
		if name, value, is := m.field(document.Index(path+".fields", i), f); is {
			match.Fields = append(match.Fields, incident.Field{Name: name, Value: value})
		}
	}
	return match
}

func (m *maker) field(path, text string) (name, value string, is bool) {
	name, value, is = strings.Cut(text, "=")
	if is = is && name != ""; !is {
		m.add(path, "not a field and its value", text, "write it as after=down")
	}
	return name, value, is
}

// Events is how many events the cases of a rule have; of one that has too many, only that it has more than may be.
func Events(d *document.IncidentRule) (events int) {
	for _, c := range d.Tests {
		for _, e := range c.Events {
			if events += min(max(e.Times, 1), maxTimes+1); events > maxTimes {
				return maxTimes + 1
			}
		}
	}
	return events
}

// run holds the rule to its cases.
func (m *maker) run(r incident.Rule, d *document.IncidentRule) {
	if Events(d) > maxTimes {
		m.add("spec.tests", "too many events in the tests", fmt.Sprintf("more than %d", maxTimes), fmt.Sprintf("a rule may have %d in all: ask for fewer times", maxTimes))
		return
	}
	opens, stays := false, false
	for i, c := range d.Tests {
		path := document.Index("spec.tests", i)
		m.test(path, r, c)
		opens, stays = opens || c.Opens > 0, stays || c.Opens == 0
	}
	if !opens || !stays {
		m.add("spec.tests", "rule without tests that show both", fmt.Sprint(len(d.Tests)), "write one with events that open an incident (opens: 1), and one with events that do not")
	}
}

func (m *maker) test(path string, r incident.Rule, c document.RuleTest) {
	before := len(m.problems)
	engine, clock, keys := incident.New([]incident.Rule{r}), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), []string{}
	note := func(changes []incident.Change) {
		for _, change := range changes {
			if change.Open {
				keys = append(keys, change.Incident.Key)
			}
		}
	}
	note(engine.Advance(clock))
	var sequence uint64
	for i, d := range c.Events {
		at := document.Index(path+".events", i)
		e, after := m.event(at, d)
		if len(m.problems) > before {
			return
		}
		for n := range max(d.Times, 1) {
			clock, sequence = clock.Add(after), sequence+1
			seen := numbered(e, n+1)
			seen.Time, seen.Sequence = clock, sequence
			note(engine.See(&seen))
		}
	}
	wait := m.span(path+".for", c.For, false)
	note(engine.Advance(clock.Add(wait)))
	switch open := len(engine.Open()); {
	case len(keys) != c.Opens:
		m.add(path, fmt.Sprintf("the rule fails its test: %d incidents open, not %d", len(keys), c.Opens), c.Name, opened(keys))
	case len(c.Keys) > 0 && !slices.Equal(c.Keys, keys):
		m.add(path+".keys", "the rule fails its test: incidents open for others", strings.Join(c.Keys, "; "), opened(keys))
	case open != c.Open:
		m.add(path, fmt.Sprintf("the rule fails its test: %d incidents are open at the end, not %d", open, c.Open), c.Name, "change the rule, or open")
	}
}

func opened(keys []string) string {
	if len(keys) == 0 {
		return "none opened: change the rule or the test"
	}
	return fmt.Sprintf("they opened for %.200s: change the rule or the test", strings.Join(keys, "; "))
}

func (m *maker) event(path string, d document.RuleTestEvent) (journal.Event, time.Duration) {
	if strings.HasSuffix(d.Type, "*") {
		m.add(path+".type", "an event has one type", d.Type, "write one that docs/events.md lists")
	} else {
		m.eventType(path+".type", d.Type)
	}
	e := journal.Event{Type: journal.Type(d.Type), Severity: cmp.Or(journal.Severity(d.Severity), journal.Info), Object: d.Object, Organisation: d.Organisation, Actor: journal.Actor{User: d.Actor}, Message: d.Message}
	m.severity(path+".severity", e.Severity)
	if d.Times < 0 {
		m.add(path+".times", "out of range", fmt.Sprint(d.Times), fmt.Sprintf("write 1 to %d", maxTimes))
	}
	text := len(d.Object) + len(d.Organisation) + len(d.Actor) + len(d.Message)
	for _, f := range d.Fields {
		text += len(f)
	}
	if text > maxEventText {
		m.add(path, "too long an event", fmt.Sprint(text), fmt.Sprintf("its texts may have %d bytes together", maxEventText))
		return e, 0
	}
	for i, f := range d.Fields {
		if name, value, is := m.field(document.Index(path+".fields", i), f); is {
			if e.Fields == nil {
				e.Fields = map[string]string{}
			}
			e.Fields[name] = value
		}
	}
	return e, m.span(path+".after", d.After, false)
}

// numbered puts the number of the time into an event.
func numbered(e journal.Event, n int) journal.Event {
	number := func(s string) string { return strings.ReplaceAll(s, "{n}", fmt.Sprint(n)) }
	fields := make(map[string]string, len(e.Fields))
	for name, value := range e.Fields {
		fields[name] = number(value)
	}
	e.Object, e.Fields = number(e.Object), fields
	return e
}

// InForce are the rules of a site: those that are built in, and those of the documents, which take the place of built-in ones with their names.
// Documents with problems have none: validation refused them.
func InForce(set *document.Set, site string) ([]incident.Rule, error) {
	built, err := starter()
	if err != nil {
		return nil, err
	}
	rules := map[string]incident.Rule{}
	for _, r := range built {
		rules[r.Name] = r
	}
	var errs []error
	for d := range set.Of(document.KindIncidentRule) {
		spec := d.Spec.(*document.IncidentRule)
		if len(spec.Sites) > 0 && !slices.Contains(spec.Sites, site) {
			continue
		}
		if delete(rules, d.Name); spec.Off {
			continue
		}
		r, problems := Rule(d.Name, spec)
		if len(problems) > 0 {
			errs = append(errs, fmt.Errorf("rule %s: %s %q", d.Name, problems[0].What, problems[0].Value))
			continue
		}
		rules[d.Name] = r
	}
	list := make([]incident.Rule, 0, len(rules))
	for _, r := range rules {
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b incident.Rule) int { return strings.Compare(a.Name, b.Name) })
	return list, errors.Join(errs...)
}
