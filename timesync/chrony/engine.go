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
	changed chan struct{} // of one element
	anew    chan struct{} // of one element: chronyd is to be started again
	good    atomic.Int64  // Unix seconds that are known to be over; 0: none

	// Of the goroutine that looks.
	clock    func() (clock.Reading, error)
	judge    *source.Judge
	set      source.Steps
	steps    uint64
	lastStep time.Duration
	measured time.Time // chronyd's last measurement, by its word
	stale    time.Time // measured, when somebody set the clock: until another one it knows nothing of that
	heard    time.Time // chronyd's last answer; before, when it was begun
	answers  bool
	began    time.Time
	kept     time.Time // when good was kept last
}

// New makes an Engine. It works while Run does.
func New(o Options) *Engine {
	now := time.Now()
	e := &Engine{options: o, clock: clock.Read, running: o.Running, changed: make(chan struct{}, 1), anew: make(chan struct{}, 1), heard: now, began: now}
	e.judge = source.NewJudge(o.Spec.MaxDistance, now)
	if info, err := os.Stat(e.drift()); err == nil && info.ModTime().Unix() > 0 {
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

func (e *Engine) drift() string { return filepath.Join(e.options.State, "drift") }

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
	for {
		began := time.Now()
		err := e.once(ctx, config, known)
		if ctx.Err() != nil {
			return nil
		}
		known = e.Standing().State != timesync.Unsynchronised
		if time.Since(began) > steadyAfter {
			again = againAfter
		}
		if errors.Is(err, errAnew) {
			continue
		}
		e.options.Complain(fmt.Errorf("run chronyd: %w; its log may say why, and it is started again", err))
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

// keep has the drift's file bear the last good time: so chronyd takes it where the clock comes up before (-s, chronyd(8)), and so do we.
func (e *Engine) keep(now time.Time) {
	e.good.Store(max(e.good.Load(), now.Unix())) // what is over stays over
	if now.Sub(e.kept) < keepEvery {
		return
	}
	e.kept = now
	file, err := os.OpenFile(e.drift(), os.O_CREATE|os.O_WRONLY, 0o644)
	if err == nil {
		good := time.Unix(e.good.Load(), 0)
		err = errors.Join(os.Chtimes(e.drift(), good, good), file.Close())
	}
	if err != nil {
		e.options.Complain(fmt.Errorf("keep the last good time: %w", err))
	}
}
