package source

import (
	"math"
	"time"

	"shekara/timesync"
)

const (
	stages = 8 // of the clock filter (RFC 5905 section 10, NSTAGE)
	fewest = 3 // samples before a source is judged: one can be a stray
)

// sample is what one exchange measured, and what the server said of itself then.
type sample struct {
	offset, delay time.Duration
	dispersion    time.Duration // at at: how well both clocks can be read, and the tolerance over the exchange
	at            time.Time

	rootDelay, rootDispersion time.Duration // of the server
}

// distance is by how much offset may be wrong at now, if the server says the truth (root distance, RFC 5905 appendix A.5.5.2, without jitter).
func (s sample) distance(now time.Time, drift float64) time.Duration {
	return (s.rootDelay+s.delay)/2 + s.rootDispersion + s.dispersion + grown(now.Sub(s.at), drift)
}

// grown is by how much a clock may have gone wrong in a time.
func grown(age time.Duration, drift float64) time.Duration {
	return time.Duration(float64(max(age, 0)) * max(drift, timesync.Tolerance))
}

// register keeps the last samples of a source.
type register struct{ samples []sample }

func (r *register) push(s sample) {
	if len(r.samples) == stages {
		r.samples = r.samples[:copy(r.samples, r.samples[1:])]
	}
	r.samples = append(r.samples, s)
}

func (r *register) void() { r.samples = r.samples[:0] }

// best is the sample that bounds the error best now, and the jitter: how the others differ from it. There must be one.
func (r *register) best(now time.Time, drift float64) (best sample, jitter time.Duration) {
	best = r.samples[0]
	for _, s := range r.samples[1:] {
		if s.distance(now, drift) <= best.distance(now, drift) { // of equal ones the newest
			best = s
		}
	}
	if len(r.samples) == 1 {
		return best, 0
	}
	sum := 0.0
	for _, s := range r.samples {
		difference := (s.offset - best.offset).Seconds()
		sum += difference * difference
	}
	return best, time.Duration(math.Sqrt(sum/float64(len(r.samples)-1)) * float64(time.Second))
}
