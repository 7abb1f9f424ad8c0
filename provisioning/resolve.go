package provisioning

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"shekara/provisioning/compile"
)

const (
	lookupAtOnce   = 16              // questions under way
	lookupPatience = 3 * time.Second // that an apply has for all its names
	lookupAgain    = 5 * time.Minute // after which a name is asked for again
)

// lookup is what an endpoint's name resolved to.
type lookup struct {
	addresses []netip.Addr
	err       error
	at        time.Time
}

type lookupPolicy uint8

const (
	newLookup   lookupPolicy = iota // names that were never asked for
	retryLookup                     // these, and those that had an error or another address
	freshLookup                     // these, and those that are old
)

// endpoint is the address to send to: the Peer's publicIP or nothing, for a name that resolves to another address is an error, and
// never followed. It expects mu to be held.
func (e *Engine) endpoint(t compile.Tunnel) (netip.Addr, error) {
	if t.EndpointHost == "" {
		return netip.Addr{}, nil // the far side comes to us
	}
	if address, err := netip.ParseAddr(t.EndpointHost); err == nil {
		return address, nil
	}
	found, asked := e.names[t.EndpointHost]
	switch {
	case !asked:
		return netip.Addr{}, hinted(fmt.Errorf("endpoint %s is not resolved yet", t.EndpointHost), "wait: it is asked for")
	case found.err != nil:
		return netip.Addr{}, hinted(fmt.Errorf("endpoint %s: %w", t.EndpointHost, found.err), "correct the name or the Site's dns, or leave out endpoint to use publicIP")
	case t.ExpectIP.IsValid() && !slices.Contains(found.addresses, t.ExpectIP):
		return netip.Addr{}, hinted(fmt.Errorf("endpoint %s resolves to %s, not to the Peer's publicIP %s", t.EndpointHost, joinAddresses(found.addresses), t.ExpectIP),
			"correct publicIP or the name: a tunnel goes to the peer IP that was agreed and nowhere else (VPN-01)")
	case t.ExpectIP.IsValid():
		return t.ExpectIP, nil
	}
	return found.addresses[0], nil
}

func joinAddresses(list []netip.Addr) string {
	words := make([]string, 0, len(list))
	for _, a := range list[:min(len(list), 8)] {
		words = append(words, a.String())
	}
	return strings.Join(words, ", ")
}

// resolve asks for the endpoint names of tunnels, at most lookupPatience for all. What is not answered by then is asked for again at
// the tunnel's retry.
func (e *Engine) resolve(ctx context.Context, names []string, p patch, policy lookupPolicy) {
	hosts := map[string]bool{}
	e.mu.Lock()
	for _, name := range names {
		if t, found := e.intent.tunnel(p, name); found && e.toAsk(t, policy) {
			hosts[t.EndpointHost] = true
		}
	}
	e.mu.Unlock()
	if len(hosts) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookupPatience)
	defer cancel()
	var group errgroup.Group
	group.SetLimit(lookupAtOnce)
	for host := range hosts {
		group.Go(func() error {
			e.ask(ctx, host)
			return nil
		})
	}
	_ = group.Wait()
}

func (e *Engine) toAsk(t compile.Tunnel, policy lookupPolicy) bool {
	if t.EndpointHost == "" || t.Unsupported != "" {
		return false
	}
	if _, err := netip.ParseAddr(t.EndpointHost); err == nil {
		return false
	}
	known, asked := e.names[t.EndpointHost]
	switch {
	case !asked:
		return true
	case policy == retryLookup:
		return known.err != nil || t.ExpectIP.IsValid() && !slices.Contains(known.addresses, t.ExpectIP)
	default:
		return policy == freshLookup && time.Since(known.at) > lookupAgain
	}
}

func (e *Engine) ask(ctx context.Context, host string) {
	addresses, err := e.options.Resolver.LookupNetIP(ctx, "ip", host)
	for i, a := range addresses {
		addresses[i] = a.Unmap().WithZone("")
	}
	if err == nil && len(addresses) == 0 {
		err = fmt.Errorf("it has no address")
	}
	slices.SortFunc(addresses, netip.Addr.Compare)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.names[host] = &lookup{addresses: addresses, err: err, at: time.Now()}
}

// keepResolving asks for endpoint names again and again: one that moves away from the Peer's publicIP is the tunnel's own error, and
// one that comes back ends it.
func (e *Engine) keepResolving(ctx context.Context) {
	for {
		timer := time.NewTimer(time.Minute/2 + rand.N(time.Minute))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		var stale []string
		used := map[string]bool{}
		e.mu.Lock()
		for name, t := range e.intent.tunnels {
			used[t.EndpointHost] = true
			if e.toAsk(t, freshLookup) {
				stale = append(stale, name)
			}
		}
		for host := range e.names {
			if !used[host] {
				delete(e.names, host)
			}
		}
		e.mu.Unlock()
		const batch = 200 // bounds what one round costs
		stale = stale[:min(len(stale), batch)]
		e.resolve(ctx, stale, patch{}, freshLookup)
		e.judgeEndpoints(ctx, stale)
	}
}

// judgeEndpoints takes up the tunnels whose names now say something else than they did.
func (e *Engine) judgeEndpoints(ctx context.Context, names []string) {
	var changed []string
	e.mu.Lock()
	for _, name := range names {
		t, there := e.intent.tunnels[name]
		_, err := e.endpoint(t)
		if there && (err == nil) != (e.troubles[name] == nil) {
			changed = append(changed, name)
		}
	}
	held := e.repairs.held()
	e.mu.Unlock()
	if len(changed) == 0 || held || e.lock(ctx) != nil {
		return
	}
	defer e.unlock()
	if _, err := e.converge(ctx, scope{tunnels: changed}, patch{}); err != nil {
		e.options.Log.Warn("endpoints", "tunnels", len(changed), "error", err)
		e.look.poke()
	}
}
