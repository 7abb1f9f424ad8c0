package source

import (
	"time"

	"shekara/timesync"
)

// Agreed is what a majority says, and the source that is followed.
type Agreed struct {
	Offset                    time.Duration // of this box's clock
	RootDelay, RootDispersion time.Duration
	Stratum                   uint8 // of this box
	Leap                      timesync.Leap
	ReferenceID               uint32
	Reference                 string
	Heard                     time.Time
}

// Judge is the state machine: what is true of the clock, from what was agreed on and when. Both engines have one. It belongs to one goroutine.
type Judge struct {
	maxDistance time.Duration
	standing    timesync.Standing
}

// NewJudge makes one of a clock of which nothing is known, and which is not synchronised where it may be wrong by more than maxDistance: 0 is 1 s (MAXDIST, RFC 5905 section 11.1).
func NewJudge(maxDistance time.Duration, now time.Time) *Judge {
	if maxDistance <= 0 {
		maxDistance = time.Second
	}
	return &Judge{maxDistance: maxDistance, standing: timesync.Unknown(now)}
}

// Standing is what is true of the clock.
func (j *Judge) Standing() timesync.Standing { return j.standing }

// Confirmed takes what a majority says now.
func (j *Judge) Confirmed(now time.Time, a Agreed, drift float64) {
	next := timesync.Standing{
		State: timesync.Synchronised, Since: j.standing.Since, Leap: a.Leap, Stratum: a.Stratum,
		ReferenceID: a.ReferenceID, Reference: a.Reference, ReferenceTime: a.Heard, Offset: a.Offset,
		RootDelay: a.RootDelay, RootDispersion: a.RootDispersion, Drift: max(drift, timesync.Tolerance), At: now,
	}
	if next.Bound(now) > j.maxDistance || a.Stratum >= timesync.MaxStratum {
		next.State = timesync.Unsynchronised
	}
	j.become(now, next)
}

// Unconfirmed: there is no majority now. What was known grows old.
func (j *Judge) Unconfirmed(now time.Time) {
	next := j.standing
	if next.State == timesync.Unsynchronised {
		return
	}
	next.State = timesync.Holdover
	if next.Bound(now) > j.maxDistance {
		next.State = timesync.Unsynchronised
	}
	if a, b := next.ReferenceTime.UTC(), now.UTC(); a.YearDay() != b.YearDay() || a.Year() != b.Year() {
		next.Leap = timesync.LeapNone // it was announced for the end of a day that is over (RFC 5905 figure 9)
	}
	j.become(now, next)
}

// Stepped: somebody set the clock forward by by, or back. The clock is then wrong by no more than it was, and the step; but not for a leap second that was announced.
func (j *Judge) Stepped(now time.Time, by time.Duration) {
	next := j.standing
	if leap := leapOf(next.Leap); leap != 0 && (by+leap).Abs() < leapWithin && midnight(now) {
		by += leap
		next.Leap = timesync.LeapNone
	}
	if !next.ReferenceTime.IsZero() { // else nothing was known, and is not now
		next.RootDispersion += by.Abs()
		next.Offset -= by
		next.ReferenceTime = next.ReferenceTime.Add(by)
	}
	j.standing = next
	j.Unconfirmed(now)
}

// leapWithin is how near to one second a step must be to be a leap second.
const leapWithin = 10 * time.Millisecond

// leapOf is what is inserted: the kernel sets the clock back by it.
func leapOf(l timesync.Leap) time.Duration {
	return map[timesync.Leap]time.Duration{timesync.LeapInsert: time.Second, timesync.LeapDelete: -time.Second}[l]
}

// midnight says whether it is at most a minute to or past midnight, by UTC.
func midnight(t time.Time) bool {
	return t.Add(time.Minute).UTC().Sub(t.Add(time.Minute).UTC().Truncate(24*time.Hour)) <= 2*time.Minute
}

func (j *Judge) become(now time.Time, next timesync.Standing) {
	if next.State == timesync.Unsynchronised {
		next.Leap, next.Stratum, next.ReferenceID, next.Reference = timesync.LeapUnknown, timesync.MaxStratum, 0, ""
	}
	if next.State != j.standing.State {
		next.Since = now
	}
	j.standing = next
}
