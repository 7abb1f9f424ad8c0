package source

import (
	"time"

	"shekara/timesync"
)

// decide judges all sources together: what each is worth, and what is true of the clock.
func (w *Watch) decide(now time.Time) {
	var all []candidate
	var of []int // the source of each
	w.status = make([]timesync.SourceStatus, len(w.peers))
	for i, p := range w.peers {
		s, c, fit := p.judge(now, w.drift.rate, w.maxDistance())
		if fit {
			s.Verdict = timesync.Disagrees // unless there is a majority
			all, of = append(all, c), append(of, i)
		}
		w.status[i] = s
	}
	low, high, agree, ok := intersection(all)
	if ok {
		for k, i := range of {
			w.status[i].Verdict = timesync.Falseticker
			if agree[k] {
				w.status[i].Verdict = timesync.Agrees
			}
		}
	}
	if w.agreeing() < max(w.spec.Agreeing, 1) {
		w.followed = -1
		w.judge.Unconfirmed(now)
		return
	}
	w.follow()
	w.judge.Confirmed(now, w.agreed(now, combine(all, agree, low, high), farthest(all)), w.drift.rate)
	best, _ := w.peers[w.followed].best(now, w.drift.rate)
	w.drift.add(best.at, best.offset)
}

// agreeing is how many sources do.
func (w *Watch) agreeing() (n int) {
	for _, s := range w.status {
		if s.Verdict == timesync.Agrees || s.Verdict == timesync.Followed {
			n++
		}
	}
	return n
}

// follow chooses the nearest of those that agree, and stays with it until another is twice as near: who asks us would else see the reference change all the time.
func (w *Watch) follow() {
	nearest := -1
	for i, s := range w.status {
		if s.Verdict == timesync.Agrees && (nearest < 0 || s.Distance < w.status[nearest].Distance) {
			nearest = i
		}
	}
	if w.followed < 0 || w.status[w.followed].Verdict != timesync.Agrees || w.status[w.followed].Distance > 2*w.status[nearest].Distance {
		w.followed = nearest
	}
	w.status[w.followed].Verdict = timesync.Followed
}

// agreed is what the majority says of this box's clock (RFC 5905 sections 11.2.3 and 11.3): that offset, and that it may be wrong by worst.
func (w *Watch) agreed(now time.Time, offset, worst time.Duration) Agreed {
	s := w.status[w.followed]
	best, _ := w.peers[w.followed].best(now, w.drift.rate)
	a := Agreed{
		Offset: offset, RootDelay: best.rootDelay + best.delay, Stratum: s.Stratum + 1, Leap: w.leap(),
		ReferenceID: referenceID(s.Peer), Reference: s.Name, Heard: s.LastHeard,
	}
	a.RootDispersion = best.rootDispersion + s.Dispersion + s.Jitter + a.Offset.Abs()
	a.RootDispersion = max(a.RootDispersion, worst-a.RootDelay/2)
	return a
}

// leap is what more than half of those that agree announce.
func (w *Watch) leap() timesync.Leap {
	votes := map[timesync.Leap]int{}
	for _, s := range w.status {
		if s.Verdict == timesync.Agrees || s.Verdict == timesync.Followed {
			votes[s.Leap]++
		}
	}
	for _, leap := range []timesync.Leap{timesync.LeapInsert, timesync.LeapDelete} {
		if 2*votes[leap] > w.agreeing() {
			return leap
		}
	}
	return timesync.LeapNone
}

// publish shows what was decided, and pokes who waits for changes.
func (w *Watch) publish(now time.Time) {
	next := &timesync.Status{Standing: w.judge.standing, Sources: w.status, Kernel: w.kernel, Steps: w.steps, LastStep: w.lastStep}
	if good := w.good.Load(); good != 0 {
		next.Behind = max(time.Unix(good, 0).Sub(now), 0)
	}
	next.Warnings = timesync.Warnings(&w.spec, next)
	before := w.current.Swap(next)
	if before == nil || timesync.Changed(before, next) {
		select {
		case w.changed <- struct{}{}:
		default: // it is looked at anyhow
		}
	}
}
