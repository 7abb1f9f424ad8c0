package firewall

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Explanation is what the rules do with a packet, and why.
type Explanation struct {
	Pass    bool   `json:"pass"`
	Hook    string `json:"hook"`              // where it was decided: prerouting, routing, forward, input or output
	Chain   string `json:"chain,omitempty"`   // of the rule that decided
	Rule    string `json:"rule,omitempty"`    // the rule that decided, in nft syntax; "": the hook's policy did
	BuiltIn string `json:"builtIn,omitempty"` // what that rule is for, if it is a built-in one: "probe", "management tcp/22"; OwnService
	Reason  string `json:"reason,omitempty"`  // why it is dropped: one of those of the rules, or Martian
	ID      string `json:"id,omitempty"`      // of what drops it: "forward.no_flow", as records of dropped packets name it
	Set     string `json:"set,omitempty"`     // in which the rule found Element
	Element string `json:"element,omitempty"`
	MSS     int    `json:"mss,omitempty"` // what the option of a SYN is lowered to at most; 0: not touched
	Trace   []Hit  `json:"trace"`         // every rule that matched, in order
	// Limited are the tunnels whose limits the packet meets: whether it is too much, nobody can tell beforehand.
	Limited []string `json:"limited,omitempty"`
	// Becomes is set if addresses are translated: how they stand in the packet when it leaves or is delivered.
	Becomes *Addresses `json:"becomes,omitempty"`

	Connection Connection `json:"-"` // as conntrack has it afterwards: for Packet.Reply
	Noted      []Hit      `json:"-"` // rules that matched and decided nothing: marks set, options lowered
}

// Addresses of one packet.
type Addresses struct {
	Source      netip.Addr `json:"source"`
	Destination netip.Addr `json:"destination"`
}

// Hit is a rule that matched.
type Hit struct {
	Hook  string `json:"hook"`
	Chain string `json:"chain"`
	Rule  string `json:"rule"`
}

// Explainer answers for one ruleset. It is for use by many goroutines.
type Explainer struct {
	program *program
	local   []netip.Addr
}

// NewExplainer reads a ruleset. Local are the box's own addresses. An error is a mistake in this package: rules that it wrote and cannot read.
func NewExplainer(r Ruleset, local []netip.Addr) (*Explainer, error) {
	if err := r.Elements.Check(); err != nil {
		return nil, err
	}
	shapes, err := r.Elements.shapes()
	if err != nil {
		return nil, err
	}
	w := &writer{}
	limits := r.Elements.OnlyLimits()
	delete(limits, Limits) // what a tunnel's chain holds is only more or less
	if err := r.table(w, Table, "", explainedGeneration, shapes, limits, nil); err != nil {
		return nil, err
	}
	p, err := parseProgram(w.String(), r.Elements)
	if err != nil {
		return nil, err
	}
	return &Explainer{p, local}, nil
}

// explainedGeneration is any: which one is loaded changes no verdict on a connection that is judged now.
const explainedGeneration = 1

// Explain follows a packet through the hooks that it meets: prerouting if it arrives, then forward, input or output. No kernel is asked.
func (e *Explainer) Explain(p Packet) (Explanation, error) {
	switch {
	case p.From == "" && p.To == "":
		return Explanation{}, fmt.Errorf("a packet neither arrives nor leaves")
	case !plain(p.Source) || !plain(p.Destination) || p.Source.Is4() != p.Destination.Is4():
		return Explanation{}, fmt.Errorf("%s and %s are not two addresses of one family", p.Source, p.Destination)
	case p.Protocol == 0:
		return Explanation{}, fmt.Errorf("a packet without a protocol")
	}
	w := &walk{program: e.program, local: e.local, packet: p, mark: p.Mark, connection: p.Connection}
	if w.connection.State == "" {
		w.connection = p.first()
	}
	hooks := []string{"prerouting", "forward", "postrouting"}
	switch {
	case p.From == "":
		hooks = []string{"output", "postrouting"}
	case p.To == "":
		hooks = []string{"prerouting", "input"}
	}
	for _, hook := range hooks {
		if !w.hook(hook) {
			break
		}
		if hook == "prerouting" && e.martian(p) {
			w.out.Pass, w.out.Hook, w.out.Chain, w.out.Reason = false, "routing", "", Martian
			break
		}
	}
	if became := (Addresses{w.packet.Source, w.packet.Destination}); became != (Addresses{p.Source, p.Destination}) {
		w.out.Becomes = &became
	}
	w.out.Connection = w.connection
	return w.out, nil
}

// hook asks the base chains of a hook in order. What decided at a hook is told of the last one that drops, or that judges connections.
func (w *walk) hook(name string) bool {
	for _, base := range w.program.hooks[name] {
		before := w.out
		w.out.Hook, w.out.Chain, w.out.Rule, w.out.BuiltIn = name, base.name, "", ""
		if base.nat {
			w.nat(base, name)
		} else {
			verdict := w.chain(base, "")
			if verdict.kind != accepts && verdict.kind != drops {
				verdict = base.policy
			}
			if w.out.Pass = verdict.kind == accepts; !w.out.Pass {
				w.out.ID, w.out.Reason, w.out.MSS = w.counter, Reason(w.counter), 0
				return false
			}
		}
		if judging := base.priority == priorities["filter"] || name == "prerouting" && !base.nat; !judging {
			before.Trace, before.Noted, before.Limited, before.MSS, before.Pass = w.out.Trace, w.out.Noted, w.out.Limited, w.out.MSS, true
			w.out = before
		}
	}
	return true
}

// nat asks a chain about the first packet of a connection, and does with every other what was done with that.
func (w *walk) nat(base *chain, hook string) {
	c := &w.connection
	switch {
	case !w.tracked():
	case c.State == StateNew && !c.Reply:
		w.chain(base, "")
	case hook == "postrouting" && c.Reply:
		w.packet.Source = c.Destination
	case hook == "postrouting":
		w.packet.Source = or(c.ToSource, c.Source)
	case c.Reply:
		w.packet.Destination = c.Source
	default:
		w.packet.Destination = or(c.ToDestination, c.Destination)
	}
}

// translate changes one address of the packet and of its connection.
func (w *walk) translate(destination bool, to netip.Addr) action {
	if destination {
		w.packet.Destination, w.connection.ToDestination = to, to
	} else {
		w.packet.Source, w.connection.ToSource = to, to
	}
	return action{kind: accepts}
}

// Martian is the reason of a packet that the kernel's routing drops before any rule of a filter hook sees it.
const Martian = "martian"

// martian says whether routing drops an arriving packet for its source (RFC 1812, 5.3.7; fib_validate_source and ip6_rcv_core): the rules
// leave that to the kernel. The reverse path filter is not modelled: anti-spoofing by zone is the stricter.
func (e *Explainer) martian(p Packet) bool {
	if p.From == "lo" || p.From == "" {
		return false
	}
	s := p.Source
	return s.IsLoopback() || s.IsMulticast() || p.is4() && (slices.Contains(e.local, s) || s.As4() == [4]byte{255, 255, 255, 255} ||
		s.As4()[0] == 0 && p.Destination.As4() != [4]byte{255, 255, 255, 255})
}

// walk is one packet on its way.
type walk struct {
	program    *program
	local      []netip.Addr
	packet     Packet
	mark       uint32 // the packet's
	connection Connection
	counter    string // the last one, which bears the ID of what drops
	set, found string // what the present rule looked up, and found
	out        Explanation
}

// tracked says whether conntrack has an entry for the packet: rules that ask for one end otherwise.
func (w *walk) tracked() bool {
	return w.connection.State != StateInvalid && w.connection.State != StateUntracked
}

// clamp lowers the MSS option, which only a SYN has. The kernel never raises it.
func (w *walk) clamp(size int) {
	if w.out.MSS == 0 || size < w.out.MSS {
		w.out.MSS = size
	}
}

// chain does a chain's rules in order until one decides. proceed: none did. Purpose is what the rule that led here is for.
func (w *walk) chain(c *chain, purpose string) action {
	for i := range c.rules {
		r := &c.rules[i]
		w.set, w.found = "", ""
		a := w.rule(r)
		if a.kind == proceed {
			w.out.Noted = append(w.out.Noted, Hit{w.out.Hook, c.name, r.text})
		}
		if a.kind == mismatch || a.kind == proceed {
			continue
		}
		w.out.Trace = append(w.out.Trace, Hit{w.out.Hook, c.name, r.text})
		if a.kind == returns {
			return action{}
		}
		if a.kind == accepts || a.kind == drops || a.kind == goes && final(a.chain) {
			w.decided(c, r, cmp.Or(r.comment, purpose))
		}
		if a.kind == jumps || a.kind == goes {
			inner := w.chain(w.program.chains[a.chain], cmp.Or(r.comment, purpose))
			if inner.kind == accepts || inner.kind == drops || a.kind == goes {
				return inner
			}
			continue
		}
		return a
	}
	return action{}
}

// final says whether all packets that get into a chain have one fate: what leads there decides it, not the chain's own rules.
func final(chain string) bool { return chain == "pass" || slices.Contains(dropIDs[:], chain) }

// decided notes the rule that decides.
func (w *walk) decided(c *chain, r *rule, purpose string) {
	if final(c.name) {
		return
	}
	if _, ofFlows := parseShape(w.set); ofFlows && purpose != OwnService {
		purpose = ""
	}
	w.out.Chain, w.out.Rule, w.out.BuiltIn, w.out.Set, w.out.Element = c.name, r.text, purpose, w.set, w.found
}

func (w *walk) rule(r *rule) action {
	for _, s := range r.steps {
		if a := s(w); a.kind != proceed {
			return a
		}
	}
	return action{}
}

// inSet looks the expressions up in a named set.
func (w *walk) inSet(set string, terms []expression) action {
	key, ok := w.key(terms)
	if _, held := slices.BinarySearch(w.program.held[set], key); !ok || !held && !w.program.sets[set][key] {
		return action{kind: mismatch}
	}
	w.set, w.found = set, key
	return action{}
}

// key is how the expressions stand together in a set's element. It reports false if the packet lacks one.
func (w *walk) key(terms []expression) (string, bool) {
	var key strings.Builder
	for i, e := range terms {
		v, ok := e(w)
		if !ok {
			return "", false
		}
		if i > 0 {
			key.WriteString(" . ")
		}
		key.WriteString(v.key())
	}
	return key.String(), true
}
