package firewalltest

import (
	"path/filepath"
	"strings"
	"testing"

	"shekara/firewall"
	"shekara/netctl/nstest"
)

// goldensLoad: what the goldens hold is what the kernel takes, and it is found again without a difference.
func (e Engine) goldensLoad(t *testing.T) {
	files, err := filepath.Glob("../testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no goldens: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			p := Example(t, strings.TrimSuffix(filepath.Base(file), ".txtar"))
			if len(p.Limits) > 0 && !e.Limits {
				return
			}
			in := e.Open(t, nstest.Host(t, "box"))
			rules := load(t, in, p)
			if drift, err := in.Matches(t.Context(), rules); err != nil || len(drift) > 0 {
				t.Errorf("drift %q, %v", drift, err)
			}
		})
	}
}

// counters: what drops is counted under its ID, also across loads.
func (e Engine) counters(t *testing.T) {
	r := newRig(t, e)
	in := e.Open(t, r.box)
	p := connectionPolicy("10.64.1.1", "10.20.0.10", false)
	p.Ports = []firewall.TunnelPort{{Tunnel: "a", Device: "sk-a", From: pool["ext0"][0]}}
	load(t, in, p)
	read := func() (packets map[string]uint64) {
		packets = map[string]uint64{}
		r.box.Do(func() {
			all, err := in.loader.(counter).Counters(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for name, c := range all {
				packets[name] = c.Packets
			}
		})
		return packets
	}
	udp := packet{source: pool["sk-a"][0], to: pool["dmz0"][0], protocol: firewall.UDP, sport: 1, dport: 9, arriveOn: "sk-a"}
	spoof, port, short := udp, udp, udp
	spoof.arriveOn = "lan0"
	port.source, port.to, port.dport, port.arriveOn = pool["ext0"][1], p.Devices[0].LocalIP, 51820, "ext0"
	short.source, short.to, short.dport, short.arriveOn, short.short = pool["ext0"][0], p.Devices[0].LocalIP, 51820, "ext0", true
	for range 3 {
		for name, k := range map[string]packet{"forward.no_flow": udp, "prerouting.spoofed": spoof, "input.no_peer": port, "input.no_message": short} {
			before := read()
			r.send(k)
			r.arrived()
			if after := read(); after[name] <= before[name] {
				t.Errorf("%s stays %d", name, after[name])
			}
		}
		before := read()
		load(t, in, p)
		for name, n := range read() {
			if n < before[name] {
				t.Errorf("%s falls from %d to %d by a load", name, before[name], n)
			}
		}
	}
}
