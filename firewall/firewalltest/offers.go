package firewalltest

import (
	"net/netip"
	"testing"

	"shekara/firewall"
	testbed "shekara/testbed/packet"
)

// offerPolicy lets the time be asked for at the box's address, by far behind sk-a and by near in the screened subnet.
func offerPolicy(f family) firewall.Policy {
	p := rigPolicy()
	services := []firewall.Service{{Protocol: firewall.UDP, FirstPort: 123, LastPort: 123}, {Protocol: firewall.TCP, FirstPort: 4460, LastPort: 4460}}
	at := []netip.Addr{netip.MustParseAddr(f.box)}
	p.Offers = []firewall.Offer{{Name: "time", From: firewall.Place{Device: "sk-a"}, Sources: []netip.Prefix{single(f.far)}, Addresses: at, Services: services},
		{Name: "time", From: firewall.Place{Zone: "gateway-dmz"}, Sources: []netip.Prefix{single(f.near)}, Addresses: at, Services: services}}
	return p
}

// offers: who is named reaches the box for what it serves, at that address, from that place, and is answered; nobody else, for nothing else, and no
// longer than the offer stands. What is one element more is no reload.
func (e Engine) offers(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			r := newRig(t, e)
			o := &offering{rig: r, family: f, in: e.Open(t, r.box), heard: listen(t, r)}
			host := r.ends["sk-a"].host
			host.Address("eth0", f.far+map[bool]string{true: "/32", false: "/128"}[f.name == "IPv4"])
			p := offerPolicy(f)
			rules := load(t, o.in, p)
			o.explainer, _ = explainer(t, p)
			box := netip.MustParseAddr(f.box)
			tunnel := packet{source: netip.MustParseAddr(f.far), to: box, protocol: firewall.UDP, sport: 40000, dport: 123, arriveOn: "sk-a"}
			zone := tunnel
			zone.source, zone.arriveOn = netip.MustParseAddr(f.near), "dmz0"
			for _, again := range []string{"first", "second"} {
				o.served(t, again+" request of a tunnel", tunnel, true)
				o.answered(t, again+" request of a tunnel", tunnel, true)
				o.served(t, again+" request of a zone", zone, true)
				o.answered(t, again+" request of a zone", zone, true)
			}
			tunnel.sport, zone.sport = 40001, 40001
			o.judged(t, "a tunnel", tunnel, true)
			o.judged(t, "a zone", zone, true)
			o.strangers(t, tunnel)
			if err := echo(t, r.box, host, f.far, f.box, 4460, patient); err != nil {
				t.Errorf("TCP: %v", err)
			}
			if err := echo(t, r.box, host, f.far, f.box, 4461, impatient); err == nil {
				t.Error("TCP to a port that is not served is answered")
			}
			p.Offers = p.Offers[1:]
			add, remove := rules.Elements.Diff(compiled(t, p).Elements)
			if add.Count() != 0 || remove.Count() != 2 {
				t.Errorf("one client less is %d elements more and %d less, want 0 and 2", add.Count(), remove.Count())
			}
			if err := o.in.Change(t.Context(), nil, remove); err != nil {
				t.Fatal(err)
			}
			o.served(t, "a tunnel, revoked", tunnel, false)
			o.answered(t, "a tunnel, revoked", tunnel, false)
			o.served(t, "a zone, still served", zone, true)
			o.answered(t, "a zone, still served", zone, true)
			if err := o.in.Change(t.Context(), remove, nil); err != nil {
				t.Fatal(err)
			}
			o.served(t, "a tunnel, again", tunnel, true)
			o.answered(t, "a tunnel, again", tunnel, true)
		})
	}
}

// offering is a box that serves.
type offering struct {
	*rig
	family    family
	in        Inside
	heard     func() map[uint32]bool
	explainer *firewall.Explainer
}

// served sends a request, which the box hears or not.
func (o *offering) served(t *testing.T, what string, k packet, want bool) {
	t.Helper()
	id := o.send(k)
	o.arrived()
	if got := o.heard()[id]; got != want {
		t.Errorf("%s: heard %v, want %v\n%s", what, got, want, o.state())
	}
}

// judged is served, and explained so: the first packet of a connection.
func (o *offering) judged(t *testing.T, what string, k packet, want bool) {
	t.Helper()
	o.served(t, what, k, want)
	x := explain(t, o.explainer, k.explained())
	if x.Pass != want || want && x.BuiltIn != firewall.OwnService {
		t.Errorf("%s: explained as %+v, want %v", what, x, want)
	}
}

// answered lets the box answer a request, which leaves or not.
func (o *offering) answered(t *testing.T, what string, k packet, want bool) {
	t.Helper()
	back := packet{source: k.to, to: k.source, protocol: firewall.UDP, sport: k.dport, dport: k.sport}
	o.next++
	back.id = o.next
	end := o.ends[k.arriveOn]
	if err := testbed.Send(o.box.Namespace, "", back.bytes(t, end.mac, end.mac)[14:]); err != nil {
		t.Fatal(err)
	}
	if _, there := o.arrived()[k.arriveOn][back.id]; there != want {
		t.Errorf("%s: answer arrives %v, want %v\n%s", what, there, want, o.state())
	}
}

// strangers are one field away from a client.
func (o *offering) strangers(t *testing.T, client packet) {
	t.Helper()
	another := map[bool]string{true: "192.168.100.1", false: "fd00:100::1"}[client.to.Is4()]
	for what, change := range map[string]func(*packet){
		"another host of the tunnel's":     func(k *packet) { k.source = k.source.Next() },
		"another port":                     func(k *packet) { k.dport = 53 },
		"another address of the box":       func(k *packet) { k.to = netip.MustParseAddr(another) },
		"its source from another tunnel":   func(k *packet) { k.arriveOn = "sk-b" },
		"its source from a zone":           func(k *packet) { k.arriveOn = "ext0" },
		"a zone that is not served":        func(k *packet) { k.source, k.arriveOn = netip.MustParseAddr(o.family.stranger), "lan0" },
		"a zone's client, from the tunnel": func(k *packet) { k.source = netip.MustParseAddr(o.family.near) },
		"the tunnel's client, from a zone": func(k *packet) { k.arriveOn = "dmz0" },
	} {
		k := client
		k.sport = 40002
		change(&k)
		o.judged(t, what, k, false)
	}
}
