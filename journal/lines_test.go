package journal

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestLinesAreWhatTheFilesHold: over several files, in pages of any size, the very bytes.
func TestLinesAreWhatTheFilesHold(t *testing.T) {
	dir := t.TempDir()
	j, err := open(dir, nil, 2000, realDisk())
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	for i := range 60 {
		if _, err := j.Append(t.Context(), Event{Type: DriftFind, Severity: Notice, Message: fmt.Sprintf("<%d> & ä", i)}); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil || len(files) < 3 {
		t.Fatal(files, err)
	}
	var want []byte
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, text...)
	}
	for _, page := range []int{1, 7, 1000} {
		var got []byte
		for after := uint64(0); after < j.Last(); {
			lines, err := j.Lines(t.Context(), after, page)
			if err != nil || len(lines) == 0 || len(lines) > page {
				t.Fatal(len(lines), err)
			}
			for _, line := range lines {
				e, err := ParseLine(line)
				if err != nil || e.Sequence != after+1 {
					t.Fatal(e, err)
				}
				after = e.Sequence
				got = append(append(got, line...), '\n')
			}
		}
		if !bytes.Equal(got, want) {
			t.Errorf("pages of %d give\n%s\nwant\n%s", page, got, want)
		}
	}
	if lines, err := j.Lines(t.Context(), j.Last(), 10); err != nil || len(lines) != 0 {
		t.Errorf("after the last: %q, %v", lines, err)
	}
	// What was written and not acknowledged is not given.
	newest := files[len(files)-1]
	text, err := os.ReadFile(newest)
	if err != nil {
		t.Fatal(err)
	}
	unacknowledged := strings.Replace(string(text[bytes.LastIndexByte(text[:len(text)-1], '\n')+1:]), fmt.Sprintf(`{"sequence":%d,`, j.Last()), fmt.Sprintf(`{"sequence":%d,`, j.Last()+1), 1)
	unacknowledged = unacknowledged[:strings.LastIndex(unacknowledged, crcBegins)] + "}\n" // as of the first version: without a sum
	if err := os.WriteFile(newest, append(text, unacknowledged...), 0o640); err != nil {
		t.Fatal(err)
	}
	if lines, err := j.Lines(t.Context(), j.Last()-1, 10); err != nil || len(lines) != 1 {
		t.Errorf("with one that is not acknowledged: %q, %v", lines, err)
	}
}

// TestLinesEndBeforeAGap: so that nobody reads twice what stands behind it, however many there are.
func TestLinesEndBeforeAGap(t *testing.T) {
	dir := daily(t, 2)
	path := filepath.Join(dir, segmentName(mustSegments(t, dir)[0]))
	text := bytes.SplitAfter(mustRead(t, path), []byte("\n"))
	must(t, os.WriteFile(path, bytes.Join([][]byte{text[0], text[1], text[3], text[5], text[6]}, nil), openMode)) // of 1 to 7
	j := signedOpen(t, dir)
	var spans [][2]uint64
	for after := uint64(0); after < 7; {
		lines, err := j.Lines(t.Context(), after, 1000)
		must(t, err)
		begin, err := ParseLine(lines[0])
		must(t, err)
		end, err := ParseLine(lines[len(lines)-1])
		must(t, err)
		spans, after = append(spans, [2]uint64{begin.Sequence, end.Sequence}), end.Sequence
	}
	if diff := cmp.Diff([][2]uint64{{1, 2}, {4, 4}, {6, j.Last()}}, spans); diff != "" {
		t.Error(diff)
	}
}

func FuzzParseLine(f *testing.F) {
	line, err := encode(Event{Sequence: 7, Type: DriftFind, Severity: Notice, Message: "x", Fields: map[string]string{"a": "b"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	f.Add([]byte(`{"sequence":1,"type":"drift.find"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		if e, err := ParseLine(line); err == nil && (e.Sequence == 0 || e.Type == "") {
			t.Errorf("%q is read as %+v", line, e)
		}
	})
}
