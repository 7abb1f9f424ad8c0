package wireguard

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"

	"shekara/netctl"
	"shekara/netctl/link"
	"shekara/netctl/ns"
	"shekara/tunnels"
)

// Auto takes the kernel's device where the kernel has one.
const Auto tunnels.Engine = "auto"

// DefaultRunDir holds the sockets on which descriptors are handed to userspace devices, in its folder dataplane.
const DefaultRunDir = "/run/shekara"

// Launcher starts and ends the process of a userspace device, "shekarad dataplane NAME". dataplane.Exec and dataplane.Unit are the two.
type Launcher interface {
	// Start starts the process in the network namespace of the calling thread and does not wait for it. It must outlive the daemon.
	Start(ctx context.Context, device string) error
	// Stop ends a process that did not end by itself when its link went. One that is not there is no error.
	Stop(ctx context.Context, device string) error
}

// Options of New. The zero Engine means Auto, the zero RunDir DefaultRunDir.
type Options struct {
	Engine    tunnels.Engine
	RunDir    string
	Launcher  Launcher      // needed for userspace devices
	Namespace *ns.Namespace // nil: that of the process. Must stay open until Close
	Log       *slog.Logger  // nil: none
}

// Driver makes and observes the WireGuard devices of one network namespace. Its methods may be called from many goroutines; changes
// are made one after another.
type Driver struct {
	options   Options
	links     *link.Handle
	kernel    *kernelEngine
	userspace *userspaceEngine

	changing sync.Mutex // held by Apply and ResetPeer
	noKernel error      // guarded by changing: why the kernel makes no WireGuard links, once it has said so

	own sync.Map // device name -> tunnels.PublicKey, as last set or seen. Only to refuse a peer that has it, which engines take and forget
}

// engine is one of the two that make a device real. A device stays with the engine that made it, which its link's kind tells.
type engine interface {
	// add makes the device, up, without peers. On error nothing of it is left.
	add(ctx context.Context, spec tunnels.DeviceSpec) error
	// set gives a device its key, mark and port.
	set(ctx context.Context, spec tunnels.DeviceSpec) error
	// change does steps on peers of one device, all or, on error, some of them; the error is a refusal if a step was refused.
	change(ctx context.Context, device string, ops []tunnels.Op) error
	// read gives what the engine knows of a device. The error is fs.ErrNotExist if the link is there and nobody serves it.
	read(ctx context.Context, device string) (tunnels.DeviceState, error)
	// remove takes the device away; one that is not there is no error.
	remove(ctx context.Context, device string) error
}

// New makes a driver. It changes nothing on the host: devices that are there are adopted as they are.
func New(options Options) (*Driver, error) {
	if options.Engine == "" {
		options.Engine = Auto
	}
	if options.RunDir == "" {
		options.RunDir = DefaultRunDir
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	switch options.Engine {
	case Auto, tunnels.Kernel, tunnels.Userspace:
	default:
		return nil, fmt.Errorf("engine %q is not %s, %s or %s", options.Engine, Auto, tunnels.Kernel, tunnels.Userspace)
	}
	links, err := link.Open(options.Namespace)
	if err != nil {
		return nil, err
	}
	d := &Driver{options: options, links: links}
	d.kernel = &kernelEngine{links: links, inside: d.inside}
	d.userspace = &userspaceEngine{links: links, inside: d.inside, launcher: options.Launcher, runDir: options.RunDir, log: options.Log}
	return d, nil
}

// Close lets go of the driver's own sockets. Devices go on.
func (d *Driver) Close() error {
	d.links.Close()
	return d.kernel.close()
}

// inside runs f in the driver's namespace.
func (d *Driver) inside(f func() error) error {
	if d.options.Namespace == nil {
		return f()
	}
	return d.options.Namespace.Do(f)
}

// Observe reads all our devices with their peers. A device that cannot be read has its Err set and hurts no other; a link whose process is
// gone is no device.
func (d *Driver) Observe(ctx context.Context) ([]tunnels.DeviceState, error) {
	links, err := d.links.List()
	if err != nil {
		return nil, fmt.Errorf("observe tunnels: %w", err)
	}
	var states []tunnels.DeviceState
	for _, l := range links {
		state, err := d.read(ctx, l)
		switch {
		case errors.Is(err, errors.ErrUnsupported), errors.Is(err, fs.ErrNotExist):
			continue
		case ctx.Err() != nil:
			return nil, fmt.Errorf("observe tunnels: %w", ctx.Err())
		case err != nil:
			state = tunnels.DeviceState{Name: l.Name, Err: fmt.Errorf("observe %s: %w", l.Name, err)}
		}
		states = append(states, state)
	}
	return states, nil
}

func (d *Driver) read(ctx context.Context, l netctl.Link) (tunnels.DeviceState, error) {
	e := d.engineOf(l)
	if e == nil {
		return tunnels.DeviceState{}, errors.ErrUnsupported // a link of another kind with our prefix: not a tunnel
	}
	state, err := e.read(ctx, l.Name)
	if err != nil {
		return tunnels.DeviceState{}, err
	}
	state.Name, state.MTU, state.Up = l.Name, l.MTU, l.Up
	d.own.Store(l.Name, state.PublicKey)
	return state, nil
}

func (d *Driver) engineOf(l netctl.Link) engine {
	switch l.Kind {
	case link.KindWireGuard:
		return d.kernel
	case link.KindTUN:
		return d.userspace
	}
	return nil
}

// Apply does the steps, device by device in the order in which they are first named, each device's steps in their order. What fails is returned with
// its reason; everything else is done. Steps on the peers of a device that is not there fail with it.
func (d *Driver) Apply(ctx context.Context, ops []tunnels.Op) []tunnels.Failure {
	d.changing.Lock()
	defer d.changing.Unlock()
	var order []string
	byDevice := make(map[string][]tunnels.Op)
	for _, op := range ops {
		name := op.Device.Name
		if _, seen := byDevice[name]; !seen {
			order = append(order, name)
		}
		byDevice[name] = append(byDevice[name], op)
	}
	var failures []tunnels.Failure
	for _, name := range order {
		failures = append(failures, d.applyDevice(ctx, name, byDevice[name])...)
	}
	return failures
}

func (d *Driver) applyDevice(ctx context.Context, name string, ops []tunnels.Op) []tunnels.Failure {
	var failures []tunnels.Failure
	var absent error // why the device is not there
	for len(ops) > 0 {
		op := ops[0]
		switch op.Kind {
		case tunnels.DeviceAdd, tunnels.DeviceUpdate, tunnels.DeviceDelete:
			ops = ops[1:]
			if err := d.changeDevice(ctx, op); err != nil {
				failures = append(failures, tunnels.Failure{Op: op, Err: err})
				if op.Kind == tunnels.DeviceAdd {
					absent = fmt.Errorf("device %s could not be made: %w", name, err)
				}
			}
			continue
		}
		n := 0
		for n < len(ops) && ops[n].Kind >= tunnels.PeerAdd {
			n++
		}
		if absent != nil {
			failures = append(failures, failAll(ops[:n], absent)...)
		} else {
			failures = append(failures, d.changePeers(ctx, name, ops[:n])...)
		}
		ops = ops[n:]
	}
	return failures
}

func (d *Driver) changeDevice(ctx context.Context, op tunnels.Op) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	name := op.Device.Name
	if op.Kind != tunnels.DeviceDelete {
		if err := op.Device.Check(); err != nil {
			return err
		}
		public, err := tunnels.PublicKeyOf(op.Device.PrivateKey)
		if err != nil {
			return err
		}
		d.own.Store(name, public)
	}
	l, err := d.links.Get(name)
	there := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	switch {
	case op.Kind == tunnels.DeviceDelete && !there:
		return d.userspace.remove(ctx, name) // a process may be left without its link
	case op.Kind == tunnels.DeviceDelete:
		if e := d.engineOf(l); e != nil {
			return e.remove(ctx, name)
		}
		return fmt.Errorf("delete device %s: a link of kind %q has its name: remove or rename that link", name, l.Kind)
	case !there:
		return d.add(ctx, op.Device)
	}
	e := d.engineOf(l)
	if e == nil {
		return fmt.Errorf("make device %s: a link of kind %q has its name: remove or rename that link", name, l.Kind)
	}
	if _, err := e.read(ctx, name); errors.Is(err, fs.ErrNotExist) {
		// A link of ours that nobody serves: what a device left that died badly, or ip-tuntap(8).
		if err := e.remove(ctx, name); err != nil {
			return err
		}
		return d.add(ctx, op.Device)
	}
	return d.update(ctx, e, l, op.Device)
}

func (d *Driver) update(ctx context.Context, e engine, l netctl.Link, spec tunnels.DeviceSpec) error {
	if err := e.set(ctx, spec); err != nil {
		return fmt.Errorf("set device %s: %w", spec.Name, err)
	}
	if l.MTU != spec.MTU {
		if err := d.links.SetMTU(spec.Name, spec.MTU); err != nil {
			return err
		}
	}
	if !l.Up {
		return d.links.SetUp(spec.Name)
	}
	return nil
}

// add makes a device with the engine that was asked for. The kernel is asked by doing, once: its no is conclusive until the driver is made anew.
func (d *Driver) add(ctx context.Context, spec tunnels.DeviceSpec) error {
	wanted := cmp.Or(spec.Engine, d.options.Engine)
	if wanted != tunnels.Userspace && d.noKernel == nil {
		err := d.kernel.add(ctx, spec)
		if !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
		d.noKernel = err
	}
	if wanted == tunnels.Kernel {
		return fmt.Errorf("the kernel has no WireGuard (load the module wireguard, or set the Site's engine to auto): %w", d.noKernel)
	}
	return d.userspace.add(ctx, spec)
}

func failAll(ops []tunnels.Op, err error) []tunnels.Failure {
	failures := make([]tunnels.Failure, len(ops))
	for i, op := range ops {
		failures[i] = tunnels.Failure{Op: op, Err: err}
	}
	return failures
}
