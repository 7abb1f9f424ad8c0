package main_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"shekara/firewall/proof"
	"shekara/journal"
	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
	"shekara/provisioning/api"
	"shekara/provisioning/verification"
)

const border = `
apiVersion: shekara/v1
kind: Peer
metadata: {name: owner-edge}
spec: {side: owner, publicIP: 203.0.113.10, wireguard: [{farZone: %[1]s, environment: production, port: 51820}]}
---
apiVersion: shekara/v1
kind: Site
metadata: {name: owner}
spec:
  lab: true
  peers: [owner-edge]
  interfaces: [{name: ext0, zone: internet, addresses: [203.0.113.10/24]}, {name: dmz0, zone: %[2]s, addresses: [10.20.0.1/24]}]
  drift: %[3]s
`

// guarded is a box between an outside host and an inside one, with a daemon that has documents in force.
type guarded struct {
	*box
	outside, inside *nstest.H
}

func newGuarded(t *testing.T, drift string) *guarded {
	t.Helper()
	probetest.Need(t, probe.Root, probe.Namespaces, probe.NFTables, probe.TUN, probe.Conntrack)
	g := &guarded{newBox(t, programs(t), "owner"), nstest.Host(t, "outside"), nstest.Host(t, "inside")}
	nstest.Link(t, g.H, "ext0", []string{"203.0.113.10/24"}, g.outside, "eth0", []string{"203.0.113.99/24"})
	nstest.Link(t, g.H, "dmz0", []string{"10.20.0.1/24"}, g.inside, "eth0", []string{"10.20.0.10/24"})
	g.outside.Route("10.20.0.0/24", "203.0.113.10")
	g.inside.Route("default", "10.20.0.1")
	mark := fmt.Sprintf("%x", time.Now().UnixNano()&0xffff) // in the name of the device, whose socket lies where all namespaces see it
	g.write("etc/site", "owner\n")
	g.write("first/zones.yaml", fmt.Sprintf(zones, "p"+mark, "s"+mark))
	g.write("first/site.yaml", fmt.Sprintf(border, "p"+mark, "s"+mark, drift))
	g.start()
	g.must("apply", filepath.Join(g.dir, "first"), "--yes")
	g.must("confirm")
	return g
}

// verify asks for a verification and answers it with the exit code.
func (g *guarded) verify() (verification.Report, int) {
	g.t.Helper()
	text, code := g.cli("verify", "--json")
	var r verification.Report
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		g.t.Fatalf("verify: %v\n%s", err, text)
	}
	return r, code
}

func (g *guarded) mustBe(want proof.Verdict) verification.Report {
	g.t.Helper()
	r, code := g.verify()
	if wantCode := map[proof.Verdict]int{proof.Proved: 0, proof.Violated: 2, proof.Indeterminate: 3}[want]; r.Verdict != want || code != wantCode {
		g.t.Fatalf("verify says %s and answers %d, want %s and %d: %v", r.Verdict, code, want, wantCode, r.Findings())
	}
	return r
}

// recorded waits until the journal has an event of the type whose message has all the words.
func (g *guarded) recorded(of journal.Type, words ...string) journal.Event {
	g.t.Helper()
	var found journal.Event
	g.await(fmt.Sprintf("an event %s with %q", of, words), func() bool {
		events, err := g.client.Events(g.t.Context(), 0, 1000, api.EventFilter{})
		if err != nil {
			g.t.Fatal(err)
		}
		for _, e := range events.Events {
			has := e.Type == of
			for _, w := range words {
				has = has && strings.Contains(e.Message, w)
			}
			if has {
				found = e
				return true
			}
		}
		return false
	})
	return found
}

// TestVerifyFindsWhatIsLoaded: with the real programs, what is loaded is proved; a hole by hand is shown with a packet, by itself as an
// event too; what the proof does not know is named.
func TestVerifyFindsWhatIsLoaded(t *testing.T) {
	g := newGuarded(t, "report")
	g.mustBe(proof.Proved)
	g.recorded(journal.ProofHold, "proved")

	g.Run("nft", "insert", "rule", "inet", "shekara", "forward", "iifname", "ext0", "oifname", "dmz0", "accept")
	r := g.mustBe(proof.Violated)
	w := r.Witness()
	if w == nil || w.Rule.Table != "inet shekara" || w.Rule.Chain != "forward" || !strings.Contains(w.Rule.Text, "iifname ext0 oifname dmz0 accept") {
		t.Errorf("the witness is %v", w)
	}
	event := g.recorded(journal.ProofBreak, "ext0")
	if event.Fields["witness"] == "" || event.Fields["chain"] != "forward" || event.Severity != journal.Alert {
		t.Errorf("the event is %+v", event)
	}
	if out := g.must("status"); !strings.Contains(out, "VIOLATED of revision 1") {
		t.Errorf("the status is\n%s", out)
	}
	if out := g.must("metrics"); !strings.Contains(out, `shekara_proof_verdict{verdict="violated"} 1`) {
		t.Errorf("the metrics lack the verdict:\n%s", out)
	}
	g.must("apply", filepath.Join(g.dir, "first"), "--yes") // as the site only reports drift
	g.mustBe(proof.Proved)

	g.RunInput("add table inet x\nadd chain inet x f { type filter hook forward priority -5; }\nadd rule inet x f numgen random mod 2 == 0 drop\n", "nft", "-f", "-")
	r = g.mustBe(proof.Indeterminate)
	if found := fmt.Sprint(r.Findings()); !strings.Contains(found, "table inet x, chain f") {
		t.Errorf("the reasons are %s", found)
	}
	g.recorded(journal.ProofDoubt, "table inet x, chain f")
	g.Run("nft", "delete", "table", "inet", "x")
	g.mustBe(proof.Proved)
}
