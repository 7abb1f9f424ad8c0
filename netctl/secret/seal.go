package secret

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
)

const maxSealed = 16 << 10 // bytes of a sealed key: about 400, armored

// Recipient is the box's own age recipient ("age1..."), which may be printed: what is sealed to it only this box can
// open. Its identity is made at first use.
func (s *Store) Recipient() (string, error) {
	identity, err := s.identity()
	if err != nil {
		return "", err
	}
	return identity.Recipient().String(), nil
}

func (s *Store) identity() (*age.X25519Identity, error) {
	path := filepath.Join(s.dir, identityFile)
	data, err := read(path)
	if errors.Is(err, fs.ErrNotExist) {
		made, err := age.GenerateX25519Identity()
		if err != nil {
			return nil, fmt.Errorf("make identity: %w", err)
		}
		if err := write(path, []byte(made.String()+"\n"), false); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("make identity: %w", err)
		}
		if data, err = read(path); err != nil { // perhaps another process's
			return nil, fmt.Errorf("read identity: %w", err)
		}
	} else if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	identity, err := age.ParseX25519Identity(strings.TrimSpace(string(data)))
	if err != nil {
		return nil, fmt.Errorf("read identity: %s does not hold an age identity", path) // err may quote it
	}
	return identity, nil
}

// Export seals a secret to an age recipient. The result is an armored age file that age(1) opens too; inside is the
// key as wg(8) writes it.
func (s *Store) Export(name, recipient string) ([]byte, error) {
	to, err := age.ParseX25519Recipient(strings.TrimSpace(recipient))
	if err != nil {
		return nil, fmt.Errorf("export secret %q: %q is not an age recipient (age1...): %w", name, recipient, err)
	}
	key, err := s.Get(name)
	if err != nil {
		return nil, fmt.Errorf("export %w", err)
	}
	var out bytes.Buffer
	armored := armor.NewWriter(&out)
	sealed, err := age.Encrypt(armored, to)
	if err == nil {
		_, err = sealed.Write(key.RevealText())
	}
	if err == nil {
		err = errors.Join(sealed.Close(), armored.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("export secret %q: %w", name, err)
	}
	return out.Bytes(), nil
}

// Unseal opens a key that was sealed to this box's Recipient, armored or not.
func (s *Store) Unseal(sealed []byte) (Key, error) {
	identity, err := s.identity()
	if err != nil {
		return Key{}, err
	}
	if len(sealed) > maxSealed {
		return Key{}, fmt.Errorf("open sealed key: %d bytes are more than %d", len(sealed), maxSealed)
	}
	var from io.Reader = bytes.NewReader(sealed)
	if bytes.HasPrefix(bytes.TrimSpace(sealed), []byte(armor.Header)) {
		from = armor.NewReader(from)
	}
	opened, err := age.Decrypt(from, identity)
	if err != nil {
		return Key{}, &hinted{fmt.Errorf("open sealed key: %w", err), fmt.Sprintf("is it sealed to this box's recipient, %s?", identity.Recipient())}
	}
	text, err := io.ReadAll(io.LimitReader(opened, maxFile))
	if err != nil {
		return Key{}, fmt.Errorf("open sealed key: %w", err)
	}
	key, err := ParseKey(text)
	if err != nil {
		return Key{}, fmt.Errorf("open sealed key: %w", err)
	}
	return key, nil
}

// ImportSealed is Import of a sealed key.
func (s *Store) ImportSealed(name string, sealed []byte, replace bool) error {
	key, err := s.Unseal(sealed)
	if err != nil {
		return fmt.Errorf("secret %q: %w", name, err)
	}
	return s.Import(name, key, replace)
}

// hinted is an error with its next step.
type hinted struct {
	err  error
	hint string
}

func (e *hinted) Error() string { return e.err.Error() }
func (e *hinted) Unwrap() error { return e.err }
func (e *hinted) Hint() string  { return e.hint }
