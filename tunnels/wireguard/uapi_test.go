package wireguard

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shekara/netctl/secret"
	"shekara/tunnels"
)

// answer is what wg(8)'s own protocol page shows, with a second peer that has nothing.
const answer = `private_key=e84b5a6d2717c1003a13b431570353dbaca9146cf150c5f8575680feba52027a
listen_port=12912
fwmark=21249
public_key=b85996fecc9c7f1fc6d2572a76eda11d59bcd20be8e543b15ce4bd85a8e75a33
preshared_key=188515093e952f5f22e865cef3012e72f8b5f0b598ac0309d5dacce3b70fcf52
protocol_version=1
endpoint=[2001:db8::1]:51820
last_handshake_time_sec=1700000000
last_handshake_time_nsec=5
tx_bytes=38333
rx_bytes=2224
persistent_keepalive_interval=111
allowed_ip=192.168.4.4/32
allowed_ip=10.0.0.0/8
allowed_ip=2001:db8::/32
public_key=58402e695ba1772b1cc9309755f043251ea77fdcf10fbe63989ceb7e19321376
preshared_key=0000000000000000000000000000000000000000000000000000000000000000
last_handshake_time_sec=0
last_handshake_time_nsec=0
tx_bytes=0
rx_bytes=0
persistent_keepalive_interval=0
errno=0

`

func TestReadState(t *testing.T) {
	state, err := readState(strings.NewReader(answer))
	if err != nil {
		t.Fatal(err)
	}
	if state.Port != 12912 || state.Mark != 0x5301 || state.PrivateKey.IsZero() || state.PublicKey == (tunnels.PublicKey{}) || len(state.Peers) != 2 {
		t.Errorf("device %+v", state)
	}
	var names []string
	for key, p := range state.Peers {
		names = append(names, key.String())
		if p.PresharedKey.IsZero() {
			if diff := cmp.Diff(tunnels.PeerState{PublicKey: key}, p, cmp.Comparer(secret.Key.Equal), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
				t.Errorf("bare peer: %s", diff)
			}
			continue
		}
		want := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.168.4.4/32"), netip.MustParsePrefix("2001:db8::/32")}
		if !slices.Equal(p.AllowedIPs, want) || p.Endpoint.String() != "[2001:db8::1]:51820" || p.Keepalive != 111*time.Second ||
			p.SentBytes != 38333 || p.ReceivedBytes != 2224 || !p.LastHandshake.Equal(time.Unix(1700000000, 5)) {
			t.Errorf("full peer: %+v", p)
		}
	}
	if slices.Sort(names); len(names) != 2 {
		t.Errorf("peers %v", names)
	}
}

func TestReadStateRefuses(t *testing.T) {
	for text, say := range map[string]string{
		"":                      "unexpected EOF",
		"errno=0\n":             "unexpected EOF",
		"\n":                    "no errno",
		"errno=-22\n\n":         "invalid value (errno 22)",
		"listen_port=65536\n\n": "listen_port",
		"noise\n\n":             "without '='",
		"private_key=abc\n\n":   "private_key: key has 3 characters",
		"public_key=" + strings.Repeat("x", 64) + "\n\n": "not hexadecimal",
		strings.Repeat("a", 5000) + "=\n\n":              "buffer full",
	} {
		if _, err := readState(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("%.30q gives %v, want ...%s...", text, err, say)
		}
	}
}

// FuzzReadState: whatever a process answers, the result is an error or a state that can be written as requests; never a panic.
func FuzzReadState(f *testing.F) {
	f.Add([]byte(answer))
	f.Add([]byte("errno=0\n\n"))
	f.Add([]byte("public_key=\nallowed_ip=::/0\nerrno=1\n\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		state, err := readState(strings.NewReader(string(text)))
		if err != nil {
			if state.Peers != nil || !state.PrivateKey.IsZero() {
				t.Error("an error comes with a state")
			}
			return
		}
		for key, p := range state.Peers {
			if key != p.PublicKey || !slices.IsSortedFunc(p.AllowedIPs, netip.Prefix.Compare) {
				t.Errorf("peer %s: %+v", key, p)
			}
		}
	})
}

func testKey(t *testing.T, n byte) secret.Key {
	t.Helper()
	k, err := secret.NewKey([]byte(strings.Repeat(string(rune('a'+n)), 32)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestRequestText(t *testing.T) {
	public := tunnels.PublicKey{0xab}
	peer := tunnels.Spec{PublicKey: public, Keepalive: 25 * time.Second, Endpoint: netip.MustParseAddrPort("192.0.2.1:51820"),
		AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}}
	was := tunnels.PeerState{PublicKey: public, Endpoint: peer.Endpoint, AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.168.0.0/16")}}
	key := "public_key=ab" + strings.Repeat("0", 62) + "\n"
	noKey := "preshared_key=" + strings.Repeat("0", 64) + "\n"
	for _, c := range []struct {
		op   tunnels.Op
		want string
	}{
		{tunnels.Op{Kind: tunnels.PeerDelete, Peer: peer}, "set=1\n" + key + "remove=true\n"},
		{tunnels.Op{Kind: tunnels.PeerAdd, Peer: peer}, "set=1\n" + key + noKey + "endpoint=192.0.2.1:51820\npersistent_keepalive_interval=25\n" +
			"replace_allowed_ips=true\nallowed_ip=10.0.0.0/8\nallowed_ip=2001:db8::/32\n"},
		// An update names only the prefixes that differ, and an endpoint that is so already is not set: the far side may be mid-roam.
		{tunnels.Op{Kind: tunnels.PeerUpdate, Peer: peer, Was: was}, "set=1\n" + key + "update_only=true\n" + noKey +
			"persistent_keepalive_interval=25\nallowed_ip=2001:db8::/32\nallowed_ip=-192.168.0.0/16\n"},
	} {
		r := newRequest()
		r.peer(c.op)
		if diff := cmp.Diff(c.want, string(r.text)); diff != "" {
			t.Errorf("%s: %s", c.op.Kind, diff)
		}
	}
}

func TestRequestIsWiped(t *testing.T) {
	r := newRequest()
	peer := tunnels.Spec{PresharedKey: testKey(t, 0)}
	for range 100 { // past several growths
		r.peer(tunnels.Op{Kind: tunnels.PeerAdd, Peer: peer})
	}
	text := r.text
	if !strings.Contains(string(text), strings.Repeat("61", 32)) {
		t.Fatal("control: the request holds no key")
	}
	r.wipe()
	if strings.Contains(string(text[:cap(text)]), "6161") {
		t.Error("the request still holds a key")
	}
}

// refusing is an engine that refuses some peers, and does the others one by one as the real ones do.
type refusing struct {
	bad   map[tunnels.PublicKey]bool
	done  map[tunnels.PublicKey]int
	lost  bool // the device is gone
	calls int
}

func (r *refusing) change(_ context.Context, _ string, ops []tunnels.Op) error {
	r.calls++
	if r.lost {
		return errors.New("connection refused")
	}
	for _, op := range ops {
		if op.Kind == tunnels.PeerDelete {
			delete(r.done, op.Peer.PublicKey)
			continue
		}
		r.done[op.Peer.PublicKey]++ // half made, even if then refused
		if r.bad[op.Peer.PublicKey] {
			return refusal{22}
		}
	}
	return nil
}
func (*refusing) add(context.Context, tunnels.DeviceSpec) error { return errors.ErrUnsupported }
func (*refusing) set(context.Context, tunnels.DeviceSpec) error { return errors.ErrUnsupported }
func (*refusing) remove(context.Context, string) error          { return errors.ErrUnsupported }
func (*refusing) read(context.Context, string) (tunnels.DeviceState, error) {
	return tunnels.DeviceState{}, errors.ErrUnsupported
}

// TestRefusedStepFailsAlone: of a batch with refused ones, these fail and leave nothing half made, and all others are done.
func TestRefusedStepFailsAlone(t *testing.T) {
	e := &refusing{bad: map[tunnels.PublicKey]bool{{3}: true, {77}: true, {78}: true, {255}: true}, done: map[tunnels.PublicKey]int{}}
	var ops []tunnels.Op
	for i := range 256 {
		ops = append(ops, tunnels.Op{Kind: tunnels.PeerAdd, Peer: tunnels.Spec{PublicKey: tunnels.PublicKey{byte(i)}}})
	}
	failures, err := changeOrHalve(t.Context(), e, "sk-d", ops)
	if err != nil || len(failures) != len(e.bad) {
		t.Fatalf("failures %v, %v", failures, err)
	}
	for _, f := range failures {
		var refused refusal
		if !e.bad[f.Op.Peer.PublicKey] || !errors.As(f, &refused) {
			t.Errorf("failure %v", f)
		}
		if e.done[f.Op.Peer.PublicKey] > 0 {
			t.Errorf("refused peer %s is left half made", f.Op.Peer.PublicKey)
		}
	}
	if len(e.done) != 252 {
		t.Errorf("%d of 252 good peers are there", len(e.done))
	}
	if e.calls > 100 {
		t.Errorf("%d requests for 4 refused of 256", e.calls)
	}

	lost := &refusing{lost: true}
	if failures, err := changeOrHalve(t.Context(), lost, "sk-d", ops); err == nil || len(failures) != 256 || lost.calls != 1 {
		t.Errorf("a lost device is asked %d times and gives %d failures, %v", lost.calls, len(failures), err)
	}
}
