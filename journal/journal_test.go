package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shekara/netctl/clock"
	"shekara/netctl/durable"
)

func started(n int) Event {
	return Event{Type: DaemonStart, Severity: Notice, Object: fmt.Sprintf("daemon/%d", n), Message: fmt.Sprintf("start %d", n)}
}

func mustOpen(t *testing.T, dir string) *Journal {
	t.Helper()
	j, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = j.Close()
		holdOwn(t, dir)
	})
	return j
}

func mustAppend(t testing.TB, j *Journal, e Event) Event {
	t.Helper()
	e, err := j.Append(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func objects(t *testing.T, j *Journal) []string {
	t.Helper()
	events, err := j.Read(t.Context(), 0, MaxRead)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for i, e := range events {
		if e.Sequence != uint64(i+1) {
			t.Fatalf("event %d has sequence %d: there is a gap", i+1, e.Sequence)
		}
		if e.Type != JournalCheckpoint {
			names = append(names, e.Object)
		}
	}
	return names
}

func TestConcurrentAppendersShareSyncsAndLeaveNoGap(t *testing.T) {
	dir := t.TempDir()
	var syncs int
	j, err := open(dir, nil, 1<<20, on(func(path string) (segment, error) {
		s, err := openSegment(path)
		return &faulty{segment: s, at: func(point string) (bool, error) {
			if point == "sync" {
				syncs++
			}
			return true, nil
		}}, err
	}))
	if err != nil {
		t.Fatal(err)
	}
	const writers, each = 50, 20
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for n := range each {
				if _, err := j.Append(t.Context(), started(w*each+n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if got := objects(t, j); len(got) != writers*each {
		t.Errorf("%d events, want %d", len(got), writers*each)
	}
	if syncs >= writers*each {
		t.Errorf("%d syncs for %d events: appenders do not share them", syncs, writers*each)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if got := objects(t, mustOpen(t, dir)); len(got) != writers*each {
		t.Errorf("%d events after opening again, want %d", len(got), writers*each)
	}
}

func TestAppendRefuses(t *testing.T) {
	j := mustOpen(t, t.TempDir())
	for name, e := range map[string]Event{
		"unknown type":     {Type: "daemon.dance", Severity: Info},
		"unknown severity": {Type: DaemonStart, Severity: "loud"},
		"too long":         {Type: DaemonStart, Severity: Info, Message: strings.Repeat("x", MaxEventBytes)},
	} {
		if _, err := j.Append(t.Context(), e); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if got := mustAppend(t, j, started(1)); got.Sequence != 1 || got.Time.IsZero() {
		t.Errorf("the first event taken is %+v", got)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Append(t.Context(), started(2)); !errors.Is(err, ErrClosed) {
		t.Errorf("append after close: %v", err)
	}
}

func TestTornTailIsSetAside(t *testing.T) {
	for name, torn := range map[string]string{
		"half a record":           `{"sequence":3,"time":"2026-0`,
		"zeros":                   strings.Repeat("\x00", 4096),
		"a line that is no event": "garbage\n",
		"garbage, then half":      "garbage\n{\"sequence\":3",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			j := mustOpen(t, dir)
			mustAppend(t, j, started(1))
			mustAppend(t, j, started(2))
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			file, err := os.OpenFile(filepath.Join(dir, segmentName(1)), os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := file.WriteString(torn); err != nil {
				t.Fatal(err)
			}
			if err := file.Close(); err != nil {
				t.Fatal(err)
			}

			j = mustOpen(t, dir)
			mustAppend(t, j, started(4))
			events, err := j.Read(t.Context(), 0, 10)
			if err != nil {
				t.Fatal(err)
			}
			var types []Type
			for _, e := range events {
				types = append(types, e.Type)
			}
			if diff := cmp.Diff([]Type{DaemonStart, DaemonStart, JournalCut, DaemonStart}, types); diff != "" {
				t.Error(diff)
			}
			aside, err := os.ReadFile(filepath.Join(dir, events[2].Fields["file"]))
			if err != nil || string(aside) != torn {
				t.Errorf("set aside %q, %v", aside, err)
			}
		})
	}
}

// A full or read-only disk must not keep a box from starting: the journal opens, says so at each append, and once it can write again
// puts the torn end and the hole on record.
func TestDiskThatTakesNothing(t *testing.T) {
	dir := t.TempDir()
	j := mustOpen(t, dir)
	mustAppend(t, j, started(1))
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, segmentName(1))
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(text, "{half"...), 0o640); err != nil {
		t.Fatal(err)
	}
	var full atomic.Bool
	full.Store(true)
	j, err = open(dir, nil, 1<<20, on(func(path string) (segment, error) {
		if full.Load() {
			return nil, errDisk
		}
		return openSegment(path)
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	for _, e := range []Event{started(2), {Type: DriftFind, Severity: Warning, Message: "x"}, started(3)} {
		if _, err := j.Append(t.Context(), e); !errors.Is(err, errDisk) {
			t.Errorf("append to a full disk: %v", err)
		}
	}
	full.Store(false)
	if e := mustAppend(t, j, started(4)); e.Sequence != 5 {
		t.Errorf("sequence %d, want 5: after the first event, what was cut, what was missed and that it goes on", e.Sequence)
	}
	events, err := j.Read(t.Context(), 0, 10)
	if err != nil || len(events) != 5 {
		t.Fatalf("%d events, %v", len(events), err)
	}
	if events[3].Type != JournalResume || events[1].Type != JournalCut || events[2].Type != JournalMiss || !strings.Contains(events[2].Message, "3 events could not be written and are lost: daemon.start (2), drift.find (1)") {
		t.Errorf("events %+v", events[1:3])
	}
}

func TestDamageInTheMiddleIsReportedAndLeft(t *testing.T) {
	dir := t.TempDir()
	j := mustOpen(t, dir)
	for n := range 3 {
		mustAppend(t, j, started(n))
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, segmentName(1))
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := strings.Replace(string(text), `{"sequence":2`, `{!sequence":2`, 1)
	if err := os.WriteFile(path, []byte(damaged), 0o640); err != nil {
		t.Fatal(err)
	}
	j = mustOpen(t, dir)
	events, err := j.Read(t.Context(), 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	var sequences []uint64
	for _, e := range events {
		sequences = append(sequences, e.Sequence)
	}
	if diff := cmp.Diff([]uint64{1, 3, 4}, sequences); diff != "" {
		t.Error(diff)
	}
	if events[2].Type != JournalDamage {
		t.Errorf("the last event is %s", events[2].Type)
	}
	now, err := os.ReadFile(path)
	if err != nil || !strings.HasPrefix(string(now), damaged) {
		t.Error("a file with damage in it was changed")
	}
}

func TestRotationAndReadingAcrossFiles(t *testing.T) {
	dir := t.TempDir()
	j, err := open(dir, signer(t), 4<<10, realDisk())
	if err != nil {
		t.Fatal(err)
	}
	const n = 400
	for i := range n {
		e := started(i)
		e.Message = strings.Repeat("m", i%300)
		if i%10 == 0 {
			e.Type, e.Object = TunnelState, "tunnel/a"
		}
		mustAppend(t, j, e)
	}
	firsts, err := segments(dir)
	if err != nil || len(firsts) < 5 {
		t.Fatalf("%d files, %v", len(firsts), err)
	}
	last := j.Last()
	for _, after := range []uint64{0, 1, 17, firsts[2] - 1, firsts[2], last - 1, last, last + 5} {
		events, err := j.Read(t.Context(), after, 7)
		if err != nil {
			t.Fatal(err)
		}
		want := []uint64{}
		for s := after + 1; s <= min(after+7, last); s++ {
			want = append(want, s)
		}
		got := []uint64{}
		for _, e := range events {
			got = append(got, e.Sequence)
		}
		if !slices.Equal(got, want) {
			t.Errorf("read after %d: %v, want %v", after, got, want)
		}
	}
	states, looked, err := j.Query(t.Context(), 0, 1000, Filter{Types: []Type{"tunnel.*"}, Object: "tunnel/"})
	if err != nil || len(states) != n/10 || looked != last {
		t.Errorf("query: %d events, looked at %d, %v", len(states), looked, err)
	}
	if tail, err := j.Tail(t.Context(), 3); err != nil || len(tail) != 3 || tail[2].Sequence != last {
		t.Errorf("tail: %v, %v", tail, err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if got := objects(t, mustOpen(t, dir)); len(got) != n {
		t.Errorf("%d events after opening again", len(got))
	}
}

func TestSeekInALongFile(t *testing.T) {
	j := mustOpen(t, t.TempDir())
	const n = 3000
	var group sync.WaitGroup
	for w := range 10 {
		group.Go(func() {
			for i := range n / 10 {
				e := started(i)
				e.Message = strings.Repeat("x", (i*w)%900)
				if _, err := j.Append(t.Context(), e); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	for after := uint64(0); after < n; after += 37 {
		events, err := j.Read(t.Context(), after, 1)
		if err != nil || len(events) != 1 || events[0].Sequence != after+1 {
			t.Fatalf("read after %d: %v, %v", after, events, err)
		}
	}
}

func TestWait(t *testing.T) {
	j := mustOpen(t, t.TempDir())
	seen := make(chan error, 1)
	go func() { seen <- j.Wait(t.Context(), 0) }()
	mustAppend(t, j, started(1))
	if err := <-seen; err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := j.Wait(ended, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("wait with an ended context: %v", err)
	}
	go func() { seen <- j.Wait(t.Context(), 1) }()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-seen; !errors.Is(err, ErrClosed) {
		t.Errorf("wait at close: %v", err)
	}
}

func TestOneJournalAtATime(t *testing.T) {
	dir := t.TempDir()
	j := mustOpen(t, dir)
	var held *durable.HeldError
	if _, err := Open(dir, nil); !errors.As(err, &held) {
		t.Errorf("second open: %v", err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, dir)
}

// TestTheClockIsBelievedAsWhoMeasuresItSays: what the box's time service measured stands on each record, the journal's own too, not what the kernel was told.
func TestTheClockIsBelievedAsWhoMeasuresItSays(t *testing.T) {
	j, err := Open(t.TempDir(), signer(t))
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	state := clock.State{Synchronised: true, MaxError: 1234 * time.Microsecond}
	j.Believe(func() (clock.State, error) { return state, nil })
	record := func() int64 {
		e, err := j.Append(t.Context(), Event{Type: DriftFind, Severity: Warning, Message: "m"})
		if err != nil {
			t.Fatal(err)
		}
		return e.ClockErrorMicroseconds
	}
	if got := record(); got != 1234 {
		t.Errorf("%d, want what was measured", got)
	}
	if j.Settle() == "" {
		t.Fatal("no checkpoint")
	}
	own, err := j.Read(t.Context(), j.Last()-1, 1)
	if err != nil || len(own) != 1 || own[0].Type != JournalCheckpoint || own[0].ClockErrorMicroseconds != 1234 {
		t.Errorf("%+v, %v", own, err)
	}
	state.Synchronised = false
	if got := record(); got != 0 {
		t.Errorf("%d of a clock that is not synchronised", got)
	}
}
