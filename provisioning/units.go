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
	unitsLast     = 2 * time.Second  // so long a daemon that ends waits for what is to be recorded still
	allUnits      = "*"              // whose a message is that cannot be read
	positionFile  = "units"
	maxPosition   = 64 << 10
)

// unitPosition is how far messages are on record.
type unitPosition struct {
	Cursor string    `json:"cursor,omitempty"` // of the last of them
	Time   time.Time `json:"time"`             // of that, or since when they are read
	Unit   string    `json:"unit,omitempty"`   // whose that was
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
	if !e.loadUnitPosition(ctx, &u) {
		return
	}
	for ctx.Err() == nil {
		units := e.unitsAsked()
		err := e.readUnits(ctx, &u, units)
		if ctx.Err() == nil && errors.Is(err, errOtherUnits) {
			continue
		}
		e.unitsFail(ctx, &u, err, time.Now())
	}
	last, stop := context.WithTimeout(context.WithoutCancel(ctx), unitsLast)
	defer stop()
	e.endUnitWindows(last, &u, time.Now().Add(unitWindow))
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
			e.endUnitWindows(ctx, u, now)
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
	event := unitEvent(m, u.read)
	if m.Unread != nil {
		m.Unit, m.Priority = allUnits, 4
	} else if u.fresh {
		u.fresh = false
		if u.read.Cursor != "" && m.Cursor == u.read.Cursor {
			return // it is on record: reading begins with it, which shows that journald has all that followed
		}
		if slices.Contains(units, u.read.Unit) {
			e.options.Journal.Post(journal.Event{Type: journal.UnitMiss, Severity: journal.Warning, Object: "unit/" + allUnits,
				Message: "journald does not have the message any more that was put on record last: others may have gone with it before they were read",
				Fields:  fieldsOf("since", u.read.Time.Format(time.RFC3339Nano), "until", m.Time.Format(time.RFC3339Nano))})
		}
	}
	w := u.windows[m.Unit]
	if w == nil {
		w = &unitCount{ends: time.Now().Add(unitWindow), gravest: 7}
		u.windows[m.Unit] = w
	}
	if w.shown >= unitsShown {
		w.more, w.gravest = w.more+1, min(w.gravest, m.Priority)
	} else {
		if !e.recordOfUnit(ctx, event) {
			return
		}
		w.shown++
	}
	if m.Unread == nil { // of others it is not known where they stand: reading that begins anew meets them again
		u.read = unitPosition{Cursor: m.Cursor, Time: m.Time, Unit: m.Unit}
	}
	u.settle()
}

// recordOfUnit returns when the event is on record. While the journal takes nothing it waits, and journald keeps what units say. False: the context ended before.
func (e *Engine) recordOfUnit(ctx context.Context, event journal.Event) bool {
	for {
		if e.options.Journal.Health().Err == nil {
			select {
			case err := <-e.options.Journal.Post(event):
				if err == nil {
					return true
				}
			case <-ctx.Done():
				return false
			}
		}
		select {
		case <-time.After(unitsEvery):
		case <-ctx.Done():
			return false
		}
	}
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
func (e *Engine) endUnitWindows(ctx context.Context, u *unitRecords, now time.Time) {
	for _, unit := range slices.Sorted(maps.Keys(u.windows)) {
		w := u.windows[unit]
		if now.Before(w.ends) {
			continue
		}
		if w.more > 0 {
			sum := journal.Event{Type: journal.UnitMessage, Severity: unitSeverity(w.gravest), Object: "unit/" + unit,
				Message: fmt.Sprintf("%d more messages within %s", w.more, unitWindow), Fields: fieldsOf("suppressed", strconv.FormatUint(w.more, 10), "priority", strconv.Itoa(w.gravest))}
			if unit == allUnits {
				sum.Type, sum.Message = journal.UnitMiss, fmt.Sprintf("%d more messages within %s cannot be read", w.more, unitWindow)
			}
			if !e.recordOfUnit(ctx, sum) {
				continue
			}
		}
		delete(u.windows, unit)
	}
	u.settle()
}

func unitEvent(m journald.Message, after unitPosition) journal.Event {
	if m.Unread != nil {
		return journal.Event{Type: journal.UnitMiss, Severity: journal.Warning, Object: "unit/" + allUnits,
			Message: shorten("a message that journald has cannot be read: " + m.Unread.Error() + ". It was said after the time in the field since: journalctl shows it"),
			Fields:  fieldsOf("since", after.Time.Format(time.RFC3339Nano))}
	}
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
		e.options.Journal.Post(journal.Event{Type: journal.UnitMiss, Severity: journal.Warning, Object: "unit/" + allUnits, Message: why + ". What journald keeps meanwhile is read when it can be",
			Fields: fieldsOf("since", u.failing.UTC().Format(time.RFC3339Nano))})
		e.showUnits(why)
	}
	e.endUnitWindows(ctx, u, now)
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
		e.options.Journal.Post(journal.Event{Type: journal.UnitResume, Severity: journal.Notice, Object: "unit/" + allUnits, Message: "messages of the host's units are put on record again",
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

// loadUnitPosition goes on where the last daemon was; the first one begins now. False: that it does so for want of a position is not on record, as the context ended before.
func (e *Engine) loadUnitPosition(ctx context.Context, u *unitRecords) bool {
	now := time.Now().UTC()
	data, err := durable.ReadFile(e.unitPositionPath(), maxPosition)
	if err == nil {
		err = json.Unmarshal(data, &u.read)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !e.recordOfUnit(ctx, journal.Event{Type: journal.UnitMiss, Severity: journal.Warning, Object: "unit/" + allUnits,
		Message: shorten("how far messages of the host's units are on record cannot be read, and those before this start are not put there: " + err.Error()),
		Fields:  fieldsOf("until", now.Format(time.RFC3339Nano))}) {
		return false
	}
	if err == nil {
		u.saved = u.read
	} else {
		u.read = unitPosition{Time: now}
	}
	u.safe = u.read
	e.saveUnitPosition(u)
	return true
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
