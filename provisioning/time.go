package provisioning

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"shekara/journal"
	"shekara/netctl/clock"
	"shekara/provisioning/contour"
	"shekara/timesync"
	"shekara/timesync/server"
	"shekara/timesync/service"
)

// TimeReporter is the process that asks and serves the time: `shekarad time`, over its socket.
type TimeReporter interface {
	Report(context.Context) (service.Report, error)
	// Clients are at most limit addresses that asked, by address, those after one.
	Clients(ctx context.Context, after string, limit int) ([]server.Client, error)
}

const (
	timeEvery    = time.Second      // between two questions to shekarad time
	timePatience = 2 * time.Second  // for an answer
	timeStep     = time.Millisecond // by so much the clock must have been set: less, and who steers it may have
	timeStale    = 5 * time.Second  // how long an answer is good
	timeSilent   = 10 * time.Second // how long it may not answer before that is told
	timeBegins   = 30 * time.Second // a start takes no longer to measure the clock, if sources answer
	timeWindow   = time.Minute      // within which a source's changes are told once
	// timeSystems is how many systems are told of one by one at the end of a day.
	timeSystems = 1000
	// timeWarnings bounds what one report may warn of.
	timeWarnings = 64
)

// TimeService is what this box's TimeService asks, for shekarad time. Spec is nil where there is none.
type TimeService struct {
	Site string         `json:"site"`
	Spec *timesync.Spec `json:"spec,omitempty"`
}

// TimeStatus is what is known of shekarad time.
type TimeStatus struct {
	Report service.Report `json:"report"`
	Error  string         `json:"error,omitempty"` // why it does not answer; the report is then the last one
	Since  time.Time      `json:"since,omitzero"`  // of Error

	lost time.Time // since when the clock is seen to be unsynchronised, by the daemon's own count; zero: it is not
}

// measured is the last word of shekarad time, nil where there is none, and when it came.
type measured struct{ atomic.Pointer[heard] }

type heard struct {
	kept  bool
	bound time.Duration // when it was heard
	drift float64       // by which it grows
	at    time.Time     // when it was; with Go's monotonic reading, which nobody sets
}

// Clock is how far the box's clock can be believed: by what shekarad time measured, where a TimeService is in force and it answers; else by the kernel's word. The journal
// asks for every record.
func (e *Engine) Clock() (clock.State, error) {
	h := e.measured.Load()
	if h == nil {
		return clock.Recent()
	}
	now := time.Now()
	passed := now.Sub(h.at)
	if passed > timeStale {
		return clock.Recent()
	}
	bound := h.bound + time.Duration(float64(passed)*max(h.drift, timesync.Tolerance))
	if step := now.Round(0).Sub(h.at.Round(0)) - passed; step.Abs() > timeStep { // somebody set the clock, and shekarad time has not said so yet
		bound += step.Abs()
	}
	return clock.State{Synchronised: h.kept, MaxError: bound}, nil
}

// TimeService is for shekarad time, which asks for it.
func (e *Engine) TimeService(context.Context) (TimeService, error) {
	select {
	case <-e.ready:
	default: // that nothing is in force yet must not be taken for an answer
		return TimeService{}, errors.New("the daemon starts: ask again")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return TimeService{Site: e.options.Site, Spec: e.intent.base.Time}, nil
}

// TimeStatus is how the box stands with the time; nil where no TimeService is in force.
func (e *Engine) TimeStatus(context.Context) (*TimeStatus, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.time, nil
}

// TimeClients asks shekarad time.
func (e *Engine) TimeClients(ctx context.Context, after string, limit int) ([]server.Client, error) {
	if e.options.Time == nil {
		return nil, nil
	}
	return e.options.Time.Clients(ctx, after, limit)
}

// timeWatch is what is on record of the time. It belongs to the one goroutine of keepTime.
type timeWatch struct {
	service string // whose document's; another begins anew
	since   time.Time
	failed  bool // that it does not answer is on record
	state   timesync.State
	sources map[string]*toldSource
	warned  map[warned]string // warnings that are on record, and what they said

	lost time.Time // since when the clock is unsynchronised; zero: it is not

	// What the day's summary is made of: counted since it began, or the daemon, over starts of shekarad time.
	day     string
	from    time.Time
	last    service.Report // counted up to
	served  server.Counters
	systems map[string]systemDay
}

// systemDay is a day of a system: what it was given, and how its clock stood.
type systemDay struct {
	server.System
	farthest time.Duration // of the offsets that were seen at one look or another
}

type warned struct{ kind, source string }

// toldSource is what is on record of a source.
type toldSource struct {
	verdict timesync.Verdict
	changes int
	last    timesync.Verdict // seen last
	next    time.Time        // from when on it may be told again
}

// keepTime asks shekarad time, and puts on record what changed.
func (e *Engine) keepTime(ctx context.Context) {
	if e.options.Time == nil {
		return
	}
	w := timeWatch{}
	tick := time.NewTicker(timeEvery)
	defer tick.Stop()
	for {
		for _, event := range e.lookAtTime(ctx, &w, time.Now()) {
			e.record(ctx, event)
		}
		select {
		case <-ctx.Done():
			e.recordAll(context.WithoutCancel(ctx), w.summary(time.Now()))
			return
		case <-tick.C:
		}
	}
}

func (e *Engine) lookAtTime(ctx context.Context, w *timeWatch, now time.Time) []journal.Event {
	e.mu.Lock()
	spec := e.intent.base.Time
	e.mu.Unlock()
	if spec == nil {
		was := *w
		*w = timeWatch{}
		e.measured.Store(nil)
		e.showTime(nil)
		return append(was.summary(now), was.ends()...)
	}
	var ended []journal.Event
	if w.service != spec.Name {
		ended = w.summary(now)
		*w = timeWatch{service: spec.Name, since: now, sources: map[string]*toldSource{}, day: contour.Day(now)}
	}
	ask, cancel := context.WithTimeout(ctx, timePatience)
	report, err := e.options.Time.Report(ask)
	cancel()
	if err == nil && report.Digest != spec.Digest() {
		err = fmt.Errorf("it acts by what TimeService %q was, not by %q as it is", report.Service, spec.Name)
	}
	if err != nil {
		return append(ended, e.timeSilent(w, now, err)...)
	}
	report = tame(report, spec)
	standing := report.Status.Standing
	if standing.State != timesync.Unsynchronised {
		w.lost = time.Time{}
	} else if w.lost.IsZero() {
		w.lost = now
	}
	e.measured.Store(&heard{standing.State != timesync.Unsynchronised, standing.Bound(report.Time), standing.Drift, time.Now()})
	e.showTime(&TimeStatus{Report: report, lost: w.lost})
	return append(ended, w.observe(now, report)...)
}

// tame leaves of a report what may be in one: the process that made it faces the network. Sources and systems are those of the Spec, each once.
func tame(r service.Report, spec *timesync.Spec) service.Report {
	sources, systems := map[string]bool{}, map[string]bool{}
	for _, s := range spec.Sources {
		sources[s.Name] = true
	}
	for _, c := range spec.Clients {
		systems[c.System] = true
	}
	once := func(names map[string]bool, name string) bool {
		is := names[name]
		names[name] = false
		return is
	}
	r.Status.Sources = slices.DeleteFunc(r.Status.Sources, func(s timesync.SourceStatus) bool { return !once(sources, s.Name) })
	r.Systems = slices.DeleteFunc(r.Systems, func(s server.System) bool { return !once(systems, s.Name) })
	r.Status.Warnings = r.Status.Warnings[:min(len(r.Status.Warnings), timeWarnings)]
	r.Troubles = r.Troubles[:min(len(r.Troubles), timeWarnings)]
	for i := range r.Status.Sources {
		r.Status.Sources[i].Error = shorten(r.Status.Sources[i].Error)
	}
	for i, w := range r.Status.Warnings {
		r.Status.Warnings[i].Message, r.Status.Warnings[i].Source = shorten(w.Message), shorten(w.Source)
	}
	for i := range r.Troubles {
		r.Troubles[i] = shorten(r.Troubles[i])
	}
	return r
}

// timeSilent is when shekarad time does not answer: told once it has been so for long.
func (e *Engine) timeSilent(w *timeWatch, now time.Time, err error) []journal.Event {
	shown := &TimeStatus{Error: err.Error(), Since: w.since.UTC()}
	e.mu.Lock()
	if e.time != nil {
		shown.Report = e.time.Report
	}
	e.mu.Unlock()
	e.showTime(shown)
	if w.failed || now.Sub(w.since) < timeSilent {
		return nil
	}
	w.failed = true
	return []journal.Event{{Type: journal.TimeFail, Severity: journal.Error, Object: "time/" + w.service,
		Message: fmt.Sprintf("shekarad time does not answer since %s: nobody is served, and the clock is believed by the kernel's word: %v", w.since.UTC().Format(time.RFC3339), err),
		Fields:  fieldsOf("since", w.since.UTC().Format(time.RFC3339Nano))}}
}

// timeAlarms are what makes the time worth an alarm: nobody keeps it, or nobody tells.
func timeAlarms(s *TimeStatus, now time.Time) []string {
	switch {
	case s == nil:
		return nil
	case s.Error != "" && now.Sub(s.Since) >= timeSilent:
		return []string{"shekarad time does not answer, so nobody is given the time: systemctl status shekara-time (" + s.Error + ")"}
	case s.Error == "" && !s.lost.IsZero() && now.Sub(s.lost) >= timeWindow:
		return []string{"the clock is not synchronised: shekara time status says why"}
	}
	return nil
}

func (e *Engine) showTime(s *TimeStatus) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.time = s // whoever was given the one before keeps it
}

// observe says what there is to put on record after a report.
func (w *timeWatch) observe(now time.Time, r service.Report) (events []journal.Event) {
	w.since = now
	if w.from.IsZero() {
		w.from, w.last = now, r
	}
	w.count(r)
	if w.failed {
		w.failed = false
		events = append(events, journal.Event{Type: journal.TimeRecover, Severity: journal.Notice, Object: "time/" + w.service, Message: "shekarad time answers again"})
	}
	s := r.Status.Standing
	if s.State != w.state && !w.begins(now, s) {
		events = append(events, w.changed(now, s))
		w.state = s.State
	}
	for _, source := range r.Status.Sources {
		if event, is := w.source(now, source); is {
			events = append(events, event)
		}
	}
	events = append(events, w.warnings(r)...)
	if day := contour.Day(now); day != w.day {
		events = append(events, w.summary(now)...)
		w.day, w.from, w.served, w.systems = day, now, server.Counters{}, nil
	}
	return events
}

// ends is when no TimeService is in force any more: what was told of the clock is not so any longer.
func (w *timeWatch) ends() []journal.Event {
	if w.state == "" {
		return nil
	}
	return []journal.Event{{Type: journal.TimeState, Severity: journal.Notice, Object: "time/" + w.service, Message: "no TimeService is in force any more: the clock is believed by the kernel's word",
		Fields: fieldsOf("before", string(w.state), "after", "unwatched")}}
}

// begins says whether the sources have only begun to be asked, as after a start and with other sources: that nothing is known yet is no news before it lasts.
func (w *timeWatch) begins(now time.Time, s timesync.Standing) bool {
	return s.State == timesync.Unsynchronised && s.ReferenceTime.IsZero() && now.Sub(w.lost) < timeBegins
}

func (w *timeWatch) changed(now time.Time, s timesync.Standing) journal.Event {
	bound := s.Bound(now)
	event := journal.Event{Type: journal.TimeState, Object: "time/" + w.service, Fields: fieldsOf("before", string(w.state), "after", string(s.State), "stratum", strconv.Itoa(int(s.Stratum)),
		"reference", s.Reference, "offset", s.Offset.String())}
	switch s.State {
	case timesync.Synchronised:
		event.Severity, event.Message = journal.Notice, fmt.Sprintf("the clock is synchronised, by %s: it is wrong by at most %s", s.Reference, bound)
	case timesync.Holdover:
		event.Severity, event.Message = journal.Warning, fmt.Sprintf("no source confirms the clock any more: it is wrong by at most %s, and that grows", bound)
	default:
		event.Severity, event.Message = journal.Error, "the clock is not synchronised: too few sources agree, or it may be wrong by more than the TimeService allows"
		return event
	}
	event.Fields["boundMicroseconds"] = strconv.FormatInt(bound.Microseconds(), 10)
	return event
}

// plain is a verdict without what changes all the time: which of those that agree is followed, and that one is asked anew.
func plainVerdict(v timesync.Verdict) timesync.Verdict {
	if v == timesync.Followed {
		return timesync.Agrees
	}
	return v
}

// source is told at once, and then once in timeWindow with how often its verdict changed.
func (w *timeWatch) source(now time.Time, s timesync.SourceStatus) (journal.Event, bool) {
	verdict := plainVerdict(s.Verdict)
	told := w.sources[s.Name]
	if told == nil {
		told = &toldSource{}
		w.sources[s.Name] = told
	}
	if verdict == timesync.Waiting {
		return journal.Event{}, false // it is not judged yet
	}
	if verdict != told.last {
		told.last = verdict
		told.changes++
	}
	if verdict == told.verdict || now.Before(told.next) {
		return journal.Event{}, false
	}
	event := journal.Event{Type: journal.TimeSource, Severity: journal.Warning, Object: "time/" + w.service,
		Message: fmt.Sprintf("source %s: %s", s.Name, verdictWords(verdict)),
		Fields: fieldsOf("source", s.Name, "before", string(told.verdict), "after", string(verdict), "offset", s.Offset.String(), "distance", s.Distance.String(), "stratum", strconv.Itoa(int(s.Stratum)),
			"authentication", s.Authentication, "times", strconv.Itoa(told.changes))}
	if s.Error != "" {
		event.Fields["error"] = s.Error
		event.Message += ": " + s.Error
	}
	if verdict == timesync.Agrees {
		event.Severity = journal.Info
	}
	told.verdict, told.changes, told.next = verdict, 0, now.Add(timeWindow)
	return event, true
}

func verdictWords(v timesync.Verdict) string {
	switch v {
	case timesync.Agrees:
		return "it agrees with the others"
	case timesync.Disagrees:
		return "it disagrees with others, and no majority says who is wrong"
	case timesync.Falseticker:
		return "it tells another time than the majority"
	case timesync.Unreachable:
		return "it does not answer"
	case timesync.Unserving:
		return "it says itself that it does not know the time"
	case timesync.Loop:
		return "it learns the time from this box"
	case timesync.Distant:
		return "its root distance is beyond what the TimeService allows"
	case timesync.RefusedByThem:
		return "it does not want to be asked by this box"
	}
	return "it cannot be asked as the document says"
}

// warnings are told when they begin and when they are over.
func (w *timeWatch) warnings(r service.Report) (events []journal.Event) {
	now := map[warned]string{}
	tell := func(severity journal.Severity, of warned, message, state string) {
		events = append(events, journal.Event{Type: journal.TimeWarn, Severity: severity, Object: "time/" + w.service, Message: message,
			Fields: fieldsOf("warning", of.kind, "source", of.source, "state", state)})
	}
	add := func(of warned, message string) {
		now[of] = message
		if _, is := w.warned[of]; !is {
			tell(journal.Warning, of, message, "begins")
		}
	}
	for _, warning := range r.Status.Warnings {
		add(warned{string(warning.Kind), warning.Source}, warning.Message)
	}
	for _, trouble := range r.Troubles {
		add(warned{"trouble", trouble}, trouble)
	}
	over := slices.SortedFunc(maps.Keys(w.warned), func(a, b warned) int { return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.source, b.source)) })
	for _, of := range over {
		if _, still := now[of]; !still {
			tell(journal.Info, of, "over: "+w.warned[of], "over")
		}
	}
	w.warned = now
	return events
}

// summary is who was served in the legal day, until it is over, or the daemon stops, or the TimeService goes: a record of all, and one for each system that asked.
func (w *timeWatch) summary(now time.Time) []journal.Event {
	if w.from.IsZero() {
		return nil
	}
	since, until := w.from.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339)
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	v := w.served
	events := []journal.Event{{Type: journal.TimeServe, Severity: journal.Info, Object: "time/" + w.service,
		Message: fmt.Sprintf("on %s %d requests for the time were answered, %d refused", w.day, v.Served, refusals(v)),
		Fields: fieldsOf("day", w.day, "since", since, "until", until, "answered", number(v.Served), "withheld", number(v.Withheld), "limited", number(v.Limited),
			"unregistered", number(v.Refused), "unauthenticated", number(v.Unauthenticated), "malformed", number(v.Malformed+v.OtherMode))}}
	for _, name := range slices.Sorted(maps.Keys(w.systems)) {
		s := w.systems[name]
		if len(events) > timeSystems {
			break
		}
		event := journal.Event{Type: journal.TimeServe, Severity: journal.Info, Object: "system/" + name,
			Message: fmt.Sprintf("on %s system %s was given the time %d times and refused %d times", w.day, name, s.Served, s.Refused+s.Limited),
			Fields: fieldsOf("day", w.day, "since", since, "until", until, "answered", number(s.Served), "limited", number(s.Limited), "unauthenticated", number(s.Refused),
				"lastSeen", s.LastSeen.UTC().Format(time.RFC3339))}
		if !s.OffsetAt.IsZero() {
			event.Message += fmt.Sprintf("; as seen here its clock was %s at most, %s at last", aheadText(s.farthest), aheadText(s.Offset))
			event.Fields["offset"], event.Fields["offsetFarthest"], event.Fields["offsetAt"] = s.Offset.String(), s.farthest.String(), s.OffsetAt.UTC().Format(time.RFC3339)
		}
		events = append(events, event)
	}
	return events
}

// aheadText says how a clock stands that is ahead of ours by so much.
func aheadText(offset time.Duration) string {
	word := "ahead of ours"
	if offset < 0 {
		word = "behind ours"
	}
	return offset.Abs().Round(time.Microsecond).String() + " " + word
}

// count adds what came since the report before. Another process counts from zero.
func (w *timeWatch) count(r service.Report) {
	was := w.last
	if !r.Began.Equal(was.Began) {
		was = service.Report{}
	}
	w.last = r
	add := func(to *uint64, is, was uint64) { *to += is - min(was, is) }
	v, is, before := &w.served, r.Requests, was.Requests
	add(&v.Served, is.Served, before.Served)
	add(&v.Withheld, is.Withheld, before.Withheld)
	add(&v.Limited, is.Limited, before.Limited)
	add(&v.Refused, is.Refused, before.Refused)
	add(&v.Unauthenticated, is.Unauthenticated, before.Unauthenticated)
	add(&v.Malformed, is.Malformed, before.Malformed)
	add(&v.OtherMode, is.OtherMode, before.OtherMode)
	systems := map[string]server.System{}
	for _, s := range was.Systems {
		systems[s.Name] = s
	}
	for _, s := range r.Systems {
		b := systems[s.Name]
		if s.Served == b.Served && s.Limited == b.Limited && s.Refused == b.Refused && s.OffsetAt.Equal(b.OffsetAt) {
			continue
		}
		if w.systems == nil {
			w.systems = map[string]systemDay{}
		}
		sum := w.systems[s.Name]
		sum.LastSeen = s.LastSeen
		if !s.OffsetAt.Equal(b.OffsetAt) {
			sum.Offset, sum.OffsetAt = s.Offset, s.OffsetAt
			if s.Offset.Abs() >= sum.farthest.Abs() {
				sum.farthest = s.Offset
			}
		}
		add(&sum.Served, s.Served, b.Served)
		add(&sum.Limited, s.Limited, b.Limited)
		add(&sum.Refused, s.Refused, b.Refused)
		w.systems[s.Name] = sum
	}
}

func refusals(s server.Counters) uint64 {
	return s.Limited + s.Refused + s.Unauthenticated + s.Malformed + s.OtherMode + s.Withheld
}
