package chrony

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	protocol "github.com/facebook/time/ntp/chrony"

	"shekara/netctl/clock"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
	"shekara/netctl/run"
	"shekara/timesync"
	"shekara/timesync/source"
	"shekara/timesync/timesynctest"
)

// told is an engine that is told what chronyd says, second by second.
type told struct {
	*Engine
	now  time.Time
	wall time.Duration // by which somebody set the clock
}

func tell(t *testing.T, change func(*Options)) *told {
	t.Helper()
	o := Options{State: t.TempDir(), Complain: func(err error) {
		if err != nil {
			t.Error(err)
		}
	}, Spec: timesync.Spec{Name: "t", Agreeing: 2, MaxDistance: time.Second, Sources: []timesync.Source{{Name: "a", Address: "192.0.2.1:123"}, {Name: "b", Address: "192.0.2.2:123"}, {Name: "c", Address: "192.0.2.3:123"}}}}
	if change != nil {
		change(&o)
	}
	e := &told{Engine: New(o), now: time.Now()}
	began := e.now
	e.set = source.Steps{} // New has read the true one
	e.clock = func() (clock.Reading, error) {
		return clock.Reading{Wall: e.now.Add(e.wall).Round(0), Boot: time.Hour + e.now.Sub(began), Gap: time.Microsecond}, nil
	}
	e.publish(e.now, report{}, errors.New("begins"))
	return e
}

// says lets a second pass, and then chronyd say something.
func (e *told) says(r report, err error) timesync.Status {
	e.now = e.now.Add(time.Second)
	e.publish(e.now, r, err)
	return e.Status()
}

// good is what chronyd says that follows a, measured at a moment.
func good(measured time.Time) report {
	source := func(state protocol.SourceStateType) heard {
		return heard{data: protocol.SourceData{State: state, Reachability: 0xff, Poll: 4}, ntp: protocol.NTPData{Stratum: 2, TotalValidCount: 9, TotalTXCount: 9, RootDelay: 0.002}}
	}
	return report{
		tracking: protocol.Tracking{Stratum: 3, RefTime: measured, RootDelay: 0.002, RootDispersion: 0.001, FreqPPM: -80, ResidFreqPPM: -0.5, SkewPPM: 20},
		sources:  map[string]heard{"192.0.2.1": source(protocol.SourceStateSync), "192.0.2.2": source(protocol.SourceStateCandidate), "192.0.2.3": source(protocol.SourceStateFalseTicker)},
	}
}

func verdicts(s timesync.Status) (all []timesync.Verdict) {
	for _, source := range s.Sources {
		all = append(all, source.Verdict)
	}
	return all
}

// TestDriftOfAClockThatIsNotSteered: chronyd knows its rate, and corrects it in itself alone; in holdover the host's clock goes off by that.
func TestDriftOfAClockThatIsNotSteered(t *testing.T) {
	for steers, want := range map[bool]float64{true: 20.5e-6, false: 100.5e-6} {
		e := tell(t, func(o *Options) { o.Steer = steers })
		s := e.says(good(e.now), nil)
		if diff := s.Standing.Drift - want; s.Standing.State != timesync.Synchronised || diff < -1e-12 || diff > 1e-12 {
			t.Errorf("steers %v: %+v", steers, s.Standing)
		}
		before := s.Standing.Bound(e.now)
		s = e.says(report{sources: map[string]heard{}}, nil) // all sources are gone
		if grown := s.Standing.Bound(e.now.Add(time.Hour)) - before; s.Standing.State != timesync.Holdover || grown < time.Duration(want*float64(time.Hour)) {
			t.Errorf("steers %v: held over, it has grown by %s in an hour: %+v", steers, grown, s.Standing)
		}
	}
}

// TestAStepIsSeen: until chronyd has measured anew its word is of the clock as it was before.
func TestAStepIsSeen(t *testing.T) {
	e := tell(t, nil)
	measured := e.now
	if s := e.says(good(measured), nil); s.Standing.State != timesync.Synchronised || s.Steps != 0 {
		t.Fatalf("%+v", s)
	}
	e.wall = 300 * time.Millisecond
	s := e.says(good(measured), nil)
	if b := s.Standing.Bound(e.now); s.Standing.State != timesync.Holdover || b < 300*time.Millisecond || s.Steps != 1 || (s.LastStep-300*time.Millisecond).Abs() > time.Millisecond {
		t.Errorf("set by 300 ms: bound %s, %+v", b, s)
	}
	if s = e.says(good(measured), nil); s.Standing.State != timesync.Holdover {
		t.Errorf("what was measured before is believed: %+v", s.Standing)
	}
	if s = e.says(good(e.now), nil); s.Standing.State != timesync.Synchronised || s.Standing.Bound(e.now) > 10*time.Millisecond {
		t.Errorf("measured anew: %+v", s.Standing)
	}
	far := good(e.now)
	far.tracking.RootDispersion = 2
	if s = e.says(far, nil); s.Standing.State != timesync.Unsynchronised {
		t.Errorf("too far: %+v", s.Standing)
	}
	if s = e.says(good(e.now), nil); s.Standing.State != timesync.Synchronised {
		t.Errorf("near again: %+v", s.Standing)
	}
	if len(e.anew) != 0 {
		t.Error("chronyd is started anew though it knows and says how wrong the clock may be")
	}
	e.wall -= 3 * time.Second
	if s = e.says(good(e.now.Add(-time.Second)), nil); s.Standing.State != timesync.Unsynchronised || len(e.anew) != 1 {
		t.Errorf("set by more than it may be wrong: %+v, to be started anew: %d", s.Standing, len(e.anew))
	}
}

// TestVerdicts: chronyd has fewer words than there are troubles.
func TestVerdicts(t *testing.T) {
	e := tell(t, nil)
	r := good(e.now)
	never := heard{data: protocol.SourceData{State: protocol.SourceStateUnreach}, ntp: protocol.NTPData{TotalTXCount: 1}}
	r.sources["192.0.2.3"] = never
	if s := e.says(r, nil); !slices.Equal(verdicts(s), []timesync.Verdict{timesync.Followed, timesync.Agrees, timesync.Waiting}) {
		t.Errorf("after one request: %v", verdicts(s))
	}
	never.ntp.TotalTXCount = 4
	r.sources["192.0.2.3"] = never
	if s := e.says(r, nil); !slices.Equal(verdicts(s), []timesync.Verdict{timesync.Followed, timesync.Agrees, timesync.Unreachable}) || s.Sources[2].Error == "" {
		t.Errorf("after four: %+v", s.Sources)
	}
	delete(r.sources, "192.0.2.3") // its name is not resolved
	if s := e.says(r, nil); verdicts(s)[2] != timesync.Waiting {
		t.Errorf("not resolved yet: %+v", s.Sources)
	}
	e.now = e.now.Add(time.Minute)
	if s := e.says(r, nil); verdicts(s)[2] != timesync.Unreachable {
		t.Errorf("not resolved: %+v", s.Sources)
	}
	far := heard{data: protocol.SourceData{State: protocol.SourceStateUnreach, Reachability: 0xff}, ntp: protocol.NTPData{Stratum: 2, TotalValidCount: 9, RootDelay: 3}}
	r.sources["192.0.2.3"] = far
	if s := e.says(r, nil); verdicts(s)[2] != timesync.Distant {
		t.Errorf("too far: %+v", s.Sources)
	}
	for host, h := range r.sources {
		h.data.State = protocol.SourceStateFalseTicker
		r.sources[host] = h
	}
	if s := e.says(r, nil); !slices.Equal(verdicts(s), []timesync.Verdict{timesync.Disagrees, timesync.Disagrees, timesync.Disagrees}) || s.Standing.State != timesync.Holdover {
		t.Errorf("no majority: %+v", s)
	}
}

// TestSilence: a busy chronyd is not gone yet.
func TestSilence(t *testing.T) {
	e := tell(t, nil)
	e.says(good(e.now), nil)
	silence := errors.New("no answer")
	s := e.says(report{}, silence)
	if s.Standing.State != timesync.Synchronised || s.Standing.Bound(e.now) <= s.Standing.Bound(s.Standing.At) || verdicts(s)[0] != timesync.Followed || slices.ContainsFunc(s.Warnings, ofEngine) {
		t.Errorf("after a second: %+v", s)
	}
	e.now = e.now.Add(patience)
	if s = e.says(report{}, silence); s.Standing.State != timesync.Holdover || !slices.ContainsFunc(s.Warnings, ofEngine) || s.Sources[0].Error == "" {
		t.Errorf("after some: %+v", s)
	}
	if s = e.says(good(e.now), nil); s.Standing.State != timesync.Synchronised || slices.ContainsFunc(s.Warnings, ofEngine) {
		t.Errorf("it answers again: %+v", s)
	}
}

func ofEngine(w timesync.Warning) bool { return w.Kind == timesync.WarnEngine }

// TestTheLastGoodTimeIsKept, and chronyd is told of it where it may set the clock, and the clock was not good a moment ago.
func TestTheLastGoodTimeIsKept(t *testing.T) {
	var state string
	e := tell(t, func(o *Options) { state = o.State })
	e.says(good(e.now), nil)
	info, err := os.Stat(filepath.Join(state, "good"))
	if err != nil || info.ModTime().Sub(e.now).Abs() > time.Second {
		t.Fatalf("%v, %v", info, err)
	}
	later := e.now.Add(time.Hour)
	if err := os.Chtimes(filepath.Join(state, "good"), later, later); err != nil {
		t.Fatal(err)
	}
	e = tell(t, func(o *Options) { o.State, o.Steer = state, true }) // the clock has come up an hour behind
	for _, c := range []struct {
		known bool
		want  string
	}{{false, " -s"}, {true, " -r -R"}} { // the first makes the file of the drift
		known, want := c.known, c.want
		argv, err := e.command("/c", known)
		info, drift := os.Stat(filepath.Join(state, "drift"))
		if drift != nil {
			t.Fatal(drift)
		}
		if !strings.HasSuffix(strings.Join(argv, " "), want) || err != nil || info.ModTime().Unix() != later.Unix() {
			t.Errorf("known %v: %q, %v, %v", known, argv, err, info)
		}
		later = info.ModTime()
	}
	s := e.says(report{}, errors.New("begins"))
	if s.Behind < 59*time.Minute || s.Behind > time.Hour || !slices.ContainsFunc(s.Warnings, func(w timesync.Warning) bool { return w.Kind == timesync.WarnBehind }) {
		t.Errorf("%+v", s)
	}
	if s = e.says(good(e.now), nil); s.Behind != 0 { // a majority says that the time that was kept was none
		t.Errorf("%+v", s)
	}
}

func TestFilesAreToldApart(t *testing.T) {
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys")
	e := tell(t, func(o *Options) { o.Spec.KeyFile = keys })
	was := e.fingerprint()
	if err := os.WriteFile(keys, []byte("1 AES128 HEX:00"), 0o600); err != nil {
		t.Fatal(err)
	}
	is := e.fingerprint()
	if was == is || is != e.fingerprint() {
		t.Errorf("%q is %q", was, is)
	}
}

// TestStartedAnew: chronyd goes on by what was measured, and whoever is killed comes back.
func TestStartedAnew(t *testing.T) {
	probetest.Need(t, probe.Tool("chronyd"))
	upstream := timesynctest.Serve(t, "127.0.0.1")
	state, running := folders(t)
	e := New(Options{State: state, Running: running, Complain: func(error) {}, Spec: timesync.Spec{Name: "t", Agreeing: 1, MaxDistance: 2 * time.Second, Sources: []timesync.Source{{Name: "a", Address: upstream.Address}}}})
	done := make(chan error, 1)
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	go func() { done <- e.Run(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	pid := func() int {
		text, _ := os.ReadFile(filepath.Join(running, "chronyd.pid")) // none: 0
		n, _ := strconv.Atoi(string(slices.DeleteFunc(text, func(b byte) bool { return b == '\n' })))
		return n
	}
	await := func(what string, is func() bool) {
		t.Helper()
		for !is() {
			if ctx.Err() != nil {
				t.Fatalf("%s: never, %+v", what, e.Status())
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	synchronised := func() bool { return e.Standing().State == timesync.Synchronised }
	await("it is synchronised", synchronised)
	first := pid()
	e.restart()
	await("another runs", func() bool {
		return pid() != 0 && pid() != first && !e.Standing().At.Before(time.Now().Add(-2*time.Second)) && synchronised()
	})
	second, err := run.Adopt(pid())
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if err := second.Kill(); err != nil {
		t.Fatal(err)
	}
	await("a third runs", func() bool { return pid() != second.PID && pid() != 0 })
	argv, err := os.ReadFile("/proc/" + strconv.Itoa(pid()) + "/cmdline")
	if err != nil || !bytes.Contains(argv, []byte("\x00-x\x00-r\x00-R\x00")) {
		t.Errorf("it is %q, %v", argv, err)
	}
	await("it is synchronised again", synchronised)
}

// TestEndOrphan: the chronyd of a process that was killed is ended, and nobody else.
func TestEndOrphan(t *testing.T) {
	probetest.Need(t, probe.Tool("chronyd"))
	state, running := folders(t)
	if err := EndOrphan(state, running); err != nil {
		t.Errorf("there is none: %v", err)
	}
	e := New(Options{State: state, Running: running, Spec: timesync.Spec{Name: "t", Agreeing: 1, Sources: []timesync.Source{{Name: "a", Address: "127.0.0.1:1123"}}}})
	config, err := e.configure(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	argv, err := e.command(config, false)
	if err != nil {
		t.Fatal(err)
	}
	orphan, err := run.Detached{Argv: argv}.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer orphan.Close()
	pidfile := filepath.Join(running, "chronyd.pid")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if text, err := os.ReadFile(pidfile); err == nil && len(text) > 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("chronyd does not run")
		}
	}
	if err := EndOrphan(t.TempDir(), running); err != nil || !orphan.Running() {
		t.Fatalf("another's is ended: %v", err)
	}
	if err := EndOrphan(state, running); err != nil || orphan.Running() {
		t.Errorf("it runs on: %v", err)
	}
	if err := os.WriteFile(pidfile, []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil { // the number came to be another's: the test would end
		t.Fatal(err)
	}
	if err := EndOrphan(state, running); err != nil {
		t.Error(err)
	}
}
