package nts

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/facebook/time/ntp/protocol/nts/aessiv"
)

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	raw, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestCMAC is of the examples of RFC 4493 section 4.
func TestCMAC(t *testing.T) {
	key := unhex(t, "2b7e151628aed2a6abf7158809cf4f3c")
	c := newSIV((*[keyLen]byte)(append(key, key...)))
	message := unhex(t, "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710")
	for length, want := range map[int]string{
		0:  "bb1d6929e95937287fa37d129b756746",
		16: "070a16b46b4d4144f79bdd9dd04a287c",
		40: "dfa66747de9ae63030ca32611497c827",
		64: "51f0bebf7e3b9d92fc49741779363cfe",
	} {
		var s scratch
		c.cmac(&s, message[:length])
		if got := hex.EncodeToString(s.x[:]); got != want {
			t.Errorf("of %d bytes: %s, want %s", length, got, want)
		}
	}
}

// FuzzSIV holds ours against another, both ways. Of what is sealed no bit may change.
func FuzzSIV(f *testing.F) {
	key := bytes.Repeat([]byte{7, 1}, keyLen/2)
	for _, length := range []int{0, 1, 15, 16, 17, 31, 32, 33, 48, 64, 104, 832} {
		f.Add(key, []byte("sixteen byte non"), bytes.Repeat([]byte{9}, length), bytes.Repeat([]byte{3}, length), uint(length))
	}
	f.Fuzz(func(t *testing.T, rawKey, nonce, associated, plaintext []byte, flip uint) {
		var key [keyLen]byte
		copy(key[:], rawKey)
		theirs, err := aessiv.NewAESSIV(key[:])
		if err != nil {
			t.Fatal(err)
		}
		want, err := theirs.Seal(nil, plaintext, associated, nonce)
		if err != nil {
			t.Fatal(err)
		}
		ours := newSIV(&key)
		var s scratch
		sealed := append(make([]byte, tagLen), plaintext...)
		ours.seal(&s, nonce, associated, sealed)
		if !bytes.Equal(sealed, want) {
			t.Fatalf("sealed is %x, theirs %x", sealed, want)
		}
		opened := make([]byte, len(plaintext))
		if !ours.open(&s, nonce, associated, opened, sealed) || !bytes.Equal(opened, plaintext) {
			t.Fatalf("opened is %x, was %x", opened, plaintext)
		}
		bit := flip % uint(8*len(sealed))
		sealed[bit/8] ^= 1 << (bit % 8)
		if ours.open(&s, nonce, associated, opened, sealed) {
			t.Fatal("opened with a bit changed")
		}
		if !bytes.Equal(opened, make([]byte, len(opened))) {
			t.Fatal("what is not authentic was left to be read")
		}
	})
}
