package nts

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
)

const (
	keyLen = 32 // bytes of a key of AES-SIV-CMAC-256: half of it for CMAC, half for counter mode
	tagLen = aes.BlockSize
)

// siv is AEAD_AES_SIV_CMAC_256 (RFC 5297 section 6), number 15 of the AEADs, the one that NTS demands (RFC 8915 section 5.1).
//
// It is our own because the libraries that have it allocate in each call, and make the key schedules anew for each packet; tests hold it against one of them and against the
// RFC's examples. AES is the standard library's.
type siv struct {
	mac, counter cipher.Block
	*subkeys     // behind a pointer of their own, since fmt follows one
}

type subkeys struct {
	k1, k2 [aes.BlockSize]byte // of CMAC (RFC 4493 section 2.3)
	start  [aes.BlockSize]byte // CMAC of zeros, doubled: S2V begins with it (RFC 5297 section 2.4)
}

// scratch is what one call works in. The standard library's AES is called through an interface, so what it gets would be allocated each time.
type scratch struct {
	x, d, v   [aes.BlockSize]byte // CMAC's chain; S2V's D; what V must be
	counter   [aes.BlockSize]byte
	keystream [aes.BlockSize]byte
	random    [(maxCookies + 1) * nonceLen]byte
	opened    [maxEncrypted]byte
}

func newSIV(key *[keyLen]byte) *siv {
	c := siv{subkeys: new(subkeys)}
	c.mac, _ = aes.NewCipher(key[:keyLen/2]) // the error is of the key's length alone
	c.counter, _ = aes.NewCipher(key[keyLen/2:])
	c.mac.Encrypt(c.k1[:], c.k1[:])
	double(&c.k1)
	c.k2 = c.k1
	double(&c.k2)
	c.start = c.k1 // of a block of zeros, CMAC is what the first subkey encrypts to
	c.mac.Encrypt(c.start[:], c.start[:])
	double(&c.start)
	return &c
}

// double multiplies by x in GF(2^128) (RFC 5297 section 2.3), in a time that does not depend on b.
func double(b *[aes.BlockSize]byte) {
	high, low := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	carry := -(high >> 63) & 0x87
	binary.BigEndian.PutUint64(b[:8], high<<1|low>>63)
	binary.BigEndian.PutUint64(b[8:], low<<1^carry)
}

// xor is a ^= b.
func xor(a *[aes.BlockSize]byte, b []byte) {
	_ = b[aes.BlockSize-1]
	binary.NativeEndian.PutUint64(a[:8], binary.NativeEndian.Uint64(a[:8])^binary.NativeEndian.Uint64(b[:8]))
	binary.NativeEndian.PutUint64(a[8:], binary.NativeEndian.Uint64(a[8:])^binary.NativeEndian.Uint64(b[8:16]))
}

// chain takes all of data into s.x but its last block, which may be whole or not, and returns that.
func (c *siv) chain(s *scratch, data []byte) (last []byte) {
	for len(data) > aes.BlockSize {
		xor(&s.x, data)
		c.mac.Encrypt(s.x[:], s.x[:])
		data = data[aes.BlockSize:]
	}
	return data
}

// finish takes the last block of a message: CMAC is in s.x.
func (c *siv) finish(s *scratch, last []byte) {
	if len(last) == aes.BlockSize {
		xor(&s.x, last)
		xor(&s.x, c.k1[:])
	} else {
		subtle.XORBytes(s.x[:], s.x[:], last)
		s.x[len(last)] ^= 0x80
		xor(&s.x, c.k2[:])
	}
	c.mac.Encrypt(s.x[:], s.x[:])
}

// cmac leaves AES-CMAC of data (RFC 4493) in s.x.
func (c *siv) cmac(s *scratch, data []byte) {
	clear(s.x[:])
	c.finish(s, c.chain(s, data))
}

// s2v leaves the synthetic initialization vector in s.x (RFC 5297 section 2.4).
func (c *siv) s2v(s *scratch, nonce, associated, plaintext []byte) {
	s.d = c.start
	c.cmac(s, associated)
	xor(&s.d, s.x[:])
	double(&s.d)
	c.cmac(s, nonce)
	xor(&s.d, s.x[:])
	clear(s.x[:])
	if len(plaintext) < aes.BlockSize {
		double(&s.d)
		subtle.XORBytes(s.d[:], s.d[:], plaintext)
		s.d[len(plaintext)] ^= 0x80
		c.finish(s, s.d[:])
		return
	}
	// D is added to the last 16 bytes, which may lie in two blocks.
	var tail [2 * aes.BlockSize]byte
	whole := (len(plaintext) - aes.BlockSize) &^ (aes.BlockSize - 1)
	n := copy(tail[:], plaintext[whole:])
	subtle.XORBytes(tail[n-aes.BlockSize:n], tail[n-aes.BlockSize:n], s.d[:])
	for head := plaintext[:whole]; len(head) > 0; head = head[aes.BlockSize:] {
		xor(&s.x, head)
		c.mac.Encrypt(s.x[:], s.x[:])
	}
	c.finish(s, c.chain(s, tail[:n]))
}

// crypt is counter mode from the vector in v on (RFC 5297 section 2.5). Out may be in.
func (c *siv) crypt(s *scratch, v, out, in []byte) {
	copy(s.counter[:], v)
	s.counter[8] &= 0x7f
	s.counter[12] &= 0x7f // so that adding to the last 32 bits carries no further
	for count := binary.BigEndian.Uint32(s.counter[12:]); len(in) > 0; count++ {
		binary.BigEndian.PutUint32(s.counter[12:], count)
		c.counter.Encrypt(s.keystream[:], s.counter[:])
		n := subtle.XORBytes(out, in, s.keystream[:])
		in, out = in[n:], out[n:]
	}
}

// seal encrypts what is in sealed after its first 16 bytes in place, and puts the vector into these.
func (c *siv) seal(s *scratch, nonce, associated, sealed []byte) {
	plaintext := sealed[tagLen:]
	c.s2v(s, nonce, associated, plaintext)
	copy(sealed, s.x[:])
	c.crypt(s, sealed[:tagLen], plaintext, plaintext)
}

// open decrypts what was sealed into opened, which has 16 bytes less, and clears that unless it is true.
func (c *siv) open(s *scratch, nonce, associated, opened, sealed []byte) bool {
	copy(s.v[:], sealed)
	c.crypt(s, s.v[:], opened, sealed[tagLen:])
	c.s2v(s, nonce, associated, opened)
	if subtle.ConstantTimeCompare(s.v[:], s.x[:]) != 1 {
		clear(opened)
		return false
	}
	return true
}
