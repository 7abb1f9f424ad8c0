package clock

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestNow(t *testing.T) {
	s, err := Now()
	if err != nil || s.MaxError < 0 || s.Synchronised && s.MaxError > 16*time.Second {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestRecent: it is what the kernel says, and asked again when that is old.
func TestRecent(t *testing.T) {
	before := recent.Load()
	defer recent.Store(before)
	now := time.Now()
	for name, c := range map[string]struct {
		age  time.Duration
		kept bool
	}{"just now": {0, true}, "a while ago": {recentFor - 1, true}, "long ago": {recentFor, false}, "of another time": {-1, false}} {
		lie := answer{at: now.Add(-c.age), State: State{MaxError: 77 * time.Hour}}
		recent.Store(&lie)
		for range 2 {
			if s, err := recentAt(now); err != nil || (s.MaxError == lie.MaxError) != c.kept {
				t.Errorf("%s: %+v, %v", name, s, err)
			}
		}
	}
}

func TestStateOf(t *testing.T) {
	for name, c := range map[string]struct {
		kept int
		t    unix.Timex
		want State
	}{
		"kept":             {unix.TIME_OK, unix.Timex{Maxerror: 2500}, State{true, 0, 2500 * time.Microsecond}},
		"a leap second":    {unix.TIME_INS, unix.Timex{Status: unix.STA_INS, Maxerror: 1}, State{true, 1, time.Microsecond}},
		"a second less":    {unix.TIME_DEL, unix.Timex{Status: unix.STA_DEL | unix.STA_NANO, Maxerror: 1}, State{true, -1, time.Microsecond}},
		"never kept":       {unix.TIME_ERROR, unix.Timex{Status: unix.STA_UNSYNC, Maxerror: 16_000_000}, State{false, 0, 16 * time.Second}},
		"said by one word": {unix.TIME_OK, unix.Timex{Status: unix.STA_UNSYNC, Maxerror: 1}, State{false, 0, time.Microsecond}},
	} {
		if got := stateOf(c.kept, &c.t); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// TestRead holds a reading against Go's clocks, which come from the kernel another way.
func TestRead(t *testing.T) {
	began := time.Now()
	first, err := Read()
	if err != nil {
		t.Fatal(err)
	}
	second, err := Read()
	if err != nil {
		t.Fatal(err)
	}
	ended := time.Now()
	if first.Wall.Before(began.Add(-time.Second)) || second.Wall.After(ended.Add(time.Second)) {
		t.Errorf("%s and %s do not lie between %s and %s", first.Wall, second.Wall, began, ended)
	}
	if passed := second.Boot - first.Boot; first.Boot <= 0 || passed < 0 || passed > ended.Sub(began) || first.Gap < 0 {
		t.Errorf("%s passed from %+v to %+v, and %s by Go's clock", passed, first, second, ended.Sub(began))
	}
}
