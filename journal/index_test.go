package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// variedJournal has files of several parts, of few and many kinds of events.
func variedJournal(t testing.TB, events int) *Journal {
	t.Helper()
	j, err := open(t.TempDir(), signer(t), 40<<10, realDisk())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	types := []Type{ConnectionStart, ConnectionEnd, DriftFind, DriftRepair, DaemonStart}
	for n := range events {
		e := Event{Type: types[n*n%7%len(types)], Severity: Severities()[n%11%5], Object: fmt.Sprintf("tunnel/t%d", n%97%13), Organisation: []string{"", "Agency A", "Agency B"}[n/300%3], Systems: [][]string{nil, {"registry"}, {"registry", "tax"}}[n/200%3],
			Message: fmt.Sprintf("event %d", n)}
		if n%17 == 0 {
			e.Object = "flow/a/b"
		}
		if n == events/2 {
			e.Object = "tunnel/rare"
		}
		mustAppend(t, j, e)
	}
	if err := j.Close(); err != nil { // else it might sign what it holds while it is read
		t.Fatal(err)
	}
	return j
}

// plainly is what Query gives where all is read.
func plainly(t testing.TB, j *Journal, after uint64, limit int, filter Filter) (chosen []Event) {
	t.Helper()
	chosen = []Event{}
	for {
		events, err := j.Read(t.Context(), after, MaxRead)
		if err != nil {
			t.Fatal(err)
		}
		if len(events) == 0 {
			return chosen
		}
		for _, e := range events {
			if after = e.Sequence; filter.Matches(e) && len(chosen) < limit {
				chosen = append(chosen, e)
			}
		}
	}
}

// TestIndexedIsPlain: what is found by the indexes is what is found by reading all, page by page, and whatever became of the indexes.
func TestIndexedIsPlain(t *testing.T) {
	j := variedJournal(t, 1500)
	firsts, err := segments(j.dir)
	if err != nil || len(firsts) < 5 {
		t.Fatalf("%d files, %v", len(firsts), err)
	}
	begins := time.Now().Add(-time.Hour)
	outer := t
	rapid.Check(t, func(t *rapid.T) {
		filter := Filter{
			Types:        rapid.SampledFrom([][]Type{nil, nil, {DriftFind}, {"drift.*", DaemonStart}, {ForeignFind}, {"connection.*"}}).Draw(t, "types"),
			Severities:   rapid.SampledFrom([][]Severity{nil, nil, {Alert}, {Warning, Info}}).Draw(t, "severities"),
			Object:       rapid.SampledFrom([]string{"", "", "tunnel/t3", "tunnel/rare", "tunnel/", "flow/", "flow/a/", "nothing"}).Draw(t, "object"),
			Organisation: rapid.SampledFrom([]string{"", "", "Agency A", "Agency C"}).Draw(t, "organisation"),
			System:       rapid.SampledFrom([]string{"", "", "registry", "tax", "Agency A"}).Draw(t, "system"),
			Text:         rapid.SampledFrom([]string{"", "", "event 7"}).Draw(t, "text"),
		}
		if rapid.Bool().Draw(t, "bounded") {
			filter.Since = begins.Add(time.Duration(rapid.IntRange(0, int(2*time.Hour)).Draw(t, "since")))
			filter.Until = filter.Since.Add(time.Duration(rapid.IntRange(1, int(time.Hour)).Draw(t, "long")))
		}
		if name := rapid.SampledFrom(firsts).Draw(t, "file"); rapid.Bool().Draw(t, "spoiled") {
			at, cut := rapid.IntRange(0, indexBytes-1).Draw(t, "at"), rapid.SampledFrom([]int{0, 0, 100, indexBytes}).Draw(t, "cut")
			if data, err := os.ReadFile(indexPath(j.dir, name)); err == nil && len(data) == indexBytes {
				data[at] ^= 0x40
				if err := os.WriteFile(indexPath(j.dir, name), data[:len(data)-cut], 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		after, limit := uint64(rapid.IntRange(0, 1600).Draw(t, "after")), rapid.SampledFrom([]int{1, 7, MaxRead}).Draw(t, "limit")
		got, looked, err := j.Query(context.Background(), after, limit, filter)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(plainly(outer, j, after, limit, filter), got); diff != "" {
			t.Fatalf("%+v after %d:\n%s", filter, after, diff)
		}
		if rest := plainly(outer, j, after, MaxRead, filter); len(got) < limit && looked != max(after, j.Last()) || len(got) == limit && looked != got[limit-1].Sequence || len(rest) < len(got) {
			t.Fatalf("looked up to %d of %d", looked, j.Last())
		}
	})
}

// TestLittleIsRead: a question that selects little does not read much.
func TestLittleIsRead(t *testing.T) {
	j := variedJournal(t, 1500)
	firsts, err := segments(j.dir)
	if err != nil {
		t.Fatal(err)
	}
	found, all := int64(0), int64(0)
	for _, first := range firsts[:len(firsts)-1] {
		spans, err := search(t.Context(), j.dir, first, Filter{Object: "tunnel/rare"})
		if err != nil {
			t.Fatal(err)
		}
		hot, _ := j.fileBytes(first)
		all += hot
		for _, s := range spans {
			found += min(s.to, hot) - s.from
		}
	}
	if found == 0 || found > all/50 {
		t.Errorf("%d bytes of %d", found, all)
	}
}

// TestIndexesFollowTheFiles: those of closed files are made, those of files that are gone go.
func TestIndexesFollowTheFiles(t *testing.T) {
	j := variedJournal(t, 500)
	firsts, err := segments(j.dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.indexAll(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	names := func() (names []string) {
		found, err := filepath.Glob(filepath.Join(j.dir, indexFolder, "*"))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	if got := names(); len(got) != len(firsts)-1 {
		t.Errorf("%d files, indexes %q", len(firsts), got)
	}
	if err := os.Remove(filepath.Join(j.dir, segmentName(1))); err != nil {
		t.Fatal(err)
	}
	if err := j.indexAll(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if got := names(); len(got) != len(firsts)-2 {
		t.Errorf("%d files, indexes %q", len(firsts)-1, got)
	}
	if _, err := indexOf(t.Context(), j.dir, 1); !errors.Is(err, os.ErrNotExist) {
		// its index went with it
		t.Error(err)
	}
}

// FuzzIndex: no index makes a reader fail otherwise than by saying so, or read before the beginning of a file.
func FuzzIndex(f *testing.F) {
	f.Add(encodeIndex(indexHead{first: 1, last: 2}, make([]parts, indexRows)), "tunnel/a")
	f.Fuzz(func(t *testing.T, data []byte, object string) {
		if len(data) < headBytes {
			return
		}
		head, err := decodeHead(data)
		if err != nil {
			return
		}
		x := index{head, bytes.NewReader(data), nil}
		found, err := x.where(Filter{Object: object})
		if err != nil {
			return
		}
		for _, s := range x.spans(found) {
			if s.from < 0 || s.to <= s.from {
				t.Fatalf("%+v", s)
			}
		}
	})
}

// TestARestoredFileIsSeen: an index that was made while a file had damage does not hide what is there again when the file is restored, also with the time that it had.
func TestARestoredFileIsSeen(t *testing.T) {
	j := variedJournal(t, 500)
	path := filepath.Join(j.dir, segmentName(1))
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	intact, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	put := func(data []byte) {
		t.Helper()
		must(t, os.WriteFile(path, data, 0o600))
		must(t, os.Chtimes(path, info.ModTime(), info.ModTime()))
	}
	count := func() int {
		t.Helper()
		found, _, err := j.Query(t.Context(), 0, MaxRead, Filter{Object: "flow/a/b"})
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	whole := count()
	must(t, os.Chmod(path, 0o600))
	put(bytes.ReplaceAll(intact, []byte("flow/a/b"), []byte("flow/x/y"))) // no checksum fits
	must(t, os.RemoveAll(filepath.Join(j.dir, indexFolder)))
	if got := count(); got >= whole {
		t.Fatalf("%d of %d are found in a damaged file", got, whole)
	}
	put(intact)
	if got := count(); got != whole {
		t.Errorf("%d of %d are found when it is restored", got, whole)
	}
	must(t, os.WriteFile(path, intact[:len(intact)/2], 0o600))
	if got := count(); got >= whole {
		t.Fatalf("%d of %d are found in half of a file", got, whole)
	}
}
