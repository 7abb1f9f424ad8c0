package provisioning

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"shekara/netctl"
	"shekara/netctl/secret"
	"shekara/provisioning/compile"
	"shekara/tunnels"
)

// report is what converge did.
type report struct {
	program *program
	failed  []Failed // all tunnels in the scope that have an error of their own now, and the site's own errors
}

// converge makes what is asked for within a scope, after a patch, from what is there. Every change of the host goes through here: applies,
// reverts, the start, repairs and retries. The caller holds writing. With an error the patch is not in force: the filter, which
// everything rests on, could not be loaded; what was done until then is known to the world or found by the next look.
func (e *Engine) converge(ctx context.Context, s scope, p patch) (report, error) {
	return e.carry(ctx, s, p, nil)
}

// carry is converge by a program that was made for the same scope and patch since the caller holds writing: it is done as it is unless
// something was learned of the host meanwhile.
func (e *Engine) carry(ctx context.Context, s scope, p patch, prog *program) (report, error) {
	e.loadKeys(p, true)
	e.mu.Lock()
	var err error
	if prog == nil || prog.sights != e.sights {
		prog, err = e.compare(s, p)
	}
	e.mu.Unlock()
	if err != nil {
		return report{}, err
	}
	// What is wrong with the host half done is worse than what is slow: an apply is not cut short.
	ctx = context.WithoutCancel(ctx)
	run := &run{engine: e, program: prog}
	if err := run.all(ctx); err != nil {
		e.look.poke()
		return report{program: prog}, err
	}
	e.mu.Lock()
	e.forgetConnections(p, run.closed)
	e.intent.apply(p)
	if s.whole || s.base {
		e.lacking = prog.lacking
	}
	e.mu.Unlock()
	e.settleTroubles(ctx, prog.found, prog.soft)
	e.settleRefused(ctx, run.done, run.refused, s.whole)
	return report{program: prog, failed: e.failures(prog)}, nil
}

// failures lists the errors of the tunnels that the program looked at.
func (e *Engine) failures(prog *program) []Failed {
	e.mu.Lock()
	defer e.mu.Unlock()
	failed := e.siteFailures()
	for _, name := range slices.Sorted(maps.Keys(prog.found)) {
		if err := prog.found[name]; err != nil {
			failed = append(failed, Failed{Tunnel: name, Error: err.Error(), Hint: hintOf(err)})
		}
	}
	return failed
}

// run does the steps of one program.
type run struct {
	engine  *Engine
	program *program
	closed  time.Time        // when the filter allowed no more than what both the old and the new do
	done    []string         // steps of the site's own that were done, by their text
	refused map[string]error // and those that were not
}

func (r *run) refuse(text string, err error) {
	if r.refused == nil {
		r.refused = map[string]error{}
	}
	r.refused[text] = err
}

func (r *run) all(ctx context.Context) error {
	e, p := r.engine, r.program
	if p.empty() {
		return nil
	}
	e.mu.Lock()
	e.writes++ // looks that are under way are stale
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		e.writes++
		e.mu.Unlock()
		e.unverified.poke() // whoever verifies waits until the caller lets go of writing
	}()
	closed, err := p.filter.denyFirst(ctx, e.options.Filter, &e.filter)
	if err != nil {
		return fmt.Errorf("close the filter: %w", err)
	}
	r.closed = time.Now()
	allow := func() error {
		if err := p.filter.allow(ctx, e.options.Filter, &e.filter); err != nil {
			return fmt.Errorf("open the filter: %w", err)
		}
		return nil
	}
	if !closed && p.onlyAdds() {
		// Nothing that was allowed ends, so each state between allows no more than the new one does: a flow that is open before its
		// tunnel is there opens nothing, as it names the device. The userspace device and the filter then work side by side.
		var opening errgroup.Group
		opening.Go(allow)
		r.tunnels(ctx, p.tunnels)
		r.network(ctx, p.routesCome)
		err = opening.Wait()
	} else {
		r.network(ctx, p.routesGo)
		r.tunnels(ctx, p.tunnels)
		r.network(ctx, p.deadEndsGo)
		r.network(ctx, p.routesCome)
		err = allow()
	}
	if err != nil {
		return err
	}
	r.network(ctx, p.sysctls)
	if p.filter.remove {
		// The last step: with it nothing of ours is filtered or forwarded by us any more.
		if err := e.options.Filter.Remove(ctx); err != nil {
			return fmt.Errorf("remove the filter: %w", err)
		}
		e.filter = filterState{}
	}
	return nil
}

// network does steps of routing, and looks at each route that it made: an answer is no proof, the kernel's table is.
func (r *run) network(ctx context.Context, ops []netctl.Op) {
	if len(ops) == 0 {
		return
	}
	refusals := map[string]bool{}
	for _, f := range r.engine.options.Network.Apply(ctx, ops) {
		refusals[f.Op.String()] = true
		r.networkFailure(f)
	}
	refused := func(op netctl.Op) bool { return len(refusals) > 0 && refusals[op.String()] }
	const lookAtEach = 64 // above that the whole look, which follows soon, is cheaper
	r.engine.mu.Lock()
	for _, op := range ops {
		if !refused(op) {
			r.engine.world.didNetwork(op)
			if len(r.engine.refused) > 0 {
				r.done = append(r.done, op.String())
			}
		}
	}
	r.engine.mu.Unlock()
	if len(ops) > lookAtEach {
		return
	}
	for _, op := range ops {
		if op.Route == nil || op.Verb == netctl.Delete || refused(op) {
			continue
		}
		held, err := r.engine.options.Network.RouteHeld(*op.Route)
		if err == nil && !held {
			err = fmt.Errorf("the kernel took it and does not have it: %w", fs.ErrNotExist)
		}
		if err != nil {
			r.networkFailure(netctl.Failure{Op: op, Err: err})
		}
	}
}

func (r *run) networkFailure(f netctl.Failure) {
	err := fmt.Errorf("%s: %w", f.Op, f.Err)
	if f.Op.Route != nil {
		if tunnel := r.program.routeOwner[*f.Op.Route]; tunnel != "" {
			r.blame(tunnel, err)
			return
		}
	}
	r.refuse(f.Op.String(), f.Err)
}

func (r *run) blame(tunnel string, err error) {
	if r.program.found[tunnel] == nil || r.program.soft[tunnel] {
		r.program.found[tunnel], r.program.soft[tunnel] = err, false
	}
}

func (r *run) tunnels(ctx context.Context, ops []tunnels.Op) {
	if len(ops) == 0 {
		return
	}
	// Ops hold keys, so they are told apart by what they do and to whom.
	type step struct {
		kind   tunnels.OpKind
		device string
		peer   tunnels.PublicKey
	}
	stepOf := func(op tunnels.Op) step { return step{op.Kind, op.Device.Name, op.Peer.PublicKey} }
	refused := map[step]bool{}
	for _, f := range r.engine.options.Tunnels.Apply(ctx, ops) {
		refused[stepOf(f.Op)] = true
		r.tunnelFailure(f)
	}
	r.engine.mu.Lock()
	defer r.engine.mu.Unlock()
	for _, op := range ops {
		if !refused[stepOf(op)] {
			r.engine.world.didTunnels(op)
			if op.Kind == tunnels.PeerAdd {
				r.engine.beginHealth(op.Peer)
			}
			if len(r.engine.refused) > 0 {
				r.done = append(r.done, op.String())
			}
		}
	}
}

func (r *run) tunnelFailure(f tunnels.Failure) {
	switch {
	case f.Op.Peer.Tunnel != "":
		r.blame(f.Op.Peer.Tunnel, f)
	case f.Op.Kind == tunnels.DeviceAdd || f.Op.Kind == tunnels.DeviceUpdate:
		r.refuse(f.Op.String(), f.Err)
		r.blameDevice(f)
	default:
		r.refuse(f.Op.String(), f.Err)
	}
}

// blameDevice gives a device's error to each of its tunnels that the program looked at.
func (r *run) blameDevice(f tunnels.Failure) {
	r.engine.mu.Lock()
	defer r.engine.mu.Unlock()
	for name := range r.program.found {
		if r.program.device[name] == f.Op.Device.Name {
			r.blame(name, f)
		}
	}
}

// loadKeys reads the private keys of all devices after the patch; with make, those that are not there are made. One that cannot be read
// is the trouble of its device's tunnels alone. It does not expect mu.
func (e *Engine) loadKeys(p patch, make bool) {
	e.mu.Lock()
	base, present := e.intent.after(p)
	var missing []compile.Device
	for _, d := range base.Devices {
		if _, known := e.keys[d.KeyName]; !known && present {
			missing = append(missing, d)
		}
	}
	e.mu.Unlock()
	for _, d := range missing {
		read := e.options.Secrets.Get
		if make {
			read = e.options.Secrets.GetOrNew
		}
		key, err := read(d.KeyName)
		e.mu.Lock()
		switch {
		case err == nil:
			e.keys[d.KeyName] = key
			delete(e.unreadable, d.KeyName)
			e.sights++
		case errors.Is(err, fs.ErrNotExist):
			delete(e.unreadable, d.KeyName)
		default:
			e.unreadable[d.KeyName] = err
		}
		e.mu.Unlock()
	}
}

// deviceKey is the private key that a device shall have: while its own cannot be read, the one it runs with. It expects mu to be held.
func (e *Engine) deviceKey(d compile.Device) secret.Key {
	if key, known := e.keys[d.KeyName]; known || e.unreadable[d.KeyName] == nil {
		return key
	}
	return e.world.devices[d.Spec.Name].PrivateKey
}
