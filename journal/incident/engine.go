package incident

import (
	"cmp"
	"container/heap"
	"container/list"
	"reflect"
	"slices"
	"time"

	"shekara/journal"
)

// What is kept of one rule, whoever sends packets.
const (
	MaxKeys = 1000 // that events were seen of; the one that was seen least recently is forgotten
	MaxOpen = 100  // incidents at a time; further ones are only counted
)

// backwards is how much older than the one before an event may be and yet have happened now: what had to wait for the disk. Beyond, somebody set the clock.
const backwards = time.Minute

// Engine says what the events come to. It belongs to one goroutine.
//
// Its time goes by that of the events, and never back: where the clock was set back it goes on from there. Between events Advance moves it.
type Engine struct {
	rules   map[string]*watched
	byType  map[journal.Type][]*watched // those that may want an event
	due     dues
	now     time.Time // the engine's time
	clock   time.Time // what the clock showed then
	through uint64    // sequence of the last event
	replay  replay
	changes []Change // of the step at hand
}

// replay is a part of the journal that was evaluated in an earlier life.
type replay struct {
	on      bool
	known   uint64   // what opened and closed up to this sequence stands in what was restored
	resumed bool     // events beyond it are at hand
	lacked  []Change // that are not on record yet
}

// watched is a rule and what was seen of it.
type watched struct {
	Rule
	keys       map[string]*track
	recent     list.List // of tracks without an incident, the least recently seen first
	open       int
	overIncids bool
	forgotten  uint64 // keys
	unopened   uint64 // incidents
}

// track is what was seen of one key.
type track struct {
	rule     *watched
	key      string
	place    *list.Element // in recent; nil: it has an incident
	marks    []mark        // threshold: what counts; sequence: the last first event; absence: what it waits after
	deadline time.Time     // absence: when it opens; zero: it does not
	incident *Incident
	last     time.Time // engine's time of the last of its events
	queued   time.Time // the earliest time in dues; zero: none
	restored bool      // what is known of it is newer than the event at hand
}

// mark is an event that counts.
type mark struct {
	at       time.Time
	sequence uint64
	distinct string
}

// New makes an engine for the rules, which Check found good.
func New(rules []Rule) *Engine {
	g := &Engine{rules: map[string]*watched{}}
	g.SetRules(rules)
	return g
}

// Restore begins a replay: it takes over the incidents that were open when events up to the sequence had been evaluated. Then See is to be handed events from
// what From said on, and Live ends it.
func (g *Engine) Restore(open []Incident, through uint64) {
	g.replay = replay{on: true, known: through}
	for _, i := range open {
		w := g.rules[i.Rule]
		if w == nil || w.open >= MaxOpen {
			continue
		}
		t := w.track(i.Key)
		if t.incident == nil {
			t.adopt(i)
			t.restored = true
		}
	}
}

// Live ends a replay at the time, and gives what it came to that is not on record.
func (g *Engine) Live(clock time.Time) []Change {
	if g.now.IsZero() {
		g.begin(clock)
	}
	g.changes = nil
	g.resume()
	lacked := append(g.replay.lacked, g.changes...)
	g.replay = replay{}
	return append(lacked, g.Advance(clock)...)
}

// resume goes on with what was restored: what it stands for is over, and what follows was not known yet.
func (g *Engine) resume() {
	if g.replay.resumed {
		return
	}
	g.replay.resumed = true
	for _, w := range g.rules {
		for _, t := range w.keys {
			if t.restored {
				t.restored = false
				t.last = g.now.Add(min(0, t.incident.Last.Sub(g.clock)))
				g.schedule(t)
			}
		}
	}
}

// SetRules takes other rules. What was seen of those that stay the same is kept; the incidents of all others are closed.
func (g *Engine) SetRules(rules []Rule) []Change {
	g.changes = nil
	before := g.rules
	g.rules, g.byType = map[string]*watched{}, map[journal.Type][]*watched{}
	for _, r := range rules {
		w := before[r.Name]
		fresh := w == nil || !reflect.DeepEqual(w.Rule, r)
		if fresh {
			w = &watched{Rule: r, keys: map[string]*track{}, overIncids: r.takesOwn()}
		}
		g.rules[r.Name] = w
		for _, entry := range journal.Catalogue() {
			if slices.ContainsFunc(w.matches(), func(m *Match) bool { return m.takes(entry.Type) }) {
				g.byType[entry.Type] = append(g.byType[entry.Type], w)
			}
		}
		if fresh && !g.now.IsZero() {
			g.awaitFromStart(w)
		}
	}
	for _, w := range before {
		if g.rules[w.Name] == w {
			continue
		}
		for _, t := range w.keys {
			g.close(t, "its rule was changed or removed")
			t.queued = time.Time{}
		}
	}
	slices.SortFunc(g.changes, func(a, b Change) int {
		return cmp.Or(cmp.Compare(a.Incident.Rule, b.Incident.Rule), cmp.Compare(a.Incident.Key, b.Incident.Key))
	})
	return g.changes
}

// See takes the next event, and says what opened or closed by it and by the time until then.
func (g *Engine) See(e *journal.Event) []Change {
	g.changes = nil
	if g.now.IsZero() {
		g.begin(e.Time)
	}
	if g.replay.on && e.Sequence > g.replay.known {
		g.resume()
	}
	g.advance(e.Time)
	g.through = e.Sequence
	for _, w := range g.byType[e.Type] {
		if own(e.Type) && g.feedsItself(e) {
			continue
		}
		g.judge(w, e)
	}
	changes := g.answer()
	if own(e.Type) && g.replay.on {
		g.readOwn(e)
	}
	return changes
}

// Advance says what opens or closes by the time alone. All events until then must have been seen.
func (g *Engine) Advance(clock time.Time) []Change {
	g.changes = nil
	if g.now.IsZero() {
		g.begin(clock)
	}
	g.advance(clock)
	return g.answer()
}

// answer keeps what a replay comes to until it is clear what of it is on record.
func (g *Engine) answer() []Change {
	if g.replay.on && g.through > g.replay.known {
		g.replay.lacked = append(g.replay.lacked, g.changes...)
	}
	return g.changes
}

// feedsItself says whether an incident comes from a rule over incidents: those are no rule's business, or they would go round for ever.
func (g *Engine) feedsItself(e *journal.Event) bool {
	w := g.rules[e.Fields[fieldRule]]
	return w == nil || w.overIncids
}

// begin sets the engine's time, and waits for what should come.
func (g *Engine) begin(clock time.Time) {
	g.now, g.clock = clock, clock
	for _, w := range g.rules {
		g.awaitFromStart(w)
	}
}

// advance moves the engine's time as far as the clock has gone.
func (g *Engine) advance(clock time.Time) {
	switch passed := clock.Sub(g.clock); {
	case passed > 0:
		g.now, g.clock = g.now.Add(passed), clock
	case passed < -backwards:
		g.clock = clock
	}
	for len(g.due) > 0 && g.due[0].at.Before(g.now) {
		next := heap.Pop(&g.due).(due)
		if t := next.track; t.queued.Equal(next.at) {
			t.queued = time.Time{}
			if t.dueAt().Equal(next.at) {
				g.expire(t)
			}
			g.schedule(t) // it may have been put off
		}
	}
}

// expire does what the time alone does to a key that is due.
func (g *Engine) expire(t *track) {
	if t.incident != nil {
		g.close(t, "quiet for "+t.rule.Quiet.String())
		return
	}
	g.open(t)
}

// judge lets a rule look at an event.
func (g *Engine) judge(w *watched, e *journal.Event) {
	counts, ends := w.counts(e), w.Until != nil && w.Until.Matches(e)
	if w.Absence != nil {
		counts, ends = w.Absence.After != nil && w.Absence.After.Matches(e) || w.Absence.After == nil && w.Absence.Events.Matches(e), ends || w.Absence.Events.Matches(e)
	}
	if !counts && !ends {
		return
	}
	key, has := values(e, w.By)
	if len(w.By) > 0 && !has {
		return
	}
	t := w.keys[key]
	if t == nil && !counts {
		return
	}
	if t == nil {
		t = w.track(key)
	}
	if t.restored {
		return
	}
	t.seen()
	if ends {
		t.marks, t.deadline = t.marks[:0], time.Time{}
		g.close(t, "ended by "+string(e.Type))
	}
	if counts {
		g.count(t, e)
	}
	g.schedule(t)
}

// counts says whether the event is one that a threshold or a sequence is made of.
func (w *watched) counts(e *journal.Event) bool {
	switch {
	case w.Threshold != nil:
		return w.Threshold.Events.Matches(e)
	case w.Sequence != nil:
		return w.Sequence.First.Matches(e) || w.Sequence.Then.Matches(e)
	}
	return false
}

// count adds an event to what was seen of a key, and opens if that is enough.
func (g *Engine) count(t *track, e *journal.Event) {
	if i := t.incident; i != nil {
		if t.rule.Absence == nil {
			i.Count, i.Last, i.Through, t.last = i.Count+1, e.Time, e.Sequence, g.now
			if len(i.Sequences) < shownSequences {
				i.Sequences = append(i.Sequences, e.Sequence)
			}
		}
		return
	}
	m := mark{at: g.now, sequence: e.Sequence}
	switch r := t.rule; {
	case r.Absence != nil:
		g.await(t, m)
	case r.Sequence != nil:
		g.follow(t, m, e)
	default:
		if !t.add(m, e, g.now) {
			return
		}
		g.open(t)
	}
}

// await begins a wait, unless one after the same kind of event is under way.
func (g *Engine) await(t *track, m mark) {
	if t.incident != nil || t.rule.Absence.After != nil && !t.deadline.IsZero() {
		return
	}
	t.marks, t.deadline = append(t.marks[:0], m), g.now.Add(t.rule.Absence.Within)
	g.schedule(t)
}

// awaitFromStart waits for what should come, whatever came before.
func (g *Engine) awaitFromStart(w *watched) {
	if w.Absence != nil && w.Absence.After == nil && len(w.By) == 0 {
		g.await(w.track(""), mark{at: g.now})
	}
}

// follow looks for the second event of a sequence before the first, as one that is both does not follow itself.
func (g *Engine) follow(t *track, m mark, e *journal.Event) {
	s := t.rule.Sequence
	if len(t.marks) > 0 && g.now.Sub(t.marks[0].at) <= s.Within && s.Then.Matches(e) {
		t.marks = append(t.marks, m)
		g.open(t)
		return
	}
	if s.First.Matches(e) {
		t.marks = append(t.marks[:0], m)
	}
}

// add marks an event of a threshold, and says whether that is enough.
func (t *track) add(m mark, e *journal.Event, now time.Time) bool {
	r := t.rule.Threshold
	if len(r.Distinct) > 0 {
		var has bool
		if m.distinct, has = values(e, r.Distinct); !has {
			return false
		}
		if at := slices.IndexFunc(t.marks, func(o mark) bool { return o.distinct == m.distinct }); at >= 0 {
			t.marks = slices.Delete(t.marks, at, at+1)
		}
	}
	old := 0
	for old < len(t.marks) && now.Sub(t.marks[old].at) > r.Within {
		old++
	}
	t.marks = append(slices.Delete(t.marks, 0, old), m)
	return len(t.marks) >= r.Count
}

// open opens an incident of what is marked.
func (g *Engine) open(t *track) {
	w := t.rule
	marks := t.marks
	t.marks, t.deadline = nil, time.Time{}
	if w.open >= MaxOpen {
		w.unopened++
		return
	}
	i := Incident{Rule: w.Name, Key: t.key, Severity: w.Severity, Summary: w.Summary, Advice: w.Advice, Opened: g.clock, Last: g.clock, Through: g.through}
	for _, m := range marks {
		if m.sequence == 0 {
			continue // an absence after the start is no event's
		}
		if i.Count++; len(i.Sequences) < shownSequences {
			i.Sequences = append(i.Sequences, m.sequence)
		}
	}
	t.last = g.now
	t.adopt(i)
	g.changes = append(g.changes, Change{Open: true, Incident: i.copy()})
}

func (t *track) adopt(i Incident) {
	i = i.copy()
	t.incident, t.marks, t.deadline = &i, nil, time.Time{}
	t.rule.open++
	if t.place != nil {
		t.rule.recent.Remove(t.place)
		t.place = nil
	}
}

func (i Incident) copy() Incident {
	i.Sequences = slices.Clone(i.Sequences)
	return i
}

func (g *Engine) close(t *track, reason string) {
	if t.incident == nil {
		return
	}
	i := t.incident.copy()
	i.Closed, i.Reason = g.clock, reason
	t.incident = nil
	t.rule.open--
	t.place = t.rule.recent.PushBack(t)
	g.changes = append(g.changes, Change{Incident: i})
}
