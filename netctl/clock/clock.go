package clock

import (
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// State is what the kernel says of its clock.
type State struct {
	Synchronised bool          // somebody keeps it, and has told the kernel not long ago
	Leap         int           // seconds that it was told to insert at the end of the day (UTC): 1, or -1 to leave one out; 0: neither
	MaxError     time.Duration // bound of its error, as whoever keeps it last said, and 500 ppm of the time since (MAXFREQ, kernel/time/ntp.c)
}

// Now asks the kernel. It needs no privilege.
func Now() (State, error) {
	s, _, err := ask()
	return s, err
}

// recentFor is how long an answer of the kernel's stays good for Recent: at 500 ppm a bound grows by half a microsecond meanwhile.
const recentFor = time.Millisecond

// answer is what the kernel said, and when.
type answer struct {
	at time.Time
	State
}

var recent atomic.Pointer[answer]

// Recent is Now for who asks thousands of times a second: the answer may be a millisecond old.
func Recent() (State, error) { return recentAt(time.Now()) }

func recentAt(now time.Time) (State, error) {
	if r := recent.Load(); r != nil {
		if age := now.Sub(r.at); age >= 0 && age < recentFor {
			return r.State, nil
		}
	}
	s, err := Now()
	if err == nil {
		recent.Store(&answer{now, s})
	}
	return s, err
}

// Reading is the clock beside one that nobody can set.
type Reading struct {
	State
	Wall time.Time     // by the clock
	Boot time.Duration // since the box booted, time asleep included (CLOCK_BOOTTIME); whoever corrects the clock's speed corrects this one's too
	Gap  time.Duration // the two were read within this time
}

// Read asks for both. What Wall gains over Boot from one reading to the next, but for the gaps, somebody set the clock by.
func Read() (Reading, error) {
	before, err := sinceBoot()
	if err != nil {
		return Reading{}, err
	}
	s, wall, err := ask()
	if err != nil {
		return Reading{}, err
	}
	after, err := sinceBoot()
	return Reading{State: s, Wall: wall, Boot: before, Gap: after - before}, err
}

func sinceBoot() (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0, fmt.Errorf("ask for the time since boot: %w", err)
	}
	return time.Duration(t.Nano()), nil
}

func ask() (State, time.Time, error) {
	var t unix.Timex // no modes: nothing is set
	kept, err := unix.Adjtimex(&t)
	if err != nil {
		return State{}, time.Time{}, fmt.Errorf("ask for the clock's state: %w", err)
	}
	fraction := time.Duration(t.Time.Usec) * time.Microsecond
	if t.Status&unix.STA_NANO != 0 {
		fraction = time.Duration(t.Time.Usec) // then it is in nanoseconds (adjtimex(2))
	}
	return stateOf(kept, &t), time.Unix(t.Time.Sec, int64(fraction)).UTC(), nil
}

// stateOf reads an answer. The kernel says TIME_ERROR, and sets STA_UNSYNC, when nobody has kept the clock for so long that its error may be above 16 s
// (NTP_PHASE_LIMIT), as it is from the start until somebody does.
func stateOf(kept int, t *unix.Timex) State {
	s := State{Synchronised: kept != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0, MaxError: time.Duration(t.Maxerror) * time.Microsecond}
	switch {
	case t.Status&unix.STA_INS != 0:
		s.Leap = 1
	case t.Status&unix.STA_DEL != 0:
		s.Leap = -1
	}
	return s
}
