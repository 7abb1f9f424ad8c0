package provisioning

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"shekara/firewall/proof"
	"shekara/journal"
	"shekara/provisioning/contour"
	"shekara/provisioning/verification"
)

// byWaiver is a flow that joins the contours until a day.
func byWaiver(expires string) string {
	return `---
apiVersion: shekara/v1
kind: Flow
metadata: {name: updates}
spec: {fromZone: admin, toZone: internet, from: [192.168.100.5/32], to: [198.51.100.7/32], allow: [tcp/443], waiver: {reason: no mirror yet, approver: A. Director, expires: "` + expires + `"}}
`
}

// rulesOf are the names of rules.
func rulesOf(list []contour.Breach) (names []string) {
	for _, b := range list {
		names = append(names, b.Rule)
	}
	return names
}

// TestContoursAreJudgedAgain: the documents in force are held to the acts at each verification, by the day that it is; waivers in force are
// listed with what they set aside, in the report, the status and on record.
func TestContoursAreJudgedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.verifiable(&scripted{result: isProved})
		b.start()
		b.keep(site)
		r, err := b.Verify(t.Context())
		if s := statement(r, verification.Contours); err != nil || s.Verdict != proof.Proved || len(r.Waivers) != 0 {
			t.Errorf("without a waiver: %+v, %v, %v", s, r.Waivers, err)
		}
		last := contour.Today()
		b.keep(byWaiver(last))
		r, err = b.Verify(t.Context())
		want := contour.Waived{Flow: "updates", Reason: "no mirror yet", Approver: "A. Director", Expires: last}
		if err != nil || statement(r, verification.Contours).Verdict != proof.Proved || len(r.Waivers) != 1 || !slices.Equal(rulesOf(r.Waivers[0].Breaks), []string{"GWY-07"}) {
			t.Fatalf("with a waiver: %+v, %v", r, err)
		}
		if want.Breaks = r.Waivers[0].Breaks; want.String() != r.Waivers[0].String() || want.Breaks[0].Paragraph != "19(4)" {
			t.Errorf("the waiver is %+v", r.Waivers[0])
		}
		if status, err := b.Status(t.Context()); err != nil || len(status.Waivers) != 1 || status.Waivers[0].String() != want.String() {
			t.Errorf("the status has %+v, %v", status.Waivers, err)
		}
		if e := b.events.last(journal.ProofHold); !strings.Contains(e.Fields["waived"], "flow updates breaks GWY-07 by a waiver of A. Director until "+last) {
			t.Errorf("on record is %v", e.Fields)
		}
		time.Sleep(24 * time.Hour) // nobody has taken it out of force yet
		r, err = b.Verify(t.Context())
		s := statement(r, verification.Contours)
		if err != nil || s.Verdict != proof.Violated || len(r.Waivers) != 0 || !strings.Contains(s.Violations[0].What, "the waiver expired with "+last) || !strings.Contains(s.Violations[0].What, "GWY-07") {
			t.Errorf("the day after: %+v, %v, %v", s, r.Waivers, err)
		}
	})
}

// TestWitnessNamesWhatItBreaks: a packet that passes from zone to zone is named with the contours and the rules that a flow for it would break.
func TestWitnessNamesWhatItBreaks(t *testing.T) {
	inside, outside := netip.MustParseAddr("192.168.100.5"), netip.MustParseAddr("198.51.100.7")
	agent, gateway := agency{n: 0}.prefixText(), netip.MustParseAddr("10.20.0.10")
	for name, c := range map[string]struct {
		kind    proof.Kind
		in, out string
		from    netip.Addr
		to      netip.Addr
		want    string // "": no crossing
		breaks  []string
	}{
		"internal to external":    {proof.PassesWrongly, "adm0", "ext0", inside, outside, "from zone admin (internal contour) to zone internet (external contour), which breaks GWY-07 (Order 124", []string{"GWY-07"}},
		"spoofed":                 {proof.PassesSpoofed, "ext0", "adm0", outside, inside, "from zone internet (external contour) to zone admin (internal contour), which breaks GWY-07", []string{"GWY-07"}},
		"allowed by the acts":     {proof.PassesWrongly, "device", "dmz0", netip.MustParsePrefix(agent).Addr(), gateway, "from zone agencies (external contour) to zone gateway-dmz (integration contour)", nil},
		"to this box":             {proof.PassesWrongly, "ext0", "", outside, netip.MustParseAddr("203.0.113.10"), "", nil},
		"stopped, so nothing is.": {proof.IsStopped, "adm0", "ext0", inside, outside, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			s := &scripted{}
			b.verifiable(s)
			b.start()
			b.keep(site + agency{n: 0}.yaml())
			if c.in == "device" {
				c.in = b.device()
			}
			packet := proof.Packet{In: c.in, Out: c.out, Source: c.from, Destination: c.to, Protocol: 6, SourcePort: 40000, DestinationPort: 22, Class: "new"}
			s.become(proof.Result{Verdict: proof.Violated, Violations: []proof.Violation{{Kind: c.kind, Witness: packet, Rule: proof.Loaded{Table: "inet x", Text: "accept"}}}})
			r, err := b.Verify(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			crossing := statement(r, verification.Filter).Violations[0].Crossing
			if (crossing != nil) != (c.want != "") {
				t.Fatalf("the crossing is %+v", crossing)
			}
			if field := b.events.last(journal.ProofBreak).Fields["crossing"]; (field != "") != (c.want != "") {
				t.Errorf("on record is %q", field)
			}
			if crossing != nil && (!strings.HasPrefix(crossing.String(), c.want) || !slices.Equal(rulesOf(crossing.Breaks), c.breaks)) {
				t.Errorf("the crossing is %s", crossing)
			}
		})
	}
}
