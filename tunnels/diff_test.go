package tunnels_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"shekara/netctl/secret"
	"shekara/tunnels"
	"shekara/tunnels/tunnelstest"
)

// world is what may be asked for: few names, keys and prefixes, so that they meet.
type world struct {
	Devices []tunnels.DeviceSpec
	Peers   []tunnels.Spec
}

func key(first byte) secret.Key {
	raw := make([]byte, 32)
	raw[0], raw[1] = 7, first // not clamped
	k, err := secret.NewKey(raw)
	if err != nil {
		panic(err)
	}
	return k
}

func public(n byte) tunnels.PublicKey {
	k, err := tunnels.PublicKeyOf(key(n))
	if err != nil {
		panic(err)
	}
	return k
}

func prefix(n int) netip.Prefix {
	if n%2 == 0 {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64, byte(n), 0}), 24)
	}
	return netip.MustParsePrefix(fmt.Sprintf("2001:db8:%x::/48", n))
}

func genWorld(t *rapid.T, label string) world {
	var w world
	for i := range 3 {
		if !rapid.Bool().Draw(t, label+" has device") {
			continue
		}
		d := tunnels.DeviceSpec{
			Name: fmt.Sprintf("sk-d%d", i), LocalIP: netip.MustParseAddr("192.0.2.1"),
			Port:       uint16(51820 + i), // two devices of one port are refused by the compiler
			Mark:       rapid.Uint32Range(1, 3).Draw(t, "mark"),
			MTU:        rapid.SampledFrom([]int{1280, 1420}).Draw(t, "mtu"),
			PrivateKey: key(byte(rapid.IntRange(1, 2).Draw(t, "private key"))),
		}
		w.Devices = append(w.Devices, d)
		free := rapid.Permutation([]int{0, 1, 2, 3, 4, 5, 6, 7}).Draw(t, "prefixes")
		for n := range 4 {
			if !rapid.Bool().Draw(t, "has peer") {
				continue
			}
			p := tunnels.Spec{Tunnel: fmt.Sprintf("t%d", n), Device: d.Name, PublicKey: public(byte(10 + n))}
			if rapid.Bool().Draw(t, "psk") {
				p.PresharedKey = key(byte(rapid.IntRange(50, 51).Draw(t, "psk")))
			}
			if rapid.Bool().Draw(t, "endpoint") {
				p.Endpoint = netip.AddrPortFrom(netip.MustParseAddr("198.51.100.1"), uint16(rapid.IntRange(1, 2).Draw(t, "port")))
			}
			p.Keepalive = time.Duration(rapid.SampledFrom([]int{0, 25}).Draw(t, "keepalive")) * time.Second
			take := rapid.IntRange(0, min(3, len(free))).Draw(t, "prefixes")
			for _, f := range free[:take] {
				p.AllowedIPs = append(p.AllowedIPs, prefix(f))
			}
			free = free[take:]
			slices.SortFunc(p.AllowedIPs, netip.Prefix.Compare)
			w.Peers = append(w.Peers, p)
		}
	}
	return w
}

func observe(t interface{ Fatal(...any) }, k *tunnelstest.Kernel) []tunnels.DeviceState {
	state, err := k.Observe(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// TestApplyingTheDiffEmptiesIt is the law of every domain: from any state to any other, in one go, removals included.
func TestApplyingTheDiffEmptiesIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kernel := &tunnelstest.Kernel{}
		for _, label := range []string{"first", "second", "third"} {
			w := genWorld(t, label)
			ops := tunnels.Diff(w.Devices, w.Peers, observe(t, kernel))
			if failures := kernel.Apply(context.Background(), ops); len(failures) > 0 {
				t.Fatalf("%s: %v", label, failures)
			}
			if rest := tunnels.Diff(w.Devices, w.Peers, observe(t, kernel)); len(rest) > 0 {
				t.Fatalf("%s: after applying\n%v\nthere remains\n%v", label, ops, rest)
			}
			again := tunnels.Diff(w.Devices, w.Peers, nil)
			slices.Reverse(w.Peers)
			if text := fmt.Sprint(tunnels.Diff(w.Devices, w.Peers, nil)); text != fmt.Sprint(again) {
				t.Fatalf("order of peers changes the steps:\n%s\n%s", text, again)
			}
		}
	})
}

// TestOnePeerAloneComesToTheSame: what DiffPeer does for one tunnel is what Diff would do for it.
func TestOnePeerAloneComesToTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kernel := &tunnelstest.Kernel{}
		w := genWorld(t, "before")
		kernel.Apply(context.Background(), tunnels.Diff(w.Devices, w.Peers, nil))
		if len(w.Peers) == 0 {
			return
		}
		want := w.Peers[0]
		want.Keepalive, want.PresharedKey, want.Endpoint = 0, secret.Key{}, netip.AddrPort{}
		want.AllowedIPs = nil
		for _, d := range observe(t, kernel) {
			if d.Name == want.Device {
				have, present := d.Peers[want.PublicKey]
				kernel.Apply(context.Background(), tunnels.DiffPeer(want, have, present))
			}
		}
		w.Peers[0] = want
		if rest := tunnels.Diff(w.Devices, w.Peers, observe(t, kernel)); len(rest) > 0 {
			t.Fatalf("there remains %v", rest)
		}
	})
}

// TestPrefixNeverBelongsToNobody: while prefixes move between peers (in no ring), each has an owner after every single step.
func TestPrefixNeverBelongsToNobody(t *testing.T) {
	device := tunnels.DeviceSpec{Name: "sk-d", LocalIP: netip.MustParseAddr("192.0.2.1"), Port: 1, MTU: 1420, PrivateKey: key(1)}
	peer := func(n byte, prefixes ...int) tunnels.Spec {
		p := tunnels.Spec{Device: device.Name, PublicKey: public(n)}
		for _, i := range prefixes {
			p.AllowedIPs = append(p.AllowedIPs, prefix(i))
		}
		slices.SortFunc(p.AllowedIPs, netip.Prefix.Compare)
		return p
	}
	before := []tunnels.Spec{peer(10, 0), peer(11, 2), peer(12, 4), peer(13, 6)}
	moves := map[string][]tunnels.Spec{
		"to the next":     {peer(10), peer(11, 0), peer(12, 2, 4), peer(13, 6)},
		"to the one back": {peer(10, 0, 2), peer(11, 4), peer(12, 6), peer(13)},
		"to a new peer":   {peer(10), peer(11, 2), peer(12, 4), peer(13, 6), peer(14, 0)},
		"from one gone":   {peer(10, 0, 6), peer(11, 2), peer(12, 4)},
	}
	for name, after := range moves {
		t.Run(name, func(t *testing.T) {
			kernel := &tunnelstest.Kernel{}
			kernel.Apply(context.Background(), tunnels.Diff([]tunnels.DeviceSpec{device}, before, nil))
			ops := tunnels.Diff([]tunnels.DeviceSpec{device}, after, observe(t, kernel))
			for _, op := range ops {
				kernel.Apply(context.Background(), []tunnels.Op{op})
				owned := 0
				for _, p := range observe(t, kernel)[0].Peers {
					owned += len(p.AllowedIPs)
				}
				if owned != 4 {
					t.Fatalf("%d of 4 prefixes have an owner after %q of %v", owned, op, ops)
				}
			}
		})
	}
}

func TestEndpointThatMustGo(t *testing.T) {
	device := tunnels.DeviceSpec{Name: "sk-d", LocalIP: netip.MustParseAddr("192.0.2.1"), Port: 1, MTU: 1420, PrivateKey: key(1)}
	want := tunnels.Spec{Tunnel: "a", Device: "sk-d", PublicKey: public(10), AllowedIPs: []netip.Prefix{prefix(0)}}
	endpoint := netip.MustParseAddrPort("198.51.100.1:1")
	have := tunnels.PeerState{PublicKey: want.PublicKey, Endpoint: endpoint, AllowedIPs: want.AllowedIPs}
	heard := have
	heard.ReceivedBytes = 148
	asked := want
	asked.ForgetEndpoint = true
	for _, c := range []struct {
		name string
		want tunnels.Spec
		have tunnels.PeerState
		ops  []tunnels.OpKind
	}{
		{"configured, never answered", want, have, []tunnels.OpKind{tunnels.PeerDelete, tunnels.PeerAdd}},
		{"the far side is there: as learned as configured", want, heard, nil},
		{"the far side is there, and the document named it until now", asked, heard, []tunnels.OpKind{tunnels.PeerDelete, tunnels.PeerAdd}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var kinds []tunnels.OpKind
			for _, op := range tunnels.DiffPeer(c.want, c.have, true) {
				kinds = append(kinds, op.Kind)
			}
			if diff := cmp.Diff(c.ops, kinds); diff != "" {
				t.Error(diff)
			}
		})
	}

	// And in a device: gone for good, the rest of the peer kept.
	kernel := &tunnelstest.Kernel{}
	named := want
	named.Endpoint = endpoint
	kernel.Apply(context.Background(), tunnels.Diff([]tunnels.DeviceSpec{device}, []tunnels.Spec{named}, nil))
	if err := kernel.Pass("sk-d", want.PublicKey, func(p *tunnels.PeerState) { p.ReceivedBytes = 148 }); err != nil {
		t.Fatal(err)
	}
	kernel.Apply(context.Background(), tunnels.Diff([]tunnels.DeviceSpec{device}, []tunnels.Spec{asked}, observe(t, kernel)))
	got := observe(t, kernel)[0].Peers[want.PublicKey]
	if got.Endpoint.IsValid() || !slices.Equal(got.AllowedIPs, want.AllowedIPs) {
		t.Errorf("after forgetting: %+v", got)
	}
}

func TestUnreadableDeviceIsLeftAlone(t *testing.T) {
	device := tunnels.DeviceSpec{Name: "sk-d", Port: 1, MTU: 1420, PrivateKey: key(1)}
	state := []tunnels.DeviceState{{Name: "sk-d", Err: context.DeadlineExceeded}}
	if ops := tunnels.Diff([]tunnels.DeviceSpec{device}, []tunnels.Spec{{Device: "sk-d", PublicKey: public(10)}}, state); len(ops) > 0 {
		t.Errorf("steps on a device of unknown state: %v", ops)
	}
	if ops := tunnels.Diff(nil, nil, state); len(ops) != 1 || ops[0].Kind != tunnels.DeviceDelete {
		t.Errorf("a device nobody asks for goes whatever its state: %v", ops)
	}
}

func TestEngineThatTheSiteNames(t *testing.T) {
	device := tunnels.DeviceSpec{Name: "sk-d", LocalIP: netip.MustParseAddr("192.0.2.1"), Port: 1, MTU: 1420, PrivateKey: key(1)}
	peers := []tunnels.Spec{{Tunnel: "a", Device: "sk-d", PublicKey: public(10), AllowedIPs: []netip.Prefix{prefix(0)}}}
	kernel := &tunnelstest.Kernel{}
	for _, step := range []struct {
		engine tunnels.Engine
		ops    int
	}{{"", 2}, {tunnels.Userspace, 0}, {tunnels.Kernel, 3}, {tunnels.Kernel, 0}, {"", 0}} {
		device.Engine = step.engine
		ops := tunnels.Diff([]tunnels.DeviceSpec{device}, peers, observe(t, kernel))
		if len(ops) != step.ops {
			t.Errorf("engine %q: steps %v, want %d", step.engine, ops, step.ops)
		}
		for _, failure := range kernel.Apply(t.Context(), ops) {
			t.Error(failure)
		}
	}
	if got := observe(t, kernel)[0]; got.Engine != tunnels.Kernel || len(got.Peers) != 1 {
		t.Errorf("after all: %+v", got)
	}
}

func TestPlanShowsNoSecret(t *testing.T) {
	device := tunnels.DeviceSpec{Name: "sk-d", LocalIP: netip.MustParseAddr("192.0.2.1"), Port: 1, MTU: 1420, PrivateKey: key(1)}
	p := tunnels.Spec{Tunnel: "agency-a", Device: "sk-d", PublicKey: public(10), PresharedKey: key(50), Keepalive: 25 * time.Second, AllowedIPs: []netip.Prefix{prefix(0)}}
	state := []tunnels.DeviceState{{Name: "sk-d", PrivateKey: key(2), PublicKey: public(2), Up: true, Port: 2, MTU: 1420, Peers: map[tunnels.PublicKey]tunnels.PeerState{
		p.PublicKey: {PublicKey: p.PublicKey, PresharedKey: key(51)},
		public(11):  {PublicKey: public(11)},
	}}}
	got := fmt.Sprintf("%s", tunnels.Diff([]tunnels.DeviceSpec{device}, []tunnels.Spec{p}, state))
	want := "[update device sk-d (private key, port 2 -> 1) " +
		"update peer agency-a in sk-d (preshared key changed, keepalive 0s -> 25s, allowed IPs + 10.64.0.0/24) " +
		"delete peer " + public(11).String() + " in sk-d]"
	if got != want {
		t.Errorf("plan reads\n%s\nwant\n%s", got, want)
	}
	all := fmt.Sprintf("%v %+v %#v", state, p, device)
	if raw := key(50).Reveal(); strings.Contains(all, fmt.Sprint(raw[:])) || !strings.Contains(all, "[redacted]") {
		t.Errorf("a secret prints: %s", all)
	}
}
