package ntp

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"sync"
)

// Types of keys.
const (
	AES128CMAC = "AES128CMAC" // RFC 8573
	SHA1       = "SHA1"       // the digest of key and message; for clients that have no better
)

// minSHA1 is the shortest key of type SHA1: 80 bits, from which on chrony does not call it insecure either.
const minSHA1 = 10

// Key is one that both sides have. It may be used by several goroutines at once. It prints as its number and type.
type Key struct {
	ID     uint32
	Type   string
	secret **material // fmt follows one pointer where the verb does not fit ("%s"), never two
}

// material is what works with the secret, and the room that it works in.
type material struct {
	block  cipher.Block // nil for SHA1
	k1, k2 [aes.BlockSize]byte
	prefix []byte // SHA1: the key
	rooms  sync.Pool
}

type room struct {
	sum  [sha1.Size]byte // AES-CMAC uses the first 16
	hash hash.Hash       // nil for AES-CMAC
}

// NewKey takes a copy of secret: 16 bytes for AES128CMAC, 10 at least for SHA1. The error does not show it.
func NewKey(id uint32, kind string, secret []byte) (*Key, error) {
	m := &material{}
	switch {
	case id == 0:
		return nil, fmt.Errorf("key 0: numbers begin with 1, and 0 says that there is no key")
	case kind == AES128CMAC && len(secret) != 16:
		return nil, fmt.Errorf("key %d: AES128CMAC takes 16 bytes, this has %d", id, len(secret))
	case kind == AES128CMAC:
		var err error
		if m.block, err = aes.NewCipher(secret); err != nil {
			return nil, fmt.Errorf("key %d: %w", id, err)
		}
		m.subkeys()
		m.rooms.New = func() any { return &room{} }
	case kind == SHA1 && len(secret) < minSHA1:
		return nil, fmt.Errorf("key %d: SHA1 takes %d bytes at least, this has %d", id, minSHA1, len(secret))
	case kind == SHA1:
		m.prefix = append(m.prefix, secret...)
		m.rooms.New = func() any { return &room{hash: sha1.New()} }
	default:
		return nil, fmt.Errorf("key %d: type %q: want AES128CMAC, or SHA1 for those who have no better", id, kind)
	}
	return &Key{id, kind, &m}, nil
}

// MACLen is how many bytes AppendMAC writes.
func (k *Key) MACLen() int {
	if (*k.secret).block != nil {
		return 4 + aes.BlockSize
	}
	return 4 + sha1.Size
}

// AppendMAC writes after packet the key's number and the code of what packet holds.
func (k *Key) AppendMAC(packet []byte) []byte {
	r := (*k.secret).rooms.Get().(*room)
	sum := (*k.secret).sum(r, packet)
	packet = binary.BigEndian.AppendUint32(packet, k.ID)
	packet = append(packet, sum...)
	(*k.secret).rooms.Put(r)
	return packet
}

// Verify says whether mac, a Packet's, is this key's of message: all that is before it in the datagram.
func (k *Key) Verify(message, mac []byte) bool {
	if len(mac) != k.MACLen() || binary.BigEndian.Uint32(mac) != k.ID {
		return false
	}
	r := (*k.secret).rooms.Get().(*room)
	same := subtle.ConstantTimeCompare((*k.secret).sum(r, message), mac[4:]) == 1
	(*k.secret).rooms.Put(r)
	return same
}

func (m *material) sum(r *room, message []byte) []byte {
	if m.block == nil {
		r.hash.Reset()
		r.hash.Write(m.prefix)
		r.hash.Write(message)
		return r.hash.Sum(r.sum[:0])
	}
	return m.cmac(r.sum[:aes.BlockSize], message)
}

// cmac is RFC 4493 section 2.4, with x for the room.
func (m *material) cmac(x, message []byte) []byte {
	clear(x)
	for len(message) > aes.BlockSize {
		subtle.XORBytes(x, x, message[:aes.BlockSize])
		m.block.Encrypt(x, x)
		message = message[aes.BlockSize:]
	}
	subtle.XORBytes(x, x, message)
	if len(message) == aes.BlockSize {
		subtle.XORBytes(x, x, m.k1[:])
	} else {
		x[len(message)] ^= 0x80
		subtle.XORBytes(x, x, m.k2[:])
	}
	m.block.Encrypt(x, x)
	return x
}

// subkeys is RFC 4493 section 2.3.
func (m *material) subkeys() {
	double := func(to, from []byte) {
		carry := byte(0)
		for i := aes.BlockSize - 1; i >= 0; i-- {
			to[i], carry = from[i]<<1|carry, from[i]>>7
		}
		to[aes.BlockSize-1] ^= byte(subtle.ConstantTimeSelect(int(carry), 0x87, 0))
	}
	var l [aes.BlockSize]byte
	m.block.Encrypt(l[:], l[:])
	double(m.k1[:], l[:])
	double(m.k2[:], m.k1[:])
}

// String is the key's number and type.
func (k Key) String() string { return fmt.Sprintf("key %d (%s)", k.ID, k.Type) }

// Format answers every verb of fmt with String, so that no flag shows more.
func (k Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// LogValue is String for slog.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }
