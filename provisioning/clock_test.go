package provisioning

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"shekara/journal"
	"shekara/netctl/clock"
)

// hostClock is a clock that somebody keeps, or not, and that can be set; the time since boot goes on whatever he does.
type hostClock struct {
	mu     sync.Mutex
	booted time.Time
	kept   bool
	set    time.Duration
}

func (c *hostClock) read() (clock.Reading, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return clock.Reading{State: clock.State{Synchronised: c.kept, MaxError: 3 * time.Millisecond}, Wall: time.Now().Add(c.set).Round(0), Boot: time.Since(c.booted), Gap: time.Microsecond}, nil
}

func (c *hostClock) change(kept bool, step time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kept, c.set = kept, c.set+step
}

// TestTimeStateIsOnRecord goes through a day of a clock: lost, kept again, set, and somebody who changes it all the time.
func TestTimeStateIsOnRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		c := &hostClock{booted: time.Now(), kept: true}
		b.open()
		b.Engine.options.Clock = c.read
		b.done.Go(func() error { b.keepClock(t.Context()); return nil })
		seen := 0
		expect := func(what string, types ...journal.Type) []journal.Event {
			t.Helper()
			time.Sleep(clockEvery)
			synctest.Wait()
			b.events.mu.Lock()
			defer b.events.mu.Unlock()
			got := b.events.list[seen:]
			seen = len(b.events.list)
			if len(got) != len(types) {
				t.Fatalf("%s: %+v", what, got)
			}
			for i := range got {
				if got[i].Type != types[i] {
					t.Fatalf("%s: %+v, want %s", what, got[i], types[i])
				}
			}
			return got
		}
		status := func() *ClockStatus { return b.clockStatus(t) }
		expect("a clock that is kept is nothing to tell")
		if s := status(); !s.Synchronised || s.MaxError != 3*time.Millisecond {
			t.Errorf("%+v", s)
		}
		c.change(false, 0)
		lost := expect("lost", journal.ClockLose)[0]
		if f := lost.Fields; f["before"] != "synchronised" || f["after"] != "unsynchronised" || f["errorMicroseconds"] != "3000" || f["times"] != "1" {
			t.Errorf("%v", f)
		}
		if s := status(); s.Synchronised || time.Since(s.Since) > clockEvery {
			t.Errorf("%+v", s)
		}
		time.Sleep(2 * clockWindow)
		c.change(true, 0)
		expect("kept again", journal.ClockSynchronise)

		c.change(true, 900*time.Millisecond)
		expect("less than a second is not told")
		c.change(true, -time.Hour)
		step := expect("set back", journal.ClockStep)[0]
		if f := step.Fields; f["by"] != "-1h0m0s" || f["times"] != "1" || f["before"] <= f["after"] {
			t.Errorf("%v", f)
		}
		c.change(true, time.Minute)
		expect("a second event of a kind waits")
		c.change(true, time.Minute)
		time.Sleep(clockWindow)
		if f := expect("and has all", journal.ClockStep)[0].Fields; f["by"] != "2m0s" || f["times"] != "2" {
			t.Errorf("%v", f)
		}
		if s := status(); s.Steps != 3 {
			t.Errorf("%+v", s)
		}

		time.Sleep(2 * clockWindow)
		for range 60 { // ten minutes
			c.change(!status().Synchronised, 10*time.Second)
			time.Sleep(clockEvery)
			synctest.Wait()
		}
		if n := b.events.count(journal.ClockLose) + b.events.count(journal.ClockSynchronise); n < 5 || n > 13 {
			t.Errorf("%d events of a clock that was lost and kept again every ten seconds for ten minutes", n)
		}
		if n := b.events.count(journal.ClockStep); n < 5 || n > 13 {
			t.Errorf("%d events of a clock that was set every ten seconds for ten minutes", n)
		}
	})
}

// TestClockThatNobodyKeepsIsToldAtStart: the records that follow cannot be believed in their times, and say so.
func TestClockThatNobodyKeepsIsToldAtStart(t *testing.T) {
	k := timekeeping{}
	r := clock.Reading{Wall: time.Now(), Boot: time.Minute}
	k.observe(r)
	events := k.tell(time.Now(), r)
	if len(events) != 1 || events[0].Type != journal.ClockLose || events[0].Fields["before"] != "" || events[0].Fields["errorMicroseconds"] != "" {
		t.Errorf("%+v", events)
	}
}

func (b *box) clockStatus(t *testing.T) *ClockStatus {
	t.Helper()
	s, err := b.Status(t.Context())
	if err != nil || s.Clock == nil {
		t.Fatalf("%+v, %v", s.Clock, err)
	}
	return s.Clock
}
