package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/mod/sumdb/note"

	"shekara/netctl/durable"
	"shekara/netctl/secret"
)

const (
	// seedName and nextName are the secrets that hold the seed of the key that signs, and of the one that is to sign next. The journal alone says which of them does: a
	// handover is done when its record is on disk, and the folder of secrets follows.
	seedName = secret.Signing + "/journal"
	nextName = secret.Signing + "/journal.next"
)

// seeds is where they are kept: *secret.Store, or what stands in for it in a fault test.
type seeds interface {
	Get(name string) (secret.Key, error)
	GetOrNew(name string) (secret.Key, error)
	Import(name string, key secret.Key, replace bool) error
	Delete(name string) error
}

// Keys are the keys of one journal. They may be used from many goroutines.
type Keys struct {
	store seeds
	name  string
	mu    sync.Mutex // held while the key changes
}

// NewKeys are those whose seeds lie in a store. The name is that of a journal's first key ("journal/SITE"): later ones keep what the journal has.
func NewKeys(store *secret.Store, name string) *Keys { return &Keys{store: store, name: name} }

// keyError says what is wrong with the key, and what to do.
type keyError struct {
	err  error
	hint string
}

func (e *keyError) Error() string { return e.err.Error() }
func (e *keyError) Unwrap() error { return e.err }
func (e *keyError) Hint() string  { return e.hint }

const hintLost = "put the copy of keys/signing/journal back in the state folder and restart shekarad; where there is none: shekara journal rotate-key --lost begins with a new key, which verification will name"

var (
	// ErrKeyLost is why a journal is not signed though it was: its key is gone, or another one is in its place. No new one is made by itself.
	ErrKeyLost = errors.New("the key that the journal is signed by is lost")

	// ErrKeyHere is why nobody may begin without the key before: it is there.
	ErrKeyHere = errors.New("the journal's key is not lost: it signs")

	errNoKey = errors.New("it was opened without a key")
)

// OpenKept is Open with the key that the journal is signed by so far, of those that are kept; one is made where nothing is signed yet. A key that cannot be had keeps no journal from being opened:
// Health says why nobody signs, and RotateKey can begin with a new one.
func OpenKept(ctx context.Context, dir string, keys *Keys) (*Journal, error) {
	key, unsigned := keys.current(ctx, dir)
	j, err := Open(dir, key)
	if err != nil {
		return nil, err
	}
	j.keys = keys
	if unsigned != nil {
		j.setKeyless(unsigned)
	}
	return j, nil
}

// OpenUnsigned is Open where no key can be had, for the reason that is given.
func OpenUnsigned(dir string, why error) (*Journal, error) {
	j, err := Open(dir, nil)
	if err == nil {
		j.setKeyless(why)
	}
	return j, err
}

func (j *Journal) setKeyless(why error) {
	j.state.Lock()
	defer j.state.Unlock()
	j.state.keyless = why
}

// current is the key that the journal in a folder goes on with. A handover that is on record but was not brought to an end in the folder of secrets is, now.
func (k *Keys) current(ctx context.Context, dir string) (*Key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	last, err := lastSigned(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("find who signed the journal: %w", err)
	}
	if last == nil {
		seed, err := k.store.GetOrNew(seedName)
		return made(k.name, seed, err)
	}
	name := last.signer()
	seed, err := k.store.Get(seedName)
	key, failed := made(name, seed, err)
	if failed == nil && last.by(key) {
		if err := k.store.Delete(nextName); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		return key, nil
	}
	seed, err = k.store.Get(nextName)
	if next, err := made(name, seed, err); err == nil && last.by(next) {
		// The record may have been read from memory, where one who was killed left it: it has to be on disk before the old key goes.
		if err := syncNewest(dir); err != nil {
			return nil, err
		}
		return next, k.adopt(seed)
	}
	switch {
	case errors.Is(failed, fs.ErrNotExist):
		return nil, &keyError{ErrKeyLost, hintLost}
	case failed != nil:
		return nil, failed
	}
	return nil, &keyError{fmt.Errorf("%w: what is kept in its place is %s, which has not signed it", ErrKeyLost, key.Public), hintLost}
}

func made(name string, seed secret.Key, err error) (*Key, error) {
	if err != nil {
		return nil, fmt.Errorf("the journal's key cannot be had: %w", err)
	}
	return NewKey(name, seed.Reveal())
}

// adopt makes the next seed the one that is kept. Killed in between, the next start does it again.
func (k *Keys) adopt(next secret.Key) error {
	err := k.store.Import(seedName, next, true)
	if err == nil {
		err = k.store.Delete(nextName)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the journal has its new key, which lies beside the old one yet: %w", err)
	}
	return nil
}

// lastWord is the newest record of a journal that says who signs it.
type lastWord struct{ Event }

func (l lastWord) signer() string {
	if l.Type == JournalCheckpoint {
		name, _, _ := strings.Cut(l.Fields[fieldNote], "\n")
		return name
	}
	name, _, _ := strings.Cut(l.Fields[fieldNewKey], "+")
	return name
}

// by says whether it is this key.
func (l lastWord) by(key *Key) bool {
	if l.Type == JournalCheckpoint {
		_, err := openNote([]byte(l.Fields[fieldNote]), note.VerifierList(key.verifier))
		return err == nil
	}
	return l.Fields[fieldNewKey] == key.Public
}

// lastSigned looks for it from the newest file on; nil: nothing is signed.
func lastSigned(ctx context.Context, dir string) (last *lastWord, err error) {
	firsts, err := segments(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // there is no journal yet
	}
	if err != nil {
		return nil, err
	}
	var marks [][]byte
	for _, t := range []Type{JournalCheckpoint, KeyRotate, KeyLose} {
		marks = append(marks, []byte(`"type":"`+t+`"`))
	}
	for _, first := range slices.Backward(firsts) {
		err := marked(ctx, dir, first, marks, func(e Event) {
			if e.Fields[fieldNote] != "" {
				last = &lastWord{e}
			}
		})
		if err != nil || last != nil {
			return last, err
		}
	}
	return nil, nil
}

// syncNewest makes what stands in the newest file durable.
func syncNewest(dir string) error {
	firsts, err := segments(dir)
	if err != nil || len(firsts) == 0 {
		return err
	}
	newest := filepath.Join(dir, segmentName(firsts[len(firsts)-1]))
	if _, err := os.Stat(newest); err != nil {
		return err
	}
	file, err := durable.OpenLog(newest, openMode)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

// RotateKey has the journal go on with a new key, and gives its public half. The old key and the new one sign it, so that who has either verifies all. Where
// the old one is lost, and only then, the new one alone does: the chain of signatures is broken there.
//
// An error that says that nobody knows yet whether it is on record may be followed by a second attempt: it goes on with the same key.
func (j *Journal) RotateKey(ctx context.Context, lost bool, by Actor) (public string, err error) {
	if j.keys == nil {
		return "", errors.New("change the journal's key: it was opened without any that are kept")
	}
	j.keys.mu.Lock()
	defer j.keys.mu.Unlock()
	if public, err = j.rotateKey(ctx, lost, by); err != nil {
		return "", fmt.Errorf("change the journal's key: %w", err)
	}
	return public, nil
}

func (j *Journal) rotateKey(ctx context.Context, lost bool, by Actor) (string, error) {
	name, _, _ := strings.Cut(j.PublicKey(), "+")
	if seed, err := j.keys.store.Get(nextName); err == nil && name != "" {
		if next, err := NewKey(name, seed.Reveal()); err == nil && next.Public == j.PublicKey() { // an earlier attempt has come to be since
			return next.Public, j.keys.adopt(seed)
		}
	}
	switch unsigned := j.Health().Unsigned; {
	case unsigned == nil && lost:
		return "", &keyError{ErrKeyHere, "shekara journal rotate-key hands over to a new one, signed by both"}
	case unsigned != nil && !lost:
		return "", unsigned
	case unsigned != nil:
		last, err := lastSigned(ctx, j.dir)
		if err != nil {
			return "", err
		}
		if name = j.keys.name; last != nil {
			name = last.signer()
		}
	}
	seed, err := j.keys.store.GetOrNew(nextName)
	next, err := made(name, seed, err)
	if err != nil {
		return "", err
	}
	e := Event{Type: KeyRotate, Severity: Notice, Object: keyObject, Actor: by, Message: "from here on another key signs, to which the one before hands over: " + next.Public}
	if lost {
		e.Type, e.Severity, e.Message = KeyLose, Alert, "the key is lost: from here on a new one signs, and no signature leads to it: "+next.Public
	}
	r, err := newRecord(e, false, j.clock())
	if err != nil {
		return "", err
	}
	r.rest, r.next = nil, next
	if err := j.queue.put(r); err != nil {
		return "", err
	}
	if err := j.await(r); err != nil {
		return "", err
	}
	return next.Public, j.keys.adopt(seed)
}
