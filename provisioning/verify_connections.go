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
// have it, and it must be translated as they would translate it. Where it comes from and goes to follows from its addresses and its conntrack
// zone, as routing has it.
func (d demand) ofConnections(tracked []conntrack.Entry, found verification.Found) (verification.Found, strangers) {
	if len(tracked) == 0 {
		return found, nil
	}
	base, err := firewall.CompileBase(d.policy)
	if err != nil {
		return verification.Unknown(err.Error()), nil
	}
	allowing := d.policy
	allowing.Limits = nil
	elements, err := base.Elements(allowing)
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
	zones := d.view.zonesOfDevices()
	var out strangers
	undecided := tally{what: "connections whose ends this box does not know are not judged"}
	for _, entry := range tracked {
		x, err := d.view.admits(rules, zones, entry)
		if err != nil {
			undecided.add(fmt.Sprintf("%s: %v", entry, err))
			continue
		}
		what, stranger := judged(entry, x)
		if what == "" {
			continue
		}
		if out = append(out, stranger); len(out) <= maxStrangers {
			found.Violations = append(found.Violations, verification.Violation{Connection: entry.String(), What: what})
		}
	}
	if more := len(out) - maxStrangers; more > 0 {
		found.Violations = append(found.Violations, verification.Violation{What: fmt.Sprintf("and %d more connections live that no document allows", more)})
	}
	found.Reasons = undecided.reason(found.Reasons)
	return found, out
}

// judged says what is wrong with a connection, and selects it: "" for nothing.
func judged(c conntrack.Entry, x firewall.Explanation) (what string, stranger conntrack.Selector) {
	stranger = conntrack.Selector{Source: alone(c.Source), Destination: alone(c.Destination), Protocol: c.Protocol,
		FirstPort: c.DestinationPort, LastPort: c.DestinationPort, Zone: c.Zone}
	if !x.Pass {
		return fmt.Sprintf("a connection lives that no document allows: %s (it would be dropped as %s)", c, cmp.Or(x.Reason, "not allowed")), stranger
	}
	or := func(a, b netip.Addr) netip.Addr {
		if a.IsValid() {
			return a
		}
		return b
	}
	from, to := or(c.AnswersFrom, c.Destination), or(c.AnswersTo, c.Source)
	wantFrom, wantTo := or(x.Connection.ToDestination, c.Destination), or(x.Connection.ToSource, c.Source)
	if from == wantFrom && to == wantTo {
		return "", stranger
	}
	stranger.AnswersFrom, stranger.AnswersTo = from, to
	return fmt.Sprintf("a connection lives that is not translated as the documents say: %s is answered %s > %s, and should be %s > %s", c, from, to, wantFrom, wantTo), stranger
}

// tracked are the different connections of the table that live and can be judged, and what cannot.
func (e *Engine) tracked(ctx context.Context) ([]conntrack.Entry, verification.Found) {
	if e.options.Connections == nil {
		return nil, verification.Unknown("the table of connections cannot be read")
	}
	helped := tally{what: "connections have a helper, which may let others in"}
	seen := map[conntrack.Entry]conntrack.Entry{}
	full := false
	err := e.options.Connections.Each(ctx, func(a *conntrack.Account) bool {
		c := a.Entry
		if c.Closed || c.Source.IsLoopback() {
			return true
		}
		if c.Helped {
			helped.add(c.String())
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
	if err != nil {
		return nil, verification.Unknown(err.Error())
	}
	var found verification.Found
	found.Reasons = helped.reason(found.Reasons)
	if full {
		found.Reasons = append(found.Reasons, fmt.Sprintf("of the connections only the first %d are judged", maxConnections))
	}
	list := slices.Collect(maps.Values(seen))
	slices.SortFunc(list, func(a, b conntrack.Entry) int {
		return cmp.Or(a.Source.Compare(b.Source), a.Destination.Compare(b.Destination), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.DestinationPort, b.DestinationPort),
			cmp.Compare(a.SourcePort, b.SourcePort), cmp.Compare(a.Zone, b.Zone), a.AnswersFrom.Compare(b.AnswersFrom), a.AnswersTo.Compare(b.AnswersTo))
	})
	return list, found
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

// zonesOfDevices are the devices that have a conntrack zone, each with the tunnel that it serves alone.
func (v *view) zonesOfDevices() map[uint16]ExplainedEnd {
	zones := map[uint16]ExplainedEnd{}
	for name, t := range v.intent.tunnels {
		device := t.Spec.Device
		if f := v.intent.base.Devices[device].Filter; f.Translation != nil && f.Translation.Zone != 0 {
			zones[f.Translation.Zone] = ExplainedEnd{Interface: device, Zone: v.zoneOf(device), Tunnel: name}
		}
	}
	return zones
}

// ends are where a connection comes from and goes to. In a zone one of them is the zone's device, whose far side may have any addresses.
func (v *view) ends(zones map[uint16]ExplainedEnd, c conntrack.Entry) (from, to ExplainedEnd, err error) {
	var notes Explanation
	var device ExplainedEnd
	if c.Zone != 0 {
		var known bool
		if device, known = zones[c.Zone]; !known {
			return from, to, fmt.Errorf("no document has conntrack zone %d", c.Zone)
		}
	}
	if t := v.intent.base.Devices[device.Interface].Filter; c.Zone != 0 && holds(t.Sources, c.Source) >= 0 && !within(t.Translation.Far, c.Destination) {
		from = device
	} else if from, err = v.end(c.Source, &notes, "comes from"); err != nil {
		return from, to, err
	} else if c.Zone != 0 {
		return from, device, nil
	}
	destination := c.Destination
	if t := v.intent.base.Devices[from.Interface].Filter.Translation; t != nil { // as the far side writes it
		destination = firewall.In(t.Local, whole(destination)).Addr()
	}
	to, err = v.end(destination, &notes, "goes to")
	return from, to, err
}

// within says whether an address is in a range by which far hosts are known here.
func within(mappings []firewall.Mapping, a netip.Addr) bool {
	return slices.ContainsFunc(mappings, func(m firewall.Mapping) bool { return m.Inside.Contains(a) })
}

// admits asks the rules whether a connection could be opened now, and what its addresses would become.
func (v *view) admits(rules *firewall.Explainer, zones map[uint16]ExplainedEnd, c conntrack.Entry) (firewall.Explanation, error) {
	from, to, err := v.ends(zones, c)
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
		for _, p := range t.Known {
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
		r := e.revocation(patch{}, time.Now())
		for _, s := range found {
			r.flows[s] = nil
		}
		e.forget(r)
		e.unverified.poke() // whoever verifies waits until they are forgotten
	}
}
