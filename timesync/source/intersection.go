package source

import (
	"time"
)

// candidate is a source fit to be judged. If it is honest, the true offset lies within distance of its own.
type candidate struct {
	offset, distance time.Duration
}

func (c candidate) low() time.Duration  { return c.offset - c.distance }
func (c candidate) high() time.Duration { return c.offset + c.distance }

// overlap is from the first to the last offset that at least need of the candidates allow.
func overlap(all []candidate, need int) (low, high time.Duration, ok bool) {
	allow := func(at time.Duration) bool {
		n := 0
		for _, c := range all {
			if c.low() <= at && at <= c.high() {
				n++
			}
		}
		return n >= need
	}
	for _, c := range all {
		if at := c.low(); allow(at) && (!ok || at < low) {
			low, ok = at, true
		}
	}
	if !ok {
		return 0, 0, false
	}
	first := true
	for _, c := range all {
		if at := c.high(); allow(at) && (first || at > high) {
			high, first = at, false
		}
	}
	return low, high, true
}

// intersection finds the majority whose candidates agree, leaving out as few as can be (Marzullo's, as in RFC 5905 section 11.2.1): agree says of each whether it is of
// them, and the offsets from low to high are those that the majority allows. It is not ok where there is none.
//
// The RFC wants the middle of each of them in there too. ntpd and chronyd do not, nor does this: a distant server whose delay is lopsided is no liar beside a near one.
func intersection(all []candidate) (low, high time.Duration, agree []bool, ok bool) {
	for liars := 0; 2*liars < len(all); liars++ {
		if low, high, ok = overlap(all, len(all)-liars); !ok {
			continue
		}
		for _, c := range all {
			agree = append(agree, c.low() <= high && low <= c.high())
		}
		return low, high, agree, true
	}
	return 0, 0, nil, false
}

// combine is the mean of the offsets of those that agree, as near to them as low and high allow, each counting the more the less it may be wrong (RFC 5905 section 11.2.3).
func combine(all []candidate, agree []bool, low, high time.Duration) time.Duration {
	sum, weights := 0.0, 0.0
	for i, c := range all {
		if agree[i] {
			weight := 1 / max(c.distance, time.Nanosecond).Seconds()
			sum += weight * float64(min(max(c.offset, low), high))
			weights += weight
		}
	}
	return min(max(time.Duration(sum/weights), low), high)
}

// farthest is the largest offset, either way, that a majority allows, whoever of the others lies: where fewer than half lie, the true one is not larger.
// There must be a majority that agrees.
func farthest(all []candidate) time.Duration {
	low, high, ok := overlap(all, len(all)-(len(all)-1)/2)
	if !ok {
		return 0
	}
	return max(low.Abs(), high.Abs())
}
