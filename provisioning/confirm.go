package provisioning

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"shekara/journal"
	"shekara/provisioning/document"
)

// ErrNothingToConfirm is in the error of Confirm when no window is open.
var ErrNothingToConfirm = errors.New("no revision waits for its confirmation")

// Confirm keeps the revision that waits for it.
func (e *Engine) Confirm(ctx context.Context, actor journal.Actor) (Result, error) {
	if err := e.begin(ctx); err != nil {
		return Result{}, err
	}
	defer e.unlock()
	p := e.store.now()
	if p.Window == nil || p.Phase != Unconfirmed {
		return Result{}, hinted(ErrNothingToConfirm, "shekara history shows which revision is in force")
	}
	if p.Window.remaining(e.options.Boot) <= 0 {
		return Result{}, hinted(fmt.Errorf("revision %d: its time to be confirmed is over, it is being undone: %w", p.Current, ErrNothingToConfirm), "apply it again")
	}
	if err := e.evidence(); err != nil {
		return Result{}, err
	}
	err := e.store.update(func(p *pointers) {
		p.Confirmed, p.Phase, p.Window, p.Alarms = p.Current, Confirmed, nil, nil
	})
	if err != nil {
		return Result{}, hinted(fmt.Errorf("confirm revision %d: %w", p.Current, err), "it is undone at its time unless this succeeds: see whether the state folder's disk is full")
	}
	e.windows.poke()
	e.record(ctx, journal.Event{Type: journal.ConfirmDone, Severity: journal.Notice, Actor: actor, Object: revisionObject(p.Current),
		Message: fmt.Sprintf("revision %d is confirmed", p.Current)})
	return Result{Revision: p.Current}, nil
}

// Rollback goes back to the documents of an earlier revision; 0 is the one before the one in force. While a window is open, 0 and the
// last confirmed revision end it; else the way back is a new revision, with a window of its own if it is risky.
func (e *Engine) Rollback(ctx context.Context, revision int, actor journal.Actor) (Result, error) {
	if err := e.begin(ctx); err != nil {
		return Result{}, err
	}
	defer e.unlock()
	p := e.store.now()
	if p.Window != nil {
		if revision != 0 && revision != p.Confirmed {
			return Result{}, e.pendingConflict(p)
		}
		if err := e.revert(ctx, actor, "it was rolled back by hand"); err != nil {
			return Result{}, err
		}
		return Result{Revision: e.store.now().Current}, nil
	}
	if revision == 0 {
		current, err := e.store.get(p.Current)
		if err != nil || current.Parent == 0 {
			return Result{}, hinted(fmt.Errorf("there is no revision before %d", p.Current), "shekara history shows what there is")
		}
		revision = current.Parent
	}
	if _, err := e.store.get(revision); err != nil {
		return Result{}, hinted(err, "shekara history shows which revisions are kept")
	}
	set, problems, err := e.read(revision)
	if err != nil {
		return Result{}, err
	}
	if len(problems) > 0 {
		return Result{}, &InvalidError{Problems: problems}
	}
	e.mu.Lock()
	next, changes := e.documents.Replace(listOf(set))
	e.mu.Unlock()
	prop, err := e.proposal(ctx, next, changes, p.Current)
	if err != nil {
		return Result{}, err
	}
	prop.actor, prop.message = actor, "roll back to revision "+strconv.Itoa(revision)
	return e.carryOut(ctx, prop)
}

func listOf(s *document.Set) []*document.Document {
	list := make([]*document.Document, 0, s.Len())
	for d := range s.All() {
		list = append(list, d)
	}
	return list
}

// keepWindow undoes the revision in force when nobody has confirmed it in time.
func (e *Engine) keepWindow(ctx context.Context) {
	const (
		// A sleeping machine stops the process's own clock and not the window's: look again now and then.
		longest  = 5 * time.Second
		again    = time.Second // after a revert that could not be done, or not be written down
		shortest = time.Millisecond
	)
	wait := time.Duration(0)
	for {
		timer := time.NewTimer(max(wait, shortest))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-e.windows:
			timer.Stop()
		case <-timer.C:
		}
		w := e.store.now().Window
		switch {
		case w == nil:
			wait = time.Hour // windows pokes
		case w.remaining(e.options.Boot) > 0:
			wait = min(w.remaining(e.options.Boot), longest)
		default:
			wait = again
			if err := e.expire(ctx); err != nil {
				e.options.Log.Error("undo unconfirmed revision", "error", err)
			}
		}
	}
}

func (e *Engine) expire(ctx context.Context) error {
	if err := e.lock(ctx); err != nil {
		return err
	}
	defer e.unlock()
	w := e.store.now().Window
	if w == nil || w.remaining(e.options.Boot) > 0 {
		return nil // confirmed while we waited
	}
	return e.revert(ctx, journal.Actor{}, "nobody confirmed it in time")
}

// revert returns from the unconfirmed revision to the last confirmed one, through the same functions as any change, touching only
// what differs. The caller holds writing. It may be called again until it answers without an error.
//
// First the pointers, then the host; if the pointers cannot be written, or not soon, the host goes back all the same, for its deadline is over and a
// restart would come to the same end.
func (e *Engine) revert(ctx context.Context, actor journal.Actor, why string) error {
	p := e.store.now()
	alarm := fmt.Sprintf("revision %d was undone and revision %d is in force again: %s", p.Current, p.Confirmed, why)
	point := func() error {
		return e.store.updateWithin(revertPatience, func(q *pointers) {
			q.Current, q.Phase, q.Window = p.Confirmed, Confirmed, nil
			q.Reverted = append(q.Reverted, p.Current)
			q.Alarms = append(q.Alarms, alarm)
		})
	}
	pointed := point()
	err := e.goTo(ctx, p.Confirmed, actor)
	if pointed != nil {
		pointed = point()
	}
	e.windows.poke()
	e.look.poke()
	if err == nil && e.undone != p.Current {
		e.undone = p.Current // once, however often the pointers are tried
		e.record(ctx, journal.Event{Type: journal.RevisionRevert, Severity: journal.Alert, Actor: actor, Object: revisionObject(p.Current),
			Message: alarm, Fields: map[string]string{"inForce": strconv.Itoa(p.Confirmed), "reason": why}})
	}
	if err := errors.Join(err, pointed); err != nil {
		return fmt.Errorf("return to revision %d: %w", p.Confirmed, err)
	}
	return nil
}

// goTo makes the documents of a revision those in force.
func (e *Engine) goTo(ctx context.Context, id int, actor journal.Actor) error {
	e.mu.Lock()
	before := e.before
	e.mu.Unlock()
	if before.set == nil || before.revision != id {
		var err error
		if before.set, before.problems, err = e.read(id); err != nil {
			return err
		}
	}
	e.mu.Lock()
	next, changes := e.documents.Replace(listOf(before.set))
	e.mu.Unlock()
	patch, scope, err := e.patchTo(next, changes, next.Affected(changes))
	if err != nil {
		return err
	}
	patch.actor = actor
	if _, err := e.converge(ctx, scope, patch); err != nil {
		e.mu.Lock()
		e.intent.apply(patch) // it is what should be: the loop goes on trying
		e.mu.Unlock()
		if again := e.restore(ctx); again != nil {
			return errors.Join(err, again)
		}
	}
	e.mu.Lock()
	e.documents = next
	e.problems = problemTexts(before.problems)
	e.mu.Unlock()
	return nil
}

func problemTexts(problems []document.Problem) []string {
	const most = 100
	var texts []string
	for i, p := range problems {
		if i == most {
			return append(texts, fmt.Sprintf("and %d more", len(problems)-most))
		}
		texts = append(texts, p.String())
	}
	return texts
}

func (e *Engine) pendingConflict(p pointers) error {
	conflict := &ConflictError{Saw: p.Confirmed, Newest: p.Current, Pending: true}
	if r, err := e.store.get(p.Current); err == nil {
		conflict.Actor = r.Actor
	}
	return conflict
}
