package provisioning

import (
	"context"
	"maps"
	"slices"
	"time"

	"shekara/firewall"
	"shekara/journal"
	"shekara/netctl/nflog"
)

// TunnelLimits are what a tunnel may take of this box, and when it was seen to want more.
type TunnelLimits struct {
	NewPerSecond  int        `json:"newPerSecond,omitempty"`
	Connections   int        `json:"connections,omitempty"`
	MbitPerSecond int        `json:"mbitPerSecond,omitempty"` // each way
	Reached       string     `json:"reached,omitempty"`       // which was reached last: too_many_new, too_many_connections or bandwidth
	ReachedAt     *time.Time `json:"reachedAt,omitempty"`     // since the daemon started; of all packets that are too many some are recorded
}

func (l TunnelLimits) String() string {
	return firewall.Limit{NewPerSecond: l.NewPerSecond, Connections: l.Connections, MbitPerSecond: l.MbitPerSecond}.String()
}

// limitEvery is how often a tunnel's limit is told of: once in this time.
const limitEvery = time.Minute

// reached is a tunnel's limit that was reached.
type reached struct {
	reason   string
	at, told time.Time
}

// noteLimit tells whose limit stopped a packet. Mu is not held.
func (e *Engine) noteLimit(ctx context.Context, r nflog.Record) {
	reason := firewall.Reason(r.Prefix)
	if !firewall.IsLimit(reason) {
		return
	}
	now := time.Now()
	var events []journal.Event
	e.mu.Lock()
	maps.DeleteFunc(e.reached, func(name string, _ reached) bool { return e.intent.tunnels[name].Limit == nil })
	for _, name := range e.limitedBy(r, reason) {
		last := e.reached[name]
		next := reached{reason, now, last.told}
		if last.told.IsZero() || now.Sub(last.told) >= limitEvery {
			next.told = now
			events = append(events, journal.Event{Type: journal.TunnelLimit, Severity: journal.Warning, Object: "tunnel/" + name,
				Message: limitWords[reason] + "; its limits are " + e.intent.tunnels[name].Limit.String(),
				Fields:  fieldsOf("rule", r.Prefix, "reason", reason, "in", r.In, "out", r.Out)})
		}
		e.reached[name] = next
	}
	e.mu.Unlock()
	for _, event := range events {
		e.record(ctx, event)
	}
}

var limitWords = map[string]string{
	firewall.TooManyNew:         "more connections are opened through the tunnel than it may have in a second, and those beyond are dropped",
	firewall.TooManyConnections: "the tunnel has as many connections as it may, and new ones are dropped",
	firewall.Bandwidth:          "more is sent through the tunnel than its bandwidth, and what is beyond is dropped",
}

// limitedBy are the tunnels with a limit of the kind whose far side a packet is from or for. Mu is held.
func (e *Engine) limitedBy(r nflog.Record, reason string) (names []string) {
	for name, t := range e.intent.tunnels {
		l := t.Limit
		if l == nil || map[string]int{firewall.TooManyNew: l.NewPerSecond, firewall.TooManyConnections: l.Connections, firewall.Bandwidth: l.MbitPerSecond}[reason] == 0 {
			continue
		}
		if l.Device == r.In && holds(l.Prefixes, r.Head.Source) >= 0 || l.Device == r.Out && holds(l.Prefixes, r.Head.Destination) >= 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// limitsOf are a tunnel's, nil if it has none. Mu is held.
func (e *Engine) limitsOf(name string) *TunnelLimits {
	l := e.intent.tunnels[name].Limit
	if l == nil {
		return nil
	}
	last := e.reached[name]
	return &TunnelLimits{NewPerSecond: l.NewPerSecond, Connections: l.Connections, MbitPerSecond: l.MbitPerSecond, Reached: last.reason, ReachedAt: timePointer(last.at)}
}

// atLimit are the tunnels that were at a limit within limitEvery. Mu is held.
func (e *Engine) atLimit() (names []string) {
	for _, name := range slices.Sorted(maps.Keys(e.reached)) {
		if e.intent.tunnels[name].Limit != nil && time.Since(e.reached[name].at) < limitEvery {
			names = append(names, name)
		}
	}
	return names
}
