package provisioning

import (
	"strings"
	"testing"

	"shekara/journal"
)

// TestChangesAreOnRecord: who reads the journal alone knows what was changed, from what to what.
func TestChangesAreOnRecord(t *testing.T) {
	b := established(t, 1)
	before := b.events.count(journal.DocumentChange)
	text := strings.Replace(site, "    - {name: adm0, zone: admin}\n", "    - {name: adm0, zone: admin}\n    - {name: adm1, zone: admin}\n", 1)
	result := b.mustApply(request(text))
	changed := b.events.of(journal.DocumentChange)[before:]
	if len(changed) != 1 || len(result.Plan.Changes) != 1 {
		t.Fatalf("%+v", changed)
	}
	e, c := changed[0], result.Plan.Changes[0]
	if e.Object != "site/"+c.Name || e.Fields["before"] != c.Before || e.Fields["after"] != c.After || e.Fields["change"] != "change" || !strings.Contains(e.Fields["after"], "adm1") || e.Fields["beforeDigest"] != "" {
		t.Errorf("%+v\nof %+v", e, c)
	}
	starts := b.events.of(journal.ApplyStart)
	if start := starts[len(starts)-1]; start.Fields["changes"] != digestOf(result.Plan.Changes) || start.Sequence >= e.Sequence {
		t.Errorf("%+v before %+v, want digest %s", start, e, digestOf(result.Plan.Changes))
	}
}

// TestManyChangesAndLongOnesAreBounded: what is cut is bound by its digest, and fits into a record whatever has to be escaped.
func TestManyChangesAndLongOnesAreBounded(t *testing.T) {
	long := strings.Repeat("\\", 300_000)
	changes := make([]Change, 3*changesShown)
	for i := range changes {
		changes[i] = Change{Verb: "change", Kind: "Flow", Name: "a/b", Before: long, After: long}
	}
	events := changeEvents(journal.Actor{}, 7, changes)
	if len(events) != changesShown {
		t.Fatalf("%d events", len(events))
	}
	j, err := journal.Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	events[0].Organisation = strings.Repeat("o", 300)
	if _, err := j.Append(t.Context(), events[0]); err != nil {
		t.Error(err)
	}
	if f := events[0].Fields; f["beforeDigest"] != digest(long) || f["afterDigest"] != digest(long) || f["after"] != f["before"] || !strings.HasPrefix(long, strings.TrimSuffix(f["before"], "…")) {
		t.Errorf("%+v", f)
	}
	whole := digestOf(changes)
	changes[len(changes)-1].After = "other"
	if digestOf(changes) == whole {
		t.Error("the digest does not hang on the last change")
	}
}
