package provisioning

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"shekara/journal"
	"shekara/provisioning/document"
)

// belonging adds to events about a tunnel which legal entity is at its far end, and which registered systems the tunnel reaches, unless they say themselves whom they concern.
// The journal links its records by tunnel and legal entity.
type belonging struct {
	Recorder
	engine *Engine
}

func (b belonging) Append(ctx context.Context, e journal.Event) (journal.Event, error) {
	return b.Recorder.Append(ctx, b.engine.whose(e))
}

func (b belonging) Post(e journal.Event) <-chan error { return b.Recorder.Post(b.engine.whose(e)) }

// whose asks the documents in force; of a tunnel that is gone nobody knows any more.
func (e *Engine) whose(event journal.Event) journal.Event {
	name, is := strings.CutPrefix(event.Object, "tunnel/")
	if !is {
		return event
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if d := e.documents.Tunnel(name); d != nil {
		local, far := e.endsOf(d)
		if peer := e.documents.Peer(far.Peer); peer != nil {
			event.Organisation = peer.Organisation
		}
		if !ofConnections(event.Type) {
			event.Systems = e.systemsAt(append(prefixesOf(local.Zone, local.Prefixes), prefixesOf(far.Zone, far.Known())...))
		}
	}
	return event
}

// ofConnections says whether an event is about connections: who makes it knows their ends.
func ofConnections(t journal.Type) bool {
	return t == journal.ConnectionStart || t == journal.ConnectionEnd || t == journal.ConnectionSum
}

// placed is a prefix, and the zone that it lies in; "": whichever.
type placed struct {
	zone   string
	prefix netip.Prefix
}

func prefixesOf(zone string, texts []string) (all []placed) {
	for _, text := range texts {
		if p, err := document.ParsePrefix(text); err == nil {
			all = append(all, placed{zone, p})
		}
	}
	return all
}

// systemsAt names the registered systems that have addresses there, as hosts on this box's side write them; sorted, the first journal.MaxSystems. Mu is held.
func (e *Engine) systemsAt(prefixes []placed) []string {
	var names []string
	for _, p := range prefixes {
		for _, holder := range e.documents.Parties(p.prefix) {
			if s := e.documents.System(holder.Name); holder.Kind == document.KindSystem && s != nil && (p.zone == "" || s.Zone == p.zone) {
				names = append(names, holder.Name)
			}
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	return names[:min(len(names), journal.MaxSystems)]
}

// systemsOf is systemsAt for who does not hold mu.
func (e *Engine) systemsOf(prefixes []placed) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.systemsAt(prefixes)
}

// bothEnds are two addresses, in whichever zones.
func bothEnds(a, b netip.Addr) []placed {
	return []placed{{prefix: netip.PrefixFrom(a, a.BitLen())}, {prefix: netip.PrefixFrom(b, b.BitLen())}}
}
