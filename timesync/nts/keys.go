package nts

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"shekara/netctl/durable"
	"shekara/netctl/secret"
)

const (
	nonceLen  = 16
	cookieLen = 4 + nonceLen + tagLen + 2*keyLen

	// rotateAfter and keptKeys make a cookie good for two days at least, and three at most.
	rotateAfter = 24 * time.Hour
	keptKeys    = 3
	lookEvery   = 10 * time.Minute

	maxKeyFile = 4 << 10
	// atHand is how many clients' keys are kept ready for use, at about 2 KiB each once used: making the AES key schedules of one takes longer than all else that a request needs.
	atHand = 4096
)

// Keys seal the cookies that clients get, and open those that they bring. The server holds nothing else of them (RFC 8915 section 6): a cookie is
//
//	number of the key   4 bytes
//	nonce              16
//	vector             16   of AES-SIV-CMAC-256, with the number as associated data
//	keys               64   client to server, then server to client: encrypted
//
// No AEAD is named in it because there is but one. Keys may be used by several goroutines.
type Keys struct {
	path      string
	rotating  sync.Mutex               // held while the ring changes
	ring      atomic.Pointer[[]master] // newest first, never empty
	known     [atHand]atomic.Pointer[association]
	scratches sync.Pool
}

// master is one of the keys that seal cookies.
type master struct {
	number uint32
	made   time.Time
	key    secret.Key
	siv    *siv
}

// association is what both ends know of one key establishment, ready for use.
type association struct {
	keys     *[2 * keyLen]byte // of its own, since fmt follows one pointer
	c2s, s2c *siv
}

// OpenKeys reads the keys that path holds, or makes the first. The folder must be there.
func OpenKeys(path string) (*Keys, error) {
	k := &Keys{path: path, scratches: sync.Pool{New: func() any { return new(scratch) }}}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		k.ring.Store(&[]master{})
		if err := k.Rotate(time.Now()); err != nil {
			return nil, err
		}
		return k, nil
	case err != nil:
		return nil, fmt.Errorf("keys of cookies: %w", err)
	case info.Mode() != 0o600:
		return nil, fmt.Errorf("keys of cookies: file %s has mode %v, want a regular file with 0600: remove it, and clients will establish keys anew", path, info.Mode())
	}
	text, err := durable.ReadFile(path, maxKeyFile)
	if err != nil {
		return nil, fmt.Errorf("keys of cookies: %w", err)
	}
	ring, err := parseKeys(text)
	if err != nil {
		return nil, fmt.Errorf("keys of cookies: file %s: %w: remove it, and clients will establish keys anew", path, err)
	}
	k.ring.Store(&ring)
	return k, nil
}

// Run rotates the keys when it is time, until ctx ends. What it cannot keep on disk it does not use; failed is told, and it tries again.
func (k *Keys) Run(ctx context.Context, failed func(error)) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		if err := k.Rotate(time.Now()); err != nil {
			failed(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Rotate makes a new key if the newest is a day old, and forgets the oldest; cookies sealed with that are unknown from then on. A newest key of the future is one that
// was made by a clock since set back.
func (k *Keys) Rotate(now time.Time) error {
	k.rotating.Lock()
	defer k.rotating.Unlock()
	ring := *k.ring.Load()
	if len(ring) > 0 && now.Sub(ring[0].made).Abs() < rotateAfter {
		return nil
	}
	next := make([]master, 0, keptKeys)
	next = append(next, newMaster(unusedNumber(ring), now.UTC().Truncate(time.Second), secret.GeneratePreshared()))
	next = append(next, ring[:min(len(ring), keptKeys-1)]...)
	if err := durable.WriteFile(k.path, formatKeys(next), 0o600); err != nil {
		return fmt.Errorf("rotate keys of cookies: %w", err)
	}
	k.ring.Store(&next)
	return nil
}

func newMaster(number uint32, made time.Time, key secret.Key) master {
	raw := key.Reveal()
	return master{number, made, key, newSIV(&raw)}
}

func unusedNumber(ring []master) uint32 {
	for {
		var number [4]byte
		_, _ = rand.Read(number[:]) // never fails: it ends the program instead (crypto/rand)
		n := binary.BigEndian.Uint32(number[:])
		if find(ring, n) == nil {
			return n
		}
	}
}

func find(ring []master, number uint32) *master {
	for i := range ring {
		if ring[i].number == number {
			return &ring[i]
		}
	}
	return nil
}

// A line of the file is number, time of making and key, as 1a2b3c4d 2026-11-26T10:00:00Z BASE64.
func formatKeys(ring []master) []byte {
	var text []byte
	for _, m := range ring {
		text = fmt.Appendf(text, "%08x %s ", m.number, m.made.Format(time.RFC3339))
		text = append(text, m.key.RevealText()...)
	}
	return text
}

func parseKeys(text []byte) ([]master, error) {
	var ring []master
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		n := len(ring) + 1
		words := strings.Split(lines.Text(), " ")
		if len(words) != 3 || n > keptKeys {
			return nil, fmt.Errorf("line %d: want number, time and key, in %d lines at most", n, keptKeys)
		}
		number, err := strconv.ParseUint(words[0], 16, 32)
		if err != nil || len(words[0]) != 8 || find(ring, uint32(number)) != nil {
			return nil, fmt.Errorf("line %d: the first word is not the number of a key of its own", n)
		}
		made, err := time.Parse(time.RFC3339, words[1])
		if err != nil {
			return nil, fmt.Errorf("line %d: the second word is no time", n) // err would quote it, and it may be the key
		}
		key, err := secret.ParseKey([]byte(words[2]))
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		ring = append(ring, newMaster(uint32(number), made, key))
	}
	if len(ring) == 0 {
		return nil, errors.New("no key")
	}
	return ring, lines.Err()
}

// bake writes a cookie for the keys of both directions into cookie.
func (k *Keys) bake(s *scratch, cookie, nonce []byte, keys *[2 * keyLen]byte) {
	newest := &(*k.ring.Load())[0]
	binary.BigEndian.PutUint32(cookie, newest.number)
	copy(cookie[4:], nonce)
	sealed := cookie[4+nonceLen:]
	copy(sealed[tagLen:], keys[:])
	newest.siv.seal(s, cookie[4:4+nonceLen], cookie[:4], sealed)
}

// cookies are count fresh ones for the keys of both directions, each of its own.
func (k *Keys) cookies(c2s, s2c []byte, count int) [][]byte {
	var keys [2 * keyLen]byte
	copy(keys[:], c2s)
	copy(keys[keyLen:], s2c)
	var s scratch
	made := make([][]byte, count)
	for i := range made {
		made[i] = make([]byte, cookieLen)
		_, _ = rand.Read(s.random[:nonceLen])
		k.bake(&s, made[i], s.random[:nonceLen], &keys)
	}
	return made
}

// associated opens a cookie; nil if it is none of ours, or its key has been forgotten.
func (k *Keys) associated(s *scratch, cookie []byte) *association {
	if len(cookie) != cookieLen {
		return nil
	}
	m := find(*k.ring.Load(), binary.BigEndian.Uint32(cookie))
	if m == nil {
		return nil
	}
	keys := s.opened[:2*keyLen]
	if !m.siv.open(s, cookie[4:4+nonceLen], cookie[:4], keys, cookie[4+nonceLen:]) {
		return nil
	}
	// TLS made the keys, so they spread evenly.
	slot := &k.known[binary.LittleEndian.Uint32(keys)%atHand]
	if a := slot.Load(); a != nil && subtle.ConstantTimeCompare(a.keys[:], keys) == 1 {
		return a
	}
	kept := [2 * keyLen]byte(keys)
	a := &association{&kept, newSIV((*[keyLen]byte)(kept[:keyLen])), newSIV((*[keyLen]byte)(kept[keyLen:]))}
	slot.Store(a)
	return a
}
