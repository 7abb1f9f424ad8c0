package journal

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/klauspost/compress/zstd"

	"shekara/netctl/durable"
)

// A byte below is none that a record's line can have (RFC 8259, sections 2 and 7). In a cold file it stands for what can be made from the lines before.
const (
	coldVerbatim = 0x00 // begins a line whose rest stands as it is
	coldSequence = 0x01 // {"sequence":N, where N is the number that is due
	coldEdge     = 0x02 // the edge of the tree over all lines before
	coldRoot     = 0x03 // its root
	coldLinks    = 0x04 // ,"links":[...], to the lines before of the same partitions in this file
	coldSum      = 0x05 // ,"crc":"XXXXXXXX"}

	coldBegins = "shekara journal, cold, 1\n"
	coldWindow = 8 << 20
	// maxFileBytes is the longest file that can become cold, and the longest that is read of one: some segmentBytes, and all that can be written at once.
	maxFileBytes = segmentBytes + 16<<20
	maxColdBytes = 2 * maxFileBytes // compressed or not; more than such a file can come to
	// coldAfter is how long ago the legal day of a file ended when it becomes cold: what is looked at most stays as it is.
	coldAfter = 48 * time.Hour
)

// thread goes through a file's lines in order, and so knows what can be made from those before.
type thread struct {
	due    uint64
	rooted bool // tree is known
	begun  bool
	tree   tree
	ends   map[string]chain // of the partitions that this file has records of
}

func newThread(first uint64) *thread {
	return &thread{due: first, rooted: first == 1, ends: map[string]chain{}}
}

// pass takes a line, without its end.
func (t *thread) pass(line []byte) {
	e, err := parse(line)
	if err == nil {
		t.due = e.Sequence
	}
	if !t.begun && err == nil && e.Type == JournalCheckpoint {
		if before, err := settled(e); err == nil {
			t.tree, t.rooted = before, true
		}
	}
	t.begun = true
	hash := leaf(line)
	for _, link := range e.Links {
		t.ends[link.Of] = chain{link.Number, hash}
	}
	t.tree.grow(hash)
	t.due++
}

// links is the member that links an event to the lines before; nil: one of its partitions has none yet.
func (t *thread) links(e *Event) []byte {
	var made []Link
	for _, name := range e.partitions() {
		end, known := t.ends[name]
		if !known {
			return nil
		}
		made = append(made, Link{Of: name, Number: end.Number + 1, Before: end.Leaf.String()})
	}
	return appendLinks(nil, made)
}

// freeze is the line as a cold file holds it.
func (t *thread) freeze(line []byte) []byte {
	verbatim := append([]byte{coldVerbatim}, line...)
	e, summed, err := decode(line)
	body, begins := bytes.CutPrefix(line, strconv.AppendUint([]byte(sequenceBegins), t.due, 10))
	if err != nil || !begins {
		return verbatim
	}
	frozen := []byte{coldSequence}
	if summed {
		body = body[:len(body)-crcBytes]
	}
	links := t.links(&e)
	linked := false
	if len(links) > 0 {
		body, linked = bytes.CutSuffix(body, links)
	}
	if e.Type == JournalCheckpoint && t.rooted {
		body = bytes.ReplaceAll(body, []byte(t.tree.root().String()), []byte{coldRoot})
		if edge := t.tree.edgeText(); edge != "" {
			body = bytes.ReplaceAll(body, []byte(`"edge":"`+edge), append([]byte(`"edge":"`), coldEdge))
		}
	}
	frozen = append(frozen, body...)
	if linked {
		frozen = append(frozen, coldLinks)
	}
	if summed {
		frozen = append(frozen, coldSum)
	}
	if again, err := t.thaw(nil, frozen); err != nil || !bytes.Equal(again, line) {
		return verbatim
	}
	return frozen
}

// thaw appends the line that a cold file holds so.
func (t *thread) thaw(to, frozen []byte) ([]byte, error) {
	if len(frozen) > 0 && frozen[0] == coldVerbatim {
		return append(to, frozen[1:]...), nil
	}
	begins := len(to)
	for {
		plain := slices.IndexFunc(frozen, func(c byte) bool { return c <= coldSum })
		if plain < 0 {
			return append(to, frozen...), nil
		}
		to = append(to, frozen[:plain]...)
		switch frozen[plain] {
		case coldSequence:
			to = strconv.AppendUint(append(to, sequenceBegins...), t.due, 10)
		case coldEdge:
			to = append(to, t.tree.edgeText()...)
		case coldRoot:
			to = append(to, t.tree.root().String()...)
		case coldLinks:
			e, err := parse(append(to[begins:len(to):len(to)], '}'))
			links := t.links(&e)
			if err != nil || links == nil {
				return nil, errors.New("it is linked to what the file has not")
			}
			to = append(to, links...)
		case coldSum:
			to = appendSum(to, begins)
		default:
			return nil, fmt.Errorf("byte %#02x stands for nothing", frozen[plain])
		}
		if frozen = frozen[plain+1:]; len(to)-begins+len(frozen) > MaxEventBytes {
			return nil, fmt.Errorf("it is longer than %d bytes", MaxEventBytes)
		}
	}
}

// Freeze is what the cold file of one that is closed and begins with this sequence holds.
func Freeze(first uint64, hot []byte) ([]byte, error) {
	t := newThread(first)
	text := []byte(coldBegins)
	for line := range bytes.Lines(hot) {
		line, ended := bytes.CutSuffix(line, []byte("\n"))
		text = append(text, t.freeze(line)...)
		if ended {
			text = append(text, '\n')
		}
		t.pass(line)
	}
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithWindowSize(coldWindow))
	if err != nil {
		return nil, err
	}
	return encoder.EncodeAll(text, nil), encoder.Close()
}

// thaw gives the lines of a cold file. It takes no more memory than a file may have, whatever it is given.
func thaw(first uint64, cold []byte) ([]byte, error) {
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(coldWindow), zstd.WithDecoderMaxMemory(maxColdBytes))
	if err != nil {
		return nil, err
	}
	defer decoder.Close()
	text, err := decoder.DecodeAll(cold, nil)
	if err != nil {
		return nil, err
	}
	text, known := bytes.CutPrefix(text, []byte(coldBegins))
	if !known {
		return nil, fmt.Errorf("it does not begin with %q", coldBegins)
	}
	t := newThread(first)
	hot := make([]byte, 0, min(4*len(text), maxFileBytes))
	for frozen := range bytes.Lines(text) {
		frozen, ended := bytes.CutSuffix(frozen, []byte("\n"))
		begins := len(hot)
		if hot, err = t.thaw(hot, frozen); err != nil {
			return nil, fmt.Errorf("where record %d is due: %w", t.due, err)
		}
		if t.pass(hot[begins:]); ended {
			hot = append(hot, '\n')
		}
		if len(hot) > maxFileBytes {
			return nil, fmt.Errorf("it holds more than %d bytes", maxFileBytes)
		}
	}
	return hot, nil
}

// firstCold is the first line of a cold file.
func firstCold(first uint64, cold io.Reader) ([]byte, error) {
	decoder, err := zstd.NewReader(cold, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(coldWindow), zstd.WithDecoderMaxMemory(maxColdBytes))
	if err != nil {
		return nil, err
	}
	defer decoder.Close()
	text := bufio.NewReader(io.LimitReader(decoder, int64(len(coldBegins)+MaxEventBytes+1)))
	if head, err := text.ReadString('\n'); err != nil || head != coldBegins {
		return nil, errors.Join(fmt.Errorf("it does not begin with %q", coldBegins), err)
	}
	frozen, err := text.ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	return newThread(first).thaw(nil, frozen[:len(frozen)-1])
}

// cool makes cold files of those whose legal day ended long enough before now, and says how many were due. After each it
// rests so many times as long as it took. It ends early with the context.
func (j *Journal) cool(ctx context.Context, now time.Time, rests int) (files int, err error) {
	firsts, err := segments(j.dir)
	if err != nil {
		return 0, err
	}
	for _, first := range firsts[:max(0, len(firsts)-1)] { // the last is written to
		if ctx.Err() != nil {
			break
		}
		began := time.Now()
		due, wrong := j.coolDue(first, now)
		if wrong == nil && due {
			wrong = j.coolFile(first)
		}
		if wrong != nil {
			err = errors.Join(err, fmt.Errorf("compress %s: %w", segmentName(first), wrong))
		}
		if due {
			files++
			rest(ctx, time.Duration(rests)*time.Since(began))
		}
	}
	return files, err
}

func rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// coolDue says whether a file is hot and its day is long over.
func (j *Journal) coolDue(first uint64, now time.Time) (bool, error) {
	info, err := os.Stat(filepath.Join(j.dir, segmentName(first)))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || info.Size() > maxFileBytes {
		return false, err
	}
	began, err := j.began(first)
	if err != nil {
		return false, nil // it is damaged: it stays as it is, for who repairs it
	}
	_, ends, err := Day(j.legalDay(began))
	return err == nil && !now.Before(ends.Add(coldAfter)), err
}

// coolFile writes the cold file, reads it back, and removes the hot one when what was read is the same byte for byte. A cold one that is there already and holds something else
// stays, as does the hot one: somebody put one of them there.
func (j *Journal) coolFile(first uint64) error {
	hot, err := durable.ReadFile(filepath.Join(j.dir, segmentName(first)), maxFileBytes)
	if err != nil {
		return err
	}
	there, err := openCold(j.dir, first)
	var damaged *coldError
	switch {
	case err == nil:
		return j.removeHot(first, hot, there)
	case !errors.Is(err, fs.ErrNotExist) && !errors.As(err, &damaged):
		return err
	}
	cold, err := Freeze(first, hot)
	if err != nil {
		return err
	}
	if err := j.disk.write(filepath.Join(j.dir, coldName(first)), cold, closedMode); err != nil {
		return err
	}
	file, err := openCold(j.dir, first)
	if err != nil {
		return err
	}
	return j.removeHot(first, hot, file)
}

// removeHot removes the hot file if the cold one gives the same.
func (j *Journal) removeHot(first uint64, hot []byte, cold *lines) error {
	again, err := io.ReadAll(cold)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, hot) {
		return fmt.Errorf("%s does not hold the same: keep the one that shekara journal verify finds whole, and put the other elsewhere", coldName(first))
	}
	return j.disk.remove(filepath.Join(j.dir, segmentName(first)))
}
