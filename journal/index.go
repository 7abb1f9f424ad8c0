package journal

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"shekara/netctl/durable"
)

// An index says in which parts of a closed file there may be events that a filter chooses, so that a question that selects little reads little. It is a copy of what
// the file says: where it is missing, damaged or not of the file as it is now, it is made anew, and of a file with damage none is kept. What it points to is read, and held to the filter.
//
//	head:  magic, size and time of the file that it was made of, first and last sequence, earliest and latest time, offsets of 256 parts, checksum
//	rows:  2,048 of 256 bits, each with a checksum: in row hash(term) stands in which parts that term occurs, or another one of that hash
//
// The size is the same whatever the file holds, and a question reads the head and one row for each term. All numbers are big-endian.
const (
	indexFolder = "index"
	indexMagic  = "shekara2"
	indexParts  = 256 // of a file
	indexRows   = 2048
	partsBytes  = indexParts / 8
	rowBytes    = partsBytes + 4
	headBytes   = len(indexMagic) + 6*8 + 4*indexParts + 4
	indexBytes  = headBytes + indexRows*rowBytes
)

// parts is a set of parts of a file.
type parts [partsBytes]byte

func (p *parts) add(n int)      { p[n/8] |= 1 << (n % 8) }
func (p *parts) has(n int) bool { return p[n/8]&(1<<(n%8)) != 0 }

// indexHead is what is known of a file as a whole.
type indexHead struct {
	of               identity
	first, last      uint64             // sequences
	earliest, latest time.Time          // of its events: the clock may have been set meanwhile
	offsets          [indexParts]uint32 // where the lines of a part begin; a part ends where the next begins
}

// identity tells a file from what it was before it was compressed, or restored from a copy.
type identity struct {
	size     int64     // on the disk
	modified time.Time // as the disk has it
}

func identify(dir string, first uint64) (identity, error) {
	info, err := os.Stat(filepath.Join(dir, segmentName(first)))
	if errors.Is(err, fs.ErrNotExist) {
		info, err = os.Stat(filepath.Join(dir, coldName(first)))
	}
	if err != nil {
		return identity{}, err
	}
	return identity{info.Size(), time.Unix(0, info.ModTime().UnixNano())}, nil
}

// indexTerms are what an event is found by.
func indexTerms(e *Event) []string {
	noun, _, _ := strings.Cut(string(e.Type), ".")
	terms := []string{"type " + string(e.Type), "type " + noun + ".*", "severity " + string(e.Severity)}
	if e.Object != "" {
		terms = append(terms, "object "+e.Object)
		for at := range len(e.Object) {
			if e.Object[at] == '/' {
				terms = append(terms, "object "+e.Object[:at+1])
			}
		}
	}
	if e.Organisation != "" {
		terms = append(terms, "organisation "+e.Organisation)
	}
	for _, system := range e.Systems {
		terms = append(terms, "system "+system)
	}
	return terms
}

// terms are what the filter asks of an index: one of each list has to occur.
func (f Filter) terms() (all [][]string) {
	var types, severities []string
	for _, t := range f.Types {
		types = append(types, "type "+string(t))
	}
	for _, s := range f.Severities {
		severities = append(severities, "severity "+string(s))
	}
	for _, one := range [][]string{types, severities} {
		if len(one) > 0 {
			all = append(all, one)
		}
	}
	if f.Object != "" {
		all = append(all, []string{"object " + f.Object})
	}
	if f.Organisation != "" {
		all = append(all, []string{"organisation " + f.Organisation})
	}
	if f.System != "" {
		all = append(all, []string{"system " + f.System})
	}
	return all
}

// indexed says whether an index helps.
func (f Filter) indexed() bool { return len(f.terms()) > 0 || !f.Since.IsZero() || !f.Until.IsZero() }

func row(term string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(term)) // never fails
	return int(h.Sum32() % indexRows)
}

func indexPath(dir string, first uint64) string {
	return filepath.Join(dir, indexFolder, fmt.Sprintf("%020d", first))
}

// makeIndex reads a closed file and gives its index. Whole says that every line of it could be read.
func makeIndex(ctx context.Context, dir string, first uint64) (data []byte, whole bool, err error) {
	of, err := identify(dir, first)
	if err != nil {
		return nil, false, err
	}
	file, err := openLines(dir, first)
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = file.Close() }()
	if file.Size() > math.MaxUint32 {
		return nil, false, fmt.Errorf("%s: %d bytes are more than an index counts", file.name, file.Size())
	}
	head := indexHead{of: of, first: first}
	whole = true
	rows := make([]parts, indexRows)
	share := file.Size()/indexParts + 1
	reader := bufio.NewReaderSize(file, 256<<10)
	offset, begun := int64(0), 0
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return nil, false, ctx.Err()
		}
		line, err := reader.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, false, err
		}
		part := int(offset / share)
		for ; begun <= part; begun++ {
			head.offsets[begun] = uint32(offset)
		}
		offset += int64(len(line))
		e, _, err := decode(line[:len(line)-1])
		if err != nil {
			whole = false
			continue // nobody is shown it
		}
		if head.earliest.IsZero() || e.Time.Before(head.earliest) {
			head.earliest = e.Time
		}
		if e.Time.After(head.latest) {
			head.latest = e.Time
		}
		head.last = max(head.last, e.Sequence)
		for _, term := range indexTerms(&e) {
			rows[row(term)].add(part)
		}
	}
	for ; begun < indexParts; begun++ {
		head.offsets[begun] = uint32(offset)
	}
	return encodeIndex(head, rows), whole, nil
}

func encodeIndex(head indexHead, rows []parts) []byte {
	out := make([]byte, 0, indexBytes)
	out = append(out, indexMagic...)
	for _, n := range []uint64{uint64(head.of.size), uint64(head.of.modified.UnixNano()), head.first, head.last, uint64(head.earliest.UnixNano()), uint64(head.latest.UnixNano())} {
		out = binary.BigEndian.AppendUint64(out, n)
	}
	for _, offset := range head.offsets {
		out = binary.BigEndian.AppendUint32(out, offset)
	}
	out = binary.BigEndian.AppendUint32(out, checksum(out))
	for n := range rows {
		out = append(out, rows[n][:]...)
		out = binary.BigEndian.AppendUint32(out, checksum(rows[n][:]))
	}
	return out
}

func decodeHead(data []byte) (head indexHead, err error) {
	body, sum := data[:headBytes-4], binary.BigEndian.Uint32(data[headBytes-4:])
	if checksum(body) != sum || !bytes.HasPrefix(body, []byte(indexMagic)) {
		return indexHead{}, errDamaged
	}
	body = body[len(indexMagic):]
	number := func() uint64 {
		n := binary.BigEndian.Uint64(body)
		body = body[8:]
		return n
	}
	head.of = identity{int64(number()), time.Unix(0, int64(number()))}
	head.first, head.last = number(), number()
	head.earliest, head.latest = time.Unix(0, int64(number())), time.Unix(0, int64(number()))
	for n := range head.offsets {
		head.offsets[n] = binary.BigEndian.Uint32(body[4*n:])
	}
	return head, nil
}

// index answers for one file.
type index struct {
	head indexHead
	rows io.ReaderAt
	file io.Closer
}

func openIndex(dir string, first uint64) (*index, error) {
	of, err := identify(dir, first)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(indexPath(dir, first))
	if err != nil {
		return nil, err
	}
	data := make([]byte, headBytes)
	if _, err = io.ReadFull(file, data); err == nil {
		var head indexHead
		if head, err = decodeHead(data); err == nil && head.first == first && head.of == of {
			return &index{head, file, file}, nil
		}
	}
	return nil, errors.Join(errDamaged, err, file.Close())
}

// indexOf is the index of a closed file, made now if there is none that can be read. It is kept if it can be: another reader makes it again otherwise.
func indexOf(ctx context.Context, dir string, first uint64) (*index, error) {
	if opened, err := openIndex(dir, first); err == nil {
		return opened, nil
	}
	data, whole, err := makeIndex(ctx, dir, first)
	if err != nil {
		return nil, err
	}
	if whole && durable.MkdirAll(filepath.Join(dir, indexFolder), 0o750) == nil {
		_ = durable.WriteFile(indexPath(dir, first), data, openMode) // a copy
	}
	head, err := decodeHead(data)
	return &index{head, bytes.NewReader(data), io.NopCloser(nil)}, err
}

// where is in which parts there may be events that the filter chooses.
func (x *index) where(f Filter) (found parts, err error) {
	if !f.Since.IsZero() && x.head.latest.Before(f.Since) || !f.Until.IsZero() && !x.head.earliest.Before(f.Until) {
		return parts{}, nil
	}
	for n := range found {
		found[n] = 0xff
	}
	for _, list := range f.terms() {
		var one parts
		for _, term := range list {
			var data [rowBytes]byte
			if _, err := x.rows.ReadAt(data[:], int64(headBytes+row(term)*rowBytes)); err != nil {
				return parts{}, err
			}
			if checksum(data[:partsBytes]) != binary.BigEndian.Uint32(data[partsBytes:]) {
				return parts{}, errDamaged
			}
			for n := range one {
				one[n] |= data[n]
			}
		}
		for n := range found {
			found[n] &= one[n]
		}
	}
	return found, nil
}

// span64 is from one offset up to another.
type span64 struct{ from, to int64 }

// spans are the places in the file that the parts are, those side by side as one.
func (x *index) spans(found parts) (spans []span64) {
	for n := range indexParts {
		begins, ends := int64(x.head.offsets[n]), int64(math.MaxInt64)
		if n+1 < indexParts {
			ends = int64(x.head.offsets[n+1])
		}
		switch last := len(spans) - 1; {
		case !found.has(n) || begins >= ends:
		case last >= 0 && spans[last].to == begins:
			spans[last].to = ends
		default:
			spans = append(spans, span64{begins, ends})
		}
	}
	return spans
}

// search says where to look in a closed file for events that a filter chooses.
func search(ctx context.Context, dir string, first uint64, f Filter) (spans []span64, err error) {
	x, err := indexOf(ctx, dir, first)
	if err != nil {
		return nil, err
	}
	found, err := x.where(f)
	if err = errors.Join(err, x.file.Close()); err != nil {
		return nil, errors.Join(err, durable.Remove(indexPath(dir, first))) // the next one to ask makes it anew
	}
	return x.spans(found), nil
}

// indexAll makes the indexes that are missing, and removes those of files that are gone. After each it rests so many times as long as it took. A disk without room has none for
// indexes.
func (j *Journal) indexAll(ctx context.Context, rests int) error {
	firsts, err := segments(j.dir)
	if err != nil || len(firsts) < 2 {
		return err
	}
	there, wrong := map[string]bool{}, error(nil)
	for _, first := range firsts[:len(firsts)-1] {
		there[filepath.Base(indexPath(j.dir, first))] = true
		began := time.Now()
		if x, err := openIndex(j.dir, first); err == nil {
			_ = x.file.Close()
			continue
		}
		if j.Health().Err != nil {
			continue
		}
		x, err := indexOf(ctx, j.dir, first)
		if err == nil {
			err = x.file.Close()
		}
		wrong = errors.Join(wrong, err)
		if rest(ctx, time.Duration(rests)*time.Since(began)); ctx.Err() != nil {
			return ctx.Err()
		}
	}
	entries, err := os.ReadDir(filepath.Join(j.dir, indexFolder))
	if errors.Is(err, fs.ErrNotExist) {
		return wrong
	}
	for _, entry := range entries {
		if !there[entry.Name()] {
			wrong = errors.Join(wrong, durable.Remove(filepath.Join(j.dir, indexFolder, entry.Name())))
		}
	}
	return errors.Join(wrong, err)
}
