package lab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// controlFD is the agent's end of the socket to its maker.
const controlFD = 3

// Agent is process 1 of a host. It returns, and so ends the host, when its maker is gone. It is not for people to call.
func Agent(hostname string) int {
	control, err := unixConn(os.NewFile(controlFD, "control"))
	if err != nil {
		fmt.Fprintf(os.Stderr, "testbed agent: %v\n", err)
		return 1
	}
	if os.Getpid() != 1 {
		// Outside a PID namespace of its own the mounts below would be the machine's.
		_ = Send(control, hello{Error: "the agent is not process 1"})
		return 1
	}
	if err := settle(hostname); err != nil {
		_ = Send(control, hello{Error: err.Error()})
		return 1
	}
	a := &agent{programs: map[int]chan status{}}
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD) // before there is any
	go a.reap(children)
	if err := Send(control, hello{}); err != nil {
		return 1
	}
	for {
		var r request
		files, err := Receive(control, &r)
		if err != nil {
			return 0
		}
		go a.serve(r, files)
	}
}

// settle makes the host's private file systems. The namespaces are new already: nothing of this is seen outside.
func settle(hostname string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Sethostname([]byte(hostname)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	// The upper layers of /etc live in a tmpfs that is then covered by the host's own /run.
	if err := mount("tmpfs", "/run", "tmpfs", "mode=0755"); err != nil {
		return err
	}
	for _, folder := range []string{"/run/upper", "/run/work"} {
		if err := os.Mkdir(folder, 0o755); err != nil {
			return err
		}
	}
	if err := mount("overlay", "/etc", "overlay", "lowerdir=/etc,upperdir=/run/upper,workdir=/run/work"); err != nil {
		return err
	}
	for _, folder := range []string{"/run", "/var/lib"} {
		if err := mount("tmpfs", folder, "tmpfs", "mode=0755"); err != nil {
			return err
		}
	}
	if err := mount("proc", "/proc", "proc", ""); err != nil {
		return err
	}
	if err := mount("sysfs", "/sys", "sysfs", ""); err != nil {
		return err
	}
	if err := os.RemoveAll("/etc/shekara"); err != nil {
		return err
	}
	for _, folder := range []string{"/etc/shekara", "/run/lock"} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
	}
	// No name is asked of the machine's resolver.
	return errors.Join(
		replaceFile("/etc/resolv.conf", ""),
		replaceFile("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 "+hostname+"\n"),
		replaceFile("/etc/hostname", hostname+"\n"),
	)
}

func mount(source, target, kind, options string) error {
	if err := unix.Mount(source, target, kind, 0, options); err != nil {
		return fmt.Errorf("mount %s on %s: %w", kind, target, err)
	}
	return nil
}

// replaceFile writes a new file where a symbolic link may stand.
func replaceFile(path, text string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

// agent knows its own children; others, which programs left behind, it only reaps.
type agent struct {
	mu       sync.Mutex // held from fork to registration, so that the reaper cannot meet a child it does not know yet
	programs map[int]chan status
}

func (a *agent) reap(children <-chan os.Signal) {
	for range children {
		a.mu.Lock()
		for {
			var state unix.WaitStatus
			pid, err := unix.Wait4(-1, &state, unix.WNOHANG, nil)
			if err != nil || pid <= 0 {
				break
			}
			if ended, ours := a.programs[pid]; ours {
				delete(a.programs, pid)
				s := status{Exit: state.ExitStatus()}
				if state.Signaled() {
					s = status{Exit: -1, Signal: int(state.Signal())}
				}
				ended <- s
			}
		}
		a.mu.Unlock()
	}
}

// serve starts one program and stays with it to its end.
func (a *agent) serve(r request, files []*os.File) {
	defer closeAll(files)
	if len(files) != 4 {
		return
	}
	replies, err := unixConn(files[3])
	if err != nil {
		return
	}
	defer replies.Close()
	refuse := func(err error) { _ = Send(replies, reply{Refused: err.Error()}) }
	environment := r.Environment
	if r.Notify != "" {
		notify, err := listenNotify(r.Notify)
		if err != nil {
			refuse(err)
			return
		}
		defer notify.Close()
		environment = append(slices.Clone(environment), "NOTIFY_SOCKET="+r.Notify)
		go relayReady(notify, replies)
	}
	pid, ended, err := a.start(r.Args, environment, files[:3])
	if err != nil {
		refuse(err)
		return
	}
	if err := Send(replies, reply{Started: pid}); err != nil {
		_ = unix.Kill(-pid, unix.SIGKILL)
	}
	var over atomic.Bool // the program ended by itself: what it left in the background stays, as on any host
	go func() {
		for {
			var c command
			if _, err := Receive(replies, &c); err != nil {
				if !over.Load() { // the other end let go. The group may be gone: ESRCH is fine
					_ = unix.Kill(-pid, unix.SIGKILL)
				}
				return
			}
			_ = unix.Kill(pid, syscall.Signal(c.Signal))
		}
	}()
	s := <-ended
	over.Store(true)
	_ = Send(replies, reply{Ended: &s})
}

func (a *agent) start(args, environment []string, files []*os.File) (int, chan status, error) {
	if len(args) == 0 {
		return 0, nil, errors.New("no program named")
	}
	path, err := lookPath(args[0], environment)
	if err != nil {
		return 0, nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	pid, err := syscall.ForkExec(path, args, &syscall.ProcAttr{
		Dir: "/", Env: environment,
		Files: []uintptr{files[0].Fd(), files[1].Fd(), files[2].Fd()},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		return 0, nil, fmt.Errorf("start %q: %w", path, err)
	}
	ended := make(chan status, 1)
	a.programs[pid] = ended
	return pid, ended, nil
}

// lookPath is exec.LookPath by the PATH of the program, not of the agent.
func lookPath(name string, environment []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, variable := range environment {
		list, isPath := strings.CutPrefix(variable, "PATH=")
		if !isPath {
			continue
		}
		for _, folder := range filepath.SplitList(list) {
			if path := filepath.Join(folder, name); isExecutable(path) {
				return path, nil
			}
		}
	}
	return "", fmt.Errorf("find %q: %w", name, exec.ErrNotFound)
}

func isExecutable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && !info.IsDir() && info.Mode()&0o111 != 0
}

func listenNotify(path string) (*net.UnixConn, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	_ = os.Remove(path) // of an earlier run of this program
	return net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
}

// relayReady passes READY=1 on, until the socket closes.
func relayReady(notify, replies *net.UnixConn) {
	buffer := make([]byte, 4096)
	for {
		n, _, err := notify.ReadFromUnix(buffer)
		if err != nil {
			return
		}
		if slices.Contains(strings.Split(string(buffer[:n]), "\n"), "READY=1") {
			_ = Send(replies, reply{Ready: true})
		}
	}
}
