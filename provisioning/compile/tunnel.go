package compile

import (
	"cmp"
	"fmt"
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
	e := ends{local: t.Initiator, far: t.Owner}
	if _, own := r.peers[t.Owner.Peer]; own {
		e = ends{local: t.Owner, far: t.Initiator}
	} else if _, own := r.peers[t.Initiator.Peer]; !own {
		return Tunnel{}, false, nil
	}
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
	device, ok := r.links[deviceKey{e.local.Peer, e.far.Zone, t.Environment}]
	if !ok {
		return Tunnel{}, fmt.Errorf("peer %q has no wireguard entry for zone %q, %s", e.local.Peer, e.far.Zone, t.Environment)
	}
	far := entry(e.peer, e.local.Zone, t.Environment)
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
	remote, err := prefixes(e.far.Prefixes)
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
	own, asked, err := probeAddresses(e)
	if err != nil {
		return Tunnel{}, err
	}
	if t.Probe {
		made.Probe = &firewall.Probe{Tunnel: name, Device: device, Local: own, Remote: asked}
		if asked.IsValid() {
			made.ProbeEvery = probeEvery
		}
	}
	r.routes(&made, own)
	made.Flows, err = r.flows(name, device, t.Environment, e)
	return made, err
}

// entry is the WireGuard device of a peer that serves the zone in the environment, nil if it has none.
func entry(p *document.Peer, zone string, environment document.Environment) *document.WireGuardPort {
	for i, w := range p.WireGuard {
		if w.FarZone == zone && w.Environment == environment {
			return &p.WireGuard[i]
		}
	}
	return nil
}

// probeAddresses are those of the two ends, zero where an end has none.
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
	return own, asked, nil
}

// routes lead to the remote prefixes through the device, with an unreachable twin under each: nothing leaves in the clear when the
// device is gone. What the box itself sends comes from its probe address if it holds that, so that the far side takes it.
func (r *Resolver) routes(made *Tunnel, own netip.Addr) {
	for _, p := range made.Spec.AllowedIPs {
		through := netctl.Route{Table: netctl.InnerTable, Prefix: p, Link: made.Spec.Device}
		if r.holds[own] && own.Is6() == p.Addr().Is6() {
			through.Source = own
		}
		made.Routes = append(made.Routes, through,
			netctl.Route{Table: netctl.InnerTable, Prefix: p, Kind: netctl.Unreachable, Metric: netctl.UnreachableMetric})
	}
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
		made = append(made, f)
	}
	return made, nil
}
