package journal

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/note"
)

// of is an event of one of three tunnels, two of which belong to one organisation; each fourth is nobody's.
func of(n int) Event {
	e := Event{Type: TunnelState, Severity: Notice, Object: fmt.Sprintf("tunnel/t%d", n%4), Organisation: map[int]string{0: "a", 1: "a", 2: "b"}[n%4], Message: fmt.Sprint(n)}
	if n%4 == 3 {
		e.Object = "filter"
	}
	return e
}

// linked is a signed journal of several files with so many events.
func linked(t *testing.T, dir string, from, events int) {
	t.Helper()
	j, err := open(dir, signer(t), 4<<10, realDisk())
	if err != nil {
		t.Fatal(err)
	}
	for n := range events {
		mustAppend(t, j, of(from+n))
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

// mustBeLinked demands that both verifiers find the journal whole, and that each tunnel's and organisation's records are all linked.
func mustBeLinked(t *testing.T, dir string, events int) {
	t.Helper()
	if got := verified(t, dir); !got.Whole() {
		t.Errorf("%+v", got.Findings)
	}
	audited(t, dir)
	for partition, want := range map[string]int{"tunnel/t0": events / 4, "tunnel/t1": events / 4, "tunnel/t2": events / 4, "organisation/a": events / 2, "organisation/b": events / 4} {
		data := exported(t, dir, partition)
		p, err := VerifyPartition(t.Context(), bytes.NewReader(data), verifiersOf(t))
		if err != nil || !p.Whole() || !p.Proved || p.Records != want || p.First != 1 || p.Last != uint64(want) || p.Of != partition {
			t.Errorf("%s: %+v, %v", partition, p, err)
		}
		if records, _, err := auditPartition(data); err != nil || records != uint64(want) {
			t.Errorf("%s: the second verifier comes to %d records, %v", partition, records, err)
		}
	}
}

func verifiersOf(t testing.TB) note.Verifiers {
	t.Helper()
	_, v := keys(t)
	return v
}

func exported(t testing.TB, dir, partition string) []byte {
	t.Helper()
	var out bytes.Buffer
	if _, err := Export(context.Background(), dir, partition, &out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestLinks: they go on through files and restarts, whether or not the file that spares the start from reading everything is there, is old, or is another journal's.
func TestLinks(t *testing.T) {
	const each = 80
	other := t.TempDir()
	linked(t, other, 1, 5*each)
	foreign, err := os.ReadFile(filepath.Join(other, linksName))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	linked(t, dir, 0, each)
	old, err := os.ReadFile(filepath.Join(dir, linksName))
	if err != nil {
		t.Fatal(err)
	}
	events := each
	for name, content := range map[string][]byte{"absent": nil, "old": old, "damaged": append(bytes.Clone(old[:len(old)-10]), "0123456789"...), "another journal's": foreign, "empty": {}} {
		path := filepath.Join(dir, linksName)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if content != nil {
			if err := os.WriteFile(path, content, 0o640); err != nil {
				t.Fatal(err)
			}
		}
		linked(t, dir, events, each)
		events += each
		t.Run(name, func(t *testing.T) { mustBeLinked(t, dir, events) })
	}
}

// TestLinksAreBuiltFromTheFileAndTheNewestRecords: the file alone makes the state of all but the newest files, so that a start need not read them.
func TestLinksAreBuiltFromTheFileAndTheNewestRecords(t *testing.T) {
	dir := t.TempDir()
	linked(t, dir, 0, 400)
	firsts, err := segments(dir)
	if err != nil || len(firsts) < 4 {
		t.Fatal(firsts, err)
	}
	want := map[string]chain{}
	if err := scanLinksOf(dir, firsts[:len(firsts)-1], want); err != nil {
		t.Fatal(err)
	}
	for _, first := range firsts[:len(firsts)-1] {
		if err := os.WriteFile(filepath.Join(dir, segmentName(first)), nil, 0o640); err != nil { // root may
			t.Fatal(err)
		}
	}
	got, saved, err := linksBefore(dir, firsts)
	if diff := cmp.Diff(want, got); diff != "" || !saved || err != nil || len(got) != 5 {
		t.Errorf("%v, %v\n%s", saved, err, diff)
	}
}

// TestJournalWithoutLinksGoesOn: records of before are linked to nothing, and are not taken for a gap.
func TestJournalWithoutLinksGoesOn(t *testing.T) {
	dir := t.TempDir()
	var lines []byte
	for n := range 8 {
		e := of(n)
		e.Sequence, e.Time, e.Organisation = uint64(n+1), time.Unix(int64(n), 0).UTC(), ""
		line, err := encode(e)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(append(lines, line...), '\n')
	}
	if err := os.WriteFile(filepath.Join(dir, segmentName(1)), lines, 0o640); err != nil {
		t.Fatal(err)
	}
	linked(t, dir, 0, 80)
	mustBeLinked(t, dir, 80)
}

// TestLinksOfWhatWasRefused: a record that is not on disk takes no number.
func TestLinksOfWhatWasRefused(t *testing.T) {
	dir, fail := t.TempDir(), true
	j, err := open(dir, signer(t), 1<<20, on(func(path string) (segment, error) {
		s, err := openSegment(path)
		return &faulty{segment: s, at: func(point string) (bool, error) {
			if fail = !fail; fail && point == "sync" {
				return true, errDisk
			}
			return true, nil
		}}, err
	}))
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for n := range 40 {
		if _, err := j.Append(t.Context(), of(n)); err != nil {
			refused++
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if got := verified(t, dir); !got.Whole() || refused == 0 || refused == 40 {
		t.Errorf("%d refused, %+v", refused, got.Findings)
	}
	audited(t, dir)
}

// TestTamperedPartition: each way to change what was handed out is found, with nothing but it and the public key.
func TestTamperedPartition(t *testing.T) {
	dir := t.TempDir()
	linked(t, dir, 0, 120)
	linked(t, dir, 1, 40) // others' numbers differ
	whole := exported(t, dir, "organisation/a")
	lines := bytes.SplitAfter(whole, []byte("\n"))
	lines = lines[:len(lines)-1]
	last := len(lines) - 1 // the proof
	other := bytes.SplitAfter(exported(t, dir, "organisation/b"), []byte("\n"))
	resealed := func(line []byte, from, to string) []byte { // with a checksum that fits
		body := bytes.Replace(line[:bytes.LastIndex(line, []byte(crcBegins))], []byte(from), []byte(to), 1)
		return fmt.Appendf(bytes.Clone(body), "%s%08x%s\n", crcBegins, checksum(body), crcEnds)
	}
	join := func(parts ...[][]byte) []byte {
		var out []byte
		for _, part := range parts {
			out = append(out, bytes.Join(part, nil)...)
		}
		return out
	}
	for name, c := range map[string]struct {
		data []byte
		says string
	}{
		"a record is missing":         {join(lines[:5], lines[6:]), "records of it are missing"},
		"two are exchanged":           {join(lines[:5], lines[6:7], lines[5:6], lines[7:]), "is due"},
		"one is twice there":          {join(lines[:5], lines[4:]), "is due"},
		"a byte is changed":           {join(lines[:5], [][]byte{bytes.Replace(lines[5], []byte("notice"), []byte("notide"), 1)}, lines[6:]), "cannot be read"},
		"and the checksum too":        {join(lines[:5], [][]byte{resealed(lines[5], "notice", "notide")}, lines[6:]), "is not the one that it is linked to"},
		"one of another is put in":    {join(lines[:5], other[2:3], lines[5:]), "is none of"},
		"the last is missing":         {join(lines[:last-1], lines[last:]), "records at the end are missing"},
		"the last is changed":         {join(lines[:last-1], [][]byte{resealed(lines[last-1], "notice", "notide")}, lines[last:]), "were changed"},
		"the proof is missing":        {join(lines[:last]), "no signature covers it"},
		"the proof is another's":      {join(lines[:last], other[len(other)-2:]), "is not the one before it"},
		"something is behind it":      {join(lines, lines[last-1:last]), "behind the proof"},
		"the proof is changed":        {join(lines[:last], [][]byte{bytes.Replace(lines[last], []byte(`\n— `), []byte(`\n— x`), 1)}), "checkpoint"},
		"a line that is no record":    {join(lines[:5], [][]byte{[]byte("{}\n")}, lines[5:]), "cannot be read"},
		"nothing is left but a proof": {join(lines[:1], lines[last:]), "is not the one before it"},
		"nothing is left":             {join(lines[:1]), "no signature covers it"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := VerifyPartition(t.Context(), bytes.NewReader(c.data), verifiersOf(t))
			if err != nil {
				t.Fatal(err)
			}
			found := false
			for _, f := range p.Findings {
				found = found || strings.Contains(f.What, c.says)
			}
			if !found {
				t.Errorf("found is %+v, want one that says %q", p.Findings, c.says)
			}
		})
	}
	// The control, and what later ones lack: the beginning of it was handed out elsewhere.
	for name, data := range map[string][]byte{"all": whole, "from the fifth on": join(lines[:1], lines[5:])} {
		if p, err := VerifyPartition(t.Context(), bytes.NewReader(data), verifiersOf(t)); err != nil || !p.Whole() || !p.Proved {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	for name, data := range map[string][]byte{"cut in a line": whole[:len(whole)-5], "empty": nil, "no head": join(lines[1:]), "a line without end": bytes.Repeat([]byte("x"), maxProof+1)} {
		if p, err := VerifyPartition(t.Context(), bytes.NewReader(data), verifiersOf(t)); err == nil {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

// TestTamperedLinks: in the whole journal, who has no key cannot change links; who signs anew and leaves some out is found by the others.
func TestTamperedLinks(t *testing.T) {
	c := chains{ends: map[string]chain{}, from: true}
	line := func(number uint64, before string) (Event, []byte) {
		e := Event{Sequence: number, Type: TunnelState, Object: "tunnel/a", Links: []Link{{"tunnel/a", number, before}}}
		text, err := encode(e)
		if err != nil {
			t.Fatal(err)
		}
		return e, text
	}
	first, text := line(1, "")
	if wrong := c.follow(first, leaf(text)); wrong != nil {
		t.Error(wrong)
	}
	fits := leaf(text).String()
	for says, change := range map[string]func(*Event){
		"0 links, and is about 1":   func(e *Event) { e.Links = nil },
		"2 links, and is about 1":   func(e *Event) { e.Links = append(e.Links, e.Links...) },
		`as one of "tunnel/b"`:      func(e *Event) { e.Links[0].Of = "tunnel/b" },
		"number 3 of tunnel/a":      func(e *Event) { e.Links[0].Number = 3 },
		"is not the one that it is": func(e *Event) { e.Links[0].Before = "" },
	} {
		e, text := line(2, fits)
		change(&e)
		copied := chains{ends: map[string]chain{"tunnel/a": c.ends["tunnel/a"]}, from: true, linking: true}
		if wrong := copied.follow(e, leaf(text)); len(wrong) != 1 || !strings.Contains(wrong[0], says) {
			t.Errorf("%v, want %q", wrong, says)
		}
	}
	second, text := line(2, fits)
	if wrong := c.follow(second, leaf(text)); wrong != nil {
		t.Errorf("the control: %v", wrong)
	}
}

func FuzzVerifyPartition(f *testing.F) {
	f.Add([]byte("{\"partition\":\"tunnel/a\"}\n{\"record\":\"\",\"checkpoint\":\"\",\"path\":[]}\n"))
	e := Event{Sequence: 1, Type: TunnelState, Object: "tunnel/a", Links: []Link{{"tunnel/a", 1, ""}}}
	line, err := encode(e)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(append([]byte("{\"partition\":\"tunnel/a\"}\n"), line...), '\n'))
	verifiers := verifiersOf(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		if p, err := VerifyPartition(t.Context(), bytes.NewReader(data), verifiers); err == nil && p.Whole() {
			t.Errorf("whole without a signature: %q", data)
		}
	})
}

func FuzzLinksFile(f *testing.F) {
	dir := f.TempDir()
	if err := saveLinks(dir, tree{}, map[string]chain{"tunnel/a": {Number: 3}}); err != nil {
		f.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, linksName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) { _, _ = decodeLinks(data) })
}
