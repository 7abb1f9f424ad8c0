package journal

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"shekara/netctl/durable"
)

// tail is how the newest file ended.
type tail struct {
	first   uint64 // names the file to go on with
	last    uint64 // newest sequence
	size    int64  // where to go on in it
	aside   string // file that holds the torn tail; "" for none yet
	cut     int64  // bytes of the torn tail
	damaged int    // lines that cannot be read though later ones can
	file    string
}

// findTail looks at the newest file alone: older ones were closed in order. What follows the last whole record was never
// acknowledged and is to be set aside; unreadable lines before it were acknowledged and are never touched.
func findTail(dir string) (tail, error) {
	firsts, err := segments(dir)
	if err != nil {
		return tail{}, err
	}
	if len(firsts) == 0 {
		return tail{first: 1}, nil
	}
	first := firsts[len(firsts)-1]
	path := filepath.Join(dir, segmentName(first))
	found := tail{first: first, last: first - 1, file: filepath.Base(path)}
	file, err := os.Open(path)
	if err != nil {
		return tail{}, err
	}
	defer func() { _ = file.Close() }()
	if err := found.scan(file); err != nil {
		return tail{}, err
	}
	info, err := file.Stat()
	if err != nil {
		return tail{}, err
	}
	found.cut = info.Size() - found.size
	return found, nil
}

func (t *tail) scan(file io.Reader) error {
	reader := bufio.NewReaderSize(file, 256<<10)
	var offset int64
	unread := 0
	for {
		line, err := reader.ReadBytes('\n')
		offset += int64(len(line))
		if errors.Is(err, io.EOF) {
			return nil // whatever stands here has no end of line: torn
		}
		if err != nil {
			return err
		}
		var e Event
		if json.Unmarshal(line, &e) != nil || e.Sequence <= t.last || e.Type == "" {
			unread++
			continue
		}
		t.last, t.size = e.Sequence, offset
		t.damaged += unread
		unread = 0
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

// events says in the journal itself what was found wrong with it.
func (t *tail) events() []Event {
	var events []Event
	if t.aside != "" {
		events = append(events, Event{Type: JournalCut, Severity: Warning, Object: "journal/" + t.file,
			Message: fmt.Sprintf("the journal ended in %d bytes that were never acknowledged: they were set aside", t.cut),
			Fields:  map[string]string{"file": t.aside, "bytes": strconv.FormatInt(t.cut, 10)}})
	}
	if t.damaged > 0 {
		events = append(events, Event{Type: JournalDamage, Severity: Alert, Object: "journal/" + t.file,
			Message: fmt.Sprintf("%d lines of %s cannot be read: restore the file from a copy", t.damaged, t.file),
			Fields:  map[string]string{"file": t.file, "lines": strconv.Itoa(t.damaged)}})
	}
	return events
}
