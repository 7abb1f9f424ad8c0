package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	_ "time/tzdata" // the legal day does not hang on what the box has installed

	"shekara/netctl/clock"
	"shekara/netctl/durable"
)

const (
	// MaxEventBytes is the longest record: a page of facts, not a dump.
	MaxEventBytes = 16 << 10
	// segmentBytes is when a new file begins, if the legal day does not end before. A look at start-up reads one file only.
	segmentBytes = 16 << 20
	// roomBytes is what is kept for lines from one write to the next.
	roomBytes = 1 << 20
	// legalZone is by which clock a day begins and ends (JRN-10, "ағымдағы тәуліктер").
	legalZone = "Asia/Almaty"
)

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
// record is written and not before, so that a record that could not be written leaves no gap. A new file begins with each legal day; its
// first record settles all before it, so that nobody needs the files before to go on.
//
//	Append, Post  ->  queue (in memory, bounded)  ->  the writer: one write, one fdatasync for all that waits
//
// Only the writer touches the disk, so that a disk that does not answer holds up nobody who may not wait.
type Journal struct {
	dir    string
	lock   *durable.Lock
	zone   *time.Location
	disk   disk
	rotate int64 // bytes after which a new file begins
	queue  queue
	keys   *Keys         // nil: its key is not to change
	closes chan struct{} // holds one token when a file was closed
	ending chan struct{} // closed by Close
	ended  chan struct{} // closed when the writer has ended

	// The writer's own.
	signer   *Key             // nil: what this one writes is not signed
	file     segment          // nil: closed, or a write failed and the file is to be opened anew
	first    uint64           // names file
	size     int64            // acknowledged bytes of file; what lies behind them is cut before the next write
	day      string           // legal day that file belongs to; "": it is empty
	tree     tree             // over all that was acknowledged
	ends     map[string]chain // of all partitions, of what was acknowledged
	awaited  int              // records of the last turn for which somebody waited, who may be back with the next
	took     time.Duration    // by the disk for the last write
	room     bytes.Buffer     // for what is written at once, again and again
	loose    int              // records since the last signed checkpoint
	tail     *tail            // how the last life of the journal ended, until it is on record
	missed   missed           // what is not on record and will not be, until that is
	trouble  trouble          // until it is on record
	full     time.Time        // since when the disk has no room; zero: it has some
	sayFull  bool             // that it is full is not on record yet
	reserved bool             // the reserve is held
	beat     clock.Reading    // of the last signed checkpoint; zero: none since this start

	asked  atomic.Pointer[Clock] // nil: the kernel is
	checks checks                // of closed files
	months atomic.Int64          // that records are kept, as Tend was told last
	kept   atomic.Value          // a string: why what is old enough is not removed, as Tend found last
	begun  struct {              // when files began, as far as somebody asked
		sync.Mutex
		of map[uint64]time.Time
	}

	state struct {
		sync.Mutex
		last    uint64        // newest acknowledged sequence
		head    string        // newest signed checkpoint; "": none since the newest file began
		key     *Key          // that signs; nil: nobody does
		keyless error         // why nobody signs
		grown   chan struct{} // closed when last grows or the journal closes
		closed  bool
		busy    time.Time // since when the writer waits for the disk; zero: it does not
		slow    uint64    // writes that took longer than SlowWrite
		failing error     // what the last write came to
		failed  time.Time // since when
	}
}

// Believe has the clock judged by ask from now on. Before, the kernel is asked (adjtimex(2)).
func (j *Journal) Believe(ask Clock) { j.asked.Store(&ask) }

func (j *Journal) clock() Clock {
	if ask := j.asked.Load(); ask != nil {
		return *ask
	}
	return clock.Recent
}

// Open reads the newest file of dir (made if absent) and goes on after its last whole record. A torn tail, as a power cut leaves
// it, is set aside under another name and recorded with JournalCut. A disk that is full or read-only does not keep the journal, and
// with it the box, from starting: each Append tries again, and answers why it cannot.
//
// What is recorded is signed every minute, every thousand records, when somebody asks for it and by Close. The signer may be nil, for one who adds a record and goes; the daemon's is what OpenKept finds.
func Open(dir string, signer *Key) (*Journal, error) {
	return open(dir, signer, segmentBytes, realDisk())
}

const (
	openMode   = 0o640
	closedMode = 0o440
)

func openSegment(path string) (segment, error) { return durable.OpenLog(path, openMode) }

func open(dir string, signer *Key, rotate int64, d disk) (*Journal, error) {
	zone, err := LegalZone()
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	if err := durable.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	lock, err := durable.AcquireLock(filepath.Join(dir, "LOCK"))
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	_ = durable.RemoveTemporary(dir) // of who was killed; a disk that refuses it may refuse
	j := &Journal{dir: dir, lock: lock, signer: signer, zone: zone, disk: d, rotate: rotate, closes: make(chan struct{}, 1), ending: make(chan struct{}), ended: make(chan struct{})}
	j.queue.wake = make(chan struct{}, 1)
	j.state.grown = make(chan struct{})
	if j.state.key = signer; signer == nil {
		j.state.keyless = errNoKey
	}
	found, err := findTail(dir)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open journal: %w", err), lock.Release())
	}
	j.state.last, j.state.head, j.first, j.size, j.tree, j.loose, j.tail = found.last, found.head, found.first, found.size, found.tree, found.loose, &found
	j.ends = found.ends
	if !found.began.IsZero() {
		j.day = j.legalDay(found.began)
	}
	if !found.full.IsZero() {
		j.trouble.began(found.full, errFullBefore)
	}
	if err := j.hold(); durable.Full(err) {
		j.giveBack(time.Now())
	}
	j.turn(false, false) // what it could not do the first Append does, or says
	go j.keepWriting()
	return j, nil
}

func (j *Journal) legalDay(t time.Time) string { return t.In(j.zone).Format(time.DateOnly) }

// openFile opens the file that is appended to and cuts what was never acknowledged.
func (j *Journal) openFile() error {
	if j.tail != nil {
		if err := j.tail.setAside(j.dir); err != nil {
			return err
		}
	}
	file, err := j.disk.create(filepath.Join(j.dir, segmentName(j.first)))
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

// check refuses what cannot be a record, and gives what stands in its line behind its sequence.
func check(e Event) (rest []byte, err error) {
	if !known(e.Type) {
		return nil, fmt.Errorf("event type %q is not in the catalogue", e.Type)
	}
	if !slices.Contains([]Severity{Alert, Error, Warning, Notice, Info}, e.Severity) {
		return nil, fmt.Errorf("event %s: severity %q is unknown", e.Type, e.Severity)
	}
	if rest, err = encodeRest(e); err != nil {
		return nil, fmt.Errorf("event %s: %w", e.Type, err)
	}
	if size := longestLine(rest, e.longestLinks()); size >= MaxEventBytes {
		return nil, fmt.Errorf("event %s has %d bytes, at most %d", e.Type, size, MaxEventBytes-1)
	}
	return rest, nil
}

// write puts records on disk in one write and one fdatasync, and after them, if it is due or asked for, a signed checkpoint.
func (j *Journal) write(batch []*record, settle bool) error {
	if j.file == nil {
		if err := j.openFile(); err != nil {
			return err
		}
	}
	now := time.Now().UTC()
	rotates := j.size >= j.rotate || j.size > 0 && j.day != j.legalDay(now)
	if rotates && !j.full.IsZero() {
		j.sayFull = true // in the new file too: a start looks there alone
	}
	batch = append(j.aboutItself(settle, now), batch...)
	if len(batch) == 0 && !settle {
		j.tail = nil
		return nil
	}
	if rotates {
		if err := j.nextSegment(); err != nil {
			return err
		}
	}
	if j.size == 0 && j.tree.size > 0 {
		batch = slices.Insert(batch, 0, nil)
	}
	if settle || j.signer != nil && j.loose+len(batch) >= checkpointRecords {
		batch = append(batch, nil)
	}
	j.room.Reset()
	p := page{lines: j.room, sequence: j.Last(), tree: j.tree.clone(), links: links{j.ends, map[string]chain{}}, signer: j.signer, now: now, clock: j.clock()}
	reading := j.beat
	if slices.ContainsFunc(batch, func(r *record) bool { return r == nil || r.next != nil }) { // each makes a checkpoint
		if r, err := clock.Read(); err == nil {
			p.set, reading = setBetween(j.beat, r), r
		}
	}
	loose := j.loose
	for _, r := range batch {
		var err error
		switch loose++; {
		case r == nil:
			err = p.settle()
			loose = 0
		case r.next != nil:
			err = p.handOver(r)
			loose = 0
		default:
			err = p.add(&r.event, r.rest)
		}
		if err != nil {
			return err
		}
	}
	if p.lines.Cap() <= roomBytes {
		j.room = p.lines
	}
	if err := j.toDisk(p.lines.Bytes()); err != nil {
		return err
	}
	if j.size == 0 {
		j.day = j.legalDay(now)
	}
	j.size += int64(p.lines.Len())
	j.tree, j.loose, j.tail, j.sayFull = p.tree, loose, nil, false
	maps.Copy(j.ends, p.links.next)
	if j.counts(settle) {
		j.missed = missed{}
	}
	if j.full.IsZero() {
		j.trouble = trouble{}
	}
	j.signer = p.signer
	if p.head != "" {
		j.beat = reading
	}
	j.announce(p.sequence, p.head, p.signer)
	j.saidDamaged(batch)
	return nil
}

// toDisk writes lines behind what was acknowledged.
func (j *Journal) toDisk(lines []byte) error {
	began := time.Now()
	err := j.file.Append(lines)
	if err == nil {
		err = j.file.Sync()
	}
	j.took = time.Since(began)
	if err != nil {
		// Nobody knows now what stands behind size. Nothing there was acknowledged: it is cut when the file is opened anew.
		err = errors.Join(err, j.file.Close())
		j.file = nil
	}
	return err
}

// page is what is to be written at once.
type page struct {
	lines    bytes.Buffer
	sequence uint64
	tree     tree
	links    links
	signer   *Key
	now      time.Time
	clock    Clock
	head     string        // the last checkpoint that was signed
	set      time.Duration // by what somebody set the clock, which the next checkpoint is to say
}

// add numbers an event and writes its line. Rest is what encodeRest made of it; nil: nothing yet.
func (p *page) add(e *Event, rest []byte) (err error) {
	e.Sequence = p.sequence + 1
	if rest == nil {
		if e.Time.IsZero() {
			e.stamp(p.now, p.clock)
		}
		if rest, err = encodeRest(*e); err != nil {
			return err
		}
	}
	e.Links = p.links.of(e)
	begins := p.lines.Len()
	p.lines.Write(appendLine(p.lines.AvailableBuffer(), e.Sequence, rest, e.Links))
	hash := leaf(p.lines.Bytes()[begins:])
	p.lines.WriteByte('\n')
	p.sequence++
	p.tree.grow(hash)
	p.links.add(e.Links, hash)
	return nil
}

// settle adds a checkpoint of all before it.
func (p *page) settle() error {
	e, err := checkpointOf(p.tree, p.signer)
	if err != nil {
		return err
	}
	if signed := e.Fields[fieldNote]; signed != "" {
		p.head = signed
		if p.set != 0 {
			e.Fields[fieldSet], p.set = p.set.String(), 0
		}
	}
	return p.add(&e, nil)
}

// nextSegment closes the file for good: nobody has a reason to write to it any more, and its mode says so.
func (j *Journal) nextSegment() error {
	err := errors.Join(j.file.Close(), os.Chmod(filepath.Join(j.dir, segmentName(j.first)), closedMode))
	j.file, j.first, j.size, j.day = nil, j.Last()+1, 0, ""
	_ = saveLinks(j.dir, j.tree, j.ends) // the next start reads more where it is not there
	select {
	case j.closes <- struct{}{}:
	default:
	}
	return errors.Join(err, j.openFile())
}

func (j *Journal) announce(last uint64, head string, key *Key) {
	j.state.Lock()
	defer j.state.Unlock()
	j.state.last = last
	if head != "" {
		j.state.head = head
	}
	if key != nil {
		j.state.key, j.state.keyless = key, nil
	}
	close(j.state.grown)
	j.state.grown = make(chan struct{})
}

// PublicKey is of the key that signs; "": nobody does.
func (j *Journal) PublicKey() string {
	j.state.Lock()
	defer j.state.Unlock()
	if j.state.key == nil {
		return ""
	}
	return j.state.key.Public
}

// Last is the newest sequence number; 0: the journal is empty.
func (j *Journal) Last() uint64 {
	j.state.Lock()
	defer j.state.Unlock()
	return j.state.last
}

// Settle signs what was recorded since the last signed checkpoint, if there is anything, and returns the newest, which is to be kept elsewhere.
// "": nobody signs, or the disk takes nothing and there is none yet. It waits no longer for the disk than Append.
func (j *Journal) Settle() string {
	if tried := j.queue.ask(); j.PublicKey() != "" && tried != nil {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		select {
		case <-tried:
		case <-timer.C:
		}
	}
	j.state.Lock()
	defer j.state.Unlock()
	return j.state.head
}

// Prove is Prove of this journal, with a record that nothing settles yet settled first.
func (j *Journal) Prove(ctx context.Context, sequence uint64) (Proof, error) {
	j.Settle()
	return Prove(ctx, j.dir, sequence)
}

// Export is Export of this journal, with what nothing settles yet settled first.
func (j *Journal) Export(ctx context.Context, of string, to io.Writer) (records int, err error) {
	j.Settle()
	return Export(ctx, j.dir, of, to)
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

// Close ends the journal. What was acknowledged is on disk already; it is signed, if the disk takes that. A disk that does not answer is not waited
// for: the error says what is lost.
func (j *Journal) Close() error {
	if !j.queue.close() {
		return nil
	}
	close(j.ending)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	var err error
	select {
	case <-j.ended:
		if j.file != nil {
			err = j.file.Close()
		}
		err = errors.Join(err, j.lock.Release())
	case <-timer.C:
		err = fmt.Errorf("close the journal: %w, and %d events wait for it", ErrStalled, j.Health().Waiting)
	}
	j.state.Lock()
	defer j.state.Unlock()
	j.state.closed = true
	close(j.state.grown)
	j.state.grown = make(chan struct{})
	return err
}
