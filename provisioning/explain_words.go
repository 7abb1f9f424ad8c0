package provisioning

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"shekara/firewall"
	"shekara/provisioning/document"
	"shekara/provisioning/validate"
)

// QuestionError is a question that is no packet, or is about what this box does not have.
type QuestionError struct{ err error }

func (e *QuestionError) Error() string { return e.err.Error() }
func (e *QuestionError) Unwrap() error { return e.err }

func mistaken(hint, format string, args ...any) error {
	return &QuestionError{hinted(fmt.Errorf(format, args...), hint)}
}

// reasons say in words why a packet is dropped.
var reasons = map[string]string{
	firewall.Spoofed:            "its source cannot come from there",
	firewall.Invalid:            "it belongs to no connection and opens none",
	firewall.NoFlow:             "no flow lets it pass",
	firewall.NoMessage:          "it is too short to be a WireGuard message",
	firewall.NoPeer:             "no registered peer has its source",
	firewall.WrongSource:        "an encrypted packet leaves from its tunnel's own address or not at all",
	firewall.Loop:               "an encrypted packet may not go into a tunnel",
	firewall.Unhidden:           "its source is to be hidden, and nothing else leaves by that tunnel",
	firewall.TooManyNew:         "its tunnel opens more connections in a second than its limit lets it",
	firewall.TooManyConnections: "its tunnel has as many connections open as its limit lets it",
	firewall.Bandwidth:          "its tunnel sends more than its limit lets it",
	firewall.Martian:            "the kernel takes no such source from outside",
	notAllowedSource:            "the tunnel's far end may not send from that source",
	noAllowedPeer:               "no tunnel of that device leads to the destination",
}

// say puts verdict and advice into words.
func (v *view) say(x *Explanation, p, inside firewall.Packet, opening firewall.Explanation) {
	source, destination := x.Packet.Source, x.Packet.Destination
	if !x.Packet.Reply {
		source, destination = onThisSide(source, inside.Source), onThisSide(destination, inside.Destination)
	}
	what := fmt.Sprintf("%s from %s, %s, to %s, %s,", x.Packet.Service, source, x.Packet.From, destination, x.Packet.To)
	if x.Packet.Reply {
		what = "the reply to " + what
	}
	switch {
	case x.Packet.Reply && !opening.Pass:
		x.Summary = fmt.Sprintf("%s has nothing to answer: the opening is dropped, %s", what, reasons[opening.Reason])
	case x.Packet.Reply && x.Pass:
		x.Summary = what + " passes, as the opening did" + v.by(x) + translated(x.Verdict)
	case x.Pass:
		x.Summary = what + " passes" + v.by(x) + translated(x.Verdict)
	default:
		x.Summary = fmt.Sprintf("%s is dropped at %s (%s): %s", what, x.Verdict.Hook, x.Verdict.Reason, reasons[x.Verdict.Reason])
	}
	if !x.Pass {
		v.advise(x, p, inside)
	}
}

func (v *view) by(x *Explanation) string {
	var names []string
	for _, d := range x.Documents {
		names = append(names, fmt.Sprintf("%s %s", d.Kind, d.Name))
	}
	switch {
	case len(names) == 1:
		return ": " + names[0] + " lets it"
	case len(names) > 0:
		return ": " + strings.Join(names, ", ") + " let it"
	case x.Verdict.BuiltIn != "":
		return ": a built-in rule lets it (" + x.Verdict.BuiltIn + ")"
	case x.Verdict.Hook == "output":
		return ": this box may speak to its zones freely"
	}
	return ""
}

// advise says what to do for the packet to pass.
func (v *view) advise(x *Explanation, p, inside firewall.Packet) {
	add := func(format string, args ...any) { x.Advice = append(x.Advice, fmt.Sprintf(format, args...)) }
	from, to := x.Packet.From, x.Packet.To
	switch x.Verdict.Reason {
	case firewall.Spoofed:
		v.adviseSpoofed(x, p, add)
	case firewall.Martian:
		add("%s is this box's own address, or one that no host has: whoever sends it from outside lies, or a link loops", p.Source)
	case firewall.Invalid:
		add("a connection begins with its opening (for TCP a SYN): explain that one; if connections break in the middle, look for an asymmetric route")
	case firewall.NoMessage:
		add("only WireGuard speaks to this port, and its shortest message has 32 bytes")
	case firewall.NoPeer:
		v.adviseNoPeer(p, add)
	case firewall.WrongSource:
		add("the outer table of the device routes from its own address: shekara status shows what differs on the host")
	case firewall.Unhidden:
		add("%s is none of the addresses behind this end of the tunnel: add it to prefixes, and hide it", p.Source)
	case firewall.Loop:
		add("the far peer's publicIP lies within a tunnel's prefixes: make the prefixes narrower")
	case notAllowedSource:
		if name, _ := v.tunnelOf(p.Source, ""); name != "" {
			add("%s is behind tunnel %s: it can only come through that one", p.Source, name)
		} else {
			add("no tunnel's far end has %s: add it to the prefixes of the far end in the Tunnel document", p.Source)
		}
	case noAllowedPeer:
		add("add %s to the prefixes of the far end in the Tunnel document that it belongs to", p.Destination)
	case firewall.NoFlow:
		if to.Interface == LocalInterface {
			v.adviseToBox(p, from, add)
			return
		}
		for _, near := range v.nearest(inside, from, to) {
			add("%s", near)
		}
		v.suggest(x, p, inside, add)
	}
}

// adviseToBox is for what would open something on this box itself.
func (v *view) adviseToBox(p firewall.Packet, from ExplainedEnd, add func(string, ...any)) {
	add("no Flow leads to this box itself: only management, probes, the tunnels' peers and who is given the time reach it")
	if t := v.intent.base.Time; t != nil && slices.Contains(t.Addresses, p.Destination) && p.Protocol == firewall.UDP && p.DestinationPort == 123 {
		add("if it is to be given the time: register a System with %s, in a zone that TimeService %s serves", single(p.Source), t.Name)
	}
	if m := v.intent.base.Management; from.Zone == m.Zone && m.Zone != "" {
		add("if it is to manage this box: add %s to management.allow and %s to management.from of Site %s", serviceText(p), single(p.Source), v.site)
	}
}

func (v *view) adviseSpoofed(x *Explanation, p firewall.Packet, add func(string, ...any)) {
	zone := v.zoneOfAddress(p.Source)
	switch tunnel, _ := v.tunnelOf(p.Source, ""); {
	case slices.Contains(v.local, p.Source):
		add("%s is this box's own address: whoever sends it from outside lies, or a link loops", p.Source)
	case tunnel != "":
		add("%s is behind tunnel %s: it must come through that tunnel, not by %s", p.Source, tunnel, x.Packet.From.Interface)
	case zone != "" && zone != x.Packet.From.Zone:
		add("%s belongs to zone %s, and %s is in zone %s: send it by an interface or tunnel of its own zone, or move the prefix to zone %s", p.Source, zone, x.Packet.From.Interface, x.Packet.From.Zone, x.Packet.From.Zone)
	default:
		add("if %s truly is behind %s, add its prefix to zone %s", p.Source, x.Packet.From.Interface, x.Packet.From.Zone)
	}
}

func (v *view) adviseNoPeer(p firewall.Packet, add func(string, ...any)) {
	for d := range v.set.Of(document.KindPeer) {
		if peer := v.set.Peer(d.Name); peer.PublicIP == p.Source.String() {
			add("Peer %s has this address, but no active tunnel of the device at %s port %d goes to it: write the Tunnel, or activate it", d.Name, p.Destination, p.DestinationPort)
			return
		}
	}
	add("write a Peer with publicIP %s and a Tunnel to it; if the far device is behind NAT, write behindNAT in its Peer", p.Source)
}

// nearest are flows that one change would make fit, at most three.
func (v *view) nearest(p firewall.Packet, from, to ExplainedEnd) []string {
	var found []string
	for _, f := range v.allFlows() {
		var misses []string
		if f.Tunnel != "" && f.Tunnel != from.Tunnel && f.Tunnel != to.Tunnel {
			continue
		}
		if !v.at(f.From, from, p.Source) || !v.at(f.To, to, p.Destination) {
			misses = append(misses, fmt.Sprintf("goes from %s to %s, not the way of this packet", placeText(f.From), placeText(f.To)))
		}
		if holds(f.Sources, p.Source) < 0 {
			misses = append(misses, fmt.Sprintf("is from %s, not from %s", orNone(prefixTexts(f.Sources)), p.Source))
		}
		if holds(f.Destinations, p.Destination) < 0 {
			misses = append(misses, fmt.Sprintf("is to %s, not to %s", orNone(prefixTexts(f.Destinations)), p.Destination))
		}
		if !serves(f.Services, p) {
			misses = append(misses, fmt.Sprintf("allows %s, not %s", orNone(serviceTexts(f.Services)), serviceText(p)))
		}
		if len(misses) == 1 {
			found = append(found, fmt.Sprintf("Flow %s %s", f.Name, misses[0]))
		}
		if len(found) == 3 {
			break
		}
	}
	return found
}

// at says whether a place is where a packet enters or leaves. What this box sends is from the zone of its address.
func (v *view) at(place firewall.Place, end ExplainedEnd, a netip.Addr) bool {
	switch {
	case place.Device != "":
		return place.Device == end.Interface
	case end.Interface == LocalInterface:
		return v.zoneOfAddress(a) == place.Zone
	}
	return place.Zone == end.Zone && v.intent.base.Devices[end.Interface].Spec.Name == ""
}

func serves(list []firewall.Service, p firewall.Packet) bool {
	return slices.ContainsFunc(list, func(s firewall.Service) bool {
		return s.Protocol == p.Protocol && (s.LastPort == 0 || s.FirstPort <= p.DestinationPort && p.DestinationPort <= s.LastPort)
	})
}

func placeText(p firewall.Place) string {
	if p.Device != "" {
		return "device " + p.Device
	}
	return "zone " + p.Zone
}

// suggest gives the narrowest Flow document that would let the packet pass, if the documents' own rules admit it.
func (v *view) suggest(x *Explanation, p, inside firewall.Packet, add func(string, ...any)) {
	from, to := x.Packet.From, x.Packet.To
	flow := &document.Flow{From: []string{single(p.Source)}, To: []string{single(v.written(inside.Destination, to))}, Allow: []string{serviceText(p)}}
	switch {
	case from.Tunnel != "" && to.Tunnel != "":
		add("no document lets traffic pass from tunnel %s into tunnel %s: a Flow goes through one tunnel", from.Tunnel, to.Tunnel)
		return
	case from.Tunnel != "":
		flow.Tunnel = from.Tunnel
	case to.Tunnel != "":
		flow.Tunnel = to.Tunnel
	default:
		flow.FromZone, flow.ToZone = v.zoneAt(from, p.Source), to.Zone
	}
	if flow.Tunnel == "" && (flow.FromZone == "" || flow.ToZone == "") {
		add("no zone holds an end of it: write the prefix into a Zone first")
		return
	}
	name := v.freeName("from-" + p.Source.String() + "-" + serviceText(p))
	doc, err := document.New(name, flow)
	if err != nil {
		add("no Flow can be written for it: %v", err)
		return
	}
	next, changes := v.set.Merge([]*document.Document{doc})
	if problems := validate.Check(next, validate.Options{Site: v.site, Scope: next.Affected(changes)}); len(problems) > 0 {
		add("a Flow for it would be refused: %s %s: %s", problems[0].What, problems[0].Value, problems[0].Hint)
		return
	}
	// A new document may be valid and yet not lead here: the place of an address is the rules' to say.
	if after, err := viewOf(next, v.site); err != nil || !after.lets(p, v.local) {
		add("a Flow alone would not let it pass: its addresses are not where their zones are")
		return
	}
	add("apply this Flow, or make one that is near wider")
	x.Suggestion = doc.Canonical()
}

// lets says whether the rules let the packet pass.
func (v *view) lets(p firewall.Packet, local []netip.Addr) bool {
	rules, err := firewall.NewExplainer(v.ruleset, local)
	if err != nil {
		return false
	}
	x, err := rules.Explain(p)
	return err == nil && x.Pass
}

func (v *view) zoneAt(end ExplainedEnd, a netip.Addr) string {
	if end.Interface == LocalInterface {
		return v.zoneOfAddress(a)
	}
	return end.Zone
}

func single(a netip.Addr) string { return netip.PrefixFrom(a, a.BitLen()).String() }

// freeName makes a document's name of words: letters, digits and dashes, at most 63, and not taken.
func (v *view) freeName(text string) string {
	words := strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') })
	name := strings.Join(words, "-")
	name = strings.Trim(name[:min(len(name), 60)], "-")
	for n := 1; ; n++ {
		tried := name
		if n > 1 {
			tried = fmt.Sprintf("%s-%d", name, n)
		}
		if v.set.Flow(tried) == nil {
			return tried
		}
	}
}
