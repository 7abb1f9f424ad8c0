package swarm

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"

	"golang.org/x/crypto/curve25519"
)

// Key is a private, public or preshared key of a test peer. It is read and written as base64, since commands carry it, but %v does
// not show it.
type Key [32]byte

// UnmarshalText reads the base64 form that wg(8) prints.
func (k *Key) UnmarshalText(text []byte) error {
	b, err := base64.StdEncoding.Strict().DecodeString(string(text))
	if err != nil || len(b) != len(k) {
		return fmt.Errorf("%d characters are not a key of 32 bytes in base64", len(text))
	}
	copy(k[:], b)
	return nil
}

// MarshalText writes base64.
func (k Key) MarshalText() ([]byte, error) {
	return []byte(base64.StdEncoding.EncodeToString(k[:])), nil
}

// String does not show the key.
func (k Key) String() string { return "[key]" }

// Public is the public key of a private key.
func (k Key) Public() (Key, error) {
	b, err := curve25519.X25519(k[:], curve25519.Basepoint)
	if err != nil {
		return Key{}, fmt.Errorf("derive public key: %w", err)
	}
	return Key(b), nil
}

func (k Key) hex() string { return hex.EncodeToString(k[:]) }
