package proof

import (
	"fmt"
	"slices"
)

// translation is what snat, dnat and masquerade say of a packet that opens a connection: which address stands instead of its own.
type translation struct {
	source bool
	byHook bool   // it depends on the hook whether the source is meant (NETMAP of xtables)
	family string // "ip" or "ip6"; "": of both
	netmap bool   // only the bits in which the range's ends agree are taken over, one address to one
	to     *span  // a constant; nil: what the map says for the key, or some address of this box that nobody knows (masquerade)
	key    []expression
	set    *set
}

// translation reads snat, dnat or masquerade. Which source port is taken is not asked: any may be, as the kernel takes another where two
// connections would be one (nf_nat_l4proto_unique_tuple).
func (d *decoder) translation(word string, fields map[string]any) (statement, string, error) {
	t := &translation{source: word != "dnat", family: text(fields["family"])}
	unknown := fmt.Errorf("statement %s", compact(map[string]any{word: fields}))
	for property := range fields {
		known := slices.Contains([]string{"family", "addr", "flags", "type_flags"}, property) || property == "port" && t.source
		if !known {
			return statement{}, word, unknown
		}
	}
	for _, flag := range words(fields["flags"]) {
		switch flag {
		case "netmap":
			t.netmap = true
		case "random", "fully-random", "persistent":
		default:
			return statement{}, word, unknown
		}
	}
	for _, flag := range words(fields["type_flags"]) {
		if flag != "prefix" && flag != "interval" {
			return statement{}, word, unknown
		}
	}
	if word == "masquerade" {
		return statement{translation: t}, word, nil
	}
	object, _ := fields["addr"].(map[string]any)
	if mapped, ok := object["map"].(map[string]any); ok && len(object) == 1 {
		var keyText string
		var err error
		if t.key, keyText, err = d.keys(mapped["key"]); err == nil {
			if t.set, err = d.mapping(mapped["data"], "address"); err == nil {
				err = fits(t.key, t.set)
			}
		}
		if err != nil {
			return statement{}, word, err
		}
		return statement{translation: t}, word + " to " + keyText + " map " + t.set.describe(mapped["data"]), nil
	}
	to, err := d.address(fields["addr"])
	if err != nil {
		return statement{}, word, err
	}
	t.to = &to
	return statement{translation: t}, word + " to " + written(fields["addr"]), nil
}

// words are those of a list, or the one that stands alone.
func words(v any) []string {
	list, isList := v.([]any)
	if !isList && v != nil {
		list = []any{v}
	}
	out := make([]string, len(list))
	for i, item := range list {
		out[i] = text(item)
	}
	return out
}

// address reads an address, a prefix or a range of addresses.
func (d *decoder) address(v any) (span, error) {
	s, err := d.span(v)
	if err == nil && s.kind != address4 && s.kind != address6 {
		err = fmt.Errorf("address %s", compact(v))
	}
	return s, err
}

// binding are packets for which a rule chose another address, and what it is then.
type binding struct{ where, becomes formula }

// translate carries out a statement, and gives the packets that it was for: they ask no more rules of this step.
func (r *run) translate(rule *rule, t *translation, where formula, accepted *[]formula) formula {
	if t.byHook {
		here := *t
		here.source, t = translatesSource(r.hook), &here
	}
	if !rule.chain.translates(r.hook, t.source) {
		panic(unmodelled{fmt.Sprintf("table %s %s, chain %s, handle %d: %s: it is not asked there", rule.chain.family, rule.chain.table, rule.chain.name, rule.handle, rule.text)})
	}
	becomes := always
	switch {
	case t.to != nil:
		becomes = r.becomes(t, t.to)
		where = r.and(where, r.family(t.to.kind))
	case t.set != nil:
		key, has := r.key(t.key, where)
		var found, list []formula
		for _, original := range t.set.part(all) {
			for _, element := range r.numbered(original) {
				here := r.and(r.oneElement(key, element), r.family(element.address.kind))
				found, list = append(found, here), append(list, r.and(here, r.becomes(t, element.address)))
			}
		}
		where, becomes = r.all(where, has, r.any(found...)), r.any(list...)
	}
	switch t.family {
	case "ip":
		where = r.without(where, r.version6)
	case "ip6":
		where = r.and(where, r.version6)
	}
	if where == never {
		return never
	}
	r.events = append(r.events, event{rule.chain, rule, accepts, []formula{where}, r.hook})
	r.bindings = append(r.bindings, binding{where, becomes})
	*accepted = append(*accepted, where)
	return where
}

// translates says whether the kernel takes statements of one kind in a chain, which may be one that a base chain leads to.
func (c *chain) translates(hook string, source bool) bool {
	return (c.nat || c.hook == "") && source == translatesSource(hook)
}

// translatesSource says which address is translated at a hook (HOOK2MANIP, nf_nat.h).
func translatesSource(hook string) bool { return hook == "postrouting" || hook == "input" }

func (e *engine) family(k kind) formula {
	if k == address4 {
		return not(e.version6)
	}
	return e.version6
}

// becomes is where the connection's other address is one that a translation may choose.
func (r *run) becomes(t *translation, to *span) formula {
	address, own := r.toTarget, r.now.target
	if t.source {
		address, own = r.toSource, r.now.source
	}
	if to.kind == address4 {
		address, own = address[:32], own[:32]
	}
	if !t.netmap {
		return r.between(address, to.low, to.high)
	}
	is := slices.Clone(own)
	low := constantVector(to.low, len(own))
	for i, bit := range constantVector(to.high, len(own)) { // nft_nat_setup_netmap
		if bit == low[i] {
			is[i] = bit
		}
	}
	return r.equalVectors(is, address)
}

// same is where two addresses are one.
func (e *engine) same(a, b vector) formula {
	return e.choose(e.version6, e.equalVectors(a, b), e.equalVectors(a[:32], b[:32]))
}

// equalVectors is where two vectors of one width are equal.
func (e *engine) equalVectors(a, b vector) formula {
	out := always
	for i := len(a) - 1; i >= 0; i-- {
		out = e.and(e.choose(a[i], b[i], not(b[i])), out)
	}
	return out
}

// translateAll is the step of a hook at which connections are translated: the chains of type nat are asked about the first packet of a
// connection, and what they chose is done with every other, with answers and with ICMP errors (nf_nat_inet_fn, nf_nat_icmp_reply_translation).
func (r *run) translateAll(chains []*chain) {
	if !r.view.tracked {
		return
	}
	source := translatesSource(r.hook)
	defer func() { r.settled[sideOf(source)] = true }()
	if r.view.state == stateNew {
		r.bind(chains, source)
	}
	if !r.translates { // these chains drop, or mark, and no more
		return
	}
	now, view := r.now, r.view // registers of the run, and the class
	switch {
	case view.state == stateRelated && source:
		now.source = r.chosen(r.moved(view.reply), r.side(view.reply, true), now.source)
	case view.state == stateRelated:
		r.elsewhere = r.moved(!view.reply)
		now.target = r.chosen(r.elsewhere, r.side(view.reply, false), now.target)
	case source:
		now.source = r.side(view.reply, true)
		if !view.reply {
			now.head = r.chosen(r.icmp(r.protocol), now.head, r.toSourcePort)
		}
	default:
		now.target = r.side(view.reply, false)
		r.elsewhere = not(r.same(now.target, view.target))
		if view.reply {
			now.second = r.chosen(r.icmp(r.protocol), now.second, r.sourcePort)
		}
	}
	if r.now = now; !source {
		r.within = now
	}
}

func sideOf(source bool) int {
	if source {
		return 1
	}
	return 0
}

// isMoved is where conntrack says by now that a connection's source, or its target, is another for who answers (IPS_SRC_NAT, IPS_DST_NAT).
func (r *run) isMoved(source bool) formula {
	if !r.translates {
		return never
	}
	is := r.moved(!source)
	switch {
	case r.view.state == stateRelated:
	case source: // a number that an echo has instead of ports may be another, too
		is = r.or(not(r.same(r.source, r.toSource)), r.choose(r.icmp(r.protocol), is, not(r.equalVectors(r.sourcePort, r.toSourcePort))))
	default:
		is = not(r.same(r.target, r.toTarget))
	}
	if r.view.state == stateNew && !r.settled[sideOf(source)] {
		return r.and(is, r.unanswered)
	}
	return is
}

// answers is the source or the target of a connection's answers, as conntrack expects them by now.
func (r *run) answers(source bool) vector {
	own, other := r.source, r.toSource
	if source {
		own, other = r.target, r.toTarget
	}
	if r.view.state == stateNew && !r.settled[sideOf(!source)] {
		return r.chosen(r.unanswered, other, own)
	}
	return other
}

// side is what the source or the target of a packet is behind its translation.
func (e *engine) side(reply, source bool) vector {
	switch {
	case source && reply:
		return e.target
	case source:
		return e.toSource
	case reply:
		return e.source
	}
	return e.toTarget
}

// moved is where the kernel counts a connection's target as translated, or its source.
func (e *engine) moved(target bool) formula {
	if target {
		return e.targetMoved
	}
	return e.sourceMoved
}

func (e *engine) chosen(where formula, yes, no vector) vector {
	out := make(vector, len(no))
	for i := range out {
		out[i] = e.choose(where, yes[i], no[i])
	}
	return out
}

// bind asks the chains about packets of connections that are not translated yet. Where no rule chooses, the address stays.
func (r *run) bind(chains []*chain, source bool) {
	r.bindings = nil
	rest := r.without(r.passes, r.unanswered)
	bound := never
	for _, c := range chains {
		enters := r.entering(c, rest)
		asked := len(r.bindings)
		passed := r.base(c, enters)
		for _, b := range r.bindings[asked:] {
			bound, passed = r.or(bound, b.where), r.without(passed, b.where)
		}
		rest = r.or(r.without(rest, enters), passed)
	}
	stays := r.same(r.toTarget, r.now.target)
	if source {
		stays = r.same(r.toSource, r.now.source)
	}
	list := make([]formula, len(r.bindings))
	for i, b := range r.bindings {
		list[i] = r.and(b.where, b.becomes)
	}
	chosen := r.or(r.any(list...), r.without(stays, bound))
	r.possible = r.and(r.possible, r.or(r.unanswered, chosen))
	r.passes = r.or(r.and(r.passes, r.unanswered), r.and(r.or(rest, bound), chosen))
}

// enterConntrack finds out to which zone's connections a packet may belong.
func (r *run) enterConntrack() {
	if !r.view.tracked {
		return
	}
	own := r.zone.read(r.diagrams, r.passes)
	r.zoned = r.equalVectors(own, r.connectionZone)
	r.possible, r.passes = r.and(r.possible, r.zoned), r.and(r.passes, r.zoned)
}

// route leaves those packets that are not for this box.
func (r *run) route() {
	local := r.localTarget()
	r.possible, r.passes = r.without(r.possible, local), r.without(r.passes, local)
}

// localTarget is where the target that a packet has by now is an address of this box.
func (r *run) localTarget() formula {
	if !r.translates {
		return r.targetLocal
	}
	return r.choose(r.elsewhere, r.movedLocal, r.targetLocal)
}

// step is a base chain, or all that translate at a hook, which the kernel asks together (nf_nat_register_fn).
type step struct {
	priority int
	chains   []*chain
	nat      bool
}

// Priorities of translation (linux/netfilter_ipv4.h): chains of type nat are asked there, whatever their own, in the order of these.
const (
	priorityTarget = -100
	prioritySource = 100
)
