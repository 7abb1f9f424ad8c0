package iptables_test

import (
	"strings"
	"testing"

	"shekara/firewall"
	"shekara/firewall/firewalltest"
	"shekara/firewall/iptables"
	door "shekara/netctl/iptables"
	"shekara/netctl/nstest"
	"shekara/netctl/probe/probetest"
)

// TestForwardingClosed: where it is not known who may manage the box nothing is forwarded, of neither family, and the box itself speaks with everybody; the
// next ruleset takes its place, and what removes rules of ours removes it. It comes to nobody's rules, and to none of ours.
func TestForwardingClosed(t *testing.T) {
	for _, v := range []door.Variant{door.NFT, door.Legacy} {
		t.Run(string(v), func(t *testing.T) {
			probetest.Need(t, engine(v).Needs...)
			box, left := crossing(t)
			answers := func(address, seconds string) bool {
				_, err := left.Try("ping", "-c", "1", "-W", seconds, address)
				return err == nil
			}
			forwards := func(when string, want bool) {
				t.Helper()
				seconds := map[bool]string{true: "10", false: "1"}[want]
				for _, address := range []string{"198.51.100.2", "2001:db8:2::2"} {
					if got := answers(address, seconds); got != want {
						t.Errorf("%s %s answers: %v, want %v", when, address, got, want)
					}
				}
			}
			in := engine(v).Open(t, box)
			var l *iptables.Loader
			box.Do(func() {
				var err error
				if l, err = iptables.New(t.Context(), v); err != nil {
					t.Fatal(err)
				}
			})
			closes := func(want bool) {
				t.Helper()
				box.Do(func() {
					if closed, err := l.LoadIfAbsent(t.Context(), firewall.ForwardingClosed()); closed != want || err != nil {
						t.Errorf("it closes: %v, %v; want %v", closed, err, want)
					}
				})
			}
			list := func() string {
				return box.Run("iptables-"+string(v)+"-save") + box.Run("ip6tables-"+string(v)+"-save") + box.Run("ipset", "list", "-n")
			}
			forwards("before,", true)
			closes(true)
			forwards("while forwarding is closed,", false)
			for _, address := range []string{"198.51.100.1", "2001:db8:2::1"} {
				if !answers(address, "10") {
					t.Errorf("the box itself does not answer at %s", address)
				}
			}
			closed := list()
			closes(false)
			if again := list(); withoutCounts(again) != withoutCounts(closed) {
				t.Errorf("closed again there is\n%s\nwas\n%s", again, closed)
			}
			// What one left that was stopped before IPv6 and its mark.
			box.Run("ip6tables-"+string(v), "-w", "-t", "mangle", "-F", "FORWARD")
			box.Run("ipset", "destroy", strings.TrimSpace(box.Run("ipset", "list", "-n")))
			closes(true)
			forwards("while the rest is closed,", false)
			rules := firewalltest.Load(t, in, firewalltest.Example(t, "site"))
			if drift, err := in.Matches(t.Context(), rules); err != nil || len(drift) > 0 || strings.Contains(list(), "-closed") {
				t.Errorf("after the next ruleset: %q, %v\n%s", drift, err, list())
			}
			closes(false)
			remove := func() {
				t.Helper()
				if err := in.Remove(t.Context()); err != nil {
					t.Error(err)
				}
				if left := list(); strings.Contains(strings.ToLower(left), "shekara") {
					t.Errorf("left:\n%s", left)
				}
				forwards("after removal,", true)
			}
			remove()
			closes(true)
			forwards("closed once more,", false)
			remove()
		})
	}
}

// crossing is a box that forwards between two hosts, of which left is one, at 192.0.2.2 and 2001:db8:1::2.
func crossing(t *testing.T) (box, left *nstest.H) {
	t.Helper()
	box, left = nstest.Host(t, "box"), nstest.Host(t, "left")
	right := nstest.Host(t, "right")
	nstest.Link(t, box, "left0", []string{"192.0.2.1/24", "2001:db8:1::1/64"}, left, "eth0", []string{"192.0.2.2/24", "2001:db8:1::2/64"})
	nstest.Link(t, box, "right0", []string{"198.51.100.1/24", "2001:db8:2::1/64"}, right, "eth0", []string{"198.51.100.2/24", "2001:db8:2::2/64"})
	for host, gateways := range map[*nstest.H][]string{left: {"192.0.2.1", "2001:db8:1::1"}, right: {"198.51.100.1", "2001:db8:2::1"}} {
		for _, gateway := range gateways {
			host.Route("default", gateway)
		}
	}
	box.Forwarding()
	return box, left
}

// withoutCounts leaves out comments, which hold the time, and what chains have counted.
func withoutCounts(listing string) string {
	var b strings.Builder
	for line := range strings.Lines(listing) {
		if line, _, _ = strings.Cut(line, " ["); !strings.HasPrefix(line, "#") {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}
