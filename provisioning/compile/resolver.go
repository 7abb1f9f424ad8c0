package compile

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"shekara/firewall"
	"shekara/provisioning/contour"
	"shekara/provisioning/document"
)

// Resolver compiles for one site of one set. Making one looks at the site and its own peers alone, so it is cheap however many
// tunnels there are.
type Resolver struct {
	set     *document.Set
	name    string
	site    *document.Site
	peers   map[string]*document.Peer // own and active
	uplinks map[netip.Addr]uint32     // mark of each outer address
	links   map[deviceKey]string
	zones   map[string]uint16   // number of each link that serves one tunnel alone
	holds   map[netip.Addr]bool // addresses that the box has
	judge   *contour.Judge
}

// deviceKey is what makes a device: each has its own key and port.
type deviceKey struct {
	peer, farZone string
	environment   document.Environment
	tunnel        string // the only one that it serves, or ""
}

func (a deviceKey) compare(b deviceKey) int {
	return cmp.Or(cmp.Compare(a.farZone, b.farZone), cmp.Compare(a.environment, b.environment), cmp.Compare(a.peer, b.peer), cmp.Compare(a.tunnel, b.tunnel))
}

// For makes a Resolver. The set must be valid for the site.
func For(set *document.Set, site string) (*Resolver, error) {
	s := set.Site(site)
	if s == nil {
		return nil, fmt.Errorf("compile for site %q: there is no Site document of that name", site)
	}
	r := &Resolver{set: set, name: site, site: s, peers: map[string]*document.Peer{}, holds: map[netip.Addr]bool{}, judge: contour.For(set, "")}
	for _, i := range s.Interfaces {
		for _, a := range i.Addresses {
			p, err := document.ParseInterfaceAddress(a)
			if err != nil {
				return nil, fmt.Errorf("compile site %q: interface %q: address %q: %w", site, i.Name, a, err)
			}
			r.holds[p.Addr()] = true
		}
	}
	var outer []netip.Addr
	var keys []deviceKey
	for _, name := range s.Peers {
		p := set.Peer(name)
		if p == nil || p.Inactive {
			continue
		}
		a, err := localIP(p)
		if err != nil {
			return nil, fmt.Errorf("compile peer %q: %w", name, err)
		}
		r.peers[name] = p
		outer = append(outer, a)
		for _, w := range p.WireGuard {
			keys = append(keys, deviceKey{name, w.FarZone, w.Environment, w.Tunnel})
		}
	}
	r.uplinks, r.links = marks(outer), linkNames(keys)
	var alone []string
	for key, link := range r.links {
		if key.tunnel != "" {
			alone = append(alone, link)
		}
	}
	r.zones = numbers(alone, cmp.Compare[string], func(s string) string { return s })
	return r, nil
}

// localIP is the address that outer packets leave from: behind NAT the inside one.
func localIP(p *document.Peer) (netip.Addr, error) {
	if p.BehindNAT {
		return document.ParseAddress(p.InsideIP)
	}
	return document.ParseAddress(p.PublicIP)
}

// Compile is everything that the site's box should hold.
func Compile(set *document.Set, site string) (*Desired, error) {
	r, err := For(set, site)
	if err != nil {
		return nil, err
	}
	d := &Desired{Site: site, Tunnels: map[string]Tunnel{}, Flows: map[string]Flow{}}
	if d.Base, err = r.Base(); err != nil {
		return nil, err
	}
	for _, name := range r.Tunnels() {
		t, here, err := r.Tunnel(name)
		if err != nil {
			return nil, err
		}
		if here {
			d.Tunnels[name] = t
		}
	}
	for doc := range set.Of(document.KindFlow) {
		f, here, err := r.Flow(doc.Name)
		if err != nil {
			return nil, err
		}
		if here {
			d.Flows[doc.Name] = f
		}
	}
	return d, nil
}

// One is the share of one tunnel: what Compile has for it. It reports false if the tunnel is absent, inactive or does not end at the site.
func One(set *document.Set, site, tunnel string) (Tunnel, bool, error) {
	r, err := For(set, site)
	if err != nil {
		return Tunnel{}, false, err
	}
	return r.Tunnel(tunnel)
}

// OneFlow is one flow between zones: what Compile has for it. It reports false if the flow is absent, a tunnel's, or between zones
// that this box does not touch both.
func OneFlow(set *document.Set, site, flow string) (Flow, bool, error) {
	r, err := For(set, site)
	if err != nil {
		return Flow{}, false, err
	}
	return r.Flow(flow)
}

// BaseOf is everything that is not one tunnel's: what Compile has for it.
func BaseOf(set *document.Set, site string) (Base, error) {
	r, err := For(set, site)
	if err != nil {
		return Base{}, err
	}
	return r.Base()
}

// Tunnels are the names of the tunnels that may end here, sorted.
func (r *Resolver) Tunnels() []string {
	var names []string
	for peer := range r.peers {
		for h := range r.set.References(document.Ref{Kind: document.KindPeer, Name: peer}, document.KindTunnel) {
			names = append(names, h.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Flow is one flow between zones; see OneFlow.
func (r *Resolver) Flow(name string) (Flow, bool, error) {
	f := r.set.Flow(name)
	if f == nil || f.Tunnel != "" || !r.touches(f.FromZone) || !r.touches(f.ToZone) {
		return Flow{}, false, nil
	}
	made, err := flow(name, f)
	if err != nil {
		return Flow{}, false, err
	}
	made.From, made.To = firewall.Place{Zone: f.FromZone}, firewall.Place{Zone: f.ToZone}
	if err := r.lawfulFlow(made, "", f); err != nil {
		return Flow{}, false, err
	}
	return Flow{made}, true, nil
}

func (r *Resolver) touches(zone string) bool {
	return slices.ContainsFunc(r.site.Interfaces, func(i document.Interface) bool { return i.Zone == zone })
}

// flow is everything but the places.
func flow(name string, f *document.Flow) (firewall.Flow, error) {
	made := firewall.Flow{Name: name, Tunnel: f.Tunnel}
	var err error
	if made.Sources, err = prefixes(f.From); err != nil {
		return firewall.Flow{}, fmt.Errorf("compile flow %q: %w", name, err)
	}
	if made.Destinations, err = prefixes(f.To); err != nil {
		return firewall.Flow{}, fmt.Errorf("compile flow %q: %w", name, err)
	}
	if made.Services, err = services(f.Allow); err != nil {
		return firewall.Flow{}, fmt.Errorf("compile flow %q: %w", name, err)
	}
	return made, nil
}

func prefixes(list []string) ([]netip.Prefix, error) {
	var made []netip.Prefix
	for _, s := range list {
		p, err := document.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("prefix %q: %w", s, err)
		}
		made = append(made, p)
	}
	slices.SortFunc(made, netip.Prefix.Compare)
	return made, nil
}

func services(list []string) ([]firewall.Service, error) {
	var made []firewall.Service
	for _, s := range list {
		service, err := document.ParseService(s)
		if err != nil {
			return nil, fmt.Errorf("service %q: %w", s, err)
		}
		made = append(made, service)
	}
	return made, nil
}
