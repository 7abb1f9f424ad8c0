package wireguard_test

import (
	"os"
	"path/filepath"
	"testing"

	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
	"shekara/tunnels"
	"shekara/tunnels/wireguard"
	"shekara/tunnels/wireguard/dataplane"
	"shekara/tunnels/wireguard/wireguardtest"
)

// open makes a driver whose userspace devices are this test binary.
func open(engine tunnels.Engine) wireguardtest.Open {
	return func(t testing.TB, host *nstest.H) *wireguard.Driver {
		t.Helper()
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		runDir, err := os.MkdirTemp("", "sk") // not t.TempDir: a socket's path has 107 bytes at most
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(runDir) })
		// Not the test's own standard error: "go test" waits until nobody has that open, and these processes are made to outlive others.
		log, err := os.OpenFile(filepath.Join(runDir, "log"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
				t.Logf("userspace devices of %s say:\n%s", host.Name, text)
			}
			log.Close()
		})
		d, err := wireguard.New(wireguard.Options{
			Engine: engine, RunDir: runDir, Namespace: host.Namespace,
			Launcher: &dataplane.Exec{Argv: func(device string) []string { return []string{self, "dataplane", device, runDir} }, Log: log},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
		return d
	}
}

func TestUserspace(t *testing.T) {
	probetest.Need(t, probe.TUN)
	wireguardtest.Contract(t, open(tunnels.Userspace))
}

func TestKernel(t *testing.T) {
	probetest.Need(t, probe.KernelWireGuard)
	wireguardtest.Contract(t, open(tunnels.Kernel))
}
