package provisioning

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"shekara/journal"
	"shekara/provisioning/document"
)

const (
	// riskyWindow opens by itself when a change could lock its author out.
	riskyWindow = 120 * time.Second
	maxWindow   = 24 * time.Hour
)

// proposal is what a request would make of the documents, judged and compiled, before anything is looked at on the host.
type proposal struct {
	base    int
	next    *document.Set
	changes []Change
	patch   patch
	scope   scope
	risks   []string
	waived  []string // flows that pass by a waiver from now on; risks has them too
	actor   journal.Actor
	message string
	within  time.Duration
}

// Plan says what a request would change. Nothing is changed. Errors: *InvalidError, *ConflictError.
func (e *Engine) Plan(ctx context.Context, r Request) (Plan, error) {
	documents, err := decode(r.Files)
	if err != nil {
		return Plan{}, err
	}
	if err := e.begin(ctx); err != nil {
		return Plan{}, err
	}
	defer e.unlock()
	prop, err := e.propose(ctx, r, documents)
	if err != nil {
		return Plan{}, err
	}
	plan, _, err := e.plan(ctx, prop)
	return plan, err
}

// begin waits for the start to be over and for whoever changes the host.
func (e *Engine) begin(ctx context.Context) error {
	select {
	case <-e.ready:
	case <-ctx.Done():
		return fmt.Errorf("wait for the daemon's start: %w", ctx.Err())
	}
	return e.lock(ctx)
}

// plan compares a proposal with the host: what the change touches by the last look, and everything, by a new look, if no document changes.
func (e *Engine) plan(ctx context.Context, prop *proposal) (Plan, *program, error) {
	if len(prop.changes) == 0 {
		if err := e.observe(ctx); err != nil {
			return Plan{}, nil, err
		}
		prop.scope = scope{whole: true}
	}
	e.resolve(ctx, prop.scope.tunnels, prop.patch, newLookup)
	e.loadKeys(prop.patch, false)
	e.mu.Lock()
	prog, err := e.compare(prop.scope, prop.patch)
	e.mu.Unlock()
	if err != nil {
		return Plan{}, nil, err
	}
	plan := Plan{Base: prop.base, Site: e.options.Site, Changes: prop.changes, Steps: prog.steps(), Risks: prop.risks}
	plan.ID = planID(plan.Base, plan.Changes)
	return plan, prog, nil
}

// planID is a hash of what determines a plan, each part with its length before it.
func planID(base int, changes []Change) string {
	hash := sha256.New()
	text := strconv.AppendInt(nil, int64(base), 10)
	for _, c := range changes {
		for _, part := range []string{c.Verb, string(c.Kind), c.Name, c.Before, c.After} {
			text = strconv.AppendInt(append(text, ' '), int64(len(part)), 10)
			text = append(append(text, ' '), part...)
		}
		hash.Write(text)
		text = text[:0]
	}
	hash.Write(text)
	return hex.EncodeToString(hash.Sum(nil)[:6])
}

// Apply makes a request real: the revision is on disk before the first step, and the host is as before if it cannot be done.
// A request that changes nothing does nothing. Errors: *InvalidError, *ConflictError, or why the filter could not be loaded.
func (e *Engine) Apply(ctx context.Context, r Request) (Result, error) {
	began := time.Now()
	defer roomy(r)()
	if r.ConfirmWithin < 0 || r.ConfirmWithin > maxWindow {
		return Result{}, fmt.Errorf("confirm within %s: at most %s", r.ConfirmWithin, maxWindow)
	}
	documents, err := decode(r.Files)
	if err != nil {
		e.reject(ctx, r.Actor, err)
		return Result{}, err
	}
	if err := e.begin(ctx); err != nil {
		return Result{}, err
	}
	defer e.unlock()
	prop, err := e.propose(ctx, r, documents)
	if err != nil {
		e.reject(ctx, r.Actor, err)
		return Result{}, err
	}
	result, err := e.carryOut(ctx, prop)
	result.Took = time.Since(began)
	return result, err
}

func (e *Engine) reject(ctx context.Context, actor journal.Actor, err error) {
	var invalid *InvalidError
	if !errors.As(err, &invalid) || len(invalid.Problems) == 0 {
		return
	}
	e.record(ctx, journal.Event{Type: journal.DocumentsReject, Severity: journal.Warning, Actor: actor,
		Message: fmt.Sprintf("%d problems, the first: %s", len(invalid.Problems), shorten(invalid.Problems[0].String()))})
}

// shorten keeps what users wrote within an event.
func shorten(s string) string {
	const most = 1000
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// removedNames are those of the documents that go, so that the record tells what a re-read of the directory took away; at most 1,000 bytes.
func removedNames(changes []Change) string {
	var names []string
	for _, c := range changes {
		if c.Verb == "remove" {
			names = append(names, string(c.Kind)+"/"+c.Name)
		}
	}
	return shorten(strings.Join(names, " "))
}

// carryOut applies a proposal. The caller holds writing.
func (e *Engine) carryOut(ctx context.Context, prop *proposal) (Result, error) {
	e.resumeRepairs(ctx, prop.actor)
	plan, prog, err := e.plan(ctx, prop)
	if err != nil {
		return Result{}, err
	}
	switch {
	case plan.Empty():
		return Result{Revision: prop.base, Plan: plan}, nil
	case len(prop.changes) == 0:
		return e.repairNow(ctx, prop, plan)
	}
	record := e.mustRecord
	if takesAway(prop.changes) {
		record = func(ctx context.Context, event journal.Event) error {
			e.record(ctx, event)
			return nil
		}
	} else if err := e.evidence(); err != nil { // before a revision is written that would have to be taken back
		return Result{}, err
	}
	within := prop.within
	if within == 0 && len(prop.risks) > 0 {
		within = riskyWindow
	}
	var w *window
	if within > 0 {
		if w, err = openWindow(within, e.options.Boot); err != nil {
			return Result{}, err
		}
	}
	revision, err := e.store.begin(Revision{Time: time.Now().UTC(), Actor: prop.actor, Message: prop.message}, prop.changes, w)
	if err != nil {
		return Result{}, hinted(err, "nothing was changed: see whether the state folder's disk is full or read-only")
	}
	object := revisionObject(revision.ID)
	if err := record(ctx, journal.Event{Type: journal.ApplyStart, Severity: journal.Notice, Actor: prop.actor, Object: object,
		Message: fmt.Sprintf("apply revision %d: %d documents added, %d changed, %d removed", revision.ID, revision.Added, revision.Changed, revision.Removed),
		Fields: fieldsOf("plan", plan.ID, "parent", strconv.Itoa(revision.Parent), "message", shorten(prop.message),
			"removed", removedNames(plan.Changes), "changes", digestOf(plan.Changes), "waived", shorten(strings.Join(prop.waived, "; ")))}); err != nil {
		return Result{}, errors.Join(err, e.abandon(revision))
	}
	for _, event := range changeEvents(prop.actor, revision.ID, plan.Changes) {
		e.options.Journal.Post(event) // apply.finish comes behind them, and is waited for
	}
	prop.patch.actor = prop.actor
	done, err := e.carry(ctx, prop.scope, prop.patch, prog)
	if err != nil {
		return Result{Revision: revision.Parent, Plan: plan}, e.failApply(ctx, prop, revision, err)
	}
	e.mu.Lock()
	e.before = kept{}
	if within > 0 {
		e.before = kept{revision: revision.Parent, set: e.documents}
	}
	e.documents, e.problems = prop.next, nil
	e.mu.Unlock()
	result := Result{Revision: revision.ID, Plan: plan, Failed: done.failed}
	err = e.settleRevision(ctx, prop.actor, revision, within, &result)
	e.look.poke()
	e.tidy.poke()
	return result, err
}

func revisionObject(id int) string { return "revision/" + strconv.Itoa(id) }

// settleRevision ends an apply whose steps are done: confirmed, or unconfirmed with its whole window from now.
func (e *Engine) settleRevision(ctx context.Context, actor journal.Actor, r Revision, within time.Duration, result *Result) error {
	var w *window
	if within > 0 {
		var err error
		if w, err = openWindow(within, e.options.Boot); err != nil {
			return err
		}
	}
	err := e.store.update(func(p *pointers) {
		p.Window = w
		if w == nil {
			p.Confirmed, p.Phase, p.Alarms = p.Current, Confirmed, nil
		} else {
			p.Phase = Unconfirmed
		}
	})
	if err != nil {
		// The host is as asked and the intent is on disk: a restart ends the apply. Until then the store is told again and again.
		e.options.Log.Error("write pointers", "revision", r.ID, "error", err)
		e.look.poke()
	}
	e.record(ctx, journal.Event{Type: journal.ApplyFinish, Severity: journal.Notice, Actor: actor, Object: revisionObject(r.ID),
		Message: fmt.Sprintf("revision %d is in force; %d tunnels have an error of their own", r.ID, len(result.Failed)),
		Fields:  map[string]string{"failed": strconv.Itoa(len(result.Failed)), "steps": strconv.Itoa(len(result.Plan.Steps))}})
	if w == nil {
		return nil
	}
	result.ConfirmBy, result.RevisionToRevert = &w.Deadline, e.store.now().Confirmed
	e.record(ctx, journal.Event{Type: journal.ConfirmWait, Severity: journal.Warning, Actor: actor, Object: revisionObject(r.ID),
		Message: fmt.Sprintf("revision %d is undone unless it is confirmed by %s", r.ID, w.Deadline.Format(time.RFC3339)),
		Fields:  map[string]string{"deadline": w.Deadline.Format(time.RFC3339Nano), "returnTo": strconv.Itoa(result.RevisionToRevert)}})
	e.windows.poke()
	return nil
}

// abandon takes back a revision none of whose steps was done.
func (e *Engine) abandon(r Revision) error {
	return e.store.update(func(p *pointers) {
		p.Current, p.Phase, p.Window = r.Parent, Confirmed, nil
		p.Reverted = append(p.Reverted, r.ID)
	})
}

// failApply brings back what was before a revision that could not be applied.
func (e *Engine) failApply(ctx context.Context, prop *proposal, r Revision, cause error) error {
	errs := []error{fmt.Errorf("apply revision %d: %w", r.ID, cause)}
	if err := e.abandon(r); err != nil {
		errs = append(errs, err)
	}
	if err := e.restore(ctx); err != nil {
		errs = append(errs, fmt.Errorf("return to revision %d: %w", r.Parent, err))
		e.look.poke()
	}
	err := errors.Join(errs...)
	e.record(ctx, journal.Event{Type: journal.ApplyFail, Severity: journal.Error, Actor: prop.actor, Object: revisionObject(r.ID),
		Message: shorten(err.Error()), Fields: map[string]string{"inForce": strconv.Itoa(r.Parent)}})
	return hinted(err, fmt.Sprintf("revision %d is in force; shekara status shows whether all of it is", r.Parent))
}

// restore looks at everything and makes it as the intent says.
func (e *Engine) restore(ctx context.Context) error {
	if err := e.observe(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	_, err := e.converge(ctx, scope{whole: true}, patch{})
	return err
}

// repairNow is an apply without a change of documents: the host is made as the revision in force says.
func (e *Engine) repairNow(ctx context.Context, prop *proposal, plan Plan) (Result, error) {
	if err := e.mustRecord(ctx, journal.Event{Type: journal.DriftRepair, Severity: journal.Warning, Actor: prop.actor, Object: revisionObject(prop.base),
		Message: fmt.Sprintf("asked for: %d steps, the first: %s", len(plan.Steps), plan.Steps[0].Text)}); err != nil {
		return Result{}, err
	}
	done, err := e.converge(ctx, scope{whole: true}, patch{})
	if err != nil {
		return Result{Revision: prop.base, Plan: plan}, err
	}
	e.mu.Lock()
	e.repairs.differs, e.repairs.by = nil, nil
	e.mu.Unlock()
	return Result{Revision: prop.base, Plan: plan, Failed: done.failed}, nil
}
