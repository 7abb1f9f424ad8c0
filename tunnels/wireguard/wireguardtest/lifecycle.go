package wireguardtest

import (
	"strings"
	"testing"

	"shekara/tunnels"
)

// isAdopted: a second driver, as after a restart of the daemon, finds the devices and goes on with them, and no packet is lost.
func isAdopted(t *testing.T, open Open) {
	s := newStar(t, open, 1)
	flow := s.ours.stream(s.far[0].site, inner(0))
	flow.atLeast(50)
	before := s.ours.peer(s.far[0].public)
	if err := s.ours.driver.Close(); err != nil {
		t.Fatal(err)
	}
	flow.atLeast(50)
	s.ours.driver = open(t, s.ours.H)
	if ops := s.ours.reconcile([]tunnels.DeviceSpec{s.device}, s.specs); len(ops) > 0 {
		t.Errorf("an adopted device takes steps: %v", ops)
	}
	s.specs[0].Keepalive = 25e9
	s.ours.reconcile([]tunnels.DeviceSpec{s.device}, s.specs)
	flow.atLeast(50)
	flow.mustLoseNothing()
	if after := s.ours.peer(s.far[0].public); after.ReceivedBytes <= before.ReceivedBytes || after.LastHandshake.Before(before.LastHandshake) {
		t.Errorf("the peer was %+v and is %+v", before, after)
	}
}

// comesBack: a device that vanishes is no device, and is made anew with all its peers.
func comesBack(t *testing.T, open Open) {
	s := newStar(t, open, 1)
	s.ours.Run("ip", "link", "del", s.device.Name)
	if state := s.ours.observe(); len(state) > 0 {
		t.Fatalf("a deleted link is observed: %+v", state)
	}
	ops := s.ours.reconcile([]tunnels.DeviceSpec{s.device}, s.specs)
	if len(ops) != 2 || ops[0].Kind != tunnels.DeviceAdd {
		t.Errorf("steps: %v", ops)
	}
	s.route()
	s.ours.ping(inner(0))

	// A link that is set down comes up, with its peers untouched.
	s.ours.Run("ip", "link", "set", s.device.Name, "down")
	if ops := s.ours.reconcile([]tunnels.DeviceSpec{s.device}, s.specs); len(ops) != 1 || ops[0].Kind != tunnels.DeviceUpdate {
		t.Errorf("steps: %v", ops)
	}
	s.route()
	s.ours.ping(inner(0))
}

// portInUse: a device whose port is taken fails with all its peers and leaves nothing behind; another device does not care.
func portInUse(t *testing.T, open Open) {
	ours := newSite(t, open, "ours")
	first, _ := device(t, ourV4, 51820)
	second, _ := device(t, ourV4, 51820)
	third, _ := device(t, ourV4, 51822)
	ours.reconcile([]tunnels.DeviceSpec{first}, nil)
	specs := append(bulk(t, second.Name, 3), bulk(t, third.Name, 3)...)
	devices := []tunnels.DeviceSpec{first, second, third}
	failures := ours.driver.Apply(t.Context(), tunnels.Diff(devices, specs, ours.observe()))
	if len(failures) != 4 {
		t.Fatalf("failures %v, want those of the device and its three peers", failures)
	}
	for _, f := range failures {
		if f.Op.Device.Name != second.Name || !strings.Contains(f.Err.Error(), "in use") {
			t.Errorf("failure reads %q", f.Error())
		}
	}
	if state := ours.observe(); len(state) != 2 {
		t.Errorf("%d devices are there, want 2", len(state))
	}
	second.Port = 51821
	ours.reconcile([]tunnels.DeviceSpec{first, second, third}, specs)
	second.MTU = 1300
	ours.reconcile([]tunnels.DeviceSpec{first, second, third}, specs)
	if got := ours.Run("ip", "-o", "link", "show", second.Name); !strings.Contains(got, "mtu 1300") {
		t.Errorf("link reads %s", got)
	}
}
