package incident

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"shekara/journal"
)

// MaxWithin is the longest time that a rule looks back: what a start reads of the journal hangs on it.
const MaxWithin = 24 * time.Hour

// MaxCount is the most events that a threshold may ask for: so many are kept for each key.
const MaxCount = 1000

// Rule says what is an incident. Exactly one of Threshold, Sequence and Absence is set.
type Rule struct {
	Name     string
	Severity journal.Severity
	Summary  string   // one sentence: what it means
	Advice   string   // what to do
	By       []string // an incident of its own for each value of these attributes; events without one of them are none of the rule's

	Threshold *Threshold
	Sequence  *Sequence
	Absence   *Absence

	// Until closes the incident, Quiet when none of its events came for longer than that. 0 and nil: never by that. What was absent closes it by coming.
	Until *Match
	Quiet time.Duration
}

// Threshold opens when Count events happened within Within: or, with Distinct, events with that many different values of these attributes.
type Threshold struct {
	Events   Match
	Count    int
	Distinct []string
	Within   time.Duration
}

// Sequence opens when Then comes within Within after First.
type Sequence struct {
	First, Then Match
	Within      time.Duration
}

// Absence opens when none of Events came for longer than Within: after After, or, without it, after the last of them or the start.
type Absence struct {
	Events Match
	After  *Match
	Within time.Duration
}

// Match chooses events: what Filter does, and fields that have these values. Bounds of time in Filter are not for rules.
type Match struct {
	journal.Filter
	Fields []Field
}

// Field is a field of events and what it must be.
type Field struct{ Name, Value string }

// Matches says whether the event is chosen.
func (m *Match) Matches(e *journal.Event) bool {
	for _, f := range m.Fields {
		if value, there := e.Fields[f.Name]; !there || value != f.Value {
			return false
		}
	}
	return m.Filter.Matches(*e)
}

// takes says whether events of the type may be chosen. Incidents are chosen only by who names them: a rule over all events must not feed on itself.
func (m *Match) takes(t journal.Type) bool {
	if len(m.Types) == 0 {
		return !own(t)
	}
	return journal.Filter{Types: m.Types}.Matches(journal.Event{Type: t})
}

func own(t journal.Type) bool { return t == journal.IncidentOpen || t == journal.IncidentClose }

// Attributes beside the fields.
func attributes() []string { return []string{"type", "severity", "object", "organisation", "actor"} }

const fieldPrefix = "fields."

// CheckAttribute says whether events have such an attribute.
func CheckAttribute(name string) error {
	if field, is := strings.CutPrefix(name, fieldPrefix); is && field != "" || slices.Contains(attributes(), name) {
		return nil
	}
	return fmt.Errorf("attribute %q: it is %s, or fields. and the name of a field", name, strings.Join(attributes(), ", "))
}

func attribute(e *journal.Event, name string) string {
	switch name {
	case "type":
		return string(e.Type)
	case "severity":
		return string(e.Severity)
	case "object":
		return e.Object
	case "organisation":
		return e.Organisation
	case "actor":
		return e.Actor.User
	}
	return e.Fields[strings.TrimPrefix(name, fieldPrefix)]
}

// maxKeyBytes bounds what is kept of values, which may come from whoever sends packets.
const maxKeyBytes = 256

// values joins what an event has of the attributes; false if it lacks one.
func values(e *journal.Event, names []string) (string, bool) {
	if len(names) == 1 { // nearly always; and then nothing is made
		v := attribute(e, names[0])
		return v[:min(len(v), maxKeyBytes)], v != ""
	}
	var b strings.Builder
	for i, name := range names {
		v := attribute(e, name)
		if v == "" {
			return "", false
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(v)
	}
	return b.String()[:min(b.Len(), maxKeyBytes)], true
}

// Check says what keeps the rule from being one.
func (r *Rule) Check() error {
	kinds := 0
	for _, set := range []bool{r.Threshold != nil, r.Sequence != nil, r.Absence != nil} {
		if set {
			kinds++
		}
	}
	var errs []error
	if kinds != 1 {
		errs = append(errs, fmt.Errorf("rule %s: %d of threshold, sequence and absence, and one is needed", r.Name, kinds))
	}
	if r.Threshold != nil && (r.Threshold.Count < 1 || r.Threshold.Count > MaxCount) {
		errs = append(errs, fmt.Errorf("rule %s: count %d, from 1 to %d", r.Name, r.Threshold.Count, MaxCount))
	}
	if w := r.within(); w <= 0 && (r.Threshold == nil || r.Threshold.Count > 1) || w > MaxWithin {
		errs = append(errs, fmt.Errorf("rule %s: within %s, more than nothing and at most %s", r.Name, w, MaxWithin))
	}
	if r.Quiet < 0 || r.Quiet > MaxWithin || r.Quiet == 0 && r.Until == nil && r.Absence == nil {
		errs = append(errs, fmt.Errorf("rule %s: quiet %s, more than nothing, or until, and at most %s", r.Name, r.Quiet, MaxWithin))
	}
	for _, m := range r.matches() {
		errs = append(errs, m.Check())
	}
	names := r.By
	if r.Threshold != nil {
		names = slices.Concat(names, r.Threshold.Distinct)
	}
	for _, name := range names {
		errs = append(errs, CheckAttribute(name))
	}
	return errors.Join(errs...)
}

func (r *Rule) within() time.Duration {
	switch {
	case r.Threshold != nil:
		return r.Threshold.Within
	case r.Sequence != nil:
		return r.Sequence.Within
	case r.Absence != nil:
		return r.Absence.Within
	}
	return 0
}

// matches are all that the rule asks of events.
func (r *Rule) matches() (all []*Match) {
	if t := r.Threshold; t != nil {
		all = append(all, &t.Events)
	}
	if s := r.Sequence; s != nil {
		all = append(all, &s.First, &s.Then)
	}
	if a := r.Absence; a != nil {
		all = append(all, &a.Events)
		if a.After != nil {
			all = append(all, a.After)
		}
	}
	if r.Until != nil {
		all = append(all, r.Until)
	}
	return all
}

// takesOwn says whether the rule is over incidents.
func (r *Rule) takesOwn() bool {
	return slices.ContainsFunc(r.matches(), func(m *Match) bool { return m.takes(journal.IncidentOpen) || m.takes(journal.IncidentClose) })
}
