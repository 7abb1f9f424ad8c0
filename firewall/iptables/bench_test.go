package iptables_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"shekara/firewall/firewalltest"
	"shekara/netctl/iptables"
	"shekara/netctl/nstest"
)

func BenchmarkLoader(b *testing.B) {
	for _, v := range variants() {
		b.Run(string(v), func(b *testing.B) { firewalltest.BenchLoader(b, engine(v)) })
	}
}

// BenchmarkLinear loads a chain with one rule for each permission of the same policy, by iptables-restore: what is written by hand.
func BenchmarkLinear(b *testing.B) {
	for _, v := range variants() {
		for _, n := range []int{10, 1000, 10000} {
			b.Run(fmt.Sprintf("%s/load/%d", v, n), func(b *testing.B) {
				script := linear(n)
				host := nstest.Host(b, "box")
				host.Do(func() {
					tables, err := iptables.Open(v, false)
					if err != nil {
						b.Fatal(err)
					}
					for b.Loop() {
						if err := tables.Restore(b.Context(), script); err != nil {
							b.Fatal(err)
						}
					}
				})
			})
		}
	}
}

// linear is the chain of n tunnels.
func linear(n int) string {
	var w strings.Builder
	w.WriteString("*filter\n:LINEAR - [0:0]\n-A LINEAR -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT\n")
	for _, f := range firewalltest.TunnelPolicy(n).Flows {
		for _, s := range f.Services {
			side := map[bool]string{true: "-i", false: "-o"}[f.From.Device != ""]
			rule := fmt.Sprintf("-A LINEAR %s sk-agencies -s %s -d %s -p %d", side, text(f.Sources), text(f.Destinations), s.Protocol)
			if s.LastPort != 0 {
				rule += fmt.Sprintf(" --dport %d", s.FirstPort)
			}
			w.WriteString(rule + " -j ACCEPT\n")
		}
	}
	return w.String() + "-A LINEAR -j DROP\nCOMMIT\n"
}

func text(list []netip.Prefix) string { return list[0].String() }
