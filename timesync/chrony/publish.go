package chrony

import (
	"math"
	"time"

	"shekara/timesync"
	"shekara/timesync/source"
)

const (
	patience = 5 * time.Second  // chronyd is busy, or starts: what was known before is not lost so soon
	starting = 30 * time.Second // then what was never heard is not only slow
)

// publish judges what chronyd says, or that it says nothing, and shows it.
func (e *Engine) publish(now time.Time, r report, err error) {
	spec := &e.options.Spec
	next, lost := &timesync.Status{}, false
	before := e.current.Load()
	loses := func(do func()) { // whether the clock is lost by it
		state := e.judge.Standing().State
		do()
		lost = lost || state != timesync.Unsynchronised && e.judge.Standing().State == timesync.Unsynchronised
	}
	if reading, err := e.clock(); err == nil {
		next.Kernel = source.KernelOf(reading.State)
		if by := e.set.By(reading); by != 0 {
			e.steps, e.lastStep, e.doubt = e.steps+1, by, true
			loses(func() { e.judge.Stepped(now, by) })
		}
	}
	next.Steps, next.LastStep = e.steps, e.lastStep
	silent := now.Sub(e.heard) > patience
	if err == nil {
		e.heard, silent = now, false
		if e.doubt {
			e.doubt, e.stale = false, r.tracking.RefTime
		}
		if !e.answers {
			e.options.Complain(nil)
		}
	}
	e.answers = err == nil
	switch {
	case err != nil && !silent && before != nil:
		next.Sources = before.Sources
	case err != nil:
		for _, s := range spec.Sources {
			status := source.Unheard(s)
			status.Error = err.Error()
			next.Sources = append(next.Sources, status)
		}
	}
	agreed := source.Agreed{}
	drift, confirmed := 0.0, false
	if err == nil {
		agreed, drift, confirmed = e.decide(now, r, next)
	}
	switch {
	case confirmed:
		e.judge.Confirmed(now, agreed, drift)
	case err == nil || silent:
		loses(func() { e.judge.Unconfirmed(now) })
	}
	next.Standing = e.judge.Standing()
	if next.Standing.State == timesync.Synchronised {
		e.keep(now)
	}
	if good := e.good.Load(); good != 0 {
		next.Behind = max(time.Unix(good, 0).Sub(now), 0)
	}
	next.Warnings = timesync.Warnings(spec, next)
	if silent {
		next.Warnings = append(next.Warnings, timesync.Warning{Kind: timesync.WarnEngine, Message: "chronyd does not answer: " + err.Error()})
	}
	e.current.Store(next)
	if lost {
		e.restart() // by itself it would go on telling clients that it knows the time
	}
	if before == nil || timesync.Changed(before, next) {
		select {
		case e.changed <- struct{}{}:
		default: // it is looked at anyhow
		}
	}
}

// decide tells the sources' statuses, and what is agreed on, if anything is.
func (e *Engine) decide(now time.Time, r report, next *timesync.Status) (agreed source.Agreed, drift float64, confirmed bool) {
	spec, t := &e.options.Spec, r.tracking
	correction := duration(t.CurrentCorrection)
	maxDistance := spec.MaxDistance
	if maxDistance <= 0 {
		maxDistance = time.Second
	}
	agree, reference := 0, ""
	for _, s := range spec.Sources {
		status := statusOf(s, r.sources[s.Host()], now, correction, maxDistance, now.Sub(*e.began.Load()) < starting)
		switch status.Verdict {
		case timesync.Followed:
			agree, reference = agree+1, s.Name
		case timesync.Agrees:
			agree++
		}
		next.Sources = append(next.Sources, status)
	}
	if agree == 0 { // chronyd calls all falsetickers then
		for i := range next.Sources {
			if next.Sources[i].Verdict == timesync.Falseticker {
				next.Sources[i].Verdict = timesync.Disagrees
			}
		}
	}
	if agree < max(spec.Agreeing, 1) || reference == "" || t.Stratum == 0 || t.LeapStatus == uint16(timesync.LeapUnknown) || t.RefTime.Equal(e.stale) {
		return agreed, 0, false
	}
	drift = math.Abs(t.ResidFreqPPM) + t.SkewPPM
	if !e.options.Steer { // the host's clock runs as it does, and chronyd's correction of its rate is in chronyd alone
		drift += math.Abs(t.FreqPPM)
	}
	return source.Agreed{
		Offset: correction, RootDelay: duration(t.RootDelay), RootDispersion: duration(t.RootDispersion) + correction.Abs(), Stratum: uint8(min(t.Stratum, timesync.MaxStratum)),
		Leap: timesync.Leap(t.LeapStatus), ReferenceID: t.RefID, Reference: reference, Heard: t.RefTime,
	}, drift * 1e-6, true
}
