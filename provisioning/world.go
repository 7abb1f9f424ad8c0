package provisioning

import (
	"net/netip"
	"slices"
	"time"

	"shekara/netctl"
	"shekara/tunnels"
)

// world is the last look at the host, brought up to date by the steps that were done since. It is a cache and nothing else: each
// whole look replaces it.
type world struct {
	seen      time.Time // of the last whole look
	links     []netctl.Link
	routes    map[routePlace][]netctl.Route
	rules     map[netctl.Rule]struct{}
	sysctls   map[string]string
	strangers []netctl.Route // of others, in our tables
	// shadowing is what others made that goes before ours; it is reported, never touched.
	shadowing []string
	devices   map[string]tunnels.DeviceState
}

// routePlace is where a route is looked for: what the kernel makes of the rest (an IPv6 metric, a link that somebody changed) is
// for netctl.Diff to judge.
type routePlace struct {
	table  uint32
	prefix netip.Prefix
}

func placeOf(r netctl.Route) routePlace { return routePlace{r.Table, r.Prefix} }

func newWorld() world {
	return world{routes: map[routePlace][]netctl.Route{}, rules: map[netctl.Rule]struct{}{}, sysctls: map[string]string{}, devices: map[string]tunnels.DeviceState{}}
}

func (w *world) setNetwork(state netctl.State) {
	w.links = state.Links
	w.strangers, w.shadowing = state.Strangers, state.Shadowing
	w.routes = make(map[routePlace][]netctl.Route, len(state.Routes))
	for _, r := range state.Routes {
		w.routes[placeOf(r)] = append(w.routes[placeOf(r)], r)
	}
	w.rules = make(map[netctl.Rule]struct{}, len(state.Rules))
	for _, r := range state.Rules {
		w.rules[r] = struct{}{}
	}
	w.sysctls = state.Sysctls
	if w.sysctls == nil {
		w.sysctls = map[string]string{}
	}
}

func (w *world) setDevices(states []tunnels.DeviceState) {
	w.devices = make(map[string]tunnels.DeviceState, len(states))
	for _, d := range states {
		w.devices[d.Name] = d
	}
}

// holds reports whether some link of the host has the address.
func (w *world) holds(address netip.Addr) bool {
	for _, link := range w.links {
		for _, prefix := range link.Addresses {
			if prefix.Addr() == address {
				return true
			}
		}
	}
	return false
}

// network is the whole state of routing, in netctl's words.
func (w *world) network() netctl.State {
	state := netctl.State{Links: w.links, Sysctls: w.sysctls, Strangers: w.strangers}
	for _, routes := range w.routes {
		state.Routes = append(state.Routes, routes...)
	}
	for r := range w.rules {
		state.Rules = append(state.Rules, r)
	}
	return state
}

// didNetwork notes a step that the kernel took.
func (w *world) didNetwork(op netctl.Op) {
	switch {
	case op.Address != nil:
		w.dropAddress(*op.Address)
	case op.Route != nil:
		w.dropStranger(*op.Route)
		w.dropRoutes(placeOf(*op.Route), func(r netctl.Route) bool {
			return r.Metric == op.Route.Metric && (op.Verb == netctl.Set || r == *op.Route)
		})
		if op.Verb != netctl.Delete {
			w.routes[placeOf(*op.Route)] = append(w.routes[placeOf(*op.Route)], *op.Route)
		}
	case op.Rule != nil && op.Verb == netctl.Delete:
		delete(w.rules, *op.Rule)
	case op.Rule != nil:
		w.rules[*op.Rule] = struct{}{}
	default:
		w.sysctls[op.Key] = op.Value
	}
}

func (w *world) dropAddress(address netctl.Address) {
	w.links = slices.Clone(w.links)
	for i, link := range w.links {
		if link.Name == address.Link {
			w.links[i].Addresses = slices.DeleteFunc(slices.Clone(link.Addresses), func(p netip.Prefix) bool { return p == address.Prefix })
		}
	}
}

// dropStranger notes that a route of ours has taken the place of another's.
func (w *world) dropStranger(route netctl.Route) {
	w.strangers = slices.DeleteFunc(slices.Clone(w.strangers), func(r netctl.Route) bool {
		return placeOf(r) == placeOf(route) && r.Metric == route.Metric
	})
}

func (w *world) dropRoutes(place routePlace, drop func(netctl.Route) bool) {
	left := slices.DeleteFunc(w.routes[place], drop)
	if len(left) == 0 {
		delete(w.routes, place)
	} else {
		w.routes[place] = left
	}
}

// didTunnels notes a step that the driver took.
func (w *world) didTunnels(op tunnels.Op) {
	name := op.Device.Name
	device := w.devices[name]
	switch op.Kind {
	case tunnels.DeviceDelete:
		delete(w.devices, name)
		// The kernel takes the routes of a link with it.
		for place := range w.routes {
			w.dropRoutes(place, func(r netctl.Route) bool { return r.Link == name })
		}
		return
	case tunnels.DeviceAdd, tunnels.DeviceUpdate:
		if op.Kind == tunnels.DeviceAdd {
			device = tunnels.DeviceState{Peers: map[tunnels.PublicKey]tunnels.PeerState{}}
		}
		device.Name, device.PrivateKey, device.Port, device.Mark, device.MTU, device.Up = name, op.Device.PrivateKey, op.Device.Port, op.Device.Mark, op.Device.MTU, true
		if key, err := tunnels.PublicKeyOf(op.Device.PrivateKey); err == nil {
			device.PublicKey = key
		}
	case tunnels.PeerDelete:
		delete(device.Peers, op.Peer.PublicKey)
	default:
		if device.Peers == nil {
			device.Peers = map[tunnels.PublicKey]tunnels.PeerState{}
		}
		peer := device.Peers[op.Peer.PublicKey]
		peer.PublicKey, peer.PresharedKey, peer.Keepalive, peer.AllowedIPs = op.Peer.PublicKey, op.Peer.PresharedKey, op.Peer.Keepalive, op.Peer.AllowedIPs
		if op.Peer.Endpoint.IsValid() {
			peer.Endpoint = op.Peer.Endpoint
		}
		device.Peers[op.Peer.PublicKey] = peer
	}
	w.devices[name] = device
}

// only is the device with those of its peers alone.
func only(d tunnels.DeviceState, keys map[tunnels.PublicKey]bool) tunnels.DeviceState {
	peers := make(map[tunnels.PublicKey]tunnels.PeerState, len(keys))
	for key := range keys {
		if p, there := d.Peers[key]; there {
			peers[key] = p
		}
	}
	d.Peers = peers
	return d
}
