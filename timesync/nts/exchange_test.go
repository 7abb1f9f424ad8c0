package nts

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"shekara/timesync/ntp"
)

func header() []byte {
	h := ntp.Header{Version: 4, Mode: ntp.Client, Transmit: 0x0123456789abcdef}
	return h.Append(nil)
}

func answerHeader() []byte {
	h := ntp.Header{Version: 4, Mode: ntp.Server, Stratum: 2, Origin: 0x0123456789abcdef}
	return h.Append(make([]byte, 0, 2048))
}

// exchange takes a request of the session to the server and the answer back, and returns the answer. before may change the request.
func exchange(t testing.TB, k *Keys, s *Session, before func(request []byte) []byte) []byte {
	t.Helper()
	request, err := s.Seal(header())
	if err != nil {
		t.Fatal(err)
	}
	if before != nil {
		request = before(request)
	}
	x, err := k.Open(request)
	if err != nil {
		t.Fatal(err)
	}
	answer := x.Seal(answerHeader())
	if len(answer) > len(request) {
		t.Fatalf("%d bytes answer %d", len(answer), len(request))
	}
	if err := s.Open(answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

// refused is an exchange whose cookie the server does not know.
func refused(t testing.TB, k *Keys, s *Session) {
	t.Helper()
	request, err := s.Seal(header())
	if err != nil {
		t.Fatal(err)
	}
	x, err := k.Open(request)
	if !errors.Is(err, ErrCookie) {
		t.Fatalf("want an unknown cookie: %v", err)
	}
	h := ntp.Header{Version: 4, Mode: ntp.Server, ReferenceID: ntp.KissNTSN}
	answer := x.Echo(h.Append(nil))
	if len(answer) > len(request) {
		t.Fatalf("%d bytes answer %d", len(answer), len(request))
	}
	if err := s.Open(answer); !errors.Is(err, ErrNAK) {
		t.Fatalf("want NTSN: %v", err)
	}
}

func TestExchange(t *testing.T) {
	k := openKeys(t)
	s := paired(k)
	for range 20 {
		exchange(t, k, s, nil)
		if s.Cookies() != maxCookies {
			t.Fatalf("%d cookies after an answer, want %d", s.Cookies(), maxCookies)
		}
	}
	seen := map[string]bool{}
	for _, cookie := range s.cookies {
		if seen[string(cookie)] || len(cookie) != cookieLen {
			t.Errorf("cookie %x", cookie)
		}
		seen[string(cookie)] = true
	}
	for range 3 { // answers that got lost took their cookies along: the next request asks for as many
		if _, err := s.Seal(header()); err != nil {
			t.Fatal(err)
		}
	}
	if s.Cookies() != maxCookies-3 {
		t.Fatal(s.Cookies())
	}
	if answer := exchange(t, k, s, nil); s.Cookies() != maxCookies {
		t.Errorf("%d cookies after %d bytes of answer, want %d", s.Cookies(), len(answer), maxCookies)
	}
	s.cookies = nil
	if _, err := s.Seal(header()); !errors.Is(err, ErrNoCookie) {
		t.Errorf("without cookies: %v", err)
	}
}

// TestNothingTamperedPasses changes each byte of a request: nothing that was is taken for true but what follows the authenticator, of which there is nothing.
func TestNothingTamperedPasses(t *testing.T) {
	k := openKeys(t)
	s := paired(k)
	s.cookies = s.cookies[:6]
	request, err := s.Seal(header())
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[error]int{}
	for i := range request {
		for _, change := range []byte{0x01, 0x80, 0xff} {
			tampered := bytes.Clone(request)
			tampered[i] ^= change
			x, err := k.Open(tampered)
			if err == nil {
				t.Errorf("byte %d changed by %#x: opened", i, change)
				continue
			}
			kinds[err]++
			if errors.Is(err, ErrCookie) {
				if answer := x.Echo(answerHeader()); len(answer) > len(tampered) {
					t.Errorf("byte %d: %d bytes answer %d", i, len(answer), len(tampered))
				}
			}
		}
	}
	if kinds[ErrBroken] == 0 || kinds[ErrCookie] < 3*(cookieLen-4) {
		t.Errorf("kinds of errors: %v", kinds)
	}
	for length := range len(request) {
		if _, err := k.Open(request[:length]); err == nil || errors.Is(err, ErrCookie) && length < len(request)-4 {
			t.Errorf("cut to %d bytes: %v", length, err)
		}
	}
	if _, err := k.Open(request); err != nil { // the control
		t.Error(err)
	}
}

func TestWhatIsNotNTS(t *testing.T) {
	k := openKeys(t)
	uniqueID := bytes.Repeat([]byte{5}, minUniqueID)
	for name, request := range map[string][]byte{
		"nothing": nil, "short": header()[:40], "plain": header(), "with a code": append(header(), make([]byte, 20)...),
		"a unique identifier alone": ntp.AppendField(header(), fieldUniqueID, uniqueID, 28),
		"another field":             ntp.AppendField(header(), 0x2222, uniqueID, 28),
	} {
		if _, err := k.Open(request); !errors.Is(err, ErrNone) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := paired(k)
	for name, change := range map[string]func(id, cookie, authenticator []byte) [][]byte{
		"no unique identifier":   func(id, cookie, a []byte) [][]byte { return [][]byte{cookie, a} },
		"two unique identifiers": func(id, cookie, a []byte) [][]byte { return [][]byte{id, id, cookie, a} },
		"no cookie":              func(id, cookie, a []byte) [][]byte { return [][]byte{id, a} },
		"two cookies":            func(id, cookie, a []byte) [][]byte { return [][]byte{id, cookie, cookie, a} },
		"no authenticator":       func(id, cookie, a []byte) [][]byte { return [][]byte{id, cookie} },
		"the cookie comes after": func(id, cookie, a []byte) [][]byte { return [][]byte{id, a, cookie} },
		"a short authenticator": func(id, cookie, a []byte) [][]byte {
			return [][]byte{id, cookie, {4, 4, 0, 16, 0, 16, 0, 16, 1, 2, 3, 4, 5, 6, 7, 8}}
		},
		"a short unique identity": func(id, cookie, a []byte) [][]byte { return [][]byte{{1, 4, 0, 20, 19: 1}, cookie, a} },
	} {
		id := ntp.AppendField(nil, fieldUniqueID, uniqueID, 0)
		cookie := ntp.AppendField(nil, fieldCookie, s.cookies[0], 0)
		request := header()
		for _, field := range change(id, cookie, nil) {
			if field == nil { // the authenticator, of what comes before it
				head := len(request)
				request = appendAuthenticator(request, make([]byte, nonceLen), 0)
				s.c2s.seal(&s.scratch, make([]byte, nonceLen), request[:head], request[len(request)-tagLen:])
				continue
			}
			request = append(request, field...)
		}
		if _, err := k.Open(request); !errors.Is(err, ErrBroken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestForgedAnswers: a session takes no answer but that to its last request, once.
func TestForgedAnswers(t *testing.T) {
	k := openKeys(t)
	s := paired(k)
	request, err := s.Seal(header())
	if err != nil {
		t.Fatal(err)
	}
	x, err := k.Open(request)
	if err != nil {
		t.Fatal(err)
	}
	answer := x.Seal(answerHeader())
	for i := range answer {
		tampered := bytes.Clone(answer)
		tampered[i] ^= 1
		if err := s.Open(tampered); !errors.Is(err, ErrForged) {
			t.Errorf("byte %d changed: %v", i, err)
		}
	}
	if err := s.Open(request); !errors.Is(err, ErrForged) {
		t.Errorf("the request itself: %v", err)
	}
	if err := s.Open(answer); err != nil { // the control
		t.Error(err)
	}
	if err := s.Open(answer); !errors.Is(err, ErrForged) {
		t.Errorf("a second time: %v", err)
	}
}

// FuzzOpen gives whole datagrams to both ends. Seeds are authentic; most of what is made of them is not.
func FuzzOpen(f *testing.F) {
	k := openKeys(f)
	s := paired(k)
	for _, cookies := range []int{8, 7, 3, 1} {
		s.cookies = s.cookies[:cookies]
		request, err := s.Seal(header())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(request)
		x, err := k.Open(request)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(x.Seal(answerHeader()))
		s = paired(k)
	}
	f.Add(header())
	f.Fuzz(func(t *testing.T, datagram []byte) {
		before := bytes.Clone(datagram)
		x, err := k.Open(datagram)
		var answer []byte
		switch {
		case err == nil:
			answer = x.Seal(answerHeader())
		case errors.Is(err, ErrCookie):
			answer = x.Echo(answerHeader())
		case !errors.Is(err, ErrNone) && !errors.Is(err, ErrBroken):
			t.Fatalf("an error of another kind: %v", err)
		}
		if len(answer) > len(datagram) {
			t.Fatalf("%d bytes answer %d", len(answer), len(datagram))
		}
		if !bytes.Equal(datagram, before) {
			t.Fatal("the request was changed")
		}
		session := paired(k)
		session.uniqueID = bytes.Repeat([]byte{5}, minUniqueID)
		if session.Open(datagram) == nil {
			t.Fatal("an answer to nothing was taken")
		}
	})
}

// FuzzExchange makes authentic requests of every form, those of RFC 8915 and others: if one is opened, its answer is authentic, fits, and brings a cookie at least.
func FuzzExchange(f *testing.F) {
	f.Add(uint16(32), uint8(7), uint16(cookieLen), uint8(16), uint8(0), uint16(0), uint8(0))
	f.Add(uint16(64), uint8(3), uint16(200), uint8(1), uint8(12), uint16(100), uint8(40))
	f.Add(uint16(33), uint8(40), uint16(12), uint8(4), uint8(8), uint16(512), uint8(0))
	k := openKeys(f)
	f.Fuzz(func(t *testing.T, uniqueIDLen uint16, placeholders uint8, placeholderLen uint16, nonceLength, padding uint8, encrypted uint16, trailing uint8) {
		if placeholderLen > 2000 || uniqueIDLen > 2000 || encrypted > 2000 {
			return
		}
		s := paired(k)
		s.uniqueID = bytes.Repeat([]byte{9}, (max(int(uniqueIDLen), 12)+3)&^3)
		request := ntp.AppendField(header(), fieldUniqueID, s.uniqueID, 0)
		request = ntp.AppendField(request, fieldCookie, s.cookies[0], 0)
		for range placeholders {
			request = ntp.AppendField(request, fieldPlaceholder, make([]byte, placeholderLen), 0)
		}
		nonce, sealed := bytes.Repeat([]byte{3}, int(nonceLength)), make([]byte, tagLen+int(encrypted))
		s.c2s.seal(&s.scratch, nonce, request, sealed)
		value := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, uint16(len(nonce))), uint16(len(sealed)))
		value = append(append(value, nonce...), make([]byte, -len(nonce)&3)...)
		value = append(append(value, sealed...), make([]byte, -len(sealed)&3)...)
		request = ntp.AppendField(request, fieldAuthenticator, append(value, make([]byte, padding)...), 0)
		request = append(request, make([]byte, trailing)...)

		want := int(uniqueIDLen) > minUniqueID-4 && nonceLength > 0 && encrypted <= maxEncrypted && (int(nonceLength)+3)&^3+(int(padding)+3)&^3 >= minNonce
		x, err := k.Open(request)
		if (err == nil) != want {
			t.Fatalf("opened: %v, want %v", err, want)
		}
		if err != nil {
			return
		}
		s.cookies = nil
		answer := x.Seal(answerHeader())
		if len(answer) > len(request) {
			t.Fatalf("%d bytes answer %d", len(answer), len(request))
		}
		if err := s.Open(answer); err != nil {
			t.Fatal(err)
		}
		asked := 1
		if placeholderLen > cookieLen-4 {
			asked = min(1+int(placeholders), maxCookies)
		}
		if s.Cookies() != asked {
			t.Fatalf("%d cookies, want %d", s.Cookies(), asked)
		}
	})
}

func TestNothingIsAllocated(t *testing.T) {
	k := openKeys(t)
	s := paired(k)
	s.cookies = s.cookies[:4]
	request, err := s.Seal(header())
	if err != nil {
		t.Fatal(err)
	}
	head := answerHeader()
	if n := testing.AllocsPerRun(1000, func() {
		x, err := k.Open(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = x.Seal(head)
	}); n >= 1 { // the pool may be emptied in between
		t.Errorf("%v allocations for a request", n)
	}
}

func BenchmarkExchange(b *testing.B) {
	k := openKeys(b)
	request, err := paired(k).Seal(header())
	if err != nil {
		b.Fatal(err)
	}
	head := answerHeader()
	b.ReportAllocs()
	for b.Loop() {
		x, err := k.Open(request)
		if err != nil {
			b.Fatal(err)
		}
		_ = x.Seal(head)
	}
}
