package vm_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
	"shekara/testbed/vm"
)

// root is the repository's root folder.
func root(t *testing.T) string {
	t.Helper()
	folder, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return folder
}

// kernel fetches the kernel once, into build/vm.
func kernel(t *testing.T) vm.Kernel {
	t.Helper()
	probetest.NeedTime(t, "a machine takes its time")
	probetest.Need(t, probe.QEMU, probe.Tool("busybox"), probe.Tool("cpio"), probe.Tool("depmod"), probe.Tool("dpkg"), probe.Tool("apt-get"))
	k, err := vm.FetchKernel(t.Context(), filepath.Join(root(t), "build", "vm"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestExitStatusAndOutputComeOut(t *testing.T) {
	var out strings.Builder
	exit, err := vm.Run(t.Context(), vm.Config{Kernel: kernel(t), Output: &out, Folder: "/usr", Environment: []string{"WORD=it's"},
		Argv: []string{"/bin/sh", "-c", `echo "$WORD in $PWD"; uname -r; touch /etc/written && exit 7`}})
	if err != nil || exit != 7 {
		t.Fatalf("exit %d, %v\n%s", exit, err, out.String())
	}
	if want := "it's in /usr\n" + kernel(t).Version + "\n"; out.String() != want {
		t.Errorf("output %q, want %q", out.String(), want)
	}
	if _, err := os.Stat("/etc/written"); err == nil {
		t.Error("the machine has written to the host")
	}
}

func TestMachineThatDoesNotEnd(t *testing.T) {
	k := kernel(t)
	_, err := vm.Run(t.Context(), vm.Config{Kernel: k, Argv: []string{"/bin/sh", "-c", "echo c > /proc/sysrq-trigger"}})
	if !errors.Is(err, vm.ErrNoExit) || !strings.Contains(err.Error(), "sysrq triggered crash") {
		t.Errorf("a kernel that crashes gives %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	out := cancelOnOutput(cancel)
	_, err = vm.Run(ctx, vm.Config{Kernel: k, Output: out, Argv: []string{"/bin/sh", "-c", "echo up; sleep 1000"}})
	if !errors.Is(err, vm.ErrNoExit) {
		t.Errorf("a machine that is stopped gives %v", err)
	}
}

type cancelOnOutput context.CancelFunc

func (c cancelOnOutput) Write(p []byte) (int, error) { c(); return len(p), nil }

// TestWireGuardInVM gives the driver's exam to the kernel's engine. It is that package's own test program, built statically; nothing of it may
// be skipped inside.
func TestWireGuardInVM(t *testing.T) {
	k := kernel(t)
	program := filepath.Join(t.TempDir(), "wireguard.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", program, "./tunnels/wireguard")
	build.Dir, build.Env = root(t), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the exam: %v\n%s", err, out)
	}
	exit, err := vm.Run(t.Context(), vm.Config{
		Kernel: k, Output: t.Output(), Timeout: 20 * time.Minute, MemoryMiB: 3072,
		Modules:     []string{"wireguard", "veth", "tun", "bridge", "nf_tables", "nfnetlink", "xfrm_user"},
		Environment: []string{"SHEKARA_REQUIRE=all"},
		Argv:        []string{program, "-test.v", "-test.run", "TestKernel|TestAuto", "-test.timeout", "15m"},
	})
	if err != nil || exit != 0 {
		t.Fatalf("the exam ends with %d, %v", exit, err)
	}
}

// TestDiskOutlivesThePower: a machine is stopped while it runs. What it had synchronised is on its disk when the next one starts, by another clock.
func TestDiskOutlivesThePower(t *testing.T) {
	probetest.Need(t, probe.Tool("mkfs.ext4"))
	k := kernel(t)
	disk := filepath.Join(t.TempDir(), "disk,1") // a comma is qemu's
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, 64<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "mkfs.ext4", "-q", disk).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v\n%s", err, out)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := vm.Run(ctx, vm.Config{Kernel: k, Disk: disk, Output: cancelOnOutput(cancel), Clock: time.Date(2022, 3, 4, 5, 6, 7, 0, time.UTC), Argv: []string{"/bin/sh", "-ec", `
		mount -t ext4 /dev/vda /mnt # the kernel asks for the file system's module
		date +%Y > /mnt/kept
		sync
		echo now
		sleep 1000`}})
	if !errors.Is(err, vm.ErrNoExit) {
		t.Fatalf("the power is cut: %v", err)
	}
	var out strings.Builder
	exit, err := vm.Run(t.Context(), vm.Config{Kernel: k, Disk: disk, Output: &out, Clock: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC),
		Argv: []string{"/bin/sh", "-ec", `mount -t ext4 /dev/vda /mnt; cat /mnt/kept; date +%Y`}})
	if want := "2022\n2020\n"; err != nil || exit != 0 || out.String() != want {
		t.Errorf("exit %d, %v: %q, want %q", exit, err, out.String(), want)
	}
}
