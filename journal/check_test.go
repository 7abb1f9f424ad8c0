package journal

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// checkAll has every closed file looked at, and gives what was put on record meanwhile.
func checkAll(t *testing.T, j *Journal) []Event {
	t.Helper()
	for range mustSegments(t, j.dir) {
		must(t, j.checkNext(t.Context(), 0))
	}
	j.Settle() // what was posted is on disk then
	return all(t, j, JournalDamage)
}

// TestClosedFilesAreChecked: whatever is done to one is on record, once, also after a restart; and again if it happens again after a repair.
func TestClosedFilesAreChecked(t *testing.T) {
	line := func(n int, change func([]byte) []byte) func(string) error {
		return func(path string) error {
			lines := bytes.SplitAfter(mustRead(t, path), []byte("\n"))
			lines[n] = change(lines[n])
			return os.WriteFile(path, bytes.Join(lines, nil), openMode)
		}
	}
	last := 7 // line of a file: a checkpoint, six events, daemon.stop
	for name, c := range map[string]struct {
		spoil func(path string) error // the third file
		file  int                     // that is named
		lines string
	}{
		"nothing":                 {func(string) error { return nil }, -1, ""},
		"the oldest file is gone": {func(path string) error { return os.Remove(filepath.Join(filepath.Dir(path), segmentName(1))) }, 0, "7"},

		"a byte":                    {line(4, func(l []byte) []byte { l[40] ^= 1; return l }), 2, "1"},
		"a line is gone":            {line(4, func([]byte) []byte { return nil }), 2, ""},
		"the last line is gone":     {line(last, func([]byte) []byte { return nil }), 2, "1"},
		"the last line is torn":     {line(last, func(l []byte) []byte { return l[:20] }), 2, "1"},
		"the first line is changed": {line(0, func(l []byte) []byte { l[40] ^= 1; return l }), 2, ""},
		"the first line is gone":    {line(0, func([]byte) []byte { return nil }), 2, ""},
		"a line with a checksum of its own": {line(4, func(l []byte) []byte {
			e, _, err := decode(bytes.TrimSuffix(l, []byte("\n")))
			must(t, err)
			e.Message = "another"
			changed, err := encode(e)
			must(t, err)
			return append(changed, '\n')
		}), 2, "1"},
		"the file is empty":   {func(path string) error { return os.Truncate(path, 0) }, 2, "8"},
		"the file is gone":    {os.Remove, 1, "8"},
		"a folder in its way": {func(path string) error { must(t, os.Remove(path)); return os.Mkdir(path, 0o700) }, 1, "8"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := daily(t, 5)
			firsts := mustSegments(t, dir)
			path := filepath.Join(dir, segmentName(firsts[2]))
			whole, err := copied(dir)
			must(t, err)
			must(t, c.spoil(path))
			j := signedOpen(t, dir)
			said := checkAll(t, j)
			if c.file < 0 {
				if said = checkAll(t, j); len(said) > 0 {
					t.Errorf("what is whole is damaged: %+v", said)
				}
				return
			}
			if len(said) != 1 || said[0].Fields["file"] != segmentName(firsts[c.file]) || c.lines != "" && said[0].Fields[fieldLines] != c.lines || len(Undeclared(said[0])) > 0 {
				t.Fatalf("%+v", said)
			}
			must(t, j.Close())
			j = signedOpen(t, dir)
			if said = checkAll(t, j); len(said) != 1 {
				t.Errorf("after a restart it is told again: %d records", len(said))
			}
			for _, first := range firsts[:4] {
				name := segmentName(first)
				_ = os.Remove(filepath.Join(dir, name))
				must(t, os.WriteFile(filepath.Join(dir, name), whole[name], openMode))
			}
			if said = checkAll(t, j); len(said) != 1 {
				t.Errorf("after the repair: %+v", said)
			}
			must(t, c.spoil(path))
			if said = checkAll(t, j); len(said) != 2 {
				t.Errorf("damaged again after the repair: %d records", len(said))
			}
		})
	}
}

// TestColdFilesAreChecked: also one that does not give its lines, and after a day is removed the rest is as whole as before.
func TestColdFilesAreChecked(t *testing.T) {
	dir := daily(t, month+2)
	j := signedOpen(t, dir)
	settledNow(t, j)
	_, err := j.cool(t.Context(), time.Now(), 0)
	must(t, err)
	must(t, j.expire(t.Context(), time.Now(), 1, well(j)))
	if said := checkAll(t, j); len(said) > 0 {
		t.Errorf("what is whole is damaged: %+v", said)
	}
	must(t, os.Remove(filepath.Join(dir, expiredName)))
	if said := checkAll(t, j); len(said) > 0 {
		t.Errorf("where EXPIRED is gone the records say that a day was removed: %+v", said)
	}
	path := filepath.Join(dir, coldName(mustSegments(t, dir)[3]))
	data := mustRead(t, path)
	data[len(data)/2] ^= 1
	must(t, os.Remove(path))
	must(t, os.WriteFile(path, data, openMode))
	if said := checkAll(t, j); len(said) != 1 || said[0].Fields["file"] != filepath.Base(path) || said[0].Fields[fieldLines] != "8" {
		t.Errorf("%+v", said)
	}
}

// TestLinesThatAreMissingAreOnRecord: who carries the journal away meets damage before the check does. It is told once; what was removed for its age is not missing.
func TestLinesThatAreMissingAreOnRecord(t *testing.T) {
	dir := daily(t, month+1)
	j := signedOpen(t, dir)
	settledNow(t, j)
	must(t, j.expire(t.Context(), time.Now(), 1, well(j)))
	read := func() []Event {
		t.Helper()
		for after := uint64(0); after < j.Last(); {
			lines, err := j.Lines(t.Context(), after, 100)
			must(t, err)
			if len(lines) == 0 {
				break
			}
			e, err := ParseLine(lines[len(lines)-1])
			must(t, err)
			after = e.Sequence
		}
		j.Settle()
		return all(t, j, JournalDamage)
	}
	if said := read(); len(said) > 0 {
		t.Errorf("of a journal whose first day was removed: %+v", said)
	}
	first := mustSegments(t, dir)[2]
	path := filepath.Join(dir, segmentName(first))
	text := strings.Replace(string(mustRead(t, path)), `"before":"`, `"before":"A`, 2)
	must(t, os.WriteFile(path, []byte(text), openMode))
	read()
	said := read()
	if len(said) != 1 || said[0].Fields["file"] != segmentName(first) || said[0].Fields[fieldFirst] == "" || len(Undeclared(said[0])) > 0 {
		t.Fatalf("%+v", said)
	}
	must(t, j.Close())
	j = signedOpen(t, dir)
	if said = read(); len(said) != 1 {
		t.Errorf("after a restart it is told again: %+v", said)
	}
	if n, err := strconv.ParseUint(said[0].Fields[fieldFirst], 10, 64); err != nil || n < first || n > first+8 {
		t.Errorf("%+v of the file from %d on", said[0], first)
	}
	if said = checkAll(t, j); len(said) != 1 {
		t.Errorf("the check tells it again: %+v", said)
	}
	oldest := mustSegments(t, dir)[0]
	must(t, os.Remove(filepath.Join(dir, segmentName(oldest))))
	if said = read(); len(said) != 2 || said[1].Fields["file"] != segmentName(oldest) || said[1].Fields[fieldFirst] != strconv.FormatUint(oldest, 10) || len(Undeclared(said[1])) > 0 {
		t.Errorf("the oldest that are there are gone without a word: %+v", said)
	}
	if said = checkAll(t, j); len(said) != 2 {
		t.Errorf("the check tells it again: %+v", said)
	}
}

// TestDamageThatCouldNotBeRecordedIsToldLater: a file counts as told of when that is on disk, not when it waits for it: who dies in between tells it after a restart.
func TestDamageThatCouldNotBeRecordedIsToldLater(t *testing.T) {
	dir := daily(t, 5)
	spoiled := mustSegments(t, dir)[0]
	path := filepath.Join(dir, segmentName(spoiled))
	must(t, os.WriteFile(path, bytes.Replace(mustRead(t, path), []byte(`"before":"`), []byte(`"before":"A`), 1), openMode))
	var refuses atomic.Bool
	ctx, cancel := context.WithCancel(t.Context())
	at := func(point string) (bool, error) {
		if point != "append" || !refuses.Load() {
			return true, nil
		}
		cancel()
		return false, errDisk
	}
	d := realDisk()
	d.create = func(path string) (segment, error) {
		s, err := openSegment(path)
		return &faulty{segment: s, at: at}, err
	}
	j, err := open(dir, signer(t), segmentBytes, d)
	must(t, err)
	refuses.Store(true)
	if err := j.checkNext(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("a check whose finding is not on record ends with %v", err)
	}
	files, err := copied(dir)
	must(t, err)
	dead := t.TempDir()
	for name, text := range files {
		must(t, os.WriteFile(filepath.Join(dead, name), text, openMode))
	}
	if said := checkAll(t, signedOpen(t, dead)); len(said) != 1 {
		t.Errorf("of a box that died before it was on record: %+v", said)
	}
	refuses.Store(false)
	j.Settle()
	if said := checkAll(t, j); len(said) != 1 {
		t.Errorf("of one whose disk was well again: %+v", said)
	}
	must(t, j.Close())
	if said := checkAll(t, signedOpen(t, dir)); len(said) != 1 {
		t.Errorf("and after a restart: %+v", said)
	}
}

// TestDamageInTheNewestFileIsToldOnce: not at each start, and not by the check when the file is closed.
func TestDamageInTheNewestFileIsToldOnce(t *testing.T) {
	dir := daily(t, 2)
	path := filepath.Join(dir, segmentName(mustSegments(t, dir)[1]))
	lines := bytes.SplitAfter(mustRead(t, path), []byte("\n"))
	lines[1][40] ^= 1
	must(t, os.WriteFile(path, bytes.Join(lines, nil), openMode))
	for _, rotate := range []int64{segmentBytes, segmentBytes, 1, segmentBytes} { // the third closes it
		j, err := open(dir, signer(t), rotate, realDisk())
		must(t, err)
		mustAppend(t, j, started(1))
		if said := checkAll(t, j); len(said) != 1 || said[0].Fields["file"] != filepath.Base(path) {
			t.Fatalf("%+v", said)
		}
		must(t, j.Close())
	}
	if files := len(mustSegments(t, dir)); files < 3 {
		t.Errorf("%d files: it was not closed", files)
	}
}

// TestWhatCannotBeLookedAtIsNoDamage: it is looked at again, and nothing is on record meanwhile.
func TestWhatCannotBeLookedAtIsNoDamage(t *testing.T) {
	for _, at := range []int{0, 1} { // the file itself, and the one behind it
		dir := daily(t, 4)
		first := mustSegments(t, dir)[at]
		hot := filepath.Join(dir, segmentName(first))
		cold, err := Freeze(first, mustRead(t, hot))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, coldName(first)), cold, openMode))
		must(t, os.Remove(hot))
		j := signedOpen(t, dir)
		must(t, os.Symlink(hot, hot)) // stands for all that the kernel may answer
		for range 2 {
			if err := j.checkNext(t.Context(), 0); err == nil || !strings.Contains(err.Error(), hot) {
				t.Errorf("the error is %v", err)
			}
		}
		must(t, os.Remove(hot))
		if said := checkAll(t, j); len(said) > 0 {
			t.Errorf("%+v", said)
		}
	}
	for err, spoilt := range map[error]bool{syscall.EIO: true, syscall.EBADMSG: true, syscall.EUCLEAN: true, fs.ErrNotExist: true, syscall.EMFILE: false, syscall.ENOMEM: false, syscall.EACCES: false} {
		if got := unlessSpoilt(&fs.PathError{Err: err}); (got == nil) != spoilt {
			t.Errorf("%v counts as damage: %v", err, got == nil)
		}
	}
}

// TestAFileOfTheFirstVersionThatTheNextWentOnWith: its first checkpoint says what the tree was, and is no damage; from there on it is checked.
func TestAFileOfTheFirstVersionThatTheNextWentOnWith(t *testing.T) {
	dir := t.TempDir()
	p := page{links: links{map[string]chain{}, map[string]chain{}}, signer: signer(t), now: time.Now().UTC()}
	old := func() {
		p.sequence++
		line, err := encode(Event{Sequence: p.sequence, Time: p.now, Type: DriftFind, Severity: Notice, Message: "old"})
		must(t, err)
		line = append(line[:bytes.LastIndex(line, []byte(crcBegins))], '}')
		p.tree.grow(leaf(line))
		p.lines.Write(append(line, '\n'))
	}
	add := func() {
		e := of(1)
		must(t, p.add(&e, nil))
	}
	settle := func() { must(t, p.settle()) }
	var firsts []uint64
	for _, steps := range [][]func(){{old, old}, {old, old, add, settle, add, settle, add}, {settle, add}} {
		firsts = append(firsts, p.sequence+1)
		p.lines.Reset()
		for _, step := range steps {
			step()
		}
		must(t, os.WriteFile(filepath.Join(dir, segmentName(firsts[len(firsts)-1])), p.lines.Bytes(), openMode))
	}
	j := signedOpen(t, dir)
	if said := checkAll(t, j); len(said) > 0 {
		t.Errorf("what is whole is damaged: %+v", said)
	}
	path := filepath.Join(dir, segmentName(firsts[1]))
	whole := mustRead(t, path)
	for _, n := range []int{4, 6} { // between its checkpoints, and behind the last
		lines := bytes.SplitAfter(bytes.Clone(whole), []byte("\n"))
		e, _, err := decode(bytes.TrimSuffix(lines[n], []byte("\n")))
		must(t, err)
		e.Message = "another"
		changed, err := encode(e)
		must(t, err)
		lines[n] = append(changed, '\n')
		must(t, os.WriteFile(path, bytes.Join(lines, nil), openMode))
		if _, _, wrong, err := inspect(t.Context(), dir, firsts[1], firsts[2], 0); wrong == "" || err != nil {
			t.Errorf("line %d changed: %q, %v", n, wrong, err)
		}
	}
}
