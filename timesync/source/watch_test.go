package source

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"shekara/netctl/clock"
	"shekara/timesync"
)

// rig is a box with a clock of its own, and servers, in a bubble. The truth is the bubble's time.
type rig struct {
	mu      sync.Mutex
	wrong   time.Duration // by what the box's clock is ahead of the truth, without steps that a Reading would show
	stepped time.Duration // what somebody set it by
	rate    float64       // seconds a second by which it gains
	began   time.Time
	kernel  clock.State
	servers map[string]*server
	asked   map[string]int
}

// server is an honest one where nothing is said.
type server struct {
	lie     time.Duration
	delay   time.Duration
	down    bool
	answer  func(*answer) // changes what is said
	blocked bool          // nothing comes of it, for ever
}

func newRig(names ...string) *rig {
	r := &rig{began: time.Now(), servers: map[string]*server{}, asked: map[string]int{}}
	for _, name := range names {
		r.servers[name] = &server{delay: 10 * time.Millisecond}
	}
	return r
}

func (r *rig) set(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// off is what must be added to the clock to be right.
func (r *rig) off() time.Duration {
	return -(r.wrong + r.stepped + time.Duration(r.rate*float64(time.Since(r.began))))
}

func (r *rig) read() (clock.Reading, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return clock.Reading{State: r.kernel, Wall: time.Now().Add(r.stepped), Boot: time.Since(r.began)}, nil
}

func (r *rig) open(s timesync.Source, _ func() time.Time) func(context.Context) (answer, error) {
	return func(ctx context.Context) (answer, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.asked[s.Name]++
		server := r.servers[s.Name]
		if server.blocked {
			r.mu.Unlock()
			<-ctx.Done()
			r.mu.Lock()
			return answer{}, ctx.Err()
		}
		if server.down {
			return answer{}, errors.New("no answer")
		}
		a := answer{stratum: 1, referenceID: 'G'<<24 | 'P'<<16 | 'S'<<8, peer: netip.MustParseAddr("192.0.2.1"), local: netip.MustParseAddr("192.0.2.99"),
			sample: sample{offset: r.off() + server.lie, delay: server.delay, dispersion: 2 * time.Microsecond, rootDispersion: time.Millisecond, at: time.Now()}}
		if server.answer != nil {
			server.answer(&a)
		}
		return a, nil
	}
}

// run runs a Watch of the rig's servers in a bubble, until f is done.
func run(t *testing.T, names []string, change func(*timesync.Spec), f func(t *testing.T, r *rig, w *Watch)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(names...)
		spec := timesync.Spec{Agreeing: 2, MaxDistance: 100 * time.Millisecond, WarnOffset: 10 * time.Millisecond}
		for _, name := range names {
			spec.Sources = append(spec.Sources, timesync.Source{Name: name, Address: name + ".example:123", NTS: true})
		}
		if change != nil {
			change(&spec)
		}
		r.start(t, spec, "", func(w *Watch) { f(t, r, w) })
	})
}

func (r *rig) start(t *testing.T, spec timesync.Spec, file string, f func(w *Watch)) {
	t.Helper()
	w := New(spec, file, func(err error) { t.Errorf("complains: %v", err) })
	w.open, w.read = r.open, r.read
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	f(w)
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// wait lets time pass until the state is want, and says how long that took.
func wait(t *testing.T, w *Watch, want timesync.State) time.Duration {
	t.Helper()
	began := time.Now()
	for range 100_000 {
		synctest.Wait()
		if w.Standing().State == want {
			return time.Since(began)
		}
		time.Sleep(time.Second)
	}
	t.Fatalf("never %s: %+v", want, w.Status())
	return 0
}

func verdicts(w *Watch) map[string]timesync.Verdict {
	all := map[string]timesync.Verdict{}
	for _, s := range w.Status().Sources {
		all[s.Name] = s.Verdict
	}
	return all
}

func warns(w *Watch, kind timesync.WarningKind, source string) bool {
	for _, warning := range w.Status().Warnings {
		if warning.Kind == kind && warning.Source == source {
			return true
		}
	}
	return false
}

func TestHonestSourcesAgree(t *testing.T) {
	run(t, []string{"a", "b", "c"}, nil, func(t *testing.T, r *rig, w *Watch) {
		r.set(func() { r.wrong = 3 * time.Millisecond; r.servers["b"].delay = time.Millisecond })
		if s := w.Standing(); s.State != timesync.Unsynchronised || s.Stratum != timesync.MaxStratum || s.Leap != timesync.LeapUnknown {
			t.Errorf("before anything is measured: %+v", s)
		}
		if took := wait(t, w, timesync.Synchronised); took > 10*time.Second {
			t.Errorf("it took %s", took)
		}
		s := w.Standing()
		if s.Stratum != 2 || s.Reference != "b" || s.ReferenceID != 0xc0000201 || s.Leap != timesync.LeapNone || (s.Offset+3*time.Millisecond).Abs() > time.Microsecond {
			t.Errorf("%+v", s)
		}
		if bound := s.Bound(time.Now()); bound < 3*time.Millisecond || bound > 100*time.Millisecond {
			t.Errorf("wrong by at most %s, says the bound", bound)
		}
		if got := w.Status().Warnings; len(got) != 0 {
			t.Errorf("warnings: %v", got)
		}
		time.Sleep(time.Hour)
		if s := w.Status(); s.Standing.State != timesync.Synchronised || s.Sources[0].Poll != pollMost || s.Sources[0].Reach != 0xff {
			t.Errorf("an hour later %+v", s)
		}
		r.set(func() {
			if n := r.asked["a"]; n > 80 {
				t.Errorf("asked %d times in an hour", n)
			}
		})
	})
}

func TestALiarIsNamed(t *testing.T) {
	run(t, []string{"a", "b", "liar"}, nil, func(t *testing.T, r *rig, w *Watch) {
		r.set(func() { r.servers["liar"].lie = 40 * time.Millisecond })
		wait(t, w, timesync.Synchronised)
		time.Sleep(time.Minute)
		if got := verdicts(w); got["liar"] != timesync.Falseticker || got["a"] == timesync.Falseticker || got["b"] == timesync.Falseticker || !warns(w, timesync.WarnFalseticker, "liar") {
			t.Errorf("%v, %v", got, w.Status().Warnings)
		}
		if s := w.Standing(); s.Offset.Abs() > time.Millisecond || s.Reference == "liar" {
			t.Errorf("%+v", s)
		}
		r.set(func() { r.servers["a"].lie = -80 * time.Millisecond }) // now nobody knows
		wait(t, w, timesync.Holdover)
		if got := verdicts(w); got["liar"] != timesync.Disagrees || !warns(w, timesync.WarnNoMajority, "") {
			t.Errorf("%v, %v", got, w.Status().Warnings)
		}
	})
}

func TestSourcesVanish(t *testing.T) {
	run(t, []string{"a", "b", "c"}, nil, func(t *testing.T, r *rig, w *Watch) {
		wait(t, w, timesync.Synchronised)
		time.Sleep(10 * time.Minute)
		r.set(func() {
			for _, s := range r.servers {
				s.down = true
			}
		})
		if took := wait(t, w, timesync.Holdover); took > 2*time.Minute {
			t.Errorf("it is known after %s", took)
		}
		s := w.Standing()
		if s.Stratum != 2 || !warns(w, timesync.WarnFewSources, "") || verdicts(w)["a"] != timesync.Unreachable || w.Status().Sources[0].Error != "no answer" {
			t.Errorf("%+v", w.Status())
		}
		if took := wait(t, w, timesync.Unsynchronised); took < time.Hour || took > 3*time.Hour { // about 90 ms at 15 ppm
			t.Errorf("the bound is reached after %s", took)
		}
		r.set(func() {
			for _, s := range r.servers {
				s.down = false
			}
		})
		if took := wait(t, w, timesync.Synchronised); took > 90*time.Second {
			t.Errorf("it is back after %s", took)
		}
	})
}

// TestTheMeasuredDriftCounts: a clock that runs fast is known to be so, over a restart too, and may be held over for less long.
func TestTheMeasuredDriftCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig("a", "b", "c")
		r.rate = 50e-6
		spec := timesync.Spec{Agreeing: 2, MaxDistance: time.Second}
		for name := range r.servers {
			spec.Sources = append(spec.Sources, timesync.Source{Name: name})
		}
		file := filepath.Join(t.TempDir(), "time.json")
		r.start(t, spec, file, func(w *Watch) {
			wait(t, w, timesync.Synchronised)
			if got := w.Standing().Drift; got != timesync.Tolerance {
				t.Errorf("before it is measured the drift is %g", got)
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			if got := w.Standing().Drift; got < 49e-6 || got > 55e-6 {
				t.Errorf("drift is %g", got)
			}
		})
		r.wrong = -time.Duration(r.rate * float64(time.Since(r.began))) // somebody has slewed it meanwhile
		r.start(t, spec, file, func(w *Watch) {
			wait(t, w, timesync.Synchronised)
			if got := w.Standing().Drift; got < 49e-6 || got > 55e-6 {
				t.Errorf("after a restart the drift is %g", got)
			}
			r.set(func() {
				for _, s := range r.servers {
					s.down = true
				}
			})
			wait(t, w, timesync.Holdover)
			if took := wait(t, w, timesync.Unsynchronised); took < 4*time.Hour || took > 6*time.Hour { // 1 s at 50 ppm are 5.5 hours
				t.Errorf("held over for %s", took)
			}
		})
	})
}

func TestTheClockIsSet(t *testing.T) {
	run(t, []string{"a", "b", "c"}, nil, func(t *testing.T, r *rig, w *Watch) {
		wait(t, w, timesync.Synchronised)
		time.Sleep(time.Hour)
		r.set(func() { r.stepped = 20 * time.Millisecond })
		wait(t, w, timesync.Holdover) // at once: what was measured is void, and the bound has grown by the step
		if s := w.Status(); s.Steps != 1 || s.LastStep != 20*time.Millisecond || s.Standing.Bound(time.Now()) < 20*time.Millisecond || s.Standing.Bound(time.Now()) > 40*time.Millisecond {
			t.Errorf("%+v", s)
		}
		if took := wait(t, w, timesync.Synchronised); took > 10*time.Second {
			t.Errorf("measured anew after %s", took)
		}
		if s := w.Standing(); (s.Offset+20*time.Millisecond).Abs() > time.Millisecond || !warns(w, timesync.WarnOffset, "") {
			t.Errorf("%+v, %v", s, w.Status().Warnings)
		}
		r.set(func() { r.stepped = -time.Hour })
		time.Sleep(lookEvery)
		synctest.Wait()
		if s := w.Standing(); s.State != timesync.Unsynchronised || s.Stratum != timesync.MaxStratum {
			t.Errorf("set by an hour: %+v", s)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := w.Standing(); s.State != timesync.Unsynchronised || (s.Offset-time.Hour).Abs() > time.Millisecond { // it is known how wrong it is, which does not make it right
			t.Errorf("%+v", s)
		}
	})
}

func TestTheClockComesUpInThePast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig("a", "b")
		spec := timesync.Spec{Agreeing: 2, MaxDistance: time.Second, Sources: []timesync.Source{{Name: "a"}, {Name: "b"}}}
		file := filepath.Join(t.TempDir(), "time.json")
		good := time.Now().Add(24 * time.Hour).Truncate(time.Second)
		if err := (memory{Good: good}).keep(file); err != nil {
			t.Fatal(err)
		}
		r.wrong = -25 * time.Hour
		r.servers["b"].down = true
		r.start(t, spec, file, func(w *Watch) {
			time.Sleep(time.Second)
			synctest.Wait()
			if got := w.Status().Behind; got < 24*time.Hour-2*time.Second || got > 24*time.Hour || !warns(w, timesync.WarnBehind, "") {
				t.Errorf("behind by %s", got)
			}
			if got := w.certTime(); !got.Equal(good) {
				t.Errorf("certificates are held against %s", got)
			}
			r.set(func() { r.servers["b"].down = false; r.wrong = 0 }) // somebody slews it, so that no step is seen
			time.Sleep(25 * time.Hour)
			wait(t, w, timesync.Synchronised)
			if got := w.Status().Behind; got != 0 || warns(w, timesync.WarnBehind, "") || time.Until(w.certTime()).Abs() > time.Second {
				t.Errorf("behind by %s", got)
			}
		})
	})
}

func TestSourcesThatAreNoUse(t *testing.T) {
	run(t, []string{"a", "b", "c", "loop", "owned", "lost", "slow", "deny", "rate", "far"}, func(s *timesync.Spec) {
		s.Addresses = []netip.Addr{netip.MustParseAddr("2001:db8::99")}
		s.Sources[0].NTS = false
	}, func(t *testing.T, r *rig, w *Watch) {
		r.set(func() {
			r.servers["loop"].answer = func(a *answer) { a.stratum, a.referenceID = 3, 0xc0000263 }
			r.servers["owned"].answer = func(a *answer) { a.stratum, a.referenceID = 3, referenceID(netip.MustParseAddr("2001:db8::99")) }
			r.servers["lost"].answer = func(a *answer) { a.unserving = errors.New("leap 3") }
			r.servers["slow"].blocked = true
			r.servers["deny"].answer = func(a *answer) { a.kiss, a.unserving = kissDeny, errors.New("kiss") }
			r.servers["rate"].answer = func(a *answer) { a.kiss, a.unserving = kissRate, errors.New("kiss") }
			r.servers["far"].delay = 300 * time.Millisecond
		})
		wait(t, w, timesync.Synchronised)
		time.Sleep(time.Hour)
		synctest.Wait()
		got := verdicts(w)
		for name, want := range map[string]timesync.Verdict{"loop": timesync.Loop, "owned": timesync.Loop, "lost": timesync.Unserving, "slow": timesync.Waiting,
			"deny": timesync.RefusedByThem, "rate": timesync.Waiting, "far": timesync.Distant} {
			if got[name] != want {
				t.Errorf("%s is %q, want %q", name, got[name], want)
			}
		}
		if !warns(w, timesync.WarnLoop, "loop") || !warns(w, timesync.WarnRefused, "deny") || !warns(w, timesync.WarnUnauthenticated, "a") || warns(w, timesync.WarnUnauthenticated, "b") {
			t.Errorf("%v", w.Status().Warnings)
		}
		r.set(func() {
			if r.asked["deny"] != 1 || r.asked["slow"] != 1 || r.asked["rate"] > 10 || r.asked["a"] < 60 {
				t.Errorf("asked %v times in an hour", r.asked)
			}
		})
	})
}

func TestLeapSecond(t *testing.T) {
	run(t, []string{"a", "b", "c"}, nil, func(t *testing.T, r *rig, w *Watch) {
		leap := func(l timesync.Leap) func(*answer) { return func(a *answer) { a.leap = l } }
		r.set(func() { r.servers["a"].answer = leap(timesync.LeapInsert) })
		wait(t, w, timesync.Synchronised)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := w.Standing().Leap; got != timesync.LeapNone {
			t.Errorf("one of three makes it %d", got)
		}
		r.set(func() { r.servers["b"].answer = leap(timesync.LeapInsert) })
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got := w.Standing().Leap; got != timesync.LeapInsert || !warns(w, timesync.WarnLeap, "") {
			t.Errorf("two of three make it %d", got)
		}
		r.set(func() { r.kernel.Leap = 1 })
		time.Sleep(lookEvery)
		synctest.Wait()
		if warns(w, timesync.WarnLeap, "") {
			t.Error("the kernel has been told")
		}
		r.set(func() { r.servers["c"].answer = leap(timesync.LeapInsert) })
		time.Sleep(2 * time.Minute)
		r.set(func() { r.servers["b"].down, r.servers["c"].down = true, true })
		wait(t, w, timesync.Holdover)
		if got := w.Standing().Leap; got != timesync.LeapInsert {
			t.Errorf("the same day it is %d", got)
		}
	})
	eve := time.Date(2026, 12, 31, 23, 59, 59, 0, time.UTC)
	judged := func(at time.Time) *Judge {
		j := NewJudge(time.Minute, at)
		j.Confirmed(at, Agreed{Leap: timesync.LeapInsert, Stratum: 2, Heard: at}, 0)
		return j
	}
	j := judged(eve)
	j.Unconfirmed(eve)
	if got := j.Standing().Leap; got != timesync.LeapInsert {
		t.Errorf("before midnight %d", got)
	}
	j.Unconfirmed(eve.Add(2 * time.Second))
	if got := j.Standing().Leap; got != timesync.LeapNone || j.Standing().State != timesync.Holdover {
		t.Errorf("after midnight %d", got)
	}
	for name, c := range map[string]struct {
		at    time.Time
		by    time.Duration
		wrong time.Duration
	}{
		"as announced":   {eve, -time.Second, 0},
		"the other way":  {eve, time.Second, time.Second},
		"at noon":        {eve.Add(-12 * time.Hour), -time.Second, time.Second},
		"and a bit more": {eve, -1002 * time.Millisecond, 2 * time.Millisecond},
	} {
		j := judged(c.at)
		j.Stepped(c.at.Add(c.by), c.by)
		if got := j.Standing(); got.RootDispersion != c.wrong || (got.Leap == timesync.LeapNone) != (c.wrong < time.Second) {
			t.Errorf("%s: wrong by %s, leap %d", name, got.RootDispersion, got.Leap)
		}
	}
}

// TestWithoutSources: the kernel's word alone says neither whom its clock follows nor at which stratum.
func TestWithoutSources(t *testing.T) {
	run(t, nil, nil, func(t *testing.T, r *rig, w *Watch) {
		r.set(func() { r.kernel = clock.State{Synchronised: true, MaxError: time.Millisecond} })
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := w.Status(); s.Standing.State != timesync.Unsynchronised || !s.Kernel.Synchronised || s.Kernel.MaxError != time.Millisecond || len(s.Warnings) != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestChangesArePoked(t *testing.T) {
	run(t, []string{"a", "b", "c"}, nil, func(t *testing.T, r *rig, w *Watch) {
		pokes := func(d time.Duration) (n int) {
			end := time.After(d)
			for {
				select {
				case <-w.Changed():
					n++
				case <-end:
					return n
				}
			}
		}
		if n := pokes(time.Minute); n == 0 || n > 4 {
			t.Errorf("%d pokes while it starts", n)
		}
		if n := pokes(time.Hour); n != 0 {
			t.Errorf("%d pokes while nothing happens", n)
		}
		r.set(func() { r.servers["c"].lie = time.Second })
		if n := pokes(time.Hour); n == 0 {
			t.Error("no poke for a liar")
		}
	})
}
