package incident

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"shekara/journal"
)

// shownSequences is how many of an incident's events are named in it.
const shownSequences = 100

// Incident is what the events that a rule asks for come to, for one key.
type Incident struct {
	Rule      string           `json:"rule"`
	Key       string           `json:"key,omitempty"` // values of the rule's attributes, with commas between; empty: the rule has none
	Severity  journal.Severity `json:"severity"`
	Summary   string           `json:"summary"`
	Advice    string           `json:"advice,omitempty"`
	Opened    time.Time        `json:"opened"`
	Last      time.Time        `json:"last"`                // when the last of its events happened
	Closed    time.Time        `json:"closed,omitzero"`     // zero: it is open
	Reason    string           `json:"reason,omitempty"`    // why it was closed
	Count     int              `json:"count"`               // its events
	Sequences []uint64         `json:"sequences,omitempty"` // of the first of these in the journal
	Through   uint64           `json:"through"`             // sequence up to which events were counted
}

// Change is an incident that opened, or closed.
type Change struct {
	Open     bool
	Incident Incident
}

// Fields of the events.
const (
	fieldRule      = "rule"
	fieldKey       = "key"
	fieldCount     = "count"
	fieldSequences = "sequences"
)

// Event is how the change stands in the journal.
func (c Change) Event() journal.Event {
	i := c.Incident
	about := i.Summary
	if i.Key != "" {
		about += ": " + i.Key
	}
	e := journal.Event{Type: journal.IncidentOpen, Severity: i.Severity, Object: "incident/" + i.Rule,
		Fields: map[string]string{fieldRule: i.Rule, fieldCount: strconv.Itoa(i.Count)}}
	if i.Key != "" {
		e.Fields[fieldKey] = i.Key
	}
	if !c.Open {
		e.Type, e.Severity = journal.IncidentClose, journal.Notice
		e.Message = fmt.Sprintf("over, %s: %s", i.Reason, about)
		e.Fields["opened"], e.Fields["last"], e.Fields["reason"] = i.Opened.UTC().Format(time.RFC3339Nano), i.Last.UTC().Format(time.RFC3339Nano), i.Reason
		return e
	}
	e.Message = about
	if i.Advice != "" {
		e.Fields["advice"] = i.Advice
	}
	if len(i.Sequences) > 0 {
		text := make([]string, len(i.Sequences))
		for n, s := range i.Sequences {
			text[n] = strconv.FormatUint(s, 10)
		}
		e.Fields[fieldSequences] = strings.Join(text, ",")
	}
	return e
}

// adopted is an incident as its event tells of it, for a rule that is known.
func adopted(r *Rule, e *journal.Event) Incident {
	i := Incident{Rule: r.Name, Key: e.Fields[fieldKey], Severity: e.Severity, Summary: r.Summary, Advice: r.Advice, Opened: e.Time, Last: e.Time, Through: e.Sequence}
	i.Count, _ = strconv.Atoi(e.Fields[fieldCount]) // our own; 0 where somebody wrote it otherwise
	for text := range strings.SplitSeq(e.Fields[fieldSequences], ",") {
		if s, err := strconv.ParseUint(text, 10, 64); err == nil && len(i.Sequences) < shownSequences {
			i.Sequences = append(i.Sequences, s)
		}
	}
	return i
}
