package journal

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
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

// TestPowerIsCutAtEveryWrite: of a write that was not synced a disk holds all, nothing, a part, or zeros where the end should be, and of a file that has just been made
// perhaps not even its name; the copies that are made at closing and opening may be lost too. Whichever it is, what was acknowledged by then is there, and the journal goes on.
func TestPowerIsCutAtEveryWrite(t *testing.T) {
	const records = 40
	random := rand.New(rand.NewPCG(1, 2))
	dir := t.TempDir()
	acknowledged, cuts := 0, 0
	written := func(path string, before int64, lines []byte) {
		zeros := make([]byte, len(lines))
		lefts := map[string][]byte{"nothing": {}, "all": lines, "zeros": zeros}
		for range 4 {
			cut := 1 + random.IntN(len(lines)-1)
			lefts[fmt.Sprintf("%d bytes", cut)] = lines[:cut]
			lefts[fmt.Sprintf("%d bytes, then zeros", cut)] = append(bytes.Clone(lines[:cut]), zeros[cut:]...)
		}
		for name, left := range lefts {
			cuts++
			after := t.TempDir()
			must(t, os.CopyFS(after, os.DirFS(dir)))
			must(t, os.RemoveAll(filepath.Join(after, "LOCK")))
			file := filepath.Join(after, filepath.Base(path))
			if before == 0 && len(left) == 0 {
				must(t, os.Remove(file))
			} else {
				text, err := os.ReadFile(file)
				must(t, err)
				must(t, os.WriteFile(file, append(text[:before:before], left...), openMode))
			}
			if name != "all" {
				must(t, os.RemoveAll(filepath.Join(after, linksName)))
			}
			if goesOn(t, after, acknowledged); t.Failed() {
				t.Fatalf("of %d bytes behind %d of %s is left: %s", len(lines), before, filepath.Base(path), name)
			}
			must(t, os.RemoveAll(after))
		}
	}
	d := realDisk()
	d.create = func(path string) (segment, error) {
		s, err := openSegment(path)
		return &powerless{s, path, written}, err
	}
	j, err := open(dir, signer(t), 3000, d)
	if err != nil {
		t.Fatal(err)
	}
	for n := range records {
		mustAppend(t, j, Event{Type: DaemonStart, Severity: Info, Object: fmt.Sprintf("tunnel/%d", n), Organisation: "Agency A"})
		acknowledged++
	}
	must(t, j.Close())
	if firsts, err := segments(dir); err != nil || len(firsts) < 4 || cuts < 10*records {
		t.Errorf("%d cuts, files %v, %v: it shows too little", cuts, firsts, err)
	}
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
