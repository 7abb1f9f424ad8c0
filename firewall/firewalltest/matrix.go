package firewalltest

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"shekara/firewall"
)

func addresses(list string) (out []netip.Addr) {
	for _, s := range strings.Fields(list) {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// pool is by link: addresses that live behind it.
var pool = map[string][]netip.Addr{
	"ext0": addresses("198.51.100.20 198.51.100.21 2001:db8:200::20 2001:db8:200::21"),
	"dmz0": addresses("10.20.0.10 10.20.0.11 fd00:20::10 fd00:20::11"),
	"lan0": addresses("10.30.0.10 10.30.0.130 fd00:30::10 fd00:30::130"),
	"adm0": addresses("192.168.100.17 192.168.100.40 fd00:100::16 fd00:100::40"),
	"sk-a": addresses("10.64.1.1 10.64.1.20 10.65.7.7 10.66.0.1 fd00:64:1::1 fd00:64:1::2 fd00:64:2::1"),
	"sk-b": addresses("10.96.1.1 10.97.0.9 fd00:96:1::1 fd00:96:2::1"),
}

// ofBox are the box's own addresses, by the zone's link.
var ofBox = map[string][]netip.Addr{
	"ext0": addresses("203.0.113.1 2001:db8:113::1"),
	"dmz0": addresses("10.20.0.1 fd00:20::1"),
	"adm0": addresses("192.168.100.1 fd00:100::1"),
}

var ports = []uint16{22, 53, 80, 123, 443, 8000, 8063, 8064, 8100, 8101, 51820, 51821}

// somePolicy adds random flows, ports, probes and offers to the rig's policy.
func somePolicy(random *rand.Rand) firewall.Policy {
	p := rigPolicy()
	services := []firewall.Service{
		{Protocol: firewall.TCP, FirstPort: 443, LastPort: 443}, {Protocol: firewall.TCP}, {Protocol: firewall.UDP},
		{Protocol: firewall.UDP, FirstPort: 8000, LastPort: 8100}, {Protocol: firewall.TCP, FirstPort: 22, LastPort: 80},
		{Protocol: firewall.UDP, FirstPort: 53, LastPort: 53}, {Protocol: firewall.ICMP}, {Protocol: firewall.ICMPv6},
		{Protocol: firewall.UDP, FirstPort: 1, LastPort: 65535},
	}
	links := []string{"ext0", "dmz0", "lan0", "adm0", "sk-a", "sk-b"}
	place := func(link string) firewall.Place {
		for _, i := range p.Interfaces {
			if i.Name == link {
				return firewall.Place{Zone: i.Zone}
			}
		}
		return firewall.Place{Device: link}
	}
	prefix := func(list []netip.Addr, is4 bool) netip.Prefix {
		for {
			a := list[random.IntN(len(list))]
			if a.Is4() != is4 {
				continue
			}
			lengths := []int{128, 128, 120, 64, 48, 0}
			if is4 {
				lengths = []int{32, 32, 32, 28, 25, 16, 0}
			}
			out, _ := a.Prefix(lengths[random.IntN(len(lengths))])
			return out
		}
	}
	for i := range 24 {
		from, to := links[random.IntN(len(links))], links[random.IntN(len(links))]
		destinations := append(append([]netip.Addr{}, pool[to]...), ofBox[to]...)
		is4 := i%2 == 0
		f := firewall.Flow{Name: "random", From: place(from), To: place(to),
			Sources:      []netip.Prefix{prefix(pool[from], is4)},
			Destinations: []netip.Prefix{prefix(destinations, is4)}}
		s := services[random.IntN(len(services))]
		if s.Protocol == firewall.ICMP && !is4 {
			s.Protocol = firewall.ICMPv6
		} else if s.Protocol == firewall.ICMPv6 && is4 {
			s.Protocol = firewall.ICMP
		}
		f.Services = []firewall.Service{s}
		p.Flows = append(p.Flows, f)
	}
	p.Ports = []firewall.TunnelPort{{Tunnel: "x", Device: "sk-a", From: pool["ext0"][0]}, {Tunnel: "y", Device: "sk-b", From: pool["ext0"][2]}}
	if random.IntN(2) == 0 {
		p.Ports = append(p.Ports, firewall.TunnelPort{Tunnel: "z", Device: "sk-b"}) // behind NAT
	}
	p.Probes = []firewall.Probe{{Tunnel: "x", Device: "sk-a", Local: ofBox["dmz0"][0], Remote: pool["sk-a"][0]},
		{Tunnel: "y", Device: "sk-b", Local: ofBox["dmz0"][1], Remote: pool["sk-b"][2]}}
	p.Offers = someOffers(random, p)
	return p
}

// someOffers are services of the box: the time, and now and then a range of ports, for some of those behind a few of the links. What cannot be compiled
// is left out, as nobody can ask for it.
func someOffers(random *rand.Rand, p firewall.Policy) (offers []firewall.Offer) {
	base, err := firewall.CompileBase(p)
	if err != nil {
		return nil // told by who compiles the whole
	}
	places := map[string]firewall.Place{"sk-a": {Device: "sk-a"}, "sk-b": {Device: "sk-b"}}
	for _, i := range p.Interfaces {
		places[i.Name] = firewall.Place{Zone: i.Zone}
	}
	for _, link := range []string{"sk-a", "sk-a", "sk-b", "lan0", "dmz0"} {
		client, to := pick(random, pool[link]), pick(random, slices.Concat(ofBox["dmz0"], ofBox["dmz0"], ofBox["adm0"], ofBox["ext0"]))
		if client.Is4() != to.Is4() {
			continue
		}
		lengths := []int{128, 64, 48}
		if client.Is4() {
			lengths = []int{32, 28, 24}
		}
		sources, _ := client.Prefix(pick(random, lengths))
		o := firewall.Offer{Name: "time", From: places[link], Sources: []netip.Prefix{sources}, Addresses: []netip.Addr{to},
			Services: []firewall.Service{{Protocol: firewall.UDP, FirstPort: 123, LastPort: 123}}}
		if random.IntN(3) == 0 {
			o.Services = append(o.Services, firewall.Service{Protocol: firewall.UDP, FirstPort: 8000, LastPort: 8063}, firewall.Service{Protocol: firewall.TCP, FirstPort: 4460, LastPort: 4460})
		}
		if _, err := base.Elements(firewall.Policy{Offers: []firewall.Offer{o}}); err == nil {
			offers = append(offers, o)
		}
	}
	return offers
}

// everyPacket is each source (also spoofed ones) on each link, to each destination, by each service.
func everyPacket(arriveOn string, source netip.Addr) (out []packet) {
	add := func(to netip.Addr, deliverTo string) {
		if to.Is4() != source.Is4() {
			return
		}
		k := packet{source: source, to: to, arriveOn: arriveOn, deliverTo: deliverTo}
		for _, dport := range ports {
			if k.dport, k.protocol = dport, firewall.UDP; true {
				out = append(out, k)
			}
			if deliverTo != "" {
				k.protocol = firewall.TCP
				out = append(out, k)
			}
		}
		if k.dport, k.protocol = 0, firewall.ICMPv6; to.Is4() {
			k.protocol = firewall.ICMP
		}
		if deliverTo != "" {
			out = append(out, k)
		}
	}
	for _, link := range rigLinks {
		for _, to := range pool[link.link] {
			add(to, link.link)
		}
		for _, to := range ofBox[link.link] {
			add(to, "")
		}
	}
	return out
}

// matrix sends every packet through random policies and compares what arrives with the reference, both ways: what should
// pass does (so that a silent rig cannot look like a strict filter), and what should not does not.
func (e Engine) matrix(t *testing.T) {
	r := newRig(t, e)
	loader := e.Open(t, r.box)
	heard := listen(t, r)
	rounds := 4
	if testing.Short() {
		rounds = 1
	}
	passed, stopped := 0, 0
	for seed := range uint64(rounds) {
		p := somePolicy(rand.New(rand.NewPCG(seed, 2)))
		rules, err := firewall.Compile(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := loader.Load(t.Context(), rules); err != nil {
			t.Fatal(err)
		}
		sport := uint16(1024)
		for _, arriveOn := range rigLinks {
			for _, home := range rigLinks {
				for _, source := range slices.Concat(pool[home.link], ofBox[home.link]) {
					sent := map[uint32]packet{}
					for _, k := range everyPacket(arriveOn.link, source) {
						if sport++; sport < 1024 || sport == 51820 || sport == 51821 {
							sport = 52000
						}
						k.sport = sport
						sent[r.send(k)] = k
					}
					here, local := r.arrived(), heard()
					for id, k := range sent {
						_, there := here[k.deliverTo][id]
						if k.deliverTo == "" {
							there = local[id]
						}
						want := allowed(p, k)
						if want {
							passed++
						} else {
							stopped++
						}
						if there != want {
							t.Errorf("seed %d: protocol %d from %s on %s to %s port %d via %q: arrives %v, want %v",
								seed, k.protocol, k.source, k.arriveOn, k.to, k.dport, k.deliverTo, there, want)
						}
						for link, seen := range here {
							if _, stray := seen[id]; stray && link != k.deliverTo {
								t.Errorf("seed %d: packet to %s strays to %s", seed, k.to, link)
							}
						}
					}
					if t.Failed() {
						t.Fatalf("first source with differences: %s on %s\n%s", source, arriveOn.link, r.state())
					}
				}
			}
		}
		r.box.Run("conntrack", "-F")
	}
	t.Logf("%d packets arrived as they should, %d did not as they should not", passed, stopped)
	if passed < 100 || stopped < 100 {
		t.Error("the policies are no test: too few packets of one kind")
	}
}

// listen opens all UDP ports of the matrix on the box. The returned function drains them: a datagram to itself is the fence.
func listen(t *testing.T, r *rig) func() map[uint32]bool {
	var sockets []*net.UDPConn
	r.box.Do(func() {
		for _, port := range ports {
			c, err := net.ListenUDP("udp", &net.UDPAddr{Port: int(port)})
			if err != nil {
				t.Fatal(err)
			}
			_ = c.SetReadBuffer(8 << 20)
			t.Cleanup(func() { c.Close() })
			sockets = append(sockets, c)
		}
	})
	return func() map[uint32]bool {
		out := map[uint32]bool{}
		buffer := make([]byte, 2048)
		for _, c := range sockets {
			port := c.LocalAddr().(*net.UDPAddr).Port
			if _, err := c.WriteToUDP([]byte("fence"), &net.UDPAddr{IP: net.IPv6loopback, Port: port}); err != nil {
				t.Fatal(err)
			}
			_ = c.SetReadDeadline(time.Now().Add(20 * time.Second)) // only a broken rig waits so long
			for {
				n, err := c.Read(buffer)
				if err != nil {
					t.Fatal(err)
				}
				if string(buffer[:n]) == "fence" {
					break
				}
				if n >= 8 && string(buffer[:4]) == "shek" {
					out[uint32(buffer[4])<<24|uint32(buffer[5])<<16|uint32(buffer[6])<<8|uint32(buffer[7])] = true
				}
			}
		}
		return out
	}
}
