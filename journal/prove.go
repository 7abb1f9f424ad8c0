package journal

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Proof shows that one record is among those that a checkpoint settles, to somebody who has neither the others nor trust in who hands it out.
type Proof struct {
	Record     string   `json:"record"`     // its line
	Checkpoint string   `json:"checkpoint"` // the signed note
	Path       []string `json:"path"`       // hashes from the record to the root (RFC 6962, section 2.1.1), in base64
	// Handovers are the notes by which the journal's keys lead to one another, so that who has another one than the checkpoint is signed by can check it: the newest 64.
	Handovers []string `json:"handovers,omitempty"`
}

// maxHandovers is how many of them a proof has at most: a year and more of changes every week.
const maxHandovers = 64

// ErrUnsettled says that no signed checkpoint covers a record yet.
var ErrUnsettled = errors.New("no signed checkpoint covers it yet: one is made every minute")

// Prove makes the proof of a record of the journal in a folder. It reads all records up to the first checkpoint that covers this one.
func Prove(ctx context.Context, dir string, sequence uint64) (Proof, error) {
	p, err := prove(ctx, dir, sequence)
	if err != nil {
		return Proof{}, fmt.Errorf("prove record %d: %w", sequence, err)
	}
	return p, nil
}

func prove(ctx context.Context, dir string, sequence uint64) (p Proof, err error) {
	var size uint64
	err = eachLine(ctx, dir, sequence, func(e Event, line []byte) bool {
		if e.Sequence == sequence {
			p.Record = string(line)
		}
		if e.Type == JournalCheckpoint && e.Sequence > sequence && e.Fields[fieldNote] != "" {
			size, p.Checkpoint = e.Sequence-1, e.Fields[fieldNote]
		}
		return size == 0
	})
	switch {
	case err != nil:
		return Proof{}, err
	case p.Record == "":
		return Proof{}, errors.New("there is no such record")
	case size == 0:
		return Proof{}, ErrUnsettled
	}
	keys, err := handovers(ctx, dir)
	if err != nil {
		return Proof{}, err
	}
	for _, h := range keys[max(0, len(keys)-maxHandovers):] {
		p.Handovers = append(p.Handovers, h.text)
	}
	siblings := auditPath(sequence-1, 0, size)
	if err := fillExpired(dir, siblings); err != nil {
		return Proof{}, err
	}
	byPlace := slices.Clone(siblings)
	slices.SortFunc(byPlace, func(a, b *span) int { return int(a.from) - int(b.from) })
	err = eachLine(ctx, dir, 1, func(e Event, line []byte) bool {
		index := e.Sequence - 1
		for len(byPlace) > 0 && byPlace[0].to <= index {
			byPlace = byPlace[1:]
		}
		if len(byPlace) > 0 && byPlace[0].from <= index {
			byPlace[0].tree.grow(leaf(line))
		}
		return index < size
	})
	if err != nil {
		return Proof{}, err
	}
	for _, s := range siblings {
		p.Path = append(p.Path, s.tree.root().String())
	}
	return p, nil
}

// span is a subtree: the leaves from one on, up to another.
type span struct {
	from, to uint64
	tree     tree
}

// fillExpired gives subtrees what they have of records that are removed: the file that is now the first begins with the edge of the tree over these, and a subtree that stands beside the
// way from a later record is made of parts of that edge.
func fillExpired(dir string, siblings []*span) error {
	firsts, err := segments(dir)
	if err != nil || len(firsts) == 0 || firsts[0] == 1 {
		return err
	}
	before, err := firstSettles(dir, firsts[0])
	if err != nil {
		return err
	}
	for _, s := range siblings {
		from := uint64(0)
		for i, rest := 0, before.size; rest > 0; i++ {
			part := uint64(1) << (bits.Len64(rest) - 1)
			if s.from <= from && from < s.to {
				s.tree.edge = append(s.tree.edge, before.edge[i])
				s.tree.size += part
			}
			from, rest = from+part, rest-part
		}
	}
	return nil
}

// auditPath is which subtrees stand beside the way from a leaf to the root of a tree (RFC 6962, section 2.1.1).
func auditPath(index, from, to uint64) []*span {
	if to-from == 1 {
		return nil
	}
	middle := from + 1<<(bits.Len64(to-from-1)-1)
	if index < middle {
		return append(auditPath(index, from, middle), &span{from: middle, to: to})
	}
	return append(auditPath(index, middle, to), &span{from: from, to: middle})
}

// eachLine hands on the records from a sequence on, of a journal without damage, until each answers false.
func eachLine(ctx context.Context, dir string, from uint64, each func(e Event, line []byte) bool) error {
	firsts, err := segments(dir)
	if err != nil {
		return err
	}
	for i, first := range firsts {
		if i+1 < len(firsts) && firsts[i+1] <= from {
			continue
		}
		more, err := eachLineOf(ctx, dir, first, from, each)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

func eachLineOf(ctx context.Context, dir string, first, from uint64, each func(e Event, line []byte) bool) (more bool, err error) {
	file, err := openLines(dir, first)
	if err != nil {
		return false, err
	}
	defer func() { _ = file.Close() }()
	reader := bufio.NewReaderSize(file, 256<<10)
	for due := first; ; due++ {
		if due%1024 == 0 && ctx.Err() != nil {
			return false, ctx.Err()
		}
		line, err := reader.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		line = bytes.TrimSuffix(line, []byte("\n"))
		e, _, err := decode(line)
		if err == nil && e.Sequence != due {
			err = fmt.Errorf("record %d stands there", e.Sequence)
		}
		if err != nil {
			return false, fmt.Errorf("%s, where record %d is due: %w (hint: shekara journal verify says all that is wrong)", file.name, due, err)
		}
		if due >= from && !each(e, line) {
			return false, nil
		}
	}
}

// Verify holds the proof to the keys, and those that its handovers lead to, and gives the record that it proves.
func (p Proof) Verify(keys note.Verifiers) (Event, error) {
	all := ring{given: keys}
	var between []handover
	for _, text := range p.Handovers[:min(len(p.Handovers), maxHandovers)] {
		if h, err := openHandover(text); err == nil && h.from != nil {
			between = append(between, h)
		}
	}
	all.follow(between)
	c, err := OpenCheckpoint([]byte(p.Checkpoint), &all)
	if err != nil {
		return Event{}, err
	}
	e, _, err := decode([]byte(p.Record))
	if err != nil {
		return Event{}, err
	}
	var path tlog.RecordProof
	for _, text := range p.Path {
		h, err := tlog.ParseHash(text)
		if err != nil {
			return Event{}, fmt.Errorf("path: %.80q is no hash", text)
		}
		path = append(path, h)
	}
	if e.Sequence > c.Size {
		return Event{}, fmt.Errorf("the checkpoint has %d records, this is record %d", c.Size, e.Sequence)
	}
	if err := tlog.CheckRecord(path, int64(c.Size), c.Root, int64(e.Sequence-1), leaf([]byte(p.Record))); err != nil {
		return Event{}, fmt.Errorf("record %d is not the one that the checkpoint settles: %w", e.Sequence, err)
	}
	return e, nil
}
