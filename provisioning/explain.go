package provisioning

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"shekara/firewall"
	"shekara/netctl"
	"shekara/provisioning/compile"
	"shekara/provisioning/document"
	"shekara/provisioning/validate"
)

// LocalInterface in place of an interface's name is the box itself.
const LocalInterface = "local"

// Question is a packet that opens a connection, or the first reply to one. What it leaves open follows from its addresses, as routing
// would have it.
type Question struct {
	Source        string `json:"source" maxLength:"64" doc:"address that the packet comes from" example:"10.64.1.5"`
	Destination   string `json:"destination" maxLength:"64" doc:"address that it goes to" example:"10.20.0.10"`
	Service       string `json:"service,omitempty" maxLength:"32" doc:"as in a Flow, with one port: tcp/443, udp/53, icmp; empty: an echo request" example:"tcp/443"`
	FromInterface string `json:"fromInterface,omitempty" maxLength:"15" doc:"interface or tunnel device by which it arrives; local: this box sends it"`
	FromTunnel    string `json:"fromTunnel,omitempty" maxLength:"63" doc:"tunnel by which it arrives"`
	ToInterface   string `json:"toInterface,omitempty" maxLength:"15" doc:"interface or tunnel device by which it leaves; local: it is for this box"`
	Reply         bool   `json:"reply,omitempty" doc:"explain the first reply to it instead"`
}

// Explanation is what becomes of a packet, by which rule and by which document, and what to do if it should pass.
type Explanation struct {
	Site       string               `json:"site"`
	Revision   int                  `json:"revision,omitempty"` // in force; 0: of documents that are not
	Pass       bool                 `json:"pass"`
	Summary    string               `json:"summary"` // in one sentence
	Packet     ExplainedPacket      `json:"packet"`
	Verdict    firewall.Explanation `json:"verdict"`              // of the rules; for hook "wireguard" of the tunnel
	Documents  []ExplainedDocument  `json:"documents"`            // that let it pass
	MTU        int                  `json:"mtu,omitempty"`        // of the tunnel device that it goes through: larger packets are answered with an ICMP error
	Advice     []string             `json:"advice,omitempty"`     // what to do for it to pass
	Suggestion string               `json:"suggestion,omitempty"` // a document that would let it pass, as YAML; it validates
	Notes      []string             `json:"notes,omitempty"`      // what else matters: a tunnel that is down, a guess at the interface
}

// ExplainedPacket is the packet and its way through the box.
type ExplainedPacket struct {
	Source      string       `json:"source"`
	Destination string       `json:"destination"`
	Service     string       `json:"service"`
	Reply       bool         `json:"reply,omitempty"`
	From        ExplainedEnd `json:"from"`
	To          ExplainedEnd `json:"to"`
}

// ExplainedEnd is where a packet enters or leaves the box.
type ExplainedEnd struct {
	Interface string `json:"interface"` // or LocalInterface
	Zone      string `json:"zone,omitempty"`
	Tunnel    string `json:"tunnel,omitempty"`
}

func (e ExplainedEnd) String() string {
	switch {
	case e.Tunnel != "":
		return fmt.Sprintf("tunnel %s (%s, zone %s)", e.Tunnel, e.Interface, e.Zone)
	case e.Interface == LocalInterface:
		return "this box"
	}
	return fmt.Sprintf("zone %s (%s)", e.Zone, e.Interface)
}

// link is the end as the rules name it.
func (e ExplainedEnd) link() string {
	if e.Interface == LocalInterface {
		return ""
	}
	return e.Interface
}

// ExplainedDocument is a document and where it stands.
type ExplainedDocument struct {
	Kind document.Kind `json:"kind"`
	Name string        `json:"name"`
	File string        `json:"file,omitempty"` // with the line; "": it is in force, and files are not kept
}

// Explain says what becomes of a packet: by what is in force, or, with documents, by what would be. It changes nothing and asks no kernel.
func (e *Engine) Explain(ctx context.Context, q Question, r Request) (Explanation, error) {
	if len(r.Files) > 0 || r.Whole {
		v, err := e.viewWith(ctx, r)
		if err != nil {
			return Explanation{}, err
		}
		return v.explain(q)
	}
	v, err := e.viewInForce(ctx)
	if err != nil {
		return Explanation{}, err
	}
	return v.explain(q)
}

// ExplainDocuments says what becomes of a packet by documents alone, for one site. They must be valid for it.
func ExplainDocuments(set *document.Set, site string, q Question) (Explanation, error) {
	v, err := viewOf(set, site)
	if err != nil {
		return Explanation{}, err
	}
	return v.explain(q)
}

// view is one state of a box: that in force, or that of documents. Nobody changes it.
type view struct {
	set       *document.Set
	site      string
	revision  int
	intent    intent
	ruleset   firewall.Ruleset
	base      *firewall.Base
	local     []netip.Addr
	connected map[string][]netip.Prefix // networks on each interface
	states    map[string]string         // of tunnels that are in force
	notes     []string
	index     *tunnelIndex // nil: each tunnel is asked
}

// viewInForce is what the box holds.
func (e *Engine) viewInForce(ctx context.Context) (*view, error) {
	v, parts, err := e.glimpse(ctx)
	if err != nil {
		return nil, err
	}
	v.ruleset, err = v.base.Ruleset(firewall.Union(parts...)) // 10,000 tunnels take a while to sort: nobody waits for it
	return v, err
}

// glimpse copies what a view needs while it holds still, and the elements of each owner.
func (e *Engine) glimpse(ctx context.Context) (*view, []firewall.Elements, error) {
	if err := e.lock(ctx); err != nil { // the filter's state belongs to whoever changes the host
		return nil, nil, err
	}
	defer e.unlock()
	v := &view{site: e.options.Site, revision: e.store.now().Current, base: e.filter.base, states: map[string]string{}}
	parts := slices.Collect(maps.Values(e.filter.holdings))
	if !e.filter.loaded {
		v.notes = append(v.notes, "the rules on the host may differ from these: shekara status says how")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.intent.present || v.base == nil {
		return nil, nil, mistaken("apply documents first, or name some with --file", "nothing is in force on this box: there are no rules to ask")
	}
	v.set = e.documents
	v.intent = intent{present: true, base: e.intent.base, tunnels: maps.Clone(e.intent.tunnels), flows: maps.Clone(e.intent.flows)}
	for name := range v.intent.tunnels {
		v.states[name] = e.stateOf(name)
	}
	v.place(e.world.links)
	return v, parts, nil
}

// viewWith is what the box would hold after an apply of the request.
func (e *Engine) viewWith(ctx context.Context, r Request) (*view, error) {
	documents, err := decode(r.Files)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	next, links := e.documents, e.world.links
	e.mu.Unlock()
	if r.Whole {
		next, _ = next.Replace(documents)
	} else {
		next, _ = next.Merge(documents)
	}
	if problems := validate.Check(next, validate.Options{Site: e.options.Site}); len(problems) > 0 {
		return nil, &InvalidError{Problems: problems}
	}
	v, err := viewOf(next, e.options.Site)
	if err != nil {
		return nil, err
	}
	v.place(links)
	return v, nil
}

// viewOf is what documents ask of a site.
func viewOf(set *document.Set, site string) (*view, error) {
	desired, err := compile.Compile(set, site)
	if err != nil {
		return nil, err
	}
	v := &view{set: set, site: site, intent: intent{present: true, base: desired.Base, tunnels: desired.Tunnels, flows: desired.Flows}}
	policy := v.intent.policy()
	if v.base, err = firewall.CompileBase(policy); err != nil {
		return nil, fmt.Errorf("filter: %w", err)
	}
	elements, err := v.base.Elements(policy)
	if err != nil {
		return nil, fmt.Errorf("filter: %w", err)
	}
	v.place(nil)
	v.ruleset, err = v.base.Ruleset(elements)
	return v, err
}

// place notes the box's own addresses and networks: those that documents name, and those that its links have.
func (v *view) place(links []netctl.Link) {
	v.local, v.connected = nil, map[string][]netip.Prefix{}
	add := func(link string, p netip.Prefix) {
		if !p.Addr().IsLinkLocalUnicast() && !p.Addr().IsLoopback() {
			v.local = append(v.local, p.Addr())
			v.connected[link] = append(v.connected[link], p.Masked())
		}
	}
	if site := v.set.Site(v.site); site != nil {
		for _, i := range site.Interfaces {
			for _, written := range i.Addresses {
				if p, err := document.ParseInterfaceAddress(written); err == nil { // validated
					add(i.Name, p)
				}
			}
		}
	}
	for _, d := range v.intent.base.Devices {
		v.local = append(v.local, d.Spec.LocalIP)
	}
	for _, l := range links {
		for _, p := range l.Addresses {
			add(l.Name, p)
		}
	}
	slices.SortFunc(v.local, netip.Addr.Compare)
	v.local = slices.Compact(v.local)
}

// packet reads the question's own fields.
func (q Question) packet() (firewall.Packet, error) {
	var p firewall.Packet
	var err error
	if p.Source, err = document.ParseAddress(q.Source); err != nil {
		return p, asked("source", q.Source, err)
	}
	if p.Destination, err = document.ParseAddress(q.Destination); err != nil {
		return p, asked("destination", q.Destination, err)
	}
	if p.Source.Is4() != p.Destination.Is4() {
		return p, mistaken("give two IPv4 or two IPv6 addresses", "%s and %s are not of one address family", p.Source, p.Destination)
	}
	echo := "icmpv6"
	if p.Source.Is4() {
		echo = "icmp"
	}
	written := q.Service
	if written == "" || written == "ping" {
		written = echo
	}
	service, err := document.ParseService(written)
	if err != nil {
		return p, asked("service", q.Service, err)
	}
	p.Protocol, p.DestinationPort = service.Protocol, service.FirstPort
	switch {
	case service.Protocol == firewall.ICMP || service.Protocol == firewall.ICMPv6:
		if written != echo {
			return p, mistaken("write "+echo, "%s is not a protocol of %s", written, p.Source)
		}
		if p.ICMPType = firewall.EchoRequest; written == "icmpv6" {
			p.ICMPType = firewall.EchoRequest6
		}
	case service.FirstPort == 0 || service.FirstPort != service.LastPort:
		return p, mistaken("write it as "+strings.SplitN(written, "/", 2)[0]+"/443", "service %q: a packet goes to one port", written)
	default:
		p.SourcePort = ephemeralPort
	}
	return p, nil
}

// ephemeralPort is any of those that hosts open connections from (RFC 6335, section 6): no rule asks for it.
const ephemeralPort = 49152

func asked(field, value string, err error) error {
	var syntax *document.SyntaxError
	if errors.As(err, &syntax) {
		return mistaken(syntax.Hint, "%s %q: %s", field, value, syntax.What)
	}
	return mistaken("", "%s %q: %w", field, value, err)
}
