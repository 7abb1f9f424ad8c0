package wireguard

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"shekara/netctl/link"
	"shekara/netctl/socket"
	"shekara/netctl/tun"
	"shekara/tunnels"
	"shekara/tunnels/wireguard/dataplane"
)

// endWithin bounds how long a device's process may take to end after its link is gone, before it is stopped.
const endWithin = 5 * time.Second

// userspaceEngine is one process for each device, which serves the UAPI socket. The link is a TUN that lives as long as that process holds
// its descriptor: a process that dies takes its link along, so a device is there whole or not at all.
type userspaceEngine struct {
	links    *link.Handle
	inside   func(func() error) error
	launcher Launcher
	runDir   string
	log      *slog.Logger
}

func (u *userspaceEngine) add(ctx context.Context, spec tunnels.DeviceSpec) error {
	if u.launcher == nil {
		return fmt.Errorf("make device %s: no way to start a userspace device was given", spec.Name)
	}
	if err := u.clearSocket(ctx, spec.Name); err != nil {
		return err
	}
	var file *os.File
	err := u.inside(func() (err error) {
		file, err = tun.Create(spec.Name)
		return err
	})
	if err != nil {
		return fmt.Errorf("make device %s: %w", spec.Name, err)
	}
	// The process has its own copy by then. Without one the link goes with this descriptor.
	defer file.Close()
	if err := u.start(ctx, spec, file); err != nil {
		return errors.Join(fmt.Errorf("make device %s: %w", spec.Name, err), u.links.Delete(spec.Name))
	}
	return nil
}

func (u *userspaceEngine) start(ctx context.Context, spec tunnels.DeviceSpec, file *os.File) error {
	if err := u.links.NoLinkLocal(spec.Name); err != nil {
		return err
	}
	if err := u.links.SetMTU(spec.Name, spec.MTU); err != nil {
		return err
	}
	// Up before the process has it: the library follows the link, and would close the port of a device whose link is down.
	if err := u.links.SetUp(spec.Name); err != nil {
		return err
	}
	order := dataplane.Order{Name: spec.Name, MTU: spec.MTU, Port: spec.Port, Mark: spec.Mark}
	err := dataplane.Give(ctx, filepath.Join(u.runDir, "dataplane"), order, file, func() error {
		return u.inside(func() error { return u.launcher.Start(ctx, spec.Name) })
	})
	if err != nil {
		return err
	}
	return u.set(ctx, spec)
}

// clearSocket removes the socket that a killed process left. One that answers belongs to one that is just ending, as its link is gone, or to a device of
// another namespace with our name.
func (u *userspaceEngine) clearSocket(ctx context.Context, device string) error {
	s, err := dial(ctx, device)
	if err == nil {
		ended := s.awaitEnd(endWithin)
		s.close()
		if ended != nil {
			return fmt.Errorf("make device %s: a process that serves no link here has its socket %s: stop that process", device, dataplane.SocketPath(device))
		}
	} else if !socket.Unserved(err) {
		return err
	}
	if err := os.Remove(dataplane.SocketPath(device)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("make device %s: remove stale socket: %w", device, err)
	}
	return nil
}

func (u *userspaceEngine) set(ctx context.Context, spec tunnels.DeviceSpec) error {
	r := newRequest()
	r.device(spec)
	return u.ask(ctx, spec.Name, r)
}

func (u *userspaceEngine) change(ctx context.Context, device string, ops []tunnels.Op) error {
	r := newRequest()
	for _, op := range ops {
		r.peer(op)
	}
	return u.ask(ctx, device, r)
}

func (u *userspaceEngine) ask(ctx context.Context, device string, r *request) error {
	s, err := dial(ctx, device)
	if err != nil {
		r.wipe()
		return err
	}
	defer s.close()
	return s.set(r)
}

func (u *userspaceEngine) read(ctx context.Context, device string) (tunnels.DeviceState, error) {
	s, err := dial(ctx, device)
	if err != nil {
		if socket.Unserved(err) {
			err = errors.Join(err, fs.ErrNotExist)
		}
		return tunnels.DeviceState{}, err
	}
	defer s.close()
	return s.get()
}

// remove takes the link away. The process sees its TUN end, closes its port and ends by itself; if it does not, it is stopped.
func (u *userspaceEngine) remove(ctx context.Context, device string) error {
	s, dialErr := dial(ctx, device)
	if err := u.links.Delete(device); err != nil {
		if dialErr == nil {
			s.close()
		}
		return err
	}
	if dialErr != nil {
		return u.clearSocket(ctx, device)
	}
	defer s.close()
	if err := s.awaitEnd(endWithin); err == nil {
		return nil
	}
	u.log.Warn("userspace device does not end by itself, it is stopped", "device", device)
	if u.launcher == nil {
		return fmt.Errorf("delete device %s: its process does not end: stop it by hand", device)
	}
	if err := u.launcher.Stop(ctx, device); err != nil {
		return err
	}
	return u.clearSocket(ctx, device)
}

var _ engine = (*userspaceEngine)(nil)
