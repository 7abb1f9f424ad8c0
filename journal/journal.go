package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"shekara/netctl/durable"
)

const (
	// MaxEventBytes is the longest record: a page of facts, not a dump.
	MaxEventBytes = 16 << 10
	// segmentBytes is when a new file begins. A look at start-up reads one file only.
	segmentBytes = 16 << 20
)

// ErrClosed is what Append and Wait answer after Close.
var ErrClosed = errors.New("the journal is closed")

// segment is the file that is appended to: *durable.Log, or what stands in for it in a fault test.
type segment interface {
	Append([]byte) error
	Sync() error
	Truncate(size int64) error
	Size() int64
	Close() error
}

// Journal is the record of events in one folder. Its methods may be called from many goroutines.
//
// A file holds one JSON object on a line and is named by its first sequence number. Sequence numbers are given out when a
// record is written and not before, so that a record that could not be written leaves no gap.
type Journal struct {
	dir     string
	lock    *durable.Lock
	create  func(path string) (segment, error) // openSegment but in fault tests
	rotate  int64                              // bytes after which a new file begins
	waiting struct {
		sync.Mutex
		records []*record
	}

	commit sync.Mutex // held by who writes to disk; guards the fields below
	file   segment    // nil: closed, or a write failed and the file is to be opened anew
	first  uint64     // names file
	size   int64      // acknowledged bytes of file; what lies behind them is cut before the next write
	tail   *tail      // how the last life of the journal ended, until it is on record
	missed missed
	closed bool

	state struct {
		sync.Mutex
		last   uint64        // newest acknowledged sequence
		grown  chan struct{} // closed when last grows or the journal closes
		closed bool
	}
}

type record struct {
	event   Event
	written bool
	err     error
}

// Open reads the newest file of dir (made if absent) and goes on after its last whole record. A torn tail, as a power cut leaves
// it, is set aside under another name and recorded with JournalCut. A disk that is full or read-only does not keep the journal, and
// with it the box, from starting: each Append tries again, and answers why it cannot.
func Open(dir string) (*Journal, error) {
	return open(dir, segmentBytes, openSegment)
}

func openSegment(path string) (segment, error) { return durable.OpenLog(path, 0o640) }

func open(dir string, rotate int64, create func(string) (segment, error)) (*Journal, error) {
	if err := durable.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	lock, err := durable.AcquireLock(filepath.Join(dir, "LOCK"))
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	j := &Journal{dir: dir, lock: lock, create: create, rotate: rotate}
	j.state.grown = make(chan struct{})
	found, err := findTail(dir)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open journal: %w", err), lock.Release())
	}
	j.state.last, j.first, j.size, j.tail = found.last, found.first, found.size, &found
	_ = j.write(nil) // what it could not do the first Append does, or says
	return j, nil
}

// openFile opens the file that is appended to and cuts what was never acknowledged.
func (j *Journal) openFile() error {
	if j.tail != nil {
		if err := j.tail.setAside(j.dir); err != nil {
			return err
		}
	}
	file, err := j.create(filepath.Join(j.dir, segmentName(j.first)))
	if err != nil {
		return err
	}
	if file.Size() < j.size {
		err = fmt.Errorf("%s has %d bytes, but %d were acknowledged", segmentName(j.first), file.Size(), j.size)
	} else if file.Size() > j.size {
		err = file.Truncate(j.size)
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	j.file = file
	return nil
}

// Append gives the event its number and time and returns when it is on disk: fdatasync has returned. Appenders that arrive
// meanwhile share the next one. An event of unknown type, or longer than MaxEventBytes, is refused. A context that has ended
// refuses too; once the write has begun it goes on.
func (j *Journal) Append(ctx context.Context, e Event) (Event, error) {
	if err := check(e); err != nil {
		return Event{}, err
	}
	if err := ctx.Err(); err != nil {
		return Event{}, fmt.Errorf("append %s to the journal: %w", e.Type, err)
	}
	r := &record{event: e}
	j.waiting.Lock()
	j.waiting.records = append(j.waiting.records, r)
	j.waiting.Unlock()

	j.commit.Lock()
	defer j.commit.Unlock()
	if !r.written {
		j.commitWaiting()
	}
	if r.err != nil {
		return Event{}, fmt.Errorf("append %s to the journal: %w", e.Type, r.err)
	}
	return r.event, nil
}

func check(e Event) error {
	if !known(e.Type) {
		return fmt.Errorf("event type %q is not in the catalogue", e.Type)
	}
	if !slices.Contains([]Severity{Alert, Error, Warning, Notice, Info}, e.Severity) {
		return fmt.Errorf("event %s: severity %q is unknown", e.Type, e.Severity)
	}
	e.Sequence, e.Time = 1<<63, time.Now().UTC()
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("event %s: %w", e.Type, err)
	}
	if len(line) >= MaxEventBytes {
		return fmt.Errorf("event %s has %d bytes, at most %d", e.Type, len(line), MaxEventBytes-1)
	}
	return nil
}

// commitWaiting writes all that wait, in one write and one fdatasync. The caller holds commit.
func (j *Journal) commitWaiting() {
	j.waiting.Lock()
	batch := j.waiting.records
	j.waiting.records = nil
	j.waiting.Unlock()
	err := j.write(batch)
	for _, r := range batch {
		r.written, r.err = true, err
		if err != nil && !j.closed && r.event.Type != JournalResume { // which tells of nothing but the attempt
			j.missed.add(r.event)
		}
	}
}

// aboutItself is what the journal has to say of itself before anything else.
func (j *Journal) aboutItself() (events []*record) {
	if j.tail != nil {
		for _, e := range j.tail.events() {
			events = append(events, &record{event: e})
		}
	}
	if j.missed.count > 0 {
		events = append(events, &record{event: j.missed.event()})
	}
	return events
}

func (j *Journal) write(batch []*record) error {
	if j.closed {
		return ErrClosed
	}
	if j.file == nil {
		if err := j.openFile(); err != nil {
			return err
		}
	}
	if j.size >= j.rotate {
		if err := j.nextSegment(); err != nil {
			return err
		}
	}
	batch = append(j.aboutItself(), batch...)
	if len(batch) == 0 {
		j.tail = nil
		return nil
	}
	sequence, now := j.Last(), time.Now().UTC()
	var lines bytes.Buffer
	encoder := json.NewEncoder(&lines)
	encoder.SetEscapeHTML(false)
	for _, r := range batch {
		sequence++
		r.event.Sequence, r.event.Time = sequence, now
		if err := encoder.Encode(r.event); err != nil {
			return err
		}
	}
	err := j.file.Append(lines.Bytes())
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		// Nobody knows now what stands behind size. Nothing there was acknowledged: it is cut when the file is opened anew.
		err = errors.Join(err, j.file.Close())
		j.file = nil
		return err
	}
	j.size += int64(lines.Len())
	j.tail, j.missed = nil, missed{}
	j.announce(sequence)
	return nil
}

func (j *Journal) nextSegment() error {
	err := j.file.Close()
	j.file, j.first, j.size = nil, j.Last()+1, 0
	return errors.Join(err, j.openFile())
}

func (j *Journal) announce(last uint64) {
	j.state.Lock()
	defer j.state.Unlock()
	j.state.last = last
	close(j.state.grown)
	j.state.grown = make(chan struct{})
}

// Last is the newest sequence number; 0: the journal is empty.
func (j *Journal) Last() uint64 {
	j.state.Lock()
	defer j.state.Unlock()
	return j.state.last
}

// Wait returns when there are events above after, or with the context's error, or with ErrClosed.
func (j *Journal) Wait(ctx context.Context, after uint64) error {
	for {
		j.state.Lock()
		last, grown, closed := j.state.last, j.state.grown, j.state.closed
		j.state.Unlock()
		switch {
		case last > after:
			return nil
		case closed:
			return ErrClosed
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close ends the journal. What was acknowledged is on disk already.
func (j *Journal) Close() error {
	j.commit.Lock()
	defer j.commit.Unlock()
	if j.closed {
		return nil
	}
	j.closed = true
	var err error
	if j.file != nil {
		err = j.file.Close()
	}
	err = errors.Join(err, j.lock.Release())
	j.state.Lock()
	defer j.state.Unlock()
	j.state.closed = true
	close(j.state.grown)
	j.state.grown = make(chan struct{})
	return err
}

func segmentName(first uint64) string { return fmt.Sprintf("%020d.jsonl", first) }

// segments lists the first sequence numbers of the files in dir, ascending.
func segments(dir string) ([]uint64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var firsts []uint64
	for _, entry := range entries {
		var first uint64
		if _, err := fmt.Sscanf(entry.Name(), "%020d.jsonl", &first); err == nil && segmentName(first) == entry.Name() && entry.Type() == fs.FileMode(0) {
			firsts = append(firsts, first)
		}
	}
	slices.Sort(firsts)
	return firsts, nil
}
