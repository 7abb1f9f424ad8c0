package provisioning

import (
	"maps"
	"reflect"
	"slices"

	"shekara/firewall"
	"shekara/journal"
	"shekara/provisioning/compile"
)

// intent is what the documents of one revision ask of this box. Its maps belong to the engine and are changed in place, by patches,
// so that one tunnel's change does not copy 10,000.
type intent struct {
	present bool // there is a Site document for this box; without one nothing of ours should be on the host
	base    compile.Base
	tunnels map[string]compile.Tunnel
	flows   map[string]compile.Flow
	changes int // that were applied to it
}

// patch takes an intent to the next. What it does not name stays.
type patch struct {
	base    *compile.Base // nil: stays
	present bool          // after the patch; read only if base is set
	tunnels map[string]*compile.Tunnel
	flows   map[string]*compile.Flow
	actor   journal.Actor // who asked for it; zero: nobody but the daemon
}

// difference is the patch from i to next, where all of next is known.
func (i *intent) difference(next intent) patch {
	p := patch{tunnels: map[string]*compile.Tunnel{}, flows: map[string]*compile.Flow{}}
	if i.present != next.present || !reflect.DeepEqual(i.base, next.base) {
		p.base, p.present = &next.base, next.present
	}
	patchMap(p.tunnels, i.tunnels, next.tunnels)
	patchMap(p.flows, i.flows, next.flows)
	return p
}

func patchMap[T any](into map[string]*T, before, after map[string]T) {
	for name := range before {
		if _, kept := after[name]; !kept {
			into[name] = nil
		}
	}
	for name, now := range after {
		if was, had := before[name]; !had || !reflect.DeepEqual(was, now) {
			into[name] = &now
		}
	}
}

// apply changes the intent and returns the patch that takes it back.
func (i *intent) apply(p patch) (back patch) {
	if p.base != nil || len(p.tunnels)+len(p.flows) > 0 {
		i.changes++
	}
	if p.base != nil {
		base := i.base
		back.base, back.present = &base, i.present
		i.base, i.present = *p.base, p.present
	}
	back.tunnels = applyMap(&i.tunnels, p.tunnels)
	back.flows = applyMap(&i.flows, p.flows)
	return back
}

func applyMap[T any](target *map[string]T, changes map[string]*T) map[string]*T {
	if *target == nil {
		*target = map[string]T{}
	}
	back := make(map[string]*T, len(changes))
	for name, next := range changes {
		if was, had := (*target)[name]; had {
			back[name] = &was
		} else {
			back[name] = nil
		}
		if next == nil {
			delete(*target, name)
		} else {
			(*target)[name] = *next
		}
	}
	return back
}

// tunnel is a tunnel as it will be after the patch.
func (i *intent) tunnel(p patch, name string) (compile.Tunnel, bool) {
	if next, changed := p.tunnels[name]; changed {
		if next == nil {
			return compile.Tunnel{}, false
		}
		return *next, true
	}
	t, found := i.tunnels[name]
	return t, found
}

// after is the base after the patch.
func (i *intent) after(p patch) (compile.Base, bool) {
	if p.base != nil {
		return *p.base, p.present
	}
	return i.base, i.present
}

// tunnelNames are all tunnels before or after the patch, sorted.
func (i *intent) tunnelNames(p patch) []string {
	names := make(map[string]bool, len(i.tunnels)+len(p.tunnels))
	for name := range i.tunnels {
		names[name] = true
	}
	for name := range p.tunnels {
		names[name] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// policyOf is the filter's base without what tunnels and flows add.
func policyOf(b compile.Base) firewall.Policy {
	p := firewall.Policy{Zones: b.Zones, Interfaces: b.Interfaces, Management: b.Management, DNS: b.DNS, Engine: b.Filter}
	for _, name := range slices.Sorted(maps.Keys(b.Devices)) {
		p.Devices = append(p.Devices, b.Devices[name].Filter)
	}
	return p
}

// holding is what one owner, a tunnel, a flow between zones or the time service, asks of the filter.
type holding struct {
	ports  []firewall.TunnelPort
	flows  []firewall.Flow
	probes []firewall.Probe
	limits []firewall.Limit
	offers []firewall.Offer
}

func holdingOf(t compile.Tunnel) holding {
	if t.Unsupported != "" {
		return holding{}
	}
	h := holding{ports: []firewall.TunnelPort{t.Port}, flows: t.Flows}
	if t.Probe != nil {
		h.probes = []firewall.Probe{*t.Probe}
	}
	if t.Limit != nil {
		h.limits = []firewall.Limit{*t.Limit}
	}
	return h
}

// policy is what the owner asks for, alone.
func (h holding) policy() (p firewall.Policy) {
	h.addTo(&p)
	return p
}

// addTo adds what the owner asks for to a policy.
func (h holding) addTo(p *firewall.Policy) {
	p.Ports, p.Flows = append(p.Ports, h.ports...), append(p.Flows, h.flows...)
	p.Probes, p.Limits, p.Offers = append(p.Probes, h.probes...), append(p.Limits, h.limits...), append(p.Offers, h.offers...)
}

// common is what both ask for; of limits, which take away, only the other's are in force.
func (h holding) common(other holding) holding {
	return holding{ports: both(h.ports, other.ports), flows: both(h.flows, other.flows), probes: both(h.probes, other.probes), limits: other.limits, offers: both(h.offers, other.offers)}
}

func both[T any](a, b []T) []T {
	var out []T
	for _, x := range a {
		if slices.ContainsFunc(b, func(y T) bool { return reflect.DeepEqual(x, y) }) {
			out = append(out, x)
		}
	}
	return out
}

func tunnelOwner(name string) string { return "tunnel/" + name }
func flowOwner(name string) string   { return "flow/" + name }

// boxOwner is the box itself, for what it serves.
const boxOwner = "box"
