package chrony

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"shekara/netctl/durable"
	"shekara/netctl/run"
)

// errAnew is why a chronyd ended that is started anew at once.
var errAnew = errors.New("it is started anew")

// once runs chronyd until it ends, the context does, or it is to be started anew. known says whether the one before knew the time.
func (e *Engine) once(ctx context.Context, config string, known bool) error {
	argv, err := e.command(config, known)
	if err != nil {
		return err
	}
	select {
	case <-e.anew: // it is
	default:
	}
	if e.options.Served != nil {
		e.options.Served.restart()
	}
	_ = os.Remove(pidFile(e.running)) // of one that was killed: chronyd does not start where another has its number now
	now := time.Now()
	e.began.Store(&now)
	p, err := run.Detached{Argv: argv, Stderr: e.options.Log}.Start()
	if err != nil {
		return err
	}
	defer p.Close()
	running, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() {
		select {
		case <-e.anew:
			stop(errAnew)
		case <-running.Done():
		}
	}()
	err = p.Wait(running)
	if running.Err() == nil && err == nil {
		return errors.New("it ended by itself")
	}
	if cause := context.Cause(running); cause != nil {
		err = cause
	}
	return errors.Join(err, end(p))
}

func pidFile(running string) string { return filepath.Join(running, "chronyd.pid") }

// command is chronyd's command line. It stays who this process is, whose the folders and the files of keys are; -U: without being root.
func (e *Engine) command(config string, known bool) ([]string, error) {
	own, err := user.LookupId(strconv.Itoa(os.Geteuid()))
	if err != nil {
		return nil, err
	}
	argv := []string{program, "-d", "-f", config, "-U", "-u", own.Username}
	switch good := e.good.Load(); {
	case !e.options.Steer:
		argv = append(argv, "-x")
	case !known && good != 0: // a clock that comes up before is set to the last good time, which is that of the drift's file to chronyd
		if err := touch(filepath.Join(e.options.State, "drift"), time.Unix(good, 0)); err != nil {
			return nil, err
		}
		argv = append(argv, "-s")
	}
	if known {
		argv = append(argv, "-r", "-R") // it goes on by what was measured, and does not set the clock: that was good
	}
	return argv, nil
}

// end ends chronyd, and waits for that.
func end(p *run.Process) error {
	if err := p.Terminate(); errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	wait := func() error {
		patience, done := context.WithTimeout(context.Background(), endsWithin)
		defer done()
		return p.Wait(patience)
	}
	if wait() == nil {
		return nil
	}
	if err := p.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return wait()
}

// EndOrphan ends the chronyd of a process that was killed, if it goes on: it would answer and steer beside whoever comes after. Under systemd there is none, since
// the unit ends with all that it started (KillMode=control-group).
func EndOrphan(state, running string) error {
	text, err := durable.ReadFile(pidFile(running), 64)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 1 {
		return nil // a file that was being written: of nobody who runs
	}
	p, err := run.Adopt(pid)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer p.Close()
	argv, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || !bytes.Contains(argv, []byte("-f\x00"+configIn(state)+"\x00")) {
		return nil // another has the number now
	}
	return end(p)
}
