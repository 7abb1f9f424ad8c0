package verification

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"shekara/netctl"
	"shekara/tunnels"
)

// Routing is what the documents ask of routing.
type Routing struct {
	Routes []netctl.Route
	Rules  []netctl.Rule
	// Excused are far prefixes of tunnels that have an error of their own: the way to them may be missing, not the unreachable route under it.
	Excused map[netip.Prefix]bool
}

// OfRouting holds what the kernel has against what is asked: every route and rule of ours is there and no other, and nothing of others takes
// a packet for a far prefix another way.
func OfRouting(want Routing, have netctl.State, others netctl.Others) Found {
	var found Found
	wrong := func(format string, values ...any) {
		found.Violations = append(found.Violations, Violation{What: fmt.Sprintf(format, values...)})
	}
	for _, op := range netctl.Diff(netctl.Spec{Routes: want.Routes, Rules: want.Rules}, netctl.State{Routes: have.Routes, Rules: have.Rules}) {
		switch {
		case op.Verb == netctl.Delete && op.Route != nil:
			wrong("route %s bears our protocol number, and no document asks for it", op.Route)
		case op.Verb == netctl.Delete:
			wrong("%s bears our protocol number, and no document asks for it", op.Rule)
		case op.Rule != nil:
			wrong("%s is missing", op.Rule)
		case op.Route.Kind != netctl.Unicast || !want.Excused[op.Route.Prefix]:
			wrong("route %s is missing", op.Route)
		}
	}
	far := want.far()
	overlaps := func(p netip.Prefix) (netip.Prefix, bool) {
		for _, f := range far {
			if f.Overlaps(p) {
				return f, true
			}
		}
		return netip.Prefix{}, false
	}
	taken := map[uint32]string{} // table -> what it would do to a far prefix
	for _, r := range slices.Concat(have.Strangers, others.Routes) {
		prefix, does := overlaps(r.Prefix)
		switch {
		case netctl.OwnTable(r.Table) || r.Table == localTable && does:
			what := ""
			if does {
				what = fmt.Sprintf(": it takes packets for %s", prefix)
			}
			wrong("route %s of somebody else stands where ours are looked for%s", r, what)
		case does && taken[r.Table] == "":
			taken[r.Table] = fmt.Sprintf("its route %s takes packets for %s", r, prefix)
		}
	}
	for _, r := range others.Rules {
		switch {
		case r.More:
			found.Reasons = append(found.Reasons, fmt.Sprintf("%s of somebody else comes before ours, and what it takes is not known", r.Text))
		case taken[r.Table] != "":
			wrong("%s of somebody else comes before ours: %s", r.Text, taken[r.Table])
		}
	}
	return found
}

// localTable is asked before all rules but the kernel's own.
const localTable = 255

// far are the prefixes behind tunnels: those that have an unreachable route under them.
func (w Routing) far() []netip.Prefix {
	var far []netip.Prefix
	for _, r := range w.Routes {
		if r.Table == netctl.InnerTable && r.Kind == netctl.Unreachable {
			far = append(far, r.Prefix)
		}
	}
	return far
}

// OfPeers holds the peers of our devices against what the documents ask: each takes packets from, and is given those for, exactly its own
// prefixes. A tunnel with an error of its own may be missing.
func OfPeers(want []tunnels.Spec, excused map[string]bool, have []tunnels.DeviceState) Found {
	var found Found
	wrong := func(format string, values ...any) {
		found.Violations = append(found.Violations, Violation{What: fmt.Sprintf(format, values...)})
	}
	type place struct {
		device string
		key    tunnels.PublicKey
	}
	asked := map[place]tunnels.Spec{}
	owner := map[netip.Prefix]string{}
	for _, s := range want {
		asked[place{s.Device, s.PublicKey}] = s
		for _, p := range s.AllowedIPs {
			owner[p] = s.Tunnel
		}
	}
	seen := map[place]bool{}
	for _, d := range have {
		if d.Err != nil {
			found.Reasons = append(found.Reasons, fmt.Sprintf("device %s cannot be read: %v", d.Name, d.Err))
			continue
		}
		for key, p := range d.Peers {
			at := place{d.Name, key}
			seen[at] = true
			spec, known := asked[at]
			if !known {
				wrong("device %s has the peer %s with %v, and no document asks for it", d.Name, key, p.AllowedIPs)
				continue
			}
			lacks, extra := tunnels.ComparePrefixes(spec.AllowedIPs, p.AllowedIPs)
			for _, x := range extra {
				whose := ""
				if o := owner[x]; o != "" {
					whose = ", which is that of tunnel " + o
				}
				wrong("the peer of tunnel %s holds the prefix %s%s: wg show %s", spec.Tunnel, x, whose, d.Name)
			}
			if !excused[spec.Tunnel] {
				for _, x := range lacks {
					wrong("the peer of tunnel %s lacks its prefix %s: wg show %s", spec.Tunnel, x, d.Name)
				}
			}
		}
	}
	for at, s := range asked {
		if !seen[at] && !excused[s.Tunnel] && !slices.ContainsFunc(have, func(d tunnels.DeviceState) bool { return d.Name == s.Device && d.Err != nil }) {
			wrong("device %s lacks the peer of tunnel %s", s.Device, s.Tunnel)
		}
	}
	slices.SortFunc(found.Violations, func(a, b Violation) int { return strings.Compare(a.What, b.What) })
	return found
}
