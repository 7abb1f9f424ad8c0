package provisioning

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"shekara/firewall"
	"shekara/netctl"
	"shekara/provisioning/compile"
	"shekara/tunnels"
)

// scope says what of the intent is compared with the host.
type scope struct {
	whole   bool // everything, and what nobody asked for as well
	base    bool
	tunnels []string
}

// program is the way from what is to what was asked for. It is made without touching the host and done in the order of its fields:
// deny-first filter, routes that go, devices and peers, unreachable routes that go, routes and rules that come, full filter, sysctls.
// So at each moment the filter allows no more than both the old and the new do, and a prefix whose device is gone is unreachable.
// Where peers only come, the full filter is loaded beside them.
type program struct {
	filter     filterChange
	routesGo   []netctl.Op
	tunnels    []tunnels.Op
	deadEndsGo []netctl.Op
	routesCome []netctl.Op
	sysctls    []netctl.Op
	found      map[string]error // tunnels whose own error was found while the program was made; nil: none
	soft       map[string]bool  // of these: everything but the endpoint is in force
	routeOwner map[netctl.Route]string
	device     map[string]string // of each tunnel in found
	lacking    []Failed          // what the site's own parts lack
	sights     int               // the engine's when the program was made
}

func (p *program) empty() bool {
	return p.filter.empty() && len(p.routesGo)+len(p.tunnels)+len(p.deadEndsGo)+len(p.routesCome)+len(p.sysctls) == 0
}

// onlyAdds reports whether peers and their routes come and nothing else changes on the way of packets.
func (p *program) onlyAdds() bool {
	return len(p.routesGo)+len(p.deadEndsGo) == 0 && !p.filter.remove &&
		!slices.ContainsFunc(p.tunnels, func(op tunnels.Op) bool { return op.Kind != tunnels.PeerAdd })
}

// comparison collects what is asked for and what is there, within a scope.
type comparison struct {
	spec    netctl.Spec
	have    netctl.State
	devices []tunnels.DeviceSpec
	peers   []tunnels.Spec
	states  []tunnels.DeviceState
	keys    map[string]map[tunnels.PublicKey]bool // device -> peers in scope
	places  map[routePlace]bool                   // in have already
}

// compare makes the program for a scope after a patch. It expects mu to be held, and changes nothing but caches.
func (e *Engine) compare(s scope, p patch) (*program, error) {
	prog := &program{found: map[string]error{}, soft: map[string]bool{}, routeOwner: map[netctl.Route]string{}, device: map[string]string{}, sights: e.sights}
	var err error
	if prog.filter, err = planFilter(&e.filter, &e.intent, p); err != nil {
		return nil, err
	}
	if err := prog.filter.check(e.options.Filter, e.filter.base); err != nil {
		return nil, err
	}
	c := &comparison{have: netctl.State{Strangers: e.world.strangers}, keys: map[string]map[tunnels.PublicKey]bool{}, places: map[routePlace]bool{}}
	base, present := e.intent.after(p)
	if !present {
		base = compile.Base{}
	}
	names := s.tunnels
	if s.whole {
		names = e.intent.tunnelNames(p)
	} else if s.base {
		names = e.withDevicesToMake(names, base, p)
	}
	e.compareBase(c, s, base, prog)
	for _, name := range names {
		e.compareTunnel(c, prog, name, base, p, s)
	}
	e.compareDevices(c, s, base, names, p)
	if s.whole {
		e.takeWorld(c, prog)
	}
	prog.sort(netctl.Diff(c.spec, c.have))
	prog.tunnels = tunnels.Diff(c.devices, c.peers, c.states)
	return prog, nil
}

// withDevicesToMake adds the tunnels of devices that are not there: they lose their peers with the device.
func (e *Engine) withDevicesToMake(names []string, base compile.Base, p patch) []string {
	missing := map[string]bool{}
	for device := range base.Devices {
		if _, there := e.world.devices[device]; !there {
			missing[device] = true
		}
	}
	if len(missing) == 0 {
		return names
	}
	set := map[string]bool{}
	for _, name := range names {
		set[name] = true
	}
	for _, name := range e.intent.tunnelNames(p) {
		if t, found := e.intent.tunnel(p, name); found && missing[t.Spec.Device] {
			set[name] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

func (e *Engine) compareBase(c *comparison, s scope, base compile.Base, prog *program) {
	if !s.base && !s.whole {
		return
	}
	c.spec = netctl.Spec{Rules: slices.Clone(base.Network.Rules), Sysctls: base.Network.Sysctls}
	lacking := map[string]bool{}
	for _, r := range base.Network.Routes {
		if r.Source.IsValid() && !e.world.holds(r.Source) {
			// The kernel would refuse it (EINVAL). It is asked for again as soon as the address is there.
			lacking[r.Source.String()] = true
			continue
		}
		c.spec.Routes = append(c.spec.Routes, r)
	}
	for _, address := range slices.Sorted(maps.Keys(lacking)) {
		prog.lacking = append(prog.lacking, Failed{Error: "no interface of this box has the address " + address,
			Hint: "ip address add " + address + "/… to the uplink, or correct the Peer's publicIP or insideIP"})
	}
	c.have.Links, c.have.Sysctls = e.world.links, e.world.sysctls
	if s.whole {
		return // takeWorld gives the rest
	}
	for _, network := range []netctl.Spec{e.intent.base.Network, base.Network} {
		c.haveRoutes(&e.world, network.Routes)
		for _, r := range network.Rules {
			if _, there := e.world.rules[r]; there && !slices.Contains(c.have.Rules, r) {
				c.have.Rules = append(c.have.Rules, r)
			}
		}
	}
}

// haveRoutes takes what is on the host in the places of the routes.
func (c *comparison) haveRoutes(w *world, routes []netctl.Route) {
	for _, r := range routes {
		if place := placeOf(r); !c.places[place] {
			c.places[place] = true
			c.have.Routes = append(c.have.Routes, w.routes[place]...)
		}
	}
}

func (e *Engine) compareTunnel(c *comparison, prog *program, name string, base compile.Base, p patch, s scope) {
	old, had := e.intent.tunnels[name]
	next, found := e.intent.tunnel(p, name)
	if had {
		c.inScope(old)
	}
	if found {
		c.inScope(next)
	}
	if !s.whole {
		if had {
			c.haveRoutes(&e.world, old.Routes)
		}
		if found {
			c.haveRoutes(&e.world, next.Routes)
		}
	}
	prog.found[name] = nil
	if !found {
		return
	}
	if next.Unsupported != "" {
		prog.found[name] = hinted(fmt.Errorf("%s", next.Unsupported), "use protocol wireguard, or set inactive: true")
		return
	}
	prog.device[name] = next.Spec.Device
	spec, made, err := e.fill(next, base)
	prog.found[name], prog.soft[name] = err, made
	for _, r := range next.Routes {
		c.spec.Routes = append(c.spec.Routes, r)
		prog.routeOwner[r] = name
	}
	if !made {
		return
	}
	e.keepRoamed(&spec, old, had, next)
	c.peers = append(c.peers, spec)
}

func (c *comparison) inScope(t compile.Tunnel) {
	if t.Unsupported != "" {
		return
	}
	if c.keys[t.Spec.Device] == nil {
		c.keys[t.Spec.Device] = map[tunnels.PublicKey]bool{}
	}
	c.keys[t.Spec.Device][t.Spec.PublicKey] = true
}

// keepRoamed lets an endpoint stay that the far side has spoken from: NAT on its way gives it other ports, and that is no drift. A
// document that names another endpoint than before wins; one that stops naming one makes the device forget.
func (e *Engine) keepRoamed(spec *tunnels.Spec, old compile.Tunnel, had bool, next compile.Tunnel) {
	if had && (old.EndpointHost != next.EndpointHost || old.EndpointPort != next.EndpointPort || old.ExpectIP != next.ExpectIP) {
		spec.ForgetEndpoint = old.EndpointHost != "" && next.EndpointHost == ""
		return
	}
	peer, there := e.world.devices[spec.Device].Peers[spec.PublicKey]
	if there && peer.Endpoint.IsValid() && spec.Endpoint.IsValid() && (peer.ReceivedBytes > 0 || !peer.LastHandshake.IsZero()) {
		spec.Endpoint = peer.Endpoint
	}
}

// compareDevices takes the devices in scope: all for the base, else those of the tunnels.
func (e *Engine) compareDevices(c *comparison, s scope, base compile.Base, names []string, p patch) {
	wanted := map[string]bool{}
	for _, name := range names {
		if t, found := e.intent.tunnel(p, name); found && t.Unsupported == "" {
			wanted[t.Spec.Device] = true
		}
	}
	for name, device := range base.Devices {
		if s.whole || s.base || wanted[name] {
			spec := device.Spec
			spec.PrivateKey = e.deviceKey(device)
			c.devices = append(c.devices, spec)
		}
	}
	slices.SortFunc(c.devices, func(a, b tunnels.DeviceSpec) int { return strings.Compare(a.Name, b.Name) })
	if s.whole {
		return
	}
	seen := map[string]bool{}
	include := func(name string) {
		if state, there := e.world.devices[name]; there && !seen[name] {
			seen[name] = true
			c.states = append(c.states, only(state, c.keys[name]))
		}
	}
	for _, d := range c.devices {
		include(d.Name)
	}
	for device := range c.keys {
		// A tunnel that leaves a device which is out of the scope otherwise.
		if d, stays := base.Devices[device]; stays && !seen[device] {
			spec := d.Spec
			spec.PrivateKey = e.deviceKey(d)
			c.devices = append(c.devices, spec)
			include(device)
		}
	}
	if s.base {
		for name := range e.intent.base.Devices {
			include(name)
		}
	}
}

// takeWorld compares with all that is there. A tunnel that has an error of its own and is not due is left as it is: its retry has its
// own time, and what cannot be made is no drift.
func (e *Engine) takeWorld(c *comparison, prog *program) {
	c.have = e.world.network()
	resting := map[string]bool{}
	for name, t := range e.troubles {
		if !t.soft && !t.due() {
			resting[name] = true
			delete(prog.found, name)
		}
	}
	c.peers = slices.DeleteFunc(c.peers, func(p tunnels.Spec) bool { return resting[p.Tunnel] })
	for _, name := range slices.Sorted(maps.Keys(e.world.devices)) {
		c.states = append(c.states, e.world.devices[name])
	}
	if len(resting) == 0 {
		return
	}
	places := map[routePlace]bool{}
	keys := map[string]map[tunnels.PublicKey]bool{}
	for name := range resting {
		t := e.intent.tunnels[name]
		for _, r := range t.Routes {
			places[placeOf(r)] = true
		}
		if keys[t.Spec.Device] == nil {
			keys[t.Spec.Device] = map[tunnels.PublicKey]bool{}
		}
		keys[t.Spec.Device][t.Spec.PublicKey] = true
	}
	inPlaces := func(r netctl.Route) bool { return places[placeOf(r)] }
	c.spec.Routes = slices.DeleteFunc(c.spec.Routes, inPlaces)
	c.have.Routes = slices.DeleteFunc(c.have.Routes, inPlaces)
	for i, d := range c.states {
		if keys[d.Name] != nil {
			d.Peers = maps.Clone(d.Peers)
			maps.DeleteFunc(d.Peers, func(k tunnels.PublicKey, _ tunnels.PeerState) bool { return keys[d.Name][k] })
			c.states[i] = d
		}
	}
}

// sort puts netctl's steps into the order of the program.
func (p *program) sort(ops []netctl.Op) {
	for _, op := range ops {
		switch {
		case op.Key != "":
			p.sysctls = append(p.sysctls, op)
		case op.Verb != netctl.Delete:
			p.routesCome = append(p.routesCome, op)
		case op.Route != nil && op.Route.Kind == netctl.Unreachable:
			p.deadEndsGo = append(p.deadEndsGo, op)
		default:
			p.routesGo = append(p.routesGo, op)
		}
	}
	// What has no way must be unreachable before it gets one.
	slices.SortStableFunc(p.routesCome, func(a, b netctl.Op) int { return arrival(a) - arrival(b) })
}

func arrival(op netctl.Op) int {
	switch {
	case op.Route != nil && op.Route.Kind == netctl.Unreachable:
		return 0
	case op.Route != nil:
		return 1
	default:
		return 2
	}
}

// The phases of a plan, in order.
const (
	phaseDeny    = "filter-deny"
	phaseDevices = "devices"
	phasePeers   = "peers"
	phaseRoutes  = "routes"
	phaseFilter  = "filter"
	phaseSysctls = "sysctls"
)

// steps is the program for people.
func (p *program) steps() []Step {
	steps := []Step{}
	deny, allow := p.filter.steps()
	steps = append(steps, deny...)
	routes := func(ops []netctl.Op, phase string) {
		for _, op := range ops {
			step := Step{Phase: phase, Text: op.String()}
			if op.Route != nil {
				step.Tunnel = p.routeOwner[*op.Route]
			}
			steps = append(steps, step)
		}
	}
	routes(p.routesGo, phaseRoutes)
	for _, op := range p.tunnels {
		phase := phasePeers
		if op.Kind == tunnels.DeviceAdd || op.Kind == tunnels.DeviceUpdate || op.Kind == tunnels.DeviceDelete {
			phase = phaseDevices
		}
		steps = append(steps, Step{Phase: phase, Tunnel: op.Peer.Tunnel, Text: op.String()})
	}
	routes(p.deadEndsGo, phaseRoutes)
	routes(p.routesCome, phaseRoutes)
	steps = append(steps, allow...)
	routes(p.sysctls, phaseSysctls)
	return steps
}

func (c filterChange) steps() (deny, allow []Step) {
	switch {
	case c.remove:
		return nil, []Step{{Phase: phaseFilter, Text: "remove the packet filter"}}
	case c.whole != nil:
		deny = []Step{{Phase: phaseDeny, Text: fmt.Sprintf("load the packet filter with what was allowed before too: %s", counted(c.deny.Elements.Count(), "element"))}}
		count := 0
		for _, elements := range c.whole.holdings {
			count += elements.Count()
		}
		if count > c.deny.Elements.Count() {
			allow = []Step{{Phase: phaseFilter, Text: "allow all: " + counted(count, "element")}}
		}
		return deny, allow
	}
	for _, owner := range slices.Sorted(maps.Keys(c.owners)) {
		change := c.owners[owner]
		tunnel, _ := strings.CutPrefix(owner, tunnelOwner(""))
		if tunnel == owner {
			tunnel = "" // a flow between zones
		}
		come, gone := change.old.Diff(change.kept)
		if text := limitStep(change, owner); text != "" {
			deny = append(deny, Step{Phase: phaseDeny, Tunnel: tunnel, Text: text})
		}
		if n := gone.WithoutLimits().Count(); n > 0 {
			deny = append(deny, Step{Phase: phaseDeny, Tunnel: tunnel, Text: fmt.Sprintf("close %s of %s", counted(n, "filter element"), owner)})
		}
		if come.Narrows() {
			deny = append(deny, Step{Phase: phaseDeny, Tunnel: tunnel, Text: "open the tunnel port to the peer of " + owner})
		}
		if come := change.new.Count() - change.kept.Count(); come > 0 {
			allow = append(allow, Step{Phase: phaseFilter, Tunnel: tunnel, Text: fmt.Sprintf("open %s of %s", counted(come, "filter element"), owner)})
		}
	}
	return deny, allow
}

// limitStep says what becomes of an owner's limits; "": they stay.
func limitStep(change ownerChange, owner string) string {
	of := func(e firewall.Elements) (text string) {
		limits, err := e.Limits() // our own elements
		for _, l := range limits {
			text = l.String()
		}
		if err != nil {
			text = err.Error()
		}
		return text
	}
	was, is := of(change.old), of(change.new)
	switch {
	case is == "" && was == "", is == was && reflect.DeepEqual(change.old.OnlyLimits(), change.new.OnlyLimits()):
		return ""
	case is == "":
		return "end the limits of " + owner
	default:
		return fmt.Sprintf("limit %s to %s", owner, is)
	}
}

// counted is a number of things.
func counted(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
