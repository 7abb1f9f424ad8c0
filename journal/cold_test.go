package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"
)

// later is when all that the tests write is old.
func later() time.Time { return time.Now().Add(100 * 24 * time.Hour) }

// coldest is a journal of several files with links, of which all but the newest are cold; hot is the same before.
func coldest(t *testing.T) (hot, cold string) {
	t.Helper()
	hot, cold = t.TempDir(), t.TempDir()
	j, err := open(hot, signer(t), 6<<10, realDisk())
	if err != nil {
		t.Fatal(err)
	}
	for n := range 120 {
		mustAppend(t, j, of(n))
		if n%17 == 0 {
			j.Settle()
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(cold, os.DirFS(hot)); err != nil {
		t.Fatal(err)
	}
	c := &Journal{dir: cold, zone: time.UTC, disk: realDisk()}
	if files, err := c.cool(t.Context(), later(), 0); err != nil || files < 4 {
		t.Fatalf("%d files became cold: %v", files, err)
	}
	return hot, cold
}

// TestColdJournalIsTheSame: whoever reads a journal need not know which of its files are cold.
func TestColdJournalIsTheSame(t *testing.T) {
	hot, cold := coldest(t)
	left := files(t, cold)
	if len(left) != 1 {
		t.Fatalf("%d files are hot, want the newest alone", len(left))
	}
	coldFiles, err := filepath.Glob(filepath.Join(cold, "*"+coldSuffix))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range coldFiles {
		if info, err := os.Stat(name); err != nil || info.Mode() != closedMode {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if a, b := verified(t, hot), verified(t, cold); !a.Whole() || cmp.Diff(a, b) != "" {
		t.Errorf("verified: %s", cmp.Diff(a, b))
	}
	if a, b := audited(t, hot), audited(t, cold); a != b || a < 120 {
		t.Errorf("the second verifier comes to %d records when hot, %d when cold", a, b)
	}
	for _, of := range []string{"tunnel/t1", "organisation/a"} {
		if a, b := exported(t, hot, of), exported(t, cold, of); !bytes.Equal(a, b) {
			t.Errorf("export of %s differs", of)
		}
	}
	a, err := Prove(t.Context(), hot, 20)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := Prove(t.Context(), cold, 20); err != nil || cmp.Diff(a, b) != "" {
		t.Errorf("proof: %v, %s", err, cmp.Diff(a, b))
	}
	was, is := mustOpen(t, hot), mustOpen(t, cold)
	if was.Last() != is.Last() {
		t.Fatalf("opened, it ends with record %d, and when hot with %d", is.Last(), was.Last())
	}
	for after := uint64(0); after < was.Last(); after += 13 {
		a, err := was.Lines(t.Context(), after, 29)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := is.Lines(t.Context(), after, 29); err != nil || cmp.Diff(a, b) != "" {
			t.Errorf("lines after %d: %v, %s", after, err, cmp.Diff(a, b))
		}
	}
	mustBeLinked(t, cold, 120)
}

// TestLinksAreBuiltFromColdFiles: where LINKS is lost, a start reads them.
func TestLinksAreBuiltFromColdFiles(t *testing.T) {
	_, cold := coldest(t)
	if err := os.Remove(filepath.Join(cold, linksName)); err != nil {
		t.Fatal(err)
	}
	j := mustOpen(t, cold)
	for n := range 10 {
		mustAppend(t, j, of(n))
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if got := verified(t, cold); !got.Whole() {
		t.Errorf("%+v", got.Findings)
	}
}

// TestOnlyOldFilesBecomeCold: the newest and those of the last days stay as they are, and so does one that nobody can read.
func TestOnlyOldFilesBecomeCold(t *testing.T) {
	dir, _ := written(t, 120)
	j := mustOpen(t, dir)
	before := len(files(t, dir))
	second := filepath.Join(dir, segmentName(mustSegments(t, dir)[1]))
	text, err := os.ReadFile(second)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(second); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(second, append([]byte("damaged"), text...), closedMode); err != nil {
		t.Fatal(err)
	}
	_, ends, err := Day(j.legalDay(time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := j.cool(t.Context(), ends.Add(coldAfter-time.Second), 0); err != nil || n != 0 {
		t.Errorf("%d files became cold a second early: %v", n, err)
	}
	if n, err := j.cool(t.Context(), ends.Add(coldAfter), 0); err != nil || n != before-2 {
		t.Errorf("%d files of %d became cold: %v", n, before, err)
	}
	if _, err := os.Stat(second); err != nil {
		t.Error(err)
	}
}

func mustSegments(t *testing.T, dir string) []uint64 {
	t.Helper()
	firsts, err := segments(dir)
	if err != nil {
		t.Fatal(err)
	}
	return firsts
}

// TestColdFaults fails each step of a compression in turn, done or not, and demands that the journal is whole at each moment, and cold in the end.
func TestColdFaults(t *testing.T) {
	for _, point := range []string{"write", "remove"} {
		for _, persisted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, persisted %v", point, persisted), func(t *testing.T) {
				dir, held := written(t, 120)
				many := len(mustSegments(t, dir))
				failed := 0
				step := func(name string, do func() error) error {
					if name != point || failed > 0 && failed != 2 { // the first and the third of it
						if name == point {
							failed++
						}
						return do()
					}
					failed++
					if persisted {
						if err := do(); err != nil {
							return err
						}
					}
					return errDisk
				}
				d := realDisk()
				j := &Journal{dir: dir, zone: time.UTC, disk: disk{
					write: func(path string, data []byte, mode os.FileMode) error {
						return step("write", func() error { return d.write(path, data, mode) })
					},
					remove: func(path string) error { return step("remove", func() error { return d.remove(path) }) },
				}}
				if _, err := j.cool(t.Context(), later(), 0); !errors.Is(err, errDisk) {
					t.Errorf("the fault is not told: %v", err)
				}
				whole := func() {
					t.Helper()
					if got := verified(t, dir, held); !got.Whole() {
						t.Errorf("%+v", got.Findings)
					}
					audited(t, dir)
				}
				whole()
				if _, err := j.cool(t.Context(), later(), 0); err != nil {
					t.Error(err)
				}
				whole()
				if hot := len(files(t, dir)); hot != 1 || len(mustSegments(t, dir)) != many {
					t.Errorf("%d files are hot of %d, were %d", hot, len(mustSegments(t, dir)), many)
				}
			})
		}
	}
}

// TestWhatIsReadBackCounts: a cold file that gives other bytes when it is read back costs no record.
func TestWhatIsReadBackCounts(t *testing.T) {
	for name, spoil := range map[string]func([]byte) []byte{
		"a bit":       func(b []byte) []byte { b[len(b)/2] ^= 4; return b },
		"the end":     func(b []byte) []byte { return b[:len(b)-5] },
		"all":         func([]byte) []byte { return nil },
		"another one": func([]byte) []byte { b, _ := Freeze(1, []byte("another\n")); return b },
	} {
		dir, held := written(t, 60)
		before := files(t, dir)
		d := realDisk()
		d.write = func(path string, data []byte, mode os.FileMode) error {
			return realDisk().write(path, spoil(data), mode)
		}
		j := &Journal{dir: dir, zone: time.UTC, disk: d}
		if _, err := j.cool(t.Context(), later(), 0); err == nil {
			t.Errorf("%s: nothing is told", name)
		}
		if diff := cmp.Diff(before, files(t, dir)); diff != "" {
			t.Errorf("%s: hot files are gone: %s", name, diff)
		}
		if got := verified(t, dir, held); !got.Whole() {
			t.Errorf("%s: %+v", name, got.Findings)
		}
	}
}

// TestTamperedColdFile: whatever is changed of a cold file is found, and the control without a change is whole.
func TestTamperedColdFile(t *testing.T) {
	_, dir := coldest(t)
	if got := verified(t, dir); !got.Whole() {
		t.Fatalf("the control: %+v", got.Findings)
	}
	firsts := mustSegments(t, dir)
	path := filepath.Join(dir, coldName(firsts[1]))
	was, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	hot, err := thaw(firsts[1], was)
	if err != nil {
		t.Fatal(err)
	}
	forged := func(hot []byte) []byte {
		cold, err := Freeze(firsts[1], hot)
		if err != nil {
			t.Fatal(err)
		}
		return cold
	}
	for name, is := range map[string][]byte{
		"a bit":                    flipped(was, len(was)/2),
		"cut":                      was[:len(was)-9],
		"empty":                    {},
		"a record changed":         forged(bytes.Replace(hot, []byte(`"number":5`), []byte(`"number":6`), 1)),
		"a record removed":         forged(append(bytes.Clone(hot[:bytes.IndexByte(hot, '\n')+1]), hot[bytes.LastIndexByte(hot[:len(hot)-1], '\n')+1:]...)),
		"the file of another turn": mustRead(t, filepath.Join(dir, coldName(firsts[0]))),
		"gone":                     nil,
	} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if is != nil {
			if err := os.WriteFile(path, is, closedMode); err != nil {
				t.Fatal(err)
			}
		}
		if got := verified(t, dir); got.Whole() {
			t.Errorf("%s: nothing is found", name)
		}
		if err := os.WriteFile(path, was, closedMode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, closedMode); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAnotherColdFileStays: a hot file does not take the place of a cold one that holds something else, and neither goes; one that cannot be read is made anew.
func TestAnotherColdFileStays(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(hot, cold []byte) (newHot, newCold []byte)
		wrong bool
	}{
		"the same":           {func(hot, cold []byte) ([]byte, []byte) { return hot, cold }, false},
		"an older copy":      {func(hot, cold []byte) ([]byte, []byte) { return hot[:bytes.IndexByte(hot, '\n')+1], cold }, true},
		"a damaged hot one":  {func(hot, cold []byte) ([]byte, []byte) { return flipped(hot, len(hot)/2), cold }, true},
		"a damaged cold one": {func(hot, cold []byte) ([]byte, []byte) { return hot, flipped(cold, len(cold)/2) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := daily(t, 4)
			path := filepath.Join(dir, segmentName(1))
			hot := mustRead(t, path)
			j := signedOpen(t, dir)
			must(t, j.coolFile(1))
			cold := mustRead(t, filepath.Join(dir, coldName(1)))
			newHot, newCold := c.spoil(hot, cold)
			must(t, os.WriteFile(path, newHot, openMode))
			must(t, os.Chmod(filepath.Join(dir, coldName(1)), openMode))
			must(t, os.WriteFile(filepath.Join(dir, coldName(1)), newCold, openMode))
			if err := j.coolFile(1); (err != nil) != c.wrong {
				t.Errorf("%v", err)
			}
			if got := mustRead(t, filepath.Join(dir, coldName(1))); !bytes.Equal(got, cold) {
				t.Error("the cold file is another")
			}
			if _, err := os.Stat(path); (err == nil) != c.wrong {
				t.Errorf("the hot file: %v", err)
			}
		})
	}
}

// TestADamagedColdFileIsPassedOver: as damage within a hot file it keeps neither the journal from starting nor anybody from reading on.
func TestADamagedColdFileIsPassedOver(t *testing.T) {
	dir := daily(t, 6)
	firsts := mustSegments(t, dir)
	j := signedOpen(t, dir)
	for _, first := range firsts[:3] {
		must(t, j.coolFile(first))
	}
	must(t, j.Close())
	path := filepath.Join(dir, coldName(firsts[1]))
	must(t, os.Chmod(path, openMode))
	must(t, os.WriteFile(path, flipped(mustRead(t, path), 40), openMode))
	must(t, os.RemoveAll(filepath.Join(dir, linksName)))
	j = signedOpen(t, dir)
	mustAppend(t, j, started(1))
	for _, filter := range []Filter{{}, {Since: time.Now().AddDate(0, 0, -30)}} {
		events, _, err := j.Query(t.Context(), 0, MaxRead, filter)
		must(t, err)
		seen := map[uint64]bool{}
		for _, e := range events {
			seen[e.Sequence] = true
		}
		if !seen[firsts[1]-1] || seen[firsts[1]] || !seen[firsts[2]] || !seen[j.Last()] {
			t.Errorf("%d events around file %d", len(events), firsts[1])
		}
	}
	if lines, err := j.Lines(t.Context(), firsts[1]-1, 1); err != nil || len(lines) != 1 {
		t.Errorf("%d lines behind it, %v", len(lines), err)
	}
	if got := verified(t, dir); got.Whole() {
		t.Error("verification finds nothing")
	}
}

func flipped(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestColdIsTheFileByteForByte: whatever lines a file has, also of the first version, damaged or of somebody else's making, its cold file gives them; to both readers.
func TestColdIsTheFileByteForByte(t *testing.T) {
	s := signer(t)
	rapid.Check(t, func(t *rapid.T) {
		first := rapid.SampledFrom([]uint64{1, 2, 1000}).Draw(t, "first")
		p := page{sequence: first - 1, links: links{map[string]chain{}, map[string]chain{}}, signer: s, now: time.Date(2026, 11, 26, 4, 22, 5, 123456789, time.UTC)}
		for range first - 1 {
			p.tree.grow(leaf(nil))
		}
		text := rapid.OneOf(rapid.StringMatching(`[a-c]{0,3}`), rapid.SampledFrom([]string{`"`, `\`, "<&>", "\x01\x05", "\u2028", "қала"}))
		object := rapid.OneOf(text, rapid.Map(text, func(s string) string { return channelPrefix + s }))
		var hot []byte
		for range rapid.IntRange(0, 12).Draw(t, "lines") {
			begins := p.lines.Len()
			var err error
			if rapid.IntRange(0, 3).Draw(t, "what") == 0 {
				err = p.settle()
			} else {
				err = p.add(&Event{Type: DaemonStart, Severity: Info, Object: object.Draw(t, "object"), Organisation: text.Draw(t, "organisation"),
					Systems: rapid.SliceOfN(text, 0, 2).Draw(t, "systems"), Message: text.Draw(t, "message"), Fields: rapid.MapOfN(text, text, 0, 2).Draw(t, "fields")}, nil)
			}
			if err != nil {
				t.Fatal(err)
			}
			line := bytes.Clone(p.lines.Bytes()[begins:])
			switch rapid.IntRange(0, 9).Draw(t, "fate") {
			case 0:
				line[rapid.IntRange(0, len(line)-1).Draw(t, "place")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
			case 1: // as those of the first version
				if len(line) > crcBytes {
					line = append(line[:len(line)-1-crcBytes], "}\n"...)
				}
			case 2:
				line = append(rapid.SliceOf(rapid.Byte()).Draw(t, "junk"), '\n')
			case 3:
				line = nil
			}
			hot = append(hot, line...)
		}
		hot = append(hot, rapid.SampledFrom([]string{"", "", "torn", "\x00", `{"sequence":9`}).Draw(t, "end")...)
		cold, err := Freeze(first, hot)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := thaw(first, cold); err != nil || !bytes.Equal(again, hot) {
			t.Fatalf("%q\nis read back as\n%q, %v", hot, again, err)
		}
		if again, err := secondThaw(first, cold); err != nil || !bytes.Equal(again, hot) {
			t.Fatalf("%q\nis read by the second reader as\n%q, %v", hot, again, err)
		}
	})
}

// FuzzCold: whatever a cold file holds, reading it ends, takes bounded memory, and what it gives can be kept cold again.
func FuzzCold(f *testing.F) {
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		f.Fatal(err)
	}
	compressed := func(text string) []byte { return encoder.EncodeAll([]byte(text), nil) }
	line := `,"time":"2026-11-26T04:22:05Z","type":"daemon.start","severity":"info","object":"tunnel/a","message":"x"`
	for _, text := range []string{
		"", "\x01" + line + "\x05\n", "\x01" + line + "\x04\x05\n", "\x02\x03\n", "\x00verbatim\x01\n\x06\n", "\x01" + line + `,"links":[{"of":"tunnel/a","number":1}]` + "\x05\n\x01" + line + "\x04\x05",
	} {
		f.Add([]byte(text), false)
		f.Add(compressed(coldBegins+text), true)
	}
	f.Add(compressed(coldBegins+strings.Repeat("\x03", 1<<20)), true)
	f.Fuzz(func(t *testing.T, data []byte, is bool) {
		if !is {
			data = compressed(coldBegins + string(data))
		}
		hot, err := thaw(1, data)
		if err != nil {
			return
		}
		if len(hot) > maxFileBytes {
			t.Fatalf("%d bytes", len(hot))
		}
		cold, err := Freeze(1, hot)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := thaw(1, cold); err != nil || !bytes.Equal(again, hot) {
			t.Errorf("%q: %v", hot, err)
		}
	})
}

// TestColdBombs: a small file that comes to much is refused; the control comes to as much as may be.
func TestColdBombs(t *testing.T) {
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	const root = len(`0000000000000000000000000000000000000000000=`)
	const most = MaxEventBytes / root
	for name, c := range map[string]struct {
		line    string
		many    int
		refused bool
	}{
		"a long line":             {strings.Repeat("\x03", most), 1, false},
		"one that is too long":    {strings.Repeat("\x03", most+1), 1, true},
		"many lines":              {strings.Repeat("\x03", most) + "\n", maxFileBytes/(root*most+1) - 1, false},
		"too many":                {strings.Repeat("\x03", most) + "\n", maxFileBytes/(root*most+1) + 1, true},
		"zeroes that stand there": {"\x00", maxColdBytes + 1, true},
	} {
		text := append([]byte(coldBegins), bytes.Repeat([]byte(c.line), c.many)...)
		if _, err := thaw(1, encoder.EncodeAll(text, nil)); (err != nil) != c.refused {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := encoder.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestTendEnds: it looks at once, tells what it cannot do, and ends with its context.
func TestTendEnds(t *testing.T) {
	j := &Journal{dir: filepath.Join(t.TempDir(), "nowhere"), zone: time.UTC, disk: realDisk()}
	ctx, cancel := context.WithCancel(t.Context())
	told := make(chan error, 1)
	j.Tend(ctx, Tending{Months: func() int { return 0 }, Anchored: func(context.Context) (uint64, error) { return 0, nil }, Complain: func(err error) { told <- err; cancel() }})
	if err := <-told; !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
