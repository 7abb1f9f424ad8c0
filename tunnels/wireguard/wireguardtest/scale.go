package wireguardtest

import (
	"testing"
	"time"

	"shekara/tunnels"
)

// tenThousandPeers live in one device: added, one of them changed, all but one removed, and the one with traffic loses nothing.
func tenThousandPeers(t *testing.T, open Open) {
	n := 10_000
	if testing.Short() {
		n = 1000
	}
	s := newStar(t, open, 1)
	many := bulk(t, s.device.Name, n)
	all := append(many, s.specs[0])
	flow := s.ours.stream(s.far[0].site, inner(0))
	flow.atLeast(50)
	began := time.Now()
	s.ours.reconcile([]tunnels.DeviceSpec{s.device}, all)
	t.Logf("%d peers added and observed twice in %s", n, time.Since(began).Round(time.Millisecond))
	flow.atLeast(50)

	began = time.Now()
	state := s.ours.observe()
	t.Logf("observed in %s", time.Since(began).Round(time.Microsecond))
	changed := many[n/2]
	changed.Keepalive = 25 * time.Second
	ops := tunnels.DiffPeer(changed, state[0].Peers[changed.PublicKey], true)
	began = time.Now()
	if failures := s.ours.driver.Apply(t.Context(), ops); len(failures) > 0 {
		t.Fatal(failures)
	}
	t.Logf("one changed in %s", time.Since(began).Round(time.Microsecond))
	if got := s.ours.observe()[0].Peers[changed.PublicKey]; got.Keepalive != changed.Keepalive {
		t.Errorf("changed peer has keepalive %s", got.Keepalive)
	}
	flow.atLeast(50)
	flow.mustLoseNothing()

	began = time.Now()
	s.ours.reconcile([]tunnels.DeviceSpec{s.device}, s.specs)
	t.Logf("removed and observed twice in %s", time.Since(began).Round(time.Millisecond))
	s.ours.ping(inner(0))
}
