package tunnelstest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"shekara/tunnels"
)

// Kernel is a small kernel: it does what wireguard.Driver does, refuses what that refuses, and moves an allowed IP from one peer to
// another as WireGuard does. The zero value is ready. It may be used by many goroutines.
type Kernel struct {
	mu      sync.Mutex
	devices map[string]tunnels.DeviceState
	refuse  map[tunnels.PublicKey]error
}

// Observe gives copies of all devices, by name.
func (k *Kernel) Observe(ctx context.Context) ([]tunnels.DeviceState, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	var states []tunnels.DeviceState
	for _, name := range slices.Sorted(maps.Keys(k.devices)) {
		d := k.devices[name]
		d.Peers = maps.Clone(d.Peers)
		for key, p := range d.Peers {
			p.AllowedIPs = slices.Clone(p.AllowedIPs)
			d.Peers[key] = p
		}
		states = append(states, d)
	}
	return states, nil
}

// Apply does the steps.
func (k *Kernel) Apply(ctx context.Context, ops []tunnels.Op) []tunnels.Failure {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.devices == nil {
		k.devices = map[string]tunnels.DeviceState{}
	}
	var failures []tunnels.Failure
	for _, op := range ops {
		err := ctx.Err()
		if err == nil {
			err = k.apply(op)
		}
		if err != nil {
			failures = append(failures, tunnels.Failure{Op: op, Err: err})
		}
	}
	return failures
}

// ResetPeer removes a peer and adds it again, so its counters and handshake begin again.
func (k *Kernel) ResetPeer(_ context.Context, device string, key tunnels.PublicKey) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	p, ok := k.devices[device].Peers[key]
	if !ok {
		return fmt.Errorf("reset peer %s in %s: %w", key, device, fs.ErrNotExist)
	}
	p.ReceivedBytes, p.SentBytes = 0, 0
	p.LastHandshake = tunnels.PeerState{}.LastHandshake
	k.devices[device].Peers[key] = p
	return nil
}

// Refuse makes the engine refuse every step that adds or updates this peer; nil ends it.
func (k *Kernel) Refuse(key tunnels.PublicKey, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.refuse == nil {
		k.refuse = map[tunnels.PublicKey]error{}
	}
	k.refuse[key] = err
}

// Lose makes a device vanish, as when its process dies.
func (k *Kernel) Lose(device string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.devices, device)
}

// Pass plays traffic: change gets the peer's state, to set counters, handshake or endpoint.
func (k *Kernel) Pass(device string, key tunnels.PublicKey, change func(*tunnels.PeerState)) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	p, ok := k.devices[device].Peers[key]
	if !ok {
		return fmt.Errorf("peer %s in %s: %w", key, device, fs.ErrNotExist)
	}
	change(&p)
	k.devices[device].Peers[key] = p
	return nil
}

func (k *Kernel) apply(op tunnels.Op) error {
	name := op.Device.Name
	d, there := k.devices[name]
	switch op.Kind {
	case tunnels.DeviceAdd, tunnels.DeviceUpdate:
		return k.setDevice(op.Device, d, there)
	case tunnels.DeviceDelete:
		delete(k.devices, name)
		return nil
	}
	if !there {
		return fmt.Errorf("device %s: %w", name, fs.ErrNotExist)
	}
	key := op.Peer.PublicKey
	was, known := d.Peers[key]
	switch {
	case op.Kind == tunnels.PeerDelete:
		delete(d.Peers, key)
		return nil
	case op.Kind == tunnels.PeerUpdate && !known:
		return nil // update_only
	}
	if err := errors.Join(op.Peer.Check(), k.refuse[key]); err != nil {
		return err
	}
	if key == d.PublicKey {
		return errors.New("the peer's public key is the device's own")
	}
	p := was
	p.PublicKey, p.PresharedKey, p.Keepalive = key, op.Peer.PresharedKey, op.Peer.Keepalive
	if op.Peer.Endpoint.IsValid() {
		p.Endpoint = op.Peer.Endpoint // there is no way to unset one
	}
	d.Peers[key] = p
	if op.Kind == tunnels.PeerAdd {
		setPrefixes(d.Peers, key, nil, p.AllowedIPs)
		setPrefixes(d.Peers, key, op.Peer.AllowedIPs, nil)
		return nil
	}
	added, removed := tunnels.ComparePrefixes(op.Peer.AllowedIPs, op.Was.AllowedIPs)
	setPrefixes(d.Peers, key, added, removed)
	return nil
}

func (k *Kernel) setDevice(spec tunnels.DeviceSpec, d tunnels.DeviceState, there bool) error {
	if err := spec.Check(); err != nil {
		return err
	}
	for name, other := range k.devices {
		if name != spec.Name && other.Port == spec.Port {
			return fmt.Errorf("listen on UDP port %d: address already in use", spec.Port)
		}
	}
	public, err := tunnels.PublicKeyOf(spec.PrivateKey)
	if err != nil {
		return err
	}
	if !there {
		d = tunnels.DeviceState{Name: spec.Name, Engine: cmp.Or(spec.Engine, tunnels.Userspace), Peers: map[tunnels.PublicKey]tunnels.PeerState{}}
	}
	delete(d.Peers, public) // as both engines do
	d.PrivateKey, d.PublicKey, d.Port, d.Mark, d.MTU, d.Up = spec.PrivateKey, public, spec.Port, spec.Mark, spec.MTU, true
	k.devices[spec.Name] = d
	return nil
}

// setPrefixes adds to one peer, taking from whoever has it, and removes from that peer alone.
func setPrefixes(peers map[tunnels.PublicKey]tunnels.PeerState, key tunnels.PublicKey, added, removed []netip.Prefix) {
	for other, p := range peers {
		p.AllowedIPs = slices.DeleteFunc(slices.Clone(p.AllowedIPs), func(prefix netip.Prefix) bool {
			return slices.Contains(added, prefix) || other == key && slices.Contains(removed, prefix)
		})
		peers[other] = p
	}
	p := peers[key]
	p.AllowedIPs = append(p.AllowedIPs, added...)
	slices.SortFunc(p.AllowedIPs, netip.Prefix.Compare)
	p.AllowedIPs = slices.Compact(p.AllowedIPs)
	peers[key] = p
}
