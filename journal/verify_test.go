package journal

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"shekara/netctl/clock"
)

// keys of the tests' journals. Made once: a journal that is opened again has the same.
func keys(t testing.TB) (*Key, note.Verifiers) {
	t.Helper()
	key, err := NewKey("test", [32]byte{})
	if err != nil {
		t.Fatal(err)
	}
	return key, note.VerifierList(key.verifier)
}

func signer(t testing.TB) *Key { s, _ := keys(t); return s }

// audited is what the second verifier says.
func audited(t testing.TB, dir string) uint64 {
	t.Helper()
	records, err := audit(dir, signer(t).Public)
	if err != nil {
		t.Errorf("the second verifier: %v", err)
	}
	return records
}

func verified(t testing.TB, dir string, held ...Checkpoint) Verification {
	t.Helper()
	_, v := keys(t)
	got, err := Verify(t.Context(), dir, v, held)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// written is a journal of several files, and its last checkpoint as somebody else holds it.
func written(t *testing.T, events int) (dir string, held Checkpoint) {
	t.Helper()
	dir = t.TempDir()
	j, err := open(dir, signer(t), 6<<10, realDisk())
	if err != nil {
		t.Fatal(err)
	}
	for n := range events {
		mustAppend(t, j, started(n))
		if n%17 == 0 {
			j.Settle()
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	last := ""
	if err := eachLine(t.Context(), dir, 1, func(e Event, _ []byte) bool { last = e.Fields[fieldNote]; return true }); err != nil {
		t.Fatal(err)
	}
	_, v := keys(t)
	if held, err = OpenCheckpoint([]byte(last), v); err != nil {
		t.Fatal(err)
	}
	return dir, held
}

func files(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	names, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if out[filepath.Base(name)], err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func TestWholeJournalIsVerified(t *testing.T) {
	dir, held := written(t, 120)
	got := verified(t, dir, held)
	if !got.Whole() || got.First != 1 || got.Last != held.Size+1 || got.Settled != held.Size || got.Checkpoints < 10 {
		t.Errorf("%+v", got)
	}
	if n := audited(t, dir); n != got.Last {
		t.Errorf("the second verifier comes to %d records", n)
	}
	if n := len(files(t, dir)); n < 4 {
		t.Errorf("%d files", n)
	}
	for name := range files(t, dir) {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if closed := name != slices.Max(slices.Collect(maps.Keys(files(t, dir)))); closed != (info.Mode().Perm() == closedMode) {
			t.Errorf("%s: mode %v", name, info.Mode())
		}
	}
}

// again gives a line a checksum that fits, as who knows the format would.
func again(line string) string {
	body := line[:len(line)-crcBytes]
	return fmt.Sprintf("%s%s%08x%s", body, crcBegins, checksum([]byte(body)), crcEnds)
}

// TestTampering: whatever somebody without the key does to the files is found.
func TestTampering(t *testing.T) {
	type journalFiles = map[string][]byte
	names := func(f journalFiles) []string { return slices.Sorted(maps.Keys(f)) }
	edit := func(file int, change func(lines []string) []string) func(journalFiles) {
		return func(f journalFiles) {
			name := names(f)[file]
			lines := strings.Split(strings.TrimSuffix(string(f[name]), "\n"), "\n")
			f[name] = []byte(strings.Join(change(lines), "\n") + "\n")
		}
	}
	line := func(file, n int, change func(string) string) func(journalFiles) {
		return edit(file, func(lines []string) []string { lines[n] = change(lines[n]); return lines })
	}
	replace := func(old, with string) func(string) string {
		return func(s string) string {
			if !strings.Contains(s, old) {
				t.Fatalf("%q has no %q", s, old)
			}
			return strings.Replace(s, old, with, 1)
		}
	}
	well := func(change func(string) string) func(string) string {
		return func(s string) string { return again(change(s)) }
	}
	stranger, err := NewKey("test", [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		do  func(journalFiles)
		say string
	}{
		"a byte of a record":                  {line(0, 2, replace("start", "stArt")), "record 3 cannot be read: the checksum does not fit"},
		"a byte of the checksum":              {line(0, 2, func(s string) string { return s[:len(s)-3] + "x" + s[len(s)-2:] }), "record 3 cannot be read"},
		"a record, with its checksum":         {line(0, 2, well(replace("start", "stArt"))), "one of 2 to 19 was changed"},
		"the time of a record":                {line(1, 3, well(replace(`"time":"2`, `"time":"3`))), "was changed"},
		"the severity of a record":            {line(0, 4, well(replace("notice", "info"))), "was changed"},
		"the sequence of a record":            {line(1, 3, well(func(s string) string { return `{"sequence":9` + s[len(`{"sequence":`):] })), "missing"},
		"a checksum taken away":               {line(1, 3, func(s string) string { return s[:len(s)-crcBytes] + "}" }), "bears no checksum"},
		"a space put in":                      {line(0, 2, well(replace(`,"type"`, `, "type"`))), "was changed"},
		"a record taken out":                  {edit(0, func(l []string) []string { return slices.Delete(l, 3, 4) }), "records 4 to 4 are missing"},
		"the first record taken out":          {edit(0, func(l []string) []string { return l[1:] }), "records 1 to 1 are missing"},
		"the last record of a file taken out": {edit(1, func(l []string) []string { return l[:len(l)-1] }), "missing"},
		"the first record of a file":          {edit(1, func(l []string) []string { return l[1:] }), "missing"},
		"a record put in":                     {edit(0, func(l []string) []string { return slices.Insert(l, 3, l[2]) }), "record 3 stands where 4 is due"},
		"a line of nothing put in":            {edit(0, func(l []string) []string { return slices.Insert(l, 3, "{}") }), "record 4 cannot be read"},
		"an empty line put in":                {edit(1, func(l []string) []string { return slices.Insert(l, 3, "") }), "cannot be read"},
		"two records changed round":           {edit(0, func(l []string) []string { l[3], l[4] = l[4], l[3]; return l }), "missing"},
		"two records change their numbers": {edit(0, func(l []string) []string {
			l[3], l[4] = again(strings.Replace(l[4], `"sequence":5`, `"sequence":4`, 1)), again(strings.Replace(l[3], `"sequence":4`, `"sequence":5`, 1))
			return l
		}), "was changed"},
		"a file taken away":       {func(f journalFiles) { delete(f, names(f)[1]) }, "missing"},
		"the first file":          {func(f journalFiles) { delete(f, names(f)[0]) }, "records 1 to"},
		"the newest file":         {func(f journalFiles) { delete(f, names(f)[len(f)-1]) }, "the end is missing"},
		"all files":               {func(f journalFiles) { clear(f) }, "the end is missing"},
		"the end of the newest":   {func(f journalFiles) { n := names(f)[len(f)-1]; f[n] = f[n][:bytes.IndexByte(f[n], '\n')+1] }, "the end is missing"},
		"half of the last record": {func(f journalFiles) { n := names(f)[len(f)-1]; f[n] = f[n][:len(f[n])-30] }, "without an end of line"},
		"two files change names":  {func(f journalFiles) { n := names(f); f[n[1]], f[n[2]] = f[n[2]], f[n[1]] }, "missing"},
		"a file under another name": {func(f journalFiles) {
			n := names(f)
			f["00000000000000000101.jsonl"] = f[n[len(n)-1]]
			delete(f, n[len(n)-1])
		}, "its name says 101"},
		"a file twice":                          {func(f journalFiles) { n := names(f); f[n[len(n)-1]] = append(slices.Clone(f[n[1]]), f[n[len(n)-1]]...) }, "stands where"},
		"zeroes in the middle":                  {func(f journalFiles) { n := names(f)[1]; clear(f[n][100:400]) }, "cannot be read"},
		"a checkpoint's size":                   {line(1, 0, well(replace(`"size":"`, `"size":"1`))), "checkpoint"},
		"a checkpoint's root":                   {line(1, 0, well(replace(`"root":"`, `"root":"A`))), "its edge comes to root"},
		"a checkpoint's edge":                   {line(1, 0, well(replace(`"edge":"`, `"edge":"A`))), "edge of the tree"},
		"a checkpoint's note":                   {line(1, 0, well(replace(`"note":"test\n`, `"note":"test\n1`))), "checkpoint"},
		"a checkpoint taken out":                {edit(1, func(l []string) []string { return l[1:] }), "missing"},
		"all from one on, signed by a stranger": {func(f journalFiles) { rewritten(t, f, stranger) }, "checkpoint: "},
		"all, without signatures":               {func(f journalFiles) { rewritten(t, f, nil) }, "a checkpoint that is held"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, held := written(t, 120)
			f := files(t, dir)
			before := maps.Clone(f)
			c.do(f)
			for name := range before {
				if err := os.Remove(filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
			for name, data := range f {
				if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got := verified(t, dir, held)
			if !slices.ContainsFunc(got.Findings, func(f Finding) bool { return strings.Contains(f.What, c.say) }) {
				t.Errorf("want %q among %+v", c.say, got.Findings)
			}
			if n, err := audit(dir, signer(t).Public); err == nil && n == held.Size+1 {
				t.Error("the second verifier finds nothing")
			}
			if len(got.Findings) > 12 {
				t.Errorf("%d findings of one change: %+v", len(got.Findings), got.Findings)
			}
		})
	}
}

// TestSilenceIsFound: a journal that beats every minute and then does not for a while needs a reason on record.
func TestSilenceIsFound(t *testing.T) {
	began := time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC)
	resume := func(since time.Duration) *Event {
		e := (&trouble{since: began.Add(since), cause: ErrStalled}).event(began.Add(10 * time.Minute))
		return &e
	}
	for name, c := range map[string]struct {
		passes time.Duration
		says   *Event        // before the beat after it
		set    time.Duration // as that beat says
		anew   bool          // another file begins, with a beat of its own before says
		silent bool
	}{
		"a daemon started on another day":                {passes: time.Hour, anew: true, says: &Event{Type: DaemonStart, Severity: Notice, Message: "start"}},
		"a file begins, and no reason":                   {passes: time.Hour, anew: true, silent: true},
		"a file begins, and something else":              {passes: time.Hour, anew: true, says: &Event{Type: DriftFind, Severity: Warning, Message: "drift"}, silent: true},
		"a file begins after the disk took nothing":      {passes: 10 * time.Minute, anew: true, says: resume(90 * time.Second)},
		"a file begins, and the disk failed later":       {passes: 10 * time.Minute, anew: true, says: resume(9 * time.Minute), silent: true},
		"three minutes are none":                         {passes: 3 * time.Minute},
		"ten minutes and no reason":                      {passes: 10 * time.Minute, silent: true},
		"ten minutes and something else":                 {passes: 10 * time.Minute, says: &Event{Type: DriftFind, Severity: Warning, Message: "drift"}, silent: true},
		"the clock was set forward":                      {passes: time.Hour, set: 58 * time.Minute},
		"set forward by less than is missing":            {passes: time.Hour, set: 30 * time.Minute, silent: true},
		"the clock was set back":                         {passes: -59 * time.Minute, set: -time.Hour},
		"set back, and behind that ten minutes":          {passes: -50 * time.Minute, set: -time.Hour, silent: true},
		"a daemon started":                               {passes: time.Hour, says: &Event{Type: DaemonStart, Severity: Notice, Message: "start"}},
		"a daemon stopped":                               {passes: 10 * time.Minute, says: &Event{Type: DaemonStop, Severity: Notice, Message: "stop"}},
		"the disk took nothing from the beat on":         {passes: 10 * time.Minute, says: resume(90 * time.Second)},
		"the disk took nothing, but only from later on":  {passes: 10 * time.Minute, says: resume(9 * time.Minute), silent: true},
		"the disk took nothing, and it is not said when": {passes: 10 * time.Minute, says: &Event{Type: JournalResume, Severity: Notice, Message: "again"}, silent: true},
	} {
		t.Run(name, func(t *testing.T) {
			p := page{links: links{map[string]chain{}, map[string]chain{}}, signer: signer(t), now: began}
			must := func(err error) {
				if err != nil {
					t.Fatal(err)
				}
			}
			must(p.add(&Event{Type: DaemonStart, Severity: Notice, Message: "start"}, nil))
			must(p.settle())
			p.now = p.now.Add(time.Minute)
			must(p.settle())
			p.now = p.now.Add(c.passes)
			dir := t.TempDir()
			first := uint64(1)
			if c.anew {
				must(os.WriteFile(filepath.Join(dir, segmentName(first)), p.lines.Bytes(), 0o600))
				first = p.sequence + 1
				p.lines.Reset()
				must(p.settle())
			}
			if c.says != nil {
				e := *c.says
				must(p.add(&e, nil))
			}
			p.set = c.set
			must(p.settle())
			must(os.WriteFile(filepath.Join(dir, segmentName(first)), p.lines.Bytes(), 0o600))
			if got := verified(t, dir); got.Whole() == c.silent || c.silent && !strings.Contains(got.Findings[0].What, "nothing on record says why") {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestSetBetween(t *testing.T) {
	from := clock.Reading{Wall: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), Boot: time.Minute}
	for _, c := range []struct {
		from             clock.Reading
		wall, boot, want time.Duration
	}{
		{from, time.Minute, time.Minute, 0},
		{from, time.Minute + time.Second, time.Minute, 0}, // a leap second
		{from, time.Hour, time.Minute, 59 * time.Minute},
		{from, -time.Hour, time.Minute, -61 * time.Minute},
		{from, time.Hour, time.Hour, 0}, // the box slept
		{clock.Reading{}, time.Hour, time.Minute, 0},
	} {
		if got := setBetween(c.from, clock.Reading{Wall: from.Wall.Add(c.wall), Boot: from.Boot + c.boot}); got != c.want {
			t.Errorf("%s by the clock in %s: set by %s, want %s", c.wall, c.boot, got, c.want)
		}
	}
}

// rewritten makes the whole journal anew, with one event changed, as somebody would who has all but the key.
func rewritten(t *testing.T, f map[string][]byte, signer *Key) {
	t.Helper()
	var grown tree
	for _, name := range slices.Sorted(maps.Keys(f)) {
		var out []string
		for text := range strings.SplitSeq(strings.TrimSuffix(string(f[name]), "\n"), "\n") {
			e, _, err := decode([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			if e.Sequence == 30 {
				e.Message = "nothing happened"
			}
			if e.Type == JournalCheckpoint {
				sequence, when := e.Sequence, e.Time
				if e, err = checkpointOf(grown, signer); err != nil {
					t.Fatal(err)
				}
				e.Sequence, e.Time = sequence, when
			}
			line, err := encode(e)
			if err != nil {
				t.Fatal(err)
			}
			grown.grow(leaf(line))
			out = append(out, string(line))
		}
		f[name] = []byte(strings.Join(out, "\n") + "\n")
	}
}

// TestProofs: each record of a journal is proved, and no other.
func TestProofs(t *testing.T) {
	dir, held := written(t, 60)
	_, v := keys(t)
	for sequence := uint64(1); sequence <= held.Size; sequence++ {
		p, err := Prove(t.Context(), dir, sequence)
		if err != nil {
			t.Fatal(err)
		}
		if e, err := p.Verify(v); err != nil || e.Sequence != sequence {
			t.Fatalf("record %d: %+v, %v", sequence, e, err)
		}
		forged := p
		forged.Record = again(strings.Replace(p.Record, `"time":"2`, `"time":"3`, 1))
		if e, err := forged.Verify(v); err == nil {
			t.Fatalf("record %d: a forged one is proved: %+v", sequence, e)
		}
	}
	for _, sequence := range []uint64{0, held.Size + 1, held.Size + 2, 1 << 60} {
		if p, err := Prove(t.Context(), dir, sequence); err == nil {
			t.Errorf("record %d: %+v", sequence, p)
		}
	}
}

// TestJournalOfTheFirstVersionGoesOn: records without checksums stay as they are, and are settled with what comes.
func TestJournalOfTheFirstVersionGoesOn(t *testing.T) {
	dir := t.TempDir()
	old := `{"sequence":1,"time":"2026-11-24T10:00:00Z","type":"daemon.start","severity":"notice","message":"start"}` + "\n" +
		`{"sequence":2,"time":"2026-11-24T10:00:01Z","type":"daemon.stop","severity":"notice","message":"stop"}` + "\n"
	if err := os.WriteFile(filepath.Join(dir, segmentName(1)), []byte(old), 0o640); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		j, err := Open(dir, signer(t))
		if err != nil {
			t.Fatal(err)
		}
		mustAppend(t, j, started(0))
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if got := verified(t, dir); !got.Whole() || got.Last < 6 || got.Settled != got.Last-1 {
		t.Errorf("%+v", got)
	}
	f := files(t, dir)
	if len(f) != 2 || string(f[segmentName(1)]) != old {
		t.Errorf("the old file was changed, or no day has ended since: %d files", len(f))
	}
}
