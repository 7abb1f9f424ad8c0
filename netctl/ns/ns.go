package ns

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Namespace is a network namespace held open by a descriptor.
type Namespace struct{ file *os.File }

// New makes an empty network namespace: loopback only, down. It exists until Close, and as long as something lives in it.
func New() (*Namespace, error) {
	var made *Namespace
	err := onThread(func() (func() error, error) {
		own, err := open(threadNet)
		if err != nil {
			return nil, err
		}
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			own.Close()
			return nil, fmt.Errorf("unshare network namespace: %w", err)
		}
		return func() error { return enterAndClose(own) }, nil
	}, func() (err error) {
		made, err = Current()
		return err
	})
	if err != nil && made != nil {
		made.Close()
		return nil, err
	}
	return made, err
}

// Open holds the namespace at a path: /proc/PID/ns/net, or /run/netns/NAME as made by ip-netns(8).
func Open(path string) (*Namespace, error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	return &Namespace{f}, nil
}

// Current holds the namespace of the calling thread.
func Current() (*Namespace, error) { return Open(threadNet) }

// Of holds the network namespace of a process.
func Of(pid int) (*Namespace, error) { return Open(fmt.Sprintf("/proc/%d/ns/net", pid)) }

// Close lets go of the namespace.
func (n *Namespace) Close() error { return n.file.Close() }

// FD is the descriptor. It stays Namespace's own: it is valid until Close.
func (n *Namespace) FD() int { return int(n.file.Fd()) }

// Path names the namespace for other processes (nsenter --net=PATH) until Close.
func (n *Namespace) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.FD()) }

// Same reports whether both are one namespace.
func (n *Namespace) Same(other *Namespace) (bool, error) {
	a, err := n.file.Stat()
	if err != nil {
		return false, err
	}
	b, err := other.file.Stat()
	if err != nil {
		return false, err
	}
	return os.SameFile(a, b), nil
}

// Initial reports whether n is the namespace of process 1 or the one that this process was started in: the host's own.
func (n *Namespace) Initial() (bool, error) {
	for _, path := range []string{"/proc/1/ns/net", "/proc/self/ns/net"} {
		other, err := Open(path)
		if errors.Is(err, os.ErrPermission) {
			continue
		}
		if err != nil {
			return false, err
		}
		same, err := n.Same(other)
		other.Close()
		if err != nil || same {
			return same, err
		}
	}
	return false, nil
}

// Do runs f inside the namespace and returns its error. Sockets that f opens, files of /proc/sys/net that it opens and
// programs that it starts belong to the namespace, also after f has returned; goroutines that f starts do not, and
// /proc/net is that of the process (use /proc/thread-self/net). A panic or runtime.Goexit (t.Fatal) of f goes on in the caller.
// It needs CAP_SYS_ADMIN, unless n is the namespace that the process is in anyhow.
func (n *Namespace) Do(f func() error) error {
	return onThread(func() (func() error, error) {
		own, err := open(threadNet)
		if err != nil {
			return nil, err
		}
		if here, err := n.Same(&Namespace{own}); err != nil || here {
			return own.Close, err
		}
		if err := enter(n.file, unix.CLONE_NEWNET); err != nil {
			own.Close()
			return nil, err
		}
		return func() error { return enterAndClose(own) }, nil
	}, f)
}

// Do runs f in the network namespace at a path.
func Do(path string, f func() error) error {
	n, err := Open(path)
	if err != nil {
		return err
	}
	defer n.Close()
	return n.Do(f)
}

// DoInProcess runs f in the network and mount namespaces of a process; programs that f starts are also in its PID
// namespace. The thread is not given back (setns(2) of a mount namespace needs an unshared CLONE_FS, which cannot be
// undone), so do not start programs with SysProcAttr.Pdeathsig from f: they would get the signal when f returns.
func DoInProcess(pid int, f func() error) error {
	kinds := []struct {
		name string
		flag int
	}{{"net", unix.CLONE_NEWNET}, {"pid", unix.CLONE_NEWPID}, {"mnt", unix.CLONE_NEWNS}}
	return onThread(func() (func() error, error) {
		var files []*os.File
		defer func() {
			for _, file := range files {
				file.Close()
			}
		}()
		// All are opened before any is entered: /proc may be another one inside.
		for _, kind := range kinds {
			file, err := open(fmt.Sprintf("/proc/%d/ns/%s", pid, kind.name))
			if err != nil {
				return nil, err
			}
			files = append(files, file)
		}
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return nil, fmt.Errorf("unshare file system attributes: %w", err)
		}
		for i, kind := range kinds {
			if err := enter(files[i], kind.flag); err != nil {
				return nil, err
			}
		}
		return nil, nil // never restored: the thread dies
	}, f)
}

const threadNet = "/proc/thread-self/ns/net"

func open(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open namespace: %w", err)
	}
	return f, nil
}

func enter(file *os.File, kind int) error {
	if err := unix.Setns(int(file.Fd()), kind); err != nil {
		return fmt.Errorf("enter namespace %s: %w", file.Name(), err)
	}
	return nil
}

func enterAndClose(file *os.File) error {
	defer file.Close()
	return enter(file, unix.CLONE_NEWNET)
}

// onThread runs enter and f on a goroutine of its own with a locked thread. The thread is unlocked, and so used again by the
// runtime, only if enter returns a restore function and that succeeds: a goroutine that ends locked takes its thread along.
// It is never the main thread: that one is what /proc/PID/ns shows of the process, and the runtime parks it instead of ending it.
func onThread(enter func() (restore func() error, err error), f func() error) error {
	type outcome struct {
		err      error
		exited   bool // by runtime.Goexit
		panicked any
	}
	done := make(chan outcome, 1)
	run := func() { // with the thread locked
		out := outcome{exited: true}
		var restore func() error
		defer func() { // deferred, for only so does it run after Goexit too
			if p := recover(); p != nil {
				out.panicked, out.exited = p, false
			}
			if restore != nil {
				if err := restore(); err == nil {
					runtime.UnlockOSThread()
				} else if out.err == nil {
					out.err = fmt.Errorf("restore thread: %w", err)
				}
			}
			done <- out
		}()
		if restore, out.err = enter(); out.err == nil {
			out.err = f()
		}
		out.exited = false
	}
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			run()
			return
		}
		// Held here, the main thread cannot get the other goroutine.
		defer runtime.UnlockOSThread()
		finished := make(chan struct{})
		go func() {
			defer close(finished)
			runtime.LockOSThread()
			run()
		}()
		<-finished
	}()
	out := <-done
	switch {
	case out.panicked != nil:
		panic(out.panicked)
	case out.exited:
		runtime.Goexit()
	}
	return out.err
}
