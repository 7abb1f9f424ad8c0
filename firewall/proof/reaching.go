package proof

import (
	"slices"

	"shekara/firewall"
)

// Tables of iptables see a connection's target where it goes, if it was translated before, and what its opener wrote only as the range that it is
// in: sets hold what stands in packets. For connections that loaded rules open the two are one, as these say which address stands for which. One that
// rules translated otherwise which are gone may go on if where it goes is allowed.

// mappings are how the targets of connections between two places are translated, as their openers write them (written: Inside to Outside), and how a
// flow's destination becomes what stands there then.
func (a *allowed) mappings(from, to firewall.Place) (written, behind []firewall.Mapping) {
	if t := a.devices[from.Device].Translation; t != nil {
		for _, m := range t.Local {
			if !m.Shared {
				written = append(written, firewall.Mapping{Inside: m.Outside, Outside: m.Inside})
			}
		}
		return written, nil
	}
	if t := a.devices[to.Device].Translation; t != nil {
		return t.Far, t.Far
	}
	return nil, nil
}

// reaching are flows by where they go, of what its opener wrote in a range that is translated.
func (a *allowed) reaching(from, to firewall.Place, source vector, list []permission) formula {
	written, _ := a.mappings(from, to)
	if !a.byTarget || len(written) == 0 {
		return never
	}
	return a.and(a.permitted(source, a.toTarget, list), a.inRanges(a.target, written))
}

// answering are offers by where answers go: this box's are judged before they are translated back to what the opener wrote.
func (a *allowed) answering(from firewall.Place, list, reached []permission) formula {
	if !a.byTarget {
		return never
	}
	return a.or(a.permitted(a.toSource, a.target, list), a.reaching(from, firewall.Place{}, a.toSource, reached))
}

func (a *allowed) inRanges(address vector, mappings []firewall.Mapping) formula {
	out := never
	for _, m := range mappings {
		out = a.or(out, a.inside(address, m.Inside))
	}
	return out
}

// reachingProbes are echo requests that this box sends, before their targets are translated, and those that it is sent: by where they go, and where
// answers to them go.
func (a *allowed) reachingProbes() (asked, asking formula) {
	asked, asking = never, never
	if !a.byTarget {
		return asked, asking
	}
	for _, p := range a.policy.Probes {
		if !p.Remote.IsValid() {
			continue
		}
		var t firewall.Translation
		if of := a.devices[p.Device].Translation; of != nil {
			t = *of
		}
		remote := outside(t.Far, exactly(p.Remote))
		asked = a.or(asked, a.all(a.at(a.to, p.Device), a.echo(), a.or(a.is(a.target, p.Remote), a.inside(a.target, remote))))
		if !p.Local.IsValid() {
			continue
		}
		shown, _ := a.mappings(firewall.Place{Device: p.Device}, firewall.Place{})
		hidden := slices.ContainsFunc(t.Local, func(m firewall.Mapping) bool { return m.Shared && m.Inside.Contains(p.Local) })
		if !hidden {
			to := a.or(a.inside(a.target, outside(t.Local, exactly(p.Local))), a.and(a.is(a.toTarget, p.Local), a.inRanges(a.target, shown)))
			asking = a.or(asking, a.all(a.at(a.from, p.Device), a.echo(), a.or(a.inside(a.source, remote), a.inside(a.toSource, remote)), to))
		}
	}
	return asked, asking
}
