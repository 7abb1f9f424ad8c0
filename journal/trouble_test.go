package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"shekara/netctl/clock"
	"shekara/netctl/durable"
)

// on is a disk with room for a reserve.
func on(create func(string) (segment, error)) disk {
	return disk{create: create, reserve: func(string) error { return nil }, remove: func(string) error { return nil }}
}

// noRoom is what the kernel answers when a disk is full.
func noRoom(t *testing.T) error {
	err := os.WriteFile("/dev/full", []byte("x"), 0)
	if !durable.Full(err) {
		t.Fatalf("a write to /dev/full: %v", err)
	}
	return err
}

func drop(n int) Event {
	return Event{Type: PacketDrop, Severity: Notice, Object: fmt.Sprintf("rule/%d", n)}
}

func asked(n int) Event {
	return Event{Type: ApplyStart, Severity: Notice, Object: fmt.Sprintf("revision/%d", n)}
}

func revert(n int) Event {
	return Event{Type: RevisionRevert, Severity: Alert, Object: fmt.Sprintf("revision/%d", n)}
}

// outcome is what is known of a post now.
func outcome(posted <-chan error) (err error, known bool) {
	select {
	case err = <-posted:
		return err, true
	default:
		return nil, false
	}
}

// all is the journal's own records of a type.
func all(t *testing.T, j *Journal, types ...Type) []Event {
	t.Helper()
	events, looked, err := j.Query(t.Context(), 0, MaxRead, Filter{Types: types})
	if err != nil || looked != j.Last() {
		t.Fatalf("looked up to %d of %d: %v", looked, j.Last(), err)
	}
	for _, e := range events {
		declared(t, e)
	}
	return events
}

// stalling is a disk whose fdatasync does not return between stall and release.
type stalling struct {
	mu   sync.Mutex
	gate chan struct{}
}

func (s *stalling) stall() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gate = make(chan struct{})
}

func (s *stalling) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.gate)
	s.gate = nil
}

func (s *stalling) disk() disk {
	return on(func(path string) (segment, error) {
		file, err := openSegment(path)
		return &faulty{segment: file, at: func(point string) (bool, error) {
			s.mu.Lock()
			gate := s.gate
			s.mu.Unlock()
			if gate != nil && point == "sync" {
				<-gate
			}
			return true, nil
		}}, err
	})
}

// TestStalledDisk: while an fdatasync does not return, who may not wait does not, who must know is refused within seconds, the memory that it takes is bounded, and
// afterwards the journal has all that was in it, and says what not and when.
func TestStalledDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s stalling
		dir := t.TempDir()
		j, err := open(dir, signer(t), 1<<20, s.disk())
		if err != nil {
			t.Fatal(err)
		}
		mustAppend(t, j, asked(0))
		signed := j.Settle()
		if h := j.Health(); h.Err != nil || h.Waiting != 0 || h.Missed != 0 || h.Unsigned != nil {
			t.Errorf("healthy, and yet %+v", h)
		}
		s.stall()
		began := time.Now()
		if _, err := j.Append(t.Context(), asked(1)); !errors.Is(err, ErrStalled) || time.Since(began) != patience || !strings.Contains(err.Error(), "not known yet") {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		stalled := time.Now()
		if h := j.Health(); !errors.Is(h.Err, ErrStalled) || !h.Since.Equal(began) || h.Slow != 1 {
			t.Errorf("%+v, it stalled at %s", h, began)
		}
		const more = 100
		var posts []<-chan error
		for n := range queueRecords + more {
			posts = append(posts, j.Post(revert(n)))
		}
		for n := range 3 {
			if _, err := j.Append(t.Context(), asked(2+n)); !errors.Is(err, ErrStalled) || strings.Contains(err.Error(), "not known yet") {
				t.Errorf("known to be stalled: %v", err)
			}
		}
		if events := objects(t, j); len(events) != 1 {
			t.Errorf("not on disk, but read: %v", events)
		}
		if time.Since(stalled) != 0 {
			t.Errorf("who may not wait, or asks when it is known, has waited %s", time.Since(stalled))
		}
		if settled := j.Settle(); settled != signed || time.Since(stalled) != patience {
			t.Errorf("asked for a checkpoint: %q after %s", settled, time.Since(stalled))
		}
		if h := j.Health(); h.Waiting != queueRecords || h.Missed != more+3 {
			t.Errorf("%+v", h)
		}
		time.Sleep(time.Hour)
		s.release()
		time.Sleep(2 * retryEvery)
		for n, post := range posts {
			if err, known := outcome(post); !known || (err == nil) != (n < queueRecords) {
				t.Fatalf("post %d: %v, known %v", n, err, known)
			}
		}
		for n, e := range all(t, j, RevisionRevert) {
			if e.Object != revert(n).Object || e.Time.Sub(stalled) != 0 {
				t.Fatalf("revert %d is %+v", n, e)
			}
		}
		missed, resumed := all(t, j, JournalMiss), all(t, j, JournalResume)
		if len(missed) != 1 || len(resumed) != 1 || missed[0].Fields["count"] != fmt.Sprint(more+3) || !strings.Contains(missed[0].Message, fmt.Sprintf("apply.start (3), revision.revert (%d)", more)) ||
			resumed[0].Fields["since"] != began.UTC().Format(time.RFC3339Nano) || !strings.Contains(resumed[0].Message, ErrStalled.Error()) {
			t.Errorf("%+v\n%+v", missed, resumed)
		}
		if h := j.Health(); h.Err != nil || h.Waiting != 0 || h.Slow != 1 {
			t.Errorf("afterwards: %+v", h)
		}
		if len(all(t, j, ApplyStart)) != 2 { // what was undecided was written
			t.Errorf("%v", all(t, j, ApplyStart))
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		if got := verified(t, dir); !got.Whole() || got.Settled == 0 { // an hour in which nothing could be signed, for which journal.resume has the reason
			t.Errorf("%+v", got)
		}
	})
}

// TestCloseDoesNotWaitForAStalledDisk: it says what is lost.
func TestCloseDoesNotWaitForAStalledDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s stalling
		j, err := open(t.TempDir(), nil, 1<<20, s.disk())
		if err != nil {
			t.Fatal(err)
		}
		s.stall()
		j.Post(revert(0))
		synctest.Wait()
		j.Post(revert(1))
		began := time.Now()
		if err := j.Close(); !errors.Is(err, ErrStalled) || !strings.Contains(err.Error(), "2 events wait") || time.Since(began) != patience {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		if err, _ := outcome(j.Post(revert(2))); !errors.Is(err, ErrClosed) {
			t.Errorf("after the end: %v", err)
		}
		s.release()
		synctest.Wait() // or the bubble does not end
	})
}

// small is a disk with so much room, of which a reserve takes some.
type small struct {
	mu             sync.Mutex
	room, reserved int
	full           error
}

const smallReserve = 4000

func (s *small) take(n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n > s.room {
		return s.full
	}
	s.room -= n
	return nil
}

func (s *small) give(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.room += n
}

type smallFile struct {
	segment
	disk *small
}

func (f smallFile) Append(p []byte) error {
	if err := f.disk.take(len(p)); err != nil {
		return fmt.Errorf("append: %w", err)
	}
	return f.segment.Append(p)
}

func (s *small) disk() disk {
	return disk{
		create: func(path string) (segment, error) {
			file, err := openSegment(path)
			return smallFile{file, s}, err
		},
		reserve: func(string) error {
			err := s.take(smallReserve)
			if err == nil {
				s.reserved = smallReserve
			}
			return err
		},
		remove: func(string) error {
			s.give(s.reserved)
			s.reserved = 0
			return nil
		},
	}
}

// TestFullDisk: the reserve has room for the record that says so and for what happens by itself; changes are refused, bulk is counted, and nothing of that is lost
// when there is room again.
func TestFullDisk(t *testing.T) {
	s := &small{room: smallReserve + 1000, full: noRoom(t)}
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		j, err := open(dir, signer(t), 1<<20, s.disk())
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		n := 0
		for ; err == nil && n < 100; n++ {
			_, err = j.Append(t.Context(), started(n))
		}
		if !errors.Is(err, ErrFull) || n < 3 || n == 100 {
			t.Fatalf("append %d: %v", n, err)
		}
		since := time.Now()
		if events := all(t, j, JournalFull); len(events) != 1 || events[0].Severity != Alert || events[0].Fields["reserve"] == "0" {
			t.Fatalf("that it is full is on record so: %+v", events)
		}
		if h := j.Health(); !errors.Is(h.Err, ErrFull) || !h.Since.Equal(since) {
			t.Errorf("%+v", h)
		}
		if _, err := j.Append(t.Context(), started(n)); !errors.Is(err, ErrFull) {
			t.Errorf("append: %v", err)
		}
		if err := <-j.Post(revert(0)); err != nil {
			t.Errorf("a revert finds no room: %v", err)
		}
		if err := <-j.Post(drop(0)); !errors.Is(err, ErrFull) {
			t.Errorf("a dropped packet: %v", err)
		}
		// What was lost is on record with the next checkpoint, though it is full yet.
		time.Sleep(checkpointEvery)
		synctest.Wait()
		if missed := all(t, j, JournalMiss); len(missed) != 1 || !strings.Contains(missed[0].Message, "daemon.start (2), packet.drop (1)") {
			t.Errorf("%+v", missed)
		}
		// The reserve's room ends: what happens by itself waits.
		var waiting <-chan error
		reverts := 1
		for known := true; known; reverts++ {
			waiting = j.Post(revert(reverts))
			time.Sleep(time.Millisecond)
			_, known = outcome(waiting)
		}
		if reverts < 5 {
			t.Errorf("the reserve had room for %d reverts", reverts)
		}
		j.Post(drop(1))
		s.give(smallReserve / 2) // less than the reserve: it is full yet, but what waits finds room
		if err := <-waiting; err != nil {
			t.Error(err)
		}
		if _, err := j.Append(t.Context(), started(n)); !errors.Is(err, ErrFull) {
			t.Errorf("append: %v", err)
		}
		s.give(10 * smallReserve)
		time.Sleep(2 * retryEvery)
		synctest.Wait()
		if h := j.Health(); h.Err != nil || h.Waiting != 0 || h.Missed != 5 {
			t.Errorf("%+v", h)
		}
		mustAppend(t, j, started(n))
		resumed, missed := all(t, j, JournalResume), all(t, j, JournalMiss)
		if len(resumed) != 1 || resumed[0].Fields["since"] != since.UTC().Format(time.RFC3339Nano) || len(all(t, j, JournalFull)) != 1 ||
			!strings.Contains(missed[len(missed)-1].Message, "daemon.start (1), packet.drop (1)") || len(all(t, j, RevisionRevert)) != reverts {
			t.Errorf("%+v\n%+v", resumed, missed)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		if got := verified(t, dir); !got.Whole() {
			t.Errorf("%+v", got.Findings)
		}
	})
}

// TestFullWhenItEnded: a journal that ended while its disk was full says when it can be written again, once, also where the full disk saw a new day and with it a new file.
func TestFullWhenItEnded(t *testing.T) {
	full := noRoom(t)
	for name, lasts := range map[string]time.Duration{"for a moment": time.Second, "over a day": 25 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			s := &small{room: smallReserve + 1000, full: full}
			dir := t.TempDir()
			j, err := open(dir, nil, 1<<20, s.disk())
			if err != nil {
				t.Fatal(err)
			}
			for n := 0; err == nil; n++ {
				_, err = j.Append(t.Context(), started(n))
			}
			since := time.Now()
			time.Sleep(lasts)
			if err := <-j.Post(revert(0)); err != nil {
				t.Fatal(err)
			}
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			s.give(100 * smallReserve)
			for life := range 2 {
				if j, err = open(dir, nil, 1<<20, s.disk()); err != nil {
					t.Fatal(err)
				}
				mustAppend(t, j, started(life))
				resumed := all(t, j, JournalResume)
				if len(resumed) != 1 || resumed[0].Fields["since"] != since.UTC().Format(time.RFC3339Nano) || !strings.Contains(resumed[0].Message, errFullBefore.Error()) {
					t.Errorf("%s, life %d: %+v", name, life, resumed)
				}
				if h := j.Health(); h.Err != nil || !h.Since.IsZero() {
					t.Errorf("%s, life %d: %+v", name, life, h)
				}
				if err := j.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestFullFromTheStart: a box whose disk is full starts, and says so as soon as a byte finds room.
func TestFullFromTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &small{full: noRoom(t)}
		j, err := open(t.TempDir(), nil, 1<<20, s.disk())
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		if _, err := j.Append(t.Context(), started(0)); !errors.Is(err, ErrFull) || !errors.Is(j.Health().Err, ErrFull) && !durable.Full(j.Health().Err) {
			t.Errorf("%v, %+v", err, j.Health())
		}
		s.give(1000)
		time.Sleep(2 * retryEvery)
		if events := all(t, j, JournalFull); len(events) != 1 || events[0].Fields["reserve"] != "0" {
			t.Errorf("%+v", events)
		}
		s.give(10 * smallReserve)
		time.Sleep(2 * retryEvery)
		mustAppend(t, j, started(1))
	})
}

// TestTheReserveIsReal: it is a file with its blocks on the disk, and gone from it when it is given back.
func TestTheReserveIsReal(t *testing.T) {
	dir := t.TempDir()
	mustOpen(t, dir)
	path := filepath.Join(dir, reserveName)
	info, err := os.Stat(path)
	if err != nil || info.Size() != reserveBytes {
		t.Fatalf("%v, %v", info, err)
	}
	if err := realDisk().remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("given back: %v", err)
	}
}

// TestClockOfRecords: each says how wrong its time may be, if somebody keeps the clock, and else does not.
func TestClockOfRecords(t *testing.T) {
	now, err := clock.Now()
	if err != nil {
		t.Fatal(err)
	}
	j, err := Open(t.TempDir(), signer(t))
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	mustAppend(t, j, started(1))
	j.Settle()
	events, err := j.Read(t.Context(), 0, 10)
	if err != nil || len(events) != 2 {
		t.Fatal(events, err)
	}
	for _, e := range events {
		if (e.ClockErrorMicroseconds > 0) != now.Synchronised || e.ClockErrorMicroseconds > time.Minute.Microseconds() {
			t.Errorf("the clock is %+v, the record %+v", now, e)
		}
	}
}

// TestMissedAddsUp: merged in any order the counts are the same.
func TestMissedAddsUp(t *testing.T) {
	at := func(second int, kind Type) missed {
		var m missed
		m.add(Event{Type: kind, Time: time.Unix(int64(second), 0)})
		return m
	}
	var forth, back missed
	parts := []missed{at(5, PacketDrop), {}, at(3, DriftFind), at(9, PacketDrop)}
	for i := range parts {
		forth.merge(parts[i])
		back.merge(parts[len(parts)-1-i])
	}
	if diff := cmp.Diff(forth.event(), back.event()); diff != "" || forth.count != 3 || forth.since.Unix() != 3 || forth.until.Unix() != 9 {
		t.Errorf("%+v, %s", forth, diff)
	}
}
