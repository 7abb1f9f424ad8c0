package journal

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestLinesAreWhatTheEncoderWrites: a line that is put together from what was made before and after its turn is the event as JSON, and its checksum.
func TestLinesAreWhatTheEncoderWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.StringMatching(`[a-z0-9/.-]{0,20}`), rapid.String(), rapid.SampledFrom([]string{`"`, `\`, "<&>", "\x00\xff", "\u2028", "қала", "\x7f", "\ufffd", "a\u2029"}))
		second := rapid.Int64Range(0, 253402300799) // to the end of the year 9999
		e := Event{Sequence: rapid.Uint64().Draw(t, "sequence"), Time: time.Unix(second.Draw(t, "second"), rapid.Int64Range(0, 1e9-1).Draw(t, "nanosecond")).UTC(),
			ClockErrorMicroseconds: rapid.Int64().Draw(t, "error"), Type: DaemonStart, Severity: Info, Actor: Actor{rapid.Uint32().Draw(t, "uid"), text.Draw(t, "user"), rapid.Int32().Draw(t, "pid")}, Object: text.Draw(t, "object"), Organisation: text.Draw(t, "organisation"),
			Systems: rapid.SliceOfN(text, 0, 3).Draw(t, "systems"), Message: text.Draw(t, "message"), Fields: rapid.MapOfN(text, text, 0, 4).Draw(t, "fields")}
		for range rapid.IntRange(0, 3).Draw(t, "links") {
			e.Links = append(e.Links, Link{text.Draw(t, "of"), rapid.Uint64().Draw(t, "number"), rapid.StringMatching(`[A-Za-z0-9+/]{0,43}=?`).Draw(t, "before")})
		}
		plain, err := encodeJSON(e)
		if err != nil {
			t.Fatal(err)
		}
		line, err := encode(e)
		if err != nil {
			t.Fatal(err)
		}
		if rest, err := encodeRest(e); err != nil || len(line) > longestLine(rest, e.Links) {
			t.Errorf("%d bytes are more than %d, the most (%v)", len(line), longestLine(rest, e.Links), err)
		}
		body, sum, _ := strings.Cut(string(line[len(plain)-1:]), crcBegins)
		if string(line[:len(plain)-1]) != string(plain[:len(plain)-1]) || body != "" || len(sum) != 8+len(crcEnds) {
			t.Errorf("%s is written as\n%s", plain, line)
		}
		if e.Sequence == 0 {
			return
		}
		if _, summed, err := decode(line); err != nil || !summed {
			t.Errorf("%s: %v", line, err)
		}
	})
}

// FuzzScan: what is read in the quick way is what encoding/json reads.
func FuzzScan(f *testing.F) {
	e := Event{Sequence: 7, Time: time.Date(2026, 11, 26, 4, 22, 5, 123456789, time.UTC), ClockErrorMicroseconds: 250, Type: ConnectionEnd, Severity: Info, Actor: Actor{UID: 1000, User: "айгүл", PID: 77},
		Object: "tunnel/agency-a", Organisation: "agency-a", Systems: []string{"registry", "tax"}, Message: "ended", Fields: map[string]string{"a": "1", "b": "<&>"},
		Links: []Link{{Of: "tunnel/agency-a", Number: 3, Before: "AAAA"}, {Of: "organisation/agency-a", Number: 1}}}
	for _, change := range []func(){func() {}, func() { e.Message = "with \"quotes\"" }, func() { e.Message, e.Actor, e.Links = "", Actor{}, nil }, func() { e.Fields, e.Object, e.Systems = nil, "", nil }} {
		change()
		line, err := encode(e)
		if err != nil {
			f.Fatal(err)
		}
		if _, quick := scan(line); quick == bytes.Contains(line, []byte(`\`)) {
			f.Fatalf("%s is read in the quick way: %t", line, quick)
		}
		f.Add(line)
		f.Add(line[:len(line)-crcBytes])
		f.Add(append(line[:len(line)-crcBytes:len(line)-crcBytes], '}'))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		quick, ok := scan(line)
		if !ok {
			return
		}
		var slow Event
		if err := json.Unmarshal(line, &slow); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if diff := cmp.Diff(slow, quick); diff != "" {
			t.Errorf("%q: %s", line, diff)
		}
	})
}
