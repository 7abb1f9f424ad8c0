package journald

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
)

const within = time.Minute

// daemon is a systemd-journald in a mount and a network namespace of its own: it sees nothing of the host's messages.
type daemon struct{ run string }

func startJournald(t *testing.T) daemon {
	t.Helper()
	const program = "/lib/systemd/systemd-journald"
	probetest.Need(t, probe.Root, probe.Namespaces, probe.Tool("journalctl"), probe.Tool("socat"), probe.Tool(program))
	dir := t.TempDir()
	d := daemon{filepath.Join(dir, "run")}
	config := filepath.Join(dir, "journald.conf")
	for _, sub := range []string{"systemd/journal", "log/journal"} {
		if err := os.MkdirAll(filepath.Join(d.run, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(config, []byte("[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\nRateLimitIntervalSec=0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	// Of a process in the root of its control groups, as it is seen in a namespace of these, journald takes the unit from what the process says itself.
	command := exec.Command("unshare", "--mount", "--net", "--cgroup", "--propagation=private", "sh", "-ec", `mount --bind "$1" /run; mount --bind "$2" /etc/systemd/journald.conf; exec "$3"`, "sh", d.run, config, program)
	var said strings.Builder
	command.Stdout, command.Stderr = &said, &said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM)
		_ = command.Wait()
	})
	for deadline := time.Now().Add(within); ; time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("unix", d.socket("stdout")); err == nil {
			_ = c.Close()
			return d
		}
		if time.Now().After(deadline) {
			t.Fatalf("journald does not start: %s", said.String())
		}
	}
}

func (d daemon) socket(name string) string { return filepath.Join(d.run, "systemd/journal", name) }

func (d daemon) reader() Reader { return Reader{Directory: filepath.Join(d.run, "log/journal")} }

// say writes lines as a unit's standard output, by the protocol of systemd's sd_journal_stream_fd, each time from another process: journald remembers whose a process is. The sender asks for
// credentials too: what it writes before journald has asked for them would have none (Linux 6.18), and who is not root, as journald then believes, cannot say which unit it is.
func (d daemon) say(t *testing.T, unit string, priority int, lines ...string) {
	t.Helper()
	command := exec.Command("socat", "-u", "-", "UNIX-CONNECT:"+d.socket("stdout")+",passcred")
	command.Stdin = strings.NewReader(fmt.Sprintf("test\n%s\n%d\n0\n0\n0\n0\n%s\n", unit, priority, strings.Join(lines, "\n")))
	if text, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}

// manage sends what systemd itself says of a unit, with these fields, as the process 1: root may say so.
func (d daemon) manage(t *testing.T, unit string, fields ...string) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 4<<20); err != nil {
		t.Fatal(err)
	}
	message := []byte("UNIT=" + unit + "\nPRIORITY=5\n" + strings.Join(fields, "\n") + "\n")
	if err := unix.Sendmsg(fd, message, unix.UnixCredentials(&unix.Ucred{Pid: 1}), &unix.SockaddrUnix{Name: d.socket("socket")}, 0); err != nil {
		t.Fatal(err)
	}
}

var errEnough = errors.New("enough")

// read follows until there are as many messages as are wanted.
func (d daemon) read(t *testing.T, from Position, want int) (got []Message) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	err := d.reader().Follow(ctx, []string{"chrony.service", "ssh.service"}, from, func(m Message) error {
		if got = append(got, m); len(got) == want {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Fatalf("%v, after %+v", err, got)
	}
	return got
}

// TestFollow: what units say to a real journald comes in order, from where it was read to; what others say does not.
func TestFollow(t *testing.T) {
	d := startJournald(t)
	begin := Position{Since: time.Now().Add(-time.Minute)}
	d.say(t, "chrony.service", 6, "Selected source 192.0.2.1")
	d.read(t, begin, 1) // what comes by several connections at a time has no order
	d.say(t, "other.service", 3, "of no interest")
	d.say(t, "chrony.service", 7, "a detail")
	d.say(t, "ssh.service", 3, "control \x1b[31m here", strings.Repeat("x", 5000))
	got := d.read(t, begin, 3)
	long := got[2]
	if got[0].Unit != "chrony.service" || got[0].Text != "Selected source 192.0.2.1" || got[0].Priority != 6 || got[0].Identifier != "test" || got[1].Unit != "ssh.service" || got[1].Priority != 3 ||
		got[1].Text != `control \u001b[31m here` || !long.Cut || len(long.Text) > maxText {
		t.Errorf("%+v", got)
	}
	if time.Since(got[0].Time).Abs() > within {
		t.Errorf("it was at %s", got[0].Time)
	}
	d.say(t, "ssh.service", 5, "later")
	again := d.read(t, Position{Cursor: long.Cursor}, 2) // with the one that stands there
	if again[0].Cursor != long.Cursor || again[1].Text != "later" || again[1].Priority != 5 {
		t.Errorf("%+v", again)
	}
}

// TestFollowWhatSystemdSays: of a unit, beside what that says; a message that is too long to be read is told as such, and what follows it is read.
func TestFollowWhatSystemdSays(t *testing.T) {
	d := startJournald(t)
	begin := Position{Since: time.Now().Add(-time.Minute)}
	d.manage(t, "ssh.service", "MESSAGE=Failed with result 'exit-code'.")
	d.manage(t, "other.service", "MESSAGE=of no interest")
	huge := make([]string, 100) // journalctl writes each byte of it as a number; journald keeps what is the same only once
	for i := range huge {
		huge[i] = fmt.Sprintf("MESSAGE=%s%d", strings.Repeat("\xff", 4000), i)
	}
	d.manage(t, "ssh.service", huge...)
	d.manage(t, "ssh.service", "MESSAGE=Started.")
	got := d.read(t, begin, 3)
	if got[0].Unit != "ssh.service" || !got[0].Manager || got[0].Priority != 5 || got[0].Text != "Failed with result 'exit-code'." || got[1].Unread == nil || got[2].Text != "Started." || got[2].Unread != nil {
		t.Errorf("%.1000s", fmt.Sprintf("%+v", got))
	}
}

// TestFollowEnds: with the context, and where there is nothing to read.
func TestFollowEnds(t *testing.T) {
	probetest.Need(t, probe.Tool("journalctl"))
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() {
		stopped <- Reader{Directory: t.TempDir()}.Follow(ctx, []string{"ssh.service"}, Position{}, func(Message) error { return nil })
	}()
	cancel()
	select {
	case err := <-stopped:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(within):
		t.Fatal("it goes on")
	}
}
