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
	next, state := &timesync.Status{}, e.judge.Standing().State
	if reading, err := e.clock(); err == nil {
		next.Kernel = source.KernelOf(reading.State)
		if by := e.set.By(reading); by != 0 {
			e.steps, e.lastStep, e.stale = e.steps+1, by, e.measured
			e.judge.Stepped(now, by)
		}
	}
	next.Steps, next.LastStep = e.steps, e.lastStep
	silent := now.Sub(e.heard) > patience
	if err == nil {
		e.heard, e.measured, silent = now, r.tracking.RefTime, false
		if !e.answers {
			e.options.Complain(nil)
		}
	}
	e.answers = err == nil
	before := e.current.Load()
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
	if err == nil {
		e.decide(now, r, next)
	} else if silent {
		e.judge.Unconfirmed(now)
	}
	next.Standing = e.judge.Standing()
	switch {
	case next.Standing.State == timesync.Synchronised:
		e.keep(now)
	case next.Standing.State == timesync.Unsynchronised && state != timesync.Unsynchronised:
		e.restart() // by itself it would go on telling clients that it knows the time
	}
	if good := e.good.Load(); good != 0 {
		next.Behind = max(time.Unix(good, 0).Sub(now), 0)
	}
	next.Warnings = timesync.Warnings(spec, next)
	if silent {
		next.Warnings = append(next.Warnings, timesync.Warning{Kind: timesync.WarnEngine, Message: "chronyd does not answer: " + err.Error()})
	}
	e.current.Store(next)
	if before == nil || timesync.Changed(before, next) {
		select {
		case e.changed <- struct{}{}:
		default: // it is looked at anyhow
		}
	}
}

// decide tells the sources' statuses and the judge what chronyd says.
func (e *Engine) decide(now time.Time, r report, next *timesync.Status) {
	spec, t := &e.options.Spec, r.tracking
	correction := duration(t.CurrentCorrection)
	maxDistance := spec.MaxDistance
	if maxDistance <= 0 {
		maxDistance = time.Second
	}
	agree, reference := 0, ""
	for _, s := range spec.Sources {
		status := statusOf(s, r.sources[s.Host()], now, correction, maxDistance, now.Sub(e.began) < starting)
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
		e.judge.Unconfirmed(now)
		return
	}
	drift := math.Abs(t.ResidFreqPPM) + t.SkewPPM
	if !e.options.Steer { // the host's clock runs as it does, and chronyd's correction of its rate is in chronyd alone
		drift += math.Abs(t.FreqPPM)
	}
	e.judge.Confirmed(now, source.Agreed{
		Offset: correction, RootDelay: duration(t.RootDelay), RootDispersion: duration(t.RootDispersion) + correction.Abs(), Stratum: uint8(min(t.Stratum, timesync.MaxStratum)),
		Leap: timesync.Leap(t.LeapStatus), ReferenceID: t.RefID, Reference: reference, Heard: t.RefTime,
	}, drift*1e-6)
}
