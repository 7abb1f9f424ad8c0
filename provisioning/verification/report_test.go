package verification

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shekara/firewall/proof"
)

func hole(source string, rule proof.Loaded) proof.Result {
	return proof.Result{Verdict: proof.Violated, Violations: []proof.Violation{{Kind: proof.PassesWrongly, Rule: rule,
		Witness: proof.Packet{Source: netip.MustParseAddr(source), Destination: netip.MustParseAddr("10.20.0.10"), Protocol: 6, Class: "new"}}}}
}

// TestVerdictOfAll: the worst of all statements, and never proved while one is not.
func TestVerdictOfAll(t *testing.T) {
	proved, doubt, violated := Found{}, Unknown("a table that is not known"), OfFilter(hole("198.51.100.9", proof.Loaded{}))
	both := Found{Violations: violated.Violations, Reasons: doubt.Reasons}
	for _, c := range []struct {
		found []Found
		want  proof.Verdict
	}{
		{nil, ""}, {[]Found{proved}, proof.Proved}, {[]Found{doubt}, proof.Indeterminate}, {[]Found{violated}, proof.Violated}, {[]Found{both}, proof.Violated},
		{[]Found{proved, doubt}, proof.Indeterminate}, {[]Found{doubt, proved}, proof.Indeterminate},
		{[]Found{doubt, violated}, proof.Violated}, {[]Found{violated, doubt, proved}, proof.Violated},
	} {
		var r Report
		for _, f := range c.found {
			r.Add(Filter, f)
		}
		if r.Verdict != c.want {
			t.Errorf("%v comes to %s, want %s", c.found, r.Verdict, c.want)
		}
	}
}

// TestClaimSaysWhatItIsMadeWithout: and holds without it.
func TestClaimSaysWhatItIsMadeWithout(t *testing.T) {
	var r Report
	r.Add(Beside, Found{})
	r.Add(Beside, Found{Except: []string{"programs were not listed", "nor others"}})
	whole, less := r.Statements[0], r.Statements[1]
	if less.Claim != whole.Claim+"; except: programs were not listed; nor others" || less.Verdict != proof.Proved || r.Verdict != proof.Proved {
		t.Errorf("%+v", r)
	}
}

// TestIdentity: the same rule found by another packet is no news, another rule, revision or verdict is.
func TestIdentity(t *testing.T) {
	rule := proof.Loaded{Table: "inet x", Chain: "f", Handle: 3, Text: "accept"}
	other := rule
	other.Handle = 4
	report := func(revision int, f Found) string {
		r := Report{Revision: revision}
		r.Add(Filter, f)
		return r.Identity()
	}
	one := report(1, OfFilter(hole("198.51.100.9", rule)))
	if again := report(1, OfFilter(hole("198.51.100.10", rule))); again != one {
		t.Errorf("another packet makes another finding:\n%s\n%s", one, again)
	}
	for _, different := range []string{report(2, OfFilter(hole("198.51.100.9", rule))), report(1, OfFilter(hole("198.51.100.9", other))), report(1, Found{}), report(1, Unknown("x"))} {
		if different == one {
			t.Errorf("these are said to be the same: %s", one)
		}
	}
}

func TestFindings(t *testing.T) {
	var r Report
	r.Add(Filter, Found{Violations: OfFilter(hole("198.51.100.9", proof.Loaded{Table: "inet x", Chain: "f", Handle: 3, Text: "accept"})).Violations, Reasons: []string{"and a doubt"}})
	want := []string{fmt.Sprintf("a packet %s: 198.51.100.9 > 10.20.0.10 tcp 0>0 (by table inet x, chain f, handle 3: accept)", proof.PassesWrongly)}
	if diff := cmp.Diff(want, r.Findings()); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	if w := r.Witness(); w == nil || w.Packet.Source.String() != "198.51.100.9" {
		t.Errorf("witness is %v", w)
	}
	r = Report{}
	r.Indeterminate("nothing is in force")
	if diff := cmp.Diff([]string{"nothing is in force"}, r.Findings()); diff != "" || r.Verdict != proof.Indeterminate || r.Witness() != nil {
		t.Errorf("verdict %s, findings (-want +got):\n%s", r.Verdict, diff)
	}
}
