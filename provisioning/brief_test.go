package provisioning

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shekara/provisioning/document"
)

func TestBriefPlanCountsWhatItLeavesOut(t *testing.T) {
	var p Plan
	for i := range 20 {
		p.Changes = append(p.Changes, Change{Verb: verbAdd, Kind: document.KindPeer, Name: fmt.Sprint(i)}, Change{Verb: verbAdd, Kind: document.KindFlow, Name: fmt.Sprint(i)})
	}
	p.Changes = append(p.Changes, Change{Verb: verbRemove, Kind: document.KindPeer, Name: "last"})
	for i := range 30 {
		p.Steps = append(p.Steps, Step{Phase: phasePeers, Text: fmt.Sprint(i)})
	}
	b := p.Brief()
	want := []Omitted{{Verb: verbAdd, Kind: "Peer", Count: 15}, {Verb: verbAdd, Kind: "Flow", Count: 15}}
	if diff := cmp.Diff(want, b.Omitted); diff != "" {
		t.Error(diff)
	}
	if len(b.Changes) != 11 || b.Changes[10].Name != "last" || len(b.Steps) != 30 {
		t.Errorf("%d changes, %d steps: %+v", len(b.Changes), len(b.Steps), b.Changes)
	}
	if diff := cmp.Diff(b, b.Brief()); diff != "" {
		t.Errorf("a brief plan is cut again: %s", diff)
	}
	if len(p.Changes) != 41 || p.Omitted != nil {
		t.Error("the plan itself was changed")
	}
	p.Steps = append(p.Steps, Step{Phase: phaseRoutes})
	if b := p.Brief(); b.Omitted[len(b.Omitted)-1] != (Omitted{Phase: phasePeers, Count: 25}) {
		t.Errorf("steps: %+v", b.Omitted)
	}
}

func TestPlanIDTellsPlansApart(t *testing.T) {
	ids := map[string]bool{}
	for _, id := range []string{planID(1, nil), planID(2, nil), planID(1, []Change{{Verb: "ab", Kind: "c"}}), planID(1, []Change{{Verb: "a", Kind: "bc"}}),
		planID(1, []Change{{Verb: "ab"}, {Kind: "c"}})} {
		ids[id] = true
	}
	if len(ids) != 5 {
		t.Errorf("%v", ids)
	}
}
