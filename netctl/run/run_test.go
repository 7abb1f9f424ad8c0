package run_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"shekara/netctl"
	"shekara/netctl/run"
)

const role = "SHEKARA_RUN_TEST_ROLE"

// TestMain makes the test binary the parent that starts a detached child and dies, and that child (whose environment is
// cleared, so its role is an argument).
func TestMain(m *testing.M) {
	if os.Getenv(role) == "parent" {
		self, _ := os.Executable()
		log, err := os.Create(os.Args[1])
		if err == nil {
			_, err = run.Detached{Argv: []string{self, "detached-child"}, Stdout: log, ExtraFiles: []*os.File{log}}.Start()
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) == 2 && os.Args[1] == "detached-child" {
		hangup := make(chan os.Signal, 1)
		signal.Notify(hangup, unix.SIGTERM)
		session, _ := unix.Getsid(0)
		fmt.Fprintf(os.NewFile(3, "extra"), "%d %d %s\n", os.Getpid(), session, strings.Join(os.Environ(), " "))
		<-hangup
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestRun(t *testing.T) {
	t.Setenv("SHEKARA_TEST_LEAK", "leaked")
	out, err := run.Command{Argv: []string{"cat"}, Stdin: []byte("input")}.Run(t.Context())
	if err != nil || string(out) != "input" {
		t.Errorf("cat: %q, %v", out, err)
	}
	out, err = run.Output(t.Context(), "env")
	if err != nil || bytes.Contains(out, []byte("leaked")) || !bytes.Contains(out, []byte("LC_ALL=C")) {
		t.Errorf("environment is %q, %v", out, err)
	}
	out, err = run.Output(t.Context(), "printf", "%s", "$(id) ; `id` | *")
	if err != nil || string(out) != "$(id) ; `id` | *" {
		t.Errorf("arguments became %q, %v", out, err)
	}
}

func TestRunErrors(t *testing.T) {
	_, err := run.Output(t.Context(), "ls", "/nonexistent/file")
	var seam *netctl.Error
	var exit *exec.ExitError
	if !errors.As(err, &seam) || !strings.Contains(seam.Detail, "No such file") || seam.Op != "run ls" {
		t.Errorf("error is %#v", err)
	}
	if !errors.As(err, &exit) || exit.ExitCode() != 2 {
		t.Errorf("exit is %v", exit)
	}
	for _, name := range []string{"no-such-program-anywhere", "/no/such/program"} {
		if _, err := run.Output(t.Context(), name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, argv := range [][]string{{"./run_test.go"}, {""}, nil} {
		if _, err := run.Output(t.Context(), argv...); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%q: %v", argv, err)
		}
	}
	if _, err := (run.Command{Argv: []string{"yes"}, MaxOutput: 1 << 16}).Run(t.Context()); !errors.Is(err, run.ErrOutputTooLong) {
		t.Errorf("endless output: %v", err)
	}
	_, err = run.Output(t.Context(), "seq", "1", "100000")
	if err != nil {
		t.Errorf("long but allowed output: %v", err)
	}
}

func TestTimeoutKillsTheProcessGroup(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	// sh is what is run here, as a program with a grandchild.
	start := "sleep 1000 & echo $! > " + file + "; wait"
	var text []byte
	for timeout := 500 * time.Millisecond; len(text) == 0; timeout *= 4 { // a busy machine may not come as far as the file
		_, err := run.Command{Argv: []string{"sh", "-c", start}, Timeout: timeout}.Run(t.Context())
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error is %v", err)
		}
		text, err = os.ReadFile(file)
		if err != nil && (!errors.Is(err, fs.ErrNotExist) || timeout > time.Minute) {
			t.Fatal(err)
		}
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	grandchild, err := run.Adopt(pid)
	if errors.Is(err, fs.ErrNotExist) {
		return // dead and reaped
	}
	if err != nil {
		t.Fatal(err)
	}
	defer grandchild.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := grandchild.Wait(ctx); err != nil {
		_ = unix.Kill(pid, unix.SIGKILL)
		t.Errorf("grandchild goes on: %v", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := run.Output(ctx, "sleep", "1000"); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

func TestDetachedOutlivesItsParent(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "log")
	parent := exec.Command(self, file)
	parent.Env = append(os.Environ(), role+"=parent")
	if out, err := parent.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var fields []string
	for deadline := time.Now().Add(20 * time.Second); len(fields) < 3; time.Sleep(10 * time.Millisecond) { // a file gives no event
		text, err := os.ReadFile(file)
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("child wrote %q, %v", text, err)
		}
		if strings.HasSuffix(string(text), "\n") {
			fields = strings.Fields(string(text))
		}
	}
	pid, err := strconv.Atoi(fields[0])
	if err != nil || fields[1] != fields[0] || strings.Contains(strings.Join(fields, " "), role) {
		t.Fatalf("child says %q", fields)
	}
	child, err := run.Adopt(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer child.Close()
	if !child.Running() {
		t.Fatal("child has ended with its parent")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := child.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait: %v", err)
	}
	if err := child.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := child.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestOwnChildIsReaped(t *testing.T) {
	child, err := run.Detached{Argv: []string{"sleep", "1000"}}.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer child.Close()
	if !child.Running() {
		t.Error("not running")
	}
	if err := child.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := child.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if child.Running() {
		t.Error("still running")
	}
	if err := child.Signal(unix.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal: %v", err)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", child.PID)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a zombie is left: %v", err)
	}
}

// TestLines: each line as it comes, of one that is too long its beginning; what ends it is told.
func TestLines(t *testing.T) {
	var got []string
	collect := func(line []byte, cut bool) error {
		text := string(line)
		if len(text) > 20 {
			text = fmt.Sprintf("%d of %.1s", len(line), text)
		}
		if cut {
			text += " cut"
		}
		got = append(got, text)
		return nil
	}
	lines := func(most int, script string) string {
		got = nil
		if err := (run.Command{Argv: []string{"sh", "-c", script}, MaxOutput: most}).Lines(t.Context(), collect); err != nil {
			t.Error(err)
		}
		return strings.Join(got, "|")
	}
	const long = `x() { head -c "$1" /dev/zero | tr '\0' "$2"; echo; }; `
	for _, c := range []struct {
		most         int
		script, want string
	}{
		{0, `printf 'one\n\ntwo\nwithout an end'`, "one||two"},
		{0, long + `x 65535 a; x 65536 b; x 65537 c; x 3000000 d; echo last`, "65535 of a|65536 of b|65537 of c|3000000 of d|last"},
		{1000, long + `x 999 a; x 1000 b; x 1001 c; x 200000 d; echo last`, "999 of a|1000 of b|1000 of c cut|1000 of d cut|last"},
		{100_000, long + `x 100000 a; x 100001 b; x 300000 c; echo last`, "100000 of a|100000 of b cut|100000 of c cut|last"},
	} {
		if got := lines(c.most, c.script); got != c.want {
			t.Errorf("%s: %s, want %s", c.script, got, c.want)
		}
	}
	enough := errors.New("enough")
	err := run.Command{Argv: []string{"sh", "-c", "echo one; exec sleep 1000"}}.Lines(t.Context(), func([]byte, bool) error { return enough })
	if !errors.Is(err, enough) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = run.Command{Argv: []string{"sh", "-c", "echo one; exec sleep 1000"}}.Lines(ctx, func([]byte, bool) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	err = run.Command{Argv: []string{"sh", "-c", "echo why >&2; exit 3"}}.Lines(t.Context(), collect)
	if err == nil || !strings.Contains(err.Error(), "why") {
		t.Error(err)
	}
	if err := (run.Command{Argv: []string{"no-such-program"}}).Lines(t.Context(), collect); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
