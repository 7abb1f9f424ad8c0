package provisioning

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"shekara/provisioning/document"
)

func mustOpenStore(t testing.TB, dir string, d disk) *store {
	t.Helper()
	s, err := openStore(dir, d)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(name, text string) Change {
	return Change{Verb: verbAdd, Kind: document.KindTunnel, Name: name, After: text}
}

func removed(name string) Change {
	return Change{Verb: verbRemove, Kind: document.KindTunnel, Name: name}
}

// commit makes a revision and confirms it.
func commit(s *store, changes ...Change) error {
	if _, err := s.begin(Revision{}, changes, nil); err != nil {
		return err
	}
	return s.update(func(p *pointers) { p.Confirmed, p.Phase = p.Current, Confirmed })
}

func texts(t testing.TB, s *store, id int) map[string]string {
	t.Helper()
	set, err := s.documents(id)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for k, text := range set {
		out[k.name] = text
	}
	return out
}

func TestRevisionsAreWhatWasPut(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "store")
		if err != nil {
			t.Fatal(err)
		}
		s := mustOpenStore(t, dir, realDisk{})
		want := map[string]string{}
		history := []map[string]string{{}}
		names := rapid.SampledFrom([]string{"a", "b", "c", "d"})
		for n := range rapid.IntRange(1, 12).Draw(rt, "revisions") {
			var changes []Change
			for _, name := range rapid.SliceOfNDistinct(names, 1, 4, func(s string) string { return s }).Draw(rt, "names") {
				if _, there := want[name]; there && rapid.Bool().Draw(rt, "remove") {
					delete(want, name)
					changes = append(changes, removed(name))
				} else {
					want[name] = fmt.Sprint(name, n)
					changes = append(changes, put(name, want[name]))
				}
			}
			if err := commit(s, changes...); err != nil {
				rt.Fatal(err)
			}
			if rapid.Bool().Draw(rt, "snapshot") {
				if err := s.writeSnapshot(s.now().Current); err != nil {
					rt.Fatal(err)
				}
			}
			history = append(history, maps.Clone(want))
		}
		if err := s.close(); err != nil {
			rt.Fatal(err)
		}
		s = mustOpenStore(t, dir, realDisk{})
		for id := range history {
			if diff := cmp.Diff(history[id], texts(t, s, id)); diff != "" {
				rt.Errorf("revision %d: %s", id, diff)
			}
		}
		if err := s.close(); err != nil {
			rt.Fatal(err)
		}
	})
}

func TestNewerFormatIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := mustOpenStore(t, dir, realDisk{})
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpenStore(t, dir, realDisk{}) // the control
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "FORMAT"), []byte("2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := openStore(dir, realDisk{})
	if err == nil || !strings.Contains(err.Error(), "format 2") || !strings.Contains(err.Error(), "newer program") {
		t.Errorf("opening a newer format: %v", err)
	}
}

func TestADeltaIsAsSmallAsItsChange(t *testing.T) {
	s := mustOpenStore(t, t.TempDir(), realDisk{})
	defer func() { _ = s.close() }()
	var all []Change
	for n := range 30_000 {
		all = append(all, put(fmt.Sprintf("t%d", n), strings.Repeat("x", 300)))
	}
	if err := commit(s, all...); err != nil {
		t.Fatal(err)
	}
	if err := commit(s, put("t7", "changed")); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(s.path(deltaName(2)))
	if err != nil || info.Size() > 1000 {
		t.Errorf("the delta of one document among 30,000 has %d bytes, %v", info.Size(), err)
	}
	if set := texts(t, s, 2); len(set) != 30_000 || set["t7"] != "changed" {
		t.Errorf("revision 2 has %d documents, t7 is %q", len(set), set["t7"])
	}
}

func TestTidyBoundsChainsAndHistory(t *testing.T) {
	s := mustOpenStore(t, t.TempDir(), realDisk{})
	defer func() { _ = s.close() }()
	const n = 3 * chainLength
	for i := range n {
		if err := commit(s, put(fmt.Sprintf("t%d", i%7), fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
		if err := s.tidy(); err != nil {
			t.Fatal(err)
		}
		if chain, err := s.chain(s.now().Current); err != nil || len(chain) > chainLength+1 {
			t.Fatalf("a chain of %d files, %v", len(chain), err)
		}
	}
	want := texts(t, s, n)
	const keep = 10
	if err := s.prune(keep); err != nil {
		t.Fatal(err)
	}
	list := s.list()
	if len(list) < keep || len(list) > keep+chainLength {
		t.Errorf("%d revisions are left", len(list))
	}
	for _, r := range list[:keep] {
		texts(t, s, r.ID)
	}
	if diff := cmp.Diff(want, texts(t, s, n)); diff != "" {
		t.Error(diff)
	}
	files, err := os.ReadDir(s.dir)
	if err != nil || len(files) > len(list)+10 {
		t.Errorf("%d files for %d revisions, %v", len(files), len(list), err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpenStore(t, s.dir, realDisk{})
	if diff := cmp.Diff(want, texts(t, s, n)); diff != "" {
		t.Error(diff)
	}
}

// Pruning never takes the revision that boots, however old.
func TestPruneKeepsTheLastConfirmed(t *testing.T) {
	s := mustOpenStore(t, t.TempDir(), realDisk{})
	defer func() { _ = s.close() }()
	if err := commit(s, put("a", "confirmed")); err != nil {
		t.Fatal(err)
	}
	for i := range 20 { // each is undone again
		if _, err := s.begin(Revision{}, []Change{put("a", fmt.Sprint(i))}, nil); err != nil {
			t.Fatal(err)
		}
		if err := s.update(func(p *pointers) { p.Current, p.Phase = 1, Confirmed; p.Reverted = append(p.Reverted, p.Newest) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.prune(5); err != nil {
		t.Fatal(err)
	}
	if got := texts(t, s, 1)["a"]; got != "confirmed" {
		t.Errorf("revision 1 holds %q", got)
	}
	if r, err := s.get(20); err != nil || r.State != Reverted {
		t.Errorf("revision 20: %+v, %v", r, err)
	}
}

var errDisk = errors.New("disk fault")

// faultyDisk fails one write, after doing it or without.
type faultyDisk struct {
	disk
	at, count int
	persisted bool
	every     bool // and all after it
}

func (d *faultyDisk) step(do func() error) error {
	d.count++
	if d.count-1 != d.at && !(d.every && d.count > d.at) {
		return do()
	}
	if d.persisted {
		if err := do(); err != nil {
			return err
		}
	}
	return errDisk
}

func (d *faultyDisk) WriteFile(path string, data []byte) error {
	return d.step(func() error { return d.disk.WriteFile(path, data) })
}

func (d *faultyDisk) Remove(path string) error {
	return d.step(func() error { return d.disk.Remove(path) })
}

// TestStoreAtEveryCommitPoint fails each write in turn, done or not, and opens again: what boots is the revision before or the one
// after, whole, never a third.
func TestStoreAtEveryCommitPoint(t *testing.T) {
	for _, every := range []bool{false, true} {
		for _, persisted := range []bool{false, true} {
			for at := range 40 {
				dir := t.TempDir()
				s := mustOpenStore(t, dir, realDisk{})
				if err := commit(s, put("a", "1"), put("b", "1")); err != nil {
					t.Fatal(err)
				}
				d := &faultyDisk{disk: realDisk{}, at: at, persisted: persisted, every: every}
				s.disk = d
				allowed := []string{"1 1"}
				failed := 0
				for i := 2; i < 6; i++ {
					next := fmt.Sprint(i)
					if err := commit(s, put("a", next), put("b", next)); err != nil {
						failed++
					}
					allowed = append(allowed, next+" "+next)
				}
				if d.count <= at {
					_ = s.close()
					break // there is no such point
				}
				if failed == 0 {
					t.Errorf("point %d: no commit failed", at)
				}
				if err := s.close(); err != nil {
					t.Fatal(err)
				}
				s = mustOpenStore(t, dir, realDisk{})
				p := s.now()
				set := texts(t, s, p.Current)
				if got := set["a"] + " " + set["b"]; !slices.Contains(allowed, got) {
					t.Errorf("point %d, persisted %v: revision %d holds %q", at, persisted, p.Current, got)
				}
				set = texts(t, s, p.Confirmed)
				if set["a"] != set["b"] || set["a"] == "" {
					t.Errorf("point %d, persisted %v: the confirmed revision %d holds %v", at, persisted, p.Confirmed, set)
				}
				if err := commit(s, put("a", "new")); err != nil {
					t.Errorf("point %d, persisted %v: the store does not go on: %v", at, persisted, err)
				}
				if err := s.close(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// TestDamageIsRefusedAndNamed damages each byte range of each file that what is in force is read from: the store does not open or does not
// read, and says which file; it never answers other documents.
func TestDamageIsRefusedAndNamed(t *testing.T) {
	dir := t.TempDir()
	s := mustOpenStore(t, dir, realDisk{})
	for _, err := range []error{commit(s, put("a", "1")), s.writeSnapshot(1), commit(s, put("b", "2"), put("c", "3")), commit(s, removed("a"))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	want := texts(t, s, 3)
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	read := func() (map[string]string, error) {
		s, err := openStore(dir, realDisk{})
		if err != nil {
			return nil, err
		}
		defer func() { _ = s.close() }()
		set, err := s.documents(3)
		got := map[string]string{}
		for k, text := range set {
			got[k.name] = text
		}
		return got, err
	}
	if got, err := read(); err != nil || !maps.Equal(got, want) {
		t.Fatalf("the control: %v, %v", got, err)
	}
	for _, name := range []string{snapshotName(1), deltaName(2), deltaName(3)} {
		path := filepath.Join(dir, name)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		damages := map[string][]byte{"empty": {}, "doubled": append(slices.Clone(whole), whole...)}
		for end, c := range whole {
			if c == '\n' {
				damages[fmt.Sprintf("cut behind the line that ends at %d", end)] = whole[:end+1]
			}
			flipped := slices.Clone(whole)
			flipped[end] ^= 1
			damages[fmt.Sprintf("bit %d flipped", 8*end)] = flipped
		}
		delete(damages, fmt.Sprintf("cut behind the line that ends at %d", len(whole)-1)) // all of it
		for what, text := range damages {
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := read()
			if err == nil && !maps.Equal(got, want) || err != nil && !strings.Contains(err.Error(), name) {
				t.Errorf("%s %s: %v, %v", name, what, got, err)
			}
			if err == nil {
				t.Errorf("%s %s: taken", name, what)
			}
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLostPointersAreNotAnEmptyStore(t *testing.T) {
	dir := t.TempDir()
	s := mustOpenStore(t, dir, realDisk{})
	if err := errors.Join(commit(s, put("a", "1")), commit(s, put("b", "2")), s.close(), os.Remove(filepath.Join(dir, "POINTERS"))); err != nil {
		t.Fatal(err)
	}
	if _, err := openStore(dir, realDisk{}); err == nil || !strings.Contains(err.Error(), "POINTERS is missing") {
		t.Errorf("opened without POINTERS: %v", err)
	}
}

func TestDamagedOldRevisionHurtsOnlyItself(t *testing.T) {
	dir := t.TempDir()
	s := mustOpenStore(t, dir, realDisk{})
	if err := errors.Join(commit(s, put("a", "1")), commit(s, put("b", "2")), s.writeSnapshot(2), s.close(),
		os.WriteFile(filepath.Join(dir, deltaName(1)), []byte("\x00\x00"), 0o600)); err != nil {
		t.Fatal(err)
	}
	s = mustOpenStore(t, dir, realDisk{})
	if got := texts(t, s, 2); len(got) != 2 {
		t.Errorf("revision 2 is %v", got)
	}
	if _, err := s.documents(1); err == nil {
		t.Error("revision 1 is read")
	}
}
