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
	flows    map[conntrack.Selector][]revokedFlow // whose the connections are; none: what somebody let in by hand
	closed   time.Time                            // when the filter had closed the last of it
	revision int                                  // that allows it no more
	actor    journal.Actor                        // who asked for that; zero: the daemon itself
}

// revokedFlow is a flow that allowed connections, and the tunnel that it went through, with who is at its far end, as long as that is known.
type revokedFlow struct{ name, tunnel, peer, organisation string }

// revocation is an empty one, by a patch that is being done. Mu is held.
func (e *Engine) revocation(p patch, closed time.Time) revocation {
	return revocation{flows: map[conntrack.Selector][]revokedFlow{}, closed: closed, revision: e.store.now().Current, actor: p.actor}
}

// revokedFlow names a flow by the documents that are still in force. Mu is held.
func (e *Engine) revokedFlow(f firewall.Flow) revokedFlow {
	named := revokedFlow{name: f.Name, tunnel: f.Tunnel}
	if d := e.documents.Tunnel(f.Tunnel); d != nil {
		_, far := e.endsOf(d)
		named.peer = far.Peer
		if peer := e.documents.Peer(far.Peer); peer != nil {
			named.organisation = peer.Organisation
		}
	}
	return named
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
	r := e.revocation(p, closed)
	mark := func(flow firewall.Flow) {
		for _, s := range selectorsOf(&e.intent.base, flow) {
			r.flows[s] = append(r.flows[s], e.revokedFlow(flow))
		}
	}
	base, _ := e.intent.after(p)
	unmark := func(flow firewall.Flow) {
		for _, s := range selectorsOf(&base, flow) {
			delete(r.flows, s)
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
	e.forget(r)
}

// forget has connections deleted in the background, those of several changes by one user at once: reading the table takes as long as it is large.
// Mu is held.
func (e *Engine) forget(r revocation) {
	if len(r.flows) == 0 {
		return
	}
	if last := len(e.revoked) - 1; last >= 0 && e.revoked[last].actor.UID == r.actor.UID && e.revoked[last].actor.User == r.actor.User {
		all := e.revoked[last].flows
		maps.Copy(all, r.flows)
		r.flows, e.revoked = all, e.revoked[:last]
	}
	e.revoked = append(e.revoked, r)
	if e.revoking == nil {
		e.revoking = make(chan struct{})
	}
	e.revoke.poke()
}

// revocationOver tells whoever waits that all is forgotten, unless more came meanwhile.
func (e *Engine) revocationOver() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.revoked) == 0 && e.revoking != nil {
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
		revoked, kept := e.revoked, e.allowed()
		e.revoked = nil
		e.mu.Unlock()
		e.cut(ctx, revoked, kept)
		e.revocationOver()
	}
}

// deletion is what became of a revocation.
type deletion struct {
	revocation
	selection conntrack.Selection
	cut       conntrack.Cut
}

// cut deletes connections, watches them for a while, and puts on record what was seen.
func (e *Engine) cut(ctx context.Context, revoked []revocation, kept []conntrack.Selector) {
	var done []deletion
	for _, r := range revoked {
		d := deletion{revocation: r, selection: conntrack.Selection{Revoked: slices.SortedFunc(maps.Keys(r.flows), conntrack.Selector.Compare), Kept: kept}}
		limited, cancel := context.WithTimeout(ctx, revokeWithin)
		var err error
		if d.cut, err = e.options.Connections.Delete(limited, d.selection); err != nil {
			e.options.Log.Warn("forget connections", "selectors", len(r.flows), "error", err)
		}
		cancel()
		if d.cut.Count > 0 {
			done = append(done, d)
		}
	}
	if len(done) == 0 {
		return
	}
	watch := time.NewTimer(revokeWatch)
	defer watch.Stop()
	select {
	case <-ctx.Done(): // what is known is put on record all the same
	case <-watch.C:
	}
	for _, d := range done {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeWithin)
		since, err := e.options.Connections.Count(limited, d.selection)
		cancel()
		e.record(ctx, d.event(since, err))
	}
}

// names are the flows whose connections were cut, their tunnels, and who is at the far ends: sorted, each once. tunnel is the only one that any
// connection went through.
func (d deletion) names() (flows, tunnels, peers, organisations []string, tunnel string) {
	outside := false
	known := map[*[]string]map[string]bool{&flows: {}, &tunnels: {}, &peers: {}, &organisations: {}}
	add := func(list *[]string, name string) {
		if name != "" && !known[list][name] {
			known[list][name] = true
			*list = append(*list, name)
		}
	}
	for s := range d.cut.Taken {
		outside = outside || len(d.flows[s]) == 0
		for _, f := range d.flows[s] {
			add(&flows, f.name)
			add(&tunnels, f.tunnel)
			add(&peers, f.peer)
			add(&organisations, f.organisation)
			outside = outside || f.tunnel == ""
		}
	}
	for _, list := range [][]string{flows, tunnels, peers, organisations} {
		slices.Sort(list)
	}
	if len(tunnels) == 1 && !outside {
		tunnel = tunnels[0]
	}
	return flows, tunnels, peers, organisations, tunnel
}

// event is the evidence. It is of a tunnel if the connections were of one alone.
func (d deletion) event(since int, err error) journal.Event {
	event := journal.Event{Type: journal.FlowRevoke, Severity: journal.Notice, Actor: d.actor}
	var list []string
	for _, c := range d.cut.Some {
		list = append(list, c.String())
	}
	if more := d.cut.Count - len(list); more > 0 {
		list = append(list, fmt.Sprintf("and %d more", more))
	}
	stamp := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format(time.RFC3339Nano)
	}
	flows, tunnels, peers, organisations, tunnel := d.names()
	whose := ""
	if tunnel != "" {
		event.Object, whose = "tunnel/"+tunnel, " of tunnel "+tunnel
		if len(organisations) == 1 { // the tunnel may be gone from the documents, so that nobody could tell later
			event.Organisation = organisations[0]
		}
	}
	last := d.cut.LastSeen.Truncate(time.Second)
	event.Fields = fieldsOf("connections", strconv.Itoa(d.cut.Count), "list", shorten(strings.Join(list, "; ")), "revision", strconv.Itoa(d.revision),
		"flows", shorten(strings.Join(flows, " ")), "tunnels", shorten(strings.Join(tunnels, " ")), "peers", shorten(strings.Join(peers, " ")),
		"closed", stamp(d.closed), "lastPacket", stamp(last), "checked", stamp(time.Now()), "since", strconv.Itoa(since))
	if d.cut.Packets > 0 {
		event.Fields["packets"], event.Fields["bytes"] = strconv.FormatUint(d.cut.Packets, 10), strconv.FormatUint(d.cut.Bytes, 10)
	}
	event.Message = fmt.Sprintf("%d connections%s were cut: no flow allows them any more. The filter closed at %s; ", d.cut.Count, whose, stamp(d.closed))
	switch {
	case err != nil:
		delete(event.Fields, "since")
		event.Message += "whether packets passed since could not be seen: " + shorten(err.Error())
	case since > 0:
		event.Severity = journal.Error
		event.Message += fmt.Sprintf("yet %d have passed packets since", since)
	case !last.IsZero() && last.Add(time.Second).After(d.closed): // the kernel tells it to the second
		event.Message += fmt.Sprintf("the last packet of them came at about %s, whether the filter dropped it or not; since they were cut none has passed", stamp(last))
	default:
		event.Message += "no packet has passed since"
	}
	return event
}
