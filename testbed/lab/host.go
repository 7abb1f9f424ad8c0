package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"shekara/netctl/ns"
)

// Host is a host of the network. Its methods may be called from any goroutine.
type Host struct {
	Name        string
	Environment []string // of the programs that run here

	agent     *exec.Cmd
	namespace *ns.Namespace
	netlink   *netlink.Handle
	mu        sync.Mutex // one writer on control at a time
	control   *net.UnixConn
	started   atomic.Int64 // names notify sockets
}

// startHost makes the namespaces and waits until the agent has settled in them. agent is the command line that calls Agent.
func startHost(name string, agent []string, environment []string) (*Host, error) {
	control, other, err := pair()
	if err != nil {
		return nil, err
	}
	defer other.Close()
	c := exec.Command(agent[0], append(agent[1:len(agent):len(agent)], name)...)
	c.ExtraFiles = []*os.File{other}
	c.Stderr = os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		Setpgid:    true, // Ctrl-C is for the maker, which then ends the hosts in order
	}
	if err := c.Start(); err != nil {
		control.Close()
		return nil, fmt.Errorf("make host %q: %w", name, err)
	}
	h := &Host{Name: name, Environment: environment, agent: c, control: control}
	var greeting hello
	if _, err := Receive(control, &greeting); err != nil {
		err = fmt.Errorf("the agent ended at once: %w", err)
		return nil, h.abandon(err)
	}
	if greeting.Error != "" {
		return nil, h.abandon(errors.New(greeting.Error))
	}
	if h.namespace, err = ns.Of(c.Process.Pid); err != nil {
		return nil, h.abandon(err)
	}
	if initial, err := h.namespace.Initial(); err != nil || initial {
		return nil, h.abandon(errors.Join(err, errors.New("the host's namespace is the machine's own")))
	}
	if h.netlink, err = netlink.NewHandleAt(netns.NsHandle(h.namespace.FD()), unix.NETLINK_ROUTE); err != nil {
		return nil, h.abandon(err)
	}
	if err := h.quieten(); err != nil {
		return nil, h.abandon(err)
	}
	return h, nil
}

func (h *Host) abandon(err error) error {
	h.close()
	return fmt.Errorf("make host %q: %w", h.Name, err)
}

// quieten brings loopback up and stops the kernel from sending what nobody asked for.
func (h *Host) quieten() error {
	for _, scope := range []string{"all", "default"} {
		for key, value := range map[string]string{"accept_dad": "0", "accept_ra": "0", "router_solicitations": "0"} {
			if err := h.Sysctl("net.ipv6.conf."+scope+"."+key, value); err != nil {
				return err
			}
		}
	}
	lo, err := h.netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return h.netlink.LinkSetUp(lo)
}

// close ends the host and everything that runs on it.
func (h *Host) close() {
	h.control.Close()
	// The agent ends because the socket closed; should it hang, the kernel ends it, and its namespace, all the same.
	_ = h.agent.Process.Kill()
	_ = h.agent.Wait()
	if h.netlink != nil {
		h.netlink.Close()
	}
	if h.namespace != nil {
		h.namespace.Close()
	}
}

// PID is the agent's process ID as the machine sees it: whoever has it can enter the host.
func (h *Host) PID() int { return h.agent.Process.Pid }

// Do runs f in the host's network namespace; see ns.Namespace.Do for what belongs to the host afterwards.
func (h *Host) Do(f func() error) error { return h.namespace.Do(f) }

// Sysctl sets a kernel parameter of the host's network namespace, named with dots.
func (h *Host) Sysctl(key, value string) error {
	return h.Do(func() error {
		path := "/proc/sys/" + strings.ReplaceAll(key, ".", "/")
		if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
			return fmt.Errorf("set %s: %w", key, err)
		}
		return nil
	})
}

// Path is where a file of the host is found from outside. The file's own folders must be no absolute symbolic links.
func (h *Host) Path(path string) string {
	return filepath.Join(fmt.Sprintf("/proc/%d/root", h.PID()), filepath.Clean("/"+path))
}

// Hide takes a program away from the host: nothing can be run under its path any more.
func (h *Host) Hide(path string) error {
	// Resolved outside: the path of a program may be a symbolic link, and a mount would follow it.
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("hide a program: %w", err)
	}
	return ns.DoInProcess(h.PID(), func() error {
		if err := unix.Mount("/dev/null", path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("hide %s: %w", path, err)
		}
		return nil
	})
}

// WriteFile writes a file on the host, and the folders above it. Only the host's private folders are writable.
func (h *Host) WriteFile(path string, data []byte, mode os.FileMode) error {
	path = filepath.Clean(path)
	private := false
	for _, folder := range []string{"/run/", "/etc/", "/var/lib/"} {
		private = private || strings.HasPrefix(path, folder)
	}
	if !private {
		return fmt.Errorf("write %q: only /run, /etc and /var/lib are the host's own", path)
	}
	if err := os.MkdirAll(filepath.Dir(h.Path(path)), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(h.Path(path), data, mode); err != nil {
		return err
	}
	return os.Chmod(h.Path(path), mode)
}

// Command is a program to run on a host.
type Command struct {
	Args        []string
	Stdin       io.Reader // nil: empty
	Environment []string  // besides the host's
	Notify      bool      // the program says READY=1 by sd_notify(3)
	// Files, if set, are the program's standard input, output and error; Stdin is not used and no output is kept.
	Files []*os.File
}

// Process is a program that runs on a host.
type Process struct {
	Args   []string
	PID    int // inside the host
	output *os.File
	errors *os.File
	conn   *net.UnixConn
	ready  chan struct{}
	ended  chan struct{} // closed when status is set
	status status
}

// Start starts a program. It ends with Kill, or with the host.
func (h *Host) Start(c Command) (*Process, error) {
	p := &Process{Args: c.Args, ready: make(chan struct{}), ended: make(chan struct{})}
	files := c.Files
	if files == nil {
		var err error
		if files, err = p.openFiles(c.Stdin); err != nil {
			return nil, err
		}
		defer files[0].Close()
	}
	conn, other, err := pair()
	if err != nil {
		return nil, err
	}
	defer other.Close()
	p.conn = conn
	r := request{Args: c.Args, Environment: append(append([]string{}, h.Environment...), c.Environment...)}
	if c.Notify {
		r.Notify = fmt.Sprintf("/run/testbed/notify-%d", h.started.Add(1))
	}
	h.mu.Lock()
	err = Send(h.control, r, files[0], files[1], files[2], other)
	h.mu.Unlock()
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("start %q on %s: %w", c.Args[0], h.Name, err)
	}
	var first reply
	if _, err := Receive(conn, &first); err != nil {
		conn.Close()
		return nil, fmt.Errorf("start %q on %s: the host is gone: %w", c.Args[0], h.Name, err)
	}
	// READY=1 cannot overtake: the program is started before it can say so, but its message may come before ours.
	if first.Ready {
		close(p.ready)
		if _, err := Receive(conn, &first); err != nil {
			conn.Close()
			return nil, err
		}
	}
	if first.Refused != "" {
		conn.Close()
		return nil, fmt.Errorf("on %s: %s", h.Name, first.Refused)
	}
	p.PID = first.Started
	go p.follow()
	return p, nil
}

// openFiles gives the program memory files to write to: nothing must be pumped, and what it wrote last is never lost.
func (p *Process) openFiles(stdin io.Reader) ([]*os.File, error) {
	var files []*os.File
	for _, name := range []string{"stdin", "stdout", "stderr"} {
		fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
		if err != nil {
			closeAll(files)
			return nil, fmt.Errorf("make memory file: %w", err)
		}
		files = append(files, os.NewFile(uintptr(fd), name))
	}
	if stdin != nil {
		if _, err := io.Copy(files[0], stdin); err != nil {
			closeAll(files)
			return nil, err
		}
		if _, err := files[0].Seek(0, io.SeekStart); err != nil {
			closeAll(files)
			return nil, err
		}
	}
	p.output, p.errors = files[1], files[2]
	return files, nil
}

func (p *Process) follow() {
	defer close(p.ended)
	defer p.conn.Close()
	isReady := false
	select {
	case <-p.ready:
		isReady = true
	default:
	}
	for {
		var r reply
		if _, err := Receive(p.conn, &r); err != nil {
			p.status = status{Exit: -1, Signal: int(unix.SIGKILL)} // the host is gone, and all on it
			return
		}
		if r.Ready && !isReady {
			isReady = true
			close(p.ready)
		}
		if r.Ended != nil {
			p.status = *r.Ended
			return
		}
	}
}

// WaitReady waits until the program said READY=1.
func (p *Process) WaitReady(ctx context.Context) error {
	select {
	case <-p.ready:
		return nil
	case <-p.ended:
		return fmt.Errorf("%s ended before it was ready (%s): %s", p.Args[0], p.status, p.Stderr())
	case <-ctx.Done():
		return fmt.Errorf("%s is not ready: %w", p.Args[0], ctx.Err())
	}
}

// Wait waits for the program's end and returns its exit code, -1 if a signal ended it. If ctx ends first, the program is killed.
func (p *Process) Wait(ctx context.Context) (int, error) {
	select {
	case <-p.ended:
		return p.status.Exit, nil
	case <-ctx.Done():
		p.Kill()
		return -1, fmt.Errorf("%s did not end: %w", p.Args[0], ctx.Err())
	}
}

// Running reports whether the program has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// Signal sends a signal to the program itself.
func (p *Process) Signal(s syscall.Signal) error {
	if !p.Running() {
		return os.ErrProcessDone
	}
	return Send(p.conn, command{Signal: int(s)})
}

// Kill ends the program at once and waits for it. What it put into sessions of their own lives on.
func (p *Process) Kill() {
	if p.Signal(unix.SIGKILL) == nil {
		<-p.ended
	}
}

// maxOutput is how much of a program's output is read: the last of it. A dump of ten thousand peers has 1.4 MB.
const maxOutput = 64 << 20

// Stdout is what the program wrote so far, the last 64 MiB of it.
func (p *Process) Stdout() string { return tail(p.output) }

// Stderr is what the program wrote to standard error so far.
func (p *Process) Stderr() string { return tail(p.errors) }

func tail(file *os.File) string {
	if file == nil {
		return ""
	}
	info, err := file.Stat()
	if err != nil {
		return ""
	}
	from := max(0, info.Size()-maxOutput)
	text := make([]byte, info.Size()-from)
	n, _ := file.ReadAt(text, from) // short if the file is cut meanwhile
	return string(text[:n])
}

func (s status) String() string {
	if s.Signal != 0 {
		return "killed by " + unix.SignalName(syscall.Signal(s.Signal))
	}
	return fmt.Sprintf("exit code %d", s.Exit)
}

// Result is what a program that ended left.
type Result struct {
	Exit   int
	Stdout string
	Stderr string
}

// Run runs a program to its end. An error means that it did not start or did not end, not that it failed.
func (h *Host) Run(ctx context.Context, c Command) (Result, error) {
	p, err := h.Start(c)
	if err != nil {
		return Result{}, err
	}
	exit, err := p.Wait(ctx)
	r := Result{Exit: exit, Stdout: p.Stdout(), Stderr: p.Stderr()}
	p.release()
	return r, err
}

func (p *Process) release() {
	if p.output != nil {
		p.output.Close()
		p.errors.Close()
	}
}
