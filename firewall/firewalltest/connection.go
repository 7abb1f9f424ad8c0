package firewalltest

import (
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"shekara/firewall"
	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
)

// families of the connection that the tests below open: from an agency behind sk-a to the screened subnet, TCP and UDP 443.
// family is one address family's addresses in the rig.
type family struct{ name, far, near, stranger, box, viaB string }

var families = []family{
	{"IPv4", "10.64.1.1", "10.20.0.10", "10.30.0.10", "10.20.0.1", "10.96.0.2"},
	{"IPv6", "fd00:64:1::1", "fd00:20::10", "fd00:30::10", "fd00:20::1", "fd00:96::2"},
}

func single(text string) netip.Prefix {
	a := netip.MustParseAddr(text)
	return netip.PrefixFrom(a, a.BitLen())
}

// connectionPolicy lets the agency reach the near side's port 443, and, if extra, also port 80.
func connectionPolicy(far, near string, extra bool) firewall.Policy {
	p := rigPolicy()
	services := []firewall.Service{{Protocol: firewall.TCP, FirstPort: 443, LastPort: 443}, {Protocol: firewall.UDP, FirstPort: 443, LastPort: 443}}
	flow := firewall.Flow{Name: "https", From: firewall.Place{Device: "sk-a"}, To: firewall.Place{Zone: "gateway-dmz"},
		Sources: []netip.Prefix{single(far)}, Destinations: []netip.Prefix{single(near)}, Services: services}
	p.Flows = []firewall.Flow{flow}
	if extra {
		flow.Name, flow.Services = "http", []firewall.Service{{Protocol: firewall.TCP, FirstPort: 80, LastPort: 80}, {Protocol: firewall.UDP, FirstPort: 80, LastPort: 80}}
		p.Flows = append(p.Flows, flow)
	}
	return p
}

func (r *rig) expect(what string, k packet, where string) {
	r.t.Helper()
	id := r.send(k)
	for link, seen := range r.arrived() {
		if _, there := seen[id]; there != (link == where) {
			r.t.Errorf("%s: at %s: %v, expected at %q\n%s", what, link, there, where, r.state())
		}
	}
}

func load(t testing.TB, in Inside, p firewall.Policy) firewall.Ruleset {
	t.Helper()
	rules, err := firewall.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Load(t.Context(), rules); err != nil {
		t.Fatal(err)
	}
	return rules
}

// connectionIsBound: an answer passes between the two places of its connection and nowhere else, and what is revoked ends
// at once, while what stays allowed does not notice.
func (e Engine) connectionIsBound(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			r := newRig(t, e)
			in := e.Open(t, r.box)
			rules := load(t, in, connectionPolicy(f.far, f.near, false))
			more, err := firewall.Compile(connectionPolicy(f.far, f.near, true))
			if err != nil {
				t.Fatal(err)
			}
			far, near := netip.MustParseAddr(f.far), netip.MustParseAddr(f.near)
			opening := packet{source: far, to: near, protocol: firewall.TCP, sport: 40000, dport: 443, arriveOn: "sk-a"}
			answer := packet{source: near, to: far, protocol: firewall.TCP, sport: 443, dport: 40000, flags: "SA", arriveOn: "dmz0"}
			then := opening
			then.flags = "A"

			r.expect("an answer to nothing", answer, "")
			r.expect("opening", opening, "dmz0")
			r.expect("answer", answer, "sk-a")
			r.expect("acknowledgement", then, "dmz0")

			// The way back is bent into another device: an answer must not follow.
			r.box.Run("ip", "route", "replace", single(f.far).String(), "via", f.viaB, "dev", "sk-b")
			answer.flags = "A"
			r.expect("answer, bent into another device", answer, "")
			r.box.Run("ip", "route", "del", single(f.far).String())
			r.expect("answer, straight again", answer, "sk-a")

			// And the way there: out through another zone's interface.
			end := r.ends["lan0"]
			via := map[bool]string{true: end.address, false: end.address6}[far.Is4()]
			r.box.Run("ip", "route", "replace", single(f.near).String(), "via", via, "dev", "lan0")
			r.expect("packet, bent into another zone", then, "")
			r.box.Run("ip", "route", "del", single(f.near).String())
			r.expect("packet, straight again", then, "dmz0")

			// The far side does not open through what answers pass by.
			back := packet{source: near, to: far, protocol: firewall.TCP, sport: 443, dport: 40001, arriveOn: "dmz0"}
			r.expect("opening from the wrong side", back, "")

			// Revoke something else: the connection goes on. Revoke it: it ends. Allow it again: it goes on.
			add, _ := rules.Elements.Diff(more.Elements)
			for _, step := range []struct{ add, remove firewall.Elements }{{add, nil}, {nil, add}} {
				if err := in.Change(t.Context(), step.add, step.remove); err != nil {
					t.Fatal(err)
				}
				r.expect("packet after another flow changed", then, "dmz0")
				r.expect("answer after another flow changed", answer, "sk-a")
			}
			if err := in.Change(t.Context(), nil, rules.Elements); err != nil {
				t.Fatal(err)
			}
			r.expect("packet of a revoked flow", then, "")
			r.expect("answer of a revoked flow", answer, "")
			if err := in.Change(t.Context(), rules.Elements, nil); err != nil {
				t.Fatal(err)
			}
			r.expect("answer after the flow is back", answer, "sk-a")
			r.expect("packet after the flow is back", then, "dmz0")

			// Whole loads, also with other numbers of places.
			wider := connectionPolicy(f.far, f.near, true)
			wider.Zones = append(wider.Zones, firewall.Zone{Name: "a-first-zone", Prefixes: []netip.Prefix{single("172.16.0.1")}})
			load(t, in, wider)
			r.expect("packet after a load", then, "dmz0")
			r.expect("answer after a load", answer, "sk-a")
			load(t, in, rigPolicy())
			r.expect("packet after a load without flows", then, "")
		})
	}
}

// pathMTU: a router's word that a packet was too big comes back through the filter to who sent it, if that packet passed;
// one about a packet that never passed does not.
func (e Engine) pathMTU(t *testing.T) {
	r := newRig(t, e)
	in := e.Open(t, r.box)
	for _, f := range families {
		load(t, in, connectionPolicy(f.far, f.near, false))
		far, near := netip.MustParseAddr(f.far), netip.MustParseAddr(f.near)
		end := r.ends["dmz0"]
		router := netip.MustParseAddr(map[bool]string{true: end.address, false: end.address6}[far.Is4()])
		for _, passes := range []bool{true, false} {
			k := packet{source: far, to: near, protocol: firewall.UDP, sport: 41000, dport: 443, arriveOn: "sk-a"}
			if !passes {
				k.dport = 444
			}
			k.id = r.send(k)
			if _, there := r.arrived()["dmz0"][k.id]; there != passes {
				t.Errorf("%s: packet arrives %v, want %v", f.name, there, passes)
			}
			transmit(t, end.socket, end.index, tooBig(t, router, k.bytes(t, end.boxMAC, end.mac), end))
			if _, there := r.arrived()["sk-a"][k.id|quoted]; there != passes {
				t.Errorf("%s: error about a packet that passed (%v) arrives %v\n%s", f.name, passes, there, r.state())
			}
		}
	}
}

// clampsMSS: what a SYN offers is lowered to the device's MTU, in both directions, and never raised.
func (e Engine) clampsMSS(t *testing.T) {
	r := newRig(t, e)
	in := e.Open(t, r.box)
	for i, f := range families {
		load(t, in, connectionPolicy(f.far, f.near, false))
		far, near := netip.MustParseAddr(f.far), netip.MustParseAddr(f.near)
		for where, k := range map[string]packet{
			"dmz0": {source: far, to: near, protocol: firewall.TCP, sport: 40000, dport: 443, arriveOn: "sk-a"},
			"sk-a": {source: near, to: far, protocol: firewall.TCP, sport: 443, dport: 40000, flags: "SA", arriveOn: "dmz0"},
		} {
			if where == "sk-a" {
				r.send(packet{source: far, to: near, protocol: firewall.TCP, sport: 40000, dport: 443, arriveOn: "sk-a"})
			}
			id := r.send(k)
			got, ok := r.arrived()[where][id]
			if !ok {
				t.Fatalf("%s: SYN does not arrive at %s", f.name, where)
			}
			option := got.Layer(layers.LayerTypeTCP).(*layers.TCP).Options[0]
			mss, want := int(option.OptionData[0])<<8|int(option.OptionData[1]), 1420-40-20*i
			if mss != want {
				t.Errorf("%s: MSS at %s is %d, want %d", f.name, where, mss, want)
			}
		}
	}
}

// outerSource: a packet with a device's mark leaves from the device's address, in its family, and never into a tunnel.
func (e Engine) outerSource(t *testing.T) {
	probetest.Need(t, probe.Tool("socat"))
	r := newRig(t, e)
	in := e.Open(t, r.box)
	load(t, in, rigPolicy())
	x, _ := explainer(t, rigPolicy())
	r.box.Run("ip", "addr", "add", "203.0.113.5/32", "dev", "ext0")
	const mark = "1397424129" // 0x534b0001 is of sk-a: IPv4, 203.0.113.1. 1:36 is SOL_SOCKET, SO_MARK
	for _, c := range []struct {
		what, option, to, bind, link string
		arrives                      bool
	}{
		{"marked, from the device's address", "setsockopt=1:36:" + mark, "UDP4-SENDTO:198.51.100.20:51820", "203.0.113.1:51820", "ext0", true},
		{"marked, from another address", "setsockopt=1:36:" + mark, "UDP4-SENDTO:198.51.100.20:51820", "203.0.113.5:51820", "ext0", false},
		{"not marked, from another address", "setsockopt=1:36:0", "UDP4-SENDTO:198.51.100.20:51820", "203.0.113.5:51820", "ext0", true},
		{"marked, of the other family", "setsockopt=1:36:" + mark, "UDP6-SENDTO:[2001:db8:200::20]:51820", "[2001:db8:113::1]:51820", "ext0", false},
		{"not marked, of the other family", "setsockopt=1:36:0", "UDP6-SENDTO:[2001:db8:200::20]:51820", "[2001:db8:113::1]:51820", "ext0", true},
		{"marked, into a tunnel", "setsockopt=1:36:" + mark, "UDP4-SENDTO:10.96.1.1:51820", "203.0.113.1:51820", "sk-b", false},
		{"not marked, into a tunnel without a flow", "setsockopt=1:36:0", "UDP4-SENDTO:10.96.1.1:51820", "203.0.113.1:51820", "sk-b", false},
	} {
		r.next++
		payload := string([]byte{'s', 'h', 'e', 'k', byte(r.next >> 24), byte(r.next >> 16), byte(r.next >> 8), byte(r.next)})
		id := r.next
		// Refused by the filter: socat ends with "operation not permitted", which is not the test's matter.
		out, _ := r.box.TryInput(payload, "socat", "-u", "STDIN", c.to+",bind="+c.bind+","+c.option)
		if _, there := r.arrived()[c.link][id]; there != c.arrives {
			t.Errorf("%s: arrives %v, want %v\n%s%s", c.what, there, c.arrives, out, r.state())
		}
		from, to := netip.MustParseAddrPort(c.bind), netip.MustParseAddrPort(c.to[strings.Index(c.to, ":")+1:])
		sent := firewall.Packet{To: c.link, Source: from.Addr(), Destination: to.Addr(), Protocol: firewall.UDP, SourcePort: from.Port(), DestinationPort: to.Port()}
		if strings.HasSuffix(c.option, mark) {
			sent.Mark = 0x534b0001
		}
		if found := explain(t, x, sent); found.Pass != c.arrives {
			t.Errorf("%s: explained as %+v, want %v", c.what, found, c.arrives)
		}
	}
}

// boxAndTunnels: probes both ways, flows from and to the box's own address, and no more than those.
func (e Engine) boxAndTunnels(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			r := newRig(t, e)
			in := e.Open(t, r.box)
			far := r.ends["sk-a"].host
			ours, theirs := netip.MustParseAddr(f.box), netip.MustParseAddr(f.far)
			length := map[bool]string{true: "/32", false: "/128"}[ours.Is4()]
			far.Address("eth0", f.far+length)
			admin := r.ends["adm0"].host
			box := map[bool]string{true: "192.168.100.1", false: "fd00:100::1"}[ours.Is4()]
			mine := map[bool]string{true: "192.168.100.17", false: "fd00:100::16"}[ours.Is4()]
			admin.Address("eth0", mine+length)
			p := rigPolicy()
			p.Probes = []firewall.Probe{{Tunnel: "a", Device: "sk-a", Local: ours, Remote: theirs}}
			without := load(t, in, rigPolicy())
			ping := func(h *nstest.H, from, to string, works bool) {
				t.Helper()
				wait := "-W1"
				if works {
					wait = "-W10"
				}
				if out, err := h.Try("ping", "-c1", wait, "-I", from, to); (err == nil) != works {
					t.Errorf("ping on %s from %s to %s: %v, want %v\n%s%s", h.Name, from, to, err, works, out, r.state())
				}
			}
			ping(r.box, f.box, f.far, false)
			ping(far, f.far, f.box, false)
			with, err := firewall.Compile(p)
			if err != nil {
				t.Fatal(err)
			}
			add, _ := without.Elements.Diff(with.Elements)
			if err := in.Change(t.Context(), add, nil); err != nil {
				t.Fatal(err)
			}
			ping(r.box, f.box, f.far, true)
			ping(far, f.far, f.box, true)

			// A flow whose source is this box: TCP to an echo server at the far side; its other ports stay shut.
			p.Flows = []firewall.Flow{{Name: "out", From: firewall.Place{Zone: "gateway-dmz"}, To: firewall.Place{Device: "sk-a"},
				Sources: []netip.Prefix{single(f.box)}, Destinations: []netip.Prefix{single(f.far)},
				Services: []firewall.Service{{Protocol: firewall.TCP, FirstPort: 7, LastPort: 7}}}}
			load(t, in, p)
			if err := echo(t, far, r.box, f.box, f.far, 7, patient); err != nil {
				t.Errorf("flow from this box: %v", err)
			}
			if err := echo(t, far, r.box, f.box, f.far, 8, impatient); err == nil {
				t.Error("no flow from this box to port 8, but it answers")
			}
			// A flow to the whole subnet ends at its hosts, not at the box's own address in it.
			host := r.ends["dmz0"].host
			inDMZ := map[bool]string{true: r.ends["dmz0"].address, false: r.ends["dmz0"].address6}[ours.Is4()]
			subnet, _ := ours.Prefix(map[bool]int{true: 24, false: 64}[ours.Is4()])
			p.Flows = []firewall.Flow{{Name: "in", From: firewall.Place{Device: "sk-a"}, To: firewall.Place{Zone: "gateway-dmz"},
				Sources: []netip.Prefix{single(f.far)}, Destinations: []netip.Prefix{subnet}, Services: []firewall.Service{{Protocol: firewall.TCP}}}}
			load(t, in, p)
			if err := echo(t, host, far, f.far, inDMZ, 7, patient); err != nil {
				t.Errorf("flow to a host of the subnet: %v", err)
			}
			if err := echo(t, r.box, far, f.far, f.box, 7, impatient); err == nil {
				t.Error("no flow leads to the box itself, but it answers")
			}
			// Management by its zone, from its prefix only.
			if err := echo(t, r.box, admin, mine, box, 22, patient); err != nil {
				t.Errorf("management: %v", err)
			}
			if err := echo(t, r.box, admin, mine, box, 23, impatient); err == nil {
				t.Error("no management on port 23, but it answers")
			}
		})
	}
}

// replacedUnderTraffic: while the ruleset is replaced 200 times no packet of an established flow is lost, and none passes that no version allows.
func (e Engine) replacedUnderTraffic(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			e.underTraffic(t, f, e.times(200), func(in Inside, i int) error {
				return in.Load(t.Context(), compiled(t, connectionPolicy(f.far, f.near, i%2 == 0)))
			})
		})
	}
}

// adoptedUnderTraffic: the same while as many new daemons look at what is loaded.
func (e Engine) adoptedUnderTraffic(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			rules := compiled(t, connectionPolicy(f.far, f.near, false))
			e.underTraffic(t, f, e.times(50), func(in Inside, _ int) (err error) {
				in.host.Do(func() { in.loader, err = e.New(t.Context()) })
				if err != nil {
					return err
				}
				drift, err := in.Matches(t.Context(), rules)
				if len(drift) > 0 {
					t.Errorf("drift where nothing drifted: %q", drift)
				}
				return err
			})
		})
	}
}

// takenOverUnderTraffic: the same while new daemons look, each finds what is not as it should be, and loads that. So begins a daemon that finds the
// time for confirming over.
func (e Engine) takenOverUnderTraffic(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			e.underTraffic(t, f, e.times(20), func(in Inside, i int) (err error) {
				in.host.Do(func() { in.loader, err = e.New(t.Context()) })
				if err != nil {
					return err
				}
				rules := compiled(t, connectionPolicy(f.far, f.near, i%2 == 0))
				drift, err := in.Matches(t.Context(), rules)
				if err != nil {
					return err
				}
				if len(drift) == 0 {
					t.Error("another ruleset is asked for than is there, and nothing differs")
				}
				return in.Load(t.Context(), rules)
			})
		})
	}
}

// changedUnderTraffic: the same while flows of the same source, and of another, come and go.
func (e Engine) changedUnderTraffic(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			p := connectionPolicy(f.far, f.near, false)
			few := compiled(t, p)
			p = connectionPolicy(f.far, f.near, true)
			p.Flows = append(p.Flows, firewall.Flow{Name: "another", From: p.Flows[0].From, To: p.Flows[0].To, Services: p.Flows[0].Services,
				Sources: []netip.Prefix{single(netip.MustParseAddr(f.far).Next().String())}, Destinations: p.Flows[0].Destinations})
			more, _ := few.Elements.Diff(compiled(t, p).Elements)
			e.underTraffic(t, f, e.times(200), func(in Inside, i int) error {
				if i%2 == 0 {
					return in.Change(t.Context(), more, nil)
				}
				return in.Change(t.Context(), nil, more)
			})
		})
	}
}

func (e Engine) times(n int) int {
	if testing.Short() {
		n /= 10
	}
	if e.Slow {
		n /= 5
	}
	return max(n, 1)
}

// underTraffic does something to the filter as many times, while packets of an established flow and forbidden ones are sent.
func (e Engine) underTraffic(t *testing.T, f family, times int, act func(Inside, int) error) {
	t.Helper()
	r := newRig(t, e)
	in := e.Open(t, r.box)
	load(t, in, connectionPolicy(f.far, f.near, false))
	far, near := netip.MustParseAddr(f.far), netip.MustParseAddr(f.near)
	good := packet{source: far, to: near, protocol: firewall.UDP, sport: 40000, dport: 443, arriveOn: "sk-a"}
	back := packet{source: near, to: far, protocol: firewall.UDP, sport: 443, dport: 40000, arriveOn: "dmz0"}
	bad := packet{source: far, to: near, protocol: firewall.UDP, sport: 40000, dport: 444, arriveOn: "sk-a"}
	sideways := packet{source: far, to: netip.MustParseAddr(f.stranger), protocol: firewall.UDP, sport: 40000, dport: 443, arriveOn: "sk-a"}
	r.expect("opening", good, "dmz0")

	var acting sync.WaitGroup
	done := make(chan struct{})
	acting.Go(func() {
		defer close(done)
		for i := range times {
			if err := act(in, i); err != nil {
				t.Error(err)
				return
			}
		}
	})
	sent, lost, leaked := 0, 0, 0
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		var passing, forbidden []uint32
		for range 50 {
			passing = append(passing, r.send(good), r.send(back))
			forbidden = append(forbidden, r.send(bad), r.send(sideways))
		}
		seen := r.arrived()
		for i, id := range passing {
			if _, there := seen[[]string{"dmz0", "sk-a"}[i%2]][id]; !there {
				lost++
			}
		}
		for _, id := range forbidden {
			for _, at := range seen {
				if _, there := at[id]; there {
					leaked++
				}
			}
		}
		sent += len(passing)
	}
	acting.Wait()
	t.Logf("%d times, %d packets of the established flow sent and as many forbidden ones", times, sent)
	if lost > 0 || leaked > 0 {
		t.Errorf("of %d packets %d were lost, and %d forbidden ones arrived", sent, lost, leaked)
	}
}

// errorsDoNotRevive: an ICMP error about a connection that was revoked does not let the connection live again, even where ICMP between
// the same two hosts is allowed. Firewall/proof found that it did.
func (e Engine) errorsDoNotRevive(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			r := newRig(t, e)
			in := e.Open(t, r.box)
			p := connectionPolicy(f.far, f.near, false)
			ping := p.Flows[0]
			ping.Name, ping.Services = "ping", []firewall.Service{{Protocol: firewall.ICMP}}
			if f.name == "IPv6" {
				ping.Services[0].Protocol = firewall.ICMPv6
			}
			p.Flows = append(p.Flows, ping)
			load(t, in, p)
			far, near := netip.MustParseAddr(f.far), netip.MustParseAddr(f.near)
			opening := packet{source: far, to: near, protocol: firewall.TCP, sport: 40000, dport: 443, arriveOn: "sk-a"}
			answer := packet{source: near, to: far, protocol: firewall.TCP, sport: 443, dport: 40000, flags: "SA", arriveOn: "dmz0"}
			then := opening
			then.flags = "A"
			r.expect("opening", opening, "dmz0")
			r.expect("answer", answer, "sk-a")
			r.expect("before it is revoked", then, "dmz0")
			p.Flows = p.Flows[1:]
			load(t, in, p)
			r.expect("revoked", then, "")
			from := r.ends["dmz0"]
			transmit(t, from.socket, from.index, tooBig(t, near, then.bytes(t, from.boxMAC, from.mac), from))
			r.expect("revoked, after an error about it", then, "")
			echo := packet{source: far, to: near, protocol: ping.Services[0].Protocol, sport: 7, arriveOn: "sk-a"}
			r.expect("what is still allowed", echo, "dmz0")
		})
	}
}
