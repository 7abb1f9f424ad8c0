package proof

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"shekara/firewall"
)

// A limit stops what is too much, which depends on the packets before: no proof about one packet knows that. So a limit of ours counts neither
// as a permission nor as a prohibition: who meets it goes on. What is proved is that exactly those meet one whose tunnel the policy limits. By
// how much is not looked at here: a rule with another number differs from what was loaded, which the loaders see.

// stops says whether a verdict of a rate may be that of a limit: only in our own table, and only to an end.
func (d *decoder) stops(v *verdict) bool {
	return v != nil && v.kind == goes && v.target != nil && d.table == firewall.Table
}

// settleLimits looks at the limits when all rules are known.
func (d *decoder) settleLimits() {
	for _, c := range d.chains {
		for _, r := range c.rules {
			if slices.ContainsFunc(r.statements, func(s statement) bool { return s.limit != nil && !s.limit.ends() }) {
				r.unknown("table %s %s, chain %s, handle %d: %s: a rate decides", c.family, c.table, c.name, r.handle, r.text)
			}
		}
	}
	// Ten thousand chains that differ only in how much they let pass are one.
	alike := map[string]*verdict{}
	for _, name := range slices.Sorted(maps.Keys(d.sets)) { // the first is the one that a trace names
		s := d.sets[name]
		joined := false
		for i := range s.elements {
			v := s.elements[i].verdict
			if v == nil || v.kind != jumps || v.target == nil {
				continue
			}
			ends, only := v.target.onlyLimits()
			if !only {
				continue
			}
			if alike[ends] == nil {
				alike[ends] = v
			}
			s.elements[i].verdict, joined = alike[ends], true
		}
		if joined {
			*s = *newSet(s.name, s.leads, s.elements)
		}
	}
}

// ends says whether every packet that comes into a chain is dropped there.
func (c *chain) ends() bool {
	for _, r := range c.rules {
		if len(r.statements) > 0 {
			return r.statements[0].verdict != nil && r.statements[0].verdict.kind == drops
		}
	}
	return false
}

// onlyLimits says whether a chain does nothing but limit, and where what is too much ends.
func (c *chain) onlyLimits() (ends string, only bool) {
	var names []string
	for _, r := range c.rules {
		if len(r.statements) != 1 || r.statements[0].limit == nil {
			return "", false
		}
		names = append(names, r.statements[0].limit.name)
	}
	return strings.Join(names, " "), true
}

// met is a limit that packets met.
type met struct {
	ends  *chain
	where formula
}

// checkLimits notes a witness for what meets a limit that the policy does not set, and one for what passes without one that it sets.
func (p *comparison) checkLimits(path string, r *run, can formula) {
	limited := map[string]formula{}
	for _, reason := range []string{firewall.Bandwidth, firewall.TooManyNew, firewall.TooManyConnections} {
		limited["forward."+reason] = never
	}
	for _, m := range r.limits {
		if _, known := limited[m.ends.name]; !known {
			limited[m.ends.name] = never
		}
		limited[m.ends.name] = p.or(limited[m.ends.name], p.and(m.where, r.passes))
	}
	var wrong, missing []formula
	for _, id := range slices.Sorted(maps.Keys(limited)) {
		is, wanted := limited[id], never
		if path == "forward" {
			wanted = p.and(p.allowed.limited(&r.within, firewall.Reason(id)), r.passes)
		}
		wrong, missing = append(wrong, p.without(is, wanted)), append(missing, p.without(wanted, is))
	}
	for _, c := range []struct {
		kind  Kind
		where formula
	}{{LimitedWrongly, p.and(p.any(wrong...), can)}, {Unlimited, p.and(p.any(missing...), can)}} {
		if c.where != never {
			p.violations = append(p.violations, p.violation(path, r, c.kind, c.where))
		}
	}
}

// limited is where a packet is of a tunnel that the policy limits in some way, by the far side's address on the side of its device.
func (a *allowed) limited(v *view, reason string) formula {
	only := always
	switch {
	case len(a.policy.Limits) == 0, !v.tracked && reason != firewall.Bandwidth:
		return never
	case reason != firewall.Bandwidth:
		only = a.and(not(v.confirmed), boolean(v.state == stateNew))
	}
	far := map[string][]permission{}
	for _, l := range a.policy.Limits {
		if map[string]int{firewall.Bandwidth: l.MbitPerSecond, firewall.TooManyNew: l.NewPerSecond, firewall.TooManyConnections: l.Connections}[reason] > 0 {
			for _, prefix := range l.Prefixes {
				far[l.Device] = append(far[l.Device], permission{first: prefix})
			}
		}
	}
	out := never
	for _, device := range slices.Sorted(maps.Keys(far)) { // an order of its own: the size of what comes out hangs on it
		list := far[device]
		out = a.any(out, a.and(a.at(v.input, device), a.permitted(v.source, nil, list)), a.and(a.at(v.output, device), a.permitted(v.target, nil, list)))
	}
	return a.and(out, only)
}

func boolean(b bool) formula {
	if b {
		return always
	}
	return never
}

// confirmedOnly refuses what a rule asks of a connection's status beyond whether it was there before this packet.
func (m *match) confirmedOnly() error {
	e := m.set.elements
	if !m.bits || len(m.key) != 1 || len(e) != 1 || e[0].key[0].low != small(statusConfirmed) || e[0].key[0].high != small(statusConfirmed) {
		return fmt.Errorf("ct status other than confirmed")
	}
	return nil
}
