package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"shekara/netctl/durable"
)

const (
	// reserveBytes are held on the disk, for the day on which it is full: some ten thousand records of what happens by itself.
	reserveBytes = 4 << 20
	// besideReserve is what must be free beside the reserve before the disk counts as one with room again.
	besideReserve = 1 << 20
	reserveName   = "RESERVE"
	// SlowWrite is how long a write may take, to the last of what waited, before it counts as slow: a disk that is fit for it takes milliseconds.
	SlowWrite = 2 * time.Second
)

// disk is where the journal lies, or what stands in for it in a fault test.
type disk struct {
	create  func(path string) (segment, error)
	reserve func(path string) error                                // takes the reserve, or fails
	remove  func(path string) error                                // gives it back, or removes a file that is cold or expired
	write   func(path string, data []byte, mode fs.FileMode) error // makes a file that is whole, or none
}

func realDisk() disk {
	return disk{create: openSegment, reserve: func(path string) error { return durable.Reserve(path, reserveBytes, besideReserve) }, remove: durable.Remove, write: durable.WriteFile}
}

// Health is whether events can be put on disk.
type Health struct {
	Err      error     // nil: they can. ErrFull, ErrStalled, or why the disk refuses
	Since    time.Time // since when they cannot
	Waiting  int       // records that wait in memory
	Missed   uint64    // events that are not on record and will not be, since the journal was opened
	Slow     uint64    // writes that took longer than SlowWrite since the journal was opened, one that still does included
	Unsigned error     // why nobody signs: what is recorded can be changed without a trace; nil: it is signed
}

// Health says how the journal is now. It never waits for the disk.
func (j *Journal) Health() Health {
	j.queue.mu.Lock()
	h := Health{Waiting: len(j.queue.records), Missed: j.queue.missed}
	h.Waiting = max(h.Waiting, j.queue.count)
	j.queue.mu.Unlock()
	j.state.Lock()
	defer j.state.Unlock()
	h.Err, h.Since, h.Slow, h.Unsigned = j.state.failing, j.state.failed, j.state.slow, j.state.keyless
	if busy := j.state.busy; !busy.IsZero() {
		if time.Since(busy) > SlowWrite {
			h.Slow++
		}
		if time.Since(busy) >= patience {
			h.Err, h.Since = ErrStalled, busy
		}
	}
	return h
}

// errFullBefore is why a journal could not be written whose end says that its disk was full.
var errFullBefore = errors.New("its disk was full when the daemon ended, and what waited in memory then may be lost")

// trouble is a time in which the disk took nothing, or not all.
type trouble struct {
	since time.Time // zero: there is none
	cause error     // the first
}

// began notes what is wrong; of a row of causes the first counts.
func (t *trouble) began(since time.Time, cause error) {
	if t.since.IsZero() {
		*t = trouble{since, cause}
	}
}

// event ends it.
func (t *trouble) event(now time.Time) Event {
	return Event{Type: JournalResume, Severity: Notice, Object: "journal", Message: fmt.Sprintf("the journal can be written again, after %s: %.500s", now.Sub(t.since).Round(time.Millisecond), t.cause),
		Fields: map[string]string{"since": t.since.UTC().Format(time.RFC3339Nano), "until": now.UTC().Format(time.RFC3339Nano)}}
}

// keepWriting is the writer: everything goes to disk through it. Every minute it signs what was recorded, whether there was anything or not: silence shows by its absence.
func (j *Journal) keepWriting() {
	defer close(j.ended)
	ticker := time.NewTicker(checkpointEvery)
	defer ticker.Stop()
	retry := time.NewTimer(retryEvery)
	defer retry.Stop()
	tried := time.Now()
	for {
		retry.Stop()
		if j.unwell() {
			retry.Reset(time.Until(tried.Add(retryEvery)))
		}
		settle := false
		select {
		case <-j.ending:
			j.turn(false, false)
			j.turn(j.signer != nil && j.loose > 0, true)
			return
		case <-j.queue.wake:
			if j.file == nil && j.unwell() && !j.queue.waited() {
				continue // who does not wait does not make a disk that fails be asked more often
			}
		case <-ticker.C:
			settle = j.signer != nil
		case <-retry.C:
		}
		tried = time.Now()
		j.queue.gather(j.awaited, j.took/4)
		j.turn(settle, false)
	}
}

func (j *Journal) unwell() bool { return !j.trouble.since.IsZero() || !j.full.IsZero() }

// turn writes what waits, and says what came of it. last: nothing is tried again.
func (j *Journal) turn(settle, last bool) {
	began := time.Now()
	j.state.Lock()
	j.state.busy = began
	j.state.Unlock()
	batch, asked, lost := j.queue.take()
	j.awaited = 0
	for _, r := range batch {
		if !r.posted {
			j.awaited++
		}
	}
	j.missed.merge(lost)
	batch, err := j.commit(batch, settle || len(asked) > 0 && j.signer != nil && (j.loose > 0 || len(batch) > 0))
	if err == nil && time.Since(began) >= patience {
		j.trouble.began(began, ErrStalled)
	}
	j.state.Lock()
	j.state.busy, j.state.failing, j.state.failed = time.Time{}, err, j.trouble.since
	if time.Since(began) > SlowWrite {
		j.state.slow++
	}
	if err == nil && !j.full.IsZero() {
		j.state.failing, j.state.failed = ErrFull, j.full
	}
	j.state.Unlock()
	j.queue.end(batch, err, last)
	for _, tried := range asked {
		close(tried)
	}
}

// commit is write, with what is to be done when the disk has no room. It gives back those records of which the outcome is not told yet.
func (j *Journal) commit(batch []*record, settle bool) ([]*record, error) {
	if !j.full.IsZero() {
		j.regain()
	}
	err := j.write(batch, settle)
	if durable.Full(err) && j.full.IsZero() {
		j.giveBack(time.Now())
		var refused []*record
		batch = slices.DeleteFunc(batch, func(r *record) bool {
			if r.posted && !r.event.Type.bulk() {
				return false
			}
			refused = append(refused, r)
			return true
		})
		err = j.write(batch, settle)
		j.queue.end(refused, ErrFull, true)
	}
	if err != nil {
		j.trouble.began(time.Now(), err)
	}
	return batch, err
}

// giveBack gives the reserve to a disk without room, so that what is said of it, and what happens by itself, finds some.
func (j *Journal) giveBack(now time.Time) {
	j.full, j.sayFull = now, true
	j.trouble.began(now, ErrFull)
	j.queue.setFull(true)
	if err := j.disk.remove(filepath.Join(j.dir, reserveName)); err != nil {
		j.reserved = false
	}
}

// hold takes the reserve.
func (j *Journal) hold() error {
	err := j.disk.reserve(filepath.Join(j.dir, reserveName))
	j.reserved = err == nil
	return err
}

// regain takes the reserve again. The disk has room if that succeeds.
func (j *Journal) regain() {
	if err := j.hold(); err != nil {
		return
	}
	j.full, j.sayFull = time.Time{}, false
	j.queue.setFull(false)
}

// fullEvent says it while the disk is full.
func (j *Journal) fullEvent() Event {
	e := Event{Type: JournalFull, Severity: Alert, Object: "journal",
		Message: "the disk has no room: changes are refused, and what comes in bulk is only counted, until there is",
		Fields:  map[string]string{"since": j.full.UTC().Format(time.RFC3339Nano), "reserve": strconv.Itoa(reserveBytes), "hint": "free room in the file system of " + j.dir}}
	if !j.reserved {
		e.Fields["reserve"] = "0"
	}
	return e
}

// counts says whether what is missed is put on record now: while the disk is full once a minute, with the checkpoint.
func (j *Journal) counts(settle bool) bool { return j.full.IsZero() || settle }

// aboutItself is what the journal has to say of itself before anything else.
func (j *Journal) aboutItself(settle bool, now time.Time) (events []*record) {
	say := func(e Event) { events = append(events, &record{event: e}) }
	if j.tail != nil {
		if e, cut := j.tail.cutEvent(); cut {
			say(e)
		}
		if j.tellsDamage(j.tail) {
			events = append(events, &record{event: j.tail.damageEvent(), damaged: j.tail.first})
		}
	}
	if j.sayFull {
		say(j.fullEvent())
	}
	if j.missed.count > 0 && j.counts(settle) {
		say(j.missed.event())
	}
	if !j.trouble.since.IsZero() && j.full.IsZero() {
		say(j.trouble.event(now))
	}
	return events
}
