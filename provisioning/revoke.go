package provisioning

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"shekara/firewall"
	"shekara/journal"
	"shekara/netctl/conntrack"
	"shekara/provisioning/compile"
)

const (
	revokeWithin = 30 * time.Second // for one pass over the kernel's table
	// revokeWatch is how long connections are watched after they were cut: whoever sends has sent by then, and whatever passed would have
	// an entry again, as the kernel keeps one only of a packet that passed.
	revokeWatch = 2 * time.Second
)

// Connections is the kernel's table of connections: conntrack.Table.
type Connections interface {
	// Delete forgets the connections that a selection takes.
	Delete(ctx context.Context, s conntrack.Selection) (conntrack.Cut, error)
	// Count says how many a selection takes.
	Count(ctx context.Context, s conntrack.Selection) (int, error)
	// Each reads the whole table, connection by connection, until do answers false; an account is valid until then.
	Each(ctx context.Context, do func(*conntrack.Account) bool) error
}

// revocation is what was allowed and is no more.
type revocation struct {
	selectors []conntrack.Selector
	closed    time.Time // when the filter had closed the last of it
}

// selectorsOf are the connections that a flow allows, as conntrack has them: behind two devices may be the same addresses.
func selectorsOf(base *compile.Base, flow firewall.Flow) []conntrack.Selector {
	device := base.Devices[cmp.Or(flow.From.Device, flow.To.Device)].Filter
	sources, destinations, err := device.Opened(flow)
	if err != nil {
		return nil // it was never in the filter
	}
	zone := uint16(0)
	if device.Translation != nil {
		zone = device.Translation.Zone
	}
	var selectors []conntrack.Selector
	for _, from := range sources {
		for _, to := range destinations {
			if from.Addr().Is4() != to.Addr().Is4() {
				continue
			}
			for _, service := range flow.Services {
				selectors = append(selectors, conntrack.Selector{Source: from, Destination: to,
					Protocol: uint8(service.Protocol), FirstPort: service.FirstPort, LastPort: service.LastPort, Zone: zone})
			}
		}
	}
	return selectors
}

// forgetConnections notes what the patch no longer allows. That its packets pass no more the filter has seen to by then, at the time
// closed: it judges every connection anew. The entries go so that nobody who lists them takes them for alive. Mu is held.
func (e *Engine) forgetConnections(p patch, closed time.Time) {
	if e.options.Connections == nil {
		return
	}
	gone := map[conntrack.Selector]bool{}
	mark := func(flow firewall.Flow) {
		for _, s := range selectorsOf(&e.intent.base, flow) {
			gone[s] = true
		}
	}
	base, _ := e.intent.after(p)
	unmark := func(flow firewall.Flow) {
		for _, s := range selectorsOf(&base, flow) {
			delete(gone, s)
		}
	}
	for name := range p.tunnels {
		for _, f := range e.intent.tunnels[name].Flows {
			mark(f)
		}
	}
	for name := range p.flows {
		if f, had := e.intent.flows[name]; had {
			mark(f.Flow)
		}
	}
	for _, t := range p.tunnels {
		if t != nil {
			for _, f := range t.Flows {
				unmark(f)
			}
		}
	}
	for _, f := range p.flows {
		if f != nil {
			unmark(f.Flow)
		}
	}
	e.forget(slices.Collect(maps.Keys(gone)), closed)
}

// forget has connections deleted in the background. Mu is held.
func (e *Engine) forget(selectors []conntrack.Selector, closed time.Time) {
	if len(selectors) == 0 {
		return
	}
	e.revoked.selectors, e.revoked.closed = append(e.revoked.selectors, selectors...), closed
	if e.revoking == nil {
		e.revoking = make(chan struct{})
	}
	e.revoke.poke()
}

// revocationOver tells whoever waits that all is forgotten, unless more came meanwhile.
func (e *Engine) revocationOver() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.revoked.selectors) == 0 && e.revoking != nil {
		close(e.revoking)
		e.revoking = nil
	}
}

// allowed is what the intent allows. Mu is held.
func (e *Engine) allowed() []conntrack.Selector {
	var selectors []conntrack.Selector
	for _, t := range e.intent.tunnels {
		for _, f := range t.Flows {
			selectors = append(selectors, selectorsOf(&e.intent.base, f)...)
		}
	}
	for _, f := range e.intent.flows {
		selectors = append(selectors, selectorsOf(&e.intent.base, f.Flow)...)
	}
	return selectors
}

// keepRevoking forgets connections in the background: reading the table takes as long as it is large, and an apply does not wait for it.
func (e *Engine) keepRevoking(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.revoke:
		}
		e.mu.Lock()
		revoked := e.revoked
		e.revoked = revocation{}
		s := conntrack.Selection{Revoked: revoked.selectors, Kept: e.allowed()}
		e.mu.Unlock()
		if len(s.Revoked) > 0 {
			e.cut(ctx, s, revoked.closed)
		}
		e.revocationOver()
	}
}

// cut deletes connections, watches them for a while, and puts on record what was seen.
func (e *Engine) cut(ctx context.Context, s conntrack.Selection, closed time.Time) {
	limited, cancel := context.WithTimeout(ctx, revokeWithin)
	defer cancel()
	cut, err := e.options.Connections.Delete(limited, s)
	if err != nil {
		e.options.Log.Warn("forget connections", "selectors", len(s.Revoked), "error", err)
	}
	if cut.Count == 0 {
		return
	}
	watch := time.NewTimer(revokeWatch)
	defer watch.Stop()
	select {
	case <-ctx.Done(): // what is known is put on record all the same
	case <-watch.C:
	}
	limited, cancel = context.WithTimeout(context.WithoutCancel(ctx), revokeWithin)
	defer cancel()
	since, err := e.options.Connections.Count(limited, s)
	e.record(ctx, revokeEvent(cut, closed, since, err))
}

// revokeEvent is the evidence.
func revokeEvent(cut conntrack.Cut, closed time.Time, since int, err error) journal.Event {
	event := journal.Event{Type: journal.FlowRevoke, Severity: journal.Notice}
	var list []string
	for _, c := range cut.Some {
		list = append(list, c.String())
	}
	if more := cut.Count - len(list); more > 0 {
		list = append(list, fmt.Sprintf("and %d more", more))
	}
	stamp := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format(time.RFC3339Nano)
	}
	event.Fields = fieldsOf("connections", strconv.Itoa(cut.Count), "list", shorten(strings.Join(list, "; ")), "closed", stamp(closed),
		"lastPacket", stamp(cut.LastSeen.Truncate(time.Second)), "checked", stamp(time.Now()), "since", strconv.Itoa(since))
	if cut.Packets > 0 {
		event.Fields["packets"], event.Fields["bytes"] = strconv.FormatUint(cut.Packets, 10), strconv.FormatUint(cut.Bytes, 10)
	}
	event.Message = fmt.Sprintf("%d connections were cut: no flow allows them any more. The filter closed at %s; ", cut.Count, stamp(closed))
	switch {
	case err != nil:
		delete(event.Fields, "since")
		event.Message += "whether packets passed since could not be seen: " + shorten(err.Error())
	case since > 0:
		event.Severity = journal.Error
		event.Message += fmt.Sprintf("yet %d have passed packets since", since)
	default:
		event.Message += "no packet has passed since"
	}
	return event
}
