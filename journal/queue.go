package journal

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"
)

const (
	// queueRecords and queueBytes bound what waits in memory while the disk takes nothing, or less than comes.
	queueRecords = 8192
	queueBytes   = 8 << 20
	// patience is how long a write may take before the disk counts as one that does not answer. Who must know waits no longer.
	patience = 5 * time.Second
	// retryEvery is how often a write that failed is tried again though nobody asks.
	retryEvery = time.Second
)

var (
	// ErrClosed is what Append and Wait answer after Close.
	ErrClosed = errors.New("the journal is closed")
	// ErrFull is what Append answers while the disk has no room.
	ErrFull = errors.New("the journal's disk is full")
	// ErrStalled is what Append answers while a write does not return.
	ErrStalled = errors.New("the journal's disk does not answer")

	errNoRoom = errors.New("too many events wait for the journal's disk")
)

// record is an event on its way to disk.
type record struct {
	event   Event
	rest    []byte     // of its line; nil: of what the journal says of itself
	next    *Key       // who signs from this one on; nil: who did before
	posted  bool       // nobody waits who must know: it stays until it is written
	damaged uint64     // first record of the file that it says is damaged; 0: it says that of none
	done    chan error // what came of it; room for one
}

// queue is what waits to be written. Its methods may be called from many goroutines; only the writer takes.
type queue struct {
	mu      sync.Mutex
	records []*record
	asked   []chan struct{} // by who wants a checkpoint
	count   int             // of posted records that are not on disk, taken or not
	bytes   int             // of these
	lost    missed          // what is not on record and will not be, that the writer does not know of
	missed  uint64          // all that was lost since the journal was opened
	full    bool            // the disk has no room: what comes in bulk is only counted, and who must know is refused
	closed  bool
	wake    chan struct{} // holds one token when there is something to take
}

func newRecord(e Event, posted bool, ask Clock) (*record, error) {
	e.stamp(time.Now(), ask)
	rest, err := check(e)
	if err != nil {
		return nil, err
	}
	return &record{event: e, rest: rest, posted: posted, done: make(chan error, 1)}, nil
}

// put takes a record in, or counts it as lost.
func (q *queue) put(r *record) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	var err error
	switch {
	case q.closed:
		return ErrClosed
	case q.full && (!r.posted || r.event.Type.bulk()):
		err = ErrFull
	case r.posted && (q.count >= queueRecords || q.bytes+len(r.rest) > queueBytes):
		err = errNoRoom
	}
	if err != nil {
		q.lose(r)
		return err
	}
	q.records = append(q.records, r)
	if r.posted {
		q.count, q.bytes = q.count+1, q.bytes+len(r.rest)
	}
	q.poke()
	return nil
}

// lose expects the lock to be held.
func (q *queue) lose(r *record) {
	q.lost.add(r.event)
	q.missed++
}

func (q *queue) poke() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// withdraw takes a record back that the writer has not taken yet, and counts it as lost.
func (q *queue) withdraw(r *record) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	at := slices.Index(q.records, r)
	if at < 0 {
		return false
	}
	q.records = slices.Delete(q.records, at, at+1)
	q.lose(r)
	return true
}

// ask wants a checkpoint of all that waits; the channel is closed when that was tried. nil: the journal is closed.
func (q *queue) ask() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil
	}
	tried := make(chan struct{})
	q.asked = append(q.asked, tried)
	q.poke()
	return tried
}

// waited says whether somebody waits who must know.
func (q *queue) waited() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.asked) > 0 || slices.ContainsFunc(q.records, func(r *record) bool { return !r.posted })
}

// gather lets those run first who are about to append, as those whom the last turn let go are: then they share the next one. For as many as were let go it
// waits, though not longer than patient: who misses this turn waits for the whole of it.
func (q *queue) gather(letGo int, patient time.Duration) {
	const rounds, most = 8, 1000 // of a fraction of a microsecond each, where nobody runs
	began, before := time.Now(), -1
	for round := range most {
		q.mu.Lock()
		now := len(q.records)
		q.mu.Unlock()
		if (now == before || round >= rounds) && (now >= letGo || time.Since(began) >= patient) {
			return
		}
		before = now
		runtime.Gosched()
	}
}

// take gives all that waits, and what was lost.
func (q *queue) take() (batch []*record, asked []chan struct{}, lost missed) {
	q.mu.Lock()
	defer q.mu.Unlock()
	batch, asked, lost = q.records, q.asked, q.lost
	q.records, q.asked, q.lost = nil, nil, missed{}
	return batch, asked, lost
}

// end tells what came of records that were taken. After an error those that were posted wait again, before all others; unless last, when all are lost.
func (q *queue) end(batch []*record, err error, last bool) {
	q.mu.Lock()
	told, again := batch[:0], []*record(nil)
	for _, r := range batch {
		if err != nil && r.posted && !last {
			again = append(again, r)
			continue
		}
		told = append(told, r)
		if err != nil {
			q.lose(r)
		}
		if r.posted {
			q.count, q.bytes = q.count-1, q.bytes-len(r.rest)
		}
	}
	q.records = append(again, q.records...)
	q.mu.Unlock()
	for _, r := range told { // who is let go comes back with the next at once, and would wait for the lock
		r.done <- err
	}
}

// setFull says whether the disk has room.
func (q *queue) setFull(full bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.full = full
}

// close takes nothing any more. It answers false if it was closed before.
func (q *queue) close() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	was := q.closed
	q.closed = true
	return !was
}

// Append gives the event its number and returns when it is on disk: fdatasync has returned. Appenders that arrive meanwhile share the next
// one. An event of unknown type, or longer than MaxEventBytes, is refused. A context that has ended refuses too; once the event waits it goes on.
//
// It is for who must know. While the disk is full or does not answer it refuses: at once if that is known, else within seconds. An error means
// that the event is not on record, or, if it says so, that nobody knows yet whether it will be.
func (j *Journal) Append(ctx context.Context, e Event) (Event, error) {
	r, err := newRecord(e, false, j.clock())
	if err != nil {
		return Event{}, err
	}
	if err = ctx.Err(); err == nil {
		if err = j.queue.put(r); err == nil {
			err = j.await(r)
		}
	}
	if err != nil {
		return Event{}, fmt.Errorf("append %s to the journal: %w", e.Type, err)
	}
	return r.event, nil
}

func (j *Journal) await(r *record) error {
	wait := patience
	if errors.Is(j.Health().Err, ErrStalled) {
		wait = 0
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case err := <-r.done:
		return err
	case <-timer.C:
	}
	if j.queue.withdraw(r) {
		return ErrStalled
	}
	select {
	case err := <-r.done: // just now
		return err
	default:
		return fmt.Errorf("%w: whether the event is on record is not known yet", ErrStalled)
	}
}

// Post is Append for who may not wait: the event waits in memory until it is on disk, in the order of arrival, also while the disk takes nothing.
// Of what comes of it the channel tells; nobody needs to read it. Beyond what the memory for it holds, events are counted, by type, and the count is on record when the disk
// takes writes again (JournalMiss).
func (j *Journal) Post(e Event) <-chan error {
	r, err := newRecord(e, true, j.clock())
	if err != nil {
		failed := make(chan error, 1)
		failed <- err
		return failed
	}
	if err := j.queue.put(r); err != nil {
		r.done <- fmt.Errorf("post %s to the journal: %w", e.Type, err)
	}
	return r.done
}
