package incident_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"shekara/journal"
	"shekara/journal/incident"
)

func noon() time.Time { return time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC) }

func types(t ...journal.Type) incident.Match {
	return incident.Match{Filter: journal.Filter{Types: t}}
}

// stream makes events in the order of a journal, and gives what opened (+) and closed (-).
type stream struct {
	*incident.Engine
	sequence uint64
	clock    time.Time
	events   []journal.Event
	told     []string
}

func newStream(rules ...incident.Rule) *stream {
	return &stream{Engine: incident.New(rules), clock: noon()}
}

func (s *stream) note(changes []incident.Change) {
	for _, c := range changes {
		sign := "-"
		if c.Open {
			sign = "+"
		}
		s.told = append(s.told, fmt.Sprintf("%s%s(%s) %d %v", sign, c.Incident.Rule, c.Incident.Key, c.Incident.Count, c.Incident.Sequences))
		s.put(c.Event())
	}
}

// put has the engine see an event now.
func (s *stream) put(e journal.Event) {
	s.sequence++
	e.Sequence, e.Time = s.sequence, s.clock
	s.events = append(s.events, e)
	s.note(s.See(&e))
}

func (s *stream) pass(d time.Duration) {
	s.clock = s.clock.Add(d)
	s.note(s.Advance(s.clock))
}

func drop(from, to string) journal.Event {
	return journal.Event{Type: journal.PacketDrop, Severity: journal.Notice, Object: "rule/forward.no_flow", Fields: map[string]string{"source": from, "destination": to}}
}

func state(tunnel, after string) journal.Event {
	return journal.Event{Type: journal.TunnelState, Severity: journal.Notice, Object: "tunnel/" + tunnel, Fields: map[string]string{"after": after}}
}

func threshold(count int) incident.Rule {
	return incident.Rule{Name: "scan", Severity: journal.Warning, Summary: "a scan", By: []string{"fields.source"}, Quiet: 5 * time.Minute,
		Threshold: &incident.Threshold{Events: types(journal.PacketDrop), Count: count, Within: time.Minute, Distinct: []string{"fields.destination"}}}
}

func (s *stream) expect(t *testing.T, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, s.told); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	s.told = nil
}

func TestThreshold(t *testing.T) {
	s := newStream(threshold(3))
	s.put(drop("10.0.0.1", "a")) // 1
	s.put(drop("10.0.0.1", "a")) // 2: the same destination again
	s.put(drop("10.0.0.2", "b")) // 3: somebody else's
	s.put(drop("10.0.0.1", "b")) // 4
	s.put(drop("", "c"))         // 5: from nobody
	s.expect(t)
	s.put(drop("10.0.0.1", "c"))
	s.expect(t, "+scan(10.0.0.1) 3 [2 4 6]")
	s.put(drop("10.0.0.1", "d")) // 8, as 7 is the incident
	s.pass(5 * time.Minute)
	s.expect(t)
	s.pass(time.Second)
	s.expect(t, "-scan(10.0.0.1) 4 [2 4 6 8]")

	for i := range 3 { // three within two minutes are none
		s.put(drop("10.0.0.1", fmt.Sprint(i)))
		s.pass(40 * time.Second)
	}
	s.expect(t)
	s.put(drop("10.0.0.1", "new"))
	s.expect(t)
	s.put(drop("10.0.0.1", "newer"))
	s.expect(t, "+scan(10.0.0.1) 3 [12 13 14]")
}

func TestSequence(t *testing.T) {
	first, then := types(journal.TunnelState), types(journal.TunnelState)
	first.Fields, then.Fields = []incident.Field{{Name: "after", Value: "down"}}, []incident.Field{{Name: "after", Value: "passing"}}
	s := newStream(incident.Rule{Name: "back", Severity: journal.Notice, Summary: "back", By: []string{"object"}, Quiet: time.Minute,
		Sequence: &incident.Sequence{First: first, Then: then, Within: time.Minute}})
	s.put(state("a", "passing")) // in the wrong order
	s.put(state("a", "down"))
	s.put(state("b", "passing")) // another tunnel's
	s.pass(2 * time.Minute)
	s.put(state("a", "passing")) // too late
	s.expect(t)
	s.put(state("a", "down"))
	s.pass(time.Minute)
	s.put(state("a", "passing"))
	s.expect(t, "+back(tunnel/a) 2 [5 6]")
}

func TestAbsence(t *testing.T) {
	after := types(journal.ClockLose)
	s := newStream(
		incident.Rule{Name: "clock", Severity: journal.Error, Summary: "lost", Absence: &incident.Absence{After: &after, Events: types(journal.ClockSynchronise), Within: 10 * time.Minute}},
		incident.Rule{Name: "silence", Severity: journal.Alert, Summary: "silence", Absence: &incident.Absence{Events: types(journal.JournalCheckpoint), Within: 3 * time.Minute}})
	s.pass(0)
	s.pass(3 * time.Minute)
	s.expect(t)
	s.pass(time.Second)
	s.expect(t, "+silence() 0 []")
	s.put(journal.Event{Type: journal.JournalCheckpoint})
	s.expect(t, "-silence() 0 []")
	s.put(journal.Event{Type: journal.ClockLose})
	for range 10 {
		s.put(journal.Event{Type: journal.JournalCheckpoint})
		s.pass(time.Minute)
	}
	s.expect(t)
	s.put(journal.Event{Type: journal.ClockLose}) // the first one counts
	s.pass(time.Second)
	s.expect(t, "+clock() 1 [4]")
	s.put(journal.Event{Type: journal.ClockSynchronise})
	s.expect(t, "-clock() 1 [4]")
	s.put(journal.Event{Type: journal.ClockLose})
	s.put(journal.Event{Type: journal.ClockSynchronise})
	for range 15 {
		s.put(journal.Event{Type: journal.JournalCheckpoint})
		s.pass(time.Minute)
	}
	s.expect(t)
}

// TestClockThatIsSet: an hour back is no hour of silence, and no hour in which nothing is forgotten.
func TestClockThatIsSet(t *testing.T) {
	s := newStream(threshold(3))
	s.put(drop("10.0.0.1", "a"))
	s.clock = s.clock.Add(-time.Hour)
	s.put(drop("10.0.0.1", "b"))
	s.pass(50 * time.Second)
	s.put(drop("10.0.0.1", "c"))
	s.expect(t, "+scan(10.0.0.1) 3 [1 2 3]")
	s = newStream(threshold(3))
	s.put(drop("10.0.0.1", "a"))
	s.clock = s.clock.Add(-time.Hour)
	s.put(drop("10.0.0.1", "b"))
	s.pass(61 * time.Second)
	s.put(drop("10.0.0.1", "c"))
	s.expect(t)
}

// TestIncidentsFeedNobodyButWhoNamesThem, and he feeds nobody.
func TestIncidentsFeedNobodyButWhoNamesThem(t *testing.T) {
	all := incident.Rule{Name: "all", Severity: journal.Notice, Summary: "all", By: []string{"type"}, Quiet: time.Minute, Threshold: &incident.Threshold{Count: 1}}
	many := incident.Rule{Name: "many", Severity: journal.Alert, Summary: "many", By: []string{"fields.sequences"}, Quiet: time.Minute,
		Threshold: &incident.Threshold{Events: types(journal.IncidentOpen), Count: 1}}
	s := newStream(all, many)
	s.put(drop("10.0.0.1", "a"))
	s.expect(t, "+all(packet.drop) 1 [1]", "+many(1) 1 [2]")
	if len(s.events) != 3 {
		t.Errorf("%+v", s.events)
	}
}

// TestBounds: a scanner with a thousand thousand addresses opens a hundred incidents and fills no memory.
func TestBounds(t *testing.T) {
	s := newStream(threshold(2))
	for i := range 5000 {
		s.put(drop(fmt.Sprint(i), "a"))
	}
	for i := range 5000 {
		s.put(drop(fmt.Sprint(i), "b")) // the first were forgotten
		s.put(drop(fmt.Sprint(i), "c"))
	}
	if forgotten, unopened := s.Bounds(); len(s.Open()) != incident.MaxOpen || unopened != 5000-incident.MaxOpen || forgotten < 4000 {
		t.Errorf("%d open, %d not opened, %d forgotten", len(s.Open()), unopened, forgotten)
	}
	after := types(journal.TunnelState)
	stays := newStream(incident.Rule{Name: "stays", Severity: journal.Error, Summary: "stays", By: []string{"object"}, Absence: &incident.Absence{After: &after, Events: types(journal.TunnelReset), Within: time.Minute}})
	for i := range 500 {
		stays.put(state(fmt.Sprint(i), "down"))
	}
	stays.pass(2 * time.Minute)
	if _, unopened := stays.Bounds(); len(stays.Open()) != incident.MaxOpen || unopened != 500-incident.MaxOpen {
		t.Errorf("%d open, %d not opened", len(stays.Open()), unopened)
	}
	s.told = nil
	s.pass(6 * time.Minute)
	if len(s.told) != incident.MaxOpen || len(s.Open()) != 0 {
		t.Errorf("%d closed, %d open", len(s.told), len(s.Open()))
	}
}

// TestRulesChange: what stays the same keeps what it has seen.
func TestRulesChange(t *testing.T) {
	other := threshold(2)
	other.Name = "other"
	s := newStream(threshold(3), other)
	s.put(drop("10.0.0.1", "a"))
	s.put(drop("10.0.0.1", "b"))
	s.expect(t, "+other(10.0.0.1) 2 [1 2]")
	s.note(s.SetRules([]incident.Rule{threshold(3)}))
	s.expect(t, "-other(10.0.0.1) 2 [1 2]")
	s.put(drop("10.0.0.1", "c"))
	s.expect(t, "+scan(10.0.0.1) 3 [1 2 5]")
	s.note(s.SetRules([]incident.Rule{threshold(4)}))
	s.expect(t, "-scan(10.0.0.1) 3 [1 2 5]")
}

func TestCheck(t *testing.T) {
	for want, change := range map[string]func(*incident.Rule){
		"0 of threshold":             func(r *incident.Rule) { r.Threshold = nil },
		"2 of threshold":             func(r *incident.Rule) { r.Absence = &incident.Absence{Within: time.Minute} },
		"count 0":                    func(r *incident.Rule) { r.Threshold.Count = 0 },
		"within 0s":                  func(r *incident.Rule) { r.Threshold.Within = 0 },
		"within 48h0m0s":             func(r *incident.Rule) { r.Threshold.Within = 48 * time.Hour },
		"quiet 0s":                   func(r *incident.Rule) { r.Quiet = 0 },
		"attribute \"src\"":          func(r *incident.Rule) { r.By = []string{"src"} },
		"attribute \"fields.\"":      func(r *incident.Rule) { r.Threshold.Distinct = []string{"fields."} },
		"event type \"packet.drip\"": func(r *incident.Rule) { r.Threshold.Events = types("packet.drip") },
	} {
		r := threshold(3)
		if err := r.Check(); err != nil {
			t.Fatal(err)
		}
		change(&r)
		if err := r.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}

// someRules are small enough that a random stream opens and closes them.
func someRules() []incident.Rule {
	down := types(journal.TunnelState)
	down.Fields = []incident.Field{{Name: "after", Value: "down"}}
	up := types(journal.TunnelState)
	up.Fields = []incident.Field{{Name: "after", Value: "passing"}}
	untilUp := threshold(2)
	untilUp.Name, untilUp.By, untilUp.Quiet, untilUp.Until = "until", nil, 0, &up
	flapping := incident.Rule{Name: "flapping", Severity: journal.Warning, Summary: "flapping", By: []string{"object"}, Quiet: 90 * time.Second,
		Threshold: &incident.Threshold{Events: types(journal.TunnelState), Count: 3, Within: time.Minute}}
	return []incident.Rule{threshold(3), untilUp, flapping,
		{Name: "back", Severity: journal.Notice, Summary: "back", By: []string{"object"}, Quiet: time.Minute, Sequence: &incident.Sequence{First: down, Then: up, Within: 40 * time.Second}},
		{Name: "stays", Severity: journal.Error, Summary: "stays down", By: []string{"object"}, Absence: &incident.Absence{After: &down, Events: up, Within: 70 * time.Second}},
		{Name: "silence", Severity: journal.Alert, Summary: "silence", Absence: &incident.Absence{Events: types(journal.PacketDrop), Within: 50 * time.Second}}}
}

func someEvent() *rapid.Generator[journal.Event] {
	return rapid.Custom(func(t *rapid.T) journal.Event {
		if rapid.Bool().Draw(t, "drop") {
			return drop(rapid.SampledFrom([]string{"x", "y"}).Draw(t, "source"), rapid.SampledFrom([]string{"1", "2", "3", "4"}).Draw(t, "destination"))
		}
		return state(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "tunnel"), rapid.SampledFrom([]string{"down", "passing", "idle"}).Draw(t, "state"))
	})
}

// TestEngineAgainstOracle: the slow one keeps all events and looks at all of them each time.
func TestEngineAgainstOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := someRules()
		g, o := incident.New(rules), &oracle{rules: rules}
		clock := noon()
		for n := range rapid.IntRange(1, 80).Draw(t, "events") {
			clock = clock.Add(time.Duration(rapid.IntRange(0, 45).Draw(t, "seconds")) * time.Second)
			e := someEvent().Draw(t, "event")
			e.Sequence, e.Time = uint64(n+1), clock
			got := []string{}
			for _, c := range g.See(&e) {
				got = append(got, short(c.Open, c.Incident.Rule, c.Incident.Key))
			}
			slices.Sort(got)
			if diff := cmp.Diff(o.see(e), got); diff != "" {
				t.Fatalf("at event %d (-oracle +engine)\n%s", n+1, diff)
			}
		}
	})
}

// TestRestartChangesNothing: an engine that is killed anywhere and goes on from what was kept at any time before comes to the same incidents, each on record once.
func TestRestartChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newStream(someRules()...)
		s.put(drop("x", "1")) // so that nothing waits since the start alone, which the engine that goes on does not know
		n := rapid.IntRange(1, 80).Draw(t, "events")
		kept, killed := rapid.IntRange(0, n).Draw(t, "kept"), rapid.IntRange(0, n).Draw(t, "killed")
		kept = min(kept, killed)
		var open []incident.Incident
		var through, from uint64
		r := newStream(someRules()...)
		for i := range n {
			if i == kept {
				open, through, from = s.Open(), s.Through(), s.From()
			}
			if i == killed {
				if kept == killed {
					open, through, from = s.Open(), s.Through(), s.From()
				}
				r.Restore(open, through)
				for _, e := range s.events {
					if e.Sequence >= max(from, 1) {
						r.See(&e)
					}
				}
				r.clock, r.sequence = s.clock, s.sequence
				r.note(r.Live(r.clock))
				s.told = nil
			}
			seconds, e := time.Duration(rapid.IntRange(0, 45).Draw(t, "seconds"))*time.Second, someEvent().Draw(t, "event")
			s.pass(seconds)
			s.put(e)
			if i >= killed {
				r.pass(seconds)
				r.put(e)
			}
		}
		if killed == n {
			return
		}
		if diff := cmp.Diff(s.told, r.told); diff != "" {
			t.Fatalf("kept at %d (through %d, from %d), killed at %d (-without +with)\n%s", kept, through, from, killed, diff)
		}
	})
}
