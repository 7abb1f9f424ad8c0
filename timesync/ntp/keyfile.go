package ntp

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
)

const (
	maxKeyFile = 1 << 20 // bytes
	maxBare    = 20      // characters of a key that says neither HEX: nor ASCII: (ntp.keys(5))
)

// Keys are those of a key file, by number.
type Keys struct {
	usable  map[uint32]*Key
	refused map[uint32]error
}

// ReadKeys reads a key file. One that everybody may read or write, or that has a line which is none, is refused; a key that is no use to us (MD5) is not an error until
// somebody needs it, since files are shared with other programs.
func ReadKeys(path string) (*Keys, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("read keys: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("read keys: %s is no regular file", path)
	case info.Mode()&0o007 != 0:
		return nil, &openError{path, info.Mode().Perm()}
	}
	text, err := io.ReadAll(io.LimitReader(file, maxKeyFile+1))
	if err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	if len(text) > maxKeyFile {
		return nil, fmt.Errorf("read keys: %s is longer than %d bytes", path, maxKeyFile)
	}
	keys, err := ParseKeys(text)
	if err != nil {
		return nil, fmt.Errorf("read keys: %s: %w", path, err)
	}
	return keys, nil
}

// openError is of a file of secrets that others may see.
type openError struct {
	path string
	mode fs.FileMode
}

func (e *openError) Error() string {
	return fmt.Sprintf("read keys: %s has mode %04o: everybody may read or write it", e.path, e.mode)
}
func (e *openError) Hint() string {
	return fmt.Sprintf("chmod 0640 %s, and think who may have read it", e.path)
}

// ParseKeys reads what a key file holds. Its errors name every line that is wrong, and show no key.
func ParseKeys(text []byte) (*Keys, error) {
	keys := &Keys{map[uint32]*Key{}, map[uint32]error{}}
	var wrong []error
	number := 0
	for line := range bytes.Lines(text) {
		number++
		if err := keys.add(string(line)); err != nil {
			wrong = append(wrong, fmt.Errorf("line %d: %w", number, err))
		}
	}
	if len(wrong) > 0 {
		return nil, errors.Join(wrong...)
	}
	return keys, nil
}

// add reads a line. chrony begins comments with any of these characters, ntpd with # alone.
func (k *Keys) add(line string) error {
	line, _, _ = strings.Cut(line, "#")
	words := strings.Fields(line)
	if len(words) == 0 || strings.ContainsAny(words[0][:1], "!;%") {
		return nil
	}
	if len(words) < 2 {
		return errors.New("want the key's number, its type and the key")
	}
	number, err := strconv.ParseUint(words[0], 10, 32)
	if err != nil || number == 0 {
		return errors.New("want the key's number first, from 1 to 4294967295")
	}
	id := uint32(number)
	if k.usable[id] != nil || k.refused[id] != nil {
		return fmt.Errorf("key %d is there twice", id)
	}
	if len(words) == 2 { // chrony's MD5
		words = []string{words[0], "MD5", words[1]}
	}
	kind := strings.ToUpper(words[1])
	if slices.Contains([]string{"AES128", "AES", "AES-128"}, kind) { // chrony's name for it, and those of ntpsec; ntpd's is ours
		kind = AES128CMAC
	}
	if kind != AES128CMAC && kind != SHA1 {
		k.refused[id] = fmt.Errorf("key %d is of type %s, which is not used: make one of type AES128CMAC (MD5 is forbidden by RFC 8573)", id, kindOf(kind))
		return nil
	}
	secret, err := decodeSecret(words[2])
	if err != nil {
		return fmt.Errorf("key %d: %w", id, err)
	}
	key, err := NewKey(id, kind, secret)
	if err != nil {
		return err
	}
	k.usable[id] = key
	return nil
}

// kindOf is a type that may be shown: what is no known word may be the key, in a line with its words mixed up.
func kindOf(kind string) string {
	known := []string{"MD5", "M", "SHA", "SHA256", "SHA384", "SHA512", "SHA3-224", "SHA3-256", "SHA3-384", "SHA3-512", "TIGER", "WHIRLPOOL", "AES256", "AES-192", "AES-256"}
	if slices.Contains(known, kind) {
		return kind
	}
	return "unknown"
}

func decodeSecret(word string) ([]byte, error) {
	if digits, ok := strings.CutPrefix(word, "HEX:"); ok {
		secret, err := hex.DecodeString(digits)
		if err != nil {
			return nil, errors.New("what follows HEX: is not an even number of hexadecimal digits")
		}
		return secret, nil
	}
	if characters, ok := strings.CutPrefix(word, "ASCII:"); ok {
		return []byte(characters), nil
	}
	if len(word) > maxBare {
		return nil, fmt.Errorf("more than %d characters without HEX: or ASCII: in front are read by ntpd as one and by chrony as the other: say which", maxBare)
	}
	return []byte(word), nil
}

// Usable is the key of a number, nil where there is none that can be used; Find says why. The nil Keys has none.
func (k *Keys) Usable(id uint32) *Key {
	if k == nil {
		return nil
	}
	return k.usable[id]
}

// Find is the key of a number. The error says why there is none that can be used.
func (k *Keys) Find(id uint32) (*Key, error) {
	if key := k.Usable(id); key != nil {
		return key, nil
	}
	if k == nil {
		return nil, errors.New("no file of keys was read")
	}
	if err := k.refused[id]; err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("there is no key %d", id)
}
