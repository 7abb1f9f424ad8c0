package run

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"shekara/netctl"
)

const (
	defaultTimeout   = 30 * time.Second
	defaultMaxOutput = 16 << 20
	maxErrorOutput   = 16 << 10 // of standard error, the end is kept
	searchPath       = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// ErrOutputTooLong is in the error of a program that wrote more than Command.MaxOutput; it was killed.
var ErrOutputTooLong = errors.New("output is longer than allowed")

// Command is a program to run to its end.
type Command struct {
	Argv      []string // Argv[0] is a name, looked up in the fixed PATH, or an absolute path
	Stdin     []byte
	Timeout   time.Duration // 0: 30 s. The context may end earlier
	MaxOutput int           // bytes of standard output, or of a line of it; 0: 16 MiB
	// Started is told the process ID, before the program is waited for. nil: nobody.
	Started func(pid int)
}

// Output runs a program with the default bounds and returns its standard output.
func Output(ctx context.Context, argv ...string) ([]byte, error) {
	return Command{Argv: argv}.Run(ctx)
}

// Run runs the program and returns its standard output. The error is a *netctl.Error whose Detail is what the program
// wrote on standard error, and which is (errors.As) an *exec.ExitError if it ended by itself, context.DeadlineExceeded or
// context.Canceled if it did not end in time, fs.ErrNotExist if there is no such program. The program and all that it
// started in its process group are killed then.
func (c Command) Run(ctx context.Context) ([]byte, error) {
	path, err := find(c.Argv)
	if err != nil {
		return nil, err
	}
	timeout := c.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)

	stdout := &bounded{max: c.MaxOutput, full: func() { stop(ErrOutputTooLong) }}
	if stdout.max == 0 {
		stdout.max = defaultMaxOutput
	}
	stderr := &tail{}
	command := c.prepare(ctx, path, stderr)
	command.Stdout = stdout
	if err = command.Start(); err == nil {
		if c.Started != nil {
			c.Started(command.Process.Pid)
		}
		err = command.Wait()
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	if err != nil {
		return stdout.kept, &netctl.Error{Op: "run " + c.Argv[0], Object: strings.Join(c.Argv[1:], " "), Err: err, Detail: stderr.text()}
	}
	return stdout.kept, nil
}

// prepare is the program with all but its standard output.
func (c Command) prepare(ctx context.Context, path string, stderr *tail) *exec.Cmd {
	command := exec.CommandContext(ctx, path, c.Argv[1:]...)
	command.Env = environment()
	command.Dir = "/"
	command.Stdin, command.Stderr = bytes.NewReader(c.Stdin), stderr
	command.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return unix.Kill(-command.Process.Pid, unix.SIGKILL) }
	command.WaitDelay = time.Second // for a grandchild that left the group and holds the pipes
	return command
}

func find(argv []string) (string, error) {
	if len(argv) == 0 || argv[0] == "" {
		return "", &netctl.Error{Op: "run", Err: fs.ErrInvalid}
	}
	path, err := Find(argv[0])
	if err != nil {
		return "", &netctl.Error{Op: "run", Object: argv[0], Err: err}
	}
	return path, nil
}

// Find returns the absolute path of a program, or fs.ErrNotExist. PATH of the environment is not asked.
func Find(name string) (string, error) {
	if filepath.IsAbs(name) {
		return name, executable(name)
	}
	if strings.ContainsRune(name, '/') {
		return "", fs.ErrInvalid // relative to a folder that a caller does not choose
	}
	for _, dir := range filepath.SplitList(searchPath) {
		if path := filepath.Join(dir, name); executable(path) == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w in %s", fs.ErrNotExist, searchPath)
}

func executable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return fs.ErrPermission
	}
	return nil
}

// environment is all that a program gets: messages in English, so that those few that are read mean the same everywhere.
func environment() []string { return []string{"PATH=" + searchPath, "LANG=C", "LC_ALL=C"} }

// bounded keeps up to max bytes and calls full at the first one beyond.
type bounded struct {
	kept []byte // not an embedded bytes.Buffer, whose ReadFrom io.Copy would use instead of Write
	max  int
	full func()
}

func (b *bounded) Write(p []byte) (int, error) {
	if len(b.kept)+len(p) > b.max {
		b.full()
		return 0, ErrOutputTooLong
	}
	b.kept = append(b.kept, p...)
	return len(p), nil
}

// tail keeps the end of what is written: a program says last why it gives up.
type tail struct{ kept []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if over := len(t.kept) - maxErrorOutput; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	return len(p), nil
}

func (t *tail) text() string { return strings.TrimSpace(string(t.kept)) }
