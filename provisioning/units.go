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
	unitsShown    = 30               // messages of a kind that are events of their own in a window
	unitsSpell    = time.Hour        //
	unitsInSpell  = 300              // those in so long: who tries passwords for years does not fill the disk with it
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

// unitKind are messages that are counted together: whoever makes a unit say much hides neither what is graver nor what systemd says of it. There are at most sixteen kinds of
// each unit that the documents name.
type unitKind struct {
	unit     string
	manager  bool // systemd said it of the unit
	priority int
}

func (k unitKind) compare(other unitKind) int {
	return cmp.Or(cmp.Compare(k.unit, other.unit), cmp.Compare(k.priority, other.priority), cmp.Compare(ifSo(k.manager), ifSo(other.manager)))
}

// unitSpan is the time for which there is a budget. It goes by when messages were said, not by when they are read: of hours for which nobody read, each minute has its own.
type unitSpan struct {
	began time.Time // its first message was said
	read  time.Time // and read; zero: there is none
	shown map[unitKind]int
}

// over is also when the clock was set back by as much.
func (s *unitSpan) over(said time.Time, length time.Duration) bool {
	return !s.read.IsZero() && said.Sub(s.began).Abs() >= length
}

// stale is when nobody says any more that it is over.
func (s *unitSpan) stale(now time.Time, length time.Duration) bool {
	return !s.read.IsZero() && now.Sub(s.read) >= length
}

func (s *unitSpan) enter(said time.Time) {
	if s.read.IsZero() {
		*s = unitSpan{said, time.Now(), map[unitKind]int{}}
	}
}

// unitSum is of messages that are no events of their own.
type unitSum struct {
	count        uint64
	since, until time.Time // the first and the last of them were said, by the box's clock
}

// unitRecords belongs to the one goroutine of keepUnits.
type unitRecords struct {
	window unitSpan // one for all kinds: at its end all sums are put on record, and the position can move whoever else goes on speaking
	spell  unitSpan
	more   map[unitKind]unitSum
	read   unitPosition // how far messages were taken
	safe   unitPosition // how far they are on record, the sums too
	saved  unitPosition
	fresh  bool // nothing was read since reading began

	rest    time.Duration
	failing time.Time // since when it cannot be read; zero: it can
	told    bool      // that it cannot
}

// keepUnits puts on record what the units of the host say that the Site names. Nothing is lost while the journal takes nothing: journald keeps it, and is read later.
func (e *Engine) keepUnits(ctx context.Context) {
	if e.options.Units == nil {
		return
	}
	u := unitRecords{more: map[unitKind]unitSum{}, rest: unitsRest}
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
	e.endUnitWindow(last, &u)
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
			if e.takeMessage(ctx, u, m, units) {
				e.unitsGoOn(u, time.Now())
			}
		case err := <-ended:
			ended = nil
			return err
		case now := <-tick.C:
			if now.Sub(began) >= unitsSteady {
				e.unitsGoOn(u, now)
			}
			e.endStaleUnitWindow(ctx, u, now)
			e.saveUnitPosition(u)
			if !slices.Equal(units, e.unitsAsked()) {
				return errOtherUnits
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// takeMessage puts one on record, or counts it. True: with it reading got on.
func (e *Engine) takeMessage(ctx context.Context, u *unitRecords, m journald.Message, units []string) bool {
	event, said := unitEvent(m, u.read), m.Time
	if m.Unread != nil {
		m.Unit, m.Priority, said = allUnits, 4, u.read.Time
	} else if u.fresh {
		u.fresh = false
		if u.read.Cursor != "" && m.Cursor == u.read.Cursor {
			return false // it is on record: reading begins with it, which shows that journald has all that followed
		}
		if slices.Contains(units, u.read.Unit) {
			e.options.Journal.Post(journal.Event{Type: journal.UnitMiss, Severity: journal.Warning, Object: "unit/" + allUnits,
				Message: "journald does not have the message any more that was put on record last: others may have gone with it before they were read",
				Fields:  fieldsOf("since", u.read.Time.Format(time.RFC3339Nano), "until", m.Time.Format(time.RFC3339Nano))})
		}
	}
	if u.window.over(said, unitWindow) && !e.endUnitWindow(ctx, u) {
		return false
	}
	if u.spell.over(said, unitsSpell) {
		u.spell = unitSpan{}
	}
	u.window.enter(said)
	u.spell.enter(said)
	kind := unitKind{m.Unit, m.Manager, m.Priority}
	if u.window.shown[kind] >= unitsShown || u.spell.shown[kind] >= unitsInSpell {
		u.count(kind, said)
	} else {
		if !e.recordOfUnit(ctx, event) {
			return false
		}
		u.window.shown[kind]++
		u.spell.shown[kind]++
	}
	if m.Unread != nil { // of others it is not known where they stand: reading that begins anew meets them again
		return false
	}
	u.read = unitPosition{Cursor: m.Cursor, Time: m.Time, Unit: m.Unit}
	u.settle()
	return true
}

func (u *unitRecords) count(kind unitKind, said time.Time) {
	sum, there := u.more[kind]
	if !there || said.Before(sum.since) {
		sum.since = said
	}
	if !there || said.After(sum.until) {
		sum.until = said
	}
	sum.count++
	u.more[kind] = sum
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
	if len(u.more) == 0 {
		u.safe = u.read
	}
}

// endStaleUnitWindow ends it where no message does.
func (e *Engine) endStaleUnitWindow(ctx context.Context, u *unitRecords, now time.Time) {
	if u.window.stale(now, unitWindow) {
		e.endUnitWindow(ctx, u)
	}
	if u.spell.stale(now, unitsSpell) {
		u.spell = unitSpan{}
	}
}

// endUnitWindow puts on record how many messages are no events. False: not all, as the context ended before.
func (e *Engine) endUnitWindow(ctx context.Context, u *unitRecords) bool {
	for _, kind := range slices.SortedFunc(maps.Keys(u.more), unitKind.compare) {
		if !e.recordOfUnit(ctx, unitSumEvent(kind, u.more[kind])) {
			return false
		}
		delete(u.more, kind)
	}
	u.window = unitSpan{}
	u.settle()
	return true
}

func unitSumEvent(kind unitKind, sum unitSum) journal.Event {
	since, until := sum.since.Format(time.RFC3339Nano), sum.until.Format(time.RFC3339Nano)
	if kind.unit == allUnits {
		return journal.Event{Type: journal.UnitMiss, Severity: journal.Warning, Object: "unit/" + allUnits,
			Message: fmt.Sprintf("%d more messages cannot be read. They were said after the time in the field since: journalctl shows them", sum.count),
			Fields:  fieldsOf("suppressed", strconv.FormatUint(sum.count, 10), "since", since)}
	}
	what := "more messages"
	if kind.manager {
		what = "more messages of systemd about it"
	}
	return journal.Event{Type: journal.UnitMessage, Severity: unitSeverity(kind.priority), Object: "unit/" + kind.unit,
		Message: fmt.Sprintf("%d %s of priority %d, from %s to %s", sum.count, what, kind.priority, since, until),
		Fields:  fieldsOf("suppressed", strconv.FormatUint(sum.count, 10), "priority", strconv.Itoa(kind.priority), "since", since, "until", until, "manager", ifSo(kind.manager))}
}

func unitEvent(m journald.Message, after unitPosition) journal.Event {
	if m.Unread != nil {
		return journal.Event{Type: journal.UnitMiss, Severity: journal.Warning, Object: "unit/" + allUnits,
			Message: shorten("a message that journald has cannot be read: " + m.Unread.Error() + ". It was said after the time in the field since: journalctl shows it"),
			Fields:  fieldsOf("since", after.Time.Format(time.RFC3339Nano))}
	}
	return journal.Event{Type: journal.UnitMessage, Severity: unitSeverity(m.Priority), Object: "unit/" + m.Unit, Message: cmp.Or(m.Text, "an empty message"),
		Fields: fieldsOf("at", m.Time.Format(time.RFC3339Nano), "identifier", m.Identifier, "priority", strconv.Itoa(m.Priority), "manager", ifSo(m.Manager), "cut", ifSo(m.Cut))}
}

// ifSo is a field that is only there when it is so.
func ifSo(so bool) string {
	if so {
		return "true"
	}
	return ""
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
	e.endStaleUnitWindow(ctx, u, now)
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
