package source

import (
	"time"
)

const (
	burst      = 8               // requests at first, as many as the filter has stages
	burstEvery = 2 * time.Second // as ntpd and chronyd do (iburst)
	pollLeast  = 16 * time.Second
	pollMost   = 64 * time.Second
	pollAfter  = 8                  // answers, then the interval doubles
	pollSlowed = 1024 * time.Second // no kiss makes it slower
	lostAfter  = 4                  // requests without an answer, then the source is not reached
)

// Recent are the bits of SourceStatus.Reach that make a source reached.
const Recent = 1<<lostAfter - 1

// pace is how often a source is asked.
type pace struct {
	left     int           // of the burst
	interval time.Duration // after it
	floor    time.Duration // what the source asked for by kisses; 0: nothing
	answers  int           // since the interval changed
	misses   int           // requests without an answer, since the last that had one
}

func newPace() *pace { return &pace{left: burst, interval: pollLeast} }

// hurry begins a burst, but where the source asked for less.
func (p *pace) hurry() {
	if p.floor == 0 {
		p.left, p.interval, p.answers = burst, pollLeast, 0
	}
}

// next is how long to wait after a request. One without an answer is repeated soon, to know quickly whether that was an accident, and then ever later.
func (p *pace) next(answered bool) time.Duration {
	if !answered {
		p.misses, p.answers = min(p.misses+1, 16), 0
		return max(min(burstEvery<<(p.misses-1), pollMost), p.floor)
	}
	if p.misses >= lostAfter { // it is back
		p.hurry()
	}
	p.misses = 0
	if p.left > 0 {
		p.left--
	}
	if p.left > 0 {
		return burstEvery
	}
	if p.answers++; p.answers > pollAfter {
		p.answers, p.interval = 1, min(2*p.interval, pollMost)
	}
	return max(p.interval, p.floor)
}

// slow obeys the kiss RATE: at least twice as long as before, for good (RFC 5905 section 7.4).
func (p *pace) slow() time.Duration {
	p.left, p.misses = 0, 0
	p.floor = min(max(2*p.floor, 2*p.interval), pollSlowed)
	return p.floor
}
