package firewalltest

import (
	"context"
	"encoding/binary"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shekara/firewall"
	"shekara/netctl/nflog"
)

// records listens to what the rig's box drops until the test ends.
func records(t *testing.T, r *rig) <-chan nflog.Record {
	t.Helper()
	var l *nflog.Listener
	r.box.Do(func() {
		var err error
		if l, err = nflog.Open(firewall.LogGroup); err != nil {
			t.Fatal(err)
		}
	})
	out := make(chan nflog.Record, 100_000)
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() {
		if err := l.Run(ctx, func(got nflog.Record) { out <- got }, func() { t.Error("records were lost") }); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); ended.Wait(); l.Close() })
	return out
}

// fence sends packets that are dropped until one of them is heard of, and returns what was heard before: then the listener listens, and has
// told of all that was recorded by then.
func (r *rig) fence(heard <-chan nflog.Record) (before []nflog.Record) {
	r.t.Helper()
	mark := packet{source: netip.MustParseAddr("10.64.77.77"), to: netip.MustParseAddr("10.20.0.77"), protocol: firewall.UDP, sport: uint16(r.next), arriveOn: "lan0"} // spoofed
	again := time.NewTicker(300 * time.Millisecond)                                                                                                                    // slower than the rate of records
	defer again.Stop()
	deadline := time.After(60 * time.Second) // only a broken rig waits so long
	for r.send(mark); ; {
		select {
		case got := <-heard:
			switch {
			case got.Head.Source.IsLinkLocalUnicast(): // the neighbours' own, about their groups
			case got.Head.Source != mark.source:
				before = append(before, got)
			case got.Head.SourcePort == mark.sport:
				return before
			}
		case <-again.C:
			r.send(mark)
		case <-deadline:
			r.t.Fatal("no record comes")
		}
	}
}

// droppedIsRecorded: each packet that the kernel drops comes as one record, with the ID that Explain has for it, its links and what it
// is; what passes is not recorded. The IDs are the same after a load.
func (e Engine) droppedIsRecorded(t *testing.T) {
	r := newRig(t, e)
	in := e.Open(t, r.box)
	p := connectionPolicy("10.64.1.1", "10.20.0.10", false)
	p.Ports = []firewall.TunnelPort{{Tunnel: "a", Device: "sk-a", From: pool["ext0"][0]}}
	load(t, in, p)
	heard := records(t, r)
	r.fence(heard)
	at := netip.MustParseAddr
	passes := packet{source: at("10.64.1.1"), to: at("10.20.0.10"), protocol: firewall.TCP, sport: 40000, dport: 443, arriveOn: "sk-a", deliverTo: "dmz0"}
	other, invalid, spoofed := passes, passes, passes
	other.dport, invalid.sport, invalid.flags, spoofed.arriveOn = 444, 40002, "SA", "adm0"
	echo := packet{source: at("fd00:64:1::1"), to: at("fd00:20::10"), protocol: firewall.ICMPv6, arriveOn: "sk-a", deliverTo: "dmz0"}
	tunnel := packet{source: pool["ext0"][1], to: p.Devices[0].LocalIP, protocol: firewall.UDP, sport: 51820, dport: 51820, arriveOn: "ext0"}
	short, local := tunnel, tunnel
	short.short, local.dport = true, 53
	cases := []struct {
		id     string
		packet packet
	}{{"", passes}, {"forward.no_flow", other}, {"forward.no_flow", echo}, {"forward.invalid", invalid}, {"prerouting.spoofed", spoofed}, {"input.no_peer", tunnel},
		{"input.no_message", short}, {"input.no_flow", local}}
	for _, added := range []string{"172.16.0.1", "172.16.0.2"} { // and other numbers of places
		explains, _ := explainer(t, p)
		var want []nflog.Record
		for _, c := range cases {
			explained := c.packet.explained()
			if c.packet.flags == "SA" {
				explained.Flags = 0x12
			}
			if x := explain(t, explains, explained); x.ID != c.id || x.Pass != (c.id == "") {
				t.Errorf("%+v: explained as %+v, want %q", c.packet, x, c.id)
			}
			r.send(c.packet)
			if c.id == "" {
				continue
			}
			k := c.packet
			frame := k.bytes(t, r.ends[k.arriveOn].mac, r.ends[k.arriveOn].boxMAC)
			made := nflog.Record{Prefix: c.id, In: k.arriveOn, Out: k.deliverTo, Head: nflog.Head{Source: k.source, Destination: k.to, Protocol: uint8(k.protocol), SourcePort: k.sport,
				DestinationPort: k.dport, Transport: true, Length: int(binary.BigEndian.Uint16(frame[16:]))}}
			if k.protocol == firewall.ICMPv6 {
				made.Head.Type, made.Head.Length = firewall.EchoRequest6, 40+int(binary.BigEndian.Uint16(frame[18:]))
			}
			if k.arriveOn == spoofed.arriveOn {
				made.Out = "" // it is not routed yet
			}
			want = append(want, made)
		}
		if diff := cmp.Diff(want, r.fence(heard), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("records (- want, + got)\n%s", diff)
		}
		p.Zones = append(p.Zones, firewall.Zone{Name: "a-zone-" + added, Prefixes: []netip.Prefix{single(added)}})
		load(t, in, p)
	}
}

// floodIsRecordedInPart: 50,000 dropped packets are all dropped and counted, the records of them are as few as the rule's rate allows, and
// of the flow beside them nothing is lost.
func (e Engine) floodIsRecordedInPart(t *testing.T) {
	const flood, batch = 50_000, 500
	r := newRig(t, e)
	in := e.Open(t, r.box)
	load(t, in, connectionPolicy("10.64.1.1", "10.20.0.10", false))
	heard := records(t, r)
	r.fence(heard)
	good := packet{source: netip.MustParseAddr("10.64.1.1"), to: netip.MustParseAddr("10.20.0.10"), protocol: firewall.UDP, sport: 40000, dport: 443, arriveOn: "sk-a"}
	bad := good
	bad.dport = 444
	r.expect("the flow", good, "dmz0")
	r.expect("what no flow allows", bad, "")
	begin := time.Now()
	lost, leaked, sent := 0, 0, 0
	for range flood / batch {
		passing, stopped := map[uint32]bool{}, map[uint32]bool{}
		for n := range batch {
			stopped[r.send(bad)] = true
			if n%10 == 0 {
				passing[r.send(good)] = true
			}
		}
		arrived := r.arrived()["dmz0"]
		for id := range passing {
			if _, there := arrived[id]; !there {
				lost++
			}
		}
		for id := range stopped {
			if _, there := arrived[id]; there {
				leaked++
			}
		}
		sent += len(passing)
	}
	recorded := 0
	for _, got := range r.fence(heard) {
		if got.Prefix == "forward.no_flow" {
			recorded++
		}
	}
	// 20 at once, and 5 a second for as long as it took, the test's own first packet among them.
	most := 20 + 5*int(time.Since(begin).Seconds()+1) + 1
	t.Logf("%d packets dropped, %d recorded in %s; %d of the flow beside them", flood, recorded, time.Since(begin).Round(time.Millisecond), sent)
	if recorded < 20 || recorded > most {
		t.Errorf("%d records, want 20 to %d", recorded, most)
	}
	if lost > 0 || leaked > 0 {
		t.Errorf("%d of %d packets of the flow were lost, %d of the flood arrived", lost, sent, leaked)
	}
	r.box.Do(func() {
		counted, err := in.loader.(counter).Counters(t.Context())
		if err != nil || counted["forward.no_flow"].Packets < flood {
			t.Errorf("%d packets are counted, %v", counted["forward.no_flow"].Packets, err)
		}
	})
}
