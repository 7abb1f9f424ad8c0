package proof

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"shekara/firewall"
)

// Packet is a concrete packet that shows a violation.
type Packet struct {
	In              string            `json:"in,omitempty"`  // interface by which it arrives; "": this box sends it
	Out             string            `json:"out,omitempty"` // by which it leaves; "": it is for this box
	Source          netip.Addr        `json:"source"`
	Destination     netip.Addr        `json:"destination"`
	Protocol        firewall.Protocol `json:"protocol"`
	SourcePort      uint16            `json:"sourcePort,omitempty"` // first two bytes of the header, where they are ports
	DestinationPort uint16            `json:"destinationPort,omitempty"`
	ICMPType        uint8             `json:"icmpType,omitempty"`
	ICMPCode        uint8             `json:"icmpCode,omitempty"`
	UDPLength       uint16            `json:"udpLength,omitempty"` // of a UDP header
	HopLimit        uint8             `json:"hopLimit"`
	Flags           uint8             `json:"flags,omitempty"` // of TCP
	Mark            uint32            `json:"mark,omitempty"`  // of the packet, before any rule
	Class           string            `json:"class"`           // what conntrack says of it
	ConnectionMark  uint32            `json:"connectionMark,omitempty"`
	Opened          *Connection       `json:"opened,omitempty"`        // the connection that it belongs to, where it is not what it says itself
	Becomes         *Connection       `json:"becomes,omitempty"`       // with what addresses it leaves, or comes to this box, where they are others
	ConntrackZone   uint16            `json:"conntrackZone,omitempty"` // of its connection
	Headerless      bool              `json:"headerless,omitempty"`
}

// Connection is what a connection was opened as, or what a packet's addresses become.
type Connection struct {
	Source      netip.Addr `json:"source"`
	Destination netip.Addr `json:"destination"`
}

// String is one line: "in sk-a out dmz0 10.64.1.1 > 10.20.0.10 tcp 40000>443".
func (p Packet) String() string {
	var b strings.Builder
	if p.In != "" {
		b.WriteString("in " + p.In + " ")
	}
	if p.Out != "" {
		b.WriteString("out " + p.Out + " ")
	}
	fmt.Fprintf(&b, "%s > %s ", p.Source, p.Destination)
	name := firewall.Service{Protocol: p.Protocol}.String()
	switch p.Protocol {
	case firewall.ICMP, firewall.ICMPv6:
		fmt.Fprintf(&b, "%s type %d code %d", name, p.ICMPType, p.ICMPCode)
	case firewall.TCP, firewall.UDP, firewall.SCTP:
		fmt.Fprintf(&b, "%s %d>%d", name, p.SourcePort, p.DestinationPort)
	default:
		fmt.Fprintf(&b, "protocol %d", p.Protocol)
		if p.SourcePort != 0 || p.DestinationPort != 0 {
			fmt.Fprintf(&b, " %d>%d", p.SourcePort, p.DestinationPort)
		}
	}
	if p.Class != classNew {
		b.WriteString(", " + p.Class)
	}
	if p.Opened != nil {
		fmt.Fprintf(&b, ", of a connection %s > %s", p.Opened.Source, p.Opened.Destination)
	}
	if p.Becomes != nil {
		fmt.Fprintf(&b, ", becomes %s > %s", p.Becomes.Source, p.Becomes.Destination)
	}
	if p.ConnectionMark != 0 {
		fmt.Fprintf(&b, ", connection mark 0x%08x", p.ConnectionMark)
	}
	if p.Mark != 0 {
		fmt.Fprintf(&b, ", mark 0x%08x", p.Mark)
	}
	if p.Headerless {
		b.WriteString(", without a whole header")
	}
	return b.String()
}

// Loaded is a rule as the kernel holds it. Neither handle nor number: the policy of a base chain.
type Loaded struct {
	Table  string `json:"table"` // family and name
	Chain  string `json:"chain"`
	Handle int    `json:"handle"`           // of nftables, also beneath iptables-nft
	Number int    `json:"number,omitempty"` // of a rule of iptables: its place in the chain, from 1
	Text   string `json:"text"`             // near to what nft prints, or as iptables-save does
}

func (l Loaded) String() string {
	if l.Number > 0 {
		return fmt.Sprintf("table %s, chain %s, rule %d: %s", l.Table, l.Chain, l.Number, l.Text)
	}
	return fmt.Sprintf("table %s, chain %s, handle %d: %s", l.Table, l.Chain, l.Handle, l.Text)
}

// Trace is a rule that decided about the witness, or sent it to another chain.
type Trace struct {
	Loaded
	Hook string `json:"hook"`
}

func (v Violation) String() string {
	return fmt.Sprintf("%s: %s (%s)", v.Witness, v.Kind, v.Rule)
}

// violation picks a packet that people recognise out of all that are wrong, and follows it through the events of the run.
func (p *comparison) violation(path string, r *run, kind Kind, wrong formula) Violation {
	a := p.pick(p.plainest(r.view, wrong), p.levels)
	v := Violation{Path: path, Class: r.view.name, Kind: kind, Witness: p.packet(r, a)}
	accepted := -1
	var events []event
	for _, e := range r.events {
		if slices.ContainsFunc(e.where, func(f formula) bool { return !p.holds(f, a) }) {
			continue
		}
		if e.kind == accepts && e.chain.hook != "prerouting" && e.hook == path && !e.passedOn() {
			accepted = len(events)
		}
		events = append(events, e)
		v.Trace = append(v.Trace, Trace{e.loaded(), e.hook})
	}
	decisive := len(events) - 1
	if kind != IsStopped && accepted >= 0 {
		// Behind a rule that chose the packet stand rules that take whatever comes: the choice is what let it through.
		for decisive = accepted; decisive > 0 && !events[decisive].chooses() && events[decisive-1].hook == path; decisive-- {
		}
		if !events[decisive].chooses() {
			decisive = accepted
		}
		decisive = marker(events, decisive, path)
	}
	for i, e := range events { // what chose another address or zone, if anything did
		if kind == Mistranslated && e.does(func(s statement) bool { return s.translation != nil }) || kind == Estranged && e.does(setsZone) {
			decisive = i
		}
	}
	if decisive >= 0 {
		v.Rule = events[decisive].loaded()
	}
	return v
}

// marker is the event that chose a packet, where the decisive one goes by the mark that it was given: rules of iptables have no other way to say
// that one of the chains that they jumped to let it pass.
func marker(events []event, decisive int, path string) int {
	if !events[decisive].does(func(s statement) bool {
		return s.match != nil && len(s.match.key) == 1 && s.match.key[0].field == metaMark
	}) {
		return decisive
	}
	for i := decisive - 1; i >= 0 && events[i].hook == path; i-- {
		marks := events[i].does(func(s statement) bool {
			return s.verdict != nil && s.verdict.target != nil && slices.ContainsFunc(s.verdict.target.rules, func(r *rule) bool { return len(r.statements) == 1 && r.statements[0].assign != nil })
		})
		if marks && events[i].chooses() {
			return i
		}
		if marks {
			break
		}
	}
	return decisive
}

// passedOn says whether a base chain of ours behind the one that judges let a packet go on: it can only take away (limits).
func (e event) passedOn() bool {
	return e.rule == nil && e.chain.priority > 0 && e.chain.family+" "+e.chain.table == firewall.Table
}

// chooses says whether a rule looks at the packet at all.
func (e event) chooses() bool {
	return e.does(func(s statement) bool { return s.match != nil || s.choice != nil })
}

// does says whether a rule has a statement of a kind.
func (e event) does(is func(statement) bool) bool {
	return e.rule != nil && slices.ContainsFunc(e.rule.statements, is)
}

func setsZone(s statement) bool { return s.assign != nil && s.assign.to == ctZone }

func (e event) loaded() Loaded {
	l := Loaded{Table: e.chain.family + " " + e.chain.table, Chain: e.chain.name}
	switch {
	case e.rule != nil:
		l.Handle, l.Number, l.Text = e.rule.handle, e.rule.number, e.rule.text
	case e.kind == accepts:
		l.Text = "policy accept"
	default:
		l.Text = "policy drop"
	}
	return l
}

// plainest narrows a set to packets as one meets them, as far as it holds any.
func (p *comparison) plainest(v *view, f formula) formula {
	is := func(of vector, list ...uint64) (out []formula) {
		for _, n := range list {
			out = append(out, p.equal(of, small(n)))
		}
		return out
	}
	other := small(uint64(len(p.interfaces) - 1))
	echo := []formula{p.and(p.icmp(v.protocol), p.equal(v.head, small(8<<8))), p.and(p.icmp(v.protocol), p.equal(v.head, small(128<<8)))}
	var plain [][]formula
	if p.translates {
		plain = [][]formula{{p.unbound()}, {p.same(p.source, p.toSource)}, {p.same(p.target, p.toTarget)}, {p.equalVectors(p.sourcePort, p.toSourcePort)},
			p.hosts(p.toSource, "203.0.113.9", "2001:db8::9")}
	}
	plain = append(plain, [][]formula{
		{not(p.headerless)}, is(p.packetMark, 0), is(p.connectionMark, 0), {not(p.version6)}, is(v.protocol, 6, 17, icmpNumber, icmp6),
		{not(p.sourceLocal)}, {not(p.targetLocal)}, {not(p.equal(v.input, other))}, {not(p.equal(v.output, other))},
		append(is(v.second, 443), echo...), append(echo, is(v.head, 40000)...), is(v.second, 40000),
		p.hosts(v.target, "198.51.100.7", "2001:db8::7"), p.hosts(v.source, "198.51.100.9", "2001:db8::9"),
		p.hosts(p.target, "198.51.100.7", "2001:db8::7"), p.hosts(p.source, "198.51.100.9", "2001:db8::9"),
		is(p.hops, 64, 255), is(p.flags, 2), is(p.udpLength, 40),
	}...)
	for _, wishes := range plain {
		for _, wish := range wishes {
			if some := p.and(f, wish); some != never {
				f = some
				break
			}
		}
	}
	return f
}

// hosts are wishes for an address: a documentation address (RFC 5737, RFC 3849), else one that is neither a network's nor, as first
// addresses often are, a router's.
func (p *comparison) hosts(address vector, four, six string) []formula {
	odd := p.choose(p.version6, address[127], address[31])
	return []formula{
		p.choose(p.version6, p.equal(address, addressNumber(netip.MustParseAddr(six))), p.equal(address[:32], addressNumber(netip.MustParseAddr(four)))),
		p.and(odd, p.choose(p.version6, always, p.equal(address[28:32], small(9)))), odd,
	}
}

// packet reads the fields of a run's packet.
func (p *comparison) packet(r *run, a assignment) Packet {
	v := r.view
	six := p.holds(p.version6, a)
	address := func(of vector) netip.Addr {
		if six {
			return p.value(of, a).address6()
		}
		return p.value(of[:32], a).address4()
	}
	n := func(of vector) uint64 { return p.value(of, a).low }
	out := Packet{
		In: p.interfaces[n(v.input)], Out: p.interfaces[n(v.output)], Source: address(v.source), Destination: address(v.target),
		Protocol: firewall.Protocol(n(v.protocol)), HopLimit: uint8(n(p.hops)), Mark: uint32(n(p.packetMark)), Class: v.name,
		Headerless: p.holds(v.headerless, a),
	}
	switch {
	case out.Protocol == firewall.ICMP && !six || out.Protocol == firewall.ICMPv6 && six:
		out.ICMPType, out.ICMPCode = uint8(n(v.head[:8])), uint8(n(v.head[8:]))
	default:
		out.SourcePort, out.DestinationPort = uint16(n(v.head)), uint16(n(v.second))
	}
	switch out.Protocol {
	case firewall.TCP:
		out.Flags = uint8(n(p.flags))
	case firewall.UDP:
		out.UDPLength = uint16(n(p.udpLength))
	}
	if v.tracked {
		out.ConnectionMark = uint32(n(p.connectionMark))
	}
	opened := &Connection{address(p.source), address(p.target)}
	if v.state == stateRelated || v.reply && *opened != (Connection{out.Destination, out.Source}) {
		out.Opened = opened
	}
	if became := (&Connection{address(r.now.source), address(r.now.target)}); *became != (Connection{out.Source, out.Destination}) {
		out.Becomes = became
	}
	if p.translates && v.tracked {
		out.ConntrackZone = uint16(n(p.connectionZone))
	}
	return out
}
