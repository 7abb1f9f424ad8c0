package source

import (
	"time"

	"shekara/netctl/clock"
)

// stepLeast is what a clock that nobody set may seem to have been set by, beside the gaps of the readings.
const stepLeast = 20 * time.Microsecond

// Steps tells that somebody set the clock, from one reading to the next. The zero value is ready.
type Steps struct{ base clock.Reading } // since when nobody set it

// By is by how much the clock was set since it was asked before, forward or back; 0: it was not.
func (s *Steps) By(r clock.Reading) time.Duration {
	if s.base.Wall.IsZero() {
		s.base = r
		return 0
	}
	by := r.Wall.Sub(s.base.Wall) - (r.Boot - s.base.Boot)
	if by.Abs() <= stepLeast+s.base.Gap+r.Gap {
		if r.Gap < s.base.Gap {
			s.base = r // it shows smaller steps
		}
		return 0
	}
	s.base = r
	return by
}
