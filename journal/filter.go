package journal

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Filter chooses events. Its zero value chooses all.
type Filter struct {
	Types        []Type     // one of these; a type ending in ".*" stands for all of its noun
	Severities   []Severity // one of these
	Object       string     // exactly this, or all below it if it ends in "/"
	Organisation string     // exactly this legal entity's
	System       string     // concerns this registered system
	Text         string     // is in the message, the object, the organisation, a system, the actor's name or a field's value; capital or small is one
	// Since and Until bound the time: from the first on, and before the second. Zero: no bound. The order of events is by sequence, whatever the clock said.
	Since, Until time.Time
	// WithoutCheckpoints leaves those out: one a minute, they are for who verifies.
	WithoutCheckpoints bool
}

// Severities are all that there are, the gravest first.
func Severities() []Severity { return []Severity{Alert, Error, Warning, Notice, Info} }

// Check says which type or severity there is none of: a filter that can choose nothing is a mistake.
func (f Filter) Check() error {
	for _, t := range f.Types {
		if !slices.ContainsFunc(Catalogue(), func(e Entry) bool { return t.covers(e.Type) }) {
			return fmt.Errorf("event type %q: there is none", t)
		}
	}
	for _, severity := range f.Severities {
		if !slices.Contains(Severities(), severity) {
			return fmt.Errorf("severity %q: there is none", severity)
		}
	}
	if !f.Since.IsZero() && !f.Until.IsZero() && !f.Since.Before(f.Until) {
		return fmt.Errorf("from %s to %s: nothing lies between", f.Since.Format(time.RFC3339), f.Until.Format(time.RFC3339))
	}
	return nil
}

func (t Type) covers(other Type) bool {
	noun, all := strings.CutSuffix(string(t), "*")
	return t == other || all && strings.HasSuffix(noun, ".") && strings.HasPrefix(string(other), noun)
}

// Matches says whether the filter chooses the event.
func (f Filter) Matches(e Event) bool {
	switch {
	case f.WithoutCheckpoints && e.Type == JournalCheckpoint,
		len(f.Types) > 0 && !slices.ContainsFunc(f.Types, func(t Type) bool { return t.covers(e.Type) }),
		len(f.Severities) > 0 && !slices.Contains(f.Severities, e.Severity),
		!f.Since.IsZero() && e.Time.Before(f.Since),
		!f.Until.IsZero() && !e.Time.Before(f.Until),
		f.Organisation != "" && e.Organisation != f.Organisation,
		f.System != "" && !slices.Contains(e.Systems, f.System),
		f.Object != "" && e.Object != f.Object && (!strings.HasSuffix(f.Object, "/") || !strings.HasPrefix(e.Object, f.Object)):
		return false
	}
	return f.Text == "" || e.holds(strings.ToLower(f.Text))
}

// holds says whether small letters are somewhere in what people read of an event.
func (e Event) holds(text string) bool {
	in := func(s string) bool { return strings.Contains(strings.ToLower(s), text) }
	if in(e.Message) || in(e.Object) || in(e.Organisation) || in(e.Actor.User) || slices.ContainsFunc(e.Systems, in) {
		return true
	}
	for _, value := range e.Fields {
		if in(value) {
			return true
		}
	}
	return false
}

// LegalZone is the clock by which a legal day begins and ends: that of Asia/Almaty, from data that the program brings along.
func LegalZone() (*time.Location, error) { return time.LoadLocation(legalZone) }

// Day is when a legal day (2026-11-26, JRN-10 "ағымдағы тәуліктер") begins and when the next one does.
func Day(text string) (begins, ends time.Time, err error) {
	zone, err := LegalZone()
	if err != nil {
		return time.Time{}, time.Time{}, err
	}
	begins, err = time.ParseInLocation(time.DateOnly, text, zone)
	if err != nil {
		return time.Time{}, time.Time{}, fmt.Errorf("day %.40q: not as 2026-11-26", text)
	}
	return begins, begins.AddDate(0, 0, 1), nil
}
