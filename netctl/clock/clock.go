package clock

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// State is what the kernel says of its clock.
type State struct {
	Synchronised bool          // somebody keeps it, and has told the kernel not long ago
	MaxError     time.Duration // bound of its error, as whoever keeps it last said, and 500 ppm of the time since (MAXFREQ, kernel/time/ntp.c)
}

// Now asks the kernel. It needs no privilege.
func Now() (State, error) {
	var t unix.Timex // no modes: nothing is set
	kept, err := unix.Adjtimex(&t)
	if err != nil {
		return State{}, fmt.Errorf("ask for the clock's state: %w", err)
	}
	return stateOf(kept, &t), nil
}

// stateOf reads an answer. The kernel says TIME_ERROR, and sets STA_UNSYNC, when nobody has kept the clock for so long that its error may be above 16 s
// (NTP_PHASE_LIMIT), as it is from the start until somebody does.
func stateOf(kept int, t *unix.Timex) State {
	return State{Synchronised: kept != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0, MaxError: time.Duration(t.Maxerror) * time.Microsecond}
}
