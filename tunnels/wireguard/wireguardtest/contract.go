package wireguardtest

import (
	"fmt"
	"net/netip"
	"testing"

	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
	"shekara/tunnels"
)

// Contract is what an engine must do. open makes a driver with that engine.
func Contract(t *testing.T, open Open) {
	probetest.Need(t, probe.Root, probe.Namespaces, probe.Tool("wg"), probe.Tool("ping"))
	for _, c := range []struct {
		name string
		run  func(*testing.T, Open)
	}{
		{"Passes", passes},
		{"ShowsInWG", showsInWG},
		{"OptionalFieldsGo", optionalFieldsGo},
		{"EditsHurtNobodyElse", editsHurtNobodyElse},
		{"ResetsOnePeer", resetsOnePeer},
		{"RefusesAlone", refusesAlone},
		{"OtherHandsAreUndone", otherHandsAreUndone},
		{"IsAdopted", isAdopted},
		{"ComesBack", comesBack},
		{"PortInUse", portInUse},
		{"LeavesFromItsAddress", leavesFromItsAddress},
		{"LeavesByItsUplink", leavesByItsUplink},
		{"MovesToTheOtherFamily", movesToTheOtherFamily},
		{"TenThousandPeers", tenThousandPeers},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, open) })
	}
}

const (
	ourV4, farV4 = "192.0.2.1", "192.0.2.2"
	ourV6, farV6 = "2001:db8::1", "2001:db8::2"
)

// star is our site with foreign peers around it, each on a line of its own: far[i] has 192.0.2.x outside, 10.0.(i+2).0/24 and
// fd00:(i+2)::/64 inside; we have 10.0.1.1 and fd00:1::1.
type star struct {
	ours   *site
	device tunnels.DeviceSpec
	public tunnels.PublicKey
	far    []*foreign
	specs  []tunnels.Spec
}

// newStar makes it so that every tunnel passes.
func newStar(t *testing.T, open Open, n int) *star {
	t.Helper()
	s := &star{ours: newSite(t, open, "ours")}
	s.device, s.public = device(t, "10.255.0.1", 51820)
	for i := range n {
		ours, theirs := fmt.Sprintf("192.0.2.%d", 4*i+1), fmt.Sprintf("192.0.2.%d", 4*i+2)
		f := newForeign(t, open, fmt.Sprintf("far%d", i), theirs, 51821)
		nstest.Link(t, s.ours.H, fmt.Sprintf("eth%d", i), []string{ours + "/30"}, f.H, "eth0", []string{theirs + "/30"})
		f.wg("peer", s.public.String(), "endpoint", ours+":51820", "allowed-ips", "10.0.1.0/24,fd00:1::/64")
		f.inside(f.device.Name, inner(i)+"/24", "10.0.1.0/24")
		s.far = append(s.far, f)
		s.specs = append(s.specs, tunnels.Spec{Tunnel: f.Name, Device: s.device.Name, LocalIP: s.device.LocalIP, PublicKey: f.public,
			Endpoint:   netip.MustParseAddrPort(theirs + ":51821"),
			AllowedIPs: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.0.%d.0/24", i+2)), netip.MustParsePrefix(fmt.Sprintf("fd00:%d::/64", i+2))}})
	}
	s.ours.reconcile([]tunnels.DeviceSpec{s.device}, s.specs)
	s.route()
	for i := range n {
		s.ours.ping(inner(i))
	}
	return s
}

// route gives our device its inner address and routes: what goes with the link.
func (s *star) route() {
	s.ours.t.Helper()
	s.ours.inside(s.device.Name, "10.0.1.1/24")
	for i := range s.far {
		s.ours.inside(s.device.Name, "10.0.1.1/24", fmt.Sprintf("10.0.%d.0/24", i+2))
	}
}

// inner is the inner address of the i-th foreign peer.
func inner(i int) string { return fmt.Sprintf("10.0.%d.1", i+2) }

// one makes one tunnel so, by DiffPeer alone, and fails unless the whole difference is empty afterwards.
func (s *star) one(spec tunnels.Spec) {
	s.ours.t.Helper()
	have, present := s.ours.observe()[0].Peers[spec.PublicKey]
	for _, failure := range s.ours.driver.Apply(s.ours.t.Context(), tunnels.DiffPeer(spec, have, present)) {
		s.ours.t.Fatal(failure)
	}
	after, present := s.ours.observe()[0].Peers[spec.PublicKey]
	if rest := tunnels.DiffPeer(spec, after, present); len(rest) > 0 && !spec.ForgetEndpoint {
		s.ours.t.Fatalf("there remains %v", rest)
	}
}
