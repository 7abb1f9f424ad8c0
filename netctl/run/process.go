package run

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"shekara/netctl"
)

// Detached is a program that outlives this process: in a session of its own, with no terminal and no open files but those given.
//
// Under systemd it still belongs to the service's control group and ends with it, unless the unit says KillMode=process;
// there a unit of its own is the better way (systemd/shekara-dataplane@.service).
type Detached struct {
	Argv       []string   // Argv[0] is a name, looked up in the fixed PATH, or an absolute path
	Stdin      *os.File   // nil: /dev/null
	Stdout     *os.File   // nil: /dev/null
	Stderr     *os.File   // nil: /dev/null
	ExtraFiles []*os.File // descriptors 3, 4, ...
}

// Start starts the program. The files may be closed afterwards.
func (d Detached) Start() (*Process, error) {
	path, err := find(d.Argv)
	if err != nil {
		return nil, err
	}
	fail := func(err error) (*Process, error) {
		return nil, &netctl.Error{Op: "start " + d.Argv[0], Object: strings.Join(d.Argv[1:], " "), Err: err}
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return fail(err)
	}
	defer null.Close()
	files := []*os.File{d.Stdin, d.Stdout, d.Stderr}
	for i := range files {
		if files[i] == nil {
			files[i] = null
		}
	}
	pidfd := -1
	process, err := os.StartProcess(path, d.Argv, &os.ProcAttr{
		Dir:   "/",
		Env:   environment(),
		Files: append(files, d.ExtraFiles...),
		Sys:   &unix.SysProcAttr{Setsid: true, PidFD: &pidfd},
	})
	if err != nil {
		return fail(err)
	}
	pid := process.Pid
	_ = process.Release() // only lets go of a handle that is not used here
	if pidfd < 0 {
		return Adopt(pid) // a kernel before 5.2; the child cannot be reaped by others, so its number is not reused
	}
	return newProcess(pid, pidfd), nil
}

// Process is a running or ended process, held by a descriptor, so that its number cannot come to mean another one.
type Process struct {
	PID  int
	file *os.File
}

// Adopt takes hold of a process that somebody started. The caller checks that it is the one that is meant, after this.
func Adopt(pid int) (*Process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, &netctl.Error{Op: "adopt process", Object: strconv.Itoa(pid), Err: err}
	}
	return newProcess(pid, fd), nil
}

func newProcess(pid, fd int) *Process {
	return &Process{PID: pid, file: os.NewFile(uintptr(fd), "pidfd:"+strconv.Itoa(pid))}
}

// Signal sends a signal; os.ErrProcessDone if the process has ended.
func (p *Process) Signal(signal unix.Signal) error {
	err := unix.PidfdSendSignal(int(p.file.Fd()), signal, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// Running reports whether the process has not ended. An ended child is reaped.
func (p *Process) Running() bool {
	ended, err := p.poll(0)
	if err != nil || !ended {
		return true
	}
	p.reap()
	return false
}

// Wait returns when the process has ended, or with ctx's error. An ended child is reaped.
func (p *Process) Wait(ctx context.Context) error {
	// A pipe wakes the poll: a pidfd cannot be given to the Go runtime's poller on every kernel.
	wake, waker, err := os.Pipe()
	if err != nil {
		return err
	}
	defer wake.Close()
	stop := context.AfterFunc(ctx, func() { waker.Close() })
	defer func() {
		if stop() {
			waker.Close()
		}
	}()
	for {
		fds := []unix.PollFd{{Fd: int32(p.file.Fd()), Events: unix.POLLIN}, {Fd: int32(wake.Fd()), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if fds[0].Revents != 0 {
			p.reap()
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// Close lets go of the process; it goes on.
func (p *Process) Close() error { return p.file.Close() }

func (p *Process) poll(milliseconds int) (ended bool, err error) {
	fds := []unix.PollFd{{Fd: int32(p.file.Fd()), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, milliseconds)
		if !errors.Is(err, unix.EINTR) {
			return n > 0, err
		}
	}
}

// reap collects a child's end. For others' children it is ECHILD, which is as good.
func (p *Process) reap() {
	_ = unix.Waitid(unix.P_PIDFD, int(p.file.Fd()), nil, unix.WEXITED|unix.WNOHANG, nil)
}
