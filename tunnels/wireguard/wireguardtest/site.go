package wireguardtest

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"shekara/netctl/nstest"
	"shekara/netctl/secret"
	"shekara/tunnels"
	"shekara/tunnels/wireguard"
)

// Open makes a driver whose devices live on a host.
type Open func(t testing.TB, host *nstest.H) *wireguard.Driver

// site is a host with a driver.
type site struct {
	*nstest.H
	t      *testing.T
	driver *wireguard.Driver
}

func newSite(t *testing.T, open Open, name string) *site {
	t.Helper()
	h := nstest.Host(t, name)
	s := &site{H: h, t: t, driver: open(t, h)}
	// A device must not outlive its test, whatever became of the test and its driver.
	t.Cleanup(func() {
		cleaner := open(t, h)
		state, err := cleaner.Observe(context.Background())
		if err != nil {
			t.Errorf("clean up %s: %v", name, err)
		}
		for _, failure := range cleaner.Apply(context.Background(), tunnels.Diff(nil, nil, state)) {
			t.Errorf("clean up %s: %v", name, failure)
		}
	})
	return s
}

// privateKey makes a key pair.
func privateKey(t testing.TB) (secret.Key, tunnels.PublicKey) {
	t.Helper()
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := secret.NewKey(private.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return key, tunnels.PublicKey(private.PublicKey().Bytes())
}

// text is a key as wg(8) wants it.
func text(k secret.Key) string {
	raw := k.Reveal()
	return base64.StdEncoding.EncodeToString(raw[:])
}

var deviceNumber atomic.Uint32

// deviceName is a name that no other test of this machine uses at the time: UAPI sockets of all namespaces share a folder.
func deviceName(t testing.TB) string {
	t.Helper()
	var r [3]byte
	if _, err := rand.Read(r[:]); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("sk-t%x%d", r, deviceNumber.Add(1)%100)
}

// device is a DeviceSpec for a test.
func device(t testing.TB, localIP string, port uint16) (tunnels.DeviceSpec, tunnels.PublicKey) {
	t.Helper()
	private, public := privateKey(t)
	return tunnels.DeviceSpec{Name: deviceName(t), LocalIP: netip.MustParseAddr(localIP), Port: port, MTU: 1420, PrivateKey: private}, public
}

// reconcile makes the site so and fails the test unless the difference is empty afterwards.
func (s *site) reconcile(devices []tunnels.DeviceSpec, peers []tunnels.Spec) []tunnels.Op {
	s.t.Helper()
	ops := tunnels.Diff(devices, peers, s.observe())
	for _, failure := range s.driver.Apply(s.t.Context(), ops) {
		s.t.Errorf("on %s: %v", s.Name, failure)
	}
	if rest := tunnels.Diff(devices, peers, s.observe()); len(rest) > 0 {
		s.t.Errorf("on %s: after %v there remains %v", s.Name, ops, rest)
	}
	if s.t.Failed() {
		s.t.FailNow()
	}
	return ops
}

func (s *site) observe() []tunnels.DeviceState {
	s.t.Helper()
	state, err := s.driver.Observe(s.t.Context())
	if err != nil {
		s.t.Fatalf("on %s: %v", s.Name, err)
	}
	for _, d := range state {
		if d.Err != nil {
			s.t.Fatalf("on %s: %v", s.Name, d.Err)
		}
	}
	return state
}

// peer gives one peer of the only device.
func (s *site) peer(key tunnels.PublicKey) tunnels.PeerState {
	s.t.Helper()
	state := s.observe()
	if len(state) != 1 {
		s.t.Fatalf("on %s: %d devices, want 1", s.Name, len(state))
	}
	p, ok := state[0].Peers[key]
	if !ok {
		s.t.Fatalf("on %s: no peer %s", s.Name, key)
	}
	return p
}

// inside gives the device an address and a route to what is behind it, as netctl would.
func (s *site) inside(device, address string, prefixes ...string) {
	s.t.Helper()
	s.Run("ip", "address", "replace", address, "dev", device)
	for _, p := range prefixes {
		s.Run("ip", "route", "replace", p, "dev", device)
	}
}

func (s *site) ping(address string) {
	s.t.Helper()
	s.Run("ping", "-c1", "-W10", address)
}

// foreign makes a WireGuard device that knows nothing of Shekara, configured by wg(8) and ip(8) alone. Where the kernel has none the
// program is the same as ours, but for its configuration.
type foreign struct {
	*site
	device  tunnels.DeviceSpec
	private secret.Key
	public  tunnels.PublicKey
}

func newForeign(t *testing.T, open Open, name, localIP string, port uint16) *foreign {
	t.Helper()
	f := &foreign{site: newSite(t, open, name)}
	f.device, f.public = device(t, localIP, port)
	f.private = f.device.PrivateKey
	f.device.PrivateKey, _ = privateKey(t) // its true key is set by wg below
	if failures := f.driver.Apply(t.Context(), []tunnels.Op{{Kind: tunnels.DeviceAdd, Device: f.device}}); len(failures) > 0 {
		t.Fatalf("on %s: %v", name, failures)
	}
	f.RunInput(text(f.private), "wg", "set", f.device.Name, "private-key", "/dev/stdin")
	return f
}

// wg runs "wg set DEVICE ...".
func (f *foreign) wg(arguments ...string) {
	f.t.Helper()
	f.Run(append([]string{"wg", "set", f.device.Name}, arguments...)...)
}

// begins makes the foreign side forget its session with a peer, so that its next packet begins a handshake: after the other side was reset it
// would otherwise take WireGuard 15 seconds to see that nobody answers.
func (f *foreign) begins(peer tunnels.PublicKey, settings ...string) {
	f.t.Helper()
	f.wg("peer", peer.String(), "remove")
	f.wg(append([]string{"peer", peer.String()}, settings...)...)
}

// dump is what "wg show DEVICE dump" says: the device's line and its peers' by public key, each split at tabs.
func (s *site) dump(device string) (line []string, peers map[string][]string) {
	s.t.Helper()
	peers = map[string][]string{}
	for i, l := range strings.Split(strings.TrimSpace(s.Run("wg", "show", device, "dump")), "\n") {
		fields := strings.Split(l, "\t")
		if i == 0 {
			line = fields
			continue
		}
		peers[fields[0]] = fields
	}
	return line, peers
}

// bulk makes n peers with keys that belong to nobody, each with one prefix.
func bulk(t testing.TB, device string, n int) []tunnels.Spec {
	t.Helper()
	specs := make([]tunnels.Spec, n)
	for i := range specs {
		var key tunnels.PublicKey
		if _, err := rand.Read(key[:]); err != nil {
			t.Fatal(err)
		}
		key[31] &= 0x7f
		var address [4]byte
		binary.BigEndian.PutUint32(address[:], 0x0a800000+uint32(i)) // 10.128.0.0 and on
		specs[i] = tunnels.Spec{Tunnel: fmt.Sprintf("t%d", i), Device: device, PublicKey: key,
			AllowedIPs: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4(address), 32)}}
	}
	return specs
}
