package iptables_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"shekara/firewall"
	"shekara/firewall/firewalltest"
	"shekara/firewall/iptables"
	"shekara/netctl/nstest"
)

// TestDriftInWords: each kind of meddling is said in words that name the chain or set, and a load puts it right.
func TestDriftInWords(t *testing.T) {
	for _, v := range variants() {
		t.Run(string(v), func(t *testing.T) {
			host := nstest.Host(t, "box")
			in := engine(v).Open(t, host)
			rules := firewalltest.Load(t, in, firewalltest.ConnectionPolicy("10.64.1.1", "10.20.0.10", false))
			program := "iptables-" + string(v)
			for _, c := range []struct{ by, want string }{
				{program + " -t mangle -A SHEKARA-L-forward -j ACCEPT", "IPv4 table mangle chain SHEKARA-L-forward: rule added: -j ACCEPT"},
				{"ip6" + program[2:] + " -t mangle -F SHEKARA-L-pass", "IPv6 table mangle chain SHEKARA-L-pass: rule missing"},
				{program + " -t mangle -I FORWARD 1 -j ACCEPT", "IPv4 table mangle chain FORWARD: a rule of others stands before ours: -j ACCEPT"},
				{program + " -t raw -D PREROUTING 1", "IPv4 table raw chain PREROUTING: jump to our chain missing"},
				{program + " -t mangle -N SHEKARA-L-backdoor", "IPv4 table mangle chain SHEKARA-L-backdoor added"},
				{program + " -t mangle -R SHEKARA-forward.no_flow 2 -j ACCEPT", "IPv4 table mangle chain SHEKARA-forward.no_flow: does not record and drop all"},
				{"ipset flush shekara-L4-class", "set shekara-L4-class: element 10.64.1.1 missing"},
				{"ipset add shekara-L4-class 10.64.1.2 skbmark 0x1/0x0", "set shekara-L4-class: element 10.64.1.2 added"},
				{"ipset -exist add shekara-L4-from 0.0.0.0/0,ext0 skbmark 0x2000000/0x0", "set shekara-L4-from: element 0.0.0.0/0,ext0 has skbmark 0x2000000/0x0, not skbmark "},
				{"ipset create shekara-L4-odd hash:ip", "set shekara-L4-odd added"},
			} {
				letter := letterOf(host)
				by, want := strings.ReplaceAll(c.by, "-L", "-"+letter), strings.ReplaceAll(c.want, "-L", "-"+letter)
				host.Run(strings.Fields(by)...)
				seen, err := in.Observe(t.Context())
				if err != nil || !slices.ContainsFunc(seen.Drift, func(d string) bool { return strings.HasPrefix(d, want) }) {
					t.Errorf("after %q: %q, %v; want %q", by, seen.Drift, err, want)
				}
				if err := in.Load(t.Context(), rules); err != nil {
					t.Fatalf("repair after %q: %v", by, err)
				}
				if strings.HasSuffix(by, "-I FORWARD 1 -j ACCEPT") { // it is another's: ours now stands before it
					host.Run(program, "-t", "mangle", "-D", "FORWARD", "-j", "ACCEPT")
				}
				if drift, err := in.Matches(t.Context(), rules); err != nil || len(drift) > 0 {
					t.Errorf("after the repair of %q: %q, %v", by, drift, err)
				}
			}
		})
	}
}

// letterOf is that of the ruleset that is loaded.
func letterOf(host *nstest.H) string {
	_, rest, _ := strings.Cut(host.Run("ipset", "list", "-n"), "shekara-")
	return rest[:1]
}

// TestOthersStay: what others have in the tables is named, and left alone by all that a Loader does.
func TestOthersStay(t *testing.T) {
	for _, v := range variants() {
		t.Run(string(v), func(t *testing.T) {
			host := nstest.Host(t, "box")
			in := engine(v).Open(t, host)
			program := "iptables-" + string(v)
			foreign := func() (out []string) {
				in.Do(func(l firewall.Loader) {
					var err error
					if out, err = l.(*iptables.Loader).Foreign(t.Context()); err != nil {
						t.Fatal(err)
					}
				})
				return out
			}
			if got := foreign(); len(got) > 0 {
				t.Errorf("nobody else, but %q", got)
			}
			for _, command := range []string{"ipset create other hash:ip", "ipset add other 192.0.2.1", program + " -t mangle -N OTHER", program + " -t mangle -A OTHER -j DROP",
				program + " -t mangle -A FORWARD -m set --match-set other src -j OTHER", program + " -P INPUT DROP", "ip6" + program[2:] + " -t raw -A PREROUTING -s 2001:db8::1 -j DROP"} {
				host.Run(strings.Fields(command)...)
			}
			list := func() string {
				var out []string
				for _, save := range []string{program + "-save", "ip6" + program[2:] + "-save", "ipset save other"} {
					for line := range strings.Lines(host.Run(strings.Fields(save)...)) {
						if strings.HasPrefix(line, "-A") || strings.Contains(line, " other") || strings.HasPrefix(line, ":INPUT DROP") || strings.Contains(line, "SHEKARA") {
							line, _, _ = strings.Cut(line, " [")
							out = append(out, strings.TrimSpace(line))
						}
					}
				}
				return strings.Join(out, "\n")
			}
			before := list()
			rules := firewalltest.Load(t, in, firewalltest.ConnectionPolicy("10.64.1.1", "10.20.0.10", false))
			if err := in.Change(t.Context(), nil, rules.Elements); err != nil {
				t.Fatal(err)
			}
			want := []string{"IPv4 table filter chain INPUT: policy DROP", "IPv4 table mangle chain FORWARD: -m set --match-set other src -j OTHER",
				"IPv6 table raw chain PREROUTING: -s 2001:db8::1/128 -j DROP"}
			if got := foreign(); !slices.Equal(got, want) {
				t.Errorf("foreign rules: %q, want %q", got, want)
			}
			if err := in.Remove(t.Context()); err != nil {
				t.Fatal(err)
			}
			if after := list(); after != before {
				t.Errorf("left behind:\n%s\nwant\n%s", after, before)
			}
			if names := host.Run("ipset", "list", "-n"); names != "other\n" {
				t.Errorf("sets left: %q", names)
			}
		})
	}
}

// TestOthersComeMeanwhile: what somebody puts before our rules while a ruleset is built, swapped in and changed stays, and what is loaded is whole.
func TestOthersComeMeanwhile(t *testing.T) {
	for _, v := range variants() {
		t.Run(string(v), func(t *testing.T) {
			host := nstest.Host(t, "box")
			in := engine(v).Open(t, host)
			rules := firewalltest.Load(t, in, firewalltest.ConnectionPolicy("10.64.1.1", "10.20.0.10", false))
			program := "iptables-" + string(v)
			var stop atomic.Bool
			var others sync.WaitGroup
			var came []string
			others.Go(func() {
				for n := 1; !stop.Load(); n++ {
					for _, chain := range []string{"FORWARD", "INPUT", "OUTPUT"} {
						rule := fmt.Sprintf("%s -s 192.0.2.%d/32 -j ACCEPT", chain, n)
						host.Run(strings.Fields(program + " -w -t mangle -I " + rule)...)
						came = append(came, "-A "+rule)
					}
				}
			})
			for range 4 {
				if err := in.Load(t.Context(), rules); err != nil {
					t.Error(err)
				}
				if err := in.Change(t.Context(), nil, rules.Elements); err != nil {
					t.Error(err)
				}
			}
			stop.Store(true)
			others.Wait()
			there := strings.Split(host.Run(program, "-t", "mangle", "-S"), "\n")
			for _, rule := range came {
				if !slices.Contains(there, rule) {
					t.Errorf("%q is gone", rule)
				}
			}
			if len(came) < 12 {
				t.Errorf("%d rules of others came: they show nothing", len(came))
			}
			if err := in.Load(t.Context(), rules); err != nil {
				t.Error(err)
			}
			if drift, err := in.Matches(t.Context(), rules); err != nil || len(drift) > 0 {
				t.Errorf("%q, %v", drift, err)
			}
		})
	}
}

// TestOthersTakeJumpsMeanwhile: somebody deletes one of our jumps while a ruleset takes the place of another, at one moment or another. It is loaded whole.
func TestOthersTakeJumpsMeanwhile(t *testing.T) {
	for _, v := range variants() {
		t.Run(string(v), func(t *testing.T) {
			host := nstest.Host(t, "box")
			in := engine(v).Open(t, host)
			began := time.Now()
			rules := firewalltest.Load(t, in, firewalltest.ConnectionPolicy("10.64.1.1", "10.20.0.10", false))
			takes := time.Since(began)
			program, taken := "iptables-"+string(v), 0
			const loads = 12
			for i := range loads {
				var other sync.WaitGroup
				other.Go(func() {
					time.Sleep(takes * time.Duration(i) / loads)
					for _, rule := range strings.Split(host.Run(program, "-w", "-t", "mangle", "-S", "FORWARD"), "\n") {
						if jump, ours := strings.CutPrefix(rule, "-A FORWARD -j SHEKARA"); ours {
							if _, err := host.Try(program, "-w", "-t", "mangle", "-D", "FORWARD", "-j", "SHEKARA"+jump); err == nil {
								taken++
							}
						}
					}
				})
				if err := in.Load(t.Context(), rules); err != nil {
					t.Errorf("load %d: %v", i, err)
				}
				other.Wait()
			}
			if taken < loads/2 {
				t.Errorf("%d of %d jumps were taken away: it shows little", taken, loads)
			}
			if err := in.Load(t.Context(), rules); err != nil {
				t.Error(err)
			}
			if drift, err := in.Matches(t.Context(), rules); err != nil || len(drift) > 0 {
				t.Errorf("%q, %v", drift, err)
			}
		})
	}
}

// TestNoProgram: the error says which is missing.
func TestNoProgram(t *testing.T) {
	if _, err := iptables.New(t.Context(), "nonsense"); err == nil || !strings.Contains(err.Error(), "iptables-nonsense") || errors.Unwrap(err) == nil {
		t.Errorf("a variant that there is not: %v", err)
	}
}
