package wireguardtest

import (
	"net/netip"
	"testing"
	"time"

	"shekara/netctl/secret"
	"shekara/tunnels"
)

// editsHurtNobodyElse: peer A is edited in many ways amid traffic of peer B, of which no packet is lost and whose counters only grow.
func editsHurtNobodyElse(t *testing.T, open Open) {
	s := newStar(t, open, 2)
	idle := s.ours.stream(s.far[1].site, inner(1))
	idle.atLeast(200)
	idle.mustLoseNothing() // the control: nothing is lost when nothing is done

	flow := s.ours.stream(s.far[1].site, inner(1))
	flow.atLeast(50)
	good := s.specs[0]
	last := s.ours.peer(s.specs[1].PublicKey)
	for name, edit := range edits(t, s) {
		a := good
		edit(&a)
		s.one(a)
		flow.atLeast(20)
		now := s.ours.peer(s.specs[1].PublicKey)
		if now.ReceivedBytes <= last.ReceivedBytes || now.SentBytes <= last.SentBytes || now.LastHandshake.Before(last.LastHandshake) || now.Endpoint != last.Endpoint {
			t.Errorf("after %s B went from %+v to %+v", name, last, now)
		}
		last = now
		if a.PublicKey != good.PublicKey {
			s.delete(a.PublicKey)
		}
		s.one(good)
	}
	s.delete(good.PublicKey)
	flow.atLeast(20)
	s.one(good)
	flow.mustLoseNothing()
	s.ours.ping(inner(0)) // and A is whole again
}

func (s *star) delete(key tunnels.PublicKey) {
	s.ours.t.Helper()
	op := tunnels.Op{Kind: tunnels.PeerDelete, Device: tunnels.DeviceSpec{Name: s.device.Name}, Peer: tunnels.Spec{PublicKey: key}}
	if failures := s.ours.driver.Apply(s.ours.t.Context(), []tunnels.Op{op}); len(failures) > 0 {
		s.ours.t.Fatal(failures)
	}
}

func edits(t *testing.T, s *star) map[string]func(*tunnels.Spec) {
	wrongKey, _ := privateKey(t)
	_, stranger := privateKey(t)
	return map[string]func(*tunnels.Spec){
		"a preshared key the far side lacks": func(a *tunnels.Spec) { a.PresharedKey = wrongKey },
		"no preshared key":                   func(a *tunnels.Spec) { a.PresharedKey = secret.Key{} },
		"keepalive of a second":              func(a *tunnels.Spec) { a.Keepalive = time.Second },
		"an endpoint where nobody is":        func(a *tunnels.Spec) { a.Endpoint = netip.MustParseAddrPort("192.0.2.99:9") },
		"an endpoint that is B's":            func(a *tunnels.Spec) { a.Endpoint = s.specs[1].Endpoint },
		"the endpoint forgotten":             func(a *tunnels.Spec) { a.Endpoint, a.ForgetEndpoint = netip.AddrPort{}, true },
		"a prefix more": func(a *tunnels.Spec) {
			a.AllowedIPs = append([]netip.Prefix{netip.MustParsePrefix("10.99.0.0/16")}, a.AllowedIPs...)
		},
		"a prefix less":       func(a *tunnels.Spec) { a.AllowedIPs = a.AllowedIPs[:1] },
		"no prefix":           func(a *tunnels.Spec) { a.AllowedIPs = nil },
		"a prefix around B's": func(a *tunnels.Spec) { a.AllowedIPs = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} },
		"all IPv4":            func(a *tunnels.Spec) { a.AllowedIPs = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")} },
		"five hundred prefixes": func(a *tunnels.Spec) {
			for i := range 500 {
				a.AllowedIPs = append(a.AllowedIPs, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77, byte(i >> 8), byte(i)}), 32))
			}
		},
		"another public key": func(a *tunnels.Spec) { a.PublicKey = stranger },
	}
}

// resetsOnePeer: a reset peer has all it had, counts from nothing and shakes hands anew, while the other loses nothing.
func resetsOnePeer(t *testing.T, open Open) {
	s := newStar(t, open, 2)
	a := s.specs[0]
	a.PresharedKey, _ = privateKey(t)
	a.Keepalive = 55 * time.Second
	s.one(a)
	flow := s.ours.stream(s.far[1].site, inner(1))
	flow.atLeast(50)
	if err := s.ours.driver.ResetPeer(t.Context(), s.device.Name, a.PublicKey); err != nil {
		t.Fatal(err)
	}
	flow.atLeast(50)
	flow.mustLoseNothing()
	got := s.ours.peer(a.PublicKey)
	if ops := tunnels.DiffPeer(a, got, true); len(ops) > 0 {
		t.Errorf("the reset peer lost something: %v", ops)
	}
	if !got.LastHandshake.IsZero() || got.ReceivedBytes != 0 {
		t.Errorf("the peer was not reset: %+v", got)
	}
	s.one(s.specs[0])
	s.ours.ping(inner(0))
	if err := s.ours.driver.ResetPeer(t.Context(), s.device.Name, tunnels.PublicKey{9}); err == nil {
		t.Error("a peer that is not there is reset")
	}
}
