package wireguard

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"sync"

	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"shekara/netctl/link"
	"shekara/tunnels"
)

// kernelEngine is the kernel's own WireGuard: links by rtnetlink, keys and peers by generic netlink.
type kernelEngine struct {
	links  *link.Handle
	inside func(func() error) error

	mu     sync.Mutex
	client *wgctrl.Client // opened when first needed: before the module is loaded it would never see the kernel
}

// open gives the client, whose socket belongs to the driver's namespace.
func (k *kernelEngine) open() (*wgctrl.Client, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.client != nil {
		return k.client, nil
	}
	err := k.inside(func() (err error) {
		k.client, err = wgctrl.New()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open WireGuard's netlink: %w", err)
	}
	return k.client, nil
}

func (k *kernelEngine) close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.client == nil {
		return nil
	}
	client := k.client
	k.client = nil
	return client.Close()
}

func (k *kernelEngine) add(ctx context.Context, spec tunnels.DeviceSpec) error {
	if err := k.links.AddWireGuard(spec.Name, spec.MTU); err != nil {
		return err
	}
	err := k.set(ctx, spec)
	if err == nil {
		err = k.links.SetUp(spec.Name) // opens the port
	}
	if err != nil {
		return errors.Join(fmt.Errorf("make device %s: %w", spec.Name, err), k.links.Delete(spec.Name))
	}
	return nil
}

func (k *kernelEngine) set(_ context.Context, spec tunnels.DeviceSpec) error {
	client, err := k.open()
	if err != nil {
		return err
	}
	key := wgtypes.Key(spec.PrivateKey.Reveal())
	defer clear(key[:])
	port, mark := int(spec.Port), int(spec.Mark)
	return client.ConfigureDevice(spec.Name, wgtypes.Config{PrivateKey: &key, ListenPort: &port, FirewallMark: &mark})
}

// The library splits a request with more than 32 peers or 256 prefixes into one message a peer, and then forgets all but the
// prefixes of a peer that appears twice (removed and added again). Its limits are kept here, so that one request is one message.
const (
	messagePeers    = 32
	messagePrefixes = 256
)

func (k *kernelEngine) change(_ context.Context, device string, ops []tunnels.Op) error {
	client, err := k.open()
	if err != nil {
		return err
	}
	for len(ops) > 0 {
		n, prefixes := 1, len(ops[0].Peer.AllowedIPs)
		for n < len(ops) && n < messagePeers && prefixes+len(ops[n].Peer.AllowedIPs) <= messagePrefixes {
			prefixes += len(ops[n].Peer.AllowedIPs)
			n++
		}
		peers := make([]wgtypes.PeerConfig, n)
		for i, op := range ops[:n] {
			peers[i] = peerConfig(op)
		}
		err := client.ConfigureDevice(device, wgtypes.Config{Peers: peers})
		for _, p := range peers {
			if p.PresharedKey != nil {
				clear(p.PresharedKey[:])
			}
		}
		if err != nil {
			return kernelError(err)
		}
		ops = ops[n:]
	}
	return nil
}

// kernelError tells a refused step from a lost device: whatever the kernel says no to is the request's fault, but for a link that is gone.
func kernelError(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return fmt.Errorf("%w: %w", refusal{}, err)
}

func peerConfig(op tunnels.Op) wgtypes.PeerConfig {
	c := wgtypes.PeerConfig{PublicKey: wgtypes.Key(op.Peer.PublicKey)}
	if op.Kind == tunnels.PeerDelete {
		c.Remove = true
		return c
	}
	var presharedKey wgtypes.Key // of zeros: none
	if !op.Peer.PresharedKey.IsZero() {
		presharedKey = op.Peer.PresharedKey.Reveal()
	}
	keepalive := op.Peer.Keepalive
	c.PresharedKey, c.PersistentKeepaliveInterval = &presharedKey, &keepalive
	if e := op.Peer.Endpoint; e.IsValid() && (op.Kind == tunnels.PeerAdd || e != op.Was.Endpoint) {
		c.Endpoint = net.UDPAddrFromAddrPort(e)
	}
	prefixes := op.Peer.AllowedIPs
	if op.Kind == tunnels.PeerAdd {
		c.ReplaceAllowedIPs = true
	} else {
		c.UpdateOnly = true
		added, removed := tunnels.ComparePrefixes(op.Peer.AllowedIPs, op.Was.AllowedIPs)
		// wgctrl has no word for taking one prefix away. Setting the list anew leaves this peer, and only it, without
		// prefixes for the microseconds of one message, so it is done only when one must go.
		if c.ReplaceAllowedIPs = len(removed) > 0; !c.ReplaceAllowedIPs {
			prefixes = added
		}
	}
	for _, p := range prefixes {
		c.AllowedIPs = append(c.AllowedIPs, net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())})
	}
	return c
}

func (k *kernelEngine) read(_ context.Context, device string) (tunnels.DeviceState, error) {
	client, err := k.open()
	if err != nil {
		return tunnels.DeviceState{}, err
	}
	d, err := client.Device(device)
	if err != nil {
		return tunnels.DeviceState{}, fmt.Errorf("read device: %w", err)
	}
	state := tunnels.DeviceState{
		Engine:     tunnels.Kernel,
		PublicKey:  tunnels.PublicKey(d.PublicKey),
		PrivateKey: keyOrNone(d.PrivateKey),
		Port:       uint16(d.ListenPort),
		Mark:       uint32(d.FirewallMark),
		Peers:      make(map[tunnels.PublicKey]tunnels.PeerState, len(d.Peers)),
	}
	clear(d.PrivateKey[:])
	for i := range d.Peers {
		p := peerState(&d.Peers[i])
		state.Peers[p.PublicKey] = p
	}
	return state, nil
}

func peerState(p *wgtypes.Peer) tunnels.PeerState {
	s := tunnels.PeerState{
		PublicKey:     tunnels.PublicKey(p.PublicKey),
		PresharedKey:  keyOrNone(p.PresharedKey),
		Keepalive:     p.PersistentKeepaliveInterval,
		ReceivedBytes: uint64(p.ReceiveBytes),
		SentBytes:     uint64(p.TransmitBytes),
	}
	clear(p.PresharedKey[:])
	if p.LastHandshakeTime.Unix() > 0 {
		s.LastHandshake = p.LastHandshakeTime
	}
	if p.Endpoint != nil {
		e := p.Endpoint.AddrPort()
		s.Endpoint = netip.AddrPortFrom(e.Addr().Unmap(), e.Port())
	}
	for _, n := range p.AllowedIPs {
		addr, _ := netip.AddrFromSlice(n.IP)
		bits, size := n.Mask.Size()
		if addr = addr.Unmap(); addr.Is6() && size == 32 {
			continue // not a prefix; the kernel gives none such
		}
		s.AllowedIPs = append(s.AllowedIPs, netip.PrefixFrom(addr, bits))
	}
	slices.SortFunc(s.AllowedIPs, netip.Prefix.Compare)
	return s
}

func (k *kernelEngine) remove(_ context.Context, device string) error { return k.links.Delete(device) }

var _ engine = (*kernelEngine)(nil)
