package provisioning

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"shekara/firewall"
	"shekara/provisioning/document"
	"shekara/provisioning/validate"
)

// Reasons that the tunnel or routing has, beside those of the rules.
const (
	notAllowedSource = "not_allowed_source" // WireGuard takes from a peer only sources within its allowed addresses
	noAllowedPeer    = "no_allowed_peer"    // no peer of the device has the destination within its allowed addresses
	hookWireGuard    = "wireguard"
)

// explain follows the packet, and the reply to it if that is asked for.
func (v *view) explain(q Question) (Explanation, error) {
	p, err := q.packet()
	if err != nil {
		return Explanation{}, err
	}
	rules, err := firewall.NewExplainer(v.ruleset, v.local)
	if err != nil {
		return Explanation{}, fmt.Errorf("read the rules: %w", err)
	}
	x := Explanation{Site: v.site, Revision: v.revision, Documents: []ExplainedDocument{}, Notes: slices.Clone(v.notes)}
	x.Packet = ExplainedPacket{Source: p.Source.String(), Destination: p.Destination.String(), Service: serviceText(p)}
	if x.Packet.From, err = v.arrives(q, p.Source, &x); err != nil {
		return Explanation{}, err
	}
	// A packet that comes through a translating tunnel has the far side's addresses, whichever the question has.
	inside := v.outside(&p, x.Packet.From.Interface)
	x.Packet.Source, x.Packet.Destination = p.Source.String(), p.Destination.String()
	if x.Packet.To, err = v.leaves(q, inside.Destination, &x); err != nil {
		return Explanation{}, err
	}
	p.From, p.To = x.Packet.From.link(), x.Packet.To.link()
	if p.From == "" && p.To == "" {
		p.From, p.To = "lo", ""
	}
	p = v.sealed(p, &x)
	opening, err := v.judge(rules, p, x.Packet)
	if err != nil {
		return Explanation{}, err
	}
	x.Verdict = opening
	if q.Reply {
		if err := v.reply(rules, p, opening, &x); err != nil {
			return Explanation{}, err
		}
	}
	x.Pass = x.Verdict.Pass
	v.through(&x)
	if opening.Pass {
		x.Documents = v.documents(inside, opening, x.Packet)
		v.waivers(&x)
	}
	v.say(&x, p, inside, opening)
	return x, nil
}

// judge is the tunnels' own word, then that of the rules.
func (v *view) judge(rules *firewall.Explainer, p firewall.Packet, way ExplainedPacket) (firewall.Explanation, error) {
	if _, device := v.intent.base.Devices[way.From.Interface]; device && holds(v.intent.tunnels[way.From.Tunnel].Spec.AllowedIPs, p.Source) < 0 {
		return firewall.Explanation{Hook: hookWireGuard, Reason: notAllowedSource, Trace: []firewall.Hit{}}, nil
	}
	x, err := rules.Explain(p)
	if err != nil || !x.Pass {
		return x, err
	}
	if _, device := v.intent.base.Devices[way.To.Interface]; device && way.To.Tunnel == "" {
		x.Pass, x.Hook, x.Reason, x.Chain, x.Rule, x.BuiltIn, x.Set, x.Element = false, hookWireGuard, noAllowedPeer, "", "", "", "", ""
	}
	return x, nil
}

// reply puts the first reply in the place of the opening.
func (v *view) reply(rules *firewall.Explainer, p firewall.Packet, opening firewall.Explanation, x *Explanation) error {
	way := x.Packet
	x.Packet.Source, x.Packet.Destination, x.Packet.From, x.Packet.To, x.Packet.Reply = way.Destination, way.Source, way.To, way.From, true
	if !opening.Pass {
		return nil
	}
	reply := p.Reply(opening.Connection)
	x.Packet.Source, x.Packet.Destination = reply.Source.String(), reply.Destination.String()
	var err error
	x.Verdict, err = rules.Explain(reply)
	return err
}

// arrives is where a packet with this source comes in, or where the question says.
func (v *view) arrives(q Question, source netip.Addr, x *Explanation) (ExplainedEnd, error) {
	switch {
	case q.FromTunnel != "":
		t, here := v.intent.tunnels[q.FromTunnel]
		if !here || t.Unsupported != "" {
			return ExplainedEnd{}, mistaken("tunnels that do: "+orNone(slices.Sorted(maps.Keys(v.intent.tunnels))), "tunnel %q does not end here", q.FromTunnel)
		}
		return ExplainedEnd{Interface: t.Spec.Device, Zone: v.zoneOf(t.Spec.Device), Tunnel: q.FromTunnel}, nil
	case q.FromInterface != "":
		return v.named(q.FromInterface, source)
	}
	if behind := v.behind(source); len(behind) > 1 || len(behind) == 1 && v.mapped(behind[0]) {
		if len(behind) > 1 {
			return ExplainedEnd{}, mistaken("name the tunnel with --from-tunnel, or the address by which it is known here", "%s is behind tunnels %s", source, strings.Join(behind, ", "))
		}
		device := v.intent.tunnels[behind[0]].Spec.Device
		return ExplainedEnd{Interface: device, Zone: v.zoneOf(device), Tunnel: behind[0]}, nil
	}
	return v.end(source, x, "comes from")
}

func (v *view) leaves(q Question, destination netip.Addr, x *Explanation) (ExplainedEnd, error) {
	if q.ToInterface != "" {
		return v.named(q.ToInterface, destination)
	}
	return v.end(destination, x, "goes to")
}

// named is the end that the caller names.
func (v *view) named(link string, a netip.Addr) (ExplainedEnd, error) {
	if link == LocalInterface {
		return ExplainedEnd{Interface: LocalInterface}, nil
	}
	zone := v.zoneOf(link)
	if zone == "" {
		return ExplainedEnd{}, mistaken("those of this box: "+orNone(append(v.links(), LocalInterface)), "interface %q is in no zone and no tunnel device", link)
	}
	end := ExplainedEnd{Interface: link, Zone: zone}
	end.Tunnel, _ = v.tunnelOf(a, link)
	return end, nil
}

// end is where an address is, as routing has it: this box, a tunnel, a network on an interface, a zone, else the way to the internet.
func (v *view) end(a netip.Addr, x *Explanation, verb string) (ExplainedEnd, error) {
	if slices.Contains(v.local, a) || a.IsLoopback() {
		return ExplainedEnd{Interface: LocalInterface}, nil
	}
	if tunnel, device := v.tunnelOf(a, ""); tunnel != "" {
		return ExplainedEnd{Interface: device, Zone: v.zoneOf(device), Tunnel: tunnel}, nil
	}
	best, length := "", -1
	for _, i := range v.intent.base.Interfaces {
		if n := holds(v.connected[i.Name], a); n > length {
			best, length = i.Name, n
		}
	}
	if best == "" {
		zone := v.zoneOfAddress(a)
		var guesses []string
		for _, i := range v.intent.base.Interfaces {
			if i.Zone == zone {
				guesses = append(guesses, i.Name)
			}
		}
		switch {
		case len(guesses) == 0:
			best = v.uplink(a)
		default:
			if best = guesses[0]; len(guesses) > 1 {
				best = cmp.Or(v.among(guesses, a), best)
				x.Notes = append(x.Notes, fmt.Sprintf("zone %s is on %s: taken is that %s %s %s", zone, strings.Join(guesses, ", "), a, verb, best))
			}
		}
	}
	if best == "" {
		return ExplainedEnd{}, mistaken("name the interface with --from-interface or --to-interface", "there is no way to %s: no tunnel, zone or uplink holds it", a)
	}
	return ExplainedEnd{Interface: best, Zone: v.zoneOf(best)}, nil
}

// uplink is the interface with a gateway for the address's family, else that of the zone without prefixes.
func (v *view) uplink(a netip.Addr) string {
	var names []string
	for _, i := range v.intent.base.Interfaces {
		names = append(names, i.Name)
	}
	if name := v.among(names, a); name != "" {
		return name
	}
	for _, i := range v.intent.base.Interfaces {
		for _, z := range v.intent.base.Zones {
			if z.Name == i.Zone && len(z.Prefixes) == 0 {
				return i.Name
			}
		}
	}
	return ""
}

// among is the interface of these that has a gateway for the address's family.
func (v *view) among(names []string, a netip.Addr) string {
	site := v.set.Site(v.site)
	if site == nil {
		return ""
	}
	for _, i := range site.Interfaces {
		for _, gateway := range i.Gateways {
			if g, err := document.ParseAddress(gateway); err == nil && g.Is4() == a.Is4() && slices.Contains(names, i.Name) {
				return i.Name
			}
		}
	}
	return ""
}

// zoneOf is the zone of an interface, or that behind a device.
func (v *view) zoneOf(link string) string {
	if d, ok := v.intent.base.Devices[link]; ok {
		return d.Filter.FarZone
	}
	for _, i := range v.intent.base.Interfaces {
		if i.Name == link {
			return i.Zone
		}
	}
	return ""
}

func (v *view) links() []string {
	names := slices.Sorted(maps.Keys(v.intent.base.Devices))
	for _, i := range v.intent.base.Interfaces {
		names = append(names, i.Name)
	}
	return names
}

// zoneOfAddress is the zone with the longest prefix that holds it, else the only one without prefixes.
func (v *view) zoneOfAddress(a netip.Addr) string {
	best, length := "", -1
	var open []string
	for _, z := range v.intent.base.Zones {
		if n := holds(z.Prefixes, a); n > length {
			best, length = z.Name, n
		}
		if len(z.Prefixes) == 0 {
			open = append(open, z.Name)
		}
	}
	if best == "" && len(open) == 1 {
		return open[0]
	}
	return best
}

// tunnelOf is the tunnel, of one device or of any, whose far end has the address.
func (v *view) tunnelOf(a netip.Addr, device string) (name, link string) {
	if v.index != nil && device == "" {
		name = v.index.find(a)
		return name, v.intent.tunnels[name].Spec.Device
	}
	length := -1
	for n, t := range v.intent.tunnels {
		if device != "" && t.Spec.Device != device {
			continue
		}
		l := holds(t.Known, a)
		if device != "" {
			l = max(l, holds(t.Spec.AllowedIPs, a))
		}
		if l > length || l == length && l >= 0 && n < name {
			name, link, length = n, t.Spec.Device, l
		}
	}
	return name, link
}

// holds is the length of the longest prefix that contains the address, -1: none does.
func holds(prefixes []netip.Prefix, a netip.Addr) int {
	length := -1
	for _, p := range prefixes {
		if p.Contains(a) {
			length = max(length, p.Bits())
		}
	}
	return length
}

// sealed gives a packet from this box to a far peer's port the mark that WireGuard gives it.
func (v *view) sealed(p firewall.Packet, x *Explanation) firewall.Packet {
	if p.From != "" || p.Protocol != firewall.UDP {
		return p
	}
	for _, name := range slices.Sorted(maps.Keys(v.intent.tunnels)) {
		t := v.intent.tunnels[name]
		if t.Unsupported == "" && t.ExpectIP == p.Destination && t.EndpointPort == p.DestinationPort {
			d := v.intent.base.Devices[t.Spec.Device].Spec
			p.Mark, p.SourcePort = d.Mark, d.Port
			x.Notes = append(x.Notes, fmt.Sprintf("taken as an encrypted packet of tunnel %s: it bears the mark 0x%08x of %s", name, d.Mark, d.Name))
			return p
		}
	}
	return p
}

// through notes what the devices on the way do to a packet, and how their tunnels are.
func (v *view) through(x *Explanation) {
	for _, end := range []ExplainedEnd{x.Packet.From, x.Packet.To} {
		if d, ok := v.intent.base.Devices[end.Interface]; ok && (x.MTU == 0 || d.Spec.MTU < x.MTU) {
			x.MTU = d.Spec.MTU
		}
		if l := v.intent.tunnels[end.Tunnel].Limit; l != nil && slices.Contains(x.Verdict.Limited, end.Tunnel) {
			x.Notes = append(x.Notes, fmt.Sprintf("tunnel %s is limited to %s: what is more is dropped, whichever packet it is", end.Tunnel, l))
		}
		if state := v.states[end.Tunnel]; end.Tunnel != "" && state != "" && state != "passing" && state != "idle" {
			x.Notes = append(x.Notes, fmt.Sprintf("tunnel %s is %s: whatever the rules say, see shekara tunnel show %s", end.Tunnel, state, end.Tunnel))
		}
	}
}

// documents are those that let the opening pass.
func (v *view) documents(p firewall.Packet, x firewall.Explanation, way ExplainedPacket) []ExplainedDocument {
	found := []ExplainedDocument{}
	add := func(kind document.Kind, name string) { found = append(found, v.reference(kind, name)) }
	switch {
	case strings.HasPrefix(x.BuiltIn, "management") || x.BuiltIn == "resolvers":
		add(document.KindSite, v.site)
	case x.BuiltIn == "probe" || x.BuiltIn == "tunnel ports" || x.BuiltIn == "outer packets":
		for _, name := range slices.Sorted(maps.Keys(v.intent.tunnels)) {
			if h := holdingOf(v.intent.tunnels[name]); v.has(h, x) || x.BuiltIn == "outer packets" && v.intent.tunnels[name].ExpectIP == p.Destination {
				add(document.KindTunnel, name)
			}
		}
	case x.BuiltIn == "" && x.Element != "":
		for _, f := range v.flowsAt(p.Source, p.Destination) {
			if v.has(holding{flows: []firewall.Flow{f}}, x) {
				add(document.KindFlow, f.Name)
			}
		}
	case x.BuiltIn == firewall.OwnService:
		for _, o := range v.intent.base.Offers {
			if v.has(holding{offers: []firewall.Offer{o}}, x) {
				add(document.KindTimeService, o.Name)
				break
			}
		}
	}
	return found
}

// waivers notes which of the documents pass only by one.
func (v *view) waivers(x *Explanation) {
	waived := validate.Waived(v.set, validate.Options{Site: v.site})
	for _, d := range x.Documents {
		for _, sentence := range waived {
			if d.Kind == document.KindFlow && strings.HasPrefix(sentence, "flow "+d.Name+" ") {
				x.Notes = append(x.Notes, sentence)
			}
		}
	}
}

func (v *view) reference(kind document.Kind, name string) ExplainedDocument {
	d := ExplainedDocument{Kind: kind, Name: name}
	if doc := v.set.Get(document.Ref{Kind: kind, Name: name}); doc != nil && doc.File != "" && v.revision == 0 {
		position := doc.Position("metadata.name")
		d.File = fmt.Sprintf("%s:%d", position.File, position.Line)
	}
	return d
}

// has says whether the element that let a packet pass is one of the holding's.
func (v *view) has(h holding, x firewall.Explanation) bool {
	elements, err := v.base.Elements(h.policy())
	return err == nil && slices.Contains(elements[x.Set], x.Element)
}

// flowsAt are the flows for these addresses, by name.
func (v *view) flowsAt(source, destination netip.Addr) []firewall.Flow {
	return slices.DeleteFunc(v.allFlows(), func(f firewall.Flow) bool {
		return holds(f.Sources, source) < 0 || holds(f.Destinations, destination) < 0
	})
}

func (v *view) allFlows() []firewall.Flow {
	var all []firewall.Flow
	for _, t := range v.intent.tunnels {
		all = append(all, t.Flows...)
	}
	for _, f := range v.intent.flows {
		all = append(all, f.Flow)
	}
	slices.SortFunc(all, func(a, b firewall.Flow) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

func serviceText(p firewall.Packet) string {
	s := firewall.Service{Protocol: p.Protocol, FirstPort: p.DestinationPort, LastPort: p.DestinationPort}
	return s.String()
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	const shown = 12
	if len(list) > shown {
		return strings.Join(list[:shown], ", ") + fmt.Sprintf(" and %d more", len(list)-shown)
	}
	return strings.Join(list, ", ")
}
