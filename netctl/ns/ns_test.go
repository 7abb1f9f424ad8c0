package ns_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"shekara/netctl/ns"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func current(t testing.TB) string {
	t.Helper()
	link, err := os.Readlink("/proc/thread-self/ns/net")
	must(t, err)
	return link
}

func newNamespace(t testing.TB) *ns.Namespace {
	t.Helper()
	probetest.Need(t, probe.Root, probe.Namespaces)
	n, err := ns.New()
	must(t, err)
	t.Cleanup(func() { n.Close() })
	return n
}

func TestDo(t *testing.T) {
	n := newNamespace(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := current(t)
	var inside string
	must(t, n.Do(func() error {
		inside = current(t)
		links, err := net.Interfaces()
		if err != nil || len(links) != 1 || links[0].Name != "lo" {
			t.Errorf("links inside are %v, %v", links, err)
		}
		if initial, err := n.Initial(); initial || err != nil {
			t.Errorf("a new namespace is the initial one: %v, %v", initial, err)
		}
		return nil
	}))
	if inside == before || current(t) != before {
		t.Errorf("before %s, inside %s, after %s", before, inside, current(t))
	}
	want := errors.New("its own")
	if err := n.Do(func() error { return want }); !errors.Is(err, want) {
		t.Errorf("error is %v", err)
	}
	must(t, ns.Do(n.Path(), func() error {
		if current(t) != inside {
			t.Error("Path names another namespace")
		}
		return nil
	}))
	own, err := ns.Current()
	must(t, err)
	defer own.Close()
	if initial, err := own.Initial(); !initial || err != nil {
		t.Errorf("the test's namespace is not the initial one: %v, %v", initial, err)
	}
	if same, err := own.Same(n); same || err != nil {
		t.Errorf("two namespaces are one: %v, %v", same, err)
	}
	if err := ns.Do("/nonexistent", func() error { return nil }); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such namespace: %v", err)
	}
}

func TestPanicAndGoexitGoOn(t *testing.T) {
	n := newNamespace(t)
	func() {
		defer func() {
			if p := recover(); p != "inside" {
				t.Errorf("panic is %v", p)
			}
		}()
		_ = n.Do(func() error { panic("inside") })
	}()
	exited := true
	var group sync.WaitGroup
	group.Go(func() {
		_ = n.Do(func() error { runtime.Goexit(); return nil })
		exited = false
	})
	group.Wait()
	if !exited {
		t.Error("Goexit inside does not end the goroutine outside")
	}
}

// TestNoThreadIsTainted uses namespaces from many goroutines and then looks at every thread of the process.
func TestNoThreadIsTainted(t *testing.T) {
	spaces := []*ns.Namespace{newNamespace(t), newNamespace(t)}
	own, err := os.Readlink("/proc/self/ns/net")
	must(t, err)
	var group sync.WaitGroup
	for i := range 200 {
		group.Go(func() {
			defer func() { _ = recover() }()
			_ = spaces[i%2].Do(func() error {
				switch i % 3 {
				case 0:
					panic("inside")
				case 1:
					return errors.New("inside")
				}
				_, err := net.Interfaces()
				return err
			})
		})
	}
	group.Wait()
	threads, err := filepath.Glob("/proc/self/task/*/ns/net")
	must(t, err)
	for _, thread := range threads {
		if link, err := os.Readlink(thread); err == nil && link != own { // it may have ended
			t.Errorf("%s is in %s", thread, link)
		}
	}
	if len(threads) == 0 {
		t.Error("no threads were looked at")
	}
}

// TestMainThreadStays: what /proc shows of the process is its own namespace, also while goroutines are in others.
func TestMainThreadStays(t *testing.T) {
	n := newNamespace(t)
	var group sync.WaitGroup
	for range 2000 {
		group.Go(func() {
			_ = n.Do(func() error {
				if syscall.Gettid() == os.Getpid() {
					t.Error("the main thread is in another namespace")
				}
				return nil
			})
		})
	}
	group.Wait()
}

// TestDoInProcess enters a process with namespaces of its own: network, mounts and process IDs.
func TestDoInProcess(t *testing.T) {
	probetest.Need(t, probe.Root, probe.Namespaces)
	pause := exec.Command("sleep", "1000")
	pause.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}
	must(t, pause.Start())
	t.Cleanup(func() {
		_ = pause.Process.Kill()
		_ = pause.Wait()
	})
	pid := pause.Process.Pid
	n, err := ns.Of(pid)
	must(t, err)
	defer n.Close()
	netNamespace := func() string { link, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid)); return link }()

	dir := t.TempDir()
	must(t, ns.DoInProcess(pid, func() error {
		if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
			return err
		}
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, "inside"), []byte("x"), 0o600)
	}))
	if _, err := os.Stat(filepath.Join(dir, "inside")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file inside is seen outside: %v", err)
	}
	must(t, ns.DoInProcess(pid, func() error {
		out, err := exec.Command("sh", "-c", "echo $$; readlink /proc/thread-self/ns/net || true; cat "+dir+"/inside").Output()
		if err != nil {
			return err
		}
		fields := strings.Fields(string(out))
		if len(fields) < 2 || len(fields[0]) > 4 || fields[len(fields)-1] != "x" {
			t.Errorf("a program inside says %q", out)
		}
		if current(t) != netNamespace {
			t.Errorf("inside is %s, want %s", current(t), netNamespace)
		}
		return nil
	}))
	if err := ns.DoInProcess(1<<22+1, func() error { return nil }); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such process: %v", err)
	}
}

// TestDoHereNeedsNoPrivilege: a daemon without CAP_SYS_ADMIN works in its own namespace.
func TestDoHereNeedsNoPrivilege(t *testing.T) {
	if os.Getenv("SHEKARA_NS_TEST_HERE") != "" {
		own, err := ns.Current()
		must(t, err)
		ran := false
		must(t, own.Do(func() error { ran = true; return nil }))
		if !ran {
			t.Error("did not run")
		}
		if other, err := ns.New(); err == nil {
			other.Close()
			t.Error("this test has the privilege that it should lack")
		}
		return
	}
	probetest.Need(t, probe.Root, probe.Tool("setpriv"))
	self, err := os.Executable()
	must(t, err)
	child := exec.Command("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", self, "-test.run=^TestDoHereNeedsNoPrivilege$")
	child.Env = append(os.Environ(), "SHEKARA_NS_TEST_HERE=1")
	if out, err := child.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
