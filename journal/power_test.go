package journal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
)

// powerless shows each write that is not synced yet, and the file that it goes to.
type powerless struct {
	segment
	path    string
	written func(path string, before int64, lines []byte)
}

func (c *powerless) Append(lines []byte) error {
	c.written(c.path, c.Size(), lines)
	return c.segment.Append(lines)
}

// unsynced is the folder as it was before a write, that write, and what had been acknowledged by then.
type unsynced struct {
	files        map[string][]byte
	name         string // of the file that it goes to
	before       int64  // bytes of it
	lines        []byte
	acknowledged int
}

// lefts are what a disk may hold of the write, by what is left of it.
func (u unsynced) lefts(random *rand.Rand) map[string][]byte {
	zeros := make([]byte, len(u.lines))
	lefts := map[string][]byte{"nothing": {}, "all": u.lines, "zeros": zeros}
	for range 4 {
		cut := 1 + random.IntN(len(u.lines)-1)
		lefts[fmt.Sprintf("%d bytes", cut)] = u.lines[:cut]
		lefts[fmt.Sprintf("%d bytes, then zeros", cut)] = append(bytes.Clone(u.lines[:cut]), zeros[cut:]...)
	}
	return lefts
}

// TestPowerIsCutAtEveryWrite: of a write that was not synced a disk holds all, nothing, a part, or zeros where the end should be, and of a file that has just been made
// perhaps not even its name; the copies that are made at closing and opening may be lost too. Whichever it is, what was acknowledged by then is there, and the journal goes on.
func TestPowerIsCutAtEveryWrite(t *testing.T) {
	const records = 40
	dir := t.TempDir()
	var acknowledged atomic.Int64
	var writes []unsynced // the writer's own until the journal is closed; it only copies, for an Append waits for it
	var unread error
	written := func(path string, before int64, lines []byte) {
		files, err := copied(dir)
		unread = errors.Join(unread, err)
		writes = append(writes, unsynced{files, filepath.Base(path), before, bytes.Clone(lines), int(acknowledged.Load())})
	}
	d := realDisk()
	d.create = func(path string) (segment, error) {
		s, err := openSegment(path)
		return &powerless{s, path, written}, err
	}
	j, err := open(dir, signer(t), 3000, d)
	must(t, err)
	for n := range records {
		mustAppend(t, j, Event{Type: DaemonStart, Severity: Info, Object: fmt.Sprintf("tunnel/%d", n), Organisation: "Agency A"})
		acknowledged.Add(1)
	}
	must(t, errors.Join(j.Close(), unread))
	random := rand.New(rand.NewPCG(1, 2))
	for _, u := range writes {
		for name, left := range u.lefts(random) {
			after := t.TempDir()
			for file, text := range u.files {
				if file != linksName || name == "all" {
					must(t, os.WriteFile(filepath.Join(after, file), text, openMode))
				}
			}
			file := filepath.Join(after, u.name)
			if u.before == 0 && len(left) == 0 {
				must(t, os.Remove(file))
			} else {
				must(t, os.WriteFile(file, append(bytes.Clone(u.files[u.name][:u.before]), left...), openMode))
			}
			if goesOn(t, after, u.acknowledged); t.Failed() {
				t.Fatalf("of %d bytes behind %d of %s is left: %s", len(u.lines), u.before, u.name, name)
			}
			must(t, os.RemoveAll(after))
		}
	}
	if firsts, err := segments(dir); err != nil || len(firsts) < 4 || len(writes) < records {
		t.Errorf("%d writes, files %v, %v: it shows too little", len(writes), firsts, err)
	}
}

// copied is what the files of a folder hold, but for those that a start makes anew.
func copied(dir string) (map[string][]byte, error) {
	entries, err := os.ReadDir(dir)
	files := map[string][]byte{}
	for _, entry := range entries {
		if name := entry.Name(); name != reserveName && name != "LOCK" {
			text, failed := os.ReadFile(filepath.Join(dir, name))
			files[name], err = text, errors.Join(err, failed)
		}
	}
	return files, err
}

// goesOn opens a journal, adds to it and verifies it.
func goesOn(t *testing.T, dir string, acknowledged int) {
	t.Helper()
	j, err := open(dir, signer(t), 3000, realDisk())
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, j, Event{Type: DaemonStart, Severity: Info, Object: "after"})
	seen := map[string]int{}
	for _, object := range objects(t, j) {
		seen[object]++
	}
	for n := range acknowledged {
		if object := fmt.Sprintf("tunnel/%d", n); seen[object] != 1 {
			t.Errorf("%s was acknowledged, and is there %d times", object, seen[object])
		}
	}
	if seen["after"] != 1 {
		t.Error("it does not go on")
	}
	must(t, j.Close())
	if v := verified(t, dir); !v.Whole() {
		t.Errorf("%+v", v)
	}
	audited(t, dir)
}
