package proof

import (
	"context"
	"fmt"
	"slices"
)

// engine holds what proofs share: diagrams, and those of sets by their content.
type engine struct {
	*diagrams
	*variables
	found map[string]formula // where keys are in sets, see find
	lower map[string]formula // parts of sets, see exact
}

func newEngine(interfaces []string, translates bool, limit int) *engine {
	d := newDiagrams(limit)
	return &engine{diagrams: d, variables: newVariables(d, interfaces, translates), found: map[string]formula{}, lower: map[string]formula{}}
}

// evaluation of one ruleset.
type evaluation struct {
	*engine
	ctx     context.Context
	ruleset *Ruleset
	hooks   map[string][]step // what hooked found
}

// ended is thrown where the context has, and caught by Prove.
type ended struct{ cause error }

// unmodelled is thrown by what turns out to be outside the model only when it is evaluated, and caught by Prove.
type unmodelled struct{ what string }

// run is one class of packets on its way through the hooks.
type run struct {
	*evaluation
	view      *view // as it comes
	now       view  // with the addresses and ports that it has by now
	within    view  // with its target translated and its source not yet: as rules see it that judge
	hook      string
	elsewhere formula // its target was translated to another
	settled   [2]bool // its target has its translation, and its source
	early     bool    // before conntrack has looked
	mark      register
	ct        register
	zone      register
	passes    formula // what all hooks let through
	possible  formula // what there can be: each packet in the zone and with the translation that rules give it, and on this path
	zoned     formula // it is in the zone of its connection
	bindings  []binding
	events    []event
	writes    []write
	limits    []met
	active    map[*chain]bool // those that called each other to get here
	steps     int             // rules that were looked at
}

// maxSteps bounds a run: a few chains that call each other often enough could keep it busy for ever.
const maxSteps = 200_000

// event is a rule, or a base chain's policy, that decided about some packets or sent them to another chain.
type event struct {
	chain *chain
	rule  *rule // nil: the policy
	kind  verdictKind
	where []formula // about those that are in all of these sets
	hook  string
}

// write is a rule that sets the connection's mark.
type write struct {
	rule  *rule
	where formula
	value vector
}

// register is a mark. What rules write to it is kept with where they did, and only put together when somebody reads it there: most packets
// that were marked are accepted, and nobody reads their mark again.
type register struct {
	first   vector
	before  *register // in a fork, in place of first: the register before it, of the packets in reach
	reach   formula
	updates []update
	once    bool   // what is written first stays
	last    vector // what was read last, and holds for all packets of care
	care    formula
}

type update struct {
	where formula
	asked formula // what the rule itself asked of the packets that came to it: simpler than where, which is in it
	value vector
}

func (r *register) set(u update) {
	r.updates = append(r.updates, u)
	r.care = never
}

// read is the mark of the packets in care; elsewhere it may be anything.
func (r *register) read(d *diagrams, care formula) vector {
	if r.last != nil && d.implies(care, r.care) {
		return r.last
	}
	left, value := care, vector(nil)
	var above []update
	order := slices.Backward(r.updates)
	if r.once {
		order = slices.All(r.updates)
	}
	for _, u := range order {
		here := d.and(left, u.where)
		if here == never {
			continue
		}
		if here == left { // all that is left was written here
			value, left = u.value, never
			break
		}
		if d.and(left, u.asked) == here { // all that is left has come to the rule
			above = append(above, update{where: u.asked, value: u.value})
		} else {
			above = append(above, update{where: d.within(u.where, left), value: u.value})
		}
		left = d.without(left, u.where)
	}
	switch {
	case value != nil:
	case r.before != nil:
		value = r.before.read(d, r.reach)
	default:
		value = r.first
	}
	value = slices.Clone(value)
	for _, u := range slices.Backward(above) {
		for i := range value {
			value[i] = d.choose(u.where, u.value[i], value[i])
		}
	}
	r.last, r.care = value, care
	return value
}

// hookOrder are the hooks of each path through this box.
var hookOrder = map[string][]string{
	"forward": {"prerouting", "forward", "postrouting"},
	"input":   {"prerouting", "input"},
	"output":  {"output", "postrouting"},
}

// Priorities of what the kernel itself does (linux/netfilter_ipv4.h).
const (
	priorityDefragment = -400
	priorityConntrack  = -200
)

// follow lets a class of packets pass all base chains of a path.
func (e *evaluation) follow(path string, v *view) *run {
	r := &run{evaluation: e, view: v, now: *v, within: *v, elsewhere: never, passes: v.domain, possible: v.domain, mark: register{first: e.packetMark}, ct: register{first: v.mark},
		zone: register{first: constantVector(number{}, 16), once: true}, active: map[*chain]bool{}}
	for _, hook := range hookOrder[path] {
		r.hook = hook
		known := !e.translates || !tracks(hook)
		for _, s := range e.hooked(hook) {
			if r.early = tracks(hook) && s.priority < priorityConntrack; !r.early && !known {
				known = true
				r.enterConntrack()
			}
			if s.nat {
				r.translateAll(s.chains)
				continue
			}
			c := s.chains[0]
			enters := r.entering(c, r.passes)
			r.passes = e.or(e.without(r.passes, enters), r.base(c, enters))
		}
		if !known {
			r.enterConntrack()
		}
		if e.translates && path == "forward" && hook == "prerouting" {
			r.route()
		}
	}
	return r
}

// tracks says whether conntrack looks at packets at a hook.
func tracks(hook string) bool { return hook == "prerouting" || hook == "output" }

// entering are those packets that a base chain is asked about.
func (r *run) entering(c *chain, among formula) formula {
	switch c.family {
	case "ip":
		return r.without(among, r.version6)
	case "ip6":
		return r.and(among, r.version6)
	}
	return among
}

// hooked are the steps of a hook in the order in which packets meet them.
func (e *evaluation) hooked(hook string) []step {
	if list, known := e.hooks[hook]; known {
		return list
	}
	var list []step
	translating := step{priority: priorityTarget, nat: true}
	if translatesSource(hook) {
		translating.priority = prioritySource
	}
	for _, c := range e.ruleset.chains {
		switch {
		case c.hook != hook:
		case c.nat:
			translating.chains = append(translating.chains, c)
		default:
			list = append(list, step{priority: c.priority, chains: []*chain{c}})
		}
	}
	if len(translating.chains) > 0 || e.translates && hook != "forward" {
		slices.SortStableFunc(translating.chains, func(x, y *chain) int { return x.priority - y.priority })
		inOrder(translating.chains)
		list = append(list, translating)
	}
	byPriority(list)
	for i, s := range list {
		if s.nat {
			continue
		}
		c := s.chains[0]
		switch {
		case c.priority <= priorityDefragment && !wholeHeaders(c):
			panic(unmodelled{c.place() + ": it may run before fragments are put together"})
		case c.priority == priorityConntrack && tracks(hook):
			panic(unmodelled{c.place() + ": it runs at the priority of conntrack"})
		case i > 0 && list[i-1].nat && list[i-1].priority == c.priority, i+1 < len(list) && list[i+1].nat && list[i+1].priority == c.priority:
			panic(unmodelled{c.place() + ": it runs at the priority of translation"})
		}
		beside := []*chain{c}
		for _, other := range list[:i] {
			if other.priority == c.priority {
				beside = append(beside, other.chains...)
			}
		}
		inOrder(beside)
	}
	e.hooks[hook] = list
	return list
}

func (c *chain) place() string {
	return fmt.Sprintf("table %s %s, chain %s", c.family, c.table, c.name)
}

// wholeHeaders says whether a chain, and those that it leads to, asks only for what every fragment has: interfaces, addresses and marks.
func wholeHeaders(c *chain) bool {
	whole := true
	ask := func(list ...expression) {
		for _, e := range list {
			switch e.field {
			case metaMark, metaFamily, inputName, outputName, source4, source6, destination4, destination6, sourceType, destinationType:
			default:
				whole = false
			}
		}
	}
	visitRules(c, map[*chain]bool{}, func(_ *rule, s *statement) {
		switch {
		case s.match != nil:
			ask(s.match.key...)
		case s.choice != nil:
			ask(s.choice.key...)
		case s.assign != nil:
			if ask(s.assign.key...); s.assign.from != nil {
				ask(*s.assign.from)
			}
		}
	})
	return whole
}

// base gives what a base chain lets through.
func (r *run) base(c *chain, enters formula) formula {
	if enters == never {
		return never
	}
	accepted := &[]formula{}
	var before vector
	if c.reroutes {
		before = r.mark.read(r.diagrams, enters)
	}
	rest := r.chain(c, enters, accepted)
	kind := drops
	if c.accept {
		kind = accepts
		*accepted = append(*accepted, rest)
	}
	r.events = append(r.events, event{chain: c, kind: kind, where: []formula{rest}, hook: r.hook})
	passes := r.any(*accepted...)
	if c.reroutes && r.hook == "output" {
		r.routedOnce(c, passes, before)
	}
	return passes
}

// chain gives what comes to a chain's end, or is returned. Goto comes back to where the chain itself was called from.
func (r *run) chain(c *chain, reach formula, accepted *[]formula) (leaves formula) {
	if c == nil {
		return reach // a verdict that leads nowhere is unmodelled already
	}
	if r.active[c] { // the kernel refuses that: it is no kernel's listing
		panic(unmodelled{fmt.Sprintf("table %s %s, chain %s: it leads to itself", c.family, c.table, c.name)})
	}
	r.active[c] = true
	defer delete(r.active, c)
	leaves = never
	for _, rule := range c.rules {
		if reach == never {
			break
		}
		if err := r.ctx.Err(); err != nil {
			panic(ended{err})
		}
		if r.steps++; r.steps > maxSteps {
			panic(unmodelled{fmt.Sprintf("table %s %s, chain %s: following its rules takes more than %d steps", c.family, c.table, c.name, maxSteps)})
		}
		matched := reach
		for i := range rule.statements {
			s := &rule.statements[i]
			switch {
			case matched == never:
			case s.match != nil:
				matched = r.and(matched, r.match(s.match, matched))
			case s.assign != nil:
				matched = r.assign(rule, s.assign, matched)
			case s.limit != nil:
				r.limits = append(r.limits, met{s.limit, matched})
			case s.translation != nil:
				taken := r.translate(rule, s.translation, matched, accepted)
				reach, matched = r.without(reach, taken), r.without(matched, taken)
			case s.verdict != nil:
				taken, back, gone := r.verdict(rule, s.verdict, matched, accepted)
				leaves = r.or(leaves, gone)
				reach = r.or(r.without(reach, taken), back)
				matched = never
			case s.choice != nil:
				taken, back, gone := r.choice(rule, s.choice, matched, accepted)
				leaves = r.or(leaves, gone)
				reach = r.or(r.without(reach, taken), back)
				matched = r.without(matched, taken)
			}
		}
	}
	return r.or(leaves, reach)
}

// verdict carries out one: taken leave the rule's chain, of which back come back behind the rule, and gone return from the chain.
func (r *run) verdict(rule *rule, v *verdict, where formula, accepted *[]formula) (taken, back, gone formula) {
	if v.kind == continues || where == never {
		return never, never, never
	}
	r.events = append(r.events, event{rule.chain, rule, v.kind, []formula{where}, r.hook})
	switch v.kind {
	case accepts:
		*accepted = append(*accepted, where)
		return where, never, never
	case jumps:
		return where, r.chain(v.target, where, accepted), never
	case goes:
		return where, never, r.chain(v.target, where, accepted)
	case returns:
		return where, never, where
	}
	return where, never, never // drop
}

func (r *run) match(m *match, care formula) formula {
	if m.without && (r.early || !r.view.tracked) {
		return always
	}
	key, has := r.key(m.key, care)
	if has == never {
		return boolean(m.negated && m.lacking)
	}
	var found formula
	if m.bits {
		found = never
		for i, bit := range key[0] {
			if m.set.elements[0].key[0].low.bit(len(key[0]) - 1 - i) {
				found = r.or(found, bit)
			}
		}
	} else {
		found = r.find(key, m.set, all)
	}
	switch {
	case m.negated && m.lacking:
		return not(r.and(has, found))
	case m.negated:
		found = not(found)
	}
	return r.and(has, found)
}

// assign sets a mark where the rule still matches, and gives where it goes on: a map without an entry ends the rule.
func (r *run) assign(rule *rule, a *assign, where formula) formula {
	value, asked := constantVector(a.value, fields[a.to].width), always
	switch {
	case a.from != nil:
		value, asked = r.read(*a.from, where)
	case a.set != nil:
		key, has := r.key(a.key, where)
		for i := range value {
			bit := len(value) - 1 - i
			value[i] = r.find(key, a.set, bit)
		}
		asked = r.and(has, r.find(key, a.set, all))
	}
	where = r.and(where, asked)
	if a.keep != (number{}) {
		value = r.joined(value, r.mark.read(r.diagrams, where), a.keep)
	}
	switch {
	case where == never:
	case a.to == metaMark:
		r.mark.set(update{where, asked, value})
	case a.to == ctZone:
		if r.early { // later it belongs to a connection already, and the kernel changes nothing
			r.zone.set(update{where, asked, value})
			r.events = append(r.events, event{rule.chain, rule, continues, []formula{where}, r.hook})
		}
	case r.view.tracked && !r.early: // without an entry of conntrack nothing is written, and the rule goes on
		r.ct.set(update{where, asked, value})
		r.writes = append(r.writes, write{rule, where, value})
	}
	return where
}

// key reads all parts of one, and where the packet has them.
func (r *run) key(list []expression, care formula) (key []vector, has formula) {
	has = always
	for _, e := range list {
		v, there := r.read(e, care)
		key, has = append(key, v), r.and(has, there)
	}
	return key, has
}

// read is an expression's value, and where the packet has one.
func (r *run) read(e expression, care formula) (vector, formula) {
	v, has := r.field(e, care)
	if len(e.operations) == 0 {
		return v, has
	}
	v = slices.Clone(v)
	for _, o := range e.operations {
		for i := range v {
			switch bit := o.value.bit(len(v) - 1 - i); {
			case o.sign == '&' && !bit:
				v[i] = never
			case o.sign == '|' && bit:
				v[i] = always
			case o.sign == '^' && bit:
				v[i] = not(v[i])
			}
		}
	}
	return v, has
}
