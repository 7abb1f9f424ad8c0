package provisioning

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"time"

	"shekara/journal"
)

// mustRefuse demands that changes are refused, with the reason and a next step, and leave nothing behind.
func (b *box) mustRefuse(why string) {
	b.t.Helper()
	newest := b.store.now().Newest
	ctx := b.t.Context()
	began := time.Now()
	for what, do := range map[string]func() error{
		"an apply":             func() error { _, err := b.Apply(ctx, request(agency{n: 7}.yaml())); return err },
		"a change of a tunnel": func() error { _, err := b.Apply(ctx, request(agency{n: 0, services: "tcp/8443"}.yaml())); return err },
		"a rollback":           func() error { _, err := b.Rollback(ctx, 1, journal.Actor{}); return err },
		"a hold":               func() error { _, err := b.Hold(ctx, time.Minute, journal.Actor{}); return err },
		"a secret":             func() error { return b.NewSecret(ctx, "x", journal.Actor{}) },
		"a secret's import":    func() error { return b.ImportSecret(ctx, "x", []byte(strings.Repeat("A", 43)+"="), journal.Actor{}) },
		"a secret's export":    func() error { return b.export(ctx) },
	} {
		if err := do(); err == nil || !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), "nothing is changed") || hintOf(err) == "" {
			b.t.Errorf("%s: %v (hint %q)", what, err, hintOf(err))
		}
	}
	if took := time.Since(began); took != 0 {
		b.t.Errorf("refusals of what is known took %s", took)
	}
	if now := b.store.now().Newest; now != newest {
		b.t.Errorf("a refused change left revision %d", now)
	}
	if _, err := b.options.Secrets.Get(presharedName("x")); !errors.Is(err, fs.ErrNotExist) {
		b.t.Errorf("a refused secret is there: %v", err)
	}
}

// export hands out a key of the box itself, sealed to it.
func (b *box) export(ctx context.Context) error {
	names, err := b.Secrets(ctx)
	if err != nil || len(names) == 0 {
		b.t.Fatalf("secrets: %v, %v", names, err)
	}
	to, err := b.Recipient(ctx)
	if err != nil {
		b.t.Fatal(err)
	}
	_, err = b.ExportSecret(ctx, names[0], to, journal.Actor{})
	return err
}

// TestChangesAreRefusedThatCannotBeRecorded: but what only takes away, and going back, do not wait for the journal.
func TestChangesAreRefusedThatCannotBeRecorded(t *testing.T) {
	for name, c := range map[string]struct {
		health journal.Health
		why    string
	}{
		"full":     {journal.Health{Err: journal.ErrFull}, "the journal's disk is full"},
		"stalled":  {journal.Health{Err: journal.ErrStalled}, "does not answer"},
		"broken":   {journal.Health{Err: errors.New("input/output error")}, "input/output error"},
		"unsigned": {journal.Health{Unsigned: errors.New("no such file")}, "not signed: no such file"},
		"key lost": {journal.Health{Unsigned: journal.ErrKeyLost}, "not signed: the key that the journal is signed by is lost"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *box) {
				set := func(h journal.Health) {
					b.events.mu.Lock()
					defer b.events.mu.Unlock()
					b.events.health, b.events.stall = h, h.Err != nil
				}
				r := request(site + agencies(0, 1) + agency{n: 2}.yaml())
				r.Whole = true
				b.mustApply(r)
				set(c.health)
				b.mustRefuse(c.why)
				status, err := b.Status(t.Context())
				if err != nil || len(status.Alarms) != 1 || status.Journal.Unsigned != (c.health.Unsigned != nil) || (c.health.Err != nil) != (status.Journal.Error != "") {
					t.Errorf("%q, %+v, %v", status.Alarms, status.Journal, err)
				}
				// Revocation.
				r = request(site + agencies(0, 1))
				r.Whole = true
				began := time.Now()
				b.mustApply(r)
				if time.Since(began) > 2*recordWait {
					t.Errorf("a revocation took %s", time.Since(began))
				}
				b.mustBe(3, Confirmed, agency{n: 0})
				// Confirmation is refused; then the deadline passes.
				set(journal.Health{})
				b.applyWithin(time.Minute, agency{n: 3}.yaml())
				set(c.health)
				if _, err := b.Confirm(t.Context(), journal.Actor{}); err == nil || !strings.Contains(err.Error(), c.why) || hintOf(err) == "" {
					t.Errorf("confirmed: %v", err)
				}
				b.wait(time.Minute + 2*time.Second)
				b.mustBe(3, Confirmed, agency{n: 0})
				if e := b.events.last(journal.RevisionRevert); e.Object != "revision/4" {
					t.Errorf("%+v", e)
				}
				// And by hand.
				set(journal.Health{})
				b.applyWithin(time.Minute, agency{n: 3}.yaml())
				set(c.health)
				if _, err := b.Rollback(t.Context(), 0, journal.Actor{}); err != nil {
					t.Error(err)
				}
				b.mustBe(3, Confirmed, agency{n: 0})
				// The control: all of that is taken when it can be recorded.
				set(journal.Health{})
				b.mustApply(request(agency{n: 7}.yaml()))
				if err := b.NewSecret(t.Context(), "x", journal.Actor{}); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestWhatHappensByItselfDoesNotWaitForTheJournal: repairs go on, the loop turns, and the watchdog has no reason to restart anything.
func TestWhatHappensByItselfDoesNotWaitForTheJournal(t *testing.T) {
	inBubble(t, func(t *testing.T, b *box) {
		b.events.mu.Lock()
		b.events.stall = true // and nobody knows yet that it is one
		b.events.mu.Unlock()
		b.wait(lookEvery)
		for range 2 {
			b.breakRoute(agency{n: 0})
			b.wait(lookEvery + 5*recordWait)
			b.mustBeAsAsked()
		}
		if idle := time.Since(b.Alive()); idle > lookEvery+5*recordWait {
			t.Errorf("the loop last turned %s ago", idle)
		}
	})
}

// TestTrafficThatCannotBeRecorded: stops if the Site says so, else goes on.
func TestTrafficThatCannotBeRecorded(t *testing.T) {
	for _, stop := range []bool{false, true} {
		inBubble(t, func(t *testing.T, b *box) {
			if stop {
				b.applyWithin(time.Minute, strings.Replace(site, "  lab: true", "  lab: true\n  unrecorded: stop", 1))
				b.mustConfirm()
			}
			passes := func() int {
				b.mu.Lock()
				defer b.mu.Unlock()
				policy := b.intent.policy()
				return len(policy.Flows)
			}
			before := passes()
			if before == 0 {
				t.Fatal("no flow passes")
			}
			b.wait(5 * evidenceEvery)
			b.events.answer(journal.ErrFull)
			b.wait(2 * evidenceEvery)
			if got := passes(); (got == 0) != stop {
				t.Errorf("stop %v: %d flows pass", stop, got)
			}
			b.mustBeAsAsked()
			if stop {
				// What is asked for meanwhile does not open anything: a removal goes, and nothing else comes with it.
				r := request(strings.Replace(site, "  lab: true", "  lab: true\n  unrecorded: stop", 1) + agencies(0, 1))
				r.Whole = true
				b.mustApply(r)
				before /= 2
				if got := passes(); got != 0 {
					t.Errorf("after a revocation %d flows pass", got)
				}
				if status, err := b.Status(context.Background()); err != nil || len(status.Alarms) != 2 {
					t.Errorf("%q, %v", status.Alarms, err)
				}
			}
			b.events.answer(nil)
			b.wait(evidenceFor / 2)
			if got := passes(); (got == 0) != stop {
				t.Errorf("stop %v: it goes on before it is sure", stop)
			}
			b.wait(evidenceFor)
			if got := passes(); got != before {
				t.Errorf("stop %v: afterwards %d flows pass, want %d", stop, got, before)
			}
			b.mustBeAsAsked()
			want := map[bool]int{true: 1}[stop]
			if stops, resumes := b.events.count(journal.ForwardStop), b.events.count(journal.ForwardResume); stops != want || resumes != want {
				t.Errorf("told %d stops and %d resumes", stops, resumes)
			}
		})
	}
}

// stalledDisk does not answer to writes while it has a gate.
type stalledDisk struct {
	disk
	gate chan struct{}
}

func (d stalledDisk) WriteFile(path string, data []byte) error {
	<-d.gate
	return d.disk.WriteFile(path, data)
}

// TestReturnDoesNotWaitForAStalledDisk: what is not confirmed is undone on the host though the state folder's disk does not answer, and on the disk when it
// does; what was refused meanwhile does not come to pass later.
func TestReturnDoesNotWaitForAStalledDisk(t *testing.T) {
	inBubble(t, func(t *testing.T, b *box) {
		b.applyWithin(time.Minute, agency{n: 2}.yaml())
		gate := make(chan struct{})
		b.store.disk = stalledDisk{realDisk{}, gate}
		if _, err := b.Confirm(t.Context(), journal.Actor{}); !errors.Is(err, errStoreStalled) {
			t.Errorf("confirmed: %v", err)
		}
		b.wait(time.Minute - storePatience + 2*revertPatience)
		if got := len(b.peers()); got != 2 {
			t.Errorf("after the deadline %d peers are on the host, want 2", got)
		}
		b.mustBeAsAsked()
		if n := b.events.count(journal.RevisionRevert); n != 1 {
			t.Errorf("%d reverts on record", n)
		}
		if _, err := b.Apply(t.Context(), request(agency{n: 3}.yaml())); err == nil {
			t.Error("an apply was taken")
		}
		if status, err := b.Status(t.Context()); err != nil || len(status.Alarms) != 1 || !strings.Contains(status.Alarms[0], "does not answer") {
			t.Errorf("%q, %v", status.Alarms, err)
		}
		b.wait(10 * time.Minute)
		if idle := time.Since(b.Alive()); idle > time.Minute {
			t.Errorf("the loop last turned %s ago", idle)
		}
		close(gate)
		b.wait(10 * time.Second)
		b.mustBe(1, Confirmed, agency{n: 0}, agency{n: 1})
		if n := b.events.count(journal.RevisionRevert); n != 1 {
			t.Errorf("%d reverts on record", n)
		}
		b.kill()
		b.run()
		b.mustBe(1, Confirmed, agency{n: 0}, agency{n: 1})
		b.mustApply(request(agency{n: 3}.yaml()))
		b.mustBe(3, Confirmed, agency{n: 0}, agency{n: 1}, agency{n: 3})
	})
}

// TestAnApplyThatAStalledDiskRefusedDoesNotComeToPass: also if its write ends after all.
func TestAnApplyThatAStalledDiskRefusedDoesNotComeToPass(t *testing.T) {
	inBubble(t, func(t *testing.T, b *box) {
		gate := make(chan struct{})
		b.store.disk = stalledDisk{realDisk{}, gate}
		began := time.Now()
		if _, err := b.Apply(t.Context(), request(agency{n: 3}.yaml())); !errors.Is(err, errStoreStalled) || hintOf(err) == "" || time.Since(began) != storePatience {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		close(gate)
		b.wait(time.Second)
		b.mustBe(1, Confirmed, agency{n: 0}, agency{n: 1})
		b.kill()
		b.run()
		b.mustBe(1, Confirmed, agency{n: 0}, agency{n: 1})
		b.mustApply(request(agency{n: 3}.yaml()))
		b.mustBeAsAsked()
	})
}
