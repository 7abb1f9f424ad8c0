package timesync

import (
	"time"
)

// State is how far the clock is kept.
type State string

const (
	Synchronised   State = "synchronised"   // enough sources agree, and the root distance is below the bound
	Holdover       State = "holdover"       // it was so, no source confirms it now, and the bound that grows since then is still below the limit
	Unsynchronised State = "unsynchronised" // nothing is known of it, or too little
)

// Leap is the leap indicator (RFC 5905 figure 9).
type Leap uint8

const (
	LeapNone    Leap = 0
	LeapInsert  Leap = 1 // the last minute of the day has 61 seconds
	LeapDelete  Leap = 2 // it has 59
	LeapUnknown Leap = 3 // the clock is not synchronised
)

// MaxStratum says that the clock is not synchronised (RFC 5905 section 7.3).
const MaxStratum = 16

// Tolerance is by how much a clock that nobody measures may drift: 15 ppm (PHI, RFC 5905 section 11.1).
const Tolerance = 15e-6

// Standing is what may be said of the clock, as of At. Its durations are non-negative but for Offset.
type Standing struct {
	State         State     `json:"state"`
	Since         time.Time `json:"since"` // it is in State since then
	Leap          Leap      `json:"leap"`
	Stratum       uint8     `json:"stratum"`                // one more than that of the source it follows, or MaxStratum
	ReferenceID   uint32    `json:"referenceID"`            // of that source: its IPv4 address, or the first four bytes of the MD5 of its IPv6 address; else 0
	Reference     string    `json:"reference,omitempty"`    // its name
	ReferenceTime time.Time `json:"referenceTime,omitzero"` // when it was measured last
	// Offset is what must be added to the clock to be right, by the sources that agree. It counts into RootDispersion, since it is what an answer is wrong by.
	Offset         time.Duration `json:"offset"`
	RootDelay      time.Duration `json:"rootDelay"`
	RootDispersion time.Duration `json:"rootDispersion"` // at At; it grows by Drift
	Drift          float64       `json:"drift"`          // seconds a second by which RootDispersion grows: what was measured, Tolerance at least
	At             time.Time     `json:"at"`
}

// Unknown is the standing of a clock of which nothing is known.
func Unknown(now time.Time) Standing {
	return Standing{State: Unsynchronised, Since: now, Leap: LeapUnknown, Stratum: MaxStratum, Drift: Tolerance, At: now}
}

// Dispersion is RootDispersion as it has grown until now.
func (s Standing) Dispersion(now time.Time) time.Duration {
	return s.RootDispersion + time.Duration(float64(max(now.Sub(s.At), 0))*max(s.Drift, Tolerance))
}

// Bound is by how much the clock may be wrong now: its root distance (RFC 5905 section 11.2.3). It means nothing while the clock is Unsynchronised.
func (s Standing) Bound(now time.Time) time.Duration {
	return s.RootDelay/2 + s.Dispersion(now)
}
