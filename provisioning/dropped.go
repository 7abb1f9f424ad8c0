package provisioning

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"shekara/firewall"
	"shekara/journal"
	"shekara/netctl/nflog"
)

// Drops is where records of dropped packets come from: nflog.Group.
type Drops interface {
	// Run hands over each record, and tells when the kernel had to drop records, until the context ends or an error does, and may be called again then.
	Run(ctx context.Context, got func(nflog.Record), lost func()) error
}

// Counts is who counts all dropped packets, recorded or not, by ID of what drops: engine.Loader.
type Counts interface {
	Counters(ctx context.Context) (map[string]firewall.Counter, error)
}

const (
	dropWindow   = time.Minute
	dropsShown   = 8                // events with packets of their own in a window, for each ID
	dropsWaiting = 1024             // records that wait to be journaled; rules send 5 a second for each ID
	dropsAgain   = 10 * time.Second // after an error they are listened to again
)

// dropped is what the records of one ID come to within a window: the first packets of each kind are events of their own, at once, and all
// others are one number at its end.
type dropped struct {
	ends  time.Time
	kinds map[nflog.Record]bool // without what differs from try to try
	shown uint64                // events
	more  uint64                // records that are no events
}

// dropRecords belongs to the one goroutine of keepDropped.
type dropRecords struct {
	windows map[string]*dropped
	counted map[string]uint64 // by ID: what Counts said when its last window ended
	gap     dropGap
	deaf    dropDeafness
}

// dropDeafness is a time in which records of dropped packets cannot be read.
type dropDeafness struct {
	since time.Time // zero: they can
	last  time.Time // it was tried in vain
}

// dropGap is records of dropped packets that did not come, and are not on record as missing yet.
type dropGap struct {
	overflow atomic.Uint64 // that we had no room for
	lost     atomic.Uint64 // times that the kernel had none
	since    time.Time     // all came until then
	tell     time.Time     // from when on it is told again
}

// keepDropped journals records of dropped packets, boundedly whatever comes.
func (e *Engine) keepDropped(ctx context.Context) {
	if e.options.Drops == nil {
		return
	}
	records, gaps, failed, ended := make(chan nflog.Record, dropsWaiting), newTrigger(), make(chan error), make(chan struct{})
	d := dropRecords{windows: map[string]*dropped{}, counted: map[string]uint64{}}
	d.gap.since = time.Now()
	go func() {
		defer close(ended)
		e.readDrops(ctx, failed, func(r nflog.Record) {
			select {
			case records <- r:
			default: // we are slower than the kernel
				d.gap.overflow.Add(1)
				e.strain[lostDrops].Add(1)
				gaps.poke()
			}
		}, func() {
			d.gap.lost.Add(1)
			e.strain[lostDrops].Add(1)
			gaps.poke()
		})
	}()
	for id, n := range e.dropCounts(ctx) {
		d.counted[id] = n.Packets
	}
	timer := time.NewTimer(dropWindow)
	defer timer.Stop()
	for {
		timer.Reset(d.next())
		select {
		case r := <-records:
			e.showDrop(ctx, &d, r)
		case <-gaps:
			e.tellDropGap(&d, time.Now())
		case now := <-timer.C:
			e.endDrops(ctx, &d, now)
			e.tellDropGap(&d, now)
			e.hearDrops(&d, now)
		case err := <-failed:
			e.missDrops(&d, time.Now(), err)
		case <-ended:
			for len(records) > 0 {
				e.showDrop(ctx, &d, <-records)
			}
			e.endDrops(context.WithoutCancel(ctx), &d, time.Now().Add(dropWindow))
			e.tellDropGap(&d, time.Now().Add(dropWindow))
			return
		}
	}
}

// readDrops reads until the context ends, again and again after errors.
func (e *Engine) readDrops(ctx context.Context, failed chan<- error, got func(nflog.Record), lost func()) {
	for ctx.Err() == nil {
		err := e.options.Drops.Run(ctx, got, lost)
		if ctx.Err() != nil || err == nil {
			return
		}
		select {
		case failed <- err:
		case <-ctx.Done():
		}
		select {
		case <-time.After(dropsAgain):
		case <-ctx.Done():
		}
	}
}

// missDrops puts on record, once, that records cannot be read, and raises an alarm.
func (e *Engine) missDrops(d *dropRecords, now time.Time, err error) {
	d.deaf.last = now
	if d.deaf.since.IsZero() {
		d.deaf.since = now
		e.options.Journal.Post(journal.Event{Type: journal.PacketMiss, Severity: journal.Error, Object: "filter", Fields: fieldsOf("since", now.UTC().Format(time.RFC3339Nano)),
			Message: fmt.Sprintf("dropped packets cannot be recorded, only counted; it is tried again every %s: %s", dropsAgain, err)})
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.deaf = fmt.Sprintf("dropped packets are not recorded since %s: %s", d.deaf.since.UTC().Format(time.RFC3339), err)
}

// hearDrops ends that when it has not failed for a while.
func (e *Engine) hearDrops(d *dropRecords, now time.Time) {
	if d.deaf.since.IsZero() || now.Before(d.deaf.last.Add(2*dropsAgain)) {
		return
	}
	e.options.Journal.Post(journal.Event{Type: journal.PacketMiss, Severity: journal.Warning, Object: "filter", Message: "dropped packets are recorded again; those in between were only counted",
		Fields: fieldsOf("since", d.deaf.since.UTC().Format(time.RFC3339Nano), "until", d.deaf.last.Add(dropsAgain).UTC().Format(time.RFC3339Nano))})
	d.deaf = dropDeafness{}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.deaf = ""
}

// tellDropGap puts on record that records are missing: at once, and then once a minute.
func (e *Engine) tellDropGap(d *dropRecords, now time.Time) {
	if d.gap.overflow.Load()+d.gap.lost.Load() == 0 {
		d.gap.since = now
		return
	}
	if now.Before(d.gap.tell) {
		return
	}
	overflow, lost := d.gap.overflow.Swap(0), d.gap.lost.Swap(0)
	event := journal.Event{Type: journal.PacketMiss, Severity: journal.Warning, Object: "filter",
		Fields: fieldsOf("records", strconv.FormatUint(overflow, 10), "kernel", strconv.FormatUint(lost, 10), "since", d.gap.since.UTC().Format(time.RFC3339Nano), "until", now.UTC().Format(time.RFC3339Nano)),
		Message: fmt.Sprintf("records of dropped packets are missing, as they came faster than they were read: %d that there was no room for here, and %d times the kernel had none, which does not say for how many; the packets are counted all the same",
			overflow, lost)}
	d.gap.since, d.gap.tell = now, now.Add(dropWindow)
	e.options.Journal.Post(event)
}

// next is the time until the next window ends, or a gap is told.
func (d *dropRecords) next() time.Duration {
	wait := dropWindow
	if d.gap.overflow.Load()+d.gap.lost.Load() > 0 {
		wait = min(wait, time.Until(d.gap.tell))
	}
	if !d.deaf.since.IsZero() {
		wait = min(wait, time.Until(d.deaf.last.Add(2*dropsAgain)))
	}
	for _, w := range d.windows {
		wait = min(wait, time.Until(w.ends))
	}
	return max(wait, 0)
}

func (e *Engine) dropCounts(ctx context.Context) map[string]firewall.Counter {
	if e.options.Counts == nil {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	counts, err := e.options.Counts.Counters(limited)
	if err != nil && !errors.Is(err, firewall.ErrNotLoaded) {
		e.options.Log.Warn("count dropped packets", "error", err)
	}
	return counts
}

// showDrop journals the first packets of each kind, and counts the others.
func (e *Engine) showDrop(ctx context.Context, d *dropRecords, r nflog.Record) {
	e.noteLimit(ctx, r)
	w := d.windows[r.Prefix]
	if w == nil {
		w = &dropped{ends: time.Now().Add(dropWindow), kinds: map[nflog.Record]bool{}}
		d.windows[r.Prefix] = w
	}
	kind := r
	kind.Head.SourcePort, kind.Head.Length = 0, 0
	if w.kinds[kind] || w.shown >= dropsShown {
		w.more++
		return
	}
	w.kinds[kind] = true
	w.shown++
	event := dropEvent(r)
	event.Systems = e.systemsOfDrop(r)
	e.options.Journal.Post(event) // who reads the kernel's records does not wait for a disk
}

// systemsOfDrop are those whose addresses the packet bears. On a device that translates they are written as the far end writes them, and may be those of anybody here.
func (e *Engine) systemsOfDrop(r nflog.Record) []string {
	if !r.Head.Source.IsValid() {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, name := range []string{r.In, r.Out} {
		if e.intent.base.Devices[name].Filter.Translation != nil {
			return nil
		}
	}
	return e.systemsAt(bothEnds(r.Head.Source, r.Head.Destination))
}

// endDrops ends the windows that are over, each with how many packets were dropped beside those that are events.
func (e *Engine) endDrops(ctx context.Context, d *dropRecords, now time.Time) {
	var counts map[string]firewall.Counter
	for id, w := range d.windows {
		if now.Before(w.ends) {
			continue
		}
		delete(d.windows, id)
		if counts == nil {
			counts = e.dropCounts(ctx)
		}
		suppressed := w.more
		if c, counted := counts[id]; counted {
			if n := c.Packets - d.counted[id]; c.Packets >= d.counted[id] && n >= w.shown {
				suppressed = max(suppressed, n-w.shown)
			}
			d.counted[id] = c.Packets
		}
		if suppressed == 0 {
			continue
		}
		event := journal.Event{Type: journal.PacketDrop, Severity: dropSeverity(id), Object: "rule/" + id,
			Message: fmt.Sprintf("%d more packets dropped within %s: %s", suppressed, dropWindow, reasons[firewall.Reason(id)]),
			Fields:  fieldsOf("rule", id, "reason", firewall.Reason(id), "suppressed", strconv.FormatUint(suppressed, 10))}
		e.options.Journal.Post(event)
	}
}

func dropSeverity(id string) journal.Severity {
	switch firewall.Reason(id) {
	case firewall.Spoofed, firewall.WrongSource, firewall.Loop:
		return journal.Warning
	}
	return journal.Notice
}

// dropEvent puts one packet into words and fields.
func dropEvent(r nflog.Record) journal.Event {
	h, reason := r.Head, firewall.Reason(r.Prefix)
	protocol := strconv.Itoa(int(h.Protocol))
	what := "protocol " + protocol
	if name, known := protocolNames[firewall.Protocol(h.Protocol)]; known {
		protocol, what = name, name
	}
	event := journal.Event{Type: journal.PacketDrop, Severity: dropSeverity(r.Prefix), Object: "rule/" + r.Prefix,
		Fields: fieldsOf("rule", r.Prefix, "reason", reason, "in", r.In, "out", r.Out)}
	if !h.Source.IsValid() {
		event.Message = "a packet that is none of IP dropped"
		return event
	}
	from, to := h.Source.String(), h.Destination.String()
	event.Fields["source"], event.Fields["destination"], event.Fields["protocol"], event.Fields["length"] = from, to, protocol, strconv.Itoa(h.Length)
	switch isICMP := protocol == "icmp" || protocol == "icmpv6"; {
	case h.Fragment:
		event.Fields["fragment"] = "true"
		what += " fragment"
	case h.Transport && isICMP:
		event.Fields["type"], event.Fields["code"] = strconv.Itoa(int(h.Type)), strconv.Itoa(int(h.Code))
		what += fmt.Sprintf(" type %d", h.Type)
	case h.Transport:
		event.Fields["sourcePort"], event.Fields["destinationPort"] = strconv.Itoa(int(h.SourcePort)), strconv.Itoa(int(h.DestinationPort))
		what += fmt.Sprintf("/%d", h.DestinationPort)
	}
	way := ""
	if r.In != "" {
		way += ", in " + r.In
	}
	if r.Out != "" {
		way += ", out " + r.Out
	}
	event.Message = fmt.Sprintf("%s from %s to %s%s, dropped: %s", what, from, to, way, reasons[reason])
	return event
}

var protocolNames = map[firewall.Protocol]string{firewall.ICMP: "icmp", firewall.TCP: "tcp", firewall.UDP: "udp", firewall.ICMPv6: "icmpv6", firewall.SCTP: "sctp"}
