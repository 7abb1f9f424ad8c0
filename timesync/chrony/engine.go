package chrony

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"shekara/netctl/clock"
	"shekara/netctl/durable"
	"shekara/netctl/run"
	"shekara/timesync"
	"shekara/timesync/source"
)

const (
	lookEvery   = time.Second
	endsWithin  = 10 * time.Second // after SIGTERM: it writes its drift
	againAfter  = time.Second      // chronyd is started again, and then ever later
	againAtMost = time.Minute
	steadyAfter = time.Minute // then it counts as having run
	program     = "chronyd"
)

// Options are what an Engine works with.
type Options struct {
	Spec    timesync.Spec
	State   string   // folder: chrony.conf, drift, keys of NTS
	Running string   // folder: the command socket and the process ID. Nobody but this process's user may enter it, or chronyd opens no socket there
	Steer   bool     // chronyd steers the clock (CAP_SYS_TIME); else it only follows (-x)
	Served  *Served  // counts whom chronyd serves; nil: nobody asks
	Log     *os.File // what chronyd writes; nil: nowhere
	// Complain is told what cannot be done now, and is tried again.
	Complain func(error)
}

// Engine runs chronyd, and says how the clock stands by its word.
type Engine struct {
	options Options
	running string
	dialled atomic.Uint64
	current atomic.Pointer[timesync.Status]
	changed chan struct{} // of one element
	judge   *source.Judge // of the goroutine that looks
}

// New makes an Engine. It works while Run does.
func New(o Options) *Engine {
	e := &Engine{options: o, running: o.Running, changed: make(chan struct{}, 1)}
	limit := o.Spec.MaxDistance
	if limit <= 0 {
		limit = time.Second
	}
	now := time.Now()
	e.judge = source.NewJudge(limit, now)
	e.publish(now, report{}, errors.New("chronyd has not been asked yet"))
	return e
}

// Standing is what is true of the clock. It may be asked from anywhere, at any time, and waits for nobody.
func (e *Engine) Standing() timesync.Standing { return e.current.Load().Standing }

// Status is all that is known. What it points at is not changed any more.
func (e *Engine) Status() timesync.Status { return *e.current.Load() }

// Changed is poked when a state, a verdict or the warnings have changed. It has one receiver.
func (e *Engine) Changed() <-chan struct{} { return e.changed }

// Run writes the configuration, has chronyd check it, and keeps chronyd running until the context ends. The error is of a configuration that chronyd cannot have: nothing
// is started then, and the file of before stays.
func (e *Engine) Run(ctx context.Context) error {
	config, err := e.configure(ctx)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer stop()
	group.Go(func() { e.watch(ctx) })
	if e.options.Served != nil {
		group.Go(func() { e.count(ctx) })
	}
	for again := againAfter; ; again = min(2*again, againAtMost) {
		began := time.Now()
		err := e.once(ctx, config)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > steadyAfter {
			again = againAfter
		}
		if err == nil {
			err = errors.New("it ended by itself")
		}
		e.options.Complain(fmt.Errorf("run chronyd: %w; it is started again in %s", err, again))
		select {
		case <-time.After(again):
		case <-ctx.Done():
			return nil
		}
	}
}

// configure puts the file in place that chronyd has found good: those very bytes.
func (e *Engine) configure(ctx context.Context) (path string, err error) {
	text, err := Render(&e.options.Spec, e.options.State, e.running)
	if err != nil {
		return "", err
	}
	path = filepath.Join(e.options.State, "chrony.conf")
	candidate := path + ".new"
	if err := durable.WriteFile(candidate, text, 0o644); err != nil {
		return "", err
	}
	if _, err := run.Output(ctx, program, "-p", "-f", candidate); err != nil {
		return "", fmt.Errorf("check %s: %w", candidate, err)
	}
	return path, durable.Rename(candidate, path)
}

// once runs chronyd until it ends, or the context does.
func (e *Engine) once(ctx context.Context, config string) error {
	argv := []string{program, "-d", "-f", config}
	if e.options.Served != nil {
		e.options.Served.restart()
	}
	if e.options.Steer {
		argv = append(argv, "-s") // a clock that comes up before the drift was written last is set to then
	} else {
		argv = append(argv, "-x")
	}
	own, err := user.LookupId(strconv.Itoa(os.Geteuid()))
	if err != nil {
		return err
	}
	argv = append(argv, "-U", "-u", own.Username) // it stays who this process is, whose the folders and the files of keys are
	// It ends with this process where the unit ends with all that it started (KillMode=control-group, which is what systemd does unless told otherwise).
	p, err := run.Detached{Argv: argv, Stderr: e.options.Log}.Start()
	if err != nil {
		return err
	}
	defer p.Close()
	err = p.Wait(ctx)
	if ctx.Err() == nil {
		return err
	}
	if err := p.Terminate(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	patience, done := context.WithTimeout(context.WithoutCancel(ctx), endsWithin)
	defer done()
	if p.Wait(patience) != nil {
		return p.Kill()
	}
	return nil
}

func (e *Engine) watch(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		r, err := e.look()
		e.publish(time.Now(), r, err)
	}
}

func (e *Engine) look() (report, error) {
	c, err := dial(e.running, &e.dialled)
	if err != nil {
		return report{}, err
	}
	defer c.close()
	return read(c)
}

// publish judges what chronyd says, or that it says nothing, and shows it.
func (e *Engine) publish(now time.Time, r report, err error) {
	spec := &e.options.Spec
	next := &timesync.Status{Sources: make([]timesync.SourceStatus, 0, len(spec.Sources))}
	correction := duration(r.tracking.CurrentCorrection)
	agree, reference := 0, ""
	for _, s := range spec.Sources {
		host, _, _ := net.SplitHostPort(s.Address)
		h, known := r.sources[host]
		status := source.Unheard(s)
		switch {
		case err != nil:
			status.Error = err.Error()
		case known:
			status = statusOf(s, h, now, correction)
		}
		switch status.Verdict {
		case timesync.Followed:
			agree, reference = agree+1, s.Name
		case timesync.Agrees:
			agree++
		}
		next.Sources = append(next.Sources, status)
	}
	t := r.tracking
	if err == nil && agree >= max(spec.Agreeing, 1) && reference != "" && t.Stratum > 0 && t.LeapStatus != uint16(timesync.LeapUnknown) {
		e.judge.Confirmed(now, source.Agreed{
			Offset: correction, RootDelay: duration(t.RootDelay), RootDispersion: duration(t.RootDispersion) + correction.Abs(), Stratum: uint8(min(t.Stratum, timesync.MaxStratum)),
			Leap: timesync.Leap(t.LeapStatus), ReferenceID: t.RefID, Reference: reference, Heard: t.RefTime,
		}, (math.Abs(t.ResidFreqPPM)+t.SkewPPM)*1e-6)
	} else {
		e.judge.Unconfirmed(now)
	}
	next.Standing = e.judge.Standing()
	if k, err := clock.Now(); err == nil {
		next.Kernel = source.KernelOf(k)
	}
	next.Warnings = timesync.Warnings(spec, next)
	if err != nil {
		next.Warnings = append(next.Warnings, timesync.Warning{Kind: timesync.WarnEngine, Message: "chronyd does not answer: " + err.Error()})
	}
	before := e.current.Swap(next)
	if before == nil || timesync.Changed(before, next) {
		select {
		case e.changed <- struct{}{}:
		default: // it is looked at anyhow
		}
	}
}
