package server

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"shekara/netctl/datagram"
	"shekara/timesync"
	"shekara/timesync/ntp"
)

const keyFile = "1 AES128CMAC HEX:00112233445566778899AABBCCDDEEFF\n2 SHA1 HEX:000102030405060708090a0b0c0d0e0f10111213\n3 MD5 ASCII:insecure\n"

func at(text string) netip.Addr { return netip.MustParseAddr(text) }

func prefixes(texts ...string) (all []netip.Prefix) {
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

// inStep is a clock that is good, as of long ago, so that its dispersion does not grow while a test runs.
func inStep() timesync.Standing {
	now := time.Now()
	return timesync.Standing{State: timesync.Synchronised, Since: now, Stratum: 2, ReferenceID: 0xC0000201, ReferenceTime: now.Add(-time.Minute), RootDelay: 10 * time.Millisecond,
		RootDispersion: 2 * time.Millisecond, At: now.Add(time.Hour)}
}

// spec has a system for each way to authenticate.
func spec(t testing.TB) timesync.Spec {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, []byte(keyFile), 0o600); err != nil {
		t.Fatal(err)
	}
	return timesync.Spec{
		Name:      "main",
		KeyFile:   path,
		Addresses: []netip.Addr{at("127.0.0.1"), at("::1")},
		Clients: []timesync.Client{
			{System: "open", Prefixes: prefixes("192.0.2.0/24", "2001:db8::/32", "127.0.0.0/8", "::1/128")},
			{System: "keyed", Prefixes: prefixes("192.0.2.64/26"), Key: 1},
			{System: "secured", Prefixes: prefixes("198.51.100.0/24"), NTS: true},
		},
	}
}

// newTest is a worker without a socket.
func newTest(t testing.TB, o Options) *worker {
	t.Helper()
	if o.Standing == nil {
		o.Standing = inStep
	}
	s := New(o)
	if err := s.Set(spec(t)); err != nil {
		t.Fatal(err)
	}
	w := &worker{server: s}
	w.begin(time.Now())
	return w
}

// ask has a worker answer a request that came now.
func (w *worker) ask(from string, request []byte) []byte {
	answer, _ := w.answer(&datagram.Message{From: netip.AddrPortFrom(at(from), 4444), To: at("127.0.0.1"), At: time.Now(), Data: request, Whole: true}, make([]byte, 0, datagram.MaxLen))
	return answer
}

func parse(t testing.TB, datagram []byte) ntp.Packet {
	t.Helper()
	var p ntp.Packet
	if err := p.Parse(datagram); err != nil {
		t.Fatalf("%x: %v", datagram, err)
	}
	return p
}

func key(t testing.TB, id uint32) *ntp.Key {
	t.Helper()
	keys, err := ntp.ParseKeys([]byte(keyFile))
	if err != nil {
		t.Fatal(err)
	}
	k, err := keys.Find(id)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func request(version uint8) *ntp.Header {
	return &ntp.Header{Version: version, Mode: ntp.Client, Poll: 6, Precision: 32, Transmit: 0x1234567890abcdef}
}

func TestAnswerSaysTheStanding(t *testing.T) {
	for name, c := range map[string]struct {
		standing timesync.Standing
		want     ntp.Header
	}{
		"synchronised": {timesync.Standing{State: timesync.Synchronised, Leap: timesync.LeapInsert, Stratum: 3, ReferenceID: 7, ReferenceTime: time.Unix(1, 0), RootDelay: 1, RootDispersion: time.Second, At: time.Now().Add(time.Hour)},
			ntp.Header{Leap: timesync.LeapInsert, Stratum: 3, ReferenceID: 7, Reference: ntp.TimestampOfUnix(1, 0), RootDelay: 1, RootDispersion: 1 << 16}},
		"holdover": {timesync.Standing{State: timesync.Holdover, Stratum: 3, ReferenceID: 7, RootDispersion: time.Second, Drift: 1, At: time.Now().Add(-10 * time.Second)},
			ntp.Header{Stratum: 3, ReferenceID: 7, RootDispersion: 11 << 16}},
		"unsynchronised": {timesync.Standing{State: timesync.Unsynchronised, Stratum: 3, ReferenceID: 7, RootDelay: time.Second},
			ntp.Header{Leap: timesync.LeapUnknown, Stratum: 16, RootDelay: 1 << 16}},
	} {
		for _, version := range []uint8{3, 4} {
			w := newTest(t, Options{Standing: func() timesync.Standing { return c.standing }})
			before := ntp.TimestampOf(time.Now())
			got := parse(t, w.ask("192.0.2.1", request(version).Append(nil))).Header
			after := ntp.TimestampOf(time.Now())
			if got.Receive < before || got.Transmit < got.Receive || got.Transmit > after {
				t.Errorf("%s: received %d and sent %d ns after the request, of %d", name, got.Receive.Sub(before), got.Transmit.Sub(before), after.Sub(before))
			}
			want := c.want
			want.Version, want.Mode, want.Poll, want.Precision, want.Origin = version, ntp.Server, 6, w.server.precision, 0x1234567890abcdef
			if name == "holdover" { // it grows
				if got.RootDispersion < want.RootDispersion || got.RootDispersion > want.RootDispersion+600<<16 {
					t.Errorf("%s: dispersion %s", name, got.RootDispersion.Duration())
				}
				got.RootDispersion = want.RootDispersion
			}
			got.Receive, got.Transmit = 0, 0
			if name == "unsynchronised" {
				want.Reference, got.RootDispersion = 0, 0
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
	}
}

func TestUnsynchronisedMayBeSilent(t *testing.T) {
	state := timesync.Unsynchronised
	w := newTest(t, Options{Standing: func() timesync.Standing { s := inStep(); s.State = state; return s }})
	withheld := spec(t)
	withheld.Withhold = true
	if err := w.server.Set(withheld); err != nil {
		t.Fatal(err)
	}
	for state, silent := range map[timesync.State]bool{timesync.Unsynchronised: true, timesync.Holdover: false, timesync.Synchronised: false} {
		w.server.options.Standing = func() timesync.Standing { s := inStep(); s.State = state; return s }
		w.begin(time.Now())
		if got := w.ask("192.0.2.1", request(4).Append(nil)); (got == nil) != silent {
			t.Errorf("%s: %x", state, got)
		}
	}
	if w.counts.Withheld != 1 || w.counts.Served != 2 {
		t.Errorf("%+v", w.counts)
	}
}

func TestWhoIsAnswered(t *testing.T) {
	plain := request(4).Append(nil)
	mode := func(m ntp.Mode) []byte { h := request(4); h.Mode = m; return h.Append(nil) }
	damaged := key(t, 1).AppendMAC(bytes.Clone(plain))
	damaged[len(damaged)-1]++
	for name, c := range map[string]struct {
		from, to string
		request  []byte
		answered int // bytes
		count    func(*Counters) *uint64
	}{
		"registered":                       {"192.0.2.1", "127.0.0.1", plain, 48, func(c *Counters) *uint64 { return &c.Served }},
		"registered, IPv6":                 {"2001:db8::1", "::1", plain, 48, func(c *Counters) *uint64 { return &c.Served }},
		"version 3":                        {"192.0.2.1", "127.0.0.1", request(3).Append(nil), 48, func(c *Counters) *uint64 { return &c.Served }},
		"with a key it need not have":      {"192.0.2.1", "127.0.0.1", key(t, 2).AppendMAC(bytes.Clone(plain)), 72, func(c *Counters) *uint64 { return &c.Keyed }},
		"with its key":                     {"192.0.2.65", "127.0.0.1", key(t, 1).AppendMAC(bytes.Clone(plain)), 68, func(c *Counters) *uint64 { return &c.Keyed }},
		"with unknown fields":              {"192.0.2.1", "127.0.0.1", ntp.AppendField(bytes.Clone(plain), 0x7777, nil, 28), 48, func(c *Counters) *uint64 { return &c.Served }},
		"a stranger":                       {"203.0.113.1", "127.0.0.1", plain, 0, func(c *Counters) *uint64 { return &c.Refused }},
		"a stranger, IPv6":                 {"2001:db9::1", "::1", plain, 0, func(c *Counters) *uint64 { return &c.Refused }},
		"at an address that is not served": {"192.0.2.1", "127.0.0.2", plain, 0, func(c *Counters) *uint64 { return &c.Refused }},
		"without its key":                  {"192.0.2.65", "127.0.0.1", plain, 0, func(c *Counters) *uint64 { return &c.Unauthenticated }},
		"with another's key":               {"192.0.2.65", "127.0.0.1", key(t, 2).AppendMAC(bytes.Clone(plain)), 52, func(c *Counters) *uint64 { return &c.Unauthenticated }},
		"with a wrong code":                {"192.0.2.65", "127.0.0.1", damaged, 52, func(c *Counters) *uint64 { return &c.Unauthenticated }},
		"with an unknown key":              {"192.0.2.1", "127.0.0.1", append(bytes.Clone(plain), make([]byte, 20)...), 52, func(c *Counters) *uint64 { return &c.Unauthenticated }},
		"without NTS":                      {"198.51.100.1", "127.0.0.1", plain, 0, func(c *Counters) *uint64 { return &c.Unauthenticated }},
		"by a key instead of NTS":          {"198.51.100.1", "127.0.0.1", key(t, 1).AppendMAC(bytes.Clone(plain)), 0, func(c *Counters) *uint64 { return &c.Unauthenticated }},
		"mode 0":                           {"192.0.2.1", "127.0.0.1", mode(0), 0, func(c *Counters) *uint64 { return &c.OtherMode }},
		"mode 1":                           {"192.0.2.1", "127.0.0.1", mode(1), 0, func(c *Counters) *uint64 { return &c.OtherMode }},
		"an answer":                        {"192.0.2.1", "127.0.0.1", mode(4), 0, func(c *Counters) *uint64 { return &c.OtherMode }},
		"mode 5":                           {"192.0.2.1", "127.0.0.1", mode(5), 0, func(c *Counters) *uint64 { return &c.OtherMode }},
		"ntpq":                             {"192.0.2.1", "127.0.0.1", []byte{0x16, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}, 0, func(c *Counters) *uint64 { return &c.OtherMode }},
		"monlist":                          {"192.0.2.1", "127.0.0.1", []byte{0x17, 0, 3, 42, 0, 0, 0, 0}, 0, func(c *Counters) *uint64 { return &c.OtherMode }},
		"version 2":                        {"192.0.2.1", "127.0.0.1", request(2).Append(nil), 0, func(c *Counters) *uint64 { return &c.Malformed }},
		"cut":                              {"192.0.2.1", "127.0.0.1", plain[:47], 0, func(c *Counters) *uint64 { return &c.Malformed }},
		"empty":                            {"192.0.2.1", "127.0.0.1", nil, 0, func(c *Counters) *uint64 { return &c.Malformed }},
		"a crypto-NAK":                     {"192.0.2.1", "127.0.0.1", append(bytes.Clone(plain), 0, 0, 0, 0), 0, func(c *Counters) *uint64 { return &c.Malformed }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTest(t, Options{})
			answer, stamp := w.answer(&datagram.Message{From: netip.AddrPortFrom(at(c.from), 123), To: at(c.to), At: time.Now(), Data: c.request, Whole: true}, make([]byte, 0, 100))
			if len(answer) != c.answered || stamp {
				t.Errorf("answered %x, stamp %v", answer, stamp)
			}
			if *c.count(&w.counts) != 1 || w.counts.Received != 1 || w.counts.BytesIn != uint64(len(c.request)) || w.counts.BytesOut != uint64(len(answer)) {
				t.Errorf("%+v", w.counts)
			}
			if len(answer) > len(c.request) {
				t.Errorf("%d bytes in, %d out", len(c.request), len(answer))
			}
			if answer == nil {
				return
			}
			p := parse(t, answer)
			switch len(answer) {
			case 52:
				if p.Kiss() != "CRYP" || p.KeyID() != 0 || p.Leap != timesync.LeapUnknown {
					t.Errorf("%+v", p)
				}
			case 68, 72:
				if k := key(t, p.KeyID()); !k.Verify(answer[:48], p.MAC) {
					t.Error("the answer does not verify")
				}
				fallthrough
			default:
				if p.Stratum != 2 || p.Mode != ntp.Server {
					t.Errorf("%+v", p)
				}
			}
		})
	}
}

func TestADatagramCutIsMalformed(t *testing.T) {
	w := newTest(t, Options{})
	m := &datagram.Message{From: netip.AddrPortFrom(at("192.0.2.1"), 123), To: at("127.0.0.1"), At: time.Now(), Data: request(4).Append(nil)}
	if answer, _ := w.answer(m, nil); answer != nil || w.counts.Malformed != 1 {
		t.Errorf("%x, %+v", answer, w.counts)
	}
}

// TestLimit has one client ask too often: it is told now and then, and another is served meanwhile.
func TestLimit(t *testing.T) {
	w := newTest(t, Options{Every: time.Second, Burst: 5})
	began := time.Now()
	served, kisses := 0, 0
	for step := range 100 { // 10 seconds
		w.begin(began.Add(time.Duration(step) * 100 * time.Millisecond))
		if answer := w.ask("192.0.2.1", request(4).Append(nil)); answer != nil {
			if p := parse(t, answer); p.Kiss() == "RATE" {
				kisses++
				if p.Leap != timesync.LeapUnknown || p.Origin != request(4).Transmit || p.Transmit != p.Origin || p.Receive != p.Origin {
					t.Errorf("%+v", p)
				}
			} else {
				served++
			}
		}
		if step%10 == 0 {
			if answer := w.ask("192.0.2.2", request(4).Append(nil)); answer == nil || parse(t, answer).Stratum == 0 {
				t.Errorf("another is not served at step %d: %x", step, answer)
			}
		}
	}
	if served != 5+9 || kisses != 3 || w.counts.Limited != 86 || w.counts.Kissed != 3 {
		t.Errorf("%d served, %d kisses, %+v", served, kisses, w.counts)
	}
	// Who must authenticate does not pay for those that bear its address only.
	for range 100 {
		w.ask("192.0.2.65", request(4).Append(nil))
		w.ask("192.0.2.65", append(request(4).Append(nil), make([]byte, 20)...))
	}
	if answer := w.ask("192.0.2.65", key(t, 1).AppendMAC(request(4).Append(nil))); parse(t, answer).Stratum != 2 {
		t.Errorf("%x", answer)
	}
	for range 5 {
		w.ask("192.0.2.65", key(t, 1).AppendMAC(request(4).Append(nil)))
	}
	w.begin(began.Add(time.Minute + 20*time.Second))
	for range 6 {
		if answer := w.ask("192.0.2.65", key(t, 1).AppendMAC(request(4).Append(nil))); answer != nil {
			p := parse(t, answer)
			if !key(t, 1).Verify(answer[:48], p.MAC) {
				t.Errorf("%x is not authenticated", answer)
			}
			kisses += map[bool]int{true: 1}[p.Kiss() == "RATE"]
		}
	}
	if kisses != 4 {
		t.Errorf("%d kisses", kisses)
	}
}

// TestInterleaved goes through RFC 9769: the second answer tells when the first left, as the kernel said.
func TestInterleaved(t *testing.T) {
	w := newTest(t, Options{})
	ask := func(h *ntp.Header) (ntp.Header, bool) {
		answer, stamp := w.answer(&datagram.Message{From: netip.AddrPortFrom(at("192.0.2.1"), 4444), To: at("127.0.0.1"), At: time.Now(), Data: h.Append(nil), Whole: true}, nil)
		return parse(t, answer).Header, stamp
	}
	first, stamp := ask(&ntp.Header{Version: 4, Mode: ntp.Client, Transmit: 100})
	if first.Origin != 100 || stamp {
		t.Fatalf("basic: %+v, stamp %v", first, stamp)
	}
	second, stamp := ask(&ntp.Header{Version: 4, Mode: ntp.Client, Origin: first.Receive, Receive: 101, Transmit: 102})
	if second.Origin != 101 || second.Transmit != first.Transmit || second.Receive <= first.Receive || !stamp {
		t.Fatalf("interleaved: %+v after %+v, stamp %v", second, first, stamp)
	}
	left := time.Now()
	w.left(w.departed-1, left)
	third, stamp := ask(&ntp.Header{Version: 4, Mode: ntp.Client, Origin: second.Receive, Receive: 103, Transmit: 104})
	if third.Origin != 103 || third.Transmit != ntp.TimestampOf(left) || !stamp {
		t.Fatalf("interleaved: %+v, want it to say %v, stamp %v", third, ntp.TimestampOf(left), stamp)
	}
	if c := w.server.Clients(); len(c) != 1 || !c[0].Interleaved || w.counts.Interleaved != 2 {
		t.Errorf("%+v", c)
	}
	// A time of leaving that comes late is not taken for that of another answer.
	late := w.departed - 1
	fourth, stamp := ask(&ntp.Header{Version: 4, Mode: ntp.Client, Origin: 99, Receive: 105, Transmit: 106})
	if fourth.Origin != 106 || stamp {
		t.Fatalf("one that brings back what it never got: %+v, stamp %v", fourth, stamp)
	}
	w.left(late, left)
	w.left(late-awaited, left)
	if fifth, _ := ask(&ntp.Header{Version: 4, Mode: ntp.Client, Origin: fourth.Receive, Receive: 107, Transmit: 108}); fifth.Transmit != fourth.Transmit {
		t.Errorf("%+v after %+v", fifth, fourth)
	}
	// What has the same number twice is no request in interleaved mode.
	sixth, _ := ask(&ntp.Header{Version: 4, Mode: ntp.Client})
	if seventh, stamp := ask(&ntp.Header{Version: 4, Mode: ntp.Client, Origin: sixth.Receive, Receive: 109, Transmit: 109}); seventh.Origin != 109 || stamp {
		t.Errorf("%+v", seventh)
	}
}

// TestTransmitIsOfTheLastMoment has what is not authenticated say when the whole batch leaves.
func TestTransmitIsOfTheLastMoment(t *testing.T) {
	w := newTest(t, Options{})
	plain, keyed := w.ask("192.0.2.1", request(4).Append(nil)), w.ask("192.0.2.2", key(t, 1).AppendMAC(request(4).Append(nil)))
	before := parse(t, keyed).Transmit
	later := time.Now().Add(time.Minute)
	w.leave(later)
	if got := parse(t, plain); got.Transmit != ntp.TimestampOf(later) || got.Origin != request(4).Transmit {
		t.Errorf("%+v", got)
	}
	if p := parse(t, keyed); p.Transmit != before || !key(t, 1).Verify(keyed[:48], p.MAC) {
		t.Errorf("%+v", p)
	}
	w.leave(later.Add(time.Minute))
	if got := parse(t, plain); got.Transmit != ntp.TimestampOf(later) {
		t.Errorf("written once more: %+v", got)
	}
}

func TestOffsetOfAClientThatTellsItsTime(t *testing.T) {
	w := newTest(t, Options{})
	tell := func(transmit ntp.Timestamp) Client {
		t.Helper()
		w.ask("192.0.2.1", (&ntp.Header{Version: 4, Mode: ntp.Client, Transmit: transmit}).Append(nil))
		return w.server.Clients()[0]
	}
	now := func() ntp.Timestamp { return ntp.TimestampOf(time.Now()) }
	open := func() System {
		systems := w.server.Systems()
		return systems[slices.IndexFunc(systems, func(s System) bool { return s.Name == "open" })]
	}
	if c := tell(now().Add(-time.Hour)); c.OffsetKnown || !open().OffsetAt.IsZero() {
		t.Errorf("of one request: %+v, %+v", c, open())
	}
	if c := tell(now().Add(-time.Hour)); !c.OffsetKnown || (c.Offset+time.Hour).Abs() > 30*time.Second {
		t.Errorf("of two that agree: %+v", c)
	}
	if c := tell(0x1234567890abcdef); c.OffsetKnown || c.Offset != 0 {
		t.Errorf("of a random number: %+v", c)
	}
	if c := tell(0xabcdef1234567890); c.OffsetKnown {
		t.Errorf("of another: %+v", c)
	}
	if s := open(); (s.Offset+time.Hour).Abs() > 30*time.Second || s.OffsetAt.IsZero() || s.OffsetAt.After(s.LastSeen) {
		t.Errorf("of its system: %+v", s)
	}
}

func TestClientsAndSystems(t *testing.T) {
	w := newTest(t, Options{Every: time.Hour, Burst: 2})
	before := time.Now()
	for range 3 {
		w.ask("192.0.2.1", request(4).Append(nil))
	}
	w.ask("192.0.2.2", key(t, 2).AppendMAC(request(3).Append(nil)))
	w.ask("192.0.2.65", request(4).Append(nil))
	w.ask("203.0.113.1", request(4).Append(nil))
	got := w.server.Clients()
	for i := range got {
		if got[i].LastSeen.Before(before) || got[i].LastSeen.After(time.Now()) {
			t.Errorf("%+v", got[i])
		}
		got[i].LastSeen = time.Time{}
		got[i].Offset, got[i].OffsetKnown = 0, false // the same number thrice agrees with itself
	}
	want := []Client{
		{Address: at("203.0.113.1"), Refused: 1, Version: 4},
		{System: "keyed", Address: at("192.0.2.65"), Refused: 1, Version: 4},
		{System: "open", Address: at("192.0.2.1"), Served: 2, Limited: 1, Version: 4},
		{System: "open", Address: at("192.0.2.2"), Served: 1, Version: 3, Key: 2},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	systems := w.server.Systems()
	for i := range systems {
		if systems[i].LastSeen.IsZero() != (systems[i].Name == "secured") {
			t.Errorf("%+v", systems[i])
		}
		systems[i].LastSeen, systems[i].Offset, systems[i].OffsetAt = time.Time{}, 0, time.Time{}
	}
	if diff := cmp.Diff([]System{{Name: "keyed", Refused: 1}, {Name: "open", Served: 3, Limited: 1}, {Name: "secured"}}, systems); diff != "" {
		t.Error(diff)
	}
}

func TestKeysThatCannotBeUsed(t *testing.T) {
	w := newTest(t, Options{})
	s := spec(t)
	s.Clients[1].Key = 3
	err := w.server.Set(s)
	if err == nil || err.Error() != "system keyed is refused: key 3 is of type MD5, which is not used: make one of type AES128CMAC (MD5 is forbidden by RFC 8573)" {
		t.Error(err)
	}
	w.begin(time.Now())
	if got := w.ask("192.0.2.65", key(t, 1).AppendMAC(request(4).Append(nil))); len(got) == 68 {
		t.Errorf("%x", got)
	}
	if got := w.ask("192.0.2.1", request(4).Append(nil)); got == nil {
		t.Error("others are not served")
	}
	s.KeyFile = filepath.Join(t.TempDir(), "none")
	if err := w.server.Set(s); err == nil {
		t.Error("a file that is not there was read")
	}
	w.begin(time.Now())
	if got := w.ask("192.0.2.65", key(t, 1).AppendMAC(request(4).Append(nil))); len(got) == 68 {
		t.Errorf("%x", got)
	}
}

// TestTableForgetsWhoWasNotSeenForLongest holds the table against a list.
func TestTableForgetsWhoWasNotSeenForLongest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(1, 4).Draw(t, "most")
		table := newTable(most * shards)
		lists := map[*shard][]netip.Addr{}
		for range rapid.IntRange(0, 400).Draw(t, "steps") {
			address := netip.AddrFrom4([4]byte{192, 0, 2, byte(rapid.IntRange(0, 200).Draw(t, "address"))})
			e, mutex := table.enter(address)
			if e.address != address.As16() {
				t.Fatalf("%s is entered as %v", address, e.address)
			}
			e.served++
			mutex.Unlock()
			var in *shard
			for i := range table.shards {
				if mutex == &table.shards[i].mutex {
					in = &table.shards[i]
				}
			}
			list := slices.DeleteFunc(lists[in], func(a netip.Addr) bool { return a == address })
			list = append(list, address)
			lists[in] = list[max(0, len(list)-most):]
		}
		var want, got []netip.Addr
		for _, list := range lists {
			want = append(want, list...)
		}
		for _, c := range table.clients() {
			got = append(got, c.Address)
		}
		slices.SortFunc(want, netip.Addr.Compare)
		slices.SortFunc(got, netip.Addr.Compare)
		if !slices.Equal(want, got) {
			t.Fatalf("knows %v, want %v", got, want)
		}
	})
}

func TestProcessors(t *testing.T) {
	for machine, want := range map[int]int{1: 1, 2: 1, 3: 1, 8: 4} {
		if got := Processors(machine); got != want {
			t.Errorf("of %d: %d, want %d", machine, got, want)
		}
	}
}

func TestLongestPrefix(t *testing.T) {
	p, err := compile(timesync.Spec{Clients: []timesync.Client{
		{System: "all", Prefixes: prefixes("0.0.0.0/0")},
		{System: "net", Prefixes: prefixes("192.0.2.7/24", "2001:db8::/32")},
		{System: "host", Prefixes: prefixes("192.0.2.1/32", "2001:db8::1/128")},
		{System: "second", Prefixes: prefixes("192.0.2.0/24")},
	}}, func(system string) *tally { return &tally{name: system} })
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]string{"192.0.2.1": "host", "192.0.2.2": "net", "198.51.100.1": "all", "2001:db8::1": "host", "2001:db8::2": "net", "2001:db9::1": ""} {
		got := ""
		if r := p.find(at(address)); r != nil {
			got = r.tally.name
		}
		if got != want {
			t.Errorf("%s is %q, want %q", address, got, want)
		}
	}
}

func TestNothingAllocates(t *testing.T) {
	w := newTest(t, Options{Every: 1, Burst: 1 << 30})
	room := make([]byte, 0, datagram.MaxLen)
	plain := request(4).Append(nil)
	for name, c := range map[string]struct {
		from    string
		request []byte
	}{
		"plain":      {"192.0.2.1", plain},
		"keyed":      {"192.0.2.65", key(t, 1).AppendMAC(bytes.Clone(plain))},
		"SHA1":       {"192.0.2.1", key(t, 2).AppendMAC(bytes.Clone(plain))},
		"wrong code": {"192.0.2.65", key(t, 2).AppendMAC(bytes.Clone(plain))},
		"stranger":   {"203.0.113.1", plain},
		"malformed":  {"192.0.2.1", plain[:40]},
	} {
		m := &datagram.Message{From: netip.AddrPortFrom(at(c.from), 4444), To: at("127.0.0.1"), At: time.Now(), Data: c.request, Whole: true}
		if n := testing.AllocsPerRun(200, func() {
			w.begin(time.Now())
			w.answer(m, room)
			w.server.counters.add(&w.counts)
		}); n > 0.5 { // a pool may be emptied by the garbage collector
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// FuzzAnswer sends anything from anywhere: no answer is longer than its request, none goes to whom none is due, and every answer is one.
func FuzzAnswer(f *testing.F) {
	plain := request(4).Append(nil)
	f.Add(plain, byte(0))
	f.Add(request(3).Append(nil), byte(0))
	f.Add(key(f, 1).AppendMAC(bytes.Clone(plain)), byte(1))
	f.Add(key(f, 2).AppendMAC(bytes.Clone(plain)), byte(0))
	f.Add(ntp.AppendField(ntp.AppendField(bytes.Clone(plain), 0x0104, make([]byte, 32), 0), 0x0204, make([]byte, 100), 0), byte(2))
	f.Add([]byte{0x16, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}, byte(0))
	from := []string{"192.0.2.1", "192.0.2.65", "198.51.100.1", "203.0.113.1", "2001:db8::1"}
	w := newTest(f, Options{Every: 1, Burst: 1 << 30})
	f.Fuzz(func(t *testing.T, data []byte, who byte) {
		w.begin(time.Now())
		who %= byte(len(from))
		m := &datagram.Message{From: netip.AddrPortFrom(at(from[who]), 4444), To: at("127.0.0.1"), At: time.Now(), Data: data[:min(len(data), datagram.MaxLen)], Whole: len(data) <= datagram.MaxLen}
		answer, _ := w.answer(m, make([]byte, 0, datagram.MaxLen))
		if answer == nil {
			return
		}
		if len(answer) > len(data) || who == 3 {
			t.Fatalf("%d bytes in, %d out to %s", len(data), len(answer), from[who])
		}
		var asked ntp.Packet
		if err := asked.Parse(data); err != nil || asked.Mode != ntp.Client {
			t.Fatalf("%+v was answered (%v)", asked, err)
		}
		if p := parse(t, answer); p.Mode != ntp.Server || p.Version != asked.Version || p.Origin != asked.Transmit && p.Origin != asked.Receive {
			t.Fatalf("%+v answers %+v", p, asked)
		}
	})
}
