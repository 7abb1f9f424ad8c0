package provisioning

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"shekara/journal"
)

// analysed is a box whose loop of incidents alone runs, over a real journal.
type analysed struct {
	*box
	journal *journal.Journal
	cancel  context.CancelFunc
	ended   chan struct{}
}

func newAnalysed(t *testing.T, b *box, dir string) *analysed {
	t.Helper()
	key, err := journal.NewKey("journal/owner", [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(dir, key)
	if err != nil {
		t.Fatal(err)
	}
	a := &analysed{box: b, journal: j}
	b.start()
	b.options.Events, b.options.Journal = j, belonging{j, b.Engine}
	return a
}

func (a *analysed) analyse() {
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel, a.ended = cancel, make(chan struct{})
	go func() {
		a.keepIncidents(ctx)
		close(a.ended)
	}()
}

// stop ends the loop, the engine and the journal.
func (a *analysed) stop() {
	a.t.Helper()
	a.cancel()
	<-a.ended
	a.kill()
	if err := a.journal.Close(); err != nil {
		a.t.Error(err)
	}
}

func (a *analysed) post(e journal.Event) uint64 {
	a.t.Helper()
	e, err := a.journal.Append(a.t.Context(), e)
	if err != nil {
		a.t.Fatal(err)
	}
	return e.Sequence
}

// await waits until the incidents that are open are those of these rules.
func (a *analysed) await(what string, rules ...string) IncidentReport {
	a.t.Helper()
	var names []string
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		r, err := a.Incidents(a.t.Context())
		if err != nil {
			a.t.Fatal(err)
		}
		names = nil
		for _, i := range r.Open {
			names = append(names, i.Rule)
		}
		if slices.Equal(names, rules) && r.Rules != nil {
			return r
		}
	}
	a.t.Fatalf("%s: %q are open, want %q", what, names, rules)
	return IncidentReport{}
}

// recorded are the incidents that the journal tells of.
func (a *analysed) recorded() (told []journal.Event) {
	a.t.Helper()
	all, _, err := a.journal.Query(a.t.Context(), 0, 1000, journal.Filter{Types: []journal.Type{"incident.*"}})
	if err != nil {
		a.t.Fatal(err)
	}
	return all
}

// awaitRecords waits until the journal tells of so many openings and ends.
func (a *analysed) awaitRecords(n int) []journal.Event {
	a.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if len(a.recorded()) >= n {
			return a.recorded()
		}
	}
	a.t.Fatalf("the journal tells of %+v, want %d", a.recorded(), n)
	return nil
}

const ownRule = `apiVersion: shekara/v1
kind: IncidentRule
metadata: {name: two-roams}
spec:
  summary: two roams
  by: [object]
  threshold: {events: {types: [tunnel.roam]}, count: 2, within: 1h}
  tests:
    - {name: two, events: [{type: tunnel.roam, object: tunnel/a, times: 2}], opens: 1, open: 1}
    - {name: one, events: [{type: tunnel.roam, object: tunnel/a}]}
`

// TestIncidentsAreOnRecordOnce: whatever is restarted, killed or forgotten in between.
func TestIncidentsAreOnRecordOnce(t *testing.T) {
	b, dir := newBox(t), t.TempDir()
	documents := site + strings.Replace(agency{n: 0}.yaml(), "side: initiator", "side: initiator\n  organisation: Agency 0", 1)
	broken := journal.Event{Type: journal.ProofBreak, Severity: journal.Alert, Object: "revision/1", Message: "violated"}
	roam := journal.Event{Type: journal.TunnelRoam, Severity: journal.Notice, Object: "tunnel/agency-0", Message: "moved"}

	a := newAnalysed(t, b, dir)
	a.mustApply(request(documents + "---\n" + ownRule))
	if _, err := a.Confirm(t.Context(), journal.Actor{}); err != nil {
		t.Fatal(err)
	}
	a.analyse()
	a.await("nothing happened")
	first := a.post(broken)
	a.await("a violation", "proof-violated")
	a.post(roam)
	told := a.awaitRecords(1)
	if e := told[0]; e.Type != journal.IncidentOpen || e.Severity != journal.Alert || e.Object != "incident/proof-violated" || e.Fields["sequences"] != strconv.FormatUint(first, 10) {
		t.Errorf("%+v", e)
	}
	a.stop()

	// In a second life the second move completes what the first began, and the violation is over.
	a = newAnalysed(t, b, dir)
	a.analyse()
	a.await("after a restart", "proof-violated")
	a.post(roam)
	report := a.await("the second move", "proof-violated", "two-roams")
	if i := report.Open[1]; i.Key != "tunnel/agency-0" || i.Count != 2 || len(i.Sequences) != 2 {
		t.Errorf("%+v", i)
	}
	a.post(journal.Event{Type: journal.ProofHold, Severity: journal.Notice, Object: "revision/1", Message: "proved"})
	report = a.await("proved again", "two-roams")
	if len(report.Closed) != 1 || report.Closed[0].Reason != "ended by proof.hold" {
		t.Errorf("%+v", report.Closed)
	}
	a.awaitRecords(3)
	a.stop()

	// What is known beside the journal gets lost: the journal tells it all.
	if err := os.Remove(filepath.Join(b.dir, incidentFile)); err != nil {
		t.Fatal(err)
	}
	a = newAnalysed(t, b, dir)
	a.analyse()
	report = a.await("from the journal alone", "two-roams")
	if status, err := a.Status(t.Context()); err != nil || status.Incidents[journal.Warning] != 1 || len(status.Incidents) != 1 {
		t.Errorf("%v, %v", status.Incidents, err)
	}
	if told := a.recorded(); len(told) != 3 || told[1].Organisation != "Agency 0" {
		t.Errorf("%+v", told)
	}
	// A rule that is removed takes its incidents with it.
	without := request(documents)
	without.Whole = true
	a.mustApply(without)
	a.await("without the rule")
	if told := a.awaitRecords(4); told[3].Type != journal.IncidentClose || told[3].Fields["reason"] != "its rule was changed or removed" {
		t.Errorf("%+v", told[3])
	}
	a.stop()
}

// reluctant is a journal that may not take events whose type begins so: it loses them as a power cut does, or has no room.
type reluctant struct {
	Recorder
	of   string
	mood atomic.Int32
}

const (
	willing int32 = iota
	losing
	refusing
)

func (r *reluctant) Post(e journal.Event) <-chan error {
	done := make(chan error, 1)
	if mood := r.mood.Load(); mood == willing || !strings.HasPrefix(string(e.Type), r.of) {
		return r.Recorder.Post(e)
	} else if mood == refusing {
		done <- errors.New("no room")
	}
	return done
}

// TestIncidentThatIsNotOnRecordIsPostedAgain: by the next life after a power cut that took it, and by this one when the journal has room again, in order.
func TestIncidentThatIsNotOnRecordIsPostedAgain(t *testing.T) {
	broken := journal.Event{Type: journal.ProofBreak, Severity: journal.Alert, Object: "revision/1", Message: "violated"}
	held := journal.Event{Type: journal.ProofHold, Severity: journal.Notice, Object: "revision/1", Message: "proved"}
	synctest.Test(t, func(t *testing.T) {
		b, dir := newBox(t), t.TempDir()
		a := newAnalysed(t, b, dir)
		r := &reluctant{Recorder: a.options.Journal, of: "incident."}
		a.options.Journal = r
		a.analyse()
		time.Sleep(2 * incidentSave)
		r.mood.Store(losing)
		a.post(broken)
		time.Sleep(2 * incidentSave)
		if len(a.recorded()) > 0 {
			t.Fatalf("on record, and it should be lost: %+v", a.recorded())
		}
		if kept, err := readAnalysis(a.analysisPath()); err != nil || len(kept.Open) > 0 {
			t.Errorf("kept as open, and not on record: %+v, %v", kept, err)
		}
		a.stop()

		a = newAnalysed(t, b, dir)
		r = &reluctant{Recorder: a.options.Journal, of: "incident."}
		a.options.Journal = r
		a.analyse()
		a.await("after a power cut", "proof-violated")
		a.awaitRecords(1)
		r.mood.Store(refusing)
		a.post(held)
		a.await("while there is no room")
		a.post(broken)
		a.await("and again", "proof-violated")
		r.mood.Store(willing)
		time.Sleep(2 * incidentSave)
		var told []journal.Type
		for _, e := range a.recorded() {
			told = append(told, e.Type)
		}
		if want := []journal.Type{journal.IncidentOpen, journal.IncidentClose, journal.IncidentOpen}; !slices.Equal(told, want) {
			t.Errorf("on record are %q, want %q", told, want)
		}
		if kept, err := readAnalysis(a.analysisPath()); err != nil || len(kept.Open) != 1 {
			t.Errorf("on record, and not kept: %+v, %v", kept, err)
		}
		a.stop()
	})
}
