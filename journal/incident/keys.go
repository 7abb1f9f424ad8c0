package incident

import (
	"cmp"
	"container/heap"
	"slices"
	"time"

	"shekara/journal"
)

// track finds what was seen of a key, and begins anew if it is not known.
func (w *watched) track(key string) *track {
	if t := w.keys[key]; t != nil {
		return t
	}
	if w.recent.Len() >= MaxKeys {
		oldest := w.recent.Remove(w.recent.Front()).(*track)
		delete(w.keys, oldest.key)
		oldest.queued = time.Time{}
		w.forgotten++
	}
	t := &track{rule: w, key: key}
	t.place = w.recent.PushBack(t)
	w.keys[key] = t
	return t
}

func (t *track) seen() {
	if t.place != nil {
		t.rule.recent.MoveToBack(t.place)
	}
}

// due is when a key is to be looked at for the time alone.
type due struct {
	at    time.Time
	track *track
}

// dues are in order of time, then rule, then key, so that the same events give the same answers. One that was put off stays in it until its time comes.
type dues []due

func (d dues) Len() int      { return len(d) }
func (d dues) Swap(i, j int) { d[i], d[j] = d[j], d[i] }
func (d *dues) Push(x any)   { *d = append(*d, x.(due)) }
func (d dues) Less(i, j int) bool {
	a, b := d[i], d[j]
	return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.track.rule.Name, b.track.rule.Name), cmp.Compare(a.track.key, b.track.key)) < 0
}

func (d *dues) Pop() any {
	old := *d
	last := old[len(old)-1]
	*d = old[:len(old)-1]
	return last
}

// dueAt is when the time alone changes a key; zero: never.
func (t *track) dueAt() time.Time {
	switch {
	case t.restored:
	case t.incident == nil:
		return t.deadline
	case t.rule.Quiet > 0:
		return t.last.Add(t.rule.Quiet)
	}
	return time.Time{}
}

// schedule has a key looked at when it is due.
func (g *Engine) schedule(t *track) {
	at := t.dueAt()
	if at.IsZero() || !t.queued.IsZero() && !at.Before(t.queued) {
		return
	}
	t.queued = at
	heap.Push(&g.due, due{at, t})
	if len(g.due) > 4*(MaxKeys+MaxOpen)*len(g.rules) { // of keys that were forgotten
		g.due = slices.DeleteFunc(g.due, func(d due) bool { return !d.track.queued.Equal(d.at) })
		heap.Init(&g.due)
	}
}

// readOwn compares what a replay came to with what is on record of it.
func (g *Engine) readOwn(e *journal.Event) {
	w := g.rules[e.Fields[fieldRule]]
	if w == nil {
		return
	}
	opened, key := e.Type == journal.IncidentOpen, e.Fields[fieldKey]
	same := func(c Change) bool { return c.Open == opened && c.Incident.Rule == w.Name && c.Incident.Key == key }
	if at := slices.IndexFunc(g.replay.lacked, same); at >= 0 {
		g.replay.lacked = slices.Delete(g.replay.lacked, at, at+1)
		return
	}
	t := w.track(key)
	switch {
	case t.restored && e.Sequence <= g.replay.known:
	case opened && t.incident == nil && w.open < MaxOpen:
		t.adopt(adopted(&w.Rule, e))
		t.last = g.now
		g.schedule(t)
	case !opened && t.incident != nil:
		before := g.changes
		g.close(t, "")
		g.changes = before // it is on record
	}
}

// Open are the incidents that are open, the oldest first.
func (g *Engine) Open() (open []Incident) {
	for _, w := range g.rules {
		for _, t := range w.keys {
			if t.incident != nil {
				i := t.incident.copy()
				i.Through = max(i.Through, g.through)
				open = append(open, i)
			}
		}
	}
	slices.SortFunc(open, func(a, b Incident) int {
		return cmp.Or(a.Opened.Compare(b.Opened), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Key, b.Key))
	})
	return open
}

// Through is the sequence of the last event that was seen.
func (g *Engine) Through() uint64 { return g.through }

// From is the sequence of the first event that may still count: who restores an engine begins there.
func (g *Engine) From() uint64 {
	from := g.through + 1
	for _, w := range g.rules {
		for _, t := range w.keys {
			for _, m := range t.marks {
				if m.sequence > 0 && (w.Absence != nil || g.now.Sub(m.at) <= w.within()) {
					from = min(from, m.sequence)
				}
			}
		}
	}
	return from
}

// Bounds is what was let go because there was more than is kept: keys, and incidents.
func (g *Engine) Bounds() (forgotten, unopened uint64) {
	for _, w := range g.rules {
		forgotten, unopened = forgotten+w.forgotten, unopened+w.unopened
	}
	return forgotten, unopened
}
