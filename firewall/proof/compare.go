package proof

import (
	"fmt"
)

// generationMask is the part of a connection's mark that says under which generation of rules it was judged (package firewall). Marks of
// other generations may be on any connection: rules that are no longer loaded wrote them, and nobody knows for what.
const generationMask = 0xfff

// comparison of each path and class of packets with the policy.
type comparison struct {
	*evaluation
	allowed    *allowed
	stale      formula // of connectionMark: those of another generation, and none
	runs       map[[2]string]*run
	violations []Violation
}

// findStale finds the generations that rules write, or would. A mark that is made from a connection's mark cannot be traced.
func (p *comparison) findStale() {
	current := never
	seen := map[uint64]bool{}
	add := func(n uint64) {
		if n &= generationMask; !seen[n] {
			seen[n] = true
			current = p.or(current, p.equal(p.connectionMark[20:], small(n)))
		}
	}
	visited := map[*chain]bool{}
	notice := func(r *rule, s *statement) {
		a := s.assign
		if a == nil {
			return
		}
		if a.from != nil && a.from.field == ctMark && a.keep == (number{}) {
			panic(unmodelled{fmt.Sprintf("table %s %s, chain %s, handle %d: %s: a mark made from a connection's mark",
				r.chain.family, r.chain.table, r.chain.name, r.handle, r.text)})
		}
		if a.to != ctMark {
			return
		}
		add(a.after(r.markBefore()))
		if a.set != nil {
			for _, e := range a.set.elements {
				add(e.data.low)
			}
		}
	}
	for _, hook := range []string{"prerouting", "input", "forward", "output", "postrouting"} {
		for _, s := range p.hooked(hook) {
			for _, c := range s.chains {
				visitRules(c, visited, notice)
			}
		}
	}
	// Where no flow is loaded nothing leads to the chain that writes our marks, and its generation is no less the present one.
	for _, c := range p.ruleset.inner {
		visitRules(c, visited, notice)
	}
	p.stale = p.or(not(current), p.equal(p.connectionMark, number{}))
}

// markBefore is the packet's mark where a rule writes the connection's, if it was zero and other rules of the chain have set it.
func (r *rule) markBefore() (mark uint64) {
	for _, other := range r.chain.rules {
		if other == r {
			break
		}
		if len(other.statements) != 1 {
			continue
		}
		if a := other.statements[0].assign; a != nil && a.to == metaMark && a.set == nil && (a.from == nil || a.from.field == metaMark) {
			mark = a.after(mark)
		}
	}
	return mark
}

// after is what is written where the packet's mark is so.
func (a *assign) after(mark uint64) uint64 {
	n := a.value.low
	if a.from != nil {
		n = mark
		for _, o := range a.from.operations {
			switch o.sign {
			case '&':
				n &= o.value.low
			case '|':
				n |= o.value.low
			case '^':
				n ^= o.value.low
			}
		}
	}
	return n ^ mark&a.keep.low
}

// visitRules walks through all statements of a chain and those that it leads to.
func visitRules(c *chain, seen map[*chain]bool, do func(*rule, *statement)) {
	if c == nil || seen[c] {
		return
	}
	seen[c] = true
	for _, r := range c.rules {
		for i := range r.statements {
			s := &r.statements[i]
			do(r, s)
			switch {
			case s.verdict != nil:
				visitRules(s.verdict.target, seen, do)
			case s.choice != nil:
				for _, e := range s.choice.set.elements {
					visitRules(e.verdict.target, seen, do)
				}
			}
		}
	}
}

// evaluate lets every class of packets pass every path.
func (p *comparison) evaluate() {
	p.findStale()
	p.runs = map[[2]string]*run{}
	valid := func(v vector) formula {
		return p.between(v, small(1), small(uint64(len(p.interfaces)-1)))
	}
	none := func(v vector) formula { return p.equal(v, number{}) }
	for _, path := range []string{"forward", "input", "output"} {
		for _, class := range allClasses {
			v := p.class(class)
			switch path {
			case "forward":
				own := p.without(p.sourceLocal, p.version6) // the kernel lets none in (fib_validate_source)
				v.domain = p.without(p.all(valid(v.input), valid(v.output), not(p.targetLocal), v.domain), own)
			case "input":
				v.domain = p.all(valid(v.input), none(v.output), v.domain)
			case "output":
				v.domain = p.all(none(v.input), valid(v.output), v.domain)
			}
			p.runs[[2]string{path, class}] = p.follow(path, v)
		}
	}
}

// written are the marks, with the connections and interfaces, that rules write in some runs.
func (p *comparison) written(runs ...*run) formula {
	out, forgotten := never, p.ofOnePacket
	if p.allowed.byTarget { // a mark is of a connection with what stands instead of its addresses: these stay as long as it lives
		forgotten = p.ofOnePacketAlone
	}
	for _, r := range runs {
		for _, w := range r.writes {
			// Only the pairs of interfaces that occur: each has a mark of its own, and all pairs of hundreds of devices would be millions.
			same := p.exists(w.where, p.notInterfaces)
			for i := len(w.value) - 1; i >= 0; i-- {
				same = p.and(same, p.choose(p.writtenMark[i], w.value[i], not(w.value[i])))
			}
			relation := p.renamed(p.exists(p.and(w.where, same), forgotten), p.toConnection)
			// The connection of an echo has no checksum.
			relation = p.choose(p.icmp(p.protocol), p.exists(relation, p.ofTargetPort), relation)
			out = p.or(out, relation)
		}
	}
	return out
}

// compare asks of each path and class whether what passes is what the policy allows: nothing more, and nothing less.
func (p *comparison) compare() {
	of := func(path string, classes ...string) (list []*run) {
		for _, class := range classes {
			list = append(list, p.runs[[2]string{path, class}])
		}
		return list
	}
	// A connection lives on one of three ways: through this box, to it, or from it. The mark on it was written there.
	through := p.written(of("forward", allClasses...)...)
	inward := p.written(append(of("input", classNew, classOriginal, classErrorOriginal), of("output", classReply, classErrorReply)...)...)
	onward := p.written(append(of("output", classNew, classOriginal, classErrorOriginal), of("input", classReply, classErrorReply)...)...)
	interfaces := func(f formula) formula {
		return p.or(p.stale, p.exists(f, p.ofInterfaces))
	}
	possible := map[[2]string]formula{}
	for _, class := range allClasses {
		possible[[2]string{"forward", class}] = interfaces(through)
		possible[[2]string{"input", class}], possible[[2]string{"output", class}] = interfaces(inward), interfaces(onward)
		if p.runs[[2]string{"forward", class}].view.reply {
			possible[[2]string{"input", class}], possible[[2]string{"output", class}] = interfaces(onward), interfaces(inward)
		}
	}
	// Connections as the rules that are loaded now let them be opened, with zone and what stands instead of their addresses.
	entries := map[string]formula{}
	for _, path := range []string{"forward", "input", "output"} {
		if entries[path] = never; p.translates {
			entries[path] = p.exists(p.without(p.runs[[2]string{path, classNew}].passes, p.unanswered), p.ofOpening)
		}
	}
	for _, path := range []string{"forward", "input", "output"} {
		for _, class := range allClasses {
			r := p.runs[[2]string{path, class}]
			can := r.view.domain
			if r.view.tracked {
				can = p.and(can, possible[[2]string{path, class}])
			}
			b := p.bounds(path, r, through)
			b.translated = p.translation(path, r.view, entries["forward"])
			p.check(path, r, can, b)
			p.checkLimits(path, r, can)
			if opened := map[string]string{"forward": "forward", "input": "output", "output": "input"}[path]; p.translates && class == classReply {
				p.note(path, r, Estranged, p.without(p.all(p.byDevice(path), r.view.domain, b.least, entries[opened]), r.zoned), can)
			}
		}
	}
}

// bounds are what of a class may pass at most, and what must pass. They differ only in ICMP errors and in answers to this box, and where
// connections are translated.
type bounds struct {
	most, least formula
	genuine     formula // it has a source that may come by its interface
	hidden      formula // it leaves with a source that may be seen there
	translated  formula // what stands in it instead of the addresses with which its connection was opened is what the policy says
}

func (p *comparison) bounds(path string, r *run, through formula) bounds {
	a := p.allowed
	var b bounds
	switch v := r.view; path {
	case "forward":
		b = p.forwardBounds(v, through)
		b.genuine, b.hidden = a.genuine(v), a.hidden(r.now.output, r.now.source)
	case "input":
		v = &r.within
		b = p.inputBounds(v)
		b.genuine, b.hidden = a.genuine(r.view), always
		loopback := a.at(v.input, "lo")
		ports, registered := a.tunnelPorts(v)
		for _, side := range []*formula{&b.most, &b.least} {
			*side = p.choose(loopback, always, p.choose(ports, registered, *side))
		}
	default:
		b = p.outputBounds(v, &r.within)
		b.genuine, b.hidden = always, a.hidden(r.now.output, r.now.source)
	}
	b.most = p.all(b.most, b.genuine, b.hidden)
	if b.least = p.and(b.least, b.genuine); r.view.name != classNew {
		b.least = p.and(b.least, b.hidden)
	} else { // an opening one is hidden by the rules, as the policy says it shall be
		b.least = p.and(b.least, p.or(b.hidden, p.unbound()))
	}
	return b
}

// byDevice is where a connection goes by a device. This box's own addresses are not known here: what it says to its zones is left out, where
// its address may be any; by a device it says nothing from an address by which a far host is known.
func (p *comparison) byDevice(path string) formula {
	a, mapped := p.allowed, never
	if path == "input" {
		mapped, _ = a.mapped(p.source)
	}
	return p.without(p.or(a.at(p.from, a.deviceLinks...), a.at(p.to, a.deviceLinks...)), mapped)
}

// unbound is where a packet opens a connection that nothing has translated yet.
func (p *comparison) unbound() formula {
	if !p.translates {
		return always
	}
	return not(p.unanswered)
}

// translation is where what stands in a packet instead of its connection's addresses is what the policy says. An older connection may have
// been translated by other rules, of which nobody knows: what hides addresses sees to all, the rest to those that rules loaded now let in.
func (p *comparison) translation(path string, v *view, entries formula) formula {
	n := p.allowed.notations
	if !p.translates || !v.tracked {
		return always
	}
	lasts := always
	if path == "forward" {
		// It may arrive by any interface, but leaves by that of its connection, as routing has it.
		arrives := p.ofFrom
		if v.reply {
			arrives = p.ofTo
		}
		if entries = p.exists(entries, arrives); v.state == stateRelated {
			entries = p.services(entries)
		}
		lasts = p.or(not(entries), n.lasts)
	}
	switch {
	case v.state != stateNew:
		return lasts
	case path == "input":
		return p.any(p.unanswered, n.inward, p.and(n.astray, p.same(p.source, p.toSource)))
	}
	return p.choose(p.unanswered, lasts, p.or(n.onward, p.and(n.astray, n.seen)))
}

// services forgets protocol and ports: an error is about a connection whatever it carries.
func (p *comparison) services(f formula) formula {
	return p.exists(f, p.ofService)
}

// opens is what must pass of the packets of connections that may be opened, whether or not there is an answer yet.
func (p *comparison) opens(v *view, o opening) formula {
	if !p.translates || v.state != stateNew {
		return o.exact
	}
	opened := o.opened
	if p.allowed.byTarget { // what is led past the device of its mapped address is translated all the same, and stopped
		opened = p.without(opened, p.allowed.notations.astray)
	}
	return p.choose(p.unanswered, o.exact, opened)
}

func (p *comparison) forwardBounds(v *view, through formula) bounds {
	forward := p.allowed.forward
	switch v.name {
	case classNew, classOriginal, classReply:
		return bounds{most: forward.loose, least: p.opens(v, forward)}
	case classErrorOriginal, classErrorReply:
		// What rules marked as judged between these two interfaces: errors about it pass. Those about a connection that was not judged
		// since the last removal may be dropped (package firewall, Limits).
		fresh := p.and(p.services(p.and(through, forward.exact)), p.allowed.pathErrors(v))
		return bounds{most: p.services(forward.loose), least: fresh}
	}
	return bounds{most: never, least: never}
}

func (p *comparison) inputBounds(v *view) bounds {
	a := p.allowed
	var b bounds
	switch v.name {
	case classNew, classOriginal:
		management := a.management(v)
		b.most, b.least = p.or(a.inward.loose, management), p.or(p.opens(v, a.inward), management)
	case classReply:
		// This box may speak to its zones, so their answers may come; a mark on such a connection is none of ours.
		zones := a.at(v.input, a.zoneLinks...)
		b.most = p.or(zones, a.onward.loose)
		b.least = p.or(p.and(zones, p.equal(p.connectionMark, number{})), a.onward.exact)
	case classErrorOriginal, classErrorReply:
		admitted := a.inward.loose
		if v.reply {
			admitted = p.or(a.onward.loose, a.at(p.to, a.zoneLinks...))
		}
		b.least = a.pathErrors(v)
		b.most = p.or(b.least, p.services(admitted))
	case classInvalid:
		return bounds{most: never, least: never}
	default:
		b.most, b.least = never, never
	}
	neighbours := a.neighbours(v)
	b.most, b.least = p.or(b.most, neighbours), p.or(b.least, neighbours)
	return b
}

// outputBounds: sealed packets leave from their device's address and not into a tunnel; into a tunnel goes what flows and probes say; to
// zones this box may speak, but for what belongs to one that is behind tunnels alone. What goes to an address by which a far host is known
// here is never sealed: it goes by its tunnel.
func (p *comparison) outputBounds(v, within *view) bounds {
	a := p.allowed
	b := bounds{most: never, least: never}
	switch v.name {
	case classNew, classOriginal:
		b.most, b.least = a.onward.loose, p.opens(v, a.onward)
	case classReply:
		b.most, b.least = a.inward.loose, p.and(a.inward.exact, p.or(not(p.icmp(v.protocol)), p.equal(v.head[8:], number{}))) // as the request's
	case classErrorOriginal, classErrorReply:
		admitted := a.onward.loose
		if v.reply {
			admitted = a.inward.loose
		}
		b.least = a.pathErrors(v)
		b.most = p.or(b.least, p.services(admitted))
	}
	mapped, answering := a.mapped(v.target)
	far := a.farAlone(within.target)
	if a.byTarget { // before it is translated, if by rules that are gone
		if far = a.farAlone(v.target); v.state == stateNew {
			far = p.choose(p.unanswered, far, a.farAlone(within.target))
		}
	}
	into, elsewhere := a.at(v.output, a.deviceLinks...), not(p.any(far, mapped, answering))
	marked, sealed := never, never
	for _, d := range a.policy.Devices {
		if d.Mark != 0 {
			is := p.equal(p.packetMark, small(uint64(d.Mark)))
			marked = p.or(marked, is)
			sealed = p.or(sealed, p.all(not(into), is, a.is(v.source, d.LocalIP)))
		}
	}
	marked = p.without(marked, mapped)
	if p.ruleset.ofXTables() { // there a mark of somebody else's could not be told from ours (package firewall/iptables)
		if b.least = p.and(b.least, a.ownMarks(v)); p.translates { // nor what this box sends with an address that is not its own
			b.least = p.and(b.least, p.sourceLocal)
		}
	}
	for _, side := range []*formula{&b.most, &b.least} {
		*side = p.choose(a.at(v.output, "lo"), always, p.choose(marked, sealed, p.choose(into, *side, elsewhere)))
	}
	return b
}

// check notes one witness of each kind of what is wrong.
func (p *comparison) check(path string, r *run, can formula, b bounds) {
	for _, c := range []struct {
		kind  Kind
		wrong formula
	}{
		{PassesSpoofed, p.without(r.passes, b.genuine)},
		{ShowsHidden, p.and(p.without(r.passes, b.hidden), b.genuine)},
		{PassesWrongly, p.all(p.without(r.passes, b.most), b.genuine, b.hidden)},
		{Mistranslated, p.and(p.without(r.passes, b.translated), b.most)},
		{IsStopped, p.without(p.and(b.least, r.possible), r.passes)},
	} {
		p.note(path, r, c.kind, c.wrong, can)
	}
}

// note takes down one witness of what is wrong, if there is any. Which marks there can be is asked last: it is about the flows of all places,
// and what is wrong about those of few. None is one that every connection can have.
func (p *comparison) note(path string, r *run, kind Kind, wrong, can formula) {
	if unmarked := p.and(wrong, p.equal(p.connectionMark, number{})); unmarked != never {
		wrong = unmarked
	} else {
		wrong = p.and(wrong, can)
	}
	if wrong != never {
		p.violations = append(p.violations, p.violation(path, r, kind, wrong))
	}
}
