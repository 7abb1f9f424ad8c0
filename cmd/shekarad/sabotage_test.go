package main_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"shekara/firewall/proof"
	"shekara/journal"
	"shekara/netctl/filters"
	"shekara/netctl/nstest"
	"shekara/provisioning/verification"
)

// answers serves echo over TCP on a host until the test ends.
func answers(t *testing.T, h *nstest.H, port int) {
	t.Helper()
	var listener net.Listener
	h.Do(func() {
		var err error
		if listener, err = net.Listen("tcp4", fmt.Sprintf(":%d", port)); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // the test is over
			}
			go func() {
				defer conn.Close()
				buffer := make([]byte, 100)
				for {
					n, err := conn.Read(buffer)
					if err != nil {
						return
					}
					if _, err := conn.Write(buffer[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
}

// open sends the witness as a real packet: it opens the connection from the host that has its source, and answers nil if nobody answers within that time.
func open(t *testing.T, h *nstest.H, w *proof.Packet, wait time.Duration) (conn *net.TCPConn) {
	t.Helper()
	h.Do(func() {
		dialer := net.Dialer{Timeout: wait, LocalAddr: &net.TCPAddr{IP: w.Source.AsSlice(), Port: int(w.SourcePort)}}
		if c, err := dialer.Dial("tcp4", net.JoinHostPort(w.Destination.String(), fmt.Sprint(w.DestinationPort))); err == nil {
			conn = c.(*net.TCPConn)
			_ = conn.SetLinger(0) // its port is free again at once
		}
	})
	return conn
}

// echoes says whether a connection carries data both ways, within seconds.
func echoes(conn net.Conn) bool {
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return false
	}
	if _, err := conn.Write([]byte("x")); err != nil {
		return false
	}
	_, err := conn.Read(make([]byte, 1))
	return err == nil
}

// TestSabotage: somebody opens the inside to the outside by hand. The proof shows the packet and the rule; the packet, sent for real, passes,
// and did not before. The repair closes the way, and what was opened through it is cut. A table of somebody else's is named and left.
func TestSabotage(t *testing.T) {
	g := newGuarded(t, "repair")
	answers(t, g.outside, 8443)
	g.must("hold", "1h") // what comes next is to be seen before it is repaired
	g.mustBe(proof.Proved)

	g.Run("nft", "insert", "rule", "inet", "shekara", "forward", "iifname", "dmz0", "oifname", "ext0", "ip", "saddr", "10.20.0.10", "ip", "daddr", "203.0.113.99",
		"tcp", "dport", "8443", "accept")
	g.Run("nft", "insert", "rule", "inet", "shekara", "forward", "iifname", "ext0", "oifname", "dmz0", "ct", "state", "established", "accept")
	var found *verification.Violation
	for _, s := range g.mustBe(proof.Violated).Statements {
		for i, v := range s.Violations {
			if v.Packet != nil && v.Packet.Class == "new" {
				found = &s.Violations[i]
			}
		}
	}
	if found == nil || found.Rule.Table != "inet shekara" || found.Rule.Chain != "forward" || found.Rule.Handle == 0 || !strings.Contains(found.Rule.Text, "8443 accept") {
		t.Fatalf("the witness is %v", found)
	}
	w := found.Packet
	if w.In != "dmz0" || w.Out != "ext0" || w.Source.String() != "10.20.0.10" || w.Destination.String() != "203.0.113.99" || w.DestinationPort != 8443 {
		t.Fatalf("the witness packet is %s", w)
	}
	g.recorded(journal.ProofBreak, "violated")
	conn := open(t, g.inside, w, patience)
	if conn == nil || !echoes(conn) {
		t.Fatalf("the witness %s does not pass, sent for real", w)
	}
	defer conn.Close()

	g.must("hold", "--end")
	g.recorded(journal.DriftRepair, "repaired")
	if e := g.recorded(journal.FlowRevoke, "were cut"); !strings.Contains(e.Fields["list"], "10.20.0.10") || e.Fields["since"] != "0" {
		t.Errorf("the event of the cut is %+v", e)
	}
	g.await("all is proved again", func() bool { r, _ := g.verify(); return r.Verdict == proof.Proved })
	if echoes(conn) {
		t.Error("the connection that was opened through the hole lives on")
	}
	conn.Close()
	if again := open(t, g.inside, w, 2*time.Second); again != nil {
		again.Close()
		t.Errorf("the witness %s passes after the repair", w)
	}

	// A table of somebody else's cannot open what ours closes, but it can close.
	g.RunInput("add table inet x\nadd chain inet x f { type filter hook output priority -5; }\nadd rule inet x f oifname \"dmz0\" tcp dport 8080 drop\n", "nft", "-f", "-")
	r := g.mustBe(proof.Violated)
	if w := r.Witness(); w == nil || w.Rule.Table != "inet x" || !strings.Contains(w.What, string(proof.IsStopped)) {
		t.Errorf("the witness is %v", w)
	}
	g.await("the table is named in the status", func() bool {
		return strings.Contains(g.must("status"), "not ours, left as it is: table inet x chain f")
	})
	if out := g.Run("nft", "list", "tables"); !strings.Contains(out, "table inet x") {
		t.Errorf("the table of somebody else's is gone: %s", out)
	}
	g.Run("nft", "delete", "table", "inet", "x")
	g.mustBe(proof.Proved)
}

// TestVerifyLooksBesideTheRules: what nft does not list turns the verdict, and is named, by itself as an event too. Legacy tables are read and
// proved with the rest.
func TestVerifyLooksBesideTheRules(t *testing.T) {
	g := newGuarded(t, "repair")
	g.mustBe(proof.Proved)
	for _, c := range []struct {
		plant, uproot string
		verdict       proof.Verdict
		says          string
	}{
		{"tc qdisc add dev dmz0 clsact\ntc filter add dev dmz0 ingress protocol ip u32 match u32 0 0 action mirred egress redirect dev ext0", "tc qdisc del dev dmz0 clsact",
			proof.Indeterminate, string(filters.TC) + ": a filter of kind u32, ingress at clsact of interface dmz0"},
		{"ip link add br0 type bridge\nip link set dmz0 master br0", "ip link set dmz0 nomaster\nip link del br0", proof.Indeterminate, "interface dmz0 is a port of br0"},
		{"ip xfrm policy add src 10.64.0.0/12 dst 10.20.0.0/24 dir fwd action block", "ip xfrm policy flush", proof.Indeterminate, string(filters.XFRM)},
		{"ip rule add pref 100 from 10.20.0.0/24 lookup 7", "ip rule del pref 100", proof.Indeterminate, "ipv4 rule 100"},
		{"ip route add 10.64.1.0/28 dev ext0 table 21323", "ip route del 10.64.1.0/28 table 21323", proof.Violated, "10.64.1.0/28 dev ext0"},
		{"iptables-legacy -A OUTPUT -o dmz0 -p tcp --dport 8080 -j DROP", "iptables-legacy -F OUTPUT", proof.Violated, "table ip filter (legacy), chain OUTPUT, rule 1: -o dmz0 -p tcp"},
		{"iptables-legacy -A OUTPUT -m owner --uid-owner 65534 -j DROP", "iptables-legacy -F OUTPUT", proof.Indeterminate, "table ip filter (legacy), chain OUTPUT, rule 1: -m owner --uid-owner"},
	} {
		g.RunInput("set -e\n"+c.plant+"\n", "sh")
		if found := fmt.Sprint(g.mustBe(c.verdict).Findings()); !strings.Contains(found, c.says) {
			t.Errorf("%s: findings are %s", c.plant, found)
		}
		g.recorded(map[proof.Verdict]journal.Type{proof.Indeterminate: journal.ProofDoubt, proof.Violated: journal.ProofBreak}[c.verdict], c.says)
		if c.uproot != "" {
			g.RunInput("set -e\n"+c.uproot+"\n", "sh")
			g.mustBe(proof.Proved)
		}
	}
}
