package dataplane

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"sync"

	"shekara/netctl/run"
	"shekara/netctl/socket"
)

// Unit starts devices as instances of a systemd template, which is how they outlive an upgrade of the daemon: each has a control group
// of its own. Names of our links need no escaping (tunnels.DeviceSpec.Check).
type Unit struct {
	Template string // "shekara-dataplane@%s.service"; "" means that
}

func (u Unit) name(device string) string {
	template := u.Template
	if template == "" {
		template = "shekara-dataplane@%s.service"
	}
	return fmt.Sprintf(template, device)
}

// Start starts the instance. One that failed before starts again; one that is just ending is waited for.
func (u Unit) Start(ctx context.Context, device string) error {
	_, err := run.Output(ctx, "systemctl", "restart", "--no-block", u.name(device))
	return err
}

// Stop stops the instance and waits for its end.
func (u Unit) Stop(ctx context.Context, device string) error {
	_, err := run.Output(ctx, "systemctl", "stop", u.name(device))
	return err
}

// Exec starts devices as detached processes of its own, where there is no systemd: testbeds, containers.
type Exec struct {
	Argv func(device string) []string // the program and its arguments
	Log  *os.File                     // where the processes write; nil: nowhere. The processes share it, and it may be closed after Start

	mu      sync.Mutex
	started []*run.Process // guarded by mu; held to reap those that end
}

// Start starts the process in the calling thread's network namespace.
func (e *Exec) Start(_ context.Context, device string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.started = slices.DeleteFunc(e.started, func(p *run.Process) bool {
		if p.Running() {
			return false
		}
		_ = p.Close()
		return true
	})
	p, err := run.Detached{Argv: e.Argv(device), Stdout: e.Log, Stderr: e.Log}.Start()
	if err != nil {
		return err
	}
	e.started = append(e.started, p)
	return nil
}

// Stop kills the process that serves the device's UAPI socket, whichever daemon started it, and waits for its end. Its link is gone
// already, so nothing passes through it.
func (e *Exec) Stop(ctx context.Context, device string) error {
	pid, err := serving(ctx, device)
	if err != nil {
		return nil // nobody serves it
	}
	p, err := run.Adopt(pid)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("stop the process of %s: %w", device, err)
	}
	defer p.Close()
	// Only now is the number held: it is the one we mean if it still serves the socket.
	if again, err := serving(ctx, device); err != nil || again != pid {
		return nil
	}
	if err := p.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop the process of %s: %w", device, err)
	}
	return p.Wait(ctx)
}

// serving gives the process that listens at the device's UAPI socket.
func serving(ctx context.Context, device string) (pid int, err error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", SocketPath(device))
	if err != nil {
		return 0, err
	}
	defer c.Close()
	peer, err := socket.Peer(c.(*net.UnixConn)) // "unix" gives no other
	return int(peer.PID), err
}

// SocketPath is where wg(8) looks for userspace devices; the library's UAPIOpen has it fixed.
func SocketPath(device string) string { return "/var/run/wireguard/" + device + ".sock" }
