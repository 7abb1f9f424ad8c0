package journal

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"shekara/netctl/durable"
)

// maxGap is the most records that may be missing in one place. More, and it is the sequence that is damaged.
const maxGap = 1 << 24

// tail is how the newest file ended.
type tail struct {
	first     uint64 // names the file to go on with
	last      uint64 // newest sequence
	size      int64  // where to go on in it
	aside     string // file that holds the torn tail; "" for none yet
	cut       int64  // bytes of the torn tail
	damaged   int    // lines that cannot be read though later ones can
	file      string
	tree      tree             // over all records up to last
	unsettled bool             // the tree before the file's first record is not known: its first checkpoint says it
	head      string           // last signed checkpoint
	loose     int              // records after it, in this file
	began     time.Time        // time of the file's first record
	full      time.Time        // since when the disk had no room, by the file's last word on that; zero: it had some
	ends      map[string]chain // of all partitions
}

// findTail looks at the newest file alone: older ones were closed in order. What follows the last whole record was never
// acknowledged and is to be set aside; unreadable lines before it were acknowledged and are never touched.
func findTail(dir string) (tail, error) {
	firsts, err := segments(dir)
	if err != nil {
		return tail{}, err
	}
	if len(firsts) == 0 {
		return tail{first: 1, ends: map[string]chain{}}, nil
	}
	first := firsts[len(firsts)-1]
	found := tail{first: first, last: first - 1, file: segmentName(first)}
	if found.tree, err = treeBefore(dir, firsts); err != nil {
		return tail{}, err
	}
	saved := false
	if found.ends, saved, err = linksBefore(dir, firsts); err != nil {
		return tail{}, err
	}
	if !saved {
		_ = saveLinks(dir, found.tree, found.ends)
	}
	file, err := openLines(dir, first)
	if err != nil {
		return tail{}, err
	}
	defer func() { _ = file.Close() }()
	if err := found.scan(file); err != nil {
		return tail{}, err
	}
	found.cut = file.Size() - found.size
	return found, nil
}

// treeBefore is the tree over all records before the last file. That file's first record says what it was. Where it does not, as in one that is still empty and in journals of the
// first version, those before it are read, from the nearest on that says it.
func treeBefore(dir string, firsts []uint64) (tree, error) {
	before, from := tail{}, 0
	for at := len(firsts) - 1; at >= 0 && firsts[at] > 1; at-- {
		if t, err := firstSettles(dir, firsts[at]); err == nil {
			before.tree, before.last, from = t, t.size, at
			break
		}
	}
	for _, first := range firsts[from : len(firsts)-1] {
		before.skip(first, nil)
		file, err := openLines(dir, first)
		var damaged *coldError
		if errors.As(err, &damaged) {
			continue // as one of which no line can be read
		}
		if err != nil {
			return tree{}, err
		}
		err = before.scan(file)
		_ = file.Close()
		if err != nil {
			return tree{}, err
		}
	}
	before.skip(firsts[len(firsts)-1], nil)
	return before.tree, nil
}

// firstSettles is the tree that the first record of a file settles.
func firstSettles(dir string, first uint64) (tree, error) {
	line, err := firstLine(dir, first)
	if err != nil {
		return tree{}, err
	}
	e, summed, err := decode(line)
	if err != nil {
		return tree{}, err
	}
	if !summed || e.Type != JournalCheckpoint {
		return tree{}, errors.New("the file begins with no checkpoint")
	}
	t, err := settled(e)
	if err == nil && t.size != first-1 {
		err = fmt.Errorf("the checkpoint that the file begins with has %d records", t.size)
	}
	return t, err
}

// skip brings the tree to where a record follows: what stands in the place of one that cannot be read counts as it stands, and what is
// missing as nothing. So the tree goes on after damage, and all who read the files come to the same.
func (t *tail) skip(next uint64, unread []tlog.Hash) {
	for t.last+1 < next {
		missing := leaf(nil)
		if len(unread) > 0 {
			missing, unread = unread[0], unread[1:]
		}
		t.tree.grow(missing)
		t.last++
	}
}

func (t *tail) scan(file io.Reader) error {
	reader := bufio.NewReaderSize(file, 256<<10)
	var offset int64
	var unread []tlog.Hash
	for {
		line, err := reader.ReadBytes('\n')
		offset += int64(len(line))
		if errors.Is(err, io.EOF) {
			return nil // whatever stands here has no end of line: torn
		}
		if err != nil {
			return err
		}
		line = line[:len(line)-1]
		e, summed, err := decode(line)
		if err != nil || e.Sequence <= t.last || e.Sequence-t.last > maxGap {
			unread = append(unread, leaf(line))
			continue
		}
		t.damaged += len(unread)
		t.skip(e.Sequence, unread)
		unread = unread[:0]
		t.loose++
		if t.began.IsZero() && summed && (e.Type != JournalCheckpoint || e.Sequence != t.first) {
			t.unsettled = false // a file of such records begins with a checkpoint: that it is missing is to show
		}
		if e.Type == JournalCheckpoint {
			if signed := e.Fields[fieldNote]; signed != "" {
				t.head, t.loose = signed, 0
			}
			// What was changed before it stays what it was: this is what was signed.
			if settled, err := settled(e); err == nil && settled.size == t.last && settled.root() != t.tree.root() {
				t.tree = settled
				if !t.unsettled {
					t.damaged++
				}
				t.unsettled = false
			}
		}
		switch e.Type {
		case JournalFull:
			t.full = e.Time
			if since, err := time.Parse(time.RFC3339Nano, e.Fields["since"]); err == nil {
				t.full = since
			}
		case JournalResume:
			t.full = time.Time{}
		}
		if t.began.IsZero() {
			t.began = e.Time
		}
		hash := leaf(line)
		t.tree.grow(hash)
		for _, link := range e.Links {
			if t.ends != nil {
				t.ends[link.Of] = chain{link.Number, hash}
			}
		}
		t.last, t.size = e.Sequence, offset
	}
}

// setAside copies the torn tail to a file of its own before it is cut, so that nothing is lost whatever happens in between.
func (t *tail) setAside(dir string) error {
	if t.cut == 0 || t.aside != "" {
		return nil
	}
	file, err := os.Open(filepath.Join(dir, t.file))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	torn := make([]byte, t.cut)
	if _, err := file.ReadAt(torn, t.size); err != nil {
		return err
	}
	name := segmentName(t.first) + "." + strconv.FormatInt(t.size, 10) + ".torn"
	path := filepath.Join(dir, name)
	// The same place may be torn twice by two power cuts; both are kept.
	for n := 2; ; n++ {
		old, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && bytes.Equal(old, torn) {
			break
		}
		if n > 100 {
			break // a box that loses power here for the hundredth time needs no further copy
		}
		name = fmt.Sprintf("%s.%d.%d.torn", segmentName(t.first), t.size, n)
		path = filepath.Join(dir, name)
	}
	if err := durable.WriteFile(path, torn, 0o640); err != nil {
		return err
	}
	t.aside = name // the tail itself is cut when the file is opened for appending
	return nil
}

// cutEvent says that a torn tail was set aside, if one was.
func (t *tail) cutEvent() (e Event, cut bool) {
	return Event{Type: JournalCut, Severity: Warning, Object: "journal/" + t.file,
		Message: fmt.Sprintf("the journal ended in %d bytes that were never acknowledged: they were set aside", t.cut),
		Fields:  map[string]string{"file": t.aside, "bytes": strconv.FormatInt(t.cut, 10)}}, t.aside != ""
}

func (t *tail) damageEvent() Event {
	return Event{Type: JournalDamage, Severity: Alert, Object: "journal/" + t.file,
		Message: fmt.Sprintf("%d lines of %s cannot be read: restore the file from a copy", t.damaged, t.file),
		Fields:  map[string]string{"file": t.file, fieldLines: strconv.Itoa(t.damaged)}}
}
