package provisioning

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"shekara/firewall/engine"
	"shekara/netctl"
	"shekara/netctl/filters"
	"shekara/provisioning/verification"
	"shekara/tunnels"
)

// Beside looks for what decides about packets beside the rules of nftables: filters.Look.
type Beside func(interfaces []string) []filters.Found

// surroundings are what is on the host beside the rules, seen for one verification.
type surroundings struct {
	network netctl.State
	others  netctl.Others
	devices []tunnels.DeviceState
	beside  []filters.Found
	err     error // why routing or devices could not be seen
}

// lookAround sees all of it. Only a context that ended is an error.
func (e *Engine) lookAround(ctx context.Context, d demand) (surroundings, error) {
	var s surroundings
	if e.options.Beside != nil {
		s.beside = e.options.Beside(d.view.intent.links())
	}
	if s.network, s.err = e.options.Network.Observe(ctx, nil); s.err == nil {
		s.others, s.err = e.options.Network.Others(ctx)
	}
	if s.err == nil {
		s.devices, s.err = e.options.Tunnels.Observe(ctx)
	}
	return s, ctx.Err()
}

// links are the interfaces whose packets matter.
func (i *intent) links() []string {
	names := slices.Sorted(maps.Keys(i.base.Devices))
	for _, i := range i.base.Interfaces {
		names = append(names, i.Name)
	}
	return names
}

// routing is what the documents ask of routing on a host with these links: a route whose source no link has cannot be.
func (d demand) routing(links []netctl.Link) verification.Routing {
	held := map[netip.Addr]bool{}
	for _, l := range links {
		for _, p := range l.Addresses {
			held[p.Addr()] = true
		}
	}
	base := d.view.intent.base
	want := verification.Routing{Rules: base.Network.Rules, Excused: map[netip.Prefix]bool{}}
	for _, r := range base.Network.Routes {
		if !r.Source.IsValid() || held[r.Source] {
			want.Routes = append(want.Routes, r)
		}
	}
	for name, t := range d.view.intent.tunnels {
		want.Routes = append(want.Routes, t.Routes...)
		for _, r := range t.Routes {
			if d.troubled[name] {
				want.Excused[r.Prefix] = true
			}
		}
	}
	return want
}

// ofRouting, ofPeers and ofBeside hold what was seen against what is asked.
func (d demand) ofRouting(s surroundings) verification.Found {
	if s.err != nil {
		return verification.Unknown(s.err.Error())
	}
	return verification.OfRouting(d.routing(s.network.Links), s.network, s.others)
}

func (d demand) ofPeers(s surroundings) verification.Found {
	if s.err != nil {
		return verification.Unknown(s.err.Error())
	}
	var want []tunnels.Spec
	for name, t := range d.view.intent.tunnels {
		if t.Unsupported == "" {
			spec := t.Spec
			spec.Tunnel = name
			want = append(want, spec)
		}
	}
	return verification.OfPeers(want, d.troubled, s.devices)
}

// Legacy tables that the listing has are in the proof.
func (e *Engine) ofBeside(s surroundings, listing engine.Listing) verification.Found {
	if e.options.Beside == nil {
		return verification.Unknown("this daemon cannot look for what decides about packets beside the packet filter")
	}
	var found verification.Found
	for _, f := range s.beside {
		switch {
		case f.Unasked:
			found.Except = append(found.Except, f.What)
		case !listing.Covers(f.Table):
			found.Reasons = append(found.Reasons, f.String())
		}
	}
	return found
}

// ofAssertions asks the rules that the documents make.
func (d demand) ofAssertions() verification.Found {
	problems, err := CheckAssertions(d.view.set, d.view.site)
	if err != nil {
		return verification.Unknown(fmt.Sprintf("assertions: %v", err))
	}
	var found verification.Found
	for _, p := range problems {
		found.Violations = append(found.Violations, verification.Violation{What: fmt.Sprintf("%s %s: %s: %s", p.Kind, p.Name, p.What, p.Hint)})
	}
	return found
}
