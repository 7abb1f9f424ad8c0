package source

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shekara/timesync"
	"shekara/timesync/ntp"
)

// serve answers on a socket of its own, until the test ends: change has the answer's header, and returns the datagram; nil is no answer.
func serve(t *testing.T, change func(request ntp.Packet, h ntp.Header) []byte) (address string) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-done })
	go func() {
		defer close(done)
		buffer := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			now := time.Now()
			var p ntp.Packet
			if err := p.Parse(buffer[:n]); err != nil {
				t.Errorf("request: %v", err)
				continue
			}
			h := ntp.Header{Version: 4, Mode: ntp.Server, Stratum: 2, Precision: -20, RootDelay: ntp.ShortOf(4 * time.Millisecond), RootDispersion: ntp.ShortOf(time.Millisecond),
				ReferenceID: 0xc0000205, Reference: ntp.TimestampOf(now.Add(-time.Minute)), Origin: p.Transmit, Receive: ntp.TimestampOf(now), Transmit: ntp.TimestampOf(time.Now())}
			if answer := change(p, h); answer != nil {
				_, _ = conn.WriteTo(answer, from) // the test sees that nothing came
			}
		}
	}()
	return conn.LocalAddr().String()
}

func plainly(_ ntp.Packet, h ntp.Header) []byte { return h.Append(nil) }

// ask asks once, or until it is answered: a busy machine may be late.
func askOnce(t *testing.T, s timesync.Source, keyFile string) (answer, error) {
	t.Helper()
	e := &exchanger{source: s, keyFile: keyFile, certTime: time.Now}
	for range 10 {
		a, err := e.exchange(t.Context())
		if late := net.Error(nil); !errors.As(err, &late) || !late.Timeout() {
			return a, err
		}
	}
	return e.exchange(t.Context())
}

func TestExchange(t *testing.T) {
	address := serve(t, func(_ ntp.Packet, h ntp.Header) []byte {
		h.Receive, h.Transmit = h.Receive.Add(time.Hour), h.Transmit.Add(time.Hour)
		h.Leap = timesync.LeapInsert
		return h.Append(nil)
	})
	a, err := askOnce(t, timesync.Source{Address: address}, "")
	if err != nil {
		t.Fatal(err)
	}
	if (a.offset-time.Hour).Abs() > a.delay/2+a.dispersion+time.Millisecond || a.delay <= 0 || a.dispersion < time.Microsecond || time.Since(a.at) > time.Minute {
		t.Errorf("offset %s, delay %s, dispersion %s", a.offset, a.delay, a.dispersion)
	}
	got := []any{a.stratum, a.leap, a.referenceID, a.rootDelay.Round(time.Millisecond), a.rootDispersion.Round(time.Millisecond), a.peer.String(), a.local.String(), a.kiss, a.unserving}
	want := []any{uint8(2), timesync.LeapInsert, uint32(0xc0000205), 4 * time.Millisecond, time.Millisecond, "127.0.0.1", "127.0.0.1", "", nil}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestAnswersThatAreNone: what is refused as an answer, beside what is one and says that it is no use.
func TestAnswersThatAreNone(t *testing.T) {
	header := func(f func(*ntp.Header)) func(ntp.Packet, ntp.Header) []byte {
		return func(_ ntp.Packet, h ntp.Header) []byte { f(&h); return h.Append(nil) }
	}
	for name, c := range map[string]struct {
		answer    func(ntp.Packet, ntp.Header) []byte
		wrong     string // in the error
		kiss      string
		unserving string
	}{
		"control":            {answer: plainly},
		"another's":          {answer: header(func(h *ntp.Header) { h.Origin++ }), wrong: "didn't match"},
		"a request":          {answer: header(func(h *ntp.Header) { h.Mode = ntp.Client }), wrong: "mode"},
		"short":              {answer: func(_ ntp.Packet, h ntp.Header) []byte { return h.Append(nil)[:47] }, wrong: "invalid"},
		"precision of -128":  {answer: header(func(h *ntp.Header) { h.Precision = -128 }), wrong: "malformed answer"},
		"poll of -128":       {answer: header(func(h *ntp.Header) { h.Poll = -128 }), wrong: "malformed answer"},
		"not synchronised":   {answer: header(func(h *ntp.Header) { h.Leap = timesync.LeapUnknown }), unserving: "not synchronised"},
		"stratum 16":         {answer: header(func(h *ntp.Header) { h.Stratum = 16 }), unserving: "not synchronised"},
		"stratum 0, no kiss": {answer: header(func(h *ntp.Header) { h.Stratum, h.ReferenceID = 0, 0 }), unserving: "not synchronised"},
		"stop":               {answer: header(func(h *ntp.Header) { h.Stratum, h.ReferenceID = 0, ntp.KissDeny }), kiss: "DENY", unserving: "DENY"},
		"slower":             {answer: header(func(h *ntp.Header) { h.Stratum, h.ReferenceID = 0, ntp.KissRate }), kiss: "RATE", unserving: "RATE"},
		"set two days ago":   {answer: header(func(h *ntp.Header) { h.Reference = h.Transmit.Add(-48 * time.Hour) }), unserving: "fresh"},
		"set in the future":  {answer: header(func(h *ntp.Header) { h.Reference = h.Transmit.Add(time.Minute) }), unserving: "invalid time"},
		"dispersion of 17 s": {answer: header(func(h *ntp.Header) { h.RootDispersion = ntp.ShortOf(17 * time.Second) }), unserving: "dispersion"},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := askOnce(t, timesync.Source{Address: serve(t, c.answer)}, "")
			if (err != nil) != (c.wrong != "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
				t.Fatalf("error is %v, want %q", err, c.wrong)
			}
			if a.kiss != c.kiss || (a.unserving != nil) != (c.unserving != "") || a.unserving != nil && !strings.Contains(a.unserving.Error(), c.unserving) {
				t.Errorf("kiss %q, %v", a.kiss, a.unserving)
			}
		})
	}
}

func TestNobodyAnswers(t *testing.T) {
	silent := serve(t, func(ntp.Packet, ntp.Header) []byte { return nil })
	ctx, cancel := context.WithCancel(t.Context())
	e := &exchanger{source: timesync.Source{Address: silent}}
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := e.exchange(ctx); err == nil {
		t.Error("an exchange that was called off has an answer")
	}
	if _, err := askOnce(t, timesync.Source{Address: "no-such-name.invalid:123"}, ""); err == nil {
		t.Error("a name that is none has an answer")
	}
	if _, err := askOnce(t, timesync.Source{Address: silent}, ""); err == nil || isUnusable(err) {
		t.Errorf("silence is %v", err)
	}
}

func TestKeys(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(file, []byte("5 AES128 HEX:000102030405060708090a0b0c0d0e0f\n6 AES128 HEX:ff0102030405060708090a0b0c0d0e0f\n7 SHA1 HEX:000102030405060708090a0b0c0d0e0f\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := ntp.ReadKeys(file)
	if err != nil {
		t.Fatal(err)
	}
	address := serve(t, func(p ntp.Packet, h ntp.Header) []byte {
		key, err := keys.Find(p.KeyID())
		if err != nil {
			return h.Append(nil)
		}
		if key.ID == 6 {
			key, _ = keys.Find(5) // which the request was not authenticated with
		} else if !key.Verify(bytes.Clone(requestOf(p)), p.MAC) {
			t.Error("the request is not authenticated")
		}
		return key.AppendMAC(h.Append(nil))
	})
	for id, ok := range map[uint32]bool{5: true, 6: false, 7: true} {
		if a, err := askOnce(t, timesync.Source{Address: address, Key: id}, file); (err == nil) != ok || isUnusable(err) || ok && !strings.Contains(a.key, "key") {
			t.Errorf("key %d: %q, %v", id, a.key, err)
		}
	}
	plain := serve(t, plainly)
	if _, err := askOnce(t, timesync.Source{Address: plain, Key: 5}, file); err == nil || !strings.Contains(err.Error(), "not authenticated") {
		t.Errorf("an answer without a code: %v", err)
	}
	if _, err := askOnce(t, timesync.Source{Address: plain}, file); err != nil {
		t.Errorf("the control: %v", err)
	}
	if _, err := askOnce(t, timesync.Source{Address: plain, Key: 8}, file); !isUnusable(err) {
		t.Errorf("a key that is not there: %v", err)
	}
	if _, err := askOnce(t, timesync.Source{Address: plain, Key: 5}, file+"x"); !isUnusable(err) {
		t.Errorf("a file that is not there: %v", err)
	}
}

// requestOf is the header of a request, as it was before its code.
func requestOf(p ntp.Packet) []byte { return p.Header.Append(nil) }

func TestMemory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "time.json")
	if m, err := recall(file); err != nil || m != (memory{}) {
		t.Errorf("nothing is there: %+v, %v", m, err)
	}
	want := memory{Good: time.Date(2026, 11, 26, 9, 0, 0, 0, time.UTC), Drift: 3.5e-5}
	if err := want.keep(file); err != nil {
		t.Fatal(err)
	}
	if m, err := recall(file); err != nil || m != want {
		t.Errorf("%+v, %v", m, err)
	}
	for _, text := range []string{"", "{", `{"drift":-1}`, `{"drift":7}`, strings.Repeat(" ", maxMemory+1)} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if m, err := recall(file); err == nil || m != (memory{}) {
			t.Errorf("%.20q: %+v, %v", text, m, err)
		}
	}
}
