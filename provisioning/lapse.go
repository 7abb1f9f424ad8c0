package provisioning

import (
	"context"
	"fmt"
	"slices"

	"shekara/journal"
	"shekara/provisioning/contour"
	"shekara/provisioning/document"
	"shekara/provisioning/validate"
)

// newlyWaived are the flows that pass only by a waiver after a change, and did not before it or not by that one.
func (e *Engine) newlyWaived(now, next *document.Set) []string {
	waived := validate.Waived(next, validate.Options{Site: e.options.Site})
	if len(waived) == 0 {
		return nil
	}
	before := validate.Waived(now, validate.Options{Site: e.options.Site})
	return slices.DeleteFunc(waived, func(s string) bool { return slices.Contains(before, s) })
}

// lapse takes out of force what was valid yesterday and no longer is: a flow whose waiver has expired, or what needs a contract or a
// certificate that has ended. It looks when the day changes in Almaty. The documents stay in the revision, as those do that a newer
// program judges otherwise; a later apply brings them back, mended.
func (e *Engine) lapse(ctx context.Context) error {
	today := contour.Today()
	e.mu.Lock()
	judged := e.day
	e.mu.Unlock()
	if judged == today {
		return nil
	}
	if err := e.lock(ctx); err != nil {
		return err
	}
	defer e.unlock()
	e.mu.Lock()
	now := e.documents
	e.mu.Unlock()
	if now.Len() > 0 {
		next, problems := validate.Valid(now, validate.Options{Site: e.options.Site, Day: today}, nil)
		if _, changes := now.Replace(listOf(next)); len(changes) > 0 {
			if err := e.takeOut(ctx, next, changes, problems); err != nil {
				return err // the next turn tries again
			}
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.day = today
	e.before.set = nil // it was judged on another day: going back reads it anew
	return nil
}

// takeOut makes the host as the documents that are left ask.
func (e *Engine) takeOut(ctx context.Context, next *document.Set, changes []document.Change, problems []document.Problem) error {
	patch, scope, err := e.patchTo(next, changes, next.Affected(changes))
	if err != nil {
		return err
	}
	e.record(ctx, journal.Event{Type: journal.DocumentsReject, Severity: journal.Error, Object: revisionObject(e.store.now().Current),
		Message: shorten(fmt.Sprintf("%d documents of the revision in force are no longer valid and are taken out of force. The first problem: %s", len(changes), problems[0])),
		Fields:  fieldsOf("removed", removedNames(changesOf(changes)))})
	_, err = e.converge(ctx, scope, patch)
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil {
		e.options.Log.Error("take out of force what is no longer valid", "error", err)
		e.intent.apply(patch) // it is what should be: the loop goes on trying
	}
	e.documents = next
	e.problems = append(problemTexts(problems), e.problems...)
	return nil
}

func changesOf(changes []document.Change) []Change {
	made := make([]Change, 0, len(changes))
	for _, c := range changes {
		made = append(made, changeOf(c))
	}
	return made
}
