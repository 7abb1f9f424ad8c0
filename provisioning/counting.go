package provisioning

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"shekara/firewall"
	"shekara/journal"
	"shekara/netctl/conntrack"
	"shekara/provisioning/accounting"
)

// News tells of connections that begin and end: conntrack.Listener.
type News interface {
	// Heard hands over those that began or ended since the last call. lost: the kernel could not tell of all.
	Heard(began, ended func(*conntrack.Account)) (lost bool, err error)
}

const (
	// News are taken so often. The kernel keeps some 40,000 for us meanwhile, and ends come in bursts, as many as its collector finds at once.
	// Waiting for the socket instead would wake us for each of them.
	endsEvery   = 50 * time.Millisecond
	countEvery  = 10 * time.Second // connections that live are looked at; beside sampleShare
	countRest   = time.Second      // between two looks, however many ask; beside sampleShare
	countWait   = 2 * time.Second  // whoever asks waits for a look
	countWithin = 30 * time.Second // one look
	totalsEvery = time.Minute      // the totals are written durably, if they changed
	missesEvery = time.Minute      // an event says that something is missing
	endsShown   = 20               // flows that end at a time, with events of their own
)

// openLedger reads what flows carried until now. What cannot be read is said in the log, and counting begins anew.
func (e *Engine) openLedger() {
	runDir := e.options.RunDir
	boot, _, err := e.options.Boot()
	if err != nil { // then nobody can tell whether what lived lives still
		e.options.Log.Warn("which boot this is", "error", err)
		boot, runDir = "unknown", ""
	}
	if e.ledger, e.counts, err = accounting.Open(e.options.StateDir, runDir, boot, accounting.MaxConnections); err != nil {
		e.options.Log.Error("what flows carried", "error", err)
	}
}

// counting is the state of keepCounting's one goroutine.
type counting struct {
	*Engine
	changes    int                      // of the intent, that attribution knows of
	declared   map[string]firewall.Flow // by name
	flowOf     accounting.Attribute
	records    connectionRecords
	attributed time.Time  // from when on the intent may be read again
	asked      bool       // since the last look
	soon       time.Time  // from when on connections are looked at again, if somebody asks
	look       time.Time  // and if nobody does
	save       time.Time  // from when on totals are written again
	tell       time.Time  // from when on it is told again that something is missing
	told       uint64     // connections whose end was missed, of which events tell
	heard      time.Time  // when all that the kernel had told was taken last
	lostSince  time.Time  // the kernel dropped news after this; zero: none that is not on record
	lostUntil  time.Time  // and before this
	saving     chan error // tells what came of the last write of totals; nil: there was none
	unwritten  bool       // the last write failed
}

// keepCounting keeps how much each flow carries.
func (e *Engine) keepCounting(ctx context.Context) {
	if e.options.News == nil || e.options.Connections == nil {
		return
	}
	c := &counting{Engine: e, changes: -1, records: connectionRecords{concerns: e.systemsOf}, save: time.Now().Add(totalsEvery), told: e.ledger.Figures().Missed, heard: time.Now()}
	c.written("connections", c.counts.SaveLiving(e.ledger)) // from here on ends are written as they come
	tick := time.NewTicker(endsEvery)
	defer tick.Stop()
	for {
		c.turn(ctx)
		select {
		case <-ctx.Done():
			c.stop(context.WithoutCancel(ctx))
			return
		case <-tick.C:
		case <-e.count:
			c.asked = true
		}
	}
}

func (c *counting) turn(ctx context.Context) {
	c.attribute()
	c.hear()
	c.tellConnections(time.Now())
	if now := time.Now(); (!now.Before(c.look) || c.asked && !now.Before(c.soon)) && c.lookAtAll(ctx) {
		took := time.Since(now)
		c.soon, c.look = time.Now().Add(max(countRest, sampleShare*took)), time.Now().Add(max(countEvery, sampleShare*took))
		c.asked = false
		c.retire()
		if !now.Before(c.save) {
			c.saveTotals()
			c.save = now.Add(totalsEvery)
		}
		c.written("connections", c.counts.SaveLiving(c.ledger))
	}
	c.tellMissing()
}

// stop counts what it can, and writes it down.
func (c *counting) stop(ctx context.Context) {
	c.hear()
	c.lookAtAll(ctx)
	c.tellConnections(time.Now().Add(connectionWindow))
	if c.saving != nil {
		<-c.saving
	}
	c.written("totals", c.counts.SaveTotals(c.ledger))
	c.written("connections", c.counts.SaveLiving(c.ledger))
}

// saveTotals writes the totals beside everything else: a disk that does not answer must not keep news of connections from being heard.
func (c *counting) saveTotals() {
	if c.saving != nil {
		select {
		case err := <-c.saving:
			c.written("totals", err)
		default:
			return // the last one is under way yet
		}
	}
	saving := make(chan error, 1)
	c.saving = saving
	go func() { saving <- c.counts.SaveTotals(c.ledger) }()
}

// attribute looks anew which flows there are, if they changed.
func (c *counting) attribute() {
	now := time.Now()
	if now.Before(c.attributed) {
		return
	}
	c.mu.Lock()
	if c.changes == c.intent.changes {
		c.mu.Unlock()
		return
	}
	c.changes = c.intent.changes
	var flows []firewall.Flow
	for _, t := range c.intent.tunnels {
		flows = append(flows, t.Flows...)
	}
	for _, f := range c.intent.flows {
		flows = append(flows, f.Flow)
	}
	var devices []firewall.Device
	for _, d := range c.intent.base.Devices {
		devices = append(devices, d.Filter)
	}
	offers := c.intent.base.Offers
	c.mu.Unlock()
	c.declared = make(map[string]firewall.Flow, len(flows))
	for _, f := range flows {
		c.declared[f.Name] = f
	}
	by := firewall.NewAttribution(firewall.Policy{Devices: devices, Flows: flows, Offers: offers})
	c.flowOf = func(a *conntrack.Account) (string, bool) {
		return by.Flow(firewall.Opening{Zone: a.Zone, Source: a.Source, Destination: a.Destination, Protocol: firewall.Protocol(a.Protocol),
			DestinationPort: a.DestinationPort})
	}
	c.ledger.Attribute(c.flowOf)
	c.attributed = time.Now().Add(sampleShare * time.Since(now))
}

// flow is one that is declared; of one that was, the name.
func (c *counting) flow(name string) firewall.Flow {
	f := c.declared[name]
	f.Name = name
	return f
}

// hear takes what the kernel has told of connections that began and ended.
func (c *counting) hear() {
	lost, err := c.options.News.Heard(func(a *conntrack.Account) {
		if flow, found := c.flowOf(a); found && a.Mark != 0 {
			c.records.began(a, c.flow(flow))
		}
	}, func(a *conntrack.Account) {
		if flow, found := c.ledger.Ended(a); found {
			c.records.ended(a, c.flow(flow))
		}
	})
	if err != nil {
		c.options.Log.Debug("hear of connections", "error", err)
	}
	now := time.Now()
	if lost {
		c.strain[lostConnections].Add(1)
		// What is missing only a look at the whole table can tell, which takes the time that hearing lacks: while loss goes on there are no
		// more looks than if somebody asked. The socket itself needs nothing: the kernel lets it go on as soon as it is empty.
		if c.lostSince.IsZero() {
			c.lostSince = c.heard
		}
		c.lostUntil, c.look = now, now
		if now.Before(c.soon) {
			c.look = c.soon
		}
	}
	c.heard = now
	full, err := c.counts.Append(c.ledger)
	if c.written("ends", err); full {
		c.look = time.Now() // after it all is written anew
	}
}

// lookAtAll looks at all connections, and between them takes ends: a large table takes longer than the kernel can keep them.
func (c *counting) lookAtAll(ctx context.Context) bool {
	limited, cancel := context.WithTimeout(ctx, countWithin)
	defer cancel()
	c.ledger.Begin()
	n := 0
	err := c.options.Connections.Each(limited, func(a *conntrack.Account) bool {
		c.ledger.Seen(a)
		if n++; n%4096 == 0 {
			c.hear()
		}
		return true
	})
	if err != nil {
		if ctx.Err() == nil {
			c.options.Log.Warn("look at connections", "error", err)
		}
		c.soon, c.look = time.Now().Add(countEvery), time.Now().Add(countEvery)
		return false
	}
	c.hear()
	c.ledger.Look()
	c.mu.Lock()
	close(c.counted)
	c.counted = make(chan struct{})
	c.mu.Unlock()
	return true
}

// written logs the first of a row of failures.
func (c *counting) written(what string, err error) {
	if err != nil && !c.unwritten {
		c.options.Log.Error("write what flows carried", "what", what, "error", err)
	}
	c.unwritten = err != nil
}

// retire lets the totals of flows go that are no more. While a confirm window is open, they may come back.
func (c *counting) retire() {
	if c.store.now().Window != nil {
		return
	}
	gone := c.ledger.Retire(func(name string) bool { _, is := c.declared[name]; return is })
	for _, f := range gone[:min(len(gone), endsShown)] {
		c.options.Journal.Post(flowEnd("flow/"+f.Name, "flow "+f.Name+" is declared no more and has ended", f.Totals))
	}
	if len(gone) > endsShown {
		var sum accounting.Totals
		for _, f := range gone[endsShown:] {
			sum.To, sum.Back, sum.Opened = sum.To.Plus(f.To), sum.Back.Plus(f.Back), sum.Opened+f.Opened
		}
		c.options.Journal.Post(flowEnd("filter", fmt.Sprintf("%d more flows are declared no more and have ended", len(gone)-endsShown), sum))
	}
}

func flowEnd(object, what string, t accounting.Totals) journal.Event {
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	since := ""
	if !t.Since.IsZero() {
		since = t.Since.UTC().Format(time.RFC3339)
	}
	return journal.Event{Type: journal.FlowEnd, Severity: journal.Info, Object: object,
		Message: fmt.Sprintf("%s: it carried %d bytes to its target and %d back in %d connections", what, t.To.Bytes, t.Back.Bytes, t.Opened),
		Fields: fieldsOf("opened", number(t.Opened), "packetsTo", number(t.To.Packets), "bytesTo", number(t.To.Bytes),
			"packetsBack", number(t.Back.Packets), "bytesBack", number(t.Back.Bytes), "since", since)}
}

// tellMissing puts on record that something is not counted: at once, and then once a minute.
func (c *counting) tellMissing() {
	missed, lost := c.ledger.Figures().Missed, !c.lostSince.IsZero()
	now := time.Now()
	if !lost && missed == c.told || now.Before(c.tell) {
		return
	}
	c.tell = now.Add(missesEvery)
	event := journal.Event{Type: journal.FlowMiss, Severity: journal.Warning, Object: "filter",
		Fields:  fieldsOf("connections", strconv.FormatUint(missed-c.told, 10)),
		Message: fmt.Sprintf("%d connections ended unheard: what they carried after they were looked at last is not counted", missed-c.told)}
	if lost {
		since, until := c.lostSince.UTC().Format(time.RFC3339Nano), c.lostUntil.UTC().Format(time.RFC3339Nano)
		event.Fields["since"], event.Fields["until"] = since, until
		event.Message = fmt.Sprintf("the kernel dropped news of connections that began or ended between %s and %s, as too many came at once: "+
			"all are looked at, and how many ended unheard is told when it is certain; of those that both began and ended then nothing is known", since, until)
	}
	c.told, c.lostSince = missed, time.Time{}
	c.options.Journal.Post(event)
}

// FlowQuery chooses flows.
type FlowQuery struct {
	Match func(name string) bool // nil: all
	After string                 // only those with a greater name
	Limit int                    // at most so many; 0: no limit
}

// FlowStatus is what a flow carried. To is the direction in which its connections are opened, back that of the answers; bytes are those of IP
// packets, with their headers.
type FlowStatus struct {
	Name        string     `json:"name"`
	Tunnel      string     `json:"tunnel,omitempty"`
	From        string     `json:"from"`        // zone
	To          string     `json:"to"`          // zone
	Connections int        `json:"connections"` // that lived at the last look
	Opened      uint64     `json:"opened"`      // connections, in all
	PacketsTo   uint64     `json:"packetsTo"`
	BytesTo     uint64     `json:"bytesTo"`
	PacketsBack uint64     `json:"packetsBack"`
	BytesBack   uint64     `json:"bytesBack"`
	Since       *time.Time `json:"since,omitempty"`    // from when on it is counted; absent: nothing passed yet
	LastSeen    *time.Time `json:"lastSeen,omitempty"` // when a packet was noticed last; it came since the look before
}

// FlowReport is flows by name, and how sure their figures are.
type FlowReport struct {
	Flows []FlowStatus `json:"flows"`
	// Next is to be given as After to go on; "": these were the last.
	Next string `json:"next,omitempty"`
	// Looked is when all connections were looked at last; absent: not yet, or nothing is counted on this box.
	Looked       *time.Time `json:"looked,omitempty"`
	Connections  int        `json:"connections"`  // that are counted now, of all flows
	Uncounted    int        `json:"uncounted"`    // that are not counted yet, for want of room, or are older than the accounting
	Missed       uint64     `json:"missed"`       // whose end was not heard: what they carried after they were looked at last is missing
	Unattributed uint64     `json:"unattributed"` // that ended, and no flow is known for
}

// awaitCount has connections looked at, if that was long ago, and waits for it, within bounds.
func (e *Engine) awaitCount(ctx context.Context) {
	if e.options.News == nil || e.options.Connections == nil || time.Since(e.ledger.Figures().Looked) < countRest {
		return
	}
	e.mu.Lock()
	counted := e.counted
	e.mu.Unlock()
	e.count.poke()
	limit := time.NewTimer(countWait)
	defer limit.Stop()
	select {
	case <-counted:
	case <-limit.C:
	case <-ctx.Done():
	}
}

// Flows says what flows carried, by name.
func (e *Engine) Flows(ctx context.Context, q FlowQuery) (FlowReport, error) {
	e.awaitCount(ctx)
	figures := e.ledger.Figures()
	report := FlowReport{Flows: []FlowStatus{}, Looked: timePointer(figures.Looked), Connections: figures.Connections, Uncounted: figures.Uncounted,
		Missed: figures.Missed, Unattributed: figures.Unattributed}
	e.mu.Lock()
	found := e.flowsOf(q)
	e.mu.Unlock()
	slices.SortFunc(found, func(a, b FlowStatus) int { return cmp.Compare(a.Name, b.Name) })
	if q.Limit > 0 && len(found) > q.Limit {
		found = found[:q.Limit]
		report.Next = found[q.Limit-1].Name
	}
	for _, f := range found {
		t := e.ledger.Flow(f.Name)
		f.Connections, f.Opened, f.PacketsTo, f.BytesTo, f.PacketsBack, f.BytesBack = t.Connections, t.Opened, t.To.Packets, t.To.Bytes, t.Back.Packets, t.Back.Bytes
		f.Since, f.LastSeen = timePointer(t.Since), timePointer(t.Noticed)
		report.Flows = append(report.Flows, f)
	}
	return report, nil
}

// flowsOf are those that are declared, without figures. Mu is held.
func (e *Engine) flowsOf(q FlowQuery) []FlowStatus {
	var found []FlowStatus
	put := func(f firewall.Flow) {
		if f.Name > q.After && (q.Match == nil || q.Match(f.Name)) {
			found = append(found, FlowStatus{Name: f.Name, Tunnel: f.Tunnel, From: e.zoneAt(f.From), To: e.zoneAt(f.To)})
		}
	}
	for _, t := range e.intent.tunnels {
		for _, f := range t.Flows {
			put(f)
		}
	}
	for _, f := range e.intent.flows {
		put(f.Flow)
	}
	return found
}

// zoneAt is the zone of a place: behind a device, that of the far end. Mu is held.
func (e *Engine) zoneAt(p firewall.Place) string {
	if p.Device != "" {
		return e.intent.base.Devices[p.Device].Filter.FarZone
	}
	return p.Zone
}
