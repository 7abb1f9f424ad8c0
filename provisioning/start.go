package provisioning

import (
	"context"
	"fmt"
	"strconv"

	"shekara/journal"
	"shekara/provisioning/contour"
	"shekara/provisioning/document"
)

// start brings up what boots: the revision in force, if it is confirmed or its window is still open or it was cut off while it was
// applied; else the last confirmed one. It goes through the same functions as an apply, so a box that is as it should be is not touched.
// An error means that the state cannot be read; a host that cannot be configured is reported and tried again by the loop.
func (e *Engine) start(ctx context.Context) error {
	if err := e.lock(ctx); err != nil {
		return err
	}
	defer e.unlock()
	p := e.store.now()
	boots, late := p.Current, false
	if p.Window != nil && p.Window.remaining(e.options.Boot) <= 0 {
		boots, late = p.Confirmed, true
	}
	e.record(ctx, journal.Event{Type: journal.DaemonStart, Severity: journal.Notice, Object: revisionObject(boots),
		Message: fmt.Sprintf("version %s brings up revision %d", e.options.Version, boots),
		Fields:  map[string]string{"version": e.options.Version, "site": e.options.Site}})
	day := contour.Today()
	set, problems, err := e.read(boots)
	if err != nil {
		return err
	}
	e.reportInvalid(ctx, boots, problems)
	next, err := e.intentOf(set)
	if err != nil {
		return fmt.Errorf("compile revision %d: %w", boots, err)
	}
	e.mu.Lock()
	e.documents, e.intent, e.problems, e.day = set, next, problemTexts(problems), day
	e.mu.Unlock()
	if !late && p.Phase != Pending {
		e.resumeHold()
	}
	err = e.bringUp(ctx, p.Newest > 0)
	switch {
	case late:
		return e.finishLate(ctx, p, err)
	case err != nil && p.Phase == Pending:
		return e.giveUpPending(ctx, p, err)
	case err != nil:
		e.options.Log.Error("start", "revision", boots, "error", err)
		e.mu.Lock()
		e.repairs.observing = err
		e.mu.Unlock()
	case p.Phase == Pending:
		return e.finishPending(ctx, p)
	}
	return nil
}

func (e *Engine) reportInvalid(ctx context.Context, id int, problems []document.Problem) {
	if len(problems) == 0 {
		return
	}
	e.record(ctx, journal.Event{Type: journal.DocumentsReject, Severity: journal.Error, Object: revisionObject(id),
		Message: shorten(fmt.Sprintf("%d problems in documents of the revision in force; these are left out, the rest comes up. The first: %s", len(problems), problems[0]))})
}

// bringUp makes the host as the intent says. Nothing is touched on a box of which nothing was ever asked.
func (e *Engine) bringUp(ctx context.Context, asked bool) error {
	if err := e.observe(ctx); err != nil {
		return err
	}
	if !asked {
		return nil
	}
	var names []string
	e.mu.Lock()
	for name := range e.intent.tunnels {
		names = append(names, name)
	}
	e.mu.Unlock()
	e.resolve(ctx, names, patch{}, newLookup)
	if err := e.adoptFilter(ctx); err != nil {
		return err
	}
	e.mu.Lock()
	held := e.repairs.held()
	e.mu.Unlock()
	if held {
		return nil // the loop reports what differs, and repairs it when the hold is over
	}
	_, err := e.converge(ctx, scope{whole: true}, patch{})
	return err
}

// adoptFilter takes the table that is there for loaded, if it is as it should be: a restart does not load it again.
func (e *Engine) adoptFilter(ctx context.Context) error {
	e.mu.Lock()
	change, err := planFilter(&e.filter, &e.intent, patch{})
	e.mu.Unlock()
	if err != nil || change.whole == nil {
		return err
	}
	ruleset, err := change.whole.ruleset()
	if err != nil {
		return err
	}
	differs, err := e.options.Filter.Matches(ctx, ruleset)
	if err != nil {
		return err
	}
	if len(differs) == 0 {
		e.filter = *change.whole
		e.filter.adopt()
	}
	return nil
}

// finishLate writes down that an unconfirmed revision was undone because its time ended while no daemon ran.
func (e *Engine) finishLate(ctx context.Context, p pointers, err error) error {
	if err != nil {
		e.options.Log.Error("undo unconfirmed revision at start", "revision", p.Current, "error", err)
	}
	return e.notePast(ctx, p, journal.RevisionRevert, "nobody confirmed it in time (the daemon was not running then)")
}

// giveUpPending returns from a revision that was cut off and cannot be applied now either.
func (e *Engine) giveUpPending(ctx context.Context, p pointers, cause error) error {
	if err := e.goTo(ctx, p.Confirmed, journal.Actor{}); err != nil {
		e.options.Log.Error("return from a revision that was cut off", "revision", p.Current, "error", err)
	}
	return e.notePast(ctx, p, journal.ApplyFail, shorten("it was cut off, and then: "+cause.Error()))
}

// notePast points back to the last confirmed revision and says so loudly.
func (e *Engine) notePast(ctx context.Context, p pointers, t journal.Type, why string) error {
	alarm := fmt.Sprintf("revision %d was undone and revision %d is in force again: %s", p.Current, p.Confirmed, why)
	err := e.store.update(func(q *pointers) {
		q.Current, q.Phase, q.Window = p.Confirmed, Confirmed, nil
		q.Reverted = append(q.Reverted, p.Current)
		q.Alarms = append(q.Alarms, alarm)
	})
	if err != nil {
		e.options.Log.Error("write pointers", "error", err) // the window on disk is over: keepWindow comes to the same end
	}
	e.record(ctx, journal.Event{Type: t, Severity: journal.Alert, Object: revisionObject(p.Current), Message: alarm,
		Fields: map[string]string{"inForce": strconv.Itoa(p.Confirmed), "reason": why}})
	return nil
}

// finishPending ends an apply that was cut off: all its steps are done now.
func (e *Engine) finishPending(ctx context.Context, p pointers) error {
	err := e.store.update(func(q *pointers) {
		if q.Window == nil {
			q.Confirmed, q.Phase = q.Current, Confirmed
		} else {
			q.Phase = Unconfirmed
		}
	})
	if err != nil {
		e.options.Log.Error("write pointers", "error", err)
	}
	e.record(ctx, journal.Event{Type: journal.ApplyFinish, Severity: journal.Notice, Object: revisionObject(p.Current),
		Message: fmt.Sprintf("revision %d, which was cut off, is in force", p.Current)})
	return nil
}
