package proof_test

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"shekara/firewall"
	"shekara/firewall/proof"
	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
)

// estate is the site with n agencies, each with a peer, a flow to one of 200 hosts, echo and a probe; every tenth has IPv6 as well.
func estate(t testing.TB, n int) firewall.Policy {
	p := sitePolicy(t)
	p.Ports, p.Flows, p.Probes = nil, nil, nil
	services := []firewall.Service{{Protocol: firewall.TCP, FirstPort: 443, LastPort: 443}, {Protocol: firewall.ICMP}}
	for i := range n {
		name := fmt.Sprint("agency-", i)
		source := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64 + byte(i>>12), byte(i >> 4), byte(i << 4)}), 28)
		host := netip.AddrFrom4([4]byte{10, 20, 0, 1 + byte(i%200)})
		p.Ports = append(p.Ports, firewall.TunnelPort{Tunnel: name, Device: "sk-agencies", From: netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})})
		flow := firewall.Flow{Name: name, From: firewall.Place{Device: "sk-agencies"}, To: firewall.Place{Zone: "gateway-dmz"},
			Sources: []netip.Prefix{source}, Destinations: []netip.Prefix{netip.PrefixFrom(host, 32)}, Services: services}
		if i%10 == 0 {
			six := netip.AddrFrom16([16]byte{0xfd, 0, 0, 0x64, byte(i >> 8), byte(i)})
			flow.Sources = append(flow.Sources, netip.PrefixFrom(six, 48))
			flow.Destinations = append(flow.Destinations, netip.MustParsePrefix("fd00:20::10/128"))
		}
		p.Flows = append(p.Flows, flow)
		p.Probes = append(p.Probes, firewall.Probe{Tunnel: name, Device: "sk-agencies", Local: netip.MustParseAddr("10.20.0.10"), Remote: source.Addr().Next()})
	}
	return p
}

func BenchmarkProve(b *testing.B) {
	probetest.Need(b, probe.NFTables)
	for _, n := range []int{10, 1000, 10000} {
		b.Run(fmt.Sprintf("flows=%d", n), func(b *testing.B) {
			host := nstest.Host(b, "box")
			policy := estate(b, n)
			rules, err := firewall.Compile(policy)
			if err != nil {
				b.Fatal(err)
			}
			text, err := rules.Text(1)
			if err != nil {
				b.Fatal(err)
			}
			host.RunInput(text, "nft", "-f", "-")
			listing := []byte(host.Run("nft", "-n", "-j", "list", "ruleset"))
			b.ReportAllocs()
			var peak uint64
			nodes := 0
			for b.Loop() {
				loaded, err := proof.Decode(listing)
				if err != nil {
					b.Fatal(err)
				}
				result, err := proof.Prove(loaded, policy)
				if err != nil || result.Verdict != proof.Proved {
					b.Fatal(result, err)
				}
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				peak, nodes = max(peak, m.HeapSys), result.Nodes
			}
			b.ReportMetric(float64(peak)/(1<<20), "MiB-heap")
			b.ReportMetric(float64(nodes), "nodes")
		})
	}
}
