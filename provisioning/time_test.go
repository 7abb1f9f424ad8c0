package provisioning

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"shekara/journal"
	"shekara/timesync"
	"shekara/timesync/server"
	"shekara/timesync/service"
)

// timeProcess is shekarad time as the engine asks it.
type timeProcess struct {
	mu     sync.Mutex
	report service.Report
	at     time.Time // when the clock was measured last
	err    error
}

func (p *timeProcess) Report(context.Context) (service.Report, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.report
	r.Time = time.Now()
	if r.Status.Standing.State == timesync.Synchronised {
		p.at = r.Time
	}
	r.Status.Standing.At = p.at
	r.Digest = serviceOfTests().Digest()
	r.Status.Sources, r.Status.Warnings, r.Systems = slices.Clone(r.Status.Sources), slices.Clone(r.Status.Warnings), slices.Clone(r.Systems)
	return r, p.err
}

func (p *timeProcess) Clients(context.Context, string, int) ([]server.Client, error) {
	return nil, nil
}

func (p *timeProcess) change(change func(*timeProcess)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

func serviceOfTests() *timesync.Spec {
	return &timesync.Spec{Name: "owner-time", Sources: []timesync.Source{{Name: "a"}, {Name: "b"}}, Clients: []timesync.Client{{System: "portal"}, {System: "silent"}}}
}

// timeRecord is a box that asks a time process, and how far its record was looked at.
type timeRecord struct {
	t    *testing.T
	b    *box
	p    *timeProcess
	seen int
}

// newTimeRecord is of a process that says that the clock is synchronised, by source a.
func newTimeRecord(t *testing.T) *timeRecord {
	b := newBox(t)
	p := &timeProcess{report: service.Report{Service: "owner-time", Status: timesync.Status{Standing: timesync.Standing{State: timesync.Synchronised, Stratum: 2, Reference: "a", RootDelay: 2 * time.Millisecond},
		Sources: []timesync.SourceStatus{{Name: "a", Verdict: timesync.Followed}, {Name: "b", Verdict: timesync.Waiting}}}}}
	b.open()
	b.Engine.options.Time = p
	if told, err := b.Engine.TimeService(t.Context()); err == nil {
		t.Errorf("before the start is over %+v is said, and would be taken for an answer", told)
	}
	b.Engine.intent.base.Time = serviceOfTests()
	ctx, cancel := context.WithCancel(t.Context())
	b.cancel = cancel
	engine := b.Engine
	b.done.Go(func() error { engine.keepTime(ctx); return nil })
	r := &timeRecord{t: t, b: b, p: p}
	r.expect("the start", timeEvery, "time.state notice: the clock is synchronised, by a", "time.source info: source a: it agrees")
	return r
}

func (r *timeRecord) expect(what string, after time.Duration, want ...string) {
	r.t.Helper()
	time.Sleep(after)
	synctest.Wait()
	r.b.expectEvents(r.t, what, &r.seen, want)
}

// TestTimeIsOnRecord goes through what may happen to a time service: it starts, is synchronised, a source begins to lie, all vanish, the process dies and comes back.
func TestTimeIsOnRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTimeRecord(t)
		b, p, expect := r.b, r.p, r.expect
		bound := func(want time.Duration, kept bool) {
			t.Helper()
			if s, err := b.Engine.Clock(); err != nil || s.Synchronised != kept || kept && (s.MaxError < want || s.MaxError > want+time.Millisecond) {
				t.Errorf("the clock is %+v, %v, want %s", s, err, want)
			}
		}
		bound(time.Millisecond, true)
		expect("nothing new", time.Minute)
		p.change(func(p *timeProcess) {
			p.report.Status.Sources = []timesync.SourceStatus{{Name: "a", Verdict: timesync.Agrees}, {Name: "b", Verdict: timesync.Falseticker}}
			p.report.Status.Warnings = []timesync.Warning{{Kind: timesync.WarnFalseticker, Source: "b", Message: "b lies"}}
		})
		expect("a source lies; that another is followed is nothing new", timeEvery, "time.source warning: source b: it tells another time", "time.warn warning: b lies")
		for range 10 { // it flaps
			p.change(func(p *timeProcess) { p.report.Status.Sources[1].Verdict = timesync.Agrees })
			time.Sleep(timeEvery)
			p.change(func(p *timeProcess) { p.report.Status.Sources[1].Verdict = timesync.Falseticker })
			time.Sleep(timeEvery)
		}
		expect("it flaps, and is as it was told", timeWindow)
		p.change(func(p *timeProcess) {
			p.report.Status.Sources, p.report.Status.Warnings = nil, nil
			p.report.Status.Standing.State, p.report.Status.Standing.RootDispersion = timesync.Holdover, 20*time.Millisecond
		})
		expect("the sources are gone", timeEvery, "time.state warning: no source confirms the clock any more: it is wrong by at most 21.", "time.warn info: over: b lies")
		bound(21*time.Millisecond, true)
		time.Sleep(time.Hour)
		bound(21*time.Millisecond+54*time.Millisecond, true) // it grows by 15 ppm, and nobody confirms it
		p.change(func(p *timeProcess) {
			p.report.Status.Standing.State, p.report.Status.Standing.ReferenceTime = timesync.Unsynchronised, time.Now()
		})
		expect("for too long", timeEvery, "time.state error: the clock is not synchronised")
		bound(0, false)
		p.change(func(p *timeProcess) {
			p.report.Status.Standing = timesync.Standing{State: timesync.Synchronised, Reference: "a"}
		})
		expect("they are back", timeEvery, "time.state notice")
		p.change(func(p *timeProcess) {
			p.report.Status.Standing = timesync.Standing{State: timesync.Unsynchronised, Since: time.Now()}
		})
		expect("it asks anew, and knows nothing yet", timeBegins-2*timeEvery)
		expect("nor later", 5*timeEvery, "time.state error: the clock is not synchronised")
		p.change(func(p *timeProcess) { p.err = errors.New("no such file") })
		expect("the process is dead, not for long", timeSilent-2*timeEvery)
		expect("the process is dead", 5*timeEvery, "time.fail error: shekarad time does not answer since")
		p.change(func(p *timeProcess) { p.err = nil })
		expect("it is back", timeEvery, "time.recover notice")
	})
}

// TestTheDayIsOnRecord: who was served in a day, and how the clocks of those stood that told their time.
func TestTheDayIsOnRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTimeRecord(t)
		b, p, expect := r.b, r.p, r.expect
		p.change(func(p *timeProcess) {
			p.report.Requests, p.report.Systems = server.Counters{Received: 9, Served: 7, Refused: 2}, []server.System{{Name: "portal", Served: 7}, {Name: "silent"}}
		})
		for _, offset := range []time.Duration{-3 * time.Millisecond, 40 * time.Millisecond, -90 * time.Millisecond, 2 * time.Millisecond} {
			p.change(func(p *timeProcess) {
				p.report.Systems[0].Offset, p.report.Systems[0].OffsetAt = offset, time.Now()
			})
			expect("its clock is told by no event of its own", timeEvery)
		}
		expect("the day is over", 24*time.Hour, "time.serve info: on 2000-01-01 7 requests for the time were answered, 2 refused", "time.serve info: on 2000-01-01 system portal was given the time 7 times and refused 0 times; as seen here its clock was 90ms behind ours at most, 2ms ahead of ours at last")
		expectFields(t, b, map[string]string{"answered": "7", "offset": "2ms", "offsetFarthest": "-90ms", "offsetAt": "*"})
		p.change(func(p *timeProcess) {
			p.report.Began, p.report.Requests = time.Now(), server.Counters{Received: 30, Served: 3}
			p.report.Systems = []server.System{{Name: "portal", Served: 3}, {Name: "portal", Served: 99}, {Name: "nobody", Served: 99}}
		})
		expect("the process was started anew within the next", 24*time.Hour, "time.serve info: on 2000-01-02 3 requests", "time.serve info: on 2000-01-02 system portal was given the time 3 times")
		expectFields(t, b, map[string]string{"answered": "3", "offset": "", "offsetFarthest": "", "offsetAt": ""}) // of that day nothing is known of its clock
		asked := func(times uint64) {
			p.change(func(p *timeProcess) { p.report.Requests.Served = times })
		}
		asked(5)
		expect("it is asked on", timeEvery)
		inForce := func(spec *timesync.Spec) {
			b.Engine.mu.Lock()
			defer b.Engine.mu.Unlock()
			b.Engine.intent.base.Time = spec
		}
		spec := b.Engine.intent.base.Time
		inForce(nil)
		expect("no TimeService is in force", 5*timeEvery, "time.serve info: on 2000-01-03 2 requests", "time.state notice: no TimeService is in force any more")
		inForce(spec)
		expect("it is back", timeEvery, "time.state notice", "time.source info")
		asked(9)
		expect("it is asked", timeEvery)
		events := b.events
		b.kill()
		if last := events.of(journal.TimeServe); last[len(last)-1].Fields["answered"] != "4" || last[len(last)-1].Fields["since"] >= last[len(last)-1].Fields["until"] {
			t.Errorf("the daemon ends: %+v", last[len(last)-1])
		}
	})
}

// expectEvents holds what was recorded since the last look to its type, severity and how it begins.
func (b *box) expectEvents(t *testing.T, what string, seen *int, want []string) {
	t.Helper()
	b.events.mu.Lock()
	defer b.events.mu.Unlock()
	var said []string
	for _, e := range b.events.list[*seen:] {
		said = append(said, string(e.Type)+" "+string(e.Severity)+": "+e.Message)
	}
	*seen = len(b.events.list)
	if len(said) != len(want) {
		t.Fatalf("%s:\n%s\nwant %q", what, strings.Join(said, "\n"), want)
	}
	for i := range want {
		if !strings.HasPrefix(said[i], want[i]) {
			t.Fatalf("%s: %q, want %q", what, said[i], want[i])
		}
	}
}

// expectFields holds fields of the newest record to values: "" is one that must not be there, "*" one that must.
func expectFields(t *testing.T, b *box, want map[string]string) {
	t.Helper()
	b.events.mu.Lock()
	defer b.events.mu.Unlock()
	fields := b.events.list[len(b.events.list)-1].Fields
	for name, value := range want {
		if got, is := fields[name]; is != (value != "") || value != "*" && got != value {
			t.Errorf("field %s is %q, want %q", name, got, value)
		}
	}
}
