package main

import (
	"errors"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
	"shekara/timesync"
	"shekara/timesync/service"
	"shekara/timesync/source"
)

// TestChronydRunsAsTheServicesUser: chronyd serves where shekarad time is nobody in particular and may bind to low ports alone, as in its unit. It refuses folders that are not its user's.
func TestChronydRunsAsTheServicesUser(t *testing.T) {
	probetest.Need(t, probe.Root, probe.Namespaces, probe.Tool("chronyd"))
	t.Parallel()
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(nobody.Uid)
	gid, _ := strconv.Atoi(nobody.Gid)
	dir, err := os.MkdirTemp("", "sk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	state, running := filepath.Join(dir, "state"), filepath.Join(dir, "run")
	told := filepath.Join(state, "service.json")
	err = errors.Join(os.Chmod(dir, 0o755), os.Mkdir(state, 0o700), os.Mkdir(running, 0o755),
		os.WriteFile(told, []byte(`{"name": "t", "engine": "chrony", "agreeing": 1, "maxDistance": 1000000000, "sources": [{"name": "a", "address": "127.0.0.2:1123"}],
			"addresses": ["127.0.0.1"], "clients": [{"system": "near", "prefixes": ["127.0.0.0/8"]}]}`), 0o600))
	for _, path := range []string{state, running, told} {
		err = errors.Join(err, os.Chown(path, uid, gid))
	}
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "shekarad")
	if out, err := exec.Command("go", "build", "-o", program, "shekara/cmd/shekarad").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	host := nstest.Host(t, "edge")
	command := exec.CommandContext(t.Context(), program, "time", "--run-dir", dir, "--time-dir", state, "--time-run-dir", running)
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, AmbientCaps: []uintptr{unix.CAP_NET_BIND_SERVICE}}
	command.Stdout, command.Stderr = os.Stderr, os.Stderr
	host.Do(func() { err = command.Start() })
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(command.Process.Signal(syscall.SIGTERM), command.Wait()); err != nil {
			t.Errorf("it does not end as told: %v", err)
		}
	}()
	reporter := service.NewReporter(running)
	var report service.Report
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		host.Do(func() { _, err = source.Ask(t.Context(), source.Question{Address: "127.0.0.1"}) })
		report, _ = reporter.Report(t.Context()) // it is asked again
		if err == nil && len(report.Systems) == 1 && report.Systems[0].Served > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("chronyd does not serve, or nobody knows whom: %v, %+v", err, report)
		}
	}
	if report.Engine != timesync.EngineChrony || report.Steers || report.Requests.Served == 0 {
		t.Errorf("%+v", report)
	}
}
