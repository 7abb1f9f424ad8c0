package testbed

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"
	"golang.org/x/sys/unix"

	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
)

const small = `
name: small
title: Two hosts
hosts: [{name: a}, {name: b}]
links:
  - name: ab
    ends: [{host: a, interface: eth0, addresses: [192.0.2.1/24]}, {host: b, interface: eth0, addresses: [192.0.2.2/24]}]
`

// testbed runs the command in a process of its own, as people do.
func testbed(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	c := exec.CommandContext(t.Context(), "/proc/self/exe", append([]string{"testbed"}, args...)...)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), c.ProcessState.ExitCode()
}

func writeSmall(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "small.yaml")
	if err := os.WriteFile(file, []byte(small), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// needNoNetwork keeps a test away from a network that somebody has up on this machine.
func needNoNetwork(t *testing.T) {
	t.Helper()
	probetest.Need(t, probe.Root, probe.Namespaces)
	if s, err := readState(); err == nil && isHolder(s.PID) {
		probetest.NeedIdle(t, fmt.Errorf("a network is up (%s): shekara testbed down ends it", s.Scenario))
	}
	t.Cleanup(func() { // the test's own context has ended by then
		if err := exec.Command("/proc/self/exe", "testbed", "down").Run(); err != nil {
			t.Errorf("down: %v", err)
		}
	})
}

func TestUpExecDown(t *testing.T) {
	needNoNetwork(t)
	file := writeSmall(t)
	if out, errs, code := testbed(t, "up", file); code != 0 || !strings.Contains(out, "small is up") {
		t.Fatalf("up: exit code %d\n%s%s", code, out, errs)
	}
	s, err := readState()
	if err != nil {
		t.Fatal(err)
	}
	if _, errs, code := testbed(t, "up", file); code != 1 || !strings.Contains(errs, "down ends it") {
		t.Errorf("a second up: exit code %d, %s", code, errs)
	}
	if out, errs, code := testbed(t, "exec", "a", "--", "ping", "-c1", "-W5", "192.0.2.2"); code != 0 || !strings.Contains(out, "1 received") {
		t.Errorf("exec: exit code %d\n%s%s", code, out, errs)
	}
	if _, _, code := testbed(t, "exec", "b", "--", "sh", "-c", "exit 7"); code != 7 {
		t.Errorf("exec: exit code %d, want 7", code)
	}
	if _, errs, code := testbed(t, "exec", "c", "--", "true"); code != 1 || !strings.Contains(errs, `no host "c"`) {
		t.Errorf("exec on no host: exit code %d, %s", code, errs)
	}
	if _, errs, code := testbed(t, "capture", "xy"); code != 1 || !strings.Contains(errs, `no link "xy"`) {
		t.Errorf("capture of no link: exit code %d, %s", code, errs)
	}
	if _, errs, code := testbed(t, "down"); code != 0 || !strings.Contains(errs, "small is down") {
		t.Errorf("down: exit code %d, %s", code, errs)
	}
	for host, pid := range s.Hosts {
		if err := unix.Kill(pid, 0); err == nil && !isZombie(pid) {
			t.Errorf("host %s still lives after down", host)
		}
	}
	if _, err := os.Stat(stateFolder); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there: %v", stateFolder, err)
	}
	if _, errs, code := testbed(t, "down"); code != 0 || !strings.Contains(errs, "No network is up") {
		t.Errorf("down again: exit code %d, %s", code, errs)
	}
}

func TestDownClearsAfterAKilledHolder(t *testing.T) {
	needNoNetwork(t)
	if out, errs, code := testbed(t, "up", writeSmall(t)); code != 0 {
		t.Fatalf("up: exit code %d\n%s%s", code, out, errs)
	}
	s, err := readState()
	if err != nil {
		t.Fatal(err)
	}
	var hosts []int
	for _, pid := range s.Hosts {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		hosts = append(hosts, fd)
	}
	if err := unix.Kill(s.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for _, fd := range hosts {
		if n, err := pollEnd(fd, 20*time.Second); n != 1 || err != nil {
			t.Errorf("a host outlives its holder (%v)", err)
		}
	}
	if _, errs, code := testbed(t, "down"); code != 0 {
		t.Errorf("down: exit code %d, %s", code, errs)
	}
	if _, err := os.Stat(stateFolder); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there: %v", stateFolder, err)
	}
}

func isZombie(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := bytes.Cut(text, []byte(") "))
	return err == nil && bytes.HasPrefix(rest, []byte("Z"))
}

// TestDemoDocumentsAreTheGuides compares, document by document, what the demo applies with what the guides show.
func TestDemoDocumentsAreTheGuides(t *testing.T) {
	guide, err := documentsOf(os.DirFS("../docs/examples/demo"))
	if err != nil {
		t.Fatal(err)
	}
	demo, err := documentsOf(os.DirFS("scenarios/demo"))
	if err != nil {
		t.Fatal(err)
	}
	if len(guide) == 0 || len(demo) != len(guide) {
		t.Errorf("the demo has %d documents, the guides %d", len(demo), len(guide))
	}
	for name, text := range guide {
		if demo[name] != text {
			t.Errorf("%s differs: the guides have\n%s\nthe demo has\n%s", name, text, demo[name])
		}
	}
}

// TestCentreIsConfiguredAsTheGuideSays: what scenarios give to rsyslog and NATS is what docs/monitoring offers.
func TestCentreIsConfiguredAsTheGuideSays(t *testing.T) {
	for _, file := range []string{"demo/rsyslog.conf", "centre/nats.conf"} {
		guide, err := os.ReadFile(filepath.Join("../docs/monitoring", filepath.Base(file)))
		if err != nil {
			t.Fatal(err)
		}
		if given, err := os.ReadFile(filepath.Join("scenarios", file)); err != nil || !bytes.Equal(given, guide) {
			t.Errorf("scenarios/%s is not what docs/monitoring has: copy that one (%v)", file, err)
		}
	}
}

// documentsOf reads all documents of a folder: kind and name to canonical text.
func documentsOf(folder fs.FS) (map[string]string, error) {
	files, err := fs.Glob(folder, "*.yaml")
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, file := range files {
		data, err := fs.ReadFile(folder, file)
		if err != nil {
			return nil, err
		}
		for decoder := yaml.NewDecoder(bytes.NewReader(data)); ; {
			var document map[string]any
			if err := decoder.Decode(&document); err != nil {
				break // the end: what does not decode is missing in the comparison
			}
			text, err := yaml.Marshal(document)
			if err != nil {
				return nil, err
			}
			metadata, _ := document["metadata"].(map[string]any)
			kind, _ := document["kind"].(string)
			name, _ := metadata["name"].(string)
			found[kind+" "+name] = string(text)
		}
	}
	return found, nil
}
