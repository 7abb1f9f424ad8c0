package testbed

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
	"shekara/testbed/vm"
)

// TestMachineWithAWrongClock boots a machine whose clock stands in 2020 behind a bridge, and lets chronyd in it set the clock by another namespace's chronyd.
func TestMachineWithAWrongClock(t *testing.T) {
	probetest.NeedTime(t, "a machine takes its time")
	probetest.Need(t, probe.Root, probe.Namespaces, probe.TUN, probe.QEMU, probe.Tool("busybox"), probe.Tool("chronyd"), probe.Tool("cpio"), probe.Tool("depmod"), probe.Tool("dpkg"), probe.Tool("apt-get"))
	server, hall := nstest.Host(t, "server"), nstest.Host(t, "hall")
	nstest.Link(t, server, "eth0", []string{"192.0.2.1/24"}, hall, "eth0", nil)
	for _, command := range []string{
		"ip link add br0 type bridge", "ip link set br0 up", "ip link set eth0 master br0",
		"ip tuntap add dev vm0 mode tap", "ip link set vm0 master br0", "ip link set vm0 up",
	} {
		hall.Run(strings.Fields(command)...)
	}
	configuration := filepath.Join(t.TempDir(), "chrony.conf")
	text := fmt.Sprintf("local stratum 5\nallow\nbindaddress 192.0.2.1\ncmdport 0\nbindcmdaddress /\npidfile %s\n", filepath.Join(t.TempDir(), "pid"))
	if err := os.WriteFile(configuration, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	server.Start("chronyd", "-d", "-x", "-u", "root", "-f", configuration)

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	machines, err := filepath.Abs("../build/vm")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := vm.FetchKernel(t.Context(), machines); err != nil { // the hall has no way out
		t.Fatal(err)
	}
	before := time.Now()
	command := hall.Command(t.Context(), self, "testbed", "machine", "--machines", machines, "--tap", "vm0", "--clock", "2020-01-01T00:00:00Z", "--", "/bin/sh", "-ec", `
		ip link set eth0 up
		ip address add 192.0.2.2/24 dev eth0
		mkdir -p /run/chrony
		echo "first $(date +%s)"
		chronyd -q 'server 192.0.2.1 iburst maxsamples 4' 2>&1
		echo "then $(date +%s)"
		chronyd -Q 'server 192.0.2.1 iburst maxsamples 4' 2>&1
		exit 7`)
	var out, errors bytes.Buffer
	command.Stdout, command.Stderr = &out, &errors
	_ = command.Run() // 7, looked at below
	after := time.Now()
	if command.ProcessState.ExitCode() != 7 {
		t.Fatalf("exit code %d, want the command's\n%s%s", command.ProcessState.ExitCode(), out.String(), errors.String())
	}
	number := func(pattern string) float64 {
		m := regexp.MustCompile(pattern).FindStringSubmatch(out.String())
		if m == nil {
			t.Fatalf("no %s in:\n%s", pattern, out.String())
		}
		n, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if first := time.Unix(int64(number(`first (\d+)`)), 0).UTC(); first.Year() != 2020 {
		t.Errorf("the clock starts at %s", first)
	}
	if then := time.Unix(int64(number(`then (\d+)`)), 0); then.Before(before.Add(-2*time.Second)) || then.After(after.Add(time.Second)) {
		t.Errorf("the clock is set to %s, between %s and %s", then, before, after)
	}
	// What chronyd still finds: it knows how long the way takes, however busy the machine is.
	if left := number(`(?s)then.*wrong by (-?[\d.]+) seconds`); left < -1 || left > 1 {
		t.Errorf("the clock was set, and is wrong by %v s\n%s", left, out.String())
	}
}
