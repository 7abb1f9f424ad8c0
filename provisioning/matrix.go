package provisioning

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"shekara/firewall"
	"shekara/provisioning/document"
	"shekara/provisioning/validate"
)

// Matrix is who may open connections to whom on this box. Nothing else passes.
type Matrix struct {
	Site     string        `json:"site"`
	Revision int           `json:"revision,omitempty"` // in force; 0: of documents that are not
	Places   []MatrixPlace `json:"places"`             // rows and columns, in this order
	Cells    []MatrixCell  `json:"cells"`              // those that let something pass
	Waivers  []string      `json:"waivers,omitempty"`  // flows that pass only by a waiver, each as a sentence
}

// MatrixPlace is a zone as this box meets it, or the box itself.
type MatrixPlace struct {
	Name       string         `json:"name"` // unique: the zone's, with environment, and own peer, where one device is not all; or LocalInterface
	Zone       string         `json:"zone,omitempty"`
	Contour    string         `json:"contour,omitempty"`
	Kind       string         `json:"kind,omitempty"`
	Prefixes   []string       `json:"prefixes"`
	Interfaces []string       `json:"interfaces"`          // of the host, or one tunnel device
	Device     bool           `json:"device,omitempty"`    // reached through a tunnel device
	Tunnels    []MatrixTunnel `json:"tunnels,omitempty"`   // that lead there
	Hosts      []MatrixHost   `json:"hosts,omitempty"`     // gateways, then systems, by name
	Addresses  []string       `json:"addresses,omitempty"` // of the box itself: those that tunnels end at
}

// MatrixHost is a Gateway or a System that stands in a place.
type MatrixHost struct {
	Kind         document.Kind `json:"kind"` // Gateway or System
	Name         string        `json:"name"`
	Sort         string        `json:"sort,omitempty"`         // of a gateway: shep, vshep, national or payment
	Organisation string        `json:"organisation,omitempty"` // that owns a system
	Class        int           `json:"class,omitempty"`        // of a system
	Prefixes     []string      `json:"prefixes"`
}

// MatrixTunnel is a tunnel that leads to a place.
type MatrixTunnel struct {
	Name     string   `json:"name"`
	Peer     string   `json:"peer,omitempty"`
	Prefixes []string `json:"prefixes"`
}

// MatrixCell is what may be opened from one place to another.
type MatrixCell struct {
	From  string       `json:"from"` // names of places
	To    string       `json:"to"`
	Flows []MatrixFlow `json:"flows"`
}

// MatrixFlow is one document's permission.
type MatrixFlow struct {
	Document     ExplainedDocument `json:"document"`
	Waiver       string            `json:"waiver,omitempty"` // the last day of its waiver
	Tunnel       string            `json:"tunnel,omitempty"`
	Sources      []string          `json:"sources"`
	Destinations []string          `json:"destinations"`
	Services     []string          `json:"services"`
}

// Matrix says who may open connections to whom: by what is in force, or, with documents, by what would be.
func (e *Engine) Matrix(ctx context.Context, r Request) (Matrix, error) {
	look := e.viewInForce
	if len(r.Files) > 0 || r.Whole {
		look = func(ctx context.Context) (*view, error) { return e.viewWith(ctx, r) }
	}
	v, err := look(ctx)
	if err != nil {
		return Matrix{}, err
	}
	return v.matrix(), nil
}

// MatrixOf says who may open connections to whom by documents alone, for one site. They must be valid for it.
func MatrixOf(set *document.Set, site string) (Matrix, error) {
	v, err := viewOf(set, site)
	if err != nil {
		return Matrix{}, err
	}
	return v.matrix(), nil
}

func (v *view) matrix() Matrix {
	m := Matrix{Site: v.site, Revision: v.revision, Places: v.places(), Cells: []MatrixCell{}, Waivers: validate.Waived(v.set, validate.Options{Site: v.site})}
	names := map[string]string{} // of places, by link
	for _, p := range m.Places {
		for _, link := range p.Interfaces {
			names[link] = p.Name
		}
	}
	cells := map[[2]string][]MatrixFlow{}
	put := func(from, to string, f MatrixFlow) {
		if from != "" && to != "" {
			cells[[2]string{from, to}] = append(cells[[2]string{from, to}], f)
		}
	}
	name := func(p firewall.Place) string {
		if p.Device != "" {
			return names[p.Device]
		}
		for _, i := range v.intent.base.Interfaces {
			if i.Zone == p.Zone {
				return names[i.Name]
			}
		}
		return ""
	}
	for _, f := range v.allFlows() {
		put(name(f.From), name(f.To), v.matrixFlow(document.KindFlow, f.Name, f.Tunnel, prefixTexts(f.Sources), prefixTexts(f.Destinations), serviceTexts(f.Services)))
	}
	v.builtIn(name, put)
	for _, from := range m.Places {
		for _, to := range m.Places {
			if flows := cells[[2]string{from.Name, to.Name}]; len(flows) > 0 {
				m.Cells = append(m.Cells, MatrixCell{from.Name, to.Name, flows})
			}
		}
	}
	return m
}

// builtIn is what documents other than flows let pass: management, what this box offers, the ports of tunnels, probes. What this box itself asks of its zones
// needs no document and is left out.
func (v *view) builtIn(name func(firewall.Place) string, put func(from, to string, f MatrixFlow)) {
	if m := v.intent.base.Management; m.Zone != "" {
		put(name(firewall.Place{Zone: m.Zone}), LocalInterface, v.matrixFlow(document.KindSite, v.site, "", prefixTexts(m.From), []string{"this box"}, serviceTexts(m.Services)))
	}
	for _, o := range v.intent.base.Offers {
		put(name(o.From), LocalInterface, v.matrixFlow(document.KindTimeService, o.Name, "", prefixTexts(o.Sources), prefixTexts(allAlone(o.Addresses)), serviceTexts(o.Services)))
	}
	for _, tunnel := range slices.Sorted(maps.Keys(v.intent.tunnels)) {
		t := v.intent.tunnels[tunnel]
		if t.Unsupported != "" {
			continue
		}
		d := v.intent.base.Devices[t.Spec.Device].Spec
		source, from := "any address", v.uplinkOf(d.LocalIP)
		if t.Port.From.IsValid() {
			source = single(t.Port.From)
		}
		put(name(firewall.Place{Zone: from}), LocalInterface, v.matrixFlow(document.KindTunnel, tunnel, tunnel, []string{source}, []string{single(d.LocalIP)}, []string{fmt.Sprintf("udp/%d", d.Port)}))
		if p := t.Probe; p != nil && p.Remote.IsValid() {
			echo := []string{map[bool]string{true: "icmp", false: "icmpv6"}[p.Remote.Is4()]}
			if p.Local.IsValid() {
				put(name(firewall.Place{Device: t.Spec.Device}), LocalInterface, v.matrixFlow(document.KindTunnel, tunnel, tunnel, []string{single(p.Remote)}, []string{single(p.Local)}, echo))
			}
			put(LocalInterface, name(firewall.Place{Device: t.Spec.Device}), v.matrixFlow(document.KindTunnel, tunnel, tunnel, []string{"this box"}, []string{single(p.Remote)}, echo))
		}
	}
}

// uplinkOf is the zone by which packets to an own address arrive.
func (v *view) uplinkOf(local netip.Addr) string {
	for _, i := range v.intent.base.Interfaces {
		if holds(v.connected[i.Name], local) >= 0 {
			return i.Zone
		}
	}
	return v.zoneOf(v.uplink(local))
}

func (v *view) matrixFlow(kind document.Kind, name, tunnel string, sources, destinations, services []string) MatrixFlow {
	f := MatrixFlow{Document: v.reference(kind, name), Tunnel: tunnel, Sources: sources, Destinations: destinations, Services: services}
	if flow := v.set.Flow(name); kind == document.KindFlow && flow != nil && flow.Waiver != nil {
		f.Waiver = flow.Waiver.Expires
	}
	return f
}

// places are the zones of interfaces, then those behind tunnel devices, then the box.
func (v *view) places() []MatrixPlace {
	byZone := map[string]int{}
	var all []MatrixPlace
	for _, i := range v.intent.base.Interfaces {
		if at, known := byZone[i.Zone]; known {
			all[at].Interfaces = append(all[at].Interfaces, i.Name)
			continue
		}
		byZone[i.Zone] = len(all)
		all = append(all, v.matrixPlace(i.Zone, i.Name))
	}
	same := map[string]int{} // devices of each far zone, and of each far zone and environment
	for _, d := range v.intent.base.Devices {
		same[d.Spec.FarZone]++
		same[d.Spec.FarZone+" "+d.Spec.Environment]++
	}
	for _, link := range slices.Sorted(maps.Keys(v.intent.base.Devices)) {
		d := v.intent.base.Devices[link].Spec
		p := v.matrixPlace(d.FarZone, link)
		switch _, touched := byZone[p.Zone]; {
		case d.Tunnel != "":
			p.Name = fmt.Sprintf("%s (%s)", p.Zone, d.Tunnel)
		case same[d.FarZone+" "+d.Environment] > 1:
			p.Name = fmt.Sprintf("%s (%s, %s)", p.Zone, d.Environment, d.LocalPeer) // which is what makes a device
		case touched || same[p.Zone] > 1:
			p.Name = fmt.Sprintf("%s (%s)", p.Zone, d.Environment)
		}
		p.Device, p.Tunnels = true, v.tunnelsOf(link)
		all = append(all, p)
	}
	contours := []string{"external", "integration", "internal"}
	slices.SortStableFunc(all, func(a, b MatrixPlace) int {
		return cmp.Or(cmp.Compare(slices.Index(contours, a.Contour), slices.Index(contours, b.Contour)), strings.Compare(a.Name, b.Name))
	})
	box := MatrixPlace{Name: LocalInterface, Prefixes: []string{}, Interfaces: []string{}}
	for _, link := range slices.Sorted(maps.Keys(v.intent.base.Devices)) {
		if a := v.intent.base.Devices[link].Spec.LocalIP.String(); !slices.Contains(box.Addresses, a) {
			box.Addresses = append(box.Addresses, a)
		}
	}
	return append(all, box)
}

func (v *view) matrixPlace(zone, link string) MatrixPlace {
	p := MatrixPlace{Name: zone, Zone: zone, Prefixes: []string{}, Interfaces: []string{link}}
	if z := v.set.Zone(zone); z != nil {
		p.Contour, p.Kind, p.Prefixes = z.Contour, z.Kind, append(p.Prefixes, z.Prefixes...)
	}
	for d := range v.set.Of(document.KindGateway) {
		if g := v.set.Gateway(d.Name); g.Zone == zone {
			p.Hosts = append(p.Hosts, MatrixHost{Kind: d.Kind, Name: d.Name, Sort: g.Kind, Prefixes: slices.Clone(g.Prefixes)})
		}
	}
	for d := range v.set.Of(document.KindSystem) {
		if s := v.set.System(d.Name); s.Zone == zone {
			p.Hosts = append(p.Hosts, MatrixHost{Kind: d.Kind, Name: d.Name, Organisation: s.Organisation, Class: s.Class, Prefixes: slices.Clone(s.Prefixes)})
		}
	}
	return p
}

func (v *view) tunnelsOf(device string) []MatrixTunnel {
	var list []MatrixTunnel
	for _, name := range slices.Sorted(maps.Keys(v.intent.tunnels)) {
		t := v.intent.tunnels[name]
		if t.Spec.Device != device {
			continue
		}
		made := MatrixTunnel{Name: name, Prefixes: prefixTexts(t.Spec.AllowedIPs)}
		if d := v.set.Tunnel(name); d != nil {
			if made.Peer = d.Initiator.Peer; slices.Contains(v.set.SitesOf(made.Peer), v.site) {
				made.Peer = d.Owner.Peer
			}
		}
		list = append(list, made)
	}
	return list
}

func prefixTexts(list []netip.Prefix) []string {
	words := make([]string, len(list))
	for i, p := range list {
		words[i] = p.String()
	}
	return words
}

func serviceTexts(list []firewall.Service) []string {
	words := make([]string, len(list))
	for i, s := range list {
		words[i] = s.String()
	}
	return words
}
