package chrony

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
	fileEvery   = time.Minute      // between two looks whether the files of the Spec are others
	endsWithin  = 10 * time.Second // after SIGTERM: it writes its drift
	againAfter  = time.Second      // chronyd is started again, and then ever later
	againAtMost = time.Minute
	steadyAfter = time.Minute      // then it counts as having run
	keepEvery   = 10 * time.Minute // the last good time
	program     = "chronyd"
)

// Options are what an Engine works with.
type Options struct {
	Spec    timesync.Spec
	State   string   // folder: chrony.conf, drift, what was measured, keys of NTS
	Running string   // folder: the command socket and the process ID. Nobody but this process's user may enter it, or chronyd opens no socket there
	Steer   bool     // chronyd steers the clock (CAP_SYS_TIME); else it only follows (-x)
	Again   bool     // a chronyd that knew the time has just ended: this one goes on by what that measured, and does not set the clock
	Served  *Served  // counts whom chronyd serves; nil: nobody asks
	Log     *os.File // what chronyd writes; nil: nowhere
	// Complain is told what cannot be done now, and is tried again; nil once chronyd answers.
	Complain func(error)
}

// Engine runs chronyd, and says how the clock stands by its word.
type Engine struct {
	options Options
	running string
	dialled atomic.Uint64
	current atomic.Pointer[timesync.Status]
	changed chan struct{}             // of one element
	anew    chan struct{}             // of one element: chronyd is to be started again
	good    atomic.Int64              // Unix seconds: when the clock was synchronised last; 0: never
	began   atomic.Pointer[time.Time] // when chronyd was, last

	// Of the goroutine that looks.
	clock    func() (clock.Reading, error)
	judge    *source.Judge
	set      source.Steps
	steps    uint64
	lastStep time.Duration
	doubt    bool      // somebody set the clock, and chronyd has not been heard since
	stale    time.Time // its last measurement then: until another one it knows nothing of that
	heard    time.Time // chronyd's last answer; before, when it was begun
	answers  bool
	kept     time.Time // when good was kept last
}

// New makes an Engine. It works while Run does.
func New(o Options) *Engine {
	now := time.Now()
	e := &Engine{options: o, clock: clock.Read, running: o.Running, changed: make(chan struct{}, 1), anew: make(chan struct{}, 1), heard: now}
	e.began.Store(&now)
	e.judge = source.NewJudge(o.Spec.MaxDistance, now)
	if info, err := os.Stat(e.goodFile()); err == nil && info.ModTime().Unix() > 0 {
		e.good.Store(info.ModTime().Unix())
	}
	e.publish(now, report{}, errors.New("chronyd has not been asked yet"))
	return e
}

// Standing is what is true of the clock. It may be asked from anywhere, at any time, and waits for nobody.
func (e *Engine) Standing() timesync.Standing { return e.current.Load().Standing }

// Status is all that is known. What it points at is not changed any more.
func (e *Engine) Status() timesync.Status { return *e.current.Load() }

// Changed is poked when a state, a verdict or the warnings have changed. It has one receiver.
func (e *Engine) Changed() <-chan struct{} { return e.changed }

// goodFile is an empty file whose time is the last good one. That of the drift's file would not do: chronyd writes it whenever it ends, be the clock good or not.
func (e *Engine) goodFile() string { return filepath.Join(e.options.State, "good") }

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
	known, again := e.options.Again, againAfter
	e.options.Again = false // of what is tried again later it does not hold any more
	for {
		began := time.Now()
		err := e.once(ctx, config, known)
		if ctx.Err() != nil {
			return nil
		}
		known = e.Standing().State != timesync.Unsynchronised
		anew := errors.Is(err, errAnew)
		if time.Since(began) > steadyAfter {
			if again = againAfter; anew {
				continue
			}
		}
		if !anew {
			e.options.Complain(fmt.Errorf("run chronyd: %w; its log may say why, and it is started again", err))
		}
		select {
		case <-time.After(again):
		case <-ctx.Done():
			return nil
		}
		again = min(2*again, againAtMost)
	}
}

// configure puts the file in place that chronyd has found good: those very bytes.
func (e *Engine) configure(ctx context.Context) (path string, err error) {
	text, err := Render(&e.options.Spec, e.options.State, e.running)
	if err != nil {
		return "", err
	}
	path = configIn(e.options.State)
	candidate := path + ".new"
	if err := durable.WriteFile(candidate, text, 0o644); err != nil {
		return "", err
	}
	if _, err := run.Output(ctx, program, "-p", "-f", candidate); err != nil {
		return "", fmt.Errorf("check %s: %w", candidate, err)
	}
	return path, durable.Rename(candidate, path)
}

func configIn(state string) string { return filepath.Join(state, "chrony.conf") }

// watch looks at the clock, at what chronyd says of it, and at the files that chronyd reads once only.
func (e *Engine) watch(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	files, looked := e.fingerprint(), time.Now()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		r, err := e.look()
		e.publish(time.Now(), r, err)
		if time.Since(looked) > fileEvery {
			now := e.fingerprint()
			if now != files {
				e.restart()
			}
			files, looked = now, time.Now()
		}
	}
}

// fingerprint tells the files of keys and certificates apart from what they were: chronyd reads them when it starts (chrony.conf(5), ntsservercert).
func (e *Engine) fingerprint() string {
	spec := &e.options.Spec
	files := []string{spec.KeyFile}
	if spec.NTS != nil {
		files = append(files, spec.NTS.Certificate, spec.NTS.Key)
	}
	for _, s := range spec.Sources {
		files = append(files, s.CA)
	}
	all := ""
	for _, file := range files {
		if info, err := os.Stat(file); err == nil {
			all += fmt.Sprintln(file, info.Size(), info.ModTime().UnixNano())
		}
	}
	return all
}

// restart has chronyd started anew.
func (e *Engine) restart() {
	select {
	case e.anew <- struct{}{}:
	default: // it is
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

// keep has the last good time outlive a restart.
func (e *Engine) keep(now time.Time) {
	e.good.Store(now.Unix())
	if now.Sub(e.kept) < keepEvery {
		return
	}
	e.kept = now
	if err := touch(e.goodFile(), now); err != nil {
		e.options.Complain(fmt.Errorf("keep the last good time: %w", err))
	}
}

// touch gives a file a time, and makes it where there is none.
func touch(path string, at time.Time) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(os.Chtimes(path, at, at), file.Close())
}
