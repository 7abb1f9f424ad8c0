package compile

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"shekara/firewall"
	"shekara/netctl"
	"shekara/provisioning/document"
	"shekara/tunnels"
)

const (
	// What a device's MTU is when the document leaves it: a path of 1500 bytes, which the compiler cannot measure, less the 60 or 80
	// bytes of outer IP, UDP and WireGuard headers (wireguard.com, protocol), less 20 for what lies on the way, PPPoE for one.
	mtuOverIPv4 = 1420
	mtuOverIPv6 = 1400
	// mainTable is RT_TABLE_MAIN of rtnetlink(7).
	mainTable uint32 = 254
)

// Base is everything that is not one tunnel's.
func (r *Resolver) Base() (Base, error) {
	b := Base{Devices: map[string]Device{}, Repair: cmp.Or(r.site.Drift, "repair") == "repair", StopUnrecorded: r.site.Unrecorded == "stop", Engine: cmp.Or(r.site.Engine, "auto"), Lab: r.site.Lab}
	if r.site.Journal.Keep != "" {
		months, err := document.ParseMonths(r.site.Journal.Keep)
		if err != nil {
			return Base{}, fmt.Errorf("compile site %q: %w", r.name, err)
		}
		b.KeepMonths = months
	}
	b.Units = units(r.site.Journal.Units)
	if e := r.site.Firewall.Engine; e != "auto" {
		b.Filter = firewall.Engine(e)
	}
	var err error
	for name, p := range r.peers {
		if err := r.devices(b.Devices, name, p); err != nil {
			return Base{}, fmt.Errorf("compile peer %q: %w", name, err)
		}
	}
	if b.Network, err = r.network(b.Devices); err != nil {
		return Base{}, fmt.Errorf("compile site %q: %w", r.name, err)
	}
	for d := range r.set.Of(document.KindZone) {
		p, err := prefixes(r.set.Zone(d.Name).Prefixes)
		if err != nil {
			return Base{}, fmt.Errorf("compile zone %q: %w", d.Name, err)
		}
		b.Zones = append(b.Zones, firewall.Zone{Name: d.Name, Prefixes: p})
	}
	for _, i := range r.site.Interfaces {
		b.Interfaces = append(b.Interfaces, firewall.Interface{Name: i.Name, Zone: i.Zone})
	}
	b.Management.Zone = r.site.Management.Zone
	if b.Management.From, err = prefixes(r.site.Management.From); err != nil {
		return Base{}, fmt.Errorf("compile management of site %q: %w", r.name, err)
	}
	if b.Management.Services, err = services(r.site.Management.Allow); err != nil {
		return Base{}, fmt.Errorf("compile management of site %q: %w", r.name, err)
	}
	if b.Time, err = r.time(); err != nil {
		return Base{}, fmt.Errorf("compile time service of site %q: %w", r.name, err)
	}
	b.Offers = r.offers(b.Time, b.Devices)
	if err := r.lawfulBase(&b); err != nil {
		return Base{}, err
	}
	for _, s := range r.site.DNS {
		a, err := document.ParseAddress(s)
		if err != nil {
			return Base{}, fmt.Errorf("compile dns of site %q: %q: %w", r.name, s, err)
		}
		b.DNS = append(b.DNS, a)
	}
	return b, nil
}

func (r *Resolver) devices(into map[string]Device, name string, p *document.Peer) error {
	local, err := localIP(p)
	if err != nil {
		return err
	}
	for _, w := range p.WireGuard {
		standard := mtuOverIPv4
		if local.Is6() {
			standard = mtuOverIPv6
		}
		link := r.links[deviceKey{name, w.FarZone, w.Environment, w.Tunnel}]
		d := Device{
			Spec: tunnels.DeviceSpec{Name: link, LocalPeer: name, FarZone: w.FarZone, Environment: string(w.Environment), Tunnel: w.Tunnel, LocalIP: local,
				Port: uint16(w.Port), Mark: r.uplinks[local], MTU: cmp.Or(w.MTU, standard), Engine: r.engine()},
			KeyName: fmt.Sprintf("wireguard/%s.%s.%s", name, w.FarZone, w.Environment),
		}
		if w.Tunnel != "" {
			d.KeyName += "." + w.Tunnel
		}
		d.Filter = firewall.Device{Name: link, FarZone: w.FarZone, LocalIP: local, Port: d.Spec.Port, Mark: d.Spec.Mark, MTU: d.Spec.MTU}
		if w.PublicKey != "" {
			if d.PublicKey, err = tunnels.ParsePublicKey(w.PublicKey); err != nil {
				return err
			}
		}
		if w.Tunnel != "" {
			if err := r.translate(&d, w.Tunnel); err != nil {
				return fmt.Errorf("tunnel %q: %w", w.Tunnel, err)
			}
		}
		into[link] = d
	}
	return nil
}

// network is the outer routing of every own address, the rules, and the sysctls.
func (r *Resolver) network(devices map[string]Device) (netctl.Spec, error) {
	spec := netctl.Spec{Sysctls: r.sysctls(slices.Sorted(maps.Keys(devices)))}
	for _, outer := range slices.SortedFunc(maps.Keys(r.uplinks), netip.Addr.Compare) {
		mark := r.uplinks[outer]
		uplink := r.uplink(outer)
		table := mark
		if uplink == nil {
			// Nobody said which interface has the address. The host's own routes serve, but past InnerTable, so that a selector which
			// holds a peer's public IP makes no loop.
			table = mainTable
		}
		spec.Rules = append(spec.Rules, netctl.Rule{IPv6: outer.Is6(), Priority: netctl.OuterRulePriority, Mark: mark, Table: table})
		if uplink == nil {
			continue
		}
		routes, err := outerRoutes(*uplink, outer, table)
		if err != nil {
			return netctl.Spec{}, err
		}
		spec.Routes = append(spec.Routes, routes...)
	}
	for _, ipv6 := range []bool{false, true} {
		spec.Rules = append(spec.Rules, netctl.Rule{IPv6: ipv6, Priority: netctl.InnerRulePriority, Table: netctl.InnerTable})
	}
	mappedRules(&spec, devices)
	return spec, nil
}

// uplink is the interface that has the address, nil if no document says so.
func (r *Resolver) uplink(outer netip.Addr) *document.Interface {
	for i, n := range r.site.Interfaces {
		for _, a := range n.Addresses {
			if p, err := document.ParseInterfaceAddress(a); err == nil && p.Addr() == outer {
				return &r.site.Interfaces[i]
			}
		}
	}
	return nil
}

// outerRoutes are how encrypted packets leave from one address: by its own interface or not at all.
func outerRoutes(uplink document.Interface, outer netip.Addr, table uint32) ([]netctl.Route, error) {
	everywhere := netip.PrefixFrom(outer, 0).Masked()
	routes := []netctl.Route{{Table: table, Prefix: everywhere, Kind: netctl.Unreachable, Metric: netctl.UnreachableMetric}}
	for _, s := range uplink.Addresses {
		p, err := document.ParseInterfaceAddress(s)
		if err != nil {
			return nil, fmt.Errorf("interface %q: address %q: %w", uplink.Name, s, err)
		}
		connected := netctl.Route{Table: table, Prefix: p.Masked(), Link: uplink.Name, Source: outer}
		if p.Addr().Is6() == outer.Is6() && !p.IsSingleIP() && !slices.Contains(routes, connected) {
			routes = append(routes, connected)
		}
	}
	for _, s := range uplink.Gateways {
		a, err := document.ParseAddress(s)
		if err != nil {
			return nil, fmt.Errorf("interface %q: gateway %q: %w", uplink.Name, s, err)
		}
		if a.Is6() == outer.Is6() {
			routes = append(routes, netctl.Route{Table: table, Prefix: everywhere, Link: uplink.Name, Gateway: a, Source: outer})
		}
	}
	return routes, nil
}

// sysctls make the host a router that trusts no redirect. Reverse path filtering is strict but on uplinks: an outer packet that
// arrives at the second uplink would be looked up in the main table, whose default route leads out by the first, and be dropped
// (ip-sysctl, rp_filter: 2 is loose, and the larger of "all" and the interface's own counts, so "all" is left alone).
func (r *Resolver) sysctls(links []string) map[string]string {
	s := map[string]string{
		"net.ipv4.ip_forward":                "1",
		"net.ipv6.conf.all.forwarding":       "1",
		"net.ipv4.conf.all.src_valid_mark":   "1", // reverse path filtering looks up with the packet's mark
		"net.ipv4.conf.all.accept_redirects": "0",
		"net.ipv4.conf.all.send_redirects":   "0",
		// Of each connection, from its first packet on: what it carries is counted, its end is told also if it was opened while no daemon ran, and when it began.
		"net.netfilter.nf_conntrack_acct":      "1",
		"net.netfilter.nf_conntrack_events":    "1",
		"net.netfilter.nf_conntrack_timestamp": "1",
	}
	uplinks := map[string]bool{}
	for outer := range r.uplinks {
		if u := r.uplink(outer); u != nil {
			uplinks[u.Name] = true
		}
	}
	names := slices.Clone(links)
	for _, i := range r.site.Interfaces {
		names = append(names, i.Name)
		if len(i.Gateways) > 0 {
			uplinks[i.Name] = true
		}
	}
	for _, name := range names {
		// sysctl(8): a dot within a name is written as a slash.
		v4, v6 := "net.ipv4.conf."+strings.ReplaceAll(name, ".", "/"), "net.ipv6.conf."+strings.ReplaceAll(name, ".", "/")
		s[v4+".rp_filter"] = "1"
		if uplinks[name] {
			s[v4+".rp_filter"] = "2"
		}
		s[v4+".send_redirects"] = "0" // sent if "all" or the interface says so
		s[v6+".accept_redirects"] = "0"
	}
	return s
}

// engine is what the Site asks for; zero: it leaves the choice to the driver.
func (r *Resolver) engine() tunnels.Engine {
	if r.site.Engine == "auto" {
		return ""
	}
	return tunnels.Engine(r.site.Engine)
}

// DefaultUnits are those of a box like this one, sorted. What journald dropped of another, because that said too much, only journald's own say.
const DefaultUnits = "chrony.service, kernel, shekara-close.service, shekara-export.service, shekara-time.service, shekarad.service, ssh.service, strongswan.service, systemd-journald.service, systemd-networkd.service, systemd-timesyncd.service"

// units are those whose messages are put on record.
func units(named []string) []string {
	switch {
	case len(named) == 0:
		return strings.Split(DefaultUnits, ", ")
	case named[0] == document.NoUnits:
		return nil
	}
	return slices.Compact(slices.Sorted(slices.Values(named)))
}
