package provisioning

import (
	"context"
	"errors"
	"fmt"
	"time"

	"shekara/journal"
	"shekara/provisioning/compile"
	"shekara/provisioning/document"
)

// Recorder is where events go: journal.Journal.
type Recorder interface {
	// Append returns when the event is on disk, or an error within seconds.
	Append(ctx context.Context, e journal.Event) (journal.Event, error)
	// Post does not wait: the channel tells what comes of it. What is not on disk is kept in memory, within bounds, and beyond them counted.
	Post(e journal.Event) <-chan error
	// Health says whether events can be put on disk. It does not wait for that.
	Health() journal.Health
}

const (
	// recordWait is how long what happens by itself waits for its record to be on disk: who asks next should find it. It goes on all the same.
	recordWait = time.Second
	// evidenceEvery is how often the Site's word on traffic that cannot be recorded is looked at, and evidenceFor how long events must be
	// recorded again before traffic goes on.
	evidenceEvery = time.Second
	evidenceFor   = 10 * time.Second
)

// record journals what happened. A journal that cannot write is an alarm, never a reason to leave the host half done, or to wait: the event then
// waits in memory.
func (e *Engine) record(ctx context.Context, event journal.Event) {
	e.recordAll(ctx, []journal.Event{event})
}

// recordAll lets many events share the journal's writes.
func (e *Engine) recordAll(ctx context.Context, events []journal.Event) {
	posted := make([]<-chan error, len(events))
	for i, event := range events {
		posted[i] = e.options.Journal.Post(event)
	}
	timer := time.NewTimer(recordWait)
	defer timer.Stop()
	for i, event := range events {
		if e.options.Journal.Health().Err != nil {
			return
		}
		select {
		case err := <-posted[i]:
			if err != nil {
				e.options.Log.Error("journal", "type", event.Type, "message", event.Message, "error", err)
			}
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		}
	}
}

// mustRecord is for what may not happen unrecorded: acts of administrators, before they are done.
func (e *Engine) mustRecord(ctx context.Context, event journal.Event) error {
	if err := e.evidence(); err != nil {
		return err
	}
	if _, err := e.options.Journal.Append(ctx, event); err != nil {
		return unrecorded(err)
	}
	return nil
}

// evidence refuses what may not happen while it cannot be put on record so that it can be proved later. Reverts, closing, revocation and
// what the box does by itself do not ask.
func (e *Engine) evidence() error {
	switch h := e.options.Journal.Health(); {
	case h.Err != nil:
		return unrecorded(h.Err)
	case h.Unsigned != nil:
		return hinted(fmt.Errorf("nothing is changed while the journal is not signed: %w", h.Unsigned), KeyBack(h.Unsigned))
	}
	return nil
}

// KeyBack is what to do where nobody signs.
func KeyBack(why error) string {
	var hinted interface{ Hint() string }
	if errors.As(why, &hinted) {
		return hinted.Hint()
	}
	return "put the key right in the state folder's keys, then restart shekarad"
}

func unrecorded(err error) error {
	return hinted(fmt.Errorf("nothing is changed that cannot be recorded: journal: %w", err),
		"free room on the disk of the journal's folder, or see the daemon's log; going back from what is not confirmed, and removing tunnels and flows, go on meanwhile")
}

// takesAway says whether changes do nothing but remove tunnels, flows and far peers: revocation does not wait for the journal.
func takesAway(changes []Change) bool {
	for _, c := range changes {
		switch {
		case c.Verb != verbRemove:
			return false
		case c.Kind != document.KindTunnel && c.Kind != document.KindFlow && c.Kind != document.KindPeer:
			return false // it may be what forbids something
		}
	}
	return true
}

// KeepMonths is how many calendar months the journal's records are kept by the documents in force; 0: they do not say.
func (e *Engine) KeepMonths() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.intent.base.KeepMonths
}

// keepEvidence does what the Site says about traffic that cannot be recorded.
func (e *Engine) keepEvidence(ctx context.Context) {
	tick := time.NewTicker(evidenceEvery)
	defer tick.Stop()
	sound := time.Now() // since when events are recorded
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			h := e.options.Journal.Health()
			if h.Err != nil {
				sound = now
			}
			e.mu.Lock()
			stops, stopped := e.intent.present && e.intent.base.StopUnrecorded, e.stopped
			e.mu.Unlock()
			if stop := stops && now.Sub(sound) < evidenceFor && (stopped || h.Err != nil); stop != stopped {
				if err := e.stopForwarding(ctx, stop, h.Err); err != nil && ctx.Err() == nil {
					e.options.Log.Error("traffic that cannot be recorded", "stop", stop, "error", err)
				}
			}
		}
	}
}

// stopForwarding takes all flows out of what the documents ask, or puts them back. Tunnels stay up; who may manage the box may go on.
func (e *Engine) stopForwarding(ctx context.Context, stop bool, why error) error {
	if err := e.lock(ctx); err != nil {
		return err
	}
	defer e.unlock()
	e.mu.Lock()
	e.stopped = stop
	next, err := e.intentOf(e.documents)
	p := e.intent.difference(next)
	e.mu.Unlock()
	if err == nil {
		_, err = e.converge(ctx, scope{whole: true}, p)
	}
	if err != nil {
		e.mu.Lock()
		e.stopped = !stop // it is tried again
		e.mu.Unlock()
		return err
	}
	event := journal.Event{Type: journal.ForwardResume, Severity: journal.Notice, Object: "filter", Message: "what the flows let pass passes again, as events are recorded"}
	if stop {
		event = journal.Event{Type: journal.ForwardStop, Severity: journal.Alert, Object: "filter",
			Message: fmt.Sprintf("nothing is forwarded, as the Site says of traffic that cannot be recorded: %.500s", why)}
	}
	e.record(ctx, event)
	return nil
}

// withhold takes a tunnel's flows away while forwarding is stopped. Mu is held.
func (e *Engine) withhold(t compile.Tunnel) compile.Tunnel {
	if e.stopped {
		t.Flows = nil
	}
	return t
}

// journalStatus is the journal at a glance.
func journalStatus(h journal.Health) JournalStatus {
	s := JournalStatus{Waiting: h.Waiting, Missed: h.Missed, Unsigned: h.Unsigned != nil}
	if h.Err != nil {
		s.Error, s.Since = h.Err.Error(), timePointer(h.Since)
	}
	return s
}

// journalAlarms are loud.
func journalAlarms(h journal.Health, stopped bool) (alarms []string) {
	if h.Err != nil {
		alarms = append(alarms, fmt.Sprintf("the journal cannot be written since %s: %v. Changes are refused, %d events wait, %d are lost: free room on its disk, or see the daemon's log",
			h.Since.UTC().Format(time.RFC3339), h.Err, h.Waiting, h.Missed))
	}
	if h.Unsigned != nil {
		alarms = append(alarms, fmt.Sprintf("the journal is not signed, and changes are refused: %v. Next: %s", h.Unsigned, KeyBack(h.Unsigned)))
	}
	if stopped {
		alarms = append(alarms, "nothing is forwarded, as the Site says of traffic that cannot be recorded")
	}
	return alarms
}
