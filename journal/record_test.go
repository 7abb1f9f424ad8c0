package journal

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestLinesAreWhatTheEncoderWrites: a line that is put together from what was made before and after its turn is the event as JSON, and its checksum.
func TestLinesAreWhatTheEncoderWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.StringMatching(`[a-z0-9/.-]{0,20}`), rapid.String(), rapid.SampledFrom([]string{`"`, `\`, "<&>", "\x00\xff", "\u2028", "қала"}))
		e := Event{Sequence: rapid.Uint64().Draw(t, "sequence"), Type: DaemonStart, Severity: Info, Object: text.Draw(t, "object"), Organisation: text.Draw(t, "organisation"),
			Message: text.Draw(t, "message"), Fields: rapid.MapOfN(text, text, 0, 4).Draw(t, "fields")}
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
