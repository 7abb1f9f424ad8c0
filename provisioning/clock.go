package provisioning

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"shekara/journal"
	"shekara/netctl/clock"
)

const (
	clockEvery  = 10 * time.Second // between two looks at the host's clock
	clockWindow = time.Minute      // within which one event of a kind tells of all changes
	// clockStep is by how much the clock must have been set to be told: below lie leap seconds, and what who keeps it does as he begins.
	clockStep = time.Second
)

// ClockStatus is how far the box's clock can be believed, by the kernel's word.
type ClockStatus struct {
	Synchronised bool          `json:"synchronised"` // somebody keeps it
	MaxError     time.Duration `json:"maxError"`     // how wrong it may be, nanoseconds; means nothing where nobody keeps it
	Since        time.Time     `json:"since"`        // it is or is not synchronised since then, or since the daemon started
	Steps        uint64        `json:"steps"`        // how often it was seen to be set by more than a second, since the daemon started
}

// timekeeping is what was seen of the clock. It belongs to the one goroutine of keepClock.
type timekeeping struct {
	last clock.Reading // zero: none yet

	told    string        // synchronised or not, as it is on record; "": nothing is
	changes int           // of that which are not on record
	before  time.Duration // the bound of its error when it was synchronised last
	next    time.Time     // from when on that may be told again

	steps    int           // that are not on record
	by       time.Duration // sum of these
	nextStep time.Time
}

// keepClock puts on record when nobody keeps the clock any more, when somebody does again, and when it was set.
func (e *Engine) keepClock(ctx context.Context) {
	if e.options.Clock == nil {
		return
	}
	k := timekeeping{}
	tick := time.NewTicker(clockEvery)
	defer tick.Stop()
	for {
		if r, err := e.options.Clock(); err != nil {
			e.options.Log.Warn("look at the clock", "error", err)
		} else {
			stepped := k.observe(r)
			e.showClock(r, stepped)
			for _, event := range k.tell(time.Now(), r) {
				e.record(ctx, event)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// observe takes a reading, and says whether the clock was set since the one before.
func (k *timekeeping) observe(r clock.Reading) (stepped bool) {
	switch last := k.last; {
	case !last.Wall.IsZero():
		by := r.Wall.Sub(last.Wall) - (r.Boot - last.Boot)
		if stepped = by.Abs() > clockStep+last.Gap+r.Gap; stepped {
			k.steps, k.by = k.steps+1, k.by+by
		}
		if r.Synchronised != last.Synchronised {
			k.changes++
		}
	case r.Synchronised: // as it should be: who reads the records sees it there
		k.told = synchronised(true)
	default:
		k.changes++
	}
	k.last = r
	return stepped
}

// tell gives what there is to put on record. Each kind is told at once, and then once in clockWindow with how often it changed meanwhile.
func (k *timekeeping) tell(now time.Time, r clock.Reading) (events []journal.Event) {
	if k.changes > 0 && !now.Before(k.next) {
		events = append(events, k.synchronisation(r))
		k.told, k.changes, k.next = synchronised(r.Synchronised), 0, now.Add(clockWindow)
	}
	if k.steps > 0 && !now.Before(k.nextStep) {
		from := r.Wall.Add(-k.by)
		event := journal.Event{Type: journal.ClockStep, Severity: journal.Warning, Object: "clock",
			Message: fmt.Sprintf("the clock was set from %s to %s, by %s", from.UTC().Format(time.RFC3339), r.Wall.UTC().Format(time.RFC3339), k.by.Round(time.Millisecond)),
			Fields: fieldsOf("before", from.UTC().Format(time.RFC3339Nano), "after", r.Wall.UTC().Format(time.RFC3339Nano), "by", k.by.String(), "times", strconv.Itoa(k.steps),
				"synchronised", strconv.FormatBool(r.Synchronised))}
		if k.steps > 1 {
			event.Message += fmt.Sprintf(" in %d times", k.steps)
		}
		events = append(events, event)
		k.steps, k.by, k.nextStep = 0, 0, now.Add(clockWindow)
	}
	if r.Synchronised {
		k.before = r.MaxError
	}
	return events
}

func (k *timekeeping) synchronisation(r clock.Reading) journal.Event {
	event := journal.Event{Object: "clock", Fields: fieldsOf("before", k.told, "after", synchronised(r.Synchronised), "times", strconv.Itoa(k.changes))}
	if r.Synchronised {
		event.Type, event.Severity = journal.ClockSynchronise, journal.Notice
		event.Message = fmt.Sprintf("somebody keeps the clock: it is wrong by at most %s", r.MaxError)
		event.Fields["errorMicroseconds"] = strconv.FormatInt(r.MaxError.Microseconds(), 10)
		return event
	}
	event.Type, event.Severity = journal.ClockLose, journal.Error
	event.Message = "nobody keeps the clock: how wrong the times of records are is not known"
	if k.before > 0 {
		event.Fields["errorMicroseconds"] = strconv.FormatInt(k.before.Microseconds(), 10)
		event.Message = fmt.Sprintf("nobody keeps the clock any more: how wrong the times of records are is not known; the last bound was %s", k.before)
	}
	return event
}

func synchronised(is bool) string {
	if is {
		return "synchronised"
	}
	return "unsynchronised"
}

// showClock is for the status.
func (e *Engine) showClock(r clock.Reading, stepped bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.clock
	if c == nil || c.Synchronised != r.Synchronised {
		c = &ClockStatus{Since: time.Now().UTC()}
		if e.clock != nil {
			c.Steps = e.clock.Steps
		}
	}
	next := *c
	next.Synchronised, next.MaxError = r.Synchronised, r.MaxError
	if stepped {
		next.Steps++
	}
	e.clock = &next // whoever was given the one before keeps it
}
