package wireguard

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"shekara/tunnels"
)

// A batch is what one request to an engine carries at most. Within it the userspace engine holds its configuration lock, and
// the kernel's request must fit one netlink message of 64 KiB; a batch that is refused is halved until the guilty stand alone.
const (
	batchPeers    = 256
	batchPrefixes = 1024
)

// changePeers does the steps on one device's peers.
func (d *Driver) changePeers(ctx context.Context, device string, ops []tunnels.Op) []tunnels.Failure {
	l, err := d.links.Get(device)
	if err != nil {
		return failAll(ops, err)
	}
	e := d.engineOf(l)
	if e == nil {
		return failAll(ops, fmt.Errorf("link %s is of kind %q, not a tunnel device", device, l.Kind))
	}
	var failures []tunnels.Failure
	sound := make([]tunnels.Op, 0, len(ops))
	for _, op := range ops {
		err := error(nil)
		if op.Kind != tunnels.PeerDelete {
			err = op.Peer.Check()
			if own, ok := d.own.Load(device); err == nil && ok && own == op.Peer.PublicKey {
				err = fmt.Errorf("public key %s is that of device %s itself", op.Peer.PublicKey, device)
			}
		}
		if err != nil {
			failures = append(failures, tunnels.Failure{Op: op, Err: err})
			continue
		}
		sound = append(sound, op)
	}
	for len(sound) > 0 {
		n, prefixes := 1, len(sound[0].Peer.AllowedIPs)
		for n < len(sound) && n < batchPeers && prefixes+len(sound[n].Peer.AllowedIPs) <= batchPrefixes {
			prefixes += len(sound[n].Peer.AllowedIPs)
			n++
		}
		more, err := changeOrHalve(ctx, e, device, sound[:n])
		failures = append(failures, more...)
		if err != nil { // the device, not a step
			return append(failures, failAll(sound[n:], err)...)
		}
		sound = sound[n:]
	}
	return failures
}

// changeOrHalve does the steps and halves them when the engine refuses, so that a refused one fails alone. Doing a step twice is harmless.
// The error is that of the device itself: no further step can succeed.
func changeOrHalve(ctx context.Context, e engine, device string, ops []tunnels.Op) ([]tunnels.Failure, error) {
	if err := ctx.Err(); err != nil {
		return failAll(ops, err), err
	}
	err := e.change(ctx, device, ops)
	var refused refusal
	switch {
	case err == nil:
		return nil, nil
	case !errors.As(err, &refused):
		err = fmt.Errorf("change peers of %s: %w", device, err)
		return failAll(ops, err), err
	case len(ops) > 1:
		first, err := changeOrHalve(ctx, e, device, ops[:len(ops)/2])
		if err != nil {
			return append(first, failAll(ops[len(ops)/2:], err)...), err
		}
		second, err := changeOrHalve(ctx, e, device, ops[len(ops)/2:])
		return append(first, second...), err
	}
	op := ops[0]
	failures := []tunnels.Failure{{Op: op, Err: err}}
	if op.Kind != tunnels.PeerAdd {
		return failures, nil
	}
	// The lines before the refused one were taken: no half of a peer stays.
	undo := tunnels.Op{Kind: tunnels.PeerDelete, Device: op.Device, Peer: tunnels.Spec{Device: device, PublicKey: op.Peer.PublicKey}}
	if err := e.change(ctx, device, []tunnels.Op{undo}); err != nil {
		failures[0].Err = errors.Join(failures[0].Err, fmt.Errorf("remove the half-made peer: %w", err))
	}
	return failures, nil
}

// ResetPeer removes one peer and adds it again as it was, with its preshared key, endpoint, keepalive and allowed IPs, so that its handshake
// begins afresh. Its counters begin again too; no other peer is touched. The error is fs.ErrNotExist if the device or peer is not there.
func (d *Driver) ResetPeer(ctx context.Context, device string, key tunnels.PublicKey) error {
	d.changing.Lock()
	defer d.changing.Unlock()
	l, err := d.links.Get(device)
	if err != nil {
		return fmt.Errorf("reset peer %s: %w", key, err)
	}
	state, err := d.read(ctx, l)
	if err != nil {
		return fmt.Errorf("reset peer %s: %w", key, err)
	}
	peer, ok := state.Peers[key]
	if !ok {
		return fmt.Errorf("reset peer %s in %s: %w", key, device, fs.ErrNotExist)
	}
	name := tunnels.DeviceSpec{Name: device}
	same := tunnels.Spec{Device: device, PublicKey: key, PresharedKey: peer.PresharedKey, Endpoint: peer.Endpoint,
		Keepalive: peer.Keepalive, AllowedIPs: peer.AllowedIPs}
	for _, failure := range d.changePeers(ctx, device, []tunnels.Op{
		{Kind: tunnels.PeerDelete, Device: name, Peer: tunnels.Spec{Device: device, PublicKey: key}, Was: peer},
		{Kind: tunnels.PeerAdd, Device: name, Peer: same},
	}) {
		err = errors.Join(err, failure)
	}
	return err
}
