package main_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
)

// confined is a program that is run with no more than a unit lets it have, as far as that can be had without systemd: capabilities, families of
// sockets, what of /proc is there, and what may be written.
type confined struct {
	Unit     string   // the file
	Programs string   // a folder whose programs are found before those of the host
	Run      string   // is /run
	Writable string   // for the unit's own folders
	Argv     []string // what is run
}

const roleConfined = "SHEKARA_TEST_CONFINED"

// TestMain makes the test binary what confines itself and then becomes the program.
func TestMain(m *testing.M) {
	if text, is := os.LookupEnv(roleConfined); is {
		var c confined
		err := json.Unmarshal([]byte(text), &c)
		if err == nil {
			err = c.become()
		}
		fmt.Fprintln(os.Stderr, "confine:", err)
		os.Exit(70)
	}
	os.Exit(m.Run())
}

// setting has the words of a unit's setting, of all its lines.
func (c confined) setting(name string) (words []string, err error) {
	text, err := os.ReadFile(c.Unit)
	for line := range strings.Lines(string(text)) {
		if value, is := strings.CutPrefix(line, name+"="); is {
			words = append(words, strings.Fields(value)...)
		}
	}
	return words, err
}

// become does not return if all goes well.
func (c confined) become() error {
	runtime.LockOSThread()
	for _, step := range []func() error{c.mounts, c.capabilities, c.families} {
		if err := step(); err != nil {
			return err
		}
	}
	return syscall.Exec(c.Argv[0], c.Argv, []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"})
}

// mounts are as ProtectSystem=strict makes them.
func (c confined) mounts() error {
	may, err := c.setting("ReadWritePaths")
	if err != nil {
		return err
	}
	subset, err := c.setting("ProcSubset")
	if err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	bind := func(from, to string) error { return unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, "") }
	errs := []error{unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), bind(c.Run, "/run"), bind(c.Programs, "/usr/local/sbin")}
	open := []string{c.Writable}
	for _, path := range may {
		open = append(open, strings.TrimPrefix(path, "-"))
	}
	for _, path := range open {
		errs = append(errs, bind(path, path))
	}
	if slices.Equal(subset, []string{"pid"}) {
		errs = append(errs, unix.Mount("proc", "/proc", "proc", 0, "subset=pid"))
	}
	errs = append(errs, unix.MountSetattr(unix.AT_FDCWD, "/", unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}))
	for _, path := range append(open, "/proc", "/sys", "/dev") {
		errs = append(errs, unix.MountSetattr(unix.AT_FDCWD, path, unix.AT_RECURSIVE, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}))
	}
	return errors.Join(errs...)
}

// capabilities are those of CapabilityBoundingSet, and never more.
func (c confined) capabilities() error {
	words, err := c.setting("CapabilityBoundingSet")
	if err != nil {
		return err
	}
	numbers := map[string]uintptr{"CAP_NET_ADMIN": unix.CAP_NET_ADMIN, "CAP_NET_RAW": unix.CAP_NET_RAW}
	var keep []uintptr
	for _, word := range words {
		number, known := numbers[word]
		if !known {
			return fmt.Errorf("the unit has %s, which this test does not know", word)
		}
		keep = append(keep, number)
	}
	for number := uintptr(0); number <= unix.CAP_LAST_CAP; number++ {
		if !slices.Contains(keep, number) {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, number, 0, 0, 0); err != nil {
				return fmt.Errorf("drop capability %d: %w", number, err)
			}
		}
	}
	return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
}

// families refuses sockets of all but RestrictAddressFamilies.
func (c confined) families() error {
	words, err := c.setting("RestrictAddressFamilies")
	if err != nil {
		return err
	}
	numbers := map[string]uint32{"AF_UNIX": unix.AF_UNIX, "AF_NETLINK": unix.AF_NETLINK, "AF_INET": unix.AF_INET, "AF_INET6": unix.AF_INET6}
	// What is called, and the first argument's lower half, lie at these places of struct seccomp_data (linux/seccomp.h).
	const load, jumpIfEqual, answer = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	last := uint8(len(words) + 1) // to the answer that allows
	program := []unix.SockFilter{{Code: load, K: 0}, {Code: jumpIfEqual, K: unix.SYS_SOCKET, Jf: last + 1}, {Code: load, K: 16}}
	for i, word := range words {
		number, known := numbers[word]
		if !known {
			return fmt.Errorf("the unit has %s, which this test does not know", word)
		}
		program = append(program, unix.SockFilter{Code: jumpIfEqual, K: number, Jt: last - 1 - uint8(i)})
	}
	program = append(program, unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EAFNOSUPPORT)}, unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_ALLOW})
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&filter)), 0, 0)
}

// older is a box whose nft cannot do what our rules need, after a fresh boot, between an outside host and an inside one.
type older struct {
	*guarded
	run, programs string
}

func newOlder(t *testing.T, variant, programs string) *older {
	t.Helper()
	g := &guarded{newBox(t, programs, "owner"), nstest.Host(t, "outside"), nstest.Host(t, "inside")}
	nstest.Link(t, g.H, "ext0", []string{"203.0.113.10/24"}, g.outside, "eth0", []string{"203.0.113.99/24"})
	nstest.Link(t, g.H, "dmz0", []string{"10.20.0.1/24"}, g.inside, "eth0", []string{"10.20.0.10/24"})
	g.outside.Route("10.20.0.0/24", "203.0.113.10")
	g.inside.Route("default", "10.20.0.1")
	g.Forwarding()
	o := &older{g, filepath.Join(g.dir, "root", "run"), filepath.Join(g.dir, "older")}
	if err := errors.Join(os.MkdirAll(o.run, 0o755), os.MkdirAll(o.programs, 0o755)); err != nil {
		t.Fatal(err)
	}
	nft, err := exec.LookPath("nft")
	if err == nil {
		err = os.Chmod(g.write("older/nft", "#!/bin/sh\ncase \"$*\" in *list*) exec "+nft+" \"$@\";; esac\necho this kernel cannot hold that >&2\nexit 1\n"), 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{"iptables", "ip6tables"} {
		for _, part := range []string{"", "-restore", "-save"} {
			is, err := exec.LookPath(program + "-" + variant + part)
			if err == nil {
				err = os.Symlink(is, filepath.Join(o.programs, program+part))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	files, err := filepath.Abs("../../systemd/shekara.tmpfiles")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("systemd-tmpfiles", "--root="+filepath.Join(g.dir, "root"), "--prefix=/run", "--create", files).CombinedOutput(); err != nil {
		t.Fatalf("systemd-tmpfiles: %v\n%s", err, out)
	}
	return o
}

// as is shekarad under a unit, in which words may be replaced.
func (o *older) as(unit string, args []string, replace ...string) []string {
	o.t.Helper()
	text, err := os.ReadFile(filepath.Join("../../systemd", unit))
	if err != nil {
		o.t.Fatal(err)
	}
	changed := strings.NewReplacer(replace...).Replace(string(text))
	if len(replace) > 0 && changed == string(text) {
		o.t.Fatalf("%s does not have %q", unit, replace)
	}
	self, err := os.Executable()
	if err != nil {
		o.t.Fatal(err)
	}
	c := confined{Unit: o.write("units/"+unit, changed), Programs: o.programs, Run: o.run, Writable: o.dir, Argv: o.shekarad(args...)}
	told, err := json.Marshal(c)
	if err != nil {
		o.t.Fatal(err)
	}
	return []string{"env", roleConfined + "=" + string(told), self}
}

// TestOlderKernelsUnderTheShippedUnits: what filters by iptables, of either variant, can do so with just what the units allow, after a fresh boot. Whatever of
// it is taken away shows.
func TestOlderKernelsUnderTheShippedUnits(t *testing.T) {
	probetest.Need(t, probe.Root, probe.Namespaces, probe.NFTables, probe.TUN, probe.Conntrack, probe.Tool("iptables-legacy"), probe.Tool("ip6tables-legacy"),
		probe.Tool("iptables-nft"), probe.Tool("ip6tables-nft"), probe.Tool("ipset"), probe.Tool("systemd-tmpfiles"))
	built := programs(t)
	for _, variant := range []string{"legacy", "nft"} {
		t.Run(variant, func(t *testing.T) { newOlder(t, variant, built).filters(variant) })
	}
}

const daemonUnit, closeUnit = "shekarad.service", "shekara-close.service"

func (o *older) filters(variant string) {
	t := o.t
	o.write("etc/site", "owner\n")
	o.write("first/zones.yaml", fmt.Sprintf(zones, "partners", "services"))
	o.write("first/site.yaml", fmt.Sprintf(border, "partners", "services", "repair"))
	start := func() {
		o.daemon = o.Command(context.Background(), o.as(daemonUnit, nil)...)
		o.daemon.Stdout, o.daemon.Stderr = o.log, o.log
		if err := o.daemon.Start(); err != nil {
			t.Fatal(err)
		}
		o.await("the daemon is ready", func() bool { return strings.Contains(o.log.String(), "msg=ready") })
	}
	rules := func() string { return o.Run("iptables-"+variant+"-save") + o.Run("ip6tables-"+variant+"-save") }
	clean := func() {
		o.Run(o.as(daemonUnit, []string{"cleanup"})...)
		if left := rules(); strings.Contains(left, "SHEKARA") {
			t.Fatalf("cleanup leaves\n%s", left)
		}
	}
	defer func() { o.Try(o.as(daemonUnit, []string{"cleanup"})...) }()
	start()
	o.must("apply", filepath.Join(o.dir, "first"), "--yes")
	o.must("confirm")
	o.stop(syscall.SIGTERM)
	if got := rules(); strings.Count(got, "-A FORWARD -j SHEKARA-") != 2 {
		t.Errorf("the daemon loaded\n%s", got)
	}
	clean()
	if !reaches(o.outside, "10.20.0.10") {
		t.Fatal("the control: without rules of ours a box that forwards passes packets, which no flow allows")
	}

	o.needs(variant)
	o.Run(o.as(closeUnit, []string{"close"})...)
	if pings(o.outside, "10.20.0.10") {
		t.Errorf("packets are forwarded after close:\n%s", rules())
	}
	start()
	if out := o.must("plan", filepath.Join(o.dir, "first")); !strings.Contains(out, "Nothing to change") {
		t.Errorf("after the boot the plan is not empty:\n%s", out)
	}
	if pings(o.outside, "10.20.0.10") {
		t.Errorf("packets are forwarded that no flow allows:\n%s", rules())
	}
	// The unit may not ask the kernel for all that there could be: what is proved says so.
	if out := o.must("verify"); !strings.Contains(out, "netfilter programs by BPF links could not be listed") {
		t.Errorf("the proof does not say what it is made without:\n%s", out)
	}
	o.stop(syscall.SIGTERM)
	clean()

	// What cannot be read forwards nothing either, and leaves the box itself reachable.
	o.write("state/revisions/POINTERS", "nonsense")
	if out, err := o.Try(o.as(closeUnit, []string{"close"})...); err == nil || !strings.Contains(out, "hint:") {
		t.Errorf("close with a damaged store answers %v\n%s", err, out)
	}
	if pings(o.outside, "10.20.0.10") || !reaches(o.outside, "203.0.113.10") {
		t.Errorf("a damaged store opens the way through the box, or closes the box itself:\n%s", rules())
	}
	clean()
	if !reaches(o.outside, "10.20.0.10") {
		t.Error("after cleanup something is still closed")
	}
}

// needs takes away what the unit gives, one by one: nothing is closed then.
func (o *older) needs(variant string) {
	t := o.t
	lock := filepath.Join(o.run, "xtables.lock")
	controls := map[string][]string{
		"no raw sockets":             {" CAP_NET_RAW\n", "\n"},
		"no sockets of the Internet": {" AF_INET AF_INET6\n", "\n"},
	}
	if variant == "legacy" {
		controls["no lock"] = nil
	}
	for name, replace := range controls {
		if replace == nil {
			if err := os.Remove(lock); err != nil {
				t.Fatal(err)
			}
		}
		out, err := o.Try(o.as(closeUnit, []string{"close"}, replace...)...)
		if err == nil || !strings.Contains(out, "tables") || strings.Contains(out, "confine:") || !reaches(o.outside, "10.20.0.10") {
			t.Errorf("the control, %s: %v\n%s", name, err, out)
		}
		if err := os.WriteFile(lock, nil, 0o600); err != nil { // for the next
			t.Fatal(err)
		}
	}
}
