package journal

import (
	"crypto/ed25519"
	"fmt"

	"golang.org/x/mod/sumdb/note"
)

// Key signs checkpoints.
type Key struct {
	Public   string // as auditors need it: name, hash and Ed25519 key, as C2SP's signed-note writes them
	verifier note.Verifier
	private  ed25519.PrivateKey
}

// NewKey makes the key of a name ("journal/SITE") from a secret seed. A name has no spaces and no plus.
func NewKey(name string, seed [32]byte) (*Key, error) {
	private := ed25519.NewKeyFromSeed(seed[:])
	public, err := note.NewEd25519VerifierKey(name, private.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, fmt.Errorf("journal key %q: %w", name, err)
	}
	verifier, err := note.NewVerifier(public)
	if err != nil {
		return nil, fmt.Errorf("journal key %q: %w", name, err)
	}
	return &Key{public, verifier, private}, nil
}

// Name is who signs.
func (k *Key) Name() string { return k.verifier.Name() }

// KeyHash tells the key from others of the name.
func (k *Key) KeyHash() uint32 { return k.verifier.KeyHash() }

// Sign signs.
func (k *Key) Sign(text []byte) ([]byte, error) { return ed25519.Sign(k.private, text), nil }

// String is the public half: the other never prints.
func (k *Key) String() string { return k.Public }
