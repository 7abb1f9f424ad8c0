package source

import (
	"time"

	"shekara/timesync"
)

// agreed is what a majority says, and the source that is followed.
type agreed struct {
	offset                    time.Duration // of this box's clock
	rootDelay, rootDispersion time.Duration
	stratum                   uint8 // of this box
	leap                      timesync.Leap
	referenceID               uint32
	reference                 string
	heard                     time.Time
}

// judge is the state machine: what is true of the clock, from what was agreed on and when.
type judge struct {
	maxDistance time.Duration
	standing    timesync.Standing
}

func newJudge(maxDistance time.Duration, now time.Time) *judge {
	return &judge{maxDistance: maxDistance, standing: timesync.Unknown(now)}
}

// confirmed takes what a majority says now.
func (j *judge) confirmed(now time.Time, a agreed, drift float64) {
	next := timesync.Standing{
		State: timesync.Synchronised, Since: j.standing.Since, Leap: a.leap, Stratum: a.stratum,
		ReferenceID: a.referenceID, Reference: a.reference, ReferenceTime: a.heard, Offset: a.offset,
		RootDelay: a.rootDelay, RootDispersion: a.rootDispersion, Drift: max(drift, timesync.Tolerance), At: now,
	}
	if next.Bound(now) > j.maxDistance || a.stratum >= timesync.MaxStratum {
		next.State = timesync.Unsynchronised
	}
	j.become(now, next)
}

// unconfirmed: there is no majority now. What was known grows old.
func (j *judge) unconfirmed(now time.Time) {
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

// stepped: somebody set the clock forward by by, or back. The clock is then wrong by no more than it was, and the step.
func (j *judge) stepped(now time.Time, by time.Duration) {
	next := j.standing
	next.RootDispersion += by.Abs()
	next.Offset -= by
	if !next.ReferenceTime.IsZero() {
		next.ReferenceTime = next.ReferenceTime.Add(by)
	}
	j.standing = next
	j.unconfirmed(now)
}

func (j *judge) become(now time.Time, next timesync.Standing) {
	if next.State == timesync.Unsynchronised {
		next.Leap, next.Stratum, next.ReferenceID, next.Reference = timesync.LeapUnknown, timesync.MaxStratum, 0, ""
	}
	if next.State != j.standing.State {
		next.Since = now
	}
	j.standing = next
}
