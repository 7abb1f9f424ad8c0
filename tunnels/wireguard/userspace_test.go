package wireguard_test

import (
	"context"
	"net"
	"os"
	"syscall"
	"testing"

	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
	"shekara/netctl/run"
	"shekara/netctl/secret"
	"shekara/netctl/socket"
	"shekara/tunnels"
	"shekara/tunnels/wireguard"
	"shekara/tunnels/wireguard/dataplane"
)

func spec(t testing.TB, name string) tunnels.DeviceSpec {
	t.Helper()
	raw := make([]byte, 32)
	raw[5] = 1
	return tunnels.DeviceSpec{Name: name, Port: 51820, MTU: 1420, Mark: 0x5301, PrivateKey: mustKey(t, raw)}
}

func mustKey(t testing.TB, raw []byte) secret.Key {
	t.Helper()
	key, err := secret.NewKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func apply(t testing.TB, d *wireguard.Driver, kind tunnels.OpKind, spec tunnels.DeviceSpec) {
	t.Helper()
	for _, failure := range d.Apply(t.Context(), []tunnels.Op{{Kind: kind, Device: spec}}) {
		t.Fatal(failure)
	}
}

// process holds the process that serves a device.
func process(t testing.TB, device string) *run.Process {
	t.Helper()
	c, err := net.Dial("unix", dataplane.SocketPath(device))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	peer, err := socket.Peer(c.(*net.UnixConn))
	if err != nil {
		t.Fatal(err)
	}
	p, err := run.Adopt(int(peer.PID))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func noDevice(t *testing.T, d *wireguard.Driver) {
	t.Helper()
	if state, err := d.Observe(t.Context()); err != nil || len(state) != 0 {
		t.Fatalf("devices %+v, %v", state, err)
	}
}

// TestProcess: how the process of a device can end, and that each way ends the device whole and lets it be made again.
func TestProcess(t *testing.T) {
	probetest.Need(t, probe.Root, probe.Namespaces, probe.TUN)
	host := nstest.Host(t, "h")
	d := open(tunnels.Userspace)(t, host)
	device := spec(t, "sk-process")
	wait := func(p *run.Process) {
		t.Helper()
		if err := p.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}

	apply(t, d, tunnels.DeviceAdd, device)
	p := process(t, device.Name)
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	wait(p)
	noDevice(t, d)
	if _, err := os.Stat(dataplane.SocketPath(device.Name)); err != nil {
		t.Fatalf("control: a killed process leaves its socket: %v", err)
	}

	apply(t, d, tunnels.DeviceAdd, device) // over the stale socket
	p = process(t, device.Name)
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	wait(p)
	noDevice(t, d)
	if _, err := os.Stat(dataplane.SocketPath(device.Name)); err == nil {
		t.Error("a process that was told to end leaves its socket")
	}

	apply(t, d, tunnels.DeviceAdd, device)
	p = process(t, device.Name)
	apply(t, d, tunnels.DeviceDelete, device)
	wait(p)
	noDevice(t, d)

	// A process that hangs cannot keep its link, and is stopped.
	apply(t, d, tunnels.DeviceAdd, device)
	p = process(t, device.Name)
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	apply(t, d, tunnels.DeviceDelete, device)
	wait(p)
	noDevice(t, d)
	if _, err := os.Stat(dataplane.SocketPath(device.Name)); err == nil {
		t.Error("a stopped process leaves its socket")
	}
}

// TestUnservedLink: a TUN with our name and nobody behind it is no device, and makes way for one.
func TestUnservedLink(t *testing.T) {
	probetest.Need(t, probe.Root, probe.Namespaces, probe.TUN)
	host := nstest.Host(t, "h")
	d := open(tunnels.Userspace)(t, host)
	device := spec(t, "sk-unserved")
	host.Run("ip", "tuntap", "add", device.Name, "mode", "tun")
	noDevice(t, d)
	apply(t, d, tunnels.DeviceAdd, device)
	state, err := d.Observe(t.Context())
	if err != nil || len(state) != 1 || state[0].Mark != device.Mark || state[0].Port != device.Port || !state[0].Up {
		t.Errorf("state %+v, %v", state, err)
	}
	apply(t, d, tunnels.DeviceDelete, device)
}

// TestProcessThatNeverComes: the device fails with a reason, and nothing is left.
func TestProcessThatNeverComes(t *testing.T) {
	probetest.Need(t, probe.Root, probe.Namespaces, probe.TUN)
	host := nstest.Host(t, "h")
	d, err := wireguard.New(wireguard.Options{Engine: tunnels.Userspace, RunDir: t.TempDir(), Namespace: host.Namespace,
		Launcher: &dataplane.Exec{Argv: func(string) []string { return []string{"/nonexistent"} }}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	failures := d.Apply(context.Background(), []tunnels.Op{{Kind: tunnels.DeviceAdd, Device: spec(t, "sk-never")}})
	if len(failures) != 1 {
		t.Fatalf("failures %v", failures)
	}
	t.Log(failures[0].Err)
	noDevice(t, d)
}

// TestAutoTakesWhatTheHostHas.
func TestAutoTakesWhatTheHostHas(t *testing.T) {
	probetest.Need(t, probe.Root, probe.Namespaces, probe.TUN)
	host := nstest.Host(t, "h")
	d := open(wireguard.Auto)(t, host)
	device := spec(t, "sk-auto")
	apply(t, d, tunnels.DeviceAdd, device)
	want := tunnels.Kernel
	if probe.Has(probe.KernelWireGuard) != nil {
		want = tunnels.Userspace
		kernel := open(tunnels.Kernel)(t, nstest.Host(t, "k"))
		failures := kernel.Apply(t.Context(), []tunnels.Op{{Kind: tunnels.DeviceAdd, Device: spec(t, "sk-kernel")}})
		if len(failures) != 1 {
			t.Errorf("a kernel engine without kernel gives %v", failures)
		}
	}
	if state, err := d.Observe(t.Context()); err != nil || len(state) != 1 || state[0].Engine != want {
		t.Errorf("state %+v, %v; want engine %s", state, err, want)
	}
	apply(t, d, tunnels.DeviceDelete, device)
}
