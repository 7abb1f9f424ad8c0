package firewalltest

import (
	"fmt"
	"net/netip"
	"testing"

	"shekara/firewall"
	"shekara/netctl/nstest"
)

// tunnel is the share of tunnel number i: a port, a probe and two flows, one each way, with three services together.
func tunnel(i int) ([]firewall.TunnelPort, []firewall.Flow, []firewall.Probe) {
	far := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(64 + i>>12), byte(i >> 4), byte(i << 4)}), 28)
	near := netip.MustParsePrefix("10.20.0.10/32")
	device, dmz := firewall.Place{Device: "sk-agencies"}, firewall.Place{Zone: "gateway-dmz"}
	name := fmt.Sprintf("agency-%d", i)
	return []firewall.TunnelPort{{Tunnel: name, Device: "sk-agencies", From: netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})}},
		[]firewall.Flow{
			{Name: name + "-in", Tunnel: name, From: device, To: dmz, Sources: []netip.Prefix{far}, Destinations: []netip.Prefix{near},
				Services: []firewall.Service{{Protocol: firewall.TCP, FirstPort: 443, LastPort: 443}, {Protocol: firewall.ICMP}}},
			{Name: name + "-out", Tunnel: name, From: dmz, To: device, Sources: []netip.Prefix{near}, Destinations: []netip.Prefix{far},
				Services: []firewall.Service{{Protocol: firewall.TCP, FirstPort: 443, LastPort: 443}}}},
		[]firewall.Probe{{Tunnel: name, Device: "sk-agencies", Local: near.Addr(), Remote: far.Addr().Next()}}
}

// TunnelPolicy has n tunnels, with two flows each.
func TunnelPolicy(n int) firewall.Policy {
	p := Policy()
	p.Ports, p.Flows, p.Probes, p.Offers = nil, nil, nil, nil
	for i := range n {
		ports, flows, probes := tunnel(i)
		p.Ports, p.Flows, p.Probes = append(p.Ports, ports...), append(p.Flows, flows...), append(p.Probes, probes...)
	}
	return p
}

var sizes = []int{10, 1000, 10000}

// BenchCompile has the time from a policy to rules, at each number of tunnels.
func BenchCompile(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p := TunnelPolicy(n)
			for b.Loop() {
				if _, err := firewall.Compile(p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchLoader has, at each number of tunnels, the time of a whole load, of one tunnel added and of one removed, of a look
// with nothing changed, and of a look with everything listed and compared.
func BenchLoader(b *testing.B, e Engine) {
	for _, n := range sizes {
		base, err := firewall.CompileBase(TunnelPolicy(0))
		if err != nil {
			b.Fatal(err)
		}
		rules, err := firewall.Compile(TunnelPolicy(n))
		if err != nil {
			b.Fatal(err)
		}
		ports, flows, probes := tunnel(n)
		one, err := base.Elements(firewall.Policy{Ports: ports, Flows: flows, Probes: probes})
		if err != nil {
			b.Fatal(err)
		}
		host := nstest.Host(b, "box")
		l := e.Open(b, host)
		do := func(b *testing.B, f func() error) {
			host.Do(func() {
				for b.Loop() {
					if err := f(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		ctx := b.Context()
		load := func() error { return l.loader.Load(ctx, rules) }
		b.Run(fmt.Sprintf("load/%d", n), func(b *testing.B) { do(b, load) })
		b.Run(fmt.Sprintf("add-and-remove-one/%d", n), func(b *testing.B) {
			do(b, func() error {
				if err := l.loader.Change(ctx, one, nil); err != nil {
					return err
				}
				return l.loader.Change(ctx, nil, one)
			})
		})
		look := func() error {
			seen, err := l.loader.Observe(ctx)
			if err == nil && len(seen.Drift) > 0 {
				err = fmt.Errorf("drift: %q", seen.Drift)
			}
			return err
		}
		b.Run(fmt.Sprintf("observe-unchanged/%d", n), func(b *testing.B) { do(b, look) })
		b.Run(fmt.Sprintf("compare-all/%d", n), func(b *testing.B) {
			do(b, func() error {
				drift, err := l.loader.Matches(ctx, rules)
				if err == nil && len(drift) > 0 {
					err = fmt.Errorf("drift: %q", drift)
				}
				return err
			})
		})
	}
}
