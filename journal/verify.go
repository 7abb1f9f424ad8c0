package journal

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	// silence is after how long without a checkpoint a running journal has gone silent.
	silence = 3 * checkpointEvery
	// MaxFindings is the most that one verification lists.
	MaxFindings = 1000
)

// Finding is one thing that is not as a whole journal has it.
type Finding struct {
	File     string `json:"file,omitempty"`
	Line     int    `json:"line,omitempty"`     // from 1
	Sequence uint64 `json:"sequence,omitempty"` // of the record that it is about
	What     string `json:"what"`
}

// Verification is what was found of a journal.
type Verification struct {
	First       uint64    `json:"first"` // sequences; 0: there are no records
	Last        uint64    `json:"last"`
	Begins      time.Time `json:"begins,omitzero"`
	Ends        time.Time `json:"ends,omitzero"`
	Root        string    `json:"root,omitempty"` // of the tree over all records, where it can be known
	Checkpoints int       `json:"checkpoints"`    // with a good signature
	Settled     uint64    `json:"settled"`        // the last record that a good signature covers; those after it nobody vouches for yet
	Keys        []Change  `json:"keys,omitempty"` // where another key signs from
	Findings    []Finding `json:"findings,omitempty"`
	More        int       `json:"more,omitempty"` // findings beyond MaxFindings
}

// Change is where the journal went on with another key.
type Change struct {
	Sequence uint64    `json:"sequence"`
	Time     time.Time `json:"time"`
	Old      string    `json:"old,omitempty"` // public keys; the old one is unknown where it was lost
	New      string    `json:"new"`
	Lost     bool      `json:"lost,omitempty"` // the chain of signatures is broken here: nothing signed leads from the old key to the new one
}

// Whole says whether nothing was found.
func (v *Verification) Whole() bool { return len(v.Findings) == 0 }

// verifier reads a journal's lines in order.
type verifier struct {
	Verification
	keys    ring
	signer  *signature                 // whose the signatures are here; nil: there was none yet
	ahead   func() ([]handover, error) // reads the handovers of the whole journal; nil: they were read
	held    map[uint64]Checkpoint
	tree    tree
	blind   bool        // tree is not known: something is missing, and no checkpoint came since
	last    uint64      // sequence
	unread  []tlog.Hash // lines since then that are no records
	place   Finding     // the line at hand
	summed  bool        // a record of the second version was read: none of the first may follow
	beat    time.Time   // of the last signed checkpoint
	rested  bool        // since beat a daemon stopped or started, or the disk took nothing: silence has its reason
	doubted *doubt      // a silence for which the file that begins may have the reason
	fresh   bool        // the next record is the first of a file
	named   uint64      // by the file's name, what that is
	astray  uint64      // sequence of the line before, if that was out of order
	chains  chains
	roots   map[uint64]tlog.Hash // of the tree where a file begins, by its size
	gone    []goneRecords        // what was removed, as records say
}

// goneRecords are what a JournalExpire says is removed.
type goneRecords struct {
	place Finding
	tree  tree
}

// Verify reads the journal in a folder, which may be a copy, and says whether it is whole: each record is there, in order, as it was when it
// was signed. Keys are those that its checkpoints may be signed by, besides which those count to which its handovers lead from one of these; held are checkpoints that were kept elsewhere, whose records must all be there.
// It needs nothing but the folder, and only reads. The error is for a folder that cannot be read.
func Verify(ctx context.Context, dir string, keys note.Verifiers, held []Checkpoint) (Verification, error) {
	v := verifier{keys: ring{given: keys}, ahead: func() ([]handover, error) { return handovers(ctx, dir) }, held: map[uint64]Checkpoint{}, roots: map[uint64]tlog.Hash{}}
	firsts, err := segments(dir)
	if err != nil {
		return Verification{}, fmt.Errorf("verify the journal: %w", err)
	}
	v.chains = chains{ends: map[string]chain{}, from: len(firsts) > 0 && firsts[0] == 1}
	for _, c := range held {
		if before, twice := v.held[c.Size]; twice && before != c {
			v.find("two checkpoints that are held of %d records differ: the journal was told in two ways", c.Size)
		}
		v.held[c.Size] = c
	}
	v.holds()
	for i, first := range firsts {
		if err := v.file(ctx, dir, first, i == len(firsts)-1); err != nil {
			return Verification{}, fmt.Errorf("verify the journal: %w", err)
		}
	}
	v.prefix(firsts)
	v.place = Finding{}
	for _, size := range slices.Sorted(maps.Keys(v.held)) {
		if size > v.last {
			v.find("the end is missing: a checkpoint that is held has %d records, here are %d", size, v.last)
		}
	}
	v.unexplained()
	if what := v.silence(v.Ends, "the end"); what != "" {
		v.find("%s", what)
	}
	v.Last = v.last
	if !v.blind {
		v.Root = v.tree.root().String()
	}
	return v.Verification, nil
}

func (v *verifier) find(format string, args ...any) {
	if len(v.Findings) >= MaxFindings {
		v.More++
		return
	}
	f := v.place
	f.What = fmt.Sprintf(format, args...)
	v.Findings = append(v.Findings, f)
}

func (v *verifier) file(ctx context.Context, dir string, first uint64, newest bool) error {
	if v.last == 0 && first != 1 {
		v.last, v.blind = first-1, true
	}
	file, err := openLines(dir, first)
	if damaged := (*coldError)(nil); errors.As(err, &damaged) {
		v.place = Finding{File: damaged.name}
		v.find("no record of it can be read: %v", damaged.err)
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	v.place, v.fresh, v.named = Finding{File: file.name}, true, first
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n := 0
	for chunk := range decodeAll(ctx, file) {
		for _, read := range <-chunk {
			n++
			v.place.Line, v.place.Sequence = n, 0
			switch {
			case read.end == nil:
				v.line(read)
			case errors.Is(read.end, io.EOF) && len(read.line) == 0:
			case errors.Is(read.end, io.EOF) && newest:
				v.find("the file ends in %d bytes without an end of line: the rest of a record, or one that was never acknowledged, as a power cut leaves it", len(read.line))
			case errors.Is(read.end, io.EOF):
				v.line(read)
			default:
				return read.end
			}
		}
	}
	return ctx.Err()
}

// read is a line of a file, and what was made of it.
type read struct {
	line   []byte // without its end
	event  Event
	summed bool
	err    error // why it is no record
	leaf   tlog.Hash
	end    error // why no line comes after it: io.EOF, where the line may be the rest of one
}

// chunkLines are decoded at once, by one of as many as there are processors.
const chunkLines = 256

// decodeAll gives a file's lines in their order, of which many are decoded at a time: that takes most of the time of a verification. The last has an end.
func decodeAll(ctx context.Context, file io.Reader) <-chan chan []read {
	chunks := make(chan chan []read, runtime.GOMAXPROCS(0))
	go func() {
		defer close(chunks)
		reader := bufio.NewReaderSize(file, 256<<10)
		for ended := false; !ended; {
			var lines []read
			for len(lines) < chunkLines && !ended {
				line, err := reader.ReadBytes('\n')
				ended = err != nil
				lines = append(lines, read{line: bytes.TrimSuffix(line, []byte("\n")), end: err})
			}
			chunk := make(chan []read, 1)
			go func() {
				for i := range lines {
					r := &lines[i]
					r.event, r.summed, r.err = decode(r.line)
					r.leaf = leaf(r.line)
				}
				chunk <- lines
			}()
			select {
			case chunks <- chunk:
			case <-ctx.Done():
				return
			}
		}
	}()
	return chunks
}

func (v *verifier) line(r read) {
	e, summed, err := r.event, r.summed, r.err
	if err == nil {
		v.place.Sequence = e.Sequence
	}
	expected := v.last + 1 + uint64(len(v.unread))
	switch {
	case err != nil:
		v.place.Sequence = expected
		v.find("record %d cannot be read: %v", expected, err)
		v.unread = append(v.unread, r.leaf)
		return
	case e.Sequence <= v.last:
		if v.astray == 0 || e.Sequence != v.astray+1 { // of a whole run of such, the first is told
			v.find("record %d stands where %d is due: it is out of order, twice there, or was put in", e.Sequence, expected)
		}
		v.astray = e.Sequence
		v.unread = append(v.unread, r.leaf)
		return
	case e.Sequence > expected:
		v.find("records %d to %d are missing", expected, e.Sequence-1)
		v.blind = true
	case e.Sequence == expected && v.fresh && e.Sequence != v.named:
		v.find("the file begins with record %d, and its name says %d", e.Sequence, v.named)
	case e.Sequence < expected:
		v.find("%d lines before record %d are none of the journal's", expected-e.Sequence, e.Sequence)
	}
	if v.summed && !summed {
		v.find("record %d bears no checksum, though earlier ones do", e.Sequence)
	}
	for _, unread := range v.unread[:min(uint64(len(v.unread)), e.Sequence-1-v.last)] {
		v.tree.grow(unread)
	}
	v.unread, v.astray = v.unread[:0], 0
	v.record(e, summed)
	for _, wrong := range v.chains.follow(e, r.leaf) {
		v.find("record %d: %s", e.Sequence, wrong)
	}
	v.tree.grow(r.leaf)
	v.last, v.fresh, v.summed = e.Sequence, false, v.summed || summed
	v.holds()
}

// record looks at what a record says of those before it.
func (v *verifier) record(e Event, summed bool) {
	if v.First == 0 {
		v.First, v.Begins = e.Sequence, e.Time
	}
	v.Ends = e.Time
	v.rested = v.rested || e.Type == DaemonStop || e.Type == DaemonStart || e.Type == JournalResume && beganBy(e, v.beat.Add(silence))
	if v.doubted != nil && (e.Type == DaemonStart || e.Type == JournalResume && beganBy(e, v.doubted.beat.Add(silence))) {
		v.doubted = nil
	}
	if e.Type != JournalCheckpoint {
		if v.fresh && summed && e.Sequence != 1 {
			v.find("the file begins with no checkpoint")
		}
		switch e.Type {
		case JournalExpire:
			v.expire(e)
		case KeyRotate, KeyLose:
			v.handOver(e)
		}
		return
	}
	t, err := settled(e)
	switch {
	case err != nil:
		v.find("checkpoint: %v", err)
		return
	case t.size != e.Sequence-1:
		v.find("checkpoint of %d records stands after %d", t.size, e.Sequence-1)
		return
	case !v.blind && t.root() != v.tree.root():
		v.find("the records before this checkpoint are not those that it settles: one of %d to %d was changed", v.Settled+1, e.Sequence-1)
	}
	// What was changed is said once: from here on the checkpoint's own tree counts.
	v.tree, v.blind = t, false
	if v.fresh {
		v.roots[t.size] = t.root()
	}
	signed, is := e.Fields[fieldNote]
	if !is {
		return
	}
	c, err := v.open(signed)
	switch {
	case err != nil:
		v.find("checkpoint: %v", err)
		return
	case c.Checkpoint != Checkpoint{t.size, t.root()}:
		v.find("what is signed of this checkpoint is %d records with root %s, what it says itself %d with %s", c.Size, c.Root, t.size, t.root())
		return
	case v.signer != nil && *v.signer != c.by:
		v.find("this checkpoint is signed by key %s, though %s signs here: the journal goes on with another key, and none was handed over", c.by, v.signer)
	}
	v.signer = &c.by
	set, err := setBefore(e)
	if err != nil {
		v.find("checkpoint: %v", err)
	}
	v.unexplained()
	before := v.beat
	if what := v.silence(e.Time.Add(-set), "this checkpoint"); v.fresh && what != "" { // it stands before the record that began the file, which may say why
		v.doubted = &doubt{v.place, what, before}
	} else if what != "" {
		v.find("%s", what)
	}
	v.beat, v.rested = e.Time, false
	if !v.keys.alien[c.by] {
		v.Checkpoints++
		v.Settled = c.Size
	}
}

// open opens what is signed. Where none of the keys did it is looked whether the journal's handovers lead from one of them to the one that did.
func (v *verifier) open(signed string) (opened, error) {
	o, err := openNote([]byte(signed), &v.keys)
	if unknown := (*note.UnverifiedNoteError)(nil); v.ahead == nil || !errors.As(err, &unknown) {
		return o, err
	}
	all, wrong := v.ahead()
	v.ahead = nil
	if wrong != nil {
		return o, errors.Join(err, wrong)
	}
	v.keys.follow(all)
	return openNote([]byte(signed), &v.keys)
}

// handOver looks at a record by which another key signs from here on.
func (v *verifier) handOver(e Event) {
	h, err := handoverOf(e)
	switch {
	case err != nil:
		v.find("handover of the key: %v", err)
		return
	case h.Size != e.Sequence-1 || !v.blind && h.Root != v.tree.root():
		v.find("handover of the key: it is one after %d records with root %s, which are not those before it", h.Size, h.Root)
		return
	case h.from != nil && v.signer != nil && *v.signer != signatureOf(h.from):
		v.find("handover of the key: it is one of key %s, though %s signs here", signatureOf(h.from), v.signer)
		return
	}
	to := signatureOf(h.to)
	by, err := v.open(h.text)
	known := err == nil && !v.keys.alien[by.by]
	switch {
	case h.from != nil && err != nil:
		v.find("handover of the key: neither key is one of those that are given, or one that these lead to: %v", err)
		return
	case h.from == nil && !known:
		v.find("the chain of signatures is broken: the key was lost, and key %s signs from here on, which is not one of those that are given: get it from the box by a way that you trust, and give both", to)
	}
	if h.from != nil {
		v.keys.add(h.from, !known)
	}
	v.keys.add(h.to, !known)
	v.signer = &to
	v.Keys = append(v.Keys, Change{Sequence: e.Sequence, Time: e.Time, Old: e.Fields[fieldOldKey], New: e.Fields[fieldNewKey], Lost: h.from == nil})
}

// expire notes what a record says is removed.
func (v *verifier) expire(e Event) {
	t, err := expired(e)
	if err != nil {
		v.find("expiry: %v", err)
		return
	}
	v.gone = append(v.gone, goneRecords{v.place, t})
}

// prefix says whether the journal may begin where it does: at its first record, or where a signed record says that what was before is removed. What such records say of the tree has to be
// so, as far as the files are there.
func (v *verifier) prefix(firsts []uint64) {
	vouched := len(firsts) == 0 || firsts[0] == 1
	for _, g := range v.gone {
		root, known := v.roots[g.tree.size]
		v.place = g.place
		switch {
		case known && root != g.tree.root():
			v.find("what it says is removed was not what the journal had: its first %d records have another root", g.tree.size)
		case known && g.place.Sequence <= v.Settled && g.tree.size >= firsts[0]-1:
			vouched = true
		}
	}
	if !vouched {
		v.place = Finding{File: segmentName(firsts[0])}
		v.find("records 1 to %d are missing: the first file begins after them, and no signed record says that they were removed", firsts[0]-1)
	}
}

// beganBy says whether the time in which the disk took nothing, which an event ends, had begun by then.
func beganBy(e Event, then time.Time) bool {
	since, err := time.Parse(time.RFC3339Nano, e.Fields["since"])
	return err == nil && !since.After(then)
}

// silence says that no checkpoint was signed for too long before a time; "": one was, or it is known why not.
func (v *verifier) silence(until time.Time, what string) string {
	if passed := until.Sub(v.beat); !v.beat.IsZero() && !v.rested && passed > silence {
		return fmt.Sprintf("no checkpoint was signed for %s before %s, and nothing on record says why", passed.Round(time.Second), what)
	}
	return ""
}

// doubt is a silence before a file's first checkpoint.
type doubt struct {
	place Finding
	what  string
	beat  time.Time // before it
}

// unexplained tells of a doubt for which no reason came.
func (v *verifier) unexplained() {
	if v.doubted == nil {
		return
	}
	place := v.place
	v.place = v.doubted.place
	v.find("%s", v.doubted.what)
	v.place, v.doubted = place, nil
}

// holds compares with a checkpoint of so many records that was kept elsewhere.
func (v *verifier) holds() {
	c, is := v.held[v.last]
	if is && !v.blind && c.Root != v.tree.root() {
		v.find("a checkpoint that is held has another root for the first %d records: something among them was changed, and signed anew", c.Size)
	}
}
