package provisioning

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"shekara/firewall"
	"shekara/journal"
	"shekara/netctl/conntrack"
)

// Connections is the kernel's table of connections: conntrack.Table.
type Connections interface {
	// Delete forgets connections between the ends of any pair and says how many.
	Delete(ctx context.Context, pairs []conntrack.Pair) (int, error)
}

// forgetConnections notes the pairs of ends that no flow joins after the patch. That their packets pass no more the filter has seen to by
// then: it judges every connection anew. The entries go so that nobody who lists them takes them for alive. Mu is held.
func (e *Engine) forgetConnections(p patch) {
	if e.options.Connections == nil {
		return
	}
	gone := map[conntrack.Pair]bool{}
	mark := func(flows []firewall.Flow, value bool) {
		for _, f := range flows {
			for _, from := range f.Sources {
				for _, to := range f.Destinations {
					if pair := (conntrack.Pair{A: from, B: to}); value || gone[pair] {
						gone[pair] = value
					}
				}
			}
		}
	}
	for name := range p.tunnels {
		mark(e.intent.tunnels[name].Flows, true)
	}
	for name := range p.flows {
		if f, had := e.intent.flows[name]; had {
			mark([]firewall.Flow{f.Flow}, true)
		}
	}
	for _, t := range p.tunnels {
		if t != nil {
			mark(t.Flows, false)
		}
	}
	for _, f := range p.flows {
		if f != nil {
			mark([]firewall.Flow{f.Flow}, false)
		}
	}
	for pair, is := range gone {
		if is && pair.A != (netip.Prefix{}) {
			e.revoked = append(e.revoked, pair)
		}
	}
	if len(e.revoked) > 0 {
		e.revoke.poke()
	}
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
		pairs := e.revoked
		e.revoked = nil
		e.mu.Unlock()
		if len(pairs) == 0 {
			continue
		}
		limited, cancel := context.WithTimeout(ctx, 30*time.Second)
		n, err := e.options.Connections.Delete(limited, pairs)
		cancel()
		if err != nil {
			e.options.Log.Warn("forget connections", "pairs", len(pairs), "error", err)
		}
		if n > 0 {
			e.record(ctx, journal.Event{Type: journal.FlowRevoke, Severity: journal.Notice,
				Message: fmt.Sprintf("%d connections were cut: no flow allows them any more", n),
				Fields:  map[string]string{"connections": strconv.Itoa(n), "pairs": strconv.Itoa(len(pairs))}})
		}
	}
}
