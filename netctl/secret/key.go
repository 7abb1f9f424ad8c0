package secret

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// Key is 32 secret bytes: a WireGuard private or preshared key. It prints as [redacted] however it is formatted or encoded.
// Keys are compared with Equal; == does not compile.
//
// The bytes are behind two pointers because fmt does not call the methods of a value in an unexported field of
// somebody's struct: there it prints what it finds. It follows one pointer where the verb does not fit ("%s"), never two.
type Key struct {
	_     [0]func() // makes Key incomparable
	bytes **[32]byte
}

func keep(raw *[32]byte) Key { return Key{bytes: &raw} }

const redacted = "[redacted]"

// NewKey takes a copy of 32 bytes. An all-zero key is a key; the zero Key is none.
func NewKey(b []byte) (Key, error) {
	if len(b) != 32 {
		return Key{}, fmt.Errorf("key has %d bytes, want 32", len(b))
	}
	raw := [32]byte(b)
	return keep(&raw), nil
}

// GeneratePrivate makes a WireGuard private key: 32 random bytes, clamped as in RFC 7748, section 5, as wg(8) does.
func GeneratePrivate() Key {
	raw := GeneratePreshared().Reveal()
	raw[0] &= 248
	raw[31] = raw[31]&127 | 64
	return keep(&raw)
}

// GeneratePreshared makes 32 random bytes.
func GeneratePreshared() Key {
	var raw [32]byte
	_, _ = rand.Read(raw[:]) // never fails: it ends the program instead (crypto/rand)
	return keep(&raw)
}

// ParseKey reads the base64 form of wg(8): 44 characters, canonical, with or without a line end. The error does not show the text.
func ParseKey(text []byte) (Key, error) {
	text = bytes.TrimSpace(text)
	var raw [33]byte // DecodedLen of 44 characters
	if len(text) != 44 {
		return Key{}, fmt.Errorf("a key is 44 characters of base64, this has %d", len(text))
	}
	n, err := base64.StdEncoding.Strict().Decode(raw[:], text)
	if err != nil || n != 32 {
		return Key{}, errors.New("a key is 44 characters of base64, this is something else")
	}
	return NewKey(raw[:32])
}

// PublicKey is the Curve25519 public key of a WireGuard private key, which need not be clamped (X25519 clamps). It is
// all zero for the zero Key.
func (k Key) PublicKey() [32]byte {
	if k.IsZero() {
		return [32]byte{}
	}
	private, err := ecdh.X25519().NewPrivateKey((*k.bytes)[:])
	if err != nil {
		return [32]byte{} // cannot be: any 32 bytes are a key
	}
	return [32]byte(private.PublicKey().Bytes())
}

// IsZero reports whether there is no key.
func (k Key) IsZero() bool { return k.bytes == nil }

// Equal compares in constant time; two absent keys are equal, and none equals an all-zero key.
func (k Key) Equal(other Key) bool {
	if k.IsZero() || other.IsZero() {
		return k.IsZero() == other.IsZero()
	}
	return subtle.ConstantTimeCompare((*k.bytes)[:], (*other.bytes)[:]) == 1
}

// Reveal hands out the secret bytes, all zero for the zero Key. Every use of it is a place to audit: grep for it.
func (k Key) Reveal() [32]byte {
	if k.IsZero() {
		return [32]byte{}
	}
	return **k.bytes
}

// RevealText hands out the base64 form of wg(8), with a line end. As Reveal, a place to audit.
func (k Key) RevealText() []byte {
	raw := k.Reveal()
	return append(base64.StdEncoding.AppendEncode(nil, raw[:]), '\n')
}

// Format answers every verb of fmt, so that no flag shows the bytes.
func (k Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// String is Format's word for callers that do not go through fmt.
func (k Key) String() string { return redacted }

// LogValue keeps the key out of slog.
func (k Key) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText keeps the key out of JSON, YAML and XML.
func (k Key) MarshalText() ([]byte, error) { return []byte(redacted), nil }
