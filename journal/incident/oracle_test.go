package incident_test

import (
	"slices"
	"time"

	"shekara/journal"
	"shekara/journal/incident"
)

// oracle is the slow engine: it keeps all events, and for each key asks of all of them what the rule says. It knows a clock that only goes forward.
type oracle struct {
	rules  []incident.Rule
	seen   []journal.Event
	states map[string]*oracleState
}

type oracleState struct {
	open   bool
	last   time.Time // of its events
	begins int       // events before this one do not count any more
}

func short(open bool, rule, key string) string {
	if open {
		return "+" + rule + "(" + key + ")"
	}
	return "-" + rule + "(" + key + ")"
}

func oracleKey(r incident.Rule, e journal.Event) string {
	switch {
	case len(r.By) == 0:
		return ""
	case r.By[0] == "object":
		return e.Object
	}
	return e.Fields["source"]
}

func (o *oracle) see(e journal.Event) []string {
	changes := []string{}
	o.seen = append(o.seen, e)
	if o.states == nil {
		o.states = map[string]*oracleState{}
	}
	for _, r := range o.rules {
		keys := []string{""}
		if len(r.By) > 0 {
			keys = []string{"tunnel/a", "tunnel/b"}
			if r.By[0] == "fields.source" {
				keys = []string{"x", "y"}
			}
		}
		for _, key := range keys {
			s := o.states[r.Name+key]
			if s == nil {
				s = &oracleState{}
				o.states[r.Name+key] = s
			}
			for _, open := range o.step(r, key, s, e) {
				changes = append(changes, short(open, r.Name, key))
			}
		}
	}
	slices.Sort(changes)
	return changes
}

// step says what becomes of one key by the newest event, and by the time that it brings.
func (o *oracle) step(r incident.Rule, key string, s *oracleState, e journal.Event) (changes []bool) {
	set := func(open bool) {
		s.open = open
		changes = append(changes, open)
	}
	n := len(o.seen) - 1
	mine := func(m *incident.Match, i int) bool { return m.Matches(&o.seen[i]) && oracleKey(r, o.seen[i]) == key }
	if a := r.Absence; a != nil {
		if !s.open { // the first event it waits after, since the last one that came
			since, waits := o.seen[0].Time, a.After == nil
			for i := range n {
				switch {
				case mine(&a.Events, i):
					since, waits = o.seen[i].Time, a.After == nil
				case i >= s.begins && a.After != nil && !waits && mine(a.After, i):
					since, waits = o.seen[i].Time, true
				}
			}
			if waits && e.Time.Sub(since) > a.Within {
				set(true)
			}
		}
		if s.open && mine(&a.Events, n) {
			set(false)
			s.begins = n
		}
		return changes
	}
	if s.open && r.Quiet > 0 && e.Time.Sub(s.last) > r.Quiet {
		set(false)
		s.begins = n
	}
	if r.Until != nil && mine(r.Until, n) {
		if s.open {
			set(false)
		}
		s.begins = n
	}
	if q := r.Sequence; q != nil {
		if !mine(&q.First, n) && !mine(&q.Then, n) {
			return changes
		}
		if s.open {
			s.last = e.Time
			return changes
		}
		for i := s.begins; i < n; i++ {
			if mine(&q.First, i) && mine(&q.Then, n) && e.Time.Sub(o.seen[i].Time) <= q.Within {
				set(true)
				s.last, s.begins = e.Time, n+1
				break
			}
		}
		return changes
	}
	o.count(r, s, e, func(i int) bool { return mine(&r.Threshold.Events, i) }, set)
	return changes
}

func (o *oracle) count(r incident.Rule, s *oracleState, e journal.Event, mine func(int) bool, set func(bool)) {
	n := len(o.seen) - 1
	if !mine(n) {
		return
	}
	if s.open {
		s.last = e.Time
		return
	}
	different := map[string]bool{}
	for i := s.begins; i <= n; i++ {
		if mine(i) && e.Time.Sub(o.seen[i].Time) <= r.Threshold.Within {
			name := "any"
			if len(r.Threshold.Distinct) > 0 {
				name = o.seen[i].Fields["destination"]
			} else {
				name += o.seen[i].Time.String() + string(rune(i))
			}
			different[name] = true
		}
	}
	if len(different) >= r.Threshold.Count {
		set(true)
		s.last, s.begins = e.Time, n+1
	}
}
