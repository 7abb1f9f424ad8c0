package systemd

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// listen stands in for systemd's end of NOTIFY_SOCKET.
func listen(t *testing.T) (read func() string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return func() string {
		buffer := make([]byte, 4096)
		if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(buffer)
		if err != nil {
			t.Fatal(err)
		}
		return string(buffer[:n])
	}
}

func TestNotify(t *testing.T) {
	var m Manager
	read := listen(t)
	for _, c := range []struct {
		call func() error
		want string
	}{
		{m.Ready, "READY=1"}, {m.Stopping, "STOPPING=1"},
		{func() error { return m.Status("1 tunnel\nREADY=1") }, "STATUS=1 tunnel READY=1"}, {func() error { return m.Main(42) }, "MAINPID=42"},
	} {
		if err := c.call(); err != nil {
			t.Fatal(err)
		}
		if got := read(); got != c.want {
			t.Errorf("systemd hears %q, want %q", got, c.want)
		}
	}
	if err := m.Reloading(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(read(), "\n")
	micro, found := strings.CutPrefix(lines[len(lines)-1], "MONOTONIC_USEC=")
	if _, err := strconv.ParseUint(micro, 10, 64); lines[0] != "RELOADING=1" || !found || err != nil {
		t.Errorf("systemd hears %q", lines)
	}
	t.Setenv("INVOCATION_ID", "")
	if m.Managed() {
		t.Error("managed by somebody who only listens")
	}
	t.Setenv("INVOCATION_ID", "0123456789abcdef0123456789abcdef")
	if !m.Managed() {
		t.Error("not managed")
	}
}

func TestWithoutSystemd(t *testing.T) {
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS"} {
		t.Setenv(name, "")
		os.Unsetenv(name)
	}
	var m Manager
	if err := errors.Join(m.Ready(), m.Reloading(), m.Stopping(), m.Status("x"), m.Main(1)); err != nil || m.Managed() {
		t.Errorf("managed %v: %v", m.Managed(), err)
	}
	if listeners, err := m.Listeners(); err != nil || len(listeners) != 0 {
		t.Errorf("listeners are %v, %v", listeners, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m.Watchdog(ctx, func() bool { t.Error("asked whether it is alive"); return true })

	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "gone"))
	if err := m.Ready(); err == nil {
		t.Error("nobody heard it, and no error")
	}
}

func TestWatchdog(t *testing.T) {
	read := listen(t)
	t.Setenv("WATCHDOG_USEC", "400000") // a socket holds some eleven that nobody has read
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		Manager{}.Watchdog(ctx, func() bool { return true })
	}()
	for range 3 {
		if got := read(); got != "WATCHDOG=1" {
			t.Errorf("systemd hears %q", got)
		}
	}
	cancel()
	<-done
}

func TestWatchOnlyWhileAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var alive atomic.Bool
		var pings atomic.Int32
		alive.Store(true)
		go watch(ctx, time.Second, alive.Load, func() error { pings.Add(1); return errors.New("nobody hears") })
		time.Sleep(3*time.Second + time.Millisecond)
		if got := pings.Load(); got != 4 {
			t.Errorf("%d pings in 3 seconds, want 4", got)
		}
		alive.Store(false)
		time.Sleep(10 * time.Second)
		if got := pings.Load(); got != 4 {
			t.Errorf("%d pings while stuck", got-4)
		}
		alive.Store(true)
		time.Sleep(time.Second)
		if got := pings.Load(); got != 5 {
			t.Errorf("%d pings after it goes on", got-4)
		}
		cancel()
		synctest.Wait()
	})
}

// TestListeners passes a socket as systemd does: from descriptor 3 on, to the process named in LISTEN_PID.
func TestListeners(t *testing.T) {
	if os.Getenv("SHEKARA_SYSTEMD_TEST") != "" {
		t.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid())) // the parent cannot know it
		listeners, err := Manager{}.Listeners()
		if err != nil || len(listeners["api"]) != 1 {
			t.Fatalf("listeners are %v, %v", listeners, err)
		}
		conn, err := listeners["api"][0].Accept()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte("hello"))
		conn.Close()
		return
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	file, err := listener.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(self, "-test.run=^TestListeners$")
	child.Env = append(os.Environ(), "SHEKARA_SYSTEMD_TEST=1", "LISTEN_FDS=1", "LISTEN_FDNAMES=api")
	child.ExtraFiles = []*os.File{file}
	child.Stdout, child.Stderr = t.Output(), t.Output()
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 5)
	if _, err := conn.Read(buffer); err != nil || string(buffer) != "hello" {
		t.Errorf("the child says %q, %v", buffer, err)
	}
	if err := child.Wait(); err != nil {
		t.Error(err)
	}
}
