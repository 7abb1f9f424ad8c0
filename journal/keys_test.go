package journal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/sumdb/note"

	"shekara/netctl/secret"
)

// keeper is the keys of a journal whose folder lies beside theirs.
func keeper(t testing.TB, dir string) (*Keys, *secret.Store) {
	t.Helper()
	store, err := secret.Open(dir + ".keys")
	if err != nil {
		t.Fatal(err)
	}
	return NewKeys(store, "journal/test"), store
}

func mustOpenKept(t testing.TB, dir string) *Journal {
	t.Helper()
	keys, _ := keeper(t, dir)
	j, err := OpenKept(t.Context(), dir, keys)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = j.Close()
		holdOwn(t, dir)
	})
	return j
}

func verifiers(t testing.TB, public ...string) note.Verifiers {
	t.Helper()
	var list []note.Verifier
	slices.Sort(public)
	for _, text := range slices.Compact(public) {
		v, err := note.NewVerifier(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, v)
	}
	return note.VerifierList(list...)
}

// verifiedBy is what the first verifier finds with some keys; the second has to find the same of it.
func verifiedBy(t testing.TB, dir string, public ...string) Verification {
	t.Helper()
	v, err := Verify(t.Context(), dir, verifiers(t, public...), nil)
	if err != nil {
		t.Fatal(err)
	}
	records, err := audit(dir, public...)
	if v.Whole() != (err == nil) || err == nil && records != v.Last {
		t.Errorf("with %q the first verifier says %+v, the second %d records, %v", public, v.Findings, records, err)
	}
	return v
}

func mustRotate(t testing.TB, j *Journal, lost bool) (public string) {
	t.Helper()
	public, err := j.RotateKey(t.Context(), lost, Actor{UID: 7, User: "anna"})
	if err != nil || public != j.PublicKey() {
		t.Fatalf("%q, %v, and %q signs", public, err, j.PublicKey())
	}
	return public
}

// TestEachKeyVerifiesAll: over two handovers, two lives and several files each of the three keys alone verifies the whole journal, its proofs and what is exported of it.
func TestEachKeyVerifiesAll(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	j := mustOpenKept(t, dir)
	j.rotate = 4 << 10
	public := []string{j.PublicKey()}
	fill := func() {
		for n := range 30 {
			e := started(n)
			e.Organisation = "all"
			mustAppend(t, j, e)
		}
	}
	fill()
	early := j.Settle()
	public = append(public, mustRotate(t, j, false))
	fill()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = mustOpenKept(t, dir)
	j.rotate = 4 << 10
	if j.PublicKey() != public[1] {
		t.Fatalf("opened again, %s signs, want %s", j.PublicKey(), public[1])
	}
	public = append(public, mustRotate(t, j, false))
	fill()
	late := j.Settle()
	for _, key := range public {
		v := verifiedBy(t, dir, key)
		if !v.Whole() || v.Settled < j.Last()-1 || len(v.Keys) != 2 || v.Keys[1].Old != public[1] || v.Keys[1].New != public[2] || v.Keys[0].Lost {
			t.Errorf("with %s: %+v", key, v)
		}
		for _, sequence := range []uint64{3, j.Last() - 2} {
			if p, err := j.Prove(t.Context(), sequence); err != nil {
				t.Error(err)
			} else if e, err := p.Verify(verifiers(t, key)); err != nil || e.Sequence != sequence {
				t.Errorf("record %d with %s: %+v, %v", sequence, key, e, err)
			}
		}
		var out strings.Builder
		if _, err := j.Export(t.Context(), "organisation/all", &out); err != nil {
			t.Fatal(err)
		}
		if p, err := VerifyPartition(t.Context(), strings.NewReader(out.String()), verifiers(t, key)); err != nil || !p.Whole() || !p.Proved {
			t.Errorf("exported, with %s: %+v, %v", key, p, err)
		}
		all, err := Successors(t.Context(), dir, verifiers(t, key))
		if err != nil {
			t.Fatal(err)
		}
		for _, held := range []string{early, late} {
			if _, err := OpenCheckpoint([]byte(held), all); err != nil {
				t.Errorf("a held checkpoint with %s: %v", key, err)
			}
		}
	}
	stranger, err := NewKey("journal/test", [32]byte{9})
	if err != nil {
		t.Fatal(err)
	}
	if v := verifiedBy(t, dir, stranger.Public); v.Whole() || v.Settled != 0 {
		t.Errorf("with a stranger's key: %+v", v)
	}
	if p, err := j.Prove(t.Context(), 3); err != nil || len(p.Handovers) != 2 {
		t.Errorf("%+v, %v", p, err)
	} else if e, err := p.Verify(verifiers(t, stranger.Public)); err == nil {
		t.Errorf("proved to a stranger: %+v", e)
	}
	if e := all(t, j, KeyRotate); len(e) != 2 || e[0].Actor.User != "anna" {
		t.Errorf("%+v", e)
	}
}

// TestALostKeyIsNotMadeAnew: where something is signed, a key that is gone or another one in its place is an alarm; the key put back, or a new one that somebody asks for, ends it.
func TestALostKeyIsNotMadeAnew(t *testing.T) {
	for name, lose := range map[string]func(*secret.Store) error{
		"deleted":  func(s *secret.Store) error { return s.Delete(seedName) },
		"replaced": func(s *secret.Store) error { _, err := s.New(seedName, true); return err },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "journal")
			j := mustOpenKept(t, dir)
			was := j.PublicKey()
			mustAppend(t, j, started(1))
			if _, err := j.RotateKey(t.Context(), true, Actor{}); !errors.Is(err, ErrKeyHere) {
				t.Errorf("a key that is there was lost: %v", err)
			}
			must(t, j.Close())
			_, store := keeper(t, dir)
			seed, err := store.Get(seedName)
			must(t, err)
			must(t, lose(store))
			j = mustOpenKept(t, dir)
			var hinted interface{ Hint() string }
			if err := j.Health().Unsigned; !errors.Is(err, ErrKeyLost) || !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "rotate-key --lost") || j.PublicKey() != "" {
				t.Fatalf("%v", err)
			}
			if _, err := j.RotateKey(t.Context(), false, Actor{}); !errors.Is(err, ErrKeyLost) {
				t.Errorf("handed over by a key that is lost: %v", err)
			}
			mustAppend(t, j, started(2))
			must(t, j.Close())
			// Put back, all is as it was.
			must(t, store.Import(seedName, seed, true))
			j = mustOpenKept(t, dir)
			if err := j.Health().Unsigned; err != nil || j.PublicKey() != was {
				t.Fatalf("put back: %v", err)
			}
			j.Settle()
			must(t, j.Close())
			if v := verifiedBy(t, dir, was); !v.Whole() {
				t.Errorf("put back: %+v", v.Findings)
			}
			// Lost for good, a new one begins when somebody says so.
			must(t, lose(store))
			j = mustOpenKept(t, dir)
			mustAppend(t, j, started(3))
			is := mustRotate(t, j, true)
			if err := j.Health().Unsigned; err != nil || is == was {
				t.Errorf("with a new key: %v", err)
			}
			mustAppend(t, j, started(4))
			must(t, j.Close())
			j = mustOpenKept(t, dir)
			if j.PublicKey() != is {
				t.Errorf("opened again, %q signs", j.PublicKey())
			}
			next := mustRotate(t, j, false)
			for what, keys := range map[string][]string{"the old key": {was}, "the new key": {is}, "the newest": {next}} {
				v := verifiedBy(t, dir, keys...)
				if v.Whole() || len(v.Keys) != 2 || !v.Keys[0].Lost {
					t.Errorf("with %s: %+v", what, v)
				}
				if what == "the old key" && (len(v.Findings) != 1 || !strings.Contains(v.Findings[0].What, "the chain of signatures is broken") || v.Settled >= v.Keys[0].Sequence) {
					t.Errorf("with %s: %+v", what, v)
				}
			}
			for _, keys := range [][]string{{was, is}, {was, next}} {
				if v := verifiedBy(t, dir, keys...); !v.Whole() || len(v.Keys) != 2 || !v.Keys[0].Lost || v.Keys[1].Lost || v.Settled < v.Keys[1].Sequence {
					t.Errorf("with old and new: %+v", v)
				}
			}
		})
	}
}

// TestNothingSignedNothingLost: where nothing is signed yet a key is made, though there are records.
func TestNothingSignedNothingLost(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	early, err := Open(dir, nil)
	must(t, err)
	mustAppend(t, early, started(1))
	must(t, early.Close())
	j := mustOpenKept(t, dir)
	if err := j.Health().Unsigned; err != nil || !strings.HasPrefix(j.PublicKey(), "journal/test+") {
		t.Errorf("%q, %v", j.PublicKey(), err)
	}
}

// faultySeeds ends all in the middle of a handover: from a step on nothing is done any more.
type faultySeeds struct {
	*secret.Store
	step  *int
	fails int
}

func (f faultySeeds) next() error {
	if *f.step++; *f.step > f.fails {
		return errDisk
	}
	return nil
}

func (f faultySeeds) GetOrNew(name string) (secret.Key, error) {
	if err := f.next(); err != nil {
		return secret.Key{}, err
	}
	return f.Store.GetOrNew(name)
}

func (f faultySeeds) Import(name string, key secret.Key, replace bool) error {
	if err := f.next(); err != nil {
		return err
	}
	return f.Store.Import(name, key, replace)
}

func (f faultySeeds) Delete(name string) error {
	if err := f.next(); err != nil {
		return err
	}
	return f.Store.Delete(name)
}

// TestHandoverOldOrNew cuts a handover off before each of its steps, and at each write of the journal, done or not: what is opened afterwards is signed by the old key or by the new one, which is the one that
// its records name, and each of them verifies all.
func TestHandoverOldOrNew(t *testing.T) {
	outcomes := map[bool]int{}
	for _, lost := range []bool{false, true} {
		for fails := range 5 {
			for _, fault := range []string{"", "append", "append, done", "sync", "sync, done"} {
				t.Run(fmt.Sprintf("lost %v, step %d, %s", lost, fails, fault), func(t *testing.T) {
					rotated := cutOff(t, lost, fails, fault)
					outcomes[rotated]++
				})
			}
		}
	}
	if outcomes[true] < 10 || outcomes[false] < 10 {
		t.Errorf("a new key %d times, the old one %d times: the test tests nothing", outcomes[true], outcomes[false])
	}
}

// cutOff says whether a new key signs afterwards.
func cutOff(t *testing.T, lost bool, fails int, fault string) (rotated bool) {
	dir := filepath.Join(t.TempDir(), "journal")
	j := mustOpenKept(t, dir)
	mustAppend(t, j, started(0))
	was := j.PublicKey()
	must(t, j.Close())
	keys, store := keeper(t, dir)
	if lost {
		must(t, store.Delete(seedName))
	}
	signer, _ := keys.current(t.Context(), dir)
	var breaks atomic.Bool
	j, err := open(dir, signer, 1<<20, on(func(path string) (segment, error) {
		file, err := openSegment(path)
		return &faulty{segment: file, at: func(point string) (bool, error) {
			if breaks.Load() && strings.HasPrefix(fault, point) {
				return strings.HasSuffix(fault, "done"), errDisk
			}
			return true, nil
		}}, err
	}))
	must(t, err)
	steps := 0
	j.keys = &Keys{store: faultySeeds{store, &steps, fails}, name: "journal/test"}
	breaks.Store(fault != "")
	public, failed := j.RotateKey(t.Context(), lost, Actor{})
	// The power is cut: what was not written is not there, and nobody closes anything.
	image := filepath.Join(t.TempDir(), "journal")
	must(t, os.CopyFS(image, os.DirFS(dir)))
	must(t, os.CopyFS(image+".keys", os.DirFS(dir+".keys")))
	must(t, filepath.WalkDir(image+".keys", func(path string, entry fs.DirEntry, err error) error { // a copy has other modes
		mode := map[bool]fs.FileMode{true: 0o700, false: 0o600}[entry.IsDir()]
		return errors.Join(err, os.Chmod(path, mode))
	}))
	breaks.Store(false)
	must(t, j.Close())
	_ = os.Remove(filepath.Join(image, "LOCK"))
	again := mustOpenKept(t, image)
	is := again.PublicKey()
	switch {
	case failed == nil && is != public:
		t.Fatalf("acknowledged was %s, and %q signs (%v)", public, is, again.Health().Unsigned)
	case is == "" && !lost:
		t.Fatalf("nobody signs: %v", again.Health().Unsigned)
	case is == "": // as before
		if mustRotate(t, again, true) == was {
			t.Error("the lost key is back")
		}
		return false
	}
	mustAppend(t, again, started(1))
	again.Settle()
	v := verifiedBy(t, image, was, is)
	if !v.Whole() || (is != was) != (len(v.Keys) == 1) {
		t.Errorf("%s signs, and %+v", is, v)
	}
	for _, key := range []string{was, is} {
		if v := verifiedBy(t, image, key); !lost && !v.Whole() {
			t.Errorf("%s alone does not verify it: %+v", key, v.Findings)
		}
	}
	if left, err := filepath.Glob(image + ".keys/signing/*"); err != nil || len(left) != 1 {
		t.Errorf("there are %q, %v", left, err)
	}
	mustRotate(t, again, false)
	return is != was
}

// TestAStalledHandoverComesToBe: the journal may take it after the one who asked was told that nobody knows. Asking again goes on with the same key.
func TestAStalledHandoverComesToBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s stalling
		dir := filepath.Join(t.TempDir(), "journal")
		keys, store := keeper(t, dir)
		signer, err := keys.current(t.Context(), dir)
		must(t, err)
		j, err := open(dir, signer, 1<<20, s.disk())
		must(t, err)
		j.keys = keys
		mustAppend(t, j, started(0))
		s.stall()
		if _, err := j.RotateKey(t.Context(), false, Actor{}); !errors.Is(err, ErrStalled) || !strings.Contains(err.Error(), "not known yet") {
			t.Errorf("%v", err)
		}
		s.release()
		time.Sleep(2 * retryEvery)
		is := j.PublicKey()
		if is == signer.Public {
			t.Fatal("the handover did not come to be")
		}
		if again := mustRotate(t, j, false); again != is {
			t.Errorf("asked again: %s, want %s", again, is)
		}
		if _, err := store.Get(nextName); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the next key lies beside yet: %v", err)
		}
		must(t, j.Close())
		if v := verifiedBy(t, dir, signer.Public); !v.Whole() || len(v.Keys) != 1 {
			t.Errorf("%+v", v)
		}
	})
}

// TestKilledWhileItsKeyChanges kills a child that writes and changes its key again and again: whenever it is, the journal goes on, each record that was acknowledged is there, and the first key verifies all.
func TestKilledWhileItsKeyChanges(t *testing.T) {
	if dir := os.Getenv(rotatingVariable); dir != "" {
		rotateUntilKilled(t, dir)
		return
	}
	dir := filepath.Join(t.TempDir(), "journal")
	j := mustOpenKept(t, dir)
	first := j.PublicKey()
	mustAppend(t, j, started(0))
	must(t, j.Close())
	var acknowledged, last string
	rounds := 10
	if n, err := strconv.Atoi(os.Getenv("SHEKARA_KILLS")); err == nil {
		rounds = max(rounds, n/10)
	}
	for round := range rounds {
		child := exec.Command(os.Args[0], "-test.run=^TestKilledWhileItsKeyChanges$")
		child.Env = append(os.Environ(), rotatingVariable+"="+dir)
		out, err := child.StdoutPipe()
		must(t, err)
		must(t, child.Start())
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			last = lines.Text()
			if acknowledged = last; !strings.HasPrefix(last, "journal/test+") {
				t.Fatalf("the child says %q", last)
			}
			if n == 3+round%3 {
				time.AfterFunc(time.Duration(round%10)*time.Millisecond, func() { _ = child.Process.Kill() })
			}
		}
		_ = child.Wait()
	}
	j = mustOpenKept(t, dir)
	j.Settle()
	if err := j.Health().Unsigned; err != nil {
		t.Fatal(err)
	}
	named := false
	for _, e := range all(t, j, KeyRotate) {
		named = named || e.Fields[fieldNewKey] == acknowledged
	}
	for _, key := range []string{first, acknowledged, j.PublicKey()} {
		if v := verifiedBy(t, dir, key); !v.Whole() || len(v.Keys) < 3*rounds {
			t.Errorf("with %s: %d changes of the key, %+v", key, len(v.Keys), v.Findings)
		}
	}
	if !named {
		t.Error("the key that was acknowledged last is named by no record")
	}
}

const rotatingVariable = "SHEKARA_JOURNAL_ROTATING"

func rotateUntilKilled(t *testing.T, dir string) {
	keys, _ := keeper(t, dir)
	j, err := OpenKept(context.Background(), dir, keys)
	if err == nil {
		err = j.Health().Unsigned
	}
	for err == nil {
		var public string
		if public, err = j.RotateKey(context.Background(), false, Actor{}); err == nil {
			fmt.Println(public)
		}
	}
	fmt.Println(err)
}
