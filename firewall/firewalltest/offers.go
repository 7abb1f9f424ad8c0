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
			in := e.Open(t, r.box)
			heard := listen(t, r)
			host := r.ends["sk-a"].host
			host.Address("eth0", f.far+map[bool]string{true: "/32", false: "/128"}[f.name == "IPv4"])
			p := offerPolicy(f)
			rules := load(t, in, p)
			x, _ := explainer(t, p)
			far, near, box := netip.MustParseAddr(f.far), netip.MustParseAddr(f.near), netip.MustParseAddr(f.box)
			good := packet{source: far, to: box, protocol: firewall.UDP, sport: 40000, dport: 123, arriveOn: "sk-a"}
			inside := good
			inside.source, inside.arriveOn = near, "dmz0"
			served := func(what string, k packet, want bool) {
				t.Helper()
				id := r.send(k)
				r.arrived()
				if got := heard()[id]; got != want {
					t.Errorf("%s: heard %v, want %v\n%s", what, got, want, r.state())
				}
			}
			judged := func(what string, k packet, want bool) {
				t.Helper()
				served(what, k, want)
				found := explain(t, x, k.explained())
				if found.Pass != want || want && found.BuiltIn != firewall.OwnService {
					t.Errorf("%s: explained as %+v, want %v", what, found, want)
				}
			}
			answered := func(what string, k packet, want bool) {
				t.Helper()
				back := packet{source: k.to, to: k.source, protocol: firewall.UDP, sport: k.dport, dport: k.sport}
				r.next++
				back.id = r.next
				if err := testbed.Send(r.box.Namespace, "", back.bytes(t, r.ends[k.arriveOn].mac, r.ends[k.arriveOn].mac)[14:]); err != nil {
					t.Fatal(err)
				}
				if _, there := r.arrived()[k.arriveOn][back.id]; there != want {
					t.Errorf("%s: answer arrives %v, want %v\n%s", what, there, want, r.state())
				}
			}
			for _, again := range []string{"first", "second"} {
				served(again+" request of a tunnel", good, true)
				answered(again+" request of a tunnel", good, true)
				served(again+" request of a zone", inside, true)
				answered(again+" request of a zone", inside, true)
			}
			good.sport, inside.sport = 40001, 40001
			judged("a tunnel", good, true)
			judged("a zone", inside, true)
			for what, change := range map[string]func(*packet){
				"another host of the tunnel's": func(k *packet) { k.source = far.Next() },
				"another port":                 func(k *packet) { k.dport = 53 },
				"another address of the box": func(k *packet) {
					k.to = netip.MustParseAddr(map[bool]string{true: "192.168.100.1", false: "fd00:100::1"}[box.Is4()])
				},
				"its source from another tunnel":     func(k *packet) { k.arriveOn = "sk-b" },
				"its source from a zone":             func(k *packet) { k.arriveOn = "ext0" },
				"another protocol's port number":     func(k *packet) { k.dport = 443 },
				"a zone that is not served":          func(k *packet) { k.source, k.arriveOn = netip.MustParseAddr(f.stranger), "lan0" },
				"what is served there, from another": func(k *packet) { k.source = near },
			} {
				k := good
				k.sport = 40002
				change(&k)
				judged(what, k, false)
			}
			if err := echo(t, r.box, host, f.far, f.box, 4460); err != nil {
				t.Errorf("TCP: %v", err)
			}
			if err := echo(t, r.box, host, f.far, f.box, 4461); err == nil {
				t.Error("TCP to a port that is not served is answered")
			}
			p.Offers = p.Offers[1:]
			less := compiled(t, p)
			add, remove := rules.Elements.Diff(less.Elements)
			if add.Count() != 0 || remove.Count() != 2 {
				t.Errorf("one client less is %d elements more and %d less, want 0 and 2", add.Count(), remove.Count())
			}
			if err := in.Change(t.Context(), nil, remove); err != nil {
				t.Fatal(err)
			}
			served("a tunnel, revoked", good, false)
			answered("a tunnel, revoked", good, false)
			served("a zone, still served", inside, true)
			answered("a zone, still served", inside, true)
			if err := in.Change(t.Context(), remove, nil); err != nil {
				t.Fatal(err)
			}
			served("a tunnel, again", good, true)
			answered("a tunnel, again", good, true)
		})
	}
}
