package provisioning

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"shekara/journal"
	"shekara/journal/incident"
	"shekara/netctl/durable"
	"shekara/provisioning/document"
	"shekara/provisioning/incidents"
)

// EventReader is where events are read that are on disk: journal.Journal.
type EventReader interface {
	// Query gives at most limit events that a filter chooses, with sequences above after, oldest first, and how far it looked.
	Query(ctx context.Context, after uint64, limit int, filter journal.Filter) (events []journal.Event, looked uint64, err error)
	// Last is the newest sequence; 0: nothing happened yet.
	Last() uint64
	// Wait returns when there are events above after, or with the context's error.
	Wait(ctx context.Context, after uint64) error
}

const (
	incidentPage   = 1000        // events that are read at once
	incidentTick   = time.Second // between two looks at what the time alone brings
	incidentReplay = 200_000     // records that a start reads again at most
	incidentSave   = time.Minute // between two writes of how far the journal was read, if nothing opens or closes; and two tries to record what the journal had no room for
	incidentClosed = 200         // incidents that are over and still shown
	incidentFile   = "incidents.json"
	incidentBytes  = 16 << 20 // of that file
)

// IncidentReport is what the events came to.
type IncidentReport struct {
	Open    []incident.Incident `json:"open"`             // the oldest first
	Closed  []incident.Incident `json:"closed,omitempty"` // the last ones that are over, the newest first
	Rules   []string            `json:"rules"`            // names of those in force
	Through uint64              `json:"through"`          // sequence up to which the journal was read
	// Forgotten is for how many keys it was let go what was seen of them, and Unopened how many incidents did not open, as there were too many; since the daemon started.
	Forgotten uint64 `json:"forgotten"`
	Unopened  uint64 `json:"unopened"`
}

// analyst reads the journal by the rules. It belongs to the one goroutine of keepIncidents.
type analyst struct {
	engine    *incident.Engine
	documents *document.Set // by which rules were made last
	rules     []string
	cursor    uint64
	closed    []incident.Incident // the newest first
	saved     time.Time
	changed   bool            // since saved
	posted    []<-chan error  // what comes of changes that are not known to be on disk
	unposted  []journal.Event // changes that the journal had no room for, in order
	tried     time.Time       // to post these
}

// analysis is what is kept of it over a restart. The journal has all of it too, but would have to be read whole.
type analysis struct {
	Through uint64              `json:"through"` // sequence up to which the journal was read
	From    uint64              `json:"from"`    // sequence of the first event that may still count
	Open    []incident.Incident `json:"open"`
	Closed  []incident.Incident `json:"closed"`
}

// keepIncidents opens and closes incidents as events come to be on disk. It waits for the journal, and the journal never for it.
func (e *Engine) keepIncidents(ctx context.Context) {
	if e.options.Events == nil {
		return
	}
	a := analyst{}
	for !e.beginAnalysis(ctx, &a) {
		if !pause(ctx, incidentTick) {
			return
		}
	}
	for ctx.Err() == nil {
		changes := e.renewRules(&a)
		read, err := e.analyse(ctx, &a, func(c []incident.Change) { changes = append(changes, c...) })
		switch {
		case err != nil && ctx.Err() == nil:
			e.options.Log.Warn("look for incidents", "error", err)
			pause(ctx, incidentTick)
		case !read: // all was seen until now
			changes = append(changes, a.engine.Advance(time.Now())...)
		}
		e.publish(&a, changes)
		if !read && err == nil {
			wait, cancel := context.WithTimeout(ctx, incidentTick)
			if err := e.options.Events.Wait(wait, a.cursor); errors.Is(err, journal.ErrClosed) {
				<-wait.Done()
			}
			cancel()
		}
	}
	e.saveAnalysis(&a)
}

// pause answers false when the context ends.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// analyse reads a page of the journal. It answers false when there is none.
func (e *Engine) analyse(ctx context.Context, a *analyst, note func([]incident.Change)) (bool, error) {
	events, looked, err := e.options.Events.Query(ctx, a.cursor, incidentPage, journal.Filter{})
	if err != nil || looked == a.cursor {
		return false, err
	}
	for i := range events {
		note(a.engine.See(&events[i]))
	}
	a.cursor = looked
	return true, nil
}

// beginAnalysis goes on where the last life of the daemon ended. It answers false if the journal cannot be read.
func (e *Engine) beginAnalysis(ctx context.Context, a *analyst) bool {
	last := e.options.Events.Last()
	was, err := readAnalysis(e.analysisPath())
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		e.options.Log.Warn("incidents that were open are not known", "error", err)
	case was.Through > last:
		e.options.Log.Warn("incidents that were open are of another journal", "through", was.Through, "last", last)
		was = analysis{}
	}
	*a = analyst{engine: incident.New(nil), closed: was.Closed}
	e.renewRules(a)
	a.engine.Restore(was.Open, was.Through)
	a.cursor = max(last-min(last, incidentReplay), was.From-min(was.From, 1))
	for a.cursor < last {
		if read, err := e.analyse(ctx, a, func([]incident.Change) {}); err != nil {
			e.options.Log.Warn("look for incidents", "error", err)
			return false
		} else if !read {
			break
		}
	}
	e.publish(a, a.engine.Live(time.Now()))
	return true
}

// renewRules takes over the rules of the documents in force when those have changed.
func (e *Engine) renewRules(a *analyst) []incident.Change {
	e.mu.Lock()
	documents := e.documents
	e.mu.Unlock()
	if documents == a.documents {
		return nil
	}
	a.documents = documents
	rules, err := incidents.InForce(documents, e.options.Site)
	if err != nil {
		e.options.Log.Error("rules of incidents", "error", err)
	}
	a.rules = nil
	for _, r := range rules {
		a.rules = append(a.rules, r.Name)
	}
	return a.engine.SetRules(rules)
}

// publish puts on record what opened and closed, and shows it.
func (e *Engine) publish(a *analyst, changes []incident.Change) {
	e.postChanges(a, changes)
	for _, c := range changes {
		if !c.Open {
			a.closed = slices.Insert(a.closed, 0, c.Incident)
			a.closed = a.closed[:min(len(a.closed), incidentClosed)]
		}
	}
	report := IncidentReport{Open: a.engine.Open(), Closed: slices.Clone(a.closed), Rules: a.rules, Through: a.cursor}
	report.Forgotten, report.Unopened = a.engine.Bounds()
	e.mu.Lock()
	e.incidents = report
	e.mu.Unlock()
	if a.changed = a.changed || len(changes) > 0; a.changed || time.Since(a.saved) >= incidentSave {
		e.saveAnalysis(a)
	}
}

// postChanges posts what opened and closed, in order. What the journal has no room for holds up what comes after it.
func (e *Engine) postChanges(a *analyst, changes []incident.Change) {
	waits := len(a.unposted) > 0 && time.Since(a.tried) < incidentSave
	for _, c := range changes {
		event := c.Event()
		if strings.HasPrefix(c.Incident.Key, "tunnel/") {
			of := e.whose(journal.Event{Object: c.Incident.Key})
			event.Organisation, event.Systems = of.Organisation, of.Systems
		}
		a.unposted = append(a.unposted, event)
	}
	if waits {
		return
	}
	a.tried = time.Now()
	for len(a.unposted) > 0 {
		done := e.options.Journal.Post(a.unposted[0])
		select {
		case err := <-done:
			if err != nil {
				e.options.Log.Warn("record incidents", "waiting", len(a.unposted), "error", err)
				return
			}
		default:
			a.posted = append(a.posted, done)
		}
		a.unposted = a.unposted[1:]
	}
}

// onRecord says whether all that opened and closed is on disk. What is lost when the journal closes stays not on record: the next start finds out.
func (a *analyst) onRecord() bool {
	for len(a.posted) > 0 {
		select {
		case err := <-a.posted[0]:
			if err != nil {
				return false
			}
			a.posted = a.posted[1:]
		default:
			return false
		}
	}
	return len(a.unposted) == 0
}

func (e *Engine) analysisPath() string { return filepath.Join(e.options.StateDir, incidentFile) }

// saveAnalysis keeps what a start needs, as soon as all of it is on record: until then the file is as it was, and a start would post what the journal lacks. Where the disk
// does not take it the next start reads more of the journal.
func (e *Engine) saveAnalysis(a *analyst) {
	if !a.onRecord() {
		return
	}
	a.saved, a.changed = time.Now(), false
	text, err := json.Marshal(analysis{Through: a.engine.Through(), From: a.engine.From(), Open: a.engine.Open(), Closed: a.closed})
	if err == nil {
		err = durable.WriteFile(e.analysisPath(), text, 0o600)
	}
	if err != nil {
		e.options.Log.Warn("write which incidents are open", "error", err)
	}
}

func readAnalysis(path string) (analysis, error) {
	text, err := durable.ReadFile(path, incidentBytes)
	if err != nil {
		return analysis{}, err
	}
	var a analysis
	if err := json.Unmarshal(text, &a); err != nil {
		return analysis{}, fmt.Errorf("read %s: %w", path, err)
	}
	return a, nil
}

// Incidents are those that are open, and the last ones that are over.
func (e *Engine) Incidents(context.Context) (IncidentReport, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.incidents, nil
}

// openIncidents counts those that are open by severity. Mu is held.
func (e *Engine) openIncidents() map[journal.Severity]int {
	if len(e.incidents.Open) == 0 {
		return nil
	}
	open := map[journal.Severity]int{}
	for _, i := range e.incidents.Open {
		open[i.Severity]++
	}
	return open
}
