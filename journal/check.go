package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"shekara/netctl/durable"
)

const (
	checkedName = "CHECKED"
	maxChecked  = 1 << 20
)

// Fields of a JournalDamage of records that cannot be had.
const (
	fieldLines  = "lines"
	fieldReason = "reason"
)

// checks is how far the check of closed files has come, and which are on record as damaged. Who reads records may meet one before the check does.
type checks struct {
	mu      sync.Mutex
	known   bool          // the file CHECKED was read
	waiting []uint64      // first records of files that are damaged, of which the record waits to be written
	oldest  atomic.Uint64 // the first record that was not removed for its age, by what is on record of removals; 0: nobody had to look
	checked
}

// checked is what the file CHECKED holds.
type checked struct {
	Next    uint64   `json:"next"`    // the next file to look at begins with this record or a later one
	Damaged []uint64 `json:"damaged"` // first records of files that are on record as damaged
}

// read expects the lock to be held. What cannot be read costs a second record of what is damaged.
func (c *checks) read(dir string) {
	if c.known {
		return
	}
	c.known = true
	if text, err := durable.ReadFile(filepath.Join(dir, checkedName), maxChecked); err == nil {
		_ = json.Unmarshal(text, &c.checked)
	}
}

// checkNext holds the next closed file to its checksums, its checkpoints and the file behind it, the oldest again after the newest, and puts it on record, once, if it is damaged. While it reads
// it rests so many times as long as it works.
func (j *Journal) checkNext(ctx context.Context, rests int) error {
	if j.Health().Err != nil {
		return nil // nothing could be recorded
	}
	firsts, err := segments(j.dir)
	if err != nil || len(firsts) == 0 {
		return err
	}
	oldest, err := j.oldest(ctx, firsts[0])
	if err == nil && oldest < firsts[0] {
		err = j.recordDamage(ctx, oldest, lacking(segmentName(oldest), oldest, firsts[0]))
	}
	if err != nil || len(firsts) < 2 {
		return err
	}
	closed := firsts[:len(firsts)-1]
	j.checks.mu.Lock()
	j.checks.read(j.dir)
	at := sort.Search(len(closed), func(i int) bool { return closed[i] >= j.checks.Next }) % len(closed)
	j.checks.mu.Unlock()
	first, behind := firsts[at], firsts[at+1]
	name, lines, wrong, err := inspect(ctx, j.dir, first, behind, rests)
	if err != nil {
		return fmt.Errorf("check %s: %w", name, err)
	}
	if wrong != "" {
		if err := j.recordDamage(ctx, first, Event{Type: JournalDamage, Severity: Alert, Object: "journal/" + name, Message: fmt.Sprintf("%s is damaged: %.1000s", name, wrong),
			Fields: map[string]string{"file": name, fieldLines: strconv.FormatUint(lines, 10), fieldReason: fmt.Sprintf("%.1000s", wrong)}}); err != nil {
			return err
		}
	}
	j.checks.mu.Lock()
	defer j.checks.mu.Unlock()
	j.checks.Next = behind
	j.checks.Damaged = slices.DeleteFunc(j.checks.Damaged, func(of uint64) bool {
		return of == first && wrong == "" || of != oldest && !slices.Contains(firsts, of)
	})
	return j.saveChecked()
}

// saveChecked expects the lock to be held.
func (j *Journal) saveChecked() error {
	text, err := json.Marshal(j.checks.checked)
	if err != nil {
		return err
	}
	return j.disk.write(filepath.Join(j.dir, checkedName), append(text, '\n'), openMode)
}

// recordDamage is sayDamaged that waits until it is on record. Nothing counts as looked at before: what dies until then would be silent for ever.
func (j *Journal) recordDamage(ctx context.Context, first uint64, e Event) error {
	select {
	case err := <-j.sayDamaged(first, e):
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sayDamaged posts that a file is damaged, unless that is on record, or waits to be. Of what comes of it the channel tells.
func (j *Journal) sayDamaged(first uint64, e Event) <-chan error {
	j.checks.mu.Lock()
	defer j.checks.mu.Unlock()
	j.checks.read(j.dir)
	said := make(chan error, 1)
	if slices.Contains(j.checks.Damaged, first) || slices.Contains(j.checks.waiting, first) {
		said <- nil
		return said
	}
	r, err := newRecord(e, true, j.clock())
	if err == nil {
		r.damaged = first
		err = j.queue.put(r)
	}
	if err != nil {
		said <- err
		return said
	}
	j.checks.waiting = append(j.checks.waiting, first)
	return r.done
}

// saidDamaged notes of which files it is on record now that they are damaged. It is the writer's: nobody who reads records needs to wait for that.
func (j *Journal) saidDamaged(written []*record) {
	written = slices.DeleteFunc(slices.Clone(written), func(r *record) bool { return r == nil || r.damaged == 0 })
	if len(written) == 0 {
		return
	}
	j.checks.mu.Lock()
	defer j.checks.mu.Unlock()
	j.checks.read(j.dir)
	for _, r := range written {
		j.checks.waiting = slices.DeleteFunc(j.checks.waiting, func(of uint64) bool { return of == r.damaged })
		if !slices.Contains(j.checks.Damaged, r.damaged) {
			j.checks.Damaged = append(j.checks.Damaged, r.damaged)
		}
	}
	_ = j.saveChecked() // else it is told again after a restart
}

// tellsDamage is whether it is to be put on record that the newest file is damaged, as a start found it. It stays so: what was signed since is signed of what is there.
func (j *Journal) tellsDamage(t *tail) bool {
	j.checks.mu.Lock()
	defer j.checks.mu.Unlock()
	j.checks.read(j.dir)
	return t.damaged > 0 && !slices.Contains(j.checks.Damaged, t.first)
}

// oldest is the first record that was not removed for its age, where the files begin with first. The file EXPIRED says it; where it does not, what is on record of removals does.
func (j *Journal) oldest(ctx context.Context, first uint64) (uint64, error) {
	oldest := max(j.lastExpiry().Last+1, j.checks.oldest.Load())
	if oldest >= first || j.checks.oldest.Load() > 0 { // the next removal says it in EXPIRED
		return oldest, nil
	}
	for after, last := uint64(0), j.Last(); after < last; {
		removals, looked, err := j.Query(ctx, after, MaxRead, Filter{Types: []Type{JournalExpire}})
		if err != nil {
			return 0, err
		}
		for _, e := range removals {
			if t, err := expired(e); err == nil {
				oldest = max(oldest, t.size+1)
			}
		}
		after = looked
	}
	j.checks.oldest.Store(oldest)
	return oldest, nil
}

// missing puts it on record that records after one and before another cannot be had, but for what was removed for its age.
func (j *Journal) missing(ctx context.Context, after, before uint64) {
	firsts, err := segments(j.dir)
	if err != nil || len(firsts) == 0 {
		return
	}
	oldest, err := j.oldest(ctx, firsts[0])
	if err != nil {
		return // the check comes to it
	}
	from := max(after+1, oldest)
	if from < min(firsts[0], before) {
		j.sayDamaged(oldest, lacking(segmentName(oldest), oldest, firsts[0]))
		from = firsts[0]
	}
	if from >= before {
		return
	}
	first := firsts[sort.Search(len(firsts), func(i int) bool { return firsts[i] > from })-1]
	name := segmentName(first)
	if hot, cold := j.fileBytes(first); hot == 0 && cold > 0 {
		name = coldName(first)
	}
	j.sayDamaged(first, lacking(name, from, before))
}

// lacking says that records from one on and before another cannot be had.
func lacking(name string, from, before uint64) Event {
	return Event{Type: JournalDamage, Severity: Alert, Object: "journal/" + name, Message: fmt.Sprintf("records %d to %d cannot be read: %s, or what stood behind it, is damaged", from, before-1, name),
		Fields: map[string]string{"file": name, fieldLines: strconv.FormatUint(before-from, 10), fieldFirst: strconv.FormatUint(from, 10), fieldLast: strconv.FormatUint(before-1, 10)}}
}

// inspect says what is wrong with a closed file, "" for nothing, and how many lines are: it has to hold all records up to the file behind it, each as its checksum has it, and the tree over them has to be
// what its checkpoints, and the one with which that file begins, say. Of files of the first version, which begin with no checkpoint, the tree is not known before the first that the next version wrote there.
// The error is why that could not be looked at.
func inspect(ctx context.Context, dir string, first, behind uint64, rests int) (name string, lines uint64, wrong string, err error) {
	name = segmentName(first)
	woke := time.Now() // to decompress it is work too
	file, err := openLines(dir, first)
	if err != nil {
		if damaged := (*coldError)(nil); errors.As(err, &damaged) {
			name = damaged.name
		}
		return name, behind - first, err.Error(), unlessSpoilt(err)
	}
	defer func() { _ = file.Close() }()
	t := tail{first: first, last: first - 1, unsettled: first > 1}
	if err := t.scan(&resting{ctx: ctx, from: file, rests: rests, woke: woke}); err != nil {
		return file.name, behind - 1 - min(t.last, behind-1), err.Error(), unlessSpoilt(err)
	}
	lines = uint64(t.damaged)
	if t.last+1 < behind {
		lines += behind - 1 - t.last
	}
	next, settled := firstSettles(dir, behind)
	if outside := (*fs.PathError)(nil); errors.As(settled, &outside) && unlessSpoilt(settled) != nil {
		return file.name, 0, "", settled
	}
	switch {
	case lines > 0:
		wrong = fmt.Sprintf("%d lines are missing, cannot be read, or are not what was signed", lines)
	case t.last+1 != behind:
		lines, wrong = 1, fmt.Sprintf("it ends with record %d, and the next file begins with %d", t.last, behind)
	case !t.unsettled && settled == nil && next.root() != t.tree.root():
		lines, wrong = 1, "it is not what the checkpoint behind it says that it was"
	}
	return file.name, lines, wrong, nil
}

// unlessSpoilt is the error, unless it is what the file came to: that there were too many open files, or too little memory, is no damage.
func unlessSpoilt(err error) error {
	if damaged := (*coldError)(nil); errors.As(err, &damaged) || errors.Is(err, fs.ErrNotExist) || durable.Unreadable(err) {
		return nil
	}
	return err
}

// resting reads, and between two reads rests so many times as long as its reader worked.
type resting struct {
	ctx   context.Context
	from  io.Reader
	rests int
	woke  time.Time
}

func (r *resting) Read(p []byte) (int, error) {
	rest(r.ctx, time.Duration(r.rests)*time.Since(r.woke))
	r.woke = time.Now()
	if r.ctx.Err() != nil {
		return 0, r.ctx.Err()
	}
	return r.from.Read(p)
}
