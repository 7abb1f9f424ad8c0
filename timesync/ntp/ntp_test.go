package ntp

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"shekara/timesync"
)

// captured are the packets of testdata/chrony.txt by name.
func captured(t testing.TB) map[string][]byte {
	t.Helper()
	text, err := os.ReadFile("testdata/chrony.txt")
	if err != nil {
		t.Fatal(err)
	}
	packets := map[string][]byte{}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		name, digits, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if packets[name], err = hex.DecodeString(digits); err != nil {
			t.Fatal(err)
		}
	}
	if len(packets) != 14 {
		t.Fatalf("%d packets", len(packets))
	}
	return packets
}

const keyFile = `# keys
1 AES128CMAC HEX:00112233445566778899AABBCCDDEEFF
2 sha1 HEX:000102030405060708090a0b0c0d0e0f10111213 # a comment
3 MD5 ASCII:insecure
! chrony's comment
4 insecure

5 AES128 ASCII:sixteen-of-them!
6 AES sixteen-of-them!
7 SHA512 HEX:00112233445566778899AABBCCDDEEFF
`

func keys(t testing.TB) *Keys {
	t.Helper()
	k, err := ParseKeys([]byte(keyFile))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestPacketsOfChrony(t *testing.T) {
	for name, datagram := range captured(t) {
		t.Run(name, func(t *testing.T) {
			var p Packet
			if err := p.Parse(datagram); err != nil {
				t.Fatal(err)
			}
			version, mode := uint8(4), Client
			if strings.Contains(name, "version 3") {
				version = 3
			}
			if strings.Contains(name, "answer") {
				mode = Server
				if p.Stratum != 10 || p.Leap != timesync.LeapNone || p.ReferenceID != 0x7f7f0101 || p.Transmit.Sub(p.Receive) < 0 {
					t.Errorf("%+v", p.Header)
				}
				at := p.Transmit.Near(time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC))
				if at.Year() != 2026 || at.Month() != time.November || at.Day() != 26 {
					t.Errorf("sent at %s", at)
				}
			}
			if p.Version != version || p.Mode != mode || ModeOf(datagram) != mode || len(p.Extensions) != 0 {
				t.Errorf("%+v", p)
			}
			var want uint32
			for word, id := range map[string]uint32{"AES": 1, "SHA1": 2, "MD5": 3} {
				if strings.Contains(name, word) {
					want = id
				}
			}
			if p.KeyID() != want {
				t.Fatalf("key %d, want %d", p.KeyID(), want)
			}
			key, err := keys(t).Find(want)
			if err == nil {
				message := datagram[:len(datagram)-len(p.MAC)]
				if !key.Verify(message, p.MAC) {
					t.Error("does not verify")
				}
				if again := key.AppendMAC(bytes.Clone(message)); !bytes.Equal(again, datagram) {
					t.Errorf("%x, want %x", again, datagram)
				}
			} else if want == 1 || want == 2 {
				t.Error(err)
			}
			if again := p.Append(nil); !bytes.Equal(again, datagram[:HeaderLen]) {
				t.Errorf("%x, want %x", again, datagram)
			}
		})
	}
}

func TestWhatFollowsTheHeader(t *testing.T) {
	header := (&Header{Version: 4, Mode: Client}).Append(nil)
	old := (&Header{Version: 3, Mode: Client}).Append(nil)
	with := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	unique := AppendField(nil, 0x0104, make([]byte, 32), 0)
	short := AppendField(nil, 0x0204, nil, 0)
	for name, c := range map[string]struct {
		datagram []byte
		fields   int // bytes
		mac      int
		err      error
	}{
		"empty":                    {nil, 0, 0, ErrShort},
		"cut":                      {header[:47], 0, 0, ErrShort},
		"version 2":                {(&Header{Version: 2, Mode: Client}).Append(nil), 0, 0, ErrVersion},
		"version 5":                {(&Header{Version: 5, Mode: Client}).Append(nil), 0, 0, ErrVersion},
		"plain":                    {header, 0, 0, nil},
		"crypto-NAK":               {with(header, make([]byte, 4)), 0, 4, nil},
		"MAC of 16":                {with(header, make([]byte, 20)), 0, 20, nil},
		"MAC of 20":                {with(header, make([]byte, 24)), 0, 24, nil},
		"two bytes":                {with(header, make([]byte, 2)), 0, 0, ErrMalformed},
		"eight bytes":              {with(header, make([]byte, 8)), 0, 0, ErrMalformed},
		"a field":                  {with(header, unique), 36, 0, nil},
		"a short field":            {with(header, short), 16, 0, nil},
		"fields":                   {with(header, unique, unique, short), 88, 0, nil},
		"a field and a MAC":        {with(header, unique, make([]byte, 20)), 36, 20, nil},
		"a field and a crypto-NAK": {with(header, unique, make([]byte, 4)), 36, 4, nil},
		"a field cut":              {with(header, unique[:32]), 0, 0, ErrMalformed},
		"a field of no length":     {with(header, make([]byte, 36)), 0, 0, ErrMalformed},
		"16 bytes that are none":   {with(header, make([]byte, 16)), 0, 0, ErrMalformed},
		"version 3 has no fields":  {with(old, unique), 0, 0, ErrMalformed},
		"version 3 and a MAC":      {with(old, make([]byte, 20)), 0, 20, nil},
	} {
		var p Packet
		if err := p.Parse(c.datagram); !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", name, err, c.err)
		} else if err == nil && (len(p.Extensions) != c.fields || len(p.MAC) != c.mac) {
			t.Errorf("%s: fields of %d bytes and a MAC of %d, want %d and %d", name, len(p.Extensions), len(p.MAC), c.fields, c.mac)
		}
	}
	var p Packet
	if err := p.Parse(with(header, AppendField(nil, 7, []byte("abcde"), 28), short)); err != nil {
		t.Fatal(err)
	}
	first, rest, ok := p.Extensions.Next()
	second, end, ok2 := rest.Next()
	if want := append([]byte("abcde"), make([]byte, 19)...); !ok || !ok2 || first.Type != 7 || !bytes.Equal(first.Value, want) || first.Len() != 28 || second.Type != 0x0204 || len(end) != 0 {
		t.Errorf("%+v, %+v, %x", first, second, end)
	}
	if _, _, ok := end.Next(); ok {
		t.Error("there is a field after the last")
	}
}

func TestTimestampsOfAnyEra(t *testing.T) {
	for text, want := range map[string]Timestamp{
		"1970-01-01T00:00:00Z":   0x83AA7E80_00000000,
		"2036-02-07T06:28:15.5Z": 0xFFFFFFFF_80000000, // the last second of era 0 (RFC 5905 figure 4)
		"2036-02-07T06:28:17Z":   0x00000001_00000000, // one second into era 1
	} {
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			t.Fatal(err)
		}
		if got := TimestampOf(at); got != want {
			t.Errorf("%s is %016x, want %016x", text, got, want)
		}
		if got := want.Near(at.AddDate(60, 0, 0)); !got.Equal(at) {
			t.Errorf("%016x is %s, want %s", want, got, at)
		}
	}
	if got := TimestampOf(time.Time{}); got != 0 || !got.Near(time.Now()).IsZero() {
		t.Errorf("the zero time is %x", got)
	}
	before, after := time.Date(2036, 2, 7, 6, 28, 15, 0, time.UTC), time.Date(2036, 2, 7, 6, 28, 18, 5, time.UTC)
	if got := TimestampOf(after).Sub(TimestampOf(before)); got != 3*time.Second+5 {
		t.Errorf("over the end of the era %s passed", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		at := time.Unix(rapid.Int64Range(-1<<33, 1<<35).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds")).UTC()
		d := time.Duration(rapid.Int64Range(-1<<60, 1<<60).Draw(t, "difference"))
		stamp := TimestampOf(at)
		if stamp != 0 && !stamp.Near(at.Add(d)).Equal(at) {
			t.Fatalf("%s came back as %s", at, stamp.Near(at.Add(d)))
		}
		if got := TimestampOf(at.Add(d)).Sub(stamp); got < d-1 || got > d+1 {
			t.Fatalf("%s after is %s", d, got)
		}
		if got := stamp.Add(d).Sub(stamp); got < d-1 || got > d+1 {
			t.Fatalf("%s added is %s", d, got)
		}
	})
}

func TestShortRoundsUp(t *testing.T) {
	for d, want := range map[time.Duration]Short{
		-time.Second: 0, 0: 0, 1: 1, time.Second: 1 << 16, time.Second + 1: 1<<16 + 1, 15 * time.Microsecond: 1, 16 * time.Microsecond: 2,
		18 * time.Hour: 18 * 3600 << 16, 19 * time.Hour: math.MaxUint32, math.MaxInt64: math.MaxUint32,
	} {
		if got := ShortOf(d); got != want {
			t.Errorf("%s is %d, want %d", d, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(0, int64(18*time.Hour)).Draw(t, "d"))
		if got := ShortOf(d).Duration(); got < d || got > d+16*time.Microsecond {
			t.Fatalf("%s came back as %s", d, got)
		}
	})
}

func TestKiss(t *testing.T) {
	for _, c := range []struct {
		stratum uint8
		id      uint32
		want    string
	}{{0, KissRate, "RATE"}, {0, KissNTSN, "NTSN"}, {0, 0, ""}, {0, 0x01020304, ""}, {1, KissRate, ""}} {
		if got := (&Header{Stratum: c.stratum, ReferenceID: c.id}).Kiss(); got != c.want {
			t.Errorf("%x at stratum %d is %q", c.id, c.stratum, got)
		}
	}
}

// The examples of RFC 4493 section 4.
func TestCMAC(t *testing.T) {
	secret, _ := hex.DecodeString("2b7e151628aed2a6abf7158809cf4f3c")
	message, _ := hex.DecodeString("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710")
	key, err := NewKey(7, AES128CMAC, secret)
	if err != nil {
		t.Fatal(err)
	}
	for length, want := range map[int]string{
		0: "bb1d6929e95937287fa37d129b756746", 16: "070a16b46b4d4144f79bdd9dd04a287c",
		40: "dfa66747de9ae63030ca32611497c827", 64: "51f0bebf7e3b9d92fc49741779363cfe",
	} {
		got := key.AppendMAC(bytes.Clone(message[:length]))[length:]
		if hex.EncodeToString(got) != "00000007"+want {
			t.Errorf("of %d bytes: %x, want %s", length, got, want)
		}
		if !key.Verify(message[:length], got) {
			t.Errorf("of %d bytes: does not verify", length)
		}
		for i := range got {
			got[i] ^= 1
			if key.Verify(message[:length], got) {
				t.Errorf("of %d bytes: verifies with byte %d changed", length, i)
			}
			got[i] ^= 1
		}
		if key.Verify(message[:length], got[:19]) || key.Verify(message[:length], nil) {
			t.Errorf("of %d bytes: verifies when cut", length)
		}
	}
}

func TestKeyFile(t *testing.T) {
	k := keys(t)
	for _, id := range []uint32{1, 2, 5, 6} {
		if key, err := k.Find(id); err != nil || key.ID != id || k.Usable(id) != key {
			t.Errorf("key %d: %v", id, err)
		}
	}
	for id, want := range map[uint32]string{3: "key 3 is of type MD5", 4: "key 4 is of type MD5", 7: "key 7 is of type SHA512", 9: "there is no key 9"} {
		if _, err := k.Find(id); err == nil || !strings.HasPrefix(err.Error(), want) || k.Usable(id) != nil {
			t.Errorf("key %d: %v", id, err)
		}
	}
	if key, err := (*Keys)(nil).Find(1); key != nil || err == nil {
		t.Errorf("without a file: %v, %v", key, err)
	}
	for text, want := range map[string]string{
		"1":                                "want the key's number, its type and the key",
		"x SHA1 hunter2hunter2":            "want the key's number first",
		"0 SHA1 hunter2hunter2":            "want the key's number first",
		"4294967296 SHA1 hunter2hunter2":   "want the key's number first",
		"1 SHA1 hunter2":                   "SHA1 takes 10 bytes at least, this has 7",
		"1 AES128CMAC hunter2hunter2":      "AES128CMAC takes 16 bytes, this has 14",
		"1 SHA1 HEX:hunter2":               "not an even number of hexadecimal digits",
		"1 SHA1 hunter2hunter2hunter2":     "say which",
		"1 MD5 hunter2\n1 SHA1 hunter2222": "key 1 is there twice",
	} {
		_, err := ParseKeys([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "line ") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", text, err)
		}
	}
	// A key where its type should be is not shown.
	k, err := ParseKeys([]byte("1 hunter2hunter2 SHA1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Find(1); err == nil || strings.Contains(err.Error(), "unter2") || strings.Contains(err.Error(), "UNTER2") {
		t.Errorf("%v", err)
	}
}

func TestReadKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, []byte(keyFile), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadKeys(path); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	var hinted interface{ Hint() string }
	if _, err := ReadKeys(path); !errors.As(err, &hinted) || hinted.Hint() == "" {
		t.Errorf("readable by everybody: %v", err)
	}
	if err := os.WriteFile(path, make([]byte, maxKeyFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadKeys(path); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("%v", err)
	}
	if _, err := ReadKeys(filepath.Dir(path)); err == nil {
		t.Error("a folder was read")
	}
	if _, err := ReadKeys(path + ".none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestKeysDoNotPrint(t *testing.T) {
	key, err := NewKey(5, SHA1, []byte("hunter2hunter2"))
	if err != nil {
		t.Fatal(err)
	}
	type holder struct {
		Shown  *Key
		hidden *Key
	}
	var printed bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&printed, verb, key)
		fmt.Fprintf(&printed, verb, *key)
		fmt.Fprintf(&printed, verb, holder{key, key})
		fmt.Fprintf(&printed, verb, &holder{key, key})
	}
	slog.New(slog.NewJSONHandler(&printed, nil)).Info("x", "key", key)
	slog.New(slog.NewTextHandler(&printed, nil)).Info("x", "key", key)
	for _, secret := range []string{"hunter2", "68756e74", "104 117 110", "0x68, 0x75"} {
		if strings.Contains(printed.String(), secret) {
			t.Errorf("printed: %s", &printed)
		}
	}
	if !strings.Contains(printed.String(), "key 5 (SHA1)") {
		t.Errorf("printed: %s", &printed)
	}
	_ = holder{}.hidden
}

func TestNothingAllocates(t *testing.T) {
	packets := captured(t)
	k := keys(t)
	buffer := make([]byte, 0, 256)
	for _, name := range []string{"AES-128-CMAC, request", "SHA1, request"} {
		if n := testing.AllocsPerRun(100, func() {
			var p Packet
			if err := p.Parse(packets[name]); err != nil {
				t.Fatal(err)
			}
			key, err := k.Find(p.KeyID())
			if err != nil || !key.Verify(packets[name][:HeaderLen], p.MAC) {
				t.Fatal(err)
			}
			p.Origin = TimestampOf(p.Transmit.Near(time.Unix(0, 0))).Add(time.Second)
			buffer = key.AppendMAC(p.Append(buffer[:0]))
			buffer = AppendField(buffer, 1, buffer[:10], 28)
		}); n > 0.5 { // a pool may be emptied by the garbage collector
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// FuzzParse holds whatever comes to what the packet says of itself: it is taken apart wholly, and put together again to the same bytes.
func FuzzParse(f *testing.F) {
	for _, datagram := range captured(f) {
		f.Add(datagram)
		f.Add(AppendField(AppendField(datagram[:HeaderLen:HeaderLen], 0x0104, datagram[:32], 0), 0x0404, datagram, 28))
	}
	f.Fuzz(func(t *testing.T, datagram []byte) {
		var p Packet
		if err := p.Parse(datagram); err != nil {
			return
		}
		again := p.Append(nil)
		for rest := p.Extensions; len(rest) > 0; {
			field, after, ok := rest.Next()
			if !ok {
				t.Fatalf("%x is no field", rest)
			}
			again, rest = AppendField(again, field.Type, field.Value, field.Len()), after
		}
		again = append(again, p.MAC...)
		if diff := cmp.Diff(datagram, again); diff != "" {
			t.Error(diff)
		}
		key, err := NewKey(p.KeyID()|1, AES128CMAC, make([]byte, 16))
		if err != nil {
			t.Fatal(err)
		}
		if signed := key.AppendMAC(bytes.Clone(datagram)); !key.Verify(datagram, signed[len(datagram):]) {
			t.Error("what was signed does not verify")
		}
		_ = p.Kiss()
		_ = p.Transmit.Near(time.Now())
	})
}

// FuzzParseKeys holds that no line of a key file panics, or shows itself in an error but for known words.
func FuzzParseKeys(f *testing.F) {
	f.Add(keyFile)
	f.Add("1 AES128CMAC HEX:0011")
	f.Fuzz(func(t *testing.T, text string) {
		k, err := ParseKeys([]byte(text))
		if err != nil {
			return
		}
		for id, key := range k.usable {
			if found, err := k.Find(id); err != nil || found != key || id == 0 {
				t.Errorf("key %d: %v", id, err)
			}
		}
	})
}
