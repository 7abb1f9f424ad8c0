package iptables_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"shekara/firewall"
	whole "shekara/firewall/engine"
	"shekara/firewall/firewalltest"
	"shekara/firewall/proof"
	door "shekara/netctl/iptables"
	"shekara/netctl/nstest"
)

// listed is what the daemon's prover reads of a host.
func listed(host *nstest.H) (l whole.Listing, err error) {
	host.Do(func() { l, err = new(whole.Prover).Read(context.Background()) })
	return l, err
}

func prove(host *nstest.H, v door.Variant, p firewall.Policy) error {
	l, err := listed(host)
	if err != nil {
		return err
	}
	result, err := new(whole.Prover).Prove(context.Background(), l, p)
	if err == nil && result.Verdict != proof.Proved {
		err = fmt.Errorf("%s: %s", v, describe(result))
	}
	return err
}

// TestExamplesAreProved: what is loaded of the compiler's examples is what they say, also where no nft lists what iptables-nft has put into nftables.
func TestExamplesAreProved(t *testing.T) {
	for _, v := range variants() {
		host := nstest.Host(t, "box")
		in := engine(v).Open(t, host)
		for _, name := range []string{"empty", "nested", "site", "translated"} {
			p := firewalltest.Example(t, name)
			firewalltest.Load(t, in, p)
			l, err := listed(host)
			if err != nil {
				t.Fatal(err)
			}
			alone := l
			alone.NFTables = nil
			for way, l := range map[string]whole.Listing{"whole": l, "without nft": alone} {
				result, err := new(whole.Prover).Prove(t.Context(), l, p)
				if err != nil || result.Verdict != proof.Proved {
					t.Errorf("%s %s, %s: %v, %s", v, name, way, err, describe(result))
				}
			}
		}
	}
}

// TestEqualAgencies: where two agencies with one range reach the same host by the same address, zones alone tell them apart, and from where a packet
// comes decides before whatever it is for.
func TestEqualAgencies(t *testing.T) {
	for _, v := range variants() {
		host := nstest.Host(t, "box")
		in := engine(v).Open(t, host)
		p := firewalltest.Example(t, "translated")
		p.Devices[1].Translation.Local, p.Probes = nil, nil
		firewalltest.Load(t, in, p)
		if err := prove(host, v, p); err != nil {
			t.Error(err)
		}
		ours := "SHEKARA-" + letterOf(host)
		host.Run("iptables-"+string(v), "-t", "raw", "-I", ours+"-prerouting", "1", "-m", "set", "--match-set", strings.ToLower(ours)+"4-mapped", "dst", "-j", ours+"-zones-to")
		if err := prove(host, v, p); err == nil || !strings.Contains(err.Error(), "translated to another address than the policy says") {
			t.Errorf("by what it is for: %v", err)
		}
	}
}

// TestHolesAreFound: what somebody changes by hand in the kernel is read back and found, in both families and in sets, and so is what nft adds to
// a table of iptables.
func TestHolesAreFound(t *testing.T) {
	for _, v := range variants() {
		program := func(name, rest string) string { return name + "-" + string(v) + " " + rest }
		host := nstest.Host(t, "box")
		in := engine(v).Open(t, host)
		p := firewalltest.Example(t, "site")
		firewalltest.Load(t, in, p)
		for _, c := range []struct {
			hole, undo string
			want       proof.Verdict
			says       string
		}{
			{program("iptables", "-t mangle -I FORWARD 1 -d 10.20.0.99 -j ACCEPT"), program("iptables", "-t mangle -D FORWARD 1"), proof.Violated, "chain FORWARD, rule 1: -d 10.20.0.99/32 -j ACCEPT"},
			{program("ip6tables", "-t raw -I PREROUTING 1 -i sk-agencies -j ACCEPT"), program("ip6tables", "-t raw -D PREROUTING 1"), proof.Violated, "cannot have its source"},
			{program("ip6tables", "-A INPUT -p ipv6-icmp -m icmp6 --icmpv6-type 135 -j REJECT"), program("ip6tables", "-D INPUT 1"), proof.Violated, "chain INPUT, rule 1"},
			{program("iptables", "-A FORWARD -m mac --mac-source 02:00:00:00:00:01 -j DROP"), program("iptables", "-F FORWARD"), proof.Indeterminate, "-m mac --mac-source"},
			{program("iptables", "-P FORWARD DROP"), program("iptables", "-P FORWARD ACCEPT"), proof.Violated, "policy drop"},
			{"ipset add shekara-a4-peer 203.0.113.10,udp:51820,198.51.100.99", "ipset del shekara-a4-peer 203.0.113.10,udp:51820,198.51.100.99", proof.Violated, "198.51.100.99 > 203.0.113.10"},
			{"nft add table ip x; nft 'add chain ip x f { type filter hook forward priority 0; }'; nft add rule ip x f tcp dport 443 drop", "nft delete table ip x", proof.Violated, "table ip x, chain f, handle"},
			{"nft insert rule ip mangle FORWARD ip daddr 10.20.0.99 accept", "nft delete rule ip mangle FORWARD handle $(nft -a list chain ip mangle FORWARD | sed -n 's/.*10.20.0.99 accept # handle //p')", proof.Violated, "chain FORWARD, rule 1"},
		} {
			if v == door.Legacy && strings.HasPrefix(c.hole, "nft insert") {
				continue // there is no such table
			}
			host.Run("sh", "-c", c.hole)
			l, err := listed(host)
			if err != nil {
				t.Fatal(err)
			}
			result, err := new(whole.Prover).Prove(t.Context(), l, p)
			if err != nil || result.Verdict != c.want || !strings.Contains(describe(result), c.says) {
				t.Errorf("%s: %v, %s", c.hole, err, describe(result))
			}
			host.Run("sh", "-c", c.undo)
			if err := prove(host, v, p); err != nil {
				t.Fatalf("%s: %v", c.undo, err)
			}
		}
	}
}

// TestRandomPoliciesAreProved: what the compiler makes of random policies and the kernel holds is what they say, for all packets.
func TestRandomPoliciesAreProved(t *testing.T) {
	rounds := uint64(8)
	if testing.Short() {
		rounds = 1
	}
	for _, v := range variants() {
		host := nstest.Host(t, "box")
		in := engine(v).Open(t, host)
		for seed := range rounds {
			p := firewalltest.SomePolicy(seed)
			firewalltest.Load(t, in, p)
			if err := prove(host, v, p); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
	}
}

func describe(r proof.Result) string {
	out := fmt.Sprint(r.Verdict, " ", r.Reasons)
	for i, v := range r.Violations {
		if i < 20 {
			out += "\n" + v.Path + " " + v.String()
		}
	}
	return out
}
