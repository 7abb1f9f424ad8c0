package provisioning

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"shekara/firewall"
	"shekara/netctl/conntrack"
	"shekara/provisioning/verification"
)

const (
	maxConnections = 200_000 // different ones that are judged; sources on other ports of the same are no others
	maxStrangers   = 100     // that are listed
	revokePatience = 10 * time.Second
)

// strangers are connections that no document allows, as they were found last.
type strangers []conntrack.Selector

// ofConnections judges every tracked connection as if it were opened now, by the rules that the documents make: who could not open it may not
// have it. Where it comes from and goes to follows from its addresses, as routing has it.
func (e *Engine) ofConnections(ctx context.Context, d demand) (verification.Found, strangers) {
	if e.options.Connections == nil {
		return verification.Unknown("the table of connections cannot be read"), nil
	}
	e.awaitRevocation(ctx)
	tracked, found, err := e.tracked(ctx)
	if err != nil {
		return verification.Unknown(err.Error()), nil
	}
	if len(tracked) == 0 {
		return found, nil
	}
	base, err := firewall.CompileBase(d.policy)
	if err != nil {
		return verification.Unknown(err.Error()), nil
	}
	elements, err := base.Elements(d.policy.Ports, d.policy.Flows, d.policy.Probes)
	if err != nil {
		return verification.Unknown(err.Error()), nil
	}
	ruleset, err := base.Ruleset(elements)
	if err != nil {
		return verification.Unknown(err.Error()), nil
	}
	rules, err := firewall.NewExplainer(ruleset, d.view.local)
	if err != nil {
		return verification.Unknown(fmt.Sprintf("read the rules: %v", err)), nil
	}
	d.view.indexTunnels()
	var out strangers
	undecided := tally{what: "connections whose ends this box does not know are not judged"}
	for _, entry := range tracked {
		x, err := d.view.admits(rules, entry)
		switch {
		case err != nil:
			undecided.add(fmt.Sprintf("%s: %v", entry, err))
		case !x.Pass:
			out = append(out, conntrack.Selector{Source: alone(entry.Source), Destination: alone(entry.Destination), Protocol: entry.Protocol,
				FirstPort: entry.DestinationPort, LastPort: entry.DestinationPort})
			if len(out) <= maxStrangers {
				found.Violations = append(found.Violations, verification.Violation{Connection: entry.String(),
					What: fmt.Sprintf("a connection lives that no document allows: %s (it would be dropped as %s)", entry, cmp.Or(x.Reason, "not allowed"))})
			}
		}
	}
	if more := len(out) - maxStrangers; more > 0 {
		found.Violations = append(found.Violations, verification.Violation{What: fmt.Sprintf("and %d more connections live that no document allows", more)})
	}
	found.Reasons = undecided.reason(found.Reasons)
	return found, out
}

// tracked are the different connections of the table that live and can be judged, and what cannot.
func (e *Engine) tracked(ctx context.Context) ([]conntrack.Entry, verification.Found, error) {
	translated, zoned, helped := tally{what: "translated connections are not judged"}, tally{what: "connections in zones of their own are not judged"},
		tally{what: "connections have a helper, which may let others in"}
	seen := map[conntrack.Entry]conntrack.Entry{}
	full := false
	err := e.options.Connections.Each(ctx, func(c conntrack.Entry) bool {
		switch {
		case c.Closed || c.Source.IsLoopback():
			return true
		case c.Helped:
			helped.add(c.String())
		case c.Zone != 0:
			zoned.add(c.String())
			return true
		case c.Translated:
			translated.add(c.String())
			return true
		}
		same := c
		same.Mark = 0
		if firewall.Protocol(c.Protocol) != firewall.UDP { // the port of a sealed packet tells its device
			same.SourcePort = 0
		}
		if old, known := seen[same]; !known || c.SourcePort < old.SourcePort {
			seen[same] = c
		}
		full = len(seen) >= maxConnections
		return !full
	})
	var found verification.Found
	if err != nil {
		return nil, found, err
	}
	for _, t := range []*tally{&translated, &zoned, &helped} {
		found.Reasons = t.reason(found.Reasons)
	}
	if full {
		found.Reasons = append(found.Reasons, fmt.Sprintf("of the connections only the first %d are judged", maxConnections))
	}
	list := slices.Collect(maps.Values(seen))
	slices.SortFunc(list, func(a, b conntrack.Entry) int {
		return cmp.Or(a.Source.Compare(b.Source), a.Destination.Compare(b.Destination), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.DestinationPort, b.DestinationPort),
			cmp.Compare(a.SourcePort, b.SourcePort))
	})
	return list, found, nil
}

// tally counts what cannot be decided, with the first as an example.
type tally struct {
	what, first string
	count       int
}

func (t *tally) add(one string) {
	if t.count++; t.count == 1 {
		t.first = one
	}
}

func (t *tally) reason(reasons []string) []string {
	if t.count == 0 {
		return reasons
	}
	return append(reasons, fmt.Sprintf("%d %s, the first: %s", t.count, t.what, t.first))
}

// admits asks the rules whether a connection could be opened now.
func (v *view) admits(rules *firewall.Explainer, c conntrack.Entry) (firewall.Explanation, error) {
	var notes Explanation
	from, err := v.end(c.Source, &notes, "comes from")
	if err != nil {
		return firewall.Explanation{}, err
	}
	to, err := v.end(c.Destination, &notes, "goes to")
	if err != nil {
		return firewall.Explanation{}, err
	}
	p := firewall.Packet{From: from.link(), To: to.link(), Source: c.Source, Destination: c.Destination, Protocol: firewall.Protocol(c.Protocol),
		SourcePort: c.SourcePort, DestinationPort: c.DestinationPort, ICMPType: c.ICMPType}
	if p.From == "" && p.To == "" {
		return firewall.Explanation{Pass: true}, nil // from this box to itself, on loopback
	}
	if p.From == "" && p.Protocol == firewall.UDP {
		for _, d := range v.intent.base.Devices {
			if d.Spec.LocalIP == p.Source && d.Spec.Port == p.SourcePort {
				p.Mark = d.Spec.Mark
			}
		}
	}
	if p.SourcePort == 0 {
		p.SourcePort = ephemeralPort
	}
	return v.judge(rules, p, ExplainedPacket{From: from, To: to})
}

// tunnelIndex finds the tunnel of a far address without asking each.
type tunnelIndex struct {
	names   map[netip.Prefix]string
	lengths [129]bool // of prefixes that there are
}

func (v *view) indexTunnels() {
	x := &tunnelIndex{names: map[netip.Prefix]string{}}
	for name, t := range v.intent.tunnels {
		for _, p := range t.Spec.AllowedIPs {
			if other, there := x.names[p.Masked()]; !there || name < other {
				x.names[p.Masked()] = name
			}
			x.lengths[p.Bits()] = true
		}
	}
	v.index = x
}

func (x *tunnelIndex) find(a netip.Addr) string {
	for bits := a.BitLen(); bits >= 0; bits-- {
		if !x.lengths[bits] {
			continue
		}
		if p, err := a.Prefix(bits); err == nil {
			if name, found := x.names[p]; found {
				return name
			}
		}
	}
	return ""
}

// awaitRevocation waits, within bounds, until the connections of flows that an apply took away are forgotten.
func (e *Engine) awaitRevocation(ctx context.Context) {
	e.mu.Lock()
	done := e.revoking
	e.mu.Unlock()
	if done == nil {
		return
	}
	limit := time.NewTimer(revokePatience)
	defer limit.Stop()
	select {
	case <-done:
	case <-limit.C:
	case <-ctx.Done():
	}
}

// cutStrangers forgets connections that no document allows, as they are left when somebody opened the filter by hand and it was repaired. The
// filter lets nothing of them pass; their entries would stay for days. A box that is only watched is left alone.
func (e *Engine) cutStrangers() {
	e.mu.Lock()
	defer e.mu.Unlock()
	found := e.verified.strangers
	e.verified.strangers = nil
	if len(found) > 0 && e.mayTouch() {
		e.forget(found, time.Now())
		e.unverified.poke() // whoever verifies waits until they are forgotten
	}
}
