package provisioning

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"shekara/journal"
	"shekara/netctl/durable"
	"shekara/netctl/journald"
)

// Units is where messages of the host's units come from: journald.Reader.
type Units interface {
	// Follow hands over what these units say, in order, until the context ends, it cannot go on, or got returns an error. It always returns an error.
	Follow(ctx context.Context, units []string, from journald.Position, got func(journald.Message) error) error
}

const (
	unitWindow    = time.Minute
	unitsShown    = 30               // messages of a unit that are events of their own in a window
	unitsEvery    = time.Second      // the position is written durably if it changed, and the documents are asked for their units
	unitsRest     = 5 * time.Second  // before reading is tried again; longer each time
	unitsRestMost = time.Minute      //
	unitsPatience = time.Minute      // so long it may fail before that is told
	unitsSteady   = 10 * time.Second // so long it must go on before it is said to
	positionFile  = "units"
	maxPosition   = 64 << 10
)

// unitPosition is how far messages are on record.
type unitPosition struct {
	Cursor string    `json:"cursor,omitempty"` // of the last of them
	Time   time.Time `json:"time"`             // of that, or since when they are read
	Units  []string  `json:"units"`            // that were read then
}

// unitCount is what a unit said in a window.
type unitCount struct {
	ends    time.Time
	shown   int
	more    uint64
	gravest int // of those that are no events
}

// unitRecords belongs to the one goroutine of keepUnits.
type unitRecords struct {
	windows map[string]*unitCount
	read    unitPosition // how far messages were taken
	safe    unitPosition // how far they are on record, the sums too
	saved   unitPosition
	fresh   bool // nothing was read since reading began

	rest    time.Duration
	failing time.Time // since when it cannot be read; zero: it can
	told    bool      // that it cannot
}

// keepUnits puts on record what the units of the host say that the Site names. Nothing is lost while the journal takes nothing: journald keeps it, and is read later.
func (e *Engine) keepUnits(ctx context.Context) {
	if e.options.Units == nil {
		return
	}
	u := unitRecords{windows: map[string]*unitCount{}, rest: unitsRest}
	e.loadUnitPosition(&u)
	for ctx.Err() == nil {
		units := e.unitsAsked()
		err := e.readUnits(ctx, &u, units)
		if ctx.Err() == nil && errors.Is(err, errOtherUnits) {
			continue
		}
		e.unitsFail(ctx, &u, err, time.Now())
	}
	e.endUnitWindows(&u, time.Now().Add(unitWindow))
	e.saveUnitPosition(&u)
}

var errOtherUnits = errors.New("the documents name other units")

// unitsAsked are those that the documents in force name, sorted.
func (e *Engine) unitsAsked() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.intent.base.Units
}

// readUnits reads until it fails, or the documents name other units.
func (e *Engine) readUnits(ctx context.Context, u *unitRecords, units []string) error {
	reading, stop := context.WithCancel(ctx)
	defer stop()
	messages, ended := make(chan journald.Message), make(chan error, 1)
	if len(units) > 0 {
		from := journald.Position{Cursor: u.read.Cursor, Since: u.read.Time}
		go func() {
			ended <- e.options.Units.Follow(reading, units, from, func(m journald.Message) error {
				select {
				case messages <- m:
					return nil
				case <-reading.Done():
					return reading.Err()
				}
			})
		}()
	} else {
		ended = nil
	}
	u.fresh = true
	began := time.Now()
	tick := time.NewTicker(unitsEvery)
	defer tick.Stop()
	defer func() { // whoever sends is not left waiting
		stop()
		if ended != nil {
			<-ended
		}
	}()
	for {
		select {
		case m := <-messages:
			e.unitsGoOn(u, time.Now())
			e.takeMessage(ctx, u, m, units)
		case err := <-ended:
			ended = nil
			return err
		case now := <-tick.C:
			if now.Sub(began) >= unitsSteady {
				e.unitsGoOn(u, now)
			}
			e.endUnitWindows(u, now)
			e.saveUnitPosition(u)
			if !slices.Equal(units, e.unitsAsked()) {
				return errOtherUnits
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// takeMessage puts one on record, or counts it.
func (e *Engine) takeMessage(ctx context.Context, u *unitRecords, m journald.Message, units []string) {
	first := u.fresh && u.read.Cursor != ""
	u.fresh = false
	if first && m.Cursor == u.read.Cursor {
		return // it is on record: reading begins with it, which shows that journald has all that followed
	}
	if first && slices.Equal(units, u.read.Units) {
		e.options.Journal.Post(journal.Event{Type: journal.UnitMiss, Severity: journal.Warning, Object: "unit/*",
			Message: "journald does not have the message any more that was put on record last: others may have gone with it before they were read",
			Fields:  fieldsOf("since", u.read.Time.Format(time.RFC3339Nano), "until", m.Time.Format(time.RFC3339Nano))})
	}
	w := u.windows[m.Unit]
	if w == nil {
		w = &unitCount{ends: time.Now().Add(unitWindow), gravest: 7}
		u.windows[m.Unit] = w
	}
	if w.shown >= unitsShown {
		w.more, w.gravest = w.more+1, min(w.gravest, m.Priority)
	} else {
		w.shown++
		select { // a message that is not taken is kept by journald
		case <-e.options.Journal.Post(unitEvent(m)):
		case <-ctx.Done():
			return
		}
	}
	u.read = unitPosition{Cursor: m.Cursor, Time: m.Time, Units: units}
	u.settle()
}

// settle notes how far all is on record.
func (u *unitRecords) settle() {
	for _, w := range u.windows {
		if w.more > 0 {
			return
		}
	}
	u.safe = u.read
}

// endUnitWindows ends those that are over, each with how many messages are no events.
func (e *Engine) endUnitWindows(u *unitRecords, now time.Time) {
	for _, unit := range slices.Sorted(maps.Keys(u.windows)) {
		w := u.windows[unit]
		if now.Before(w.ends) {
			continue
		}
		delete(u.windows, unit)
		if w.more > 0 {
			e.options.Journal.Post(journal.Event{Type: journal.UnitMessage, Severity: unitSeverity(w.gravest), Object: "unit/" + unit,
				Message: fmt.Sprintf("%d more messages within %s", w.more, unitWindow), Fields: fieldsOf("suppressed", strconv.FormatUint(w.more, 10), "priority", strconv.Itoa(w.gravest))})
		}
	}
	u.settle()
}

func unitEvent(m journald.Message) journal.Event {
	event := journal.Event{Type: journal.UnitMessage, Severity: unitSeverity(m.Priority), Object: "unit/" + m.Unit, Message: cmp.Or(m.Text, "an empty message"),
		Fields: fieldsOf("at", m.Time.Format(time.RFC3339Nano), "identifier", m.Identifier, "priority", strconv.Itoa(m.Priority))}
	if m.Cut {
		event.Fields["cut"] = "true"
	}
	return event
}

// unitSeverity is a priority of syslog(3) as the journal has it.
func unitSeverity(priority int) journal.Severity {
	switch {
	case priority <= 1:
		return journal.Alert
	case priority <= 3:
		return journal.Error
	case priority == 4:
		return journal.Warning
	case priority == 5:
		return journal.Notice
	}
	return journal.Info
}

// unitsFail tells that reading failed when it did so for a while, and rests before it is tried again.
func (e *Engine) unitsFail(ctx context.Context, u *unitRecords, err error, now time.Time) {
	if ctx.Err() != nil {
		return
	}
	if u.failing.IsZero() {
		u.failing, u.told = now, false
		e.options.Log.Warn("read messages of units", "error", err)
	}
	if now.Sub(u.failing) >= unitsPatience && !u.told {
		u.told = true
		why := shorten("messages of the host's units are not put on record: " + err.Error())
		e.options.Journal.Post(journal.Event{Type: journal.UnitMiss, Severity: journal.Warning, Object: "unit/*", Message: why + ". What journald keeps meanwhile is read when it can be",
			Fields: fieldsOf("since", u.failing.UTC().Format(time.RFC3339Nano))})
		e.showUnits(why)
	}
	e.endUnitWindows(u, now)
	e.saveUnitPosition(u)
	select {
	case <-time.After(u.rest):
	case <-ctx.Done():
	}
	u.rest = min(2*u.rest, unitsRestMost)
}

// unitsGoOn tells that messages are read again, if it was told that they are not.
func (e *Engine) unitsGoOn(u *unitRecords, now time.Time) {
	if u.told {
		e.options.Journal.Post(journal.Event{Type: journal.UnitResume, Severity: journal.Notice, Object: "unit/*", Message: "messages of the host's units are put on record again",
			Fields: fieldsOf("since", u.failing.UTC().Format(time.RFC3339Nano), "until", now.UTC().Format(time.RFC3339Nano))})
		e.showUnits("")
	}
	u.failing, u.told, u.rest = time.Time{}, false, unitsRest
}

// showUnits is for the status.
func (e *Engine) showUnits(why string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.unitsUnread = why
}

func (e *Engine) unitPositionPath() string { return filepath.Join(e.options.StateDir, positionFile) }

// loadUnitPosition goes on where the last daemon was; the first one begins now.
func (e *Engine) loadUnitPosition(u *unitRecords) {
	data, err := durable.ReadFile(e.unitPositionPath(), maxPosition)
	if err == nil {
		err = json.Unmarshal(data, &u.read)
	}
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			e.options.Log.Warn("how far messages of units are on record", "error", err)
		}
		u.read = unitPosition{Time: time.Now().UTC()}
	} else {
		u.saved = u.read
	}
	u.safe = u.read
	e.saveUnitPosition(u)
}

func (e *Engine) saveUnitPosition(u *unitRecords) {
	if u.safe.Cursor == u.saved.Cursor && u.safe.Time.Equal(u.saved.Time) {
		return
	}
	data, err := json.Marshal(u.safe)
	if err == nil {
		err = durable.WriteFile(e.unitPositionPath(), append(data, '\n'), 0o600)
	}
	if err != nil {
		e.options.Log.Warn("how far messages of units are on record", "error", err)
		return
	}
	u.saved = u.safe
}
