package provisioning

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"shekara/journal"
)

const (
	overloadEvery = time.Second      // between two looks at how the daemon keeps up
	overloadRest  = time.Minute      // so long nothing may be amiss before an overload is over
	turnLong      = 15 * time.Second // a turn of the loop that takes longer is late: nothing is repaired meanwhile
	queueMost     = 1024             // events that wait for a disk that takes writes; a write takes all that wait
)

// What an overload shows by. Each is counted from the daemon's start on.
const (
	lateTurns = iota
	slowWrites
	crowded
	lostEvents
	lostConnections
	lostDrops
	lostChanges
	overloads
)

// load is counts of these.
type load [overloads]uint64

func overloadWords() [overloads]struct{ field, text string } {
	return [overloads]struct{ field, text string }{
		lateTurns:       {"lateTurns", "turns of the loop that took longer than " + turnLong.String()},
		slowWrites:      {"slowWrites", "writes of the journal that took longer than " + journal.SlowWrite.String()},
		crowded:         {"crowdedSeconds", "seconds with more than " + strconv.Itoa(queueMost) + " events that waited for the disk"},
		lostEvents:      {"lostEvents", "events that the journal had no room for"},
		lostConnections: {"lostConnections", "times the kernel had no room for news of connections"},
		lostDrops:       {"lostDrops", "times there was no room for records of dropped packets"},
		lostChanges:     {"lostChanges", "times the kernel had no room for changes of the host"},
	}
}

// overload belongs to the one goroutine of keepOverload.
type overload struct {
	last   load // as it was counted last
	missed uint64
	before load      // when the overload began
	began  time.Time // zero: there is none
	seen   time.Time // when something was amiss last
}

// keepOverload puts on record when the daemon cannot keep up, and when it can again.
func (e *Engine) keepOverload(ctx context.Context) {
	var o overload
	e.weigh(&o, time.Now())
	tick := time.NewTicker(overloadEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now, before := time.Now(), o.last
		if e.weigh(&o, now) { // a turn that hangs is news once, and over when it ends
			o.seen = now
		}
		if event, tell := o.judge(now, o.last.since(before)); tell {
			e.options.Journal.Post(event)
		}
		alarm := ""
		if !o.began.IsZero() {
			alarm = fmt.Sprintf("the daemon is overloaded since %s: %s", o.began.UTC().Format(time.RFC3339), o.last.since(o.before))
		}
		e.mu.Lock()
		e.overloaded = alarm
		e.mu.Unlock()
	}
}

// weigh counts, and says whether a turn is late that goes on. What cannot be written to a disk that takes nothing is no overload: the journal says so itself.
func (e *Engine) weigh(o *overload, now time.Time) (late bool) {
	e.mu.Lock() // a turn's end is counted under it
	for i := range e.strain {
		o.last[i] = e.strain[i].Load()
	}
	late = !e.turning.IsZero() && now.Sub(e.turning) > turnLong
	e.mu.Unlock()
	if late { // its end counts it for good
		o.last[lateTurns]++
	}
	h := e.options.Journal.Health()
	o.last[slowWrites] = h.Slow
	if h.Err == nil && h.Waiting > queueMost {
		e.strain[crowded].Add(1)
	}
	if h.Err == nil && h.Missed > o.missed {
		e.strain[lostEvents].Add(h.Missed - o.missed)
	}
	o.missed = h.Missed
	return late
}

// judge takes what came since the last look, and gives what there is to put on record: once when it begins, and once when it was over for overloadRest.
func (o *overload) judge(now time.Time, news load) (event journal.Event, tell bool) {
	switch {
	case news != load{}:
		o.seen = now
		if !o.began.IsZero() {
			return event, false
		}
		o.began = now
		for i := range o.before {
			o.before[i] = o.last[i] - news[i]
		}
		return journal.Event{Type: journal.DaemonOverload, Severity: journal.Warning, Message: "the daemon does not keep up: " + news.String(), Fields: news.fields()}, true
	case o.began.IsZero() || now.Sub(o.seen) < overloadRest:
		return event, false
	}
	all, took := o.last.since(o.before), o.seen.Sub(o.began)
	event = journal.Event{Type: journal.DaemonRecover, Severity: journal.Notice, Fields: all.fields(),
		Message: fmt.Sprintf("the daemon keeps up again; within %s there were %s", took.Round(time.Second), all)}
	event.Fields["since"], event.Fields["until"] = o.began.UTC().Format(time.RFC3339Nano), o.seen.UTC().Format(time.RFC3339Nano)
	o.began = time.Time{}
	return event, true
}

func (l load) since(before load) load {
	for i := range l {
		l[i] -= min(l[i], before[i]) // a turn that was late when it was looked at may have ended just in time
	}
	return l
}

// String names what there is.
func (l load) String() string {
	var parts []string
	for i, n := range l {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, overloadWords()[i].text))
		}
	}
	return strings.Join(parts, ", ")
}

func (l load) fields() map[string]string {
	fields := map[string]string{}
	for i, n := range l {
		if n > 0 {
			fields[overloadWords()[i].field] = strconv.FormatUint(n, 10)
		}
	}
	return fields
}
