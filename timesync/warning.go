package timesync

import (
	"fmt"
	"slices"
	"time"
)

// fewSources: with fewer that answer, one that lies cannot be told from one that does not (TIM-01).
const fewSources = 3

// Warnings are what somebody should look after, by what was measured. The engines add what only they know.
func Warnings(spec *Spec, s *Status) []Warning {
	var all []Warning
	warn := func(kind WarningKind, source, format string, args ...any) {
		all = append(all, Warning{kind, source, fmt.Sprintf(format, args...)})
	}
	if s.Behind > 0 {
		warn(WarnBehind, "", "the clock is in the past, by %s at least", s.Behind.Round(time.Second))
	}
	if offset := s.Standing.Offset; spec.WarnOffset > 0 && offset.Abs() >= spec.WarnOffset {
		warn(WarnOffset, "", "the clock is wrong by %s, the limit is %s", offset.Abs(), spec.WarnOffset)
	}
	if leap := s.Standing.Leap; s.Standing.State == Synchronised && leap != LeapNone && s.Kernel.Leap != leap {
		warn(WarnLeap, "", "the sources announce a leap second, and nobody told the kernel: the clock will be wrong by 1 s after midnight (UTC)")
	}
	heard, agree, judged := 0, 0, 0
	for _, source := range s.Sources {
		switch source.Verdict {
		case Followed, Agrees:
			heard, agree, judged = heard+1, agree+1, judged+1
		case Disagrees:
			heard, judged = heard+1, judged+1
		case Falseticker:
			heard, judged = heard+1, judged+1
			warn(WarnFalseticker, source.Name, "%s tells a time that is %s from the clock's, and a majority of the others does not agree", source.Name, source.Offset)
		case Distant, Waiting:
			heard++
		case Loop:
			warn(WarnLoop, source.Name, "%s learns the time from this box", source.Name)
		case RefusedByThem:
			warn(WarnRefused, source.Name, "%s does not want to be asked by this box, and is not before a restart", source.Name)
		case Unconfigurable:
			warn(WarnUnusable, source.Name, "%s cannot be asked: %s", source.Name, source.Error)
		}
		if source.Authentication == "none" {
			warn(WarnUnauthenticated, source.Name, "whoever is on the way to %s can answer in its place: it is asked with neither NTS nor a key", source.Name)
		}
	}
	if len(s.Sources) > 0 && heard < fewSources {
		warn(WarnFewSources, "", "%d of %d sources answer; with fewer than %d one that lies cannot be told", heard, len(s.Sources), fewSources)
	}
	if judged >= fewSources && agree < max(spec.Agreeing, 1) {
		warn(WarnNoMajority, "", "of %d sources that can be judged %d agree, %d must", judged, agree, max(spec.Agreeing, 1))
	}
	return all
}

// Changed says whether there is something to tell between two looks: another state, another verdict, another warning, another reference, a step.
func Changed(before, after *Status) bool {
	kinds := func(all []Warning) (k []string) {
		for _, w := range all {
			k = append(k, string(w.Kind)+" "+w.Source)
		}
		return k
	}
	verdicts := func(all []SourceStatus) (v []Verdict) {
		for _, s := range all {
			v = append(v, s.Verdict)
		}
		return v
	}
	a, b := before.Standing, after.Standing
	return a.State != b.State || a.Leap != b.Leap || a.ReferenceID != b.ReferenceID || a.Reference != b.Reference || before.Steps != after.Steps ||
		!slices.Equal(kinds(before.Warnings), kinds(after.Warnings)) || !slices.Equal(verdicts(before.Sources), verdicts(after.Sources))
}
