package wireguardtest

import (
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"shekara/netctl/nstest"
	"shekara/tunnels"
)

// passes: a tunnel to a foreign peer carries packets of both families over an outside of either.
func passes(t *testing.T, open Open) {
	for _, outer := range []struct{ family, local, remote string }{{"v4", ourV4, farV4}, {"v6", ourV6, farV6}} {
		t.Run("outside "+outer.family, func(t *testing.T) {
			ours, far := newSite(t, open, "ours"), newForeign(t, open, "far", outer.remote, 51821)
			nstest.Link(t, ours.H, "eth0", []string{ourV4 + "/24", ourV6 + "/64"}, far.H, "eth0", []string{farV4 + "/24", farV6 + "/64"})
			d, public := device(t, outer.local, 51820)
			spec := tunnels.Spec{Tunnel: "far", Device: d.Name, PublicKey: far.public,
				Endpoint:   netip.AddrPortFrom(netip.MustParseAddr(outer.remote), far.device.Port),
				AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.0.2.0/24"), netip.MustParsePrefix("fd00:2::/64")}}
			ours.reconcile([]tunnels.DeviceSpec{d}, []tunnels.Spec{spec})
			far.wg("peer", public.String(), "allowed-ips", "10.0.1.0/24,fd00:1::/64")
			ours.inside(d.Name, "10.0.1.1/24", "10.0.2.0/24")
			ours.inside(d.Name, "fd00:1::1/64", "fd00:2::/64")
			far.inside(far.device.Name, "10.0.2.1/24", "10.0.1.0/24")
			far.inside(far.device.Name, "fd00:2::1/64", "fd00:1::/64")
			ours.ping("10.0.2.1")
			ours.ping("fd00:2::1")
			got := ours.peer(far.public)
			if got.LastHandshake.IsZero() || got.ReceivedBytes == 0 || got.SentBytes == 0 {
				t.Errorf("after pings the peer's state is %+v", got)
			}
			if again := ours.reconcile([]tunnels.DeviceSpec{d}, []tunnels.Spec{spec}); len(again) > 0 {
				t.Errorf("what is so already takes steps: %v", again)
			}
		})
	}
}

// showsInWG: what we observe is what wg(8) shows, field by field.
func showsInWG(t *testing.T, open Open) {
	s := newStar(t, open, 2)
	psk, _ := privateKey(t)
	s.specs[1].PresharedKey, s.specs[1].Keepalive = psk, 25*time.Second
	s.far[1].RunInput(text(psk), "wg", "set", s.far[1].device.Name, "peer", s.public.String(), "preshared-key", "/dev/stdin")
	s.one(s.specs[1])
	for i := range s.far {
		s.ours.ping(inner(i))
	}
	s.device.Mark = 0x5301
	s.ours.reconcile([]tunnels.DeviceSpec{s.device}, s.specs)

	line, peers := s.ours.dump(s.device.Name)
	if want := []string{text(s.ours.observe()[0].PrivateKey), s.public.String(), "51820", "0x5301"}; !slices.Equal(line, want) {
		t.Error("the device's line in wg show differs from what is observed") // not shown: it holds a key
	}
	for key, p := range s.ours.observe()[0].Peers {
		shown := peers[key.String()]
		psk, keepalive := "(none)", "off"
		if !p.PresharedKey.IsZero() {
			psk = text(p.PresharedKey)
		}
		if p.Keepalive > 0 {
			keepalive = strconv.Itoa(int(p.Keepalive / time.Second))
		}
		var prefixes []string
		for _, a := range p.AllowedIPs {
			prefixes = append(prefixes, a.String())
		}
		if len(shown) != 8 {
			t.Fatalf("wg shows %d fields of a peer", len(shown))
		}
		shownPrefixes := strings.Split(shown[3], ",")
		slices.Sort(shownPrefixes)
		slices.Sort(prefixes)
		if shown[1] != psk {
			t.Error("preshared key differs from wg's")
		}
		if shown[2] != p.Endpoint.String() || !slices.Equal(shownPrefixes, prefixes) || shown[7] != keepalive ||
			shown[4] != strconv.FormatInt(p.LastHandshake.Unix(), 10) {
			t.Errorf("wg shows %v, observed %+v", shown[2:], p)
		}
	}
}

// optionalFieldsGo: preshared key, keepalive and endpoint are removed from the device when they are removed from the spec.
func optionalFieldsGo(t *testing.T, open Open) {
	s := newStar(t, open, 2)
	bare := s.specs[0]
	full := bare
	full.PresharedKey, _ = privateKey(t)
	full.Keepalive = 25 * time.Second
	s.one(full)
	if _, peers := s.ours.dump(s.device.Name); peers[full.PublicKey.String()][1] == "(none)" || peers[full.PublicKey.String()][7] != "25" {
		t.Fatal("preshared key and keepalive were not set")
	}
	other := s.ours.peer(s.specs[1].PublicKey)
	bare.Endpoint, bare.ForgetEndpoint = netip.AddrPort{}, true
	s.one(bare)
	_, peers := s.ours.dump(s.device.Name)
	shown := peers[bare.PublicKey.String()]
	if shown[1] != "(none)" || shown[2] != "(none)" || shown[7] != "off" {
		t.Errorf("after removal wg shows endpoint %s, keepalive %s, preshared key removed %v", shown[2], shown[7], shown[1] == "(none)")
	}
	if p := s.ours.peer(other.PublicKey); p.Endpoint != other.Endpoint || p.ReceivedBytes < other.ReceivedBytes || p.LastHandshake.Before(other.LastHandshake) {
		t.Errorf("the other peer was %+v and is %+v", other, p)
	}
	// Without an endpoint of ours the far side can still come, and is learned.
	s.far[0].begins(s.public, "endpoint", "192.0.2.1:51820", "allowed-ips", "10.0.1.0/24")
	s.far[0].ping("10.0.1.1")
	if p := s.ours.peer(bare.PublicKey); p.Endpoint != s.specs[0].Endpoint {
		t.Errorf("endpoint learned is %s, want %s", p.Endpoint, s.specs[0].Endpoint)
	}
	bare.ForgetEndpoint = false
	if ops := tunnels.DiffPeer(bare, s.ours.peer(bare.PublicKey), true); len(ops) > 0 {
		t.Errorf("an endpoint that was learned is a difference: %v", ops)
	}
}

// refusesAlone: among good peers, the bad ones fail each for its reason and everything else is done.
func refusesAlone(t *testing.T, open Open) {
	ours := newSite(t, open, "ours")
	d, own := device(t, ourV4, 51820)
	specs := bulk(t, d.Name, 300)
	specs[17].PublicKey = own
	specs[100].PublicKey = tunnels.PublicKey{1} // of low order
	specs[200].Endpoint = netip.MustParseAddrPort("[2001:db8::2]:51820")
	want := map[string]string{"t17": "is that of device", "t100": "low order", "t200": "a device serves one address family"}

	for _, failure := range ours.driver.Apply(t.Context(), tunnels.Diff([]tunnels.DeviceSpec{d}, specs, nil)) {
		say, expected := want[failure.Op.Peer.Tunnel]
		if !expected || !strings.Contains(failure.Err.Error(), say) {
			t.Errorf("%v", failure)
		}
		delete(want, failure.Op.Peer.Tunnel)
	}
	if len(want) > 0 {
		t.Errorf("not refused: %v", want)
	}
	if got := len(ours.observe()[0].Peers); got != 297 {
		t.Errorf("%d of 297 good peers are there", got)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if failures := ours.driver.Apply(cancelled, []tunnels.Op{{Kind: tunnels.PeerAdd, Device: d, Peer: bulk(t, d.Name, 1)[0]}}); len(failures) != 1 {
		t.Errorf("after its context has ended Apply gives %v", failures)
	}
}

// otherHandsAreUndone: what somebody else puts into our devices goes, also a device of ours that nobody asked for; what is not a tunnel stays.
func otherHandsAreUndone(t *testing.T, open Open) {
	s := newStar(t, open, 1)
	_, stranger := privateKey(t)
	s.ours.Run("wg", "set", s.device.Name, "peer", stranger.String(), "allowed-ips", "10.0.2.0/24") // takes the prefix of far0
	leftover, _ := device(t, ourV4, 51900)
	if failures := s.ours.driver.Apply(t.Context(), []tunnels.Op{{Kind: tunnels.DeviceAdd, Device: leftover}}); len(failures) > 0 {
		t.Fatal(failures)
	}
	s.ours.Run("ip", "link", "add", "sk-bridge", "type", "bridge")
	ops := s.ours.reconcile([]tunnels.DeviceSpec{s.device}, s.specs)
	if len(ops) != 3 {
		t.Errorf("steps: %v; want the leftover deleted, far0 given its prefix, the stranger removed", ops)
	}
	s.ours.ping(inner(0))
	s.ours.Run("ip", "link", "show", "sk-bridge")
}
