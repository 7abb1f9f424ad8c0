package source

import (
	"math"
	"time"
)

const (
	driftPoints = 128
	driftEvery  = time.Minute // between two points
	driftSpan   = 10 * time.Minute
	driftFewest = 8
)

// drift is how fast the clock goes wrong while nobody mends it, by a straight line through the offsets that were measured (least squares). Whoever steers the clock's speed
// steers what is measured here: it is what he leaves.
type drift struct {
	at      []time.Time
	offsets []float64 // seconds
	rate    float64   // seconds a second, either way, as found last; 0: never
}

// add takes an offset that was measured at a moment. Those that come too soon after the one before, or are older, add nothing.
func (d *drift) add(at time.Time, offset time.Duration) {
	if n := len(d.at); n > 0 && at.Sub(d.at[n-1]) < driftEvery {
		return
	}
	if len(d.at) == driftPoints {
		d.at, d.offsets = d.at[:copy(d.at, d.at[1:])], d.offsets[:copy(d.offsets, d.offsets[1:])]
	}
	d.at, d.offsets = append(d.at, at), append(d.offsets, offset.Seconds())
	if rate, ok := slope(d.at, d.offsets); ok {
		d.rate = rate
	}
}

// restart forgets the points, since the clock was set, and not what they showed.
func (d *drift) restart() { d.at, d.offsets = d.at[:0], d.offsets[:0] }

// slope is that of the line, and twice its standard error: what is not exceeded, but in one case of twenty. It is not ok before there is enough to tell it from noise.
func slope(at []time.Time, offsets []float64) (rate float64, ok bool) {
	n := float64(len(at))
	if len(at) < driftFewest || at[len(at)-1].Sub(at[0]) < driftSpan {
		return 0, false
	}
	meanX, meanY := 0.0, 0.0
	for i := range at {
		meanX += at[i].Sub(at[0]).Seconds() / n
		meanY += offsets[i] / n
	}
	xx, xy := 0.0, 0.0
	for i := range at {
		x := at[i].Sub(at[0]).Seconds() - meanX
		xx += x * x
		xy += x * (offsets[i] - meanY)
	}
	b := xy / xx
	rest := 0.0
	for i := range at {
		r := offsets[i] - meanY - b*(at[i].Sub(at[0]).Seconds()-meanX)
		rest += r * r
	}
	return math.Abs(b) + 2*math.Sqrt(rest/(n-2)/xx), true
}
