package provisioning

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"shekara/firewall"
	"shekara/journal"
	"shekara/netctl"
	"shekara/tunnels"
)

const (
	lookEvery   = 5 * time.Second // for what nobody hints of; beside sampleShare
	lookRest    = time.Second / 2 // between two whole looks, however many hints come; as long as a look takes, if that is longer
	repairsMost = 3               // within repairsIn; then somebody else keeps changing the box, and fighting him helps nobody
	repairsIn   = time.Minute
	reportMost  = 100 // differences that are listed
)

// repairs is what the loop knows about drift.
type repairs struct {
	holdUntil time.Time
	done      []time.Time // repairs of the last minute
	stopped   bool
	differs   []string // what differs now and is not repaired
	by        []string // who made it so, as far as it is known
	told      string   // the differences that were journaled last
	observing error    // why the host cannot be looked at
}

func (r *repairs) held() bool { return time.Now().Before(r.holdUntil) }

// keepLooking compares the host with what it should be: at each tick, and soon after a hint or a change of our own.
func (e *Engine) keepLooking(ctx context.Context) {
	for {
		began := time.Now()
		e.turn(ctx)
		tick := time.NewTimer(max(lookEvery, sampleShare*time.Since(began)))
		rest := time.NewTimer(max(lookRest, time.Since(began)))
		select {
		case <-ctx.Done():
			tick.Stop()
			rest.Stop()
			return
		case <-rest.C:
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-e.look:
		case <-e.options.Hints:
		}
		tick.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// turn is one turn of the loop.
func (e *Engine) turn(ctx context.Context) {
	began := time.Now()
	e.mu.Lock()
	e.turning = began
	e.mu.Unlock()
	e.endHold(ctx)
	if err := e.store.settle(); err != nil {
		e.options.Log.Error("write pointers", "error", err)
	}
	if err := e.lapse(ctx); err != nil && ctx.Err() == nil {
		e.options.Log.Error("take out of force what is no longer valid", "error", err)
	}
	if err := e.lookAndRepair(ctx); err != nil && ctx.Err() == nil {
		e.options.Log.Error("look at the host", "error", err)
	}
	e.noticeRules()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.turned, e.turning = time.Now(), time.Time{}
	if e.turned.Sub(began) > turnLong {
		e.strain[lateTurns].Add(1)
	}
}

// sight is one whole look.
type sight struct {
	network netctl.State
	devices []tunnels.DeviceState
	filter  []string // how the table differs from what was loaded
	writes  int      // changes of the host before the look
}

// lookAtHost reads everything, without a lock: an apply does not wait for it. Whoever takes it over checks that nothing was changed meanwhile.
func (e *Engine) lookAtHost(ctx context.Context) (sight, error) {
	e.mu.Lock()
	s := sight{writes: e.writes}
	var keys []string
	for k := range e.intent.base.Network.Sysctls {
		keys = append(keys, k)
	}
	e.mu.Unlock()
	slices.Sort(keys)
	e.listen(true)
	var err error
	if s.network, err = e.options.Network.Observe(ctx, keys); err != nil {
		return sight{}, fmt.Errorf("observe the network: %w", err)
	}
	if s.devices, err = e.options.Tunnels.Observe(ctx); err != nil {
		return sight{}, err
	}
	seen, err := e.options.Filter.Observe(ctx)
	e.listen(false) // after the looks: who did what they saw has been told by now
	switch {
	case errors.Is(err, firewall.ErrNotLoaded): // nothing to compare with yet
		return s, nil
	case err != nil:
		return sight{}, err
	}
	if s.filter = seen.Drift; !seen.Present && len(s.filter) == 0 {
		s.filter = []string{"the table is gone"}
	}
	e.lookForForeign(ctx, seen.Looked)
	return s, nil
}

// take makes a look the last one. It answers false, and takes nothing, if the host was changed since the look began. Mu is held.
func (e *Engine) take(s sight) bool {
	if s.writes != e.writes {
		return false
	}
	e.sights++
	e.world.setNetwork(s.network)
	e.world.setDevices(s.devices)
	e.world.seen = time.Now()
	if len(s.filter) > 0 {
		e.filter.loaded = false // it is loaded whole, by the next change or repair
	}
	return true
}

// observe looks at everything. The caller holds writing, so nothing of ours changes meanwhile.
func (e *Engine) observe(ctx context.Context) error {
	s, err := e.lookAtHost(ctx)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.repairs.observing = err
	if err == nil {
		e.take(s)
	}
	return err
}

// lookAndRepair looks, and if something differs, repairs it or says so.
func (e *Engine) lookAndRepair(ctx context.Context) error {
	s, err := e.lookAtHost(ctx)
	if err != nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.repairs.observing = err
		return err
	}
	if err := e.lock(ctx); err != nil {
		return err
	}
	defer e.unlock()
	e.mu.Lock()
	e.repairs.observing = nil
	fresh := e.take(s)
	var prog *program
	if fresh {
		prog, err = e.compare(scope{whole: true}, patch{})
	}
	e.mu.Unlock()
	if !fresh {
		e.look.poke() // what was done meanwhile is looked at in the next turn
		return nil
	}
	if err != nil {
		return err
	}
	return e.judgeDrift(ctx, prog, s.filter)
}

// judgeDrift says what differs, and repairs it if that is wanted. A step that the host refused is no drift: it is tried at its own time.
func (e *Engine) judgeDrift(ctx context.Context, prog *program, filter []string) error {
	who := e.whoChanged(prog, filter)
	e.mu.Lock()
	e.lacking = prog.lacking
	differs, retry := e.differences(prog, filter)
	count := len(differs)
	if count > reportMost {
		differs = append(differs[:reportMost], fmt.Sprintf("and %d more", count-reportMost))
	}
	e.repairs.differs = differs
	text := fmt.Sprint(differs)
	news := count > 0 && text != e.repairs.told
	e.repairs.told = text
	if news || count == 0 {
		e.repairs.by = who.lines
	}
	may := e.mayTouch()
	e.mu.Unlock()
	e.settleNews(ctx, count > 0)
	if news {
		e.record(ctx, journal.Event{Type: journal.DriftFind, Severity: journal.Warning,
			Message: shorten(fmt.Sprintf("the host differs in %d places, the first: %s. By %s", count, differs[0], strings.Join(who.lines, "; "))),
			Fields: fieldsOf("count", strconv.Itoa(count), "what", shorten(strings.Join(differs, "; ")),
				"by", shorten(strings.Join(who.lines, "; ")), "did", shorten(strings.Join(who.did, "; ")))})
	}
	if !may || count == 0 && !retry || count > 0 && !e.mayRepair(ctx) {
		return e.guardFilter(ctx, prog, filter)
	}
	if _, err := e.converge(ctx, scope{whole: true}, patch{}); err != nil {
		return fmt.Errorf("repair: %w", err)
	}
	if count == 0 {
		return nil
	}
	e.mu.Lock()
	e.repairs.differs, e.repairs.by, e.repairs.told = nil, nil, ""
	e.mu.Unlock()
	e.record(ctx, journal.Event{Type: journal.DriftRepair, Severity: journal.Warning,
		Message: shorten(fmt.Sprintf("repaired %d differences, the first: %s", count, differs[0])),
		Fields:  map[string]string{"count": strconv.Itoa(count)}})
	e.look.poke() // whether it is repaired the next look says
	return nil
}

// guardFilter puts the filter back although repairs have stopped: a route that somebody keeps deleting cuts a tunnel, a table that he
// keeps deleting opens the border. Where the Site wants reports alone, or somebody works by hand, it is left as well.
func (e *Engine) guardFilter(ctx context.Context, prog *program, filter []string) error {
	e.mu.Lock()
	guards := e.repairs.stopped && !e.repairs.held() && e.intent.present && e.intent.base.Repair
	e.mu.Unlock()
	if !guards || len(filter) == 0 {
		return nil
	}
	only := &run{engine: e, program: &program{filter: prog.filter}}
	if err := only.all(ctx); err != nil {
		return fmt.Errorf("repair the filter: %w", err)
	}
	e.record(ctx, journal.Event{Type: journal.DriftRepair, Severity: journal.Warning,
		Message: shorten(fmt.Sprintf("repaired the filter alone, since repairs have stopped; %d differences, the first: %s", len(filter), filter[0])),
		Fields:  map[string]string{"count": strconv.Itoa(len(filter))}})
	e.look.poke()
	return nil
}

// resumeHold goes on with a hold that a restart of the daemon interrupted. A reboot ends it: what must come up then is the border.
func (e *Engine) resumeHold() {
	hold := e.store.now().Hold
	if hold == nil {
		return
	}
	if id, _, err := e.options.Boot(); err != nil || id != hold.Boot {
		return
	}
	if left := hold.remaining(e.options.Boot); left > 0 {
		e.mu.Lock()
		e.repairs.holdUntil = time.Now().Add(left)
		e.mu.Unlock()
	}
}

// differences are the steps that would be done, in words, but for those that the host refused before; retry reports whether one of these
// is due. Mu is held.
func (e *Engine) differences(prog *program, filter []string) (differs []string, retry bool) {
	for _, text := range filter {
		differs = append(differs, "filter: "+text)
	}
	for _, step := range prog.steps() {
		if len(filter) > 0 && (step.Phase == phaseDeny || step.Phase == phaseFilter) {
			continue // said above, in more detail
		}
		if t := e.refused[step.Text]; t != nil {
			retry = retry || t.due()
			continue
		}
		differs = append(differs, step.Text)
	}
	return differs, retry
}

// mayTouch reports whether the loop may change the host by itself. Mu is held.
func (e *Engine) mayTouch() bool {
	switch {
	case e.repairs.held() || e.repairs.stopped:
		return false
	case e.intent.present:
		return e.intent.base.Repair
	}
	// Nothing is asked of this box. If something was once, what is left of it goes; else it was left by another life of the box, and
	// cutting tunnels that nobody here knows is not for us.
	return e.store.now().Newest > 0
}

// mayRepair counts repairs, and stops them when there are too many.
func (e *Engine) mayRepair(ctx context.Context) bool {
	e.mu.Lock()
	now := time.Now()
	e.repairs.done = slices.DeleteFunc(e.repairs.done, func(t time.Time) bool { return now.Sub(t) >= repairsIn })
	if len(e.repairs.done) < repairsMost {
		e.repairs.done = append(e.repairs.done, now)
		e.mu.Unlock()
		return true
	}
	e.repairs.stopped = true
	first := ""
	if len(e.repairs.differs) > 0 {
		first = e.repairs.differs[0]
	}
	e.mu.Unlock()
	e.record(ctx, journal.Event{Type: journal.DriftStop, Severity: journal.Alert,
		Message: shorten(fmt.Sprintf("%d repairs within a minute and the host differs again: somebody keeps changing it. Repairs stop; the first difference: %s", repairsMost, first)),
		Fields:  map[string]string{"hint": "find who changes it; then shekara apply, or shekara hold 0s, lets repairs go on"}})
	return false
}

// resumeRepairs lets repairs go on after a person has acted.
func (e *Engine) resumeRepairs(ctx context.Context, actor journal.Actor) {
	e.mu.Lock()
	stopped := e.repairs.stopped
	e.repairs.stopped, e.repairs.done = false, nil
	e.mu.Unlock()
	if stopped {
		e.record(ctx, journal.Event{Type: journal.DriftResume, Severity: journal.Notice, Actor: actor, Message: "repairs go on"})
	}
}

// Hold keeps drift from being repaired for so long, at most a day; 0 ends a hold. It answers until when. Drift is reported all the same.
func (e *Engine) Hold(ctx context.Context, length time.Duration, actor journal.Actor) (time.Time, error) {
	if length < 0 || length > maxWindow {
		return time.Time{}, hinted(fmt.Errorf("hold for %s: at most %s", length, maxWindow), "shekara hold 30m")
	}
	if err := e.begin(ctx); err != nil {
		return time.Time{}, err
	}
	defer e.unlock()
	if length == 0 {
		e.mu.Lock()
		was := e.repairs.held()
		e.repairs.holdUntil = time.Time{}
		e.mu.Unlock()
		if err := e.store.update(func(p *pointers) { p.Hold = nil }); err != nil {
			return time.Time{}, err
		}
		if was {
			e.record(ctx, journal.Event{Type: journal.HoldEnd, Severity: journal.Notice, Actor: actor, Message: "the hold was ended"})
		}
		e.resumeRepairs(ctx, actor)
		e.look.poke()
		return time.Time{}, nil
	}
	until := time.Now().Add(length)
	if err := e.mustRecord(ctx, journal.Event{Type: journal.HoldBegin, Severity: journal.Notice, Actor: actor,
		Message: fmt.Sprintf("drift is not repaired for %s", length), Fields: map[string]string{"until": until.UTC().Format(time.RFC3339)}}); err != nil {
		return time.Time{}, err
	}
	hold, err := openWindow(length, e.options.Boot)
	if err != nil {
		return time.Time{}, err
	}
	if err := e.store.update(func(p *pointers) { p.Hold = hold }); err != nil {
		return time.Time{}, err
	}
	e.mu.Lock()
	e.repairs.holdUntil = until
	e.mu.Unlock()
	return until.UTC(), nil
}

func (e *Engine) endHold(ctx context.Context) {
	e.mu.Lock()
	over := !e.repairs.holdUntil.IsZero() && !e.repairs.held()
	if over {
		e.repairs.holdUntil = time.Time{}
	}
	e.mu.Unlock()
	if over {
		e.record(ctx, journal.Event{Type: journal.HoldEnd, Severity: journal.Notice, Message: "the hold is over"})
	}
}

// keepTidy looks after the store in the background.
func (e *Engine) keepTidy(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.tidy:
		}
		if err := e.store.tidy(); err != nil && !errors.Is(err, context.Canceled) {
			e.options.Log.Warn("tidy revisions", "error", err)
		}
	}
}
