package provisioning

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"shekara/netctl/durable"
	"shekara/provisioning/document"
)

const (
	// storeFormat is the version of what lies in the folder. A store of a newer format is refused.
	storeFormat = 1
	// chainLength is how many deltas may lie between a revision and a whole one; it bounds the time of a start.
	chainLength = 64
	// keptRevisions is how far the history reaches. The last confirmed revision is kept however old.
	keptRevisions = 1000
	// maxLineBytes bounds one document in a file of the store: more than document.MaxDocumentBytes can become in JSON.
	maxLineBytes = 16 << 20
	// storePatience is how long a write may take before the disk counts as one that does not answer; revertPatience for a return to what was
	// confirmed, which goes on without it.
	storePatience  = 5 * time.Second
	revertPatience = time.Second
)

// errStoreStalled says that nothing was changed, or will not stay so: a write that ends after all is taken back.
var errStoreStalled = errors.New("the disk of the state folder does not answer")

// disk is where the store's commit points go through: the real one, or one that fails in a test.
type disk interface {
	// WriteFile replaces the file, durably: after an error it holds the old content or the new.
	WriteFile(path string, data []byte) error
	Remove(path string) error
}

type realDisk struct{}

func (realDisk) WriteFile(path string, data []byte) error {
	return durable.WriteFile(path, data, 0o600)
}
func (realDisk) Remove(path string) error { return durable.Remove(path) }

// store keeps the revisions:
//
//	FORMAT             the version of all this
//	POINTERS           which revision is in force, which one boots, until when it may be confirmed: one file, so one commit point
//	00000012.delta     a line about the revision, then a line for each document that it puts or removes, against its parent
//	00000012.snapshot  a line for each document of the revision
//
// A new revision is its delta, written first, and then POINTERS, which names it: until that a delta is nothing but an orphan, and
// its number is given out again. Files of revisions are never changed once POINTERS has named them, and each ends in a checksum of
// itself: what a disk or a careless copy has damaged is refused, and never half applied.
//
// Who holds writing writes to the disk, and nobody waits for him long. mu is for what is in memory: never held while the disk is waited for.
type store struct {
	dir     string
	disk    disk
	lock    *durable.Lock
	writing chan struct{} // holds one token while somebody writes

	mu       sync.Mutex
	pointers pointers
	failing  error // what the last write came to
	// undecided: POINTERS on disk may be older than pointers, because a write of it answered with an error.
	undecided bool
	history   []Revision    // ascending; State as of when it was written
	damaged   map[int]error // revisions that cannot be read; written once, by read
}

// pointers is the file POINTERS.
type pointers struct {
	Newest    int           `json:"newest"`    // highest number that was given out
	Current   int           `json:"current"`   // in force, or under way to it; 0: none, an empty set
	Confirmed int           `json:"confirmed"` // what boots, if Current is not Confirmed and its window is over
	Phase     RevisionState `json:"phase"`     // of Current
	Window    *window       `json:"window,omitempty"`
	Reverted  []int         `json:"reverted,omitempty"`
	Alarms    []string      `json:"alarms,omitempty"` // loud things that a restart must not silence
	Hold      *window       `json:"hold,omitempty"`   // while it is open somebody works by hand
}

// line is one line of a delta or a snapshot but the first of a delta.
type line struct {
	Kind   document.Kind `json:"kind"`
	Name   string        `json:"name"`
	Remove bool          `json:"remove,omitempty"`
	YAML   string        `json:"yaml,omitempty"`
}

// key names a document in its set.
type key struct {
	kind document.Kind
	name string
}

func openStore(dir string, d disk) (*store, error) {
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open revisions: %w", err)
	}
	lock, err := durable.AcquireLock(filepath.Join(dir, "LOCK"))
	if err != nil {
		return nil, fmt.Errorf("open revisions: %w", err)
	}
	s := &store{dir: dir, disk: d, lock: lock, writing: make(chan struct{}, 1)}
	if err := s.read(); err != nil {
		return nil, errors.Join(fmt.Errorf("open revisions: %w", err), lock.Release())
	}
	return s, nil
}

func (s *store) close() error { return s.lock.Release() }

func (s *store) read() error {
	if err := durable.RemoveTemporary(s.dir); err != nil {
		return err
	}
	if err := s.checkFormat(); err != nil {
		return err
	}
	s.pointers = pointers{Phase: Confirmed}
	text, err := durable.ReadFile(s.path("POINTERS"), 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return s.mustBeNew()
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &s.pointers); err != nil {
		return fmt.Errorf("read %s: %w: restore the folder from a backup", s.path("POINTERS"), err)
	}
	return s.readHistory()
}

// mustBeNew refuses a folder that has lost its POINTERS: taken for empty it would boot a box without any tunnel, and give the numbers of
// its revisions out again. The delta of a first revision alone may be an orphan.
func (s *store) mustBeNew() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		digits, isDelta := strings.CutSuffix(entry.Name(), ".delta")
		if id, err := strconv.Atoi(digits); isDelta && err == nil && id > 1 {
			return fmt.Errorf("%s is missing, though there are revisions: restore the folder from a backup", s.path("POINTERS"))
		}
	}
	return nil
}

func (s *store) checkFormat() error {
	text, err := durable.ReadFile(s.path("FORMAT"), 64)
	if errors.Is(err, fs.ErrNotExist) {
		return s.disk.WriteFile(s.path("FORMAT"), []byte(strconv.Itoa(storeFormat)+"\n"))
	}
	if err != nil {
		return err
	}
	format, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("%s says %q, which is no version", s.path("FORMAT"), text)
	}
	if format > storeFormat {
		return fmt.Errorf("%s has format %d, and this program knows formats up to %d: run the newer program that wrote it, or restore a backup",
			s.dir, format, storeFormat)
	}
	return nil
}

func (s *store) readHistory() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	s.damaged = map[int]error{}
	for _, entry := range entries {
		digits, isDelta := strings.CutSuffix(entry.Name(), ".delta")
		id, err := strconv.Atoi(digits)
		if !isDelta || err != nil || id > s.pointers.Newest {
			continue // of another kind, or an orphan
		}
		revision, err := s.readHeader(id)
		if err == nil && (revision.ID != id || revision.Parent < 0 || revision.Parent >= id) { // else chain would not end
			err = fmt.Errorf("%s says it is revision %d after %d", s.path(deltaName(id)), revision.ID, revision.Parent)
		}
		if err != nil {
			s.damaged[id] = err // an old revision that nothing rests on must not keep the box from starting
			continue
		}
		s.history = append(s.history, revision)
	}
	slices.SortFunc(s.history, func(a, b Revision) int { return a.ID - b.ID })
	for _, id := range []int{s.pointers.Current, s.pointers.Confirmed} {
		if err := s.damaged[id]; err != nil {
			return fmt.Errorf("revision %d is in force: %w: restore the folder from a backup", id, err)
		}
		if _, known := s.find(id); id != 0 && !known {
			return fmt.Errorf("revision %d is in force but %s is missing: restore the folder from a backup", id, s.path(deltaName(id)))
		}
	}
	return nil
}

func (s *store) readHeader(id int) (Revision, error) {
	file, err := os.Open(s.path(deltaName(id)))
	if err != nil {
		return Revision{}, err
	}
	defer func() { _ = file.Close() }()
	text, err := bufio.NewReader(io.LimitReader(file, maxLineBytes)).ReadBytes('\n')
	if err != nil {
		return Revision{}, fmt.Errorf("read %s: %w", file.Name(), err)
	}
	var revision Revision
	if err := json.Unmarshal(text, &revision); err != nil {
		return Revision{}, fmt.Errorf("read %s: %w", file.Name(), err)
	}
	return revision, nil
}

// find expects the lock to be held, or nobody else to know the store yet.
func (s *store) find(id int) (Revision, bool) {
	i, found := slices.BinarySearchFunc(s.history, id, func(r Revision, id int) int { return r.ID - id })
	if !found {
		return Revision{}, false
	}
	return s.judged(s.history[i]), true
}

// judged fills in where a revision stands now.
func (s *store) judged(r Revision) Revision {
	r.State, r.ConfirmBy = Confirmed, nil
	switch {
	case r.ID == s.pointers.Current:
		r.State = s.pointers.Phase
		if s.pointers.Window != nil {
			r.ConfirmBy = &s.pointers.Window.Deadline
		}
	case slices.Contains(s.pointers.Reverted, r.ID):
		r.State = Reverted
	}
	return r
}

// now is a copy of the pointers.
func (s *store) now() pointers {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pointers
}

// list is the history, newest first.
func (s *store) list() []Revision {
	s.mu.Lock()
	defer s.mu.Unlock()
	revisions := make([]Revision, 0, len(s.history))
	for _, r := range slices.Backward(s.history) {
		revisions = append(revisions, s.judged(r))
	}
	return revisions
}

func (s *store) get(id int) (Revision, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, found := s.find(id); found {
		return r, nil
	}
	if err := s.damaged[id]; err != nil {
		return Revision{}, fmt.Errorf("revision %d is damaged: %w", id, err)
	}
	return Revision{}, fmt.Errorf("revision %d: %w", id, fs.ErrNotExist)
}

// begin writes a new revision with its changes against the one in force, and the intent to apply it. Its cost is that of the changes.
func (s *store) begin(r Revision, changes []Change, w *window) (begun Revision, err error) {
	err = s.write(storePatience, func() error {
		s.mu.Lock()
		now, undecided := s.pointers, s.undecided
		s.mu.Unlock()
		if undecided {
			// The number may be taken on disk by a revision whose write answered with an error: settle that first.
			if err := s.point(now); err != nil {
				return err
			}
		}
		begun = numbered(r, now, changes)
		text, err := encodeDelta(begun, changes)
		if err != nil {
			return err
		}
		if err := s.disk.WriteFile(s.path(deltaName(begun.ID)), text); err != nil {
			return fmt.Errorf("write revision %d: %w", begun.ID, err)
		}
		next := now
		next.Newest, next.Current, next.Phase, next.Window = begun.ID, begun.ID, Pending, w
		if err := s.point(next); err != nil {
			return fmt.Errorf("write revision %d: %w", begun.ID, err)
		}
		return nil
	})
	if err != nil {
		return Revision{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.history = append(s.history, begun)
	return s.judged(begun), nil
}

// numbered is a revision as it follows the one in force.
func numbered(r Revision, now pointers, changes []Change) Revision {
	r.ID, r.Parent, r.State = now.Newest+1, now.Current, Pending
	for _, c := range changes {
		switch c.Verb {
		case verbAdd:
			r.Added++
		case verbRemove:
			r.Removed++
		default:
			r.Changed++
		}
	}
	return r
}

// write does what writes to the disk, one at a time, and waits no longer than so. A write that ends later is taken back: who was told that it did
// not succeed has gone on from there. A panic is the caller's.
func (s *store) write(patience time.Duration, do func() error) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case s.writing <- struct{}{}:
	case <-timer.C:
		return s.came(errStoreStalled)
	}
	before := s.now()
	var panicked any
	var answered atomic.Bool // by the write, or by the time
	done := make(chan error, 1)
	go func() {
		defer func() {
			panicked = recover()
			<-s.writing
			close(done)
		}()
		err := do()
		if !answered.CompareAndSwap(false, true) {
			if s.now().differs(before) {
				err = s.point(before)
			}
			_ = s.came(err) // nobody waits any more
			return
		}
		done <- err
	}()
	select {
	case err, told := <-done:
		if !told && panicked != nil {
			panic(panicked)
		}
		return s.came(err)
	case <-timer.C:
		if answered.CompareAndSwap(false, true) {
			return s.came(errStoreStalled)
		}
		return s.came(<-done)
	}
}

// came keeps what a write came to.
func (s *store) came(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failing = err
	return err
}

// trouble is what the last write came to.
func (s *store) trouble() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failing
}

func (p pointers) differs(from pointers) bool { return !reflect.DeepEqual(p, from) }

func encodeDelta(r Revision, changes []Change) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(r); err != nil {
		return nil, err
	}
	for _, c := range changes {
		if err := encoder.Encode(line{Kind: c.Kind, Name: c.Name, Remove: c.Verb == verbRemove, YAML: c.After}); err != nil {
			return nil, err
		}
	}
	return seal(&text), nil
}

// sealBegins begins the last line of a delta or a snapshot: the SHA-256 of all lines before it.
const sealBegins = `{"sha256":"`

func seal(text *bytes.Buffer) []byte {
	fmt.Fprintf(text, "%s%x\"}\n", sealBegins, sha256.Sum256(text.Bytes()))
	return text.Bytes()
}

// update changes the pointers by one write: the commit point of confirmations and reverts.
func (s *store) update(change func(*pointers)) error { return s.updateWithin(storePatience, change) }

func (s *store) updateWithin(patience time.Duration, change func(*pointers)) error {
	return s.write(patience, func() error {
		next := s.now()
		next.Reverted, next.Alarms = slices.Clone(next.Reverted), slices.Clone(next.Alarms)
		change(&next)
		return s.point(next)
	})
}

// point expects writing to be held. When the write fails the pointers stay as they were, and are written again by settle: until
// then a crash leaves either, and both are whole states.
func (s *store) point(next pointers) error {
	text, err := json.Marshal(next)
	if err != nil {
		return err
	}
	err = s.disk.WriteFile(s.path("POINTERS"), append(text, '\n'))
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.undecided = true
		return err
	}
	s.pointers, s.undecided = next, false
	return nil
}

// settle writes the pointers again if an earlier write of them answered with an error.
func (s *store) settle() error {
	s.mu.Lock()
	undecided := s.undecided
	s.mu.Unlock()
	if !undecided {
		return nil
	}
	return s.write(revertPatience, func() error { return s.point(s.now()) })
}

// documents reads all documents of a revision; 0 is the empty set before the first.
func (s *store) documents(id int) (map[key]string, error) {
	chain, err := s.chain(id)
	if err != nil {
		return nil, err
	}
	set := make(map[key]string)
	for _, name := range slices.Backward(chain) {
		if err := s.readLines(name, set); err != nil {
			return nil, fmt.Errorf("read revision %d: %w", id, err)
		}
	}
	return set, nil
}

// chain lists the files that make up a revision, newest first; the last is a snapshot or the delta of a first revision.
func (s *store) chain(id int) ([]string, error) {
	var names []string
	for id != 0 {
		if _, err := os.Stat(s.path(snapshotName(id))); err == nil {
			return append(names, snapshotName(id)), nil
		}
		r, err := s.get(id)
		if err != nil {
			return nil, err
		}
		names = append(names, deltaName(id))
		id = r.Parent
	}
	return names, nil
}

func (s *store) readLines(name string, into map[key]string) error {
	file, err := os.Open(s.path(name))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	scanner := bufio.NewScanner(file)
	scanner.Buffer(make([]byte, 64<<10), maxLineBytes)
	sum, sealed := sha256.New(), false
	for n := 0; scanner.Scan(); n++ {
		if found, is := bytes.CutPrefix(scanner.Bytes(), []byte(sealBegins)); is && !sealed {
			sealed = fmt.Sprintf("%x\"}", sum.Sum(nil)) == string(found)
			continue
		}
		sealed = false // nothing stands behind the seal
		sum.Write(scanner.Bytes())
		sum.Write([]byte{'\n'})
		if n == 0 {
			continue // about the revision
		}
		var l line
		if err := json.Unmarshal(scanner.Bytes(), &l); err != nil {
			return fmt.Errorf("%s line %d: %w", name, n+1, err)
		}
		if l.Remove {
			delete(into, key{l.Kind, l.Name})
		} else {
			into[key{l.Kind, l.Name}] = l.YAML
		}
	}
	if err := scanner.Err(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if !sealed {
		return fmt.Errorf("%s is damaged or cut short (its checksum differs): restore the folder from a backup", file.Name())
	}
	return nil
}

func (s *store) path(name string) string { return filepath.Join(s.dir, name) }

func deltaName(id int) string    { return fmt.Sprintf("%08d.delta", id) }
func snapshotName(id int) string { return fmt.Sprintf("%08d.snapshot", id) }
