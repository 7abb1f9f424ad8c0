package compile

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"shekara/firewall"
	"shekara/netctl"
	"shekara/provisioning/document"
	"shekara/tunnels"
)

const (
	keepaliveBehindNAT = 25 // seconds: under the shortest life of a UDP mapping that is common, 30 s (wg(8), PersistentKeepalive)
	probeEvery         = 5  // seconds
)

// ends are a tunnel as this box sees it.
type ends struct {
	local, far document.End
	peer       *document.Peer // far
	inside     []netip.Prefix // of local
}

// Tunnel is one tunnel's share; see One.
func (r *Resolver) Tunnel(name string) (Tunnel, bool, error) {
	t := r.set.Tunnel(name)
	if t == nil || t.Inactive {
		return Tunnel{}, false, nil
	}
	here := r.endsOf(t)
	if here == nil {
		return Tunnel{}, false, nil
	}
	e := *here
	e.peer = r.set.Peer(e.far.Peer)
	if e.peer == nil {
		return Tunnel{}, false, fmt.Errorf("compile tunnel %q: there is no Peer %q", name, e.far.Peer)
	}
	if e.peer.Inactive {
		return Tunnel{}, false, nil
	}
	var err error
	if e.inside, err = prefixes(e.local.Prefixes); err != nil {
		return Tunnel{}, false, fmt.Errorf("compile tunnel %q: %w", name, err)
	}
	if t.Protocol != "wireguard" {
		if err := r.lawfulTunnel(name, t, e, nil); err != nil {
			return Tunnel{}, false, err
		}
		return Tunnel{Name: name, Unsupported: t.Protocol + ": not yet"}, true, nil
	}
	made, err := r.wireguard(name, t, e)
	if err != nil {
		return Tunnel{}, false, fmt.Errorf("compile tunnel %q: %w", name, err)
	}
	if err := r.lawfulTunnel(name, t, e, &made); err != nil {
		return Tunnel{}, false, err
	}
	return made, true, nil
}

func (r *Resolver) wireguard(name string, t *document.Tunnel, e ends) (Tunnel, error) {
	alone := t.DeviceFor(name, &e.local, &e.far)
	device, ok := r.links[deviceKey{e.local.Peer, e.far.Zone, t.Environment, alone}]
	if !ok {
		return Tunnel{}, fmt.Errorf("peer %q has no wireguard entry for zone %q, %s", e.local.Peer, e.far.Zone, t.Environment)
	}
	far := e.peer.Port(e.local.Zone, t.Environment, t.DeviceFor(name, &e.far, &e.local))
	if far == nil {
		return Tunnel{}, fmt.Errorf("peer %q has no wireguard entry for zone %q, %s", e.far.Peer, e.local.Zone, t.Environment)
	}
	key, err := tunnels.ParsePublicKey(far.PublicKey)
	if err != nil {
		return Tunnel{}, fmt.Errorf("peer %q: %w", e.far.Peer, err)
	}
	public, err := document.ParseAddress(e.peer.PublicIP)
	if err != nil {
		return Tunnel{}, fmt.Errorf("peer %q: %w", e.far.Peer, err)
	}
	remote, err := prefixes(e.far.Shown())
	if err != nil {
		return Tunnel{}, err
	}
	local, err := localIP(r.peers[e.local.Peer])
	if err != nil {
		return Tunnel{}, fmt.Errorf("peer %q: %w", e.local.Peer, err)
	}
	made := Tunnel{
		Name:         name,
		Spec:         tunnels.Spec{Tunnel: name, Device: device, LocalIP: local, PublicKey: key, AllowedIPs: remote},
		Known:        remote,
		PresharedKey: t.PresharedKey,
		ExpectIP:     public,
		Port:         firewall.TunnelPort{Tunnel: name, Device: device, From: public},
	}
	keepalive := t.Keepalive
	if keepalive == 0 && (e.peer.BehindNAT || r.peers[e.local.Peer].BehindNAT) {
		keepalive = keepaliveBehindNAT
	}
	made.Spec.Keepalive = time.Duration(keepalive) * time.Second
	if e.peer.BehindNAT {
		// Its port outside is the NAT's choice: wait for it, from wherever it comes; the key is what proves it.
		made.Port.From = netip.Addr{}
	} else {
		made.EndpointHost, made.EndpointPort = cmp.Or(e.peer.Endpoint, e.peer.PublicIP), uint16(far.Port)
	}
	if l := t.Limits; l != (document.Limits{}) {
		made.Limit = &firewall.Limit{Tunnel: name, Device: device, Prefixes: remote, NewPerSecond: l.NewPerSecond, Connections: l.Connections, MbitPerSecond: l.MbitPerSecond}
	}
	own, asked, err := probeAddresses(e)
	if err != nil {
		return Tunnel{}, err
	}
	if t.Probe {
		made.Probe = &firewall.Probe{Tunnel: name, Device: device, Local: own, Remote: asked}
		if e.local.Hides() {
			made.Probe.Local = netip.Addr{} // nobody can ask it
		}
		if asked.IsValid() {
			made.ProbeEvery = probeEvery
		}
	}
	if alone != "" && !r.holds[own] {
		own = r.heldIn(e.inside)
	}
	if err := r.routes(&made, e, own); err != nil {
		return Tunnel{}, err
	}
	made.Flows, err = r.flows(name, device, t.Environment, e)
	return made, err
}

// probeAddresses are those of the two ends as this side writes them, zero where an end has none or hides it.
func probeAddresses(e ends) (own, asked netip.Addr, err error) {
	for _, x := range []struct {
		written string
		into    *netip.Addr
	}{{e.local.ProbeAddress, &own}, {e.far.ProbeAddress, &asked}} {
		if x.written == "" {
			continue
		}
		if *x.into, err = document.ParseAddress(x.written); err != nil {
			return own, asked, fmt.Errorf("probe address %q: %w", x.written, err)
		}
	}
	if asked.IsValid() {
		there, err := known(&e.far, []netip.Prefix{netip.PrefixFrom(asked, asked.BitLen())})
		if err != nil || e.far.Hides() {
			return own, netip.Addr{}, err
		}
		asked = there[0].Addr()
	}
	return own, asked, nil
}

// heldIn is an address that the box has within the prefixes, zero if it has none.
func (r *Resolver) heldIn(list []netip.Prefix) netip.Addr {
	for _, a := range slices.SortedFunc(maps.Keys(r.holds), netip.Addr.Compare) {
		if slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) }) {
			return a
		}
	}
	return netip.Addr{}
}

// routes lead to the remote prefixes through the device, with an unreachable twin under each: nothing leaves in the clear when the
// device is gone. What the box itself sends comes from its probe address if it holds that, so that the far side takes it. Where the far
// side is mapped, its own range stands in the table of the device alone: others may have the same.
func (r *Resolver) routes(made *Tunnel, e ends, own netip.Addr) error {
	through := func(table uint32, list []netip.Prefix) {
		for _, p := range list {
			route := netctl.Route{Table: table, Prefix: p, Link: made.Spec.Device}
			if r.holds[own] && own.Is6() == p.Addr().Is6() {
				route.Source = own
			}
			made.Routes = append(made.Routes, route, netctl.Route{Table: table, Prefix: p, Kind: netctl.Unreachable, Metric: netctl.UnreachableMetric})
		}
	}
	if len(e.far.Mapped) == 0 {
		through(netctl.InnerTable, made.Spec.AllowedIPs)
		return nil
	}
	var err error
	if made.Known, err = prefixes(e.far.Mapped); err != nil {
		return err
	}
	through(netctl.InnerTable, made.Known)
	through(mappedBase|uint32(r.zones[made.Spec.Device]), made.Spec.AllowedIPs)
	return nil
}

// flows are those that name the tunnel. Which way one goes follows from whose prefixes its sources lie in.
func (r *Resolver) flows(name, device string, environment document.Environment, e ends) ([]firewall.Flow, error) {
	var made []firewall.Flow
	for h := range r.set.References(document.Ref{Kind: document.KindTunnel, Name: name}, document.KindFlow) {
		written := r.set.Flow(h.Name)
		f, err := flow(h.Name, written)
		if err != nil {
			return nil, err
		}
		tunnel, zone := firewall.Place{Device: device}, firewall.Place{Zone: e.local.Zone}
		f.From, f.To = tunnel, zone
		if len(f.Sources) > 0 && slices.ContainsFunc(e.inside, func(p netip.Prefix) bool { return p.Overlaps(f.Sources[0]) }) {
			f.From, f.To = zone, tunnel
		}
		if err := r.lawfulFlow(f, environment, written); err != nil {
			return nil, err
		}
		// The filter knows the far side as this side does.
		far := &f.Sources
		if f.To == tunnel {
			far = &f.Destinations
		}
		if *far, err = known(&e.far, *far); err != nil {
			return nil, err
		}
		made = append(made, f)
	}
	return made, nil
}
