package source

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"shekara/timesync"
)

// crowd draws candidates of which fewer than half lie about an offset, in any order.
func crowd(t *rapid.T) (all, honest []candidate, truth time.Duration) {
	micro := func(name string, low, high int64) time.Duration {
		return time.Duration(rapid.Int64Range(low, high).Draw(t, name)) * time.Microsecond
	}
	truth = micro("truth", -2_000_000, 2_000_000)
	for range rapid.IntRange(1, 7).Draw(t, "honest") {
		distance := micro("distance", 1, 100_000)
		honest = append(honest, candidate{truth + micro("error", -distance.Microseconds(), distance.Microseconds()), distance})
	}
	all = append(all, honest...)
	for range rapid.IntRange(0, len(honest)-1).Draw(t, "liars") {
		lie := truth + micro("near", -150_000, 150_000) // the worst lie is a near one
		if rapid.Bool().Draw(t, "far") {
			lie = micro("far", -5_000_000, 5_000_000)
		}
		all = append(all, candidate{lie, micro("liar's distance", 1, 200_000)})
	}
	return rapid.Permutation(all).Draw(t, "order"), honest, truth
}

// TestALyingMinority: whatever fewer than half of the sources say, there is a result, it is one that an honest source allows, and the bound holds the truth.
func TestALyingMinority(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all, honest, truth := crowd(t)
		low, high, agree, ok := intersection(all)
		if !ok {
			t.Fatal("no majority is found")
		}
		result := combine(all, agree, low, high)
		allowed := false
		for _, c := range honest {
			allowed = allowed || c.low() <= result && result <= c.high()
		}
		if !allowed {
			t.Errorf("%s is allowed by no honest source of %v", result, honest)
		}
		if worst := farthest(all); worst < truth.Abs() {
			t.Errorf("the bound %s does not hold the truth %s", worst, truth)
		}
		if n := count(agree); 2*n <= len(all) {
			t.Errorf("%d of %d are no majority", n, len(all))
		}
	})
}

// The control: where half lie together, what they say can come out.
func TestHalfMayLie(t *testing.T) {
	lie := candidate{time.Second, time.Millisecond}
	honest := candidate{0, time.Millisecond}
	if _, _, _, ok := intersection([]candidate{lie, honest}); ok {
		t.Error("one against one has a majority")
	}
	low, high, agree, ok := intersection([]candidate{lie, honest, lie})
	if got := combine([]candidate{lie, honest, lie}, agree, low, high); !ok || got != time.Second || agree[1] {
		t.Errorf("two liars against one: %s, %v, %v", got, agree, ok)
	}
}

func TestWhoIsWrong(t *testing.T) {
	ms := func(offset, distance float64) candidate {
		return candidate{time.Duration(offset * 1e6), time.Duration(distance * 1e6)}
	}
	for name, c := range map[string]struct {
		all   []candidate
		agree []bool // nil: no majority
	}{
		"all agree":                  {[]candidate{ms(1, 5), ms(-1, 5), ms(0, 5)}, []bool{true, true, true}},
		"one lies":                   {[]candidate{ms(1, 5), ms(100, 5), ms(0, 5)}, []bool{true, false, true}},
		"two against two":            {[]candidate{ms(0, 5), ms(0, 5), ms(100, 5), ms(100, 5)}, nil},
		"all differ":                 {[]candidate{ms(0, 1), ms(10, 1), ms(20, 1)}, nil},
		"alone":                      {[]candidate{ms(7, 1)}, []bool{true}},
		"near beside far, lopsided":  {[]candidate{ms(0, 1), ms(20, 40), ms(-15, 40)}, []bool{true, true, true}},
		"two of five lie, each else": {[]candidate{ms(0, 5), ms(1, 5), ms(2, 5), ms(50, 1), ms(-50, 1)}, []bool{true, true, true, false, false}},
		"none":                       {nil, nil},
	} {
		_, _, agree, ok := intersection(c.all)
		if ok != (c.agree != nil) || len(agree) != len(c.agree) {
			t.Errorf("%s: %v, %v", name, agree, ok)
			continue
		}
		for i := range agree {
			if agree[i] != c.agree[i] {
				t.Errorf("%s: %v, want %v", name, agree, c.agree)
			}
		}
	}
}

func count(agree []bool) (n int) {
	for _, a := range agree {
		if a {
			n++
		}
	}
	return n
}

func TestTheNearestSampleIsTaken(t *testing.T) {
	now := time.Now()
	var r register
	for i := range 12 { // the first four are pushed out
		r.push(sample{offset: time.Duration(i) * time.Millisecond, delay: 10 * time.Millisecond, at: now})
	}
	if best, _ := r.best(now, 0); len(r.samples) != stages || best.offset != 11*time.Millisecond {
		t.Errorf("of equal ones %s, of %d", best.offset, len(r.samples))
	}
	r.push(sample{offset: 0, delay: time.Millisecond, at: now.Add(-time.Hour)})
	if best, jitter := r.best(now, 0); best.offset == 0 {
		t.Errorf("one that an hour may have made wrong by 54 ms is taken for its delay: %+v", best)
	} else if jitter == 0 {
		t.Error("no jitter")
	}
	r.push(sample{offset: 3, delay: time.Millisecond, at: now})
	if best, _ := r.best(now, 0); best.offset != 3 {
		t.Errorf("a stray with a long delay is taken: %+v", best)
	}
	r.void()
	r.push(sample{offset: 7, at: now})
	if best, jitter := r.best(now, 0); best.offset != 7 || jitter != 0 {
		t.Errorf("%+v, %s", best, jitter)
	}
}

func TestSlope(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Float64Range(-200e-6, 200e-6).Draw(t, "rate")
		noise := rapid.Float64Range(0, 1e-3).Draw(t, "noise")
		start, d := time.Now(), drift{}
		for i := range rapid.IntRange(30, 400).Draw(t, "points") {
			at := time.Duration(i) * 64 * time.Second
			jitter := noise * math.Sin(float64(i)*2.399) // as good as random, and bounded
			d.add(start.Add(at), time.Duration((rate*at.Seconds()+jitter)*1e9))
		}
		if got := d.rate; got < math.Abs(rate)-noise/1800-1e-9 || got > math.Abs(rate)+4*noise/1800+1e-9 {
			t.Errorf("%g, want %g", got, rate)
		}
		was := d.rate
		d.restart()
		d.add(start.Add(1000*time.Hour), time.Second)
		if d.rate != was {
			t.Errorf("what was found is forgotten: %g", d.rate)
		}
	})
	d := drift{}
	for i := range 8 {
		d.add(time.Now().Add(time.Duration(i)*time.Second), time.Duration(i)*time.Second)
	}
	if d.rate != 0 || len(d.at) != 1 {
		t.Errorf("seconds are enough: %+v", d)
	}
}

func TestPace(t *testing.T) {
	p := newPace()
	waits := func(answered bool, n int) (total time.Duration) {
		for range n {
			total += p.next(answered)
		}
		return total
	}
	if got := waits(true, burst-1); got != (burst-1)*burstEvery {
		t.Errorf("the burst takes %s", got)
	}
	if got := waits(true, pollAfter); got != pollAfter*pollLeast {
		t.Errorf("then %s", got)
	}
	waits(true, 100)
	if got := p.next(true); got != pollMost {
		t.Errorf("in the end %s", got)
	}
	if got := waits(false, lostAfter-1); got != (2+4+8)*time.Second {
		t.Errorf("a source that is lost is known after %s", got)
	}
	if got := waits(false, 100); got > 100*pollMost || p.next(false) != pollMost {
		t.Errorf("then it is asked within %s", got)
	}
	if got := p.next(true); got != burstEvery {
		t.Errorf("when it is back it is asked in %s", got)
	}
	p = newPace()
	last := time.Duration(0)
	for range 20 {
		if got := p.slow(); got < 2*last && got < pollSlowed || got < 2*pollLeast {
			t.Errorf("a kiss makes it %s after %s", got, last)
		} else {
			last = got
		}
	}
	p.hurry()
	if got := p.next(true); got != pollSlowed || last != pollSlowed {
		t.Errorf("it is obeyed for %s", got)
	}
}

// TestStates: however the clock drifts within what was measured, is set, is confirmed or not, what is said of it holds.
func TestStates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Now()
		limit := time.Duration(rapid.Int64Range(1, 1000).Draw(t, "limit")) * time.Millisecond
		j := NewJudge(limit, now)
		rate := rapid.Float64Range(0, 300e-6).Draw(t, "drift")
		wrong := time.Duration(0) // the truth: what must be added to the clock
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			passed := time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "passed"))
			now = now.Add(passed)
			wrong += time.Duration(float64(passed) * max(rate, timesync.Tolerance) * rapid.Float64Range(-1, 1).Draw(t, "share"))
			before := j.standing
			switch rapid.IntRange(0, 2).Draw(t, "what") {
			case 0:
				distance := time.Duration(rapid.Int64Range(0, int64(time.Second)).Draw(t, "distance"))
				offset := wrong + time.Duration(float64(distance)*rapid.Float64Range(-1, 1).Draw(t, "error"))
				j.Confirmed(now, Agreed{Offset: offset, RootDelay: distance, RootDispersion: distance/2 + offset.Abs(), Stratum: 3, Heard: now}, rate)
				if j.standing.State == timesync.Holdover || (j.standing.State == timesync.Synchronised) != (distance+offset.Abs() <= limit) {
					t.Fatalf("confirmed with a bound of %s: %+v", distance+offset.Abs(), j.standing)
				}
			case 1:
				j.Unconfirmed(now)
			case 2:
				by := time.Duration(rapid.Int64Range(-int64(time.Second), int64(time.Second)).Draw(t, "by"))
				wrong -= by
				j.Stepped(now, by)
			}
			s := j.standing
			switch s.State {
			case timesync.Unsynchronised:
				if s.Stratum != timesync.MaxStratum || s.Leap != timesync.LeapUnknown {
					t.Fatalf("%+v", s)
				}
			default:
				if s.Bound(now) > limit || s.Bound(now) < wrong.Abs()-time.Microsecond {
					t.Fatalf("wrong by %s, said to be at most %s of %s: %+v", wrong, s.Bound(now), limit, s)
				}
			}
			if before.State == timesync.Unsynchronised && s.State == timesync.Holdover {
				t.Fatal("holdover of nothing")
			}
			if (s.Since == before.Since) != (s.State == before.State) && !s.Since.Equal(before.Since) {
				t.Fatalf("since %s, before since %s", s.Since, before.Since)
			}
		}
	})
}
