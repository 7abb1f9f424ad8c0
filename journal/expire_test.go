package journal

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// daily is a journal with a file for each of so many legal days, the last of which is today's, as if it had been written then.
func daily(t *testing.T, days int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	p := page{links: links{map[string]chain{}, map[string]chain{}}, signer: signer(t)}
	for day := range days {
		p.now = time.Now().UTC().AddDate(0, 0, day-days+1)
		first := p.sequence + 1
		p.lines.Reset()
		if day > 0 {
			must(t, p.settle())
		}
		for n := range 6 {
			e := of(n)
			must(t, p.add(&e, nil))
		}
		must(t, p.add(&Event{Type: DaemonStop, Severity: Notice}, nil))
		must(t, os.WriteFile(filepath.Join(dir, segmentName(first)), p.lines.Bytes(), openMode))
	}
	return dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// month is how many days a period of one month has that begins so many days ago, and one day more, which is then old.
const month = 33

func well(j *Journal) outside { return outside{synchronised: true, anchored: j.Last()} }

func begins(t *testing.T, dir string) uint64 { t.Helper(); return mustSegments(t, dir)[0] }

// whole demands that both verifiers find the journal whole.
func whole(t *testing.T, dir string) {
	t.Helper()
	if got := verified(t, dir); !got.Whole() {
		t.Errorf("%+v", got.Findings)
	}
	audited(t, dir)
}

// settledNow appends a record and signs: the newest record is of now.
func settledNow(t *testing.T, j *Journal) {
	t.Helper()
	mustAppend(t, j, started(1))
	j.Settle()
}

// TestExpiry: the oldest day goes, when it is old, and what is left is whole, provable, and goes on; an archived file that is copied back completes it.
func TestExpiry(t *testing.T) {
	dir := daily(t, month+2)
	archive := t.TempDir()
	j := signedOpen(t, dir)
	settledNow(t, j)
	must(t, os.CopyFS(archive, os.DirFS(dir)))
	if _, err := j.cool(t.Context(), time.Now(), 0); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	must(t, j.expire(t.Context(), now, 1, well(j)))
	second := mustSegments(t, archive)[1]
	if got := begins(t, dir); got != second {
		t.Fatalf("the journal begins with record %d, want %d: one day goes", got, second)
	}
	gone := all(t, j, JournalExpire)
	if len(gone) != 1 || gone[0].Fields[fieldFirst] != "1" || gone[0].Fields[fieldLast] != fmt.Sprint(second-1) || gone[0].Fields[fieldBytes] == "0" {
		t.Errorf("%+v", gone)
	}
	whole(t, dir)
	// The same day nothing more goes, and on the next the next.
	must(t, j.expire(t.Context(), now.Add(23*time.Hour), 1, well(j)))
	if got := begins(t, dir); got != second {
		t.Errorf("a second day went at once: it begins with %d", got)
	}
	must(t, j.saveExpiry(expiry{Event: gone[0].Sequence, Last: second - 1, Time: now.Add(-25 * time.Hour), Done: true}))
	settledNow(t, j)
	must(t, j.expire(t.Context(), now, 1, well(j)))
	third := mustSegments(t, archive)[2]
	if got := begins(t, dir); got != third {
		t.Errorf("a day later it begins with %d, want %d", got, third)
	}
	whole(t, dir)
	_, verifiers := keys(t)
	for _, sequence := range []uint64{third, third + 1, third + 40, gone[0].Sequence} {
		proof, err := j.Prove(t.Context(), sequence)
		if err != nil {
			t.Fatal(err)
		}
		if e, err := proof.Verify(verifiers); err != nil || e.Sequence != sequence {
			t.Errorf("the proof of record %d: %v", sequence, err)
		}
	}
	if _, err := j.Prove(t.Context(), 3); err == nil {
		t.Error("a record that is gone is proved")
	}
	must(t, j.Close())
	again := signedOpen(t, dir)
	settledNow(t, again)
	must(t, again.Close())
	whole(t, dir)
	restored(t, dir, archive, second)
}

// restored copies archived files back beside a copy of the journal.
func restored(t *testing.T, dir, archive string, second uint64) {
	t.Helper()
	for _, name := range []string{segmentName(second), segmentName(1)} { // newest first: what is in between must not be missing
		must(t, os.WriteFile(filepath.Join(dir, name), mustRead(t, filepath.Join(archive, name)), closedMode))
		whole(t, dir)
	}
	if got := verified(t, dir); got.First != 1 {
		t.Errorf("restored, it begins with %d", got.First)
	}
	must(t, os.Remove(filepath.Join(dir, segmentName(second))))
	if got := verified(t, dir); got.Whole() {
		t.Error("a hole in what is restored is not found")
	}
	changed := strings.Replace(string(mustRead(t, filepath.Join(dir, segmentName(1)))), `"before":"`, `"before":"A`, 1)
	must(t, os.WriteFile(filepath.Join(dir, segmentName(second)), mustRead(t, filepath.Join(archive, segmentName(second))), closedMode))
	must(t, os.Remove(filepath.Join(dir, segmentName(1))))
	must(t, os.WriteFile(filepath.Join(dir, segmentName(1)), []byte(changed), closedMode))
	if got := verified(t, dir); got.Whole() {
		t.Error("a change in what is restored is not found")
	}
}

// TestNothingExpires: where one condition does not hold nothing goes; the control, in which all hold, does.
func TestNothingExpires(t *testing.T) {
	for name, c := range map[string]struct {
		days   int
		change func(j *Journal, now *time.Time, months *int, o *outside)
		goes   bool
		kept   string // begins so; "": nothing is said
	}{
		"all holds":           {month, func(*Journal, *time.Time, *int, *outside) {}, true, ""},
		"too young":           {20, func(*Journal, *time.Time, *int, *outside) {}, false, ""},
		"kept longer":         {month, func(_ *Journal, _ *time.Time, months *int, _ *outside) { *months = 2 }, false, ""},
		"nobody keeps time":   {month, func(_ *Journal, _ *time.Time, _ *int, o *outside) { o.synchronised = false }, false, "nobody keeps the clock"},
		"no centre":           {month, func(_ *Journal, _ *time.Time, _ *int, o *outside) { o.anchored = 0 }, false, "no centre outside"},
		"the centre is away":  {month, func(_ *Journal, _ *time.Time, _ *int, o *outside) { o.anchored -= 20 }, false, "the newest record that a centre"},
		"nobody signs":        {month, func(j *Journal, _ *time.Time, _ *int, _ *outside) { j.state.key = nil }, false, "nobody signs"},
		"a clock set forward": {20, func(_ *Journal, now *time.Time, _ *int, _ *outside) { *now = now.AddDate(3, 0, 0) }, false, "the journal has records of 19 days"},
		"a day went today": {month, func(j *Journal, now *time.Time, _ *int, _ *outside) {
			must(t, j.saveExpiry(expiry{Event: 1, Last: 1, Time: now.Add(-23 * time.Hour), Done: true}))
		}, false, "one day's records go"},
	} {
		dir := daily(t, c.days)
		j := signedOpen(t, dir)
		settledNow(t, j)
		now, months, o := time.Now(), 1, well(j)
		c.change(j, &now, &months, &o)
		must(t, j.expire(t.Context(), now, months, o))
		if goes := begins(t, dir) != 1; goes != c.goes {
			t.Errorf("%s: files go: %v", name, goes)
		}
		if s, err := j.Stats(); err != nil || !strings.HasPrefix(s.Kept, c.kept) || (s.Kept == "") != (c.kept == "") {
			t.Errorf("%s: it is kept because %q, %v", name, s.Kept, err)
		}
		whole(t, dir)
	}
}

// TestDaysThatTheClockPassedOverDoNotCount: after a step of three years, with a centre that takes records on, what was recorded before stays.
func TestDaysThatTheClockPassedOverDoNotCount(t *testing.T) {
	dir := t.TempDir()
	p := page{links: links{map[string]chain{}, map[string]chain{}}, signer: signer(t)}
	for n, ago := range []int{1200, 1199, 1198, 0} { // days
		p.now = time.Now().UTC().AddDate(0, 0, -ago)
		first := p.sequence + 1
		p.lines.Reset()
		if n > 0 {
			must(t, p.settle())
		}
		must(t, p.add(&Event{Type: DaemonStart, Severity: Notice}, nil))
		must(t, os.WriteFile(filepath.Join(dir, segmentName(first)), p.lines.Bytes(), openMode))
	}
	j := signedOpen(t, dir)
	settledNow(t, j)
	must(t, j.expire(t.Context(), time.Now(), KeepMonths, well(j)))
	if begins(t, dir) != 1 {
		t.Error("days went that are old by a clock that was set forward")
	}
}

// TestExpiryFaults fails each step in turn, done or not: at each moment the journal is whole, nothing goes without its record, and in the end the day is gone.
func TestExpiryFaults(t *testing.T) {
	for step := range 6 {
		for _, persisted := range []bool{false, true} {
			t.Run(fmt.Sprintf("step %d, persisted %v", step, persisted), func(t *testing.T) {
				dir := daily(t, month)
				at := -1
				fails := func(do func() error) error {
					if at++; at != step {
						return do()
					}
					if persisted {
						if err := do(); err != nil {
							return err
						}
					}
					return errDisk
				}
				real := realDisk()
				armed := false
				d := disk{create: real.create, reserve: real.reserve,
					write: func(path string, data []byte, mode os.FileMode) error {
						return fails(func() error { return real.write(path, data, mode) })
					},
					remove: func(path string) error {
						if !armed {
							return real.remove(path)
						}
						return fails(func() error { return real.remove(path) })
					}}
				j, err := open(dir, signer(t), segmentBytes, d)
				must(t, err)
				settledNow(t, j)
				second := mustSegments(t, dir)[1]
				armed = true
				failed := j.expire(t.Context(), time.Now(), 1, well(j))
				if reached := at >= step; reached != (failed != nil) {
					t.Errorf("the fault is told: %v", failed)
				}
				if begins(t, dir) != 1 && len(all(t, j, JournalExpire)) == 0 {
					t.Error("files are gone, and no record says so")
				}
				must(t, j.Close())
				whole(t, dir)
				again := signedOpen(t, dir) // as after a kill
				settledNow(t, again)
				must(t, again.expire(t.Context(), time.Now(), 1, well(again)))
				if got := begins(t, dir); got != second {
					t.Errorf("in the end it begins with record %d, want %d", got, second)
				}
				if said := len(all(t, again, JournalExpire)); said < 1 || said > 2 {
					t.Errorf("%d records say so", said)
				}
				must(t, again.Close())
				whole(t, dir)
			})
		}
	}
}

// TestAPrefixThatNobodyVouchesForIsMissing: a removal without a record, one with a record that is not signed yet, of more than the record says, or of another tree.
func TestAPrefixThatNobodyVouchesForIsMissing(t *testing.T) {
	forged := func(change func(*Event)) string {
		dir := daily(t, 5)
		j := signedOpen(t, dir)
		r, err := j.expireRecord(mustSegments(t, dir)[:1], mustSegments(t, dir)[1]-1, KeepMonths, "2026-11-26")
		must(t, err)
		change(&r.event)
		r, err = newRecord(r.event, false, nil)
		must(t, err)
		mustAppend(t, j, r.event)
		must(t, j.Close())
		must(t, os.Remove(filepath.Join(dir, segmentName(1))))
		return dir
	}
	whole(t, forged(func(*Event) {})) // the control
	unsigned := daily(t, 5)
	r, err := (&Journal{dir: unsigned, zone: time.UTC}).expireRecord(mustSegments(t, unsigned)[:1], mustSegments(t, unsigned)[1]-1, KeepMonths, "2026-11-26")
	must(t, err)
	j, err := Open(unsigned, nil)
	must(t, err)
	mustAppend(t, j, r.event)
	must(t, j.Close())
	must(t, os.Remove(filepath.Join(unsigned, segmentName(1))))
	more := forged(func(*Event) {})
	must(t, os.Remove(filepath.Join(more, segmentName(begins(t, more)))))
	for name, dir := range map[string]string{
		"another type":  forged(func(e *Event) { e.Type = DaemonStart }),
		"another tree":  forged(func(e *Event) { e.Fields[fieldRoot], e.Fields[fieldEdge] = tree{}.root().String(), "" }),
		"another range": forged(func(e *Event) { e.Fields[fieldLast] = "3" }),
		"not signed":    unsigned,
		"more is gone":  more,
	} {
		if got := verified(t, dir); got.Whole() {
			t.Errorf("%s: it is whole", name)
		}
	}
	if _, err := audit(more, signer(t).Public); err == nil {
		t.Error("the second verifier finds nothing where more is gone than a record says")
	}
}

func signedOpen(t *testing.T, dir string) *Journal {
	t.Helper()
	j, err := Open(dir, signer(t))
	must(t, err)
	t.Cleanup(func() {
		_ = j.Close()
		holdOwn(t, dir)
	})
	return j
}

// TestADayThatCannotBeReadGoesWithTheNext: of a file whose first line is damaged nobody knows the day; it does not go with an older one.
func TestADayThatCannotBeReadGoesWithTheNext(t *testing.T) {
	for name, spoiled := range map[string]int{"the oldest": 0, "the one behind it": 1} {
		t.Run(name, func(t *testing.T) {
			dir := daily(t, month+3)
			firsts := mustSegments(t, dir)
			path := filepath.Join(dir, segmentName(firsts[spoiled]))
			data, err := os.ReadFile(path)
			must(t, err)
			data[20] ^= 1
			must(t, os.WriteFile(path, data, openMode))
			j := signedOpen(t, dir)
			files, day, _, err := j.aged(firsts, time.Now(), 1)
			want := []int{2, 1}[spoiled]
			if err != nil || files != want {
				t.Errorf("%d files of %s go at once, want %d, %v", files, day, want, err)
			}
		})
	}
}

// TestAnEmptyNewestFileCostsOneFile: a power cut between the making of a file and its first record must not make a start read three years.
func TestAnEmptyNewestFileCostsOneFile(t *testing.T) {
	dir := daily(t, 6)
	firsts := mustSegments(t, dir)
	j := signedOpen(t, dir)
	must(t, j.Close())
	want, last := j.tree.root(), j.Last()
	must(t, os.WriteFile(filepath.Join(dir, segmentName(last+1)), nil, openMode))
	got, err := treeBefore(dir, append(firsts, last+1))
	if err != nil || got.root() != want {
		t.Errorf("%d records, %v", got.size, err)
	}
	for _, first := range firsts[:len(firsts)-1] { // what lies before is not asked
		must(t, os.Rename(filepath.Join(dir, segmentName(first)), filepath.Join(dir, "away-"+segmentName(first))))
		must(t, os.WriteFile(filepath.Join(dir, segmentName(first)), []byte("not read\n"), openMode))
	}
	if got, err = treeBefore(dir, append(firsts, last+1)); err != nil || got.root() != want {
		t.Errorf("%d records, %v", got.size, err)
	}
}

// TestTheFormatNamesTheFieldsOfAnExpiry: what docs/journal-format.md says that a journal.expire holds is what it holds.
func TestTheFormatNamesTheFieldsOfAnExpiry(t *testing.T) {
	dir := daily(t, 3)
	firsts := mustSegments(t, dir)
	r, err := signedOpen(t, dir).expireRecord(firsts[:1], firsts[1]-1, KeepMonths, "2026-11-26")
	must(t, err)
	_, section, _ := strings.Cut(string(mustRead(t, "../docs/journal-format.md")), "\n## Records that are removed\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var said []string
	for _, row := range regexp.MustCompile("(?m)^\\| (`.*?`) \\|").FindAllStringSubmatch(section, -1) {
		for _, name := range strings.Split(row[1], ", ") {
			said = append(said, strings.Trim(name, "`"))
		}
	}
	slices.Sort(said)
	if held := slices.Sorted(maps.Keys(r.event.Fields)); !slices.Equal(said, held) {
		t.Errorf("the format names %q, the record holds %q", said, held)
	}
}
