package lab_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
	"shekara/testbed/lab"
	"shekara/testbed/wire"
)

// TestMain lets the test binary be what the lab starts: the agent, and a maker that a test can kill.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 {
		switch os.Args[1] {
		case "agent":
			os.Exit(lab.Agent(os.Args[2]))
		case "maker":
			make2(os.Args[2])
		}
	}
	os.Exit(m.Run())
}

func open(t *testing.T) *lab.Network {
	t.Helper()
	probetest.Need(t, probe.Root, probe.Namespaces)
	n := lab.Open([]string{"/proc/self/exe", "agent"}, []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"})
	t.Cleanup(n.Close)
	return n
}

func twoHosts(t *testing.T, spec lab.LinkSpec) (*lab.Network, *lab.Host, *lab.Host, *lab.Link) {
	t.Helper()
	n := open(t)
	a, err := n.AddHost("a", false)
	if err != nil {
		t.Fatal(err)
	}
	b, err := n.AddHost("b", false)
	if err != nil {
		t.Fatal(err)
	}
	spec.Name = "ab"
	spec.Ends = []lab.End{
		{Host: "a", Interface: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("2001:db8::1/64")}},
		{Host: "b", Interface: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.2/24"), netip.MustParsePrefix("2001:db8::2/64")}},
	}
	l, err := n.AddLink(spec)
	if err != nil {
		t.Fatal(err)
	}
	return n, a, b, l
}

func run(t *testing.T, h *lab.Host, args ...string) lab.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, err := h.Run(ctx, lab.Command{Args: args})
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return r
}

func TestHostIsPrivate(t *testing.T) {
	_, a, b, _ := twoHosts(t, lab.LinkSpec{})
	if err := a.WriteFile("/run/shekara/secret", []byte("of a"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := run(t, a, "cat", "/run/shekara/secret"); r.Stdout != "of a" {
		t.Errorf("on a: %+v", r)
	}
	if r := run(t, b, "cat", "/run/shekara/secret"); r.Exit == 0 {
		t.Error("b sees a file of a")
	}
	if _, err := os.Stat("/run/shekara/secret"); err == nil {
		t.Error("the machine sees a file of a")
	}
	if r := run(t, a, "sh", "-c", "hostname; ls /etc/shekara /var/lib /run; ls /sys/class/net | tr '\n' ' '; cat /proc/1/comm >/dev/null && ls -d /proc/[0-9]* | wc -l"); r.Exit != 0 ||
		!strings.HasPrefix(r.Stdout, "a\n") || !strings.Contains(r.Stdout, "eth0 lo") {
		t.Errorf("a looks like this: %+v", r)
	}
	if err := a.WriteFile("/usr/bin/x", nil, 0o600); err == nil {
		t.Error("a file outside of the private folders was written")
	}
}

func TestProgramsEndAsTheyShould(t *testing.T) {
	_, a, _, _ := twoHosts(t, lab.LinkSpec{})
	if r := run(t, a, "sh", "-c", "echo out; echo err >&2; exit 7"); r != (lab.Result{Exit: 7, Stdout: "out\n", Stderr: "err\n"}) {
		t.Errorf("%+v", r)
	}
	if _, err := a.Run(t.Context(), lab.Command{Args: []string{"no-such-program"}}); err == nil {
		t.Error("a program that is not there ran")
	}
	r, err := a.Run(t.Context(), lab.Command{Args: []string{"cat"}, Stdin: strings.NewReader("typed")})
	if err != nil || r.Stdout != "typed" {
		t.Errorf("cat: %+v, %v", r, err)
	}
	p, err := a.Start(lab.Command{Args: []string{"sleep", "1000"}})
	if err != nil {
		t.Fatal(err)
	}
	if !p.Running() {
		t.Error("sleep does not run")
	}
	p.Kill()
	if exit, _ := p.Wait(t.Context()); exit != -1 || p.Running() {
		t.Errorf("exit code %d of a program that was killed", exit)
	}
	// An orphan is reaped by process 1: no zombie is left.
	run(t, a, "sh", "-c", "(sleep 0.01 &) ; exit 0")
	deadline := time.Now().Add(10 * time.Second)
	for strings.Contains(run(t, a, "sh", "-c", "cat /proc/[0-9]*/stat").Stdout, "(sleep) Z") {
		if time.Now().After(deadline) {
			t.Fatal("a zombie stays")
		}
	}
}

func TestReadyIsRelayed(t *testing.T) {
	_, a, _, _ := twoHosts(t, lab.LinkSpec{})
	p, err := a.Start(lab.Command{Notify: true, Args: []string{"sh", "-c", `printf 'STATUS=x\nREADY=1' | socat - UNIX-SENDTO:"$NOTIFY_SOCKET"; exec sleep 1000`}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := p.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	dead, err := a.Start(lab.Command{Notify: true, Args: []string{"false"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := dead.WaitReady(ctx); err == nil {
		t.Error("a program that ended is called ready")
	}
}

func TestPacketsCrossVethWireAndSwitch(t *testing.T) {
	for name, spec := range map[string]lab.LinkSpec{"veth": {}, "wire": {Wire: true}} {
		t.Run(name, func(t *testing.T) {
			_, a, _, l := twoHosts(t, spec)
			for _, to := range []string{"192.0.2.2", "2001:db8::2"} {
				if r := run(t, a, "ping", "-c1", "-W5", to); r.Exit != 0 {
					t.Errorf("ping %s: %+v", to, r)
				}
			}
			if l.Wire == nil {
				return
			}
			l.Wire.Impair(wire.Impairment{Partition: true})
			if r := run(t, a, "ping", "-c1", "-W1", "192.0.2.2"); r.Exit == 0 {
				t.Error("a ping crossed the partition")
			}
			l.Wire.Impair(wire.Impairment{Delay: 30 * time.Millisecond})
			r := run(t, a, "ping", "-c3", "-i0.2", "-W5", "192.0.2.2")
			fields := strings.Split(r.Stdout, "/")
			if r.Exit != 0 || len(fields) < 5 {
				t.Fatalf("%+v", r)
			}
			if least, err := strconv.ParseFloat(strings.TrimSpace(fields[3][strings.LastIndex(fields[3], " ")+1:]), 64); err != nil || least < 60 {
				t.Errorf("round trip of %v ms (%v) over a line of 30 ms", least, err)
			}
		})
	}
	t.Run("switch", func(t *testing.T) {
		n := open(t)
		var ends []lab.End
		for i, name := range []string{"a", "b", "c"} {
			if _, err := n.AddHost(name, false); err != nil {
				t.Fatal(err)
			}
			ends = append(ends, lab.End{Host: name, Interface: "lan0", Addresses: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("192.0.2.%d/24", i+1))}})
		}
		l, err := n.AddLink(lab.LinkSpec{Name: "lan", Ends: ends})
		if err != nil {
			t.Fatal(err)
		}
		for _, to := range []string{"192.0.2.2", "192.0.2.3"} {
			if r := run(t, n.Host("a"), "ping", "-c1", "-W5", to); r.Exit != 0 {
				t.Errorf("ping %s: %+v", to, r)
			}
		}
		if err := l.SetUp("c", false); err != nil {
			t.Fatal(err)
		}
		if r := run(t, n.Host("a"), "ping", "-c1", "-W1", "192.0.2.3"); r.Exit == 0 {
			t.Error("a ping came through an interface that is down")
		}
	})
}

// make2 is the maker that TestKilledMakerLeavesNothing kills: it makes a network with a program in a session of its own.
func make2(folder string) {
	n := lab.Open([]string{"/proc/self/exe", "agent"}, []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"})
	h, err := n.AddHost("left", false)
	if err == nil {
		_, err = n.AddHost("right", false)
	}
	if err == nil {
		_, err = n.AddLink(lab.LinkSpec{Name: "w", Wire: true, Ends: []lab.End{{Host: "left", Interface: "eth0"}, {Host: "right", Interface: "eth0"}}})
	}
	if err == nil {
		_, err = h.Start(lab.Command{Args: []string{"setsid", "sleep", "86399"}})
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	if err := os.WriteFile(filepath.Join(folder, "ready"), fmt.Appendf(nil, "%d %d", h.PID(), n.Host("right").PID()), 0o600); err != nil {
		os.Exit(1)
	}
	fmt.Println("ready")
	select {}
}

func TestKilledMakerLeavesNothing(t *testing.T) {
	probetest.Need(t, probe.Root, probe.Namespaces)
	folder := t.TempDir()
	maker := exec.Command("/proc/self/exe", "maker", folder)
	out, err := maker.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := maker.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 100)
	n, _ := out.Read(line)
	if string(line[:n]) != "ready\n" {
		t.Fatalf("the maker says %q", line[:n])
	}
	text, err := os.ReadFile(filepath.Join(folder, "ready"))
	if err != nil {
		t.Fatal(err)
	}
	var pids [2]int
	if _, err := fmt.Sscan(string(text), &pids[0], &pids[1]); err != nil {
		t.Fatal(err)
	}
	var agents []int // pidfds: they tell of the end of exactly these processes
	var spaces []string
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		agents = append(agents, fd)
		for _, kind := range []string{"net", "mnt", "pid"} {
			space, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
			if err != nil {
				t.Fatal(err)
			}
			spaces = append(spaces, space)
		}
	}
	// Two agents and the sleeper: else what is looked for below could never be seen. A group's leader has to fork to have a session of
	// its own, so one look at /proc may list the parent that goes and miss the child that stays.
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		living := inhabitants(t, spaces)
		if len(living) >= 3 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("only %v live in the namespaces of the network", living)
		}
	}
	if err := maker.Process.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = maker.Wait()
	for _, fd := range agents {
		n, err := 0, error(unix.EINTR)
		for errors.Is(err, unix.EINTR) {
			n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 20_000)
		}
		if n != 1 || err != nil {
			t.Fatalf("an agent outlives its maker (%v)", err)
		}
	}
	if left := inhabitants(t, spaces); len(left) > 0 {
		t.Errorf("processes %v still live in the namespaces", left)
	}
}

// inhabitants are the processes in any of the namespaces. (A zombie keeps its PID namespace until it is reaped, but nothing else.)
func inhabitants(t *testing.T, spaces []string) []int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var found []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		for _, kind := range []string{"net", "mnt"} {
			space, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
			if err == nil && strings.Contains(strings.Join(spaces, " "), space) {
				found = append(found, pid)
				break
			}
		}
	}
	return found
}
