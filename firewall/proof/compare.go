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
	notice := func(r *rule, a *assign) {
		if a.from != nil && a.from.field == ctMark {
			panic(unmodelled{fmt.Sprintf("table %s %s, chain %s, handle %d: %s: a mark made from a connection's mark",
				r.chain.family, r.chain.table, r.chain.name, r.handle, r.text)})
		}
		if a.to != ctMark {
			return
		}
		add(a.afterZero())
		if a.set != nil {
			for _, e := range a.set.elements {
				add(e.data.low)
			}
		}
	}
	for _, hook := range []string{"prerouting", "input", "forward", "output", "postrouting"} {
		for _, c := range p.hooked(hook) {
			visit(c, visited, notice)
		}
	}
	// Where no flow is loaded nothing leads to the chain that writes our marks, and its generation is no less the present one.
	for _, c := range p.ruleset.inner {
		visit(c, visited, notice)
	}
	p.stale = p.or(not(current), p.equal(p.connectionMark, number{}))
}

// afterZero is what is written where the packet's mark is zero.
func (a *assign) afterZero() uint64 {
	n := a.value.low
	if a.from != nil {
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
	return n
}

// visit walks through all rules that set a mark in a chain and those that it leads to.
func visit(c *chain, seen map[*chain]bool, do func(*rule, *assign)) {
	if c == nil || seen[c] {
		return
	}
	seen[c] = true
	for _, r := range c.rules {
		for _, s := range r.statements {
			switch {
			case s.assign != nil:
				do(r, s.assign)
			case s.verdict != nil:
				visit(s.verdict.target, seen, do)
			case s.choice != nil:
				for _, e := range s.choice.set.elements {
					visit(e.verdict.target, seen, do)
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
				v.domain = p.all(valid(v.input), valid(v.output), not(p.targetLocal), v.domain)
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
	out := never
	for _, r := range runs {
		for _, w := range r.writes {
			// Only the pairs of interfaces that occur: each has a mark of its own, and all pairs of hundreds of devices would be millions.
			same := p.exists(w.where, p.notInterfaces)
			for i := len(w.value) - 1; i >= 0; i-- {
				same = p.and(same, p.choose(p.writtenMark[i], w.value[i], not(w.value[i])))
			}
			relation := p.renamed(p.exists(p.and(w.where, same), p.ofOnePacket), p.toConnection)
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
	for _, path := range []string{"forward", "input", "output"} {
		for _, class := range allClasses {
			r := p.runs[[2]string{path, class}]
			can := r.view.domain
			if r.view.tracked {
				can = p.and(can, possible[[2]string{path, class}])
			}
			p.check(path, r, can, p.bounds(path, r.view, through))
			p.checkLimits(path, r, can)
		}
	}
}

// bounds are what of a class may pass at most, and what must pass. They differ only in ICMP errors and in answers to this box.
type bounds struct{ most, least, genuine formula }

func (p *comparison) bounds(path string, v *view, through formula) bounds {
	a := p.allowed
	var b bounds
	switch path {
	case "forward":
		b = p.forwardBounds(v, through)
		b.genuine = a.genuine(v)
	case "input":
		b = p.inputBounds(v)
		b.genuine = a.genuine(v)
		loopback := a.at(v.input, "lo")
		ports, registered := a.tunnelPorts(v)
		for _, side := range []*formula{&b.most, &b.least} {
			*side = p.choose(loopback, always, p.choose(ports, registered, *side))
		}
	default:
		b = p.outputBounds(v)
		b.genuine = always
	}
	b.most, b.least = p.and(b.most, b.genuine), p.and(b.least, b.genuine)
	return b
}

// services forgets protocol and ports: an error is about a connection whatever it carries.
func (p *comparison) services(f formula) formula {
	return p.exists(f, p.ofService)
}

func (p *comparison) forwardBounds(v *view, through formula) bounds {
	switch v.name {
	case classNew, classOriginal, classReply:
		return bounds{most: p.allowed.forward, least: p.allowed.forward}
	case classErrorOriginal, classErrorReply:
		// What rules marked as judged between these two interfaces: errors about it pass. Those about a connection that was not judged
		// since the last removal may be dropped (package firewall, Limits).
		fresh := p.and(p.services(p.and(through, p.allowed.forward)), p.allowed.pathErrors(v))
		return bounds{most: p.services(p.allowed.forward), least: fresh}
	}
	return bounds{never, never, never}
}

func (p *comparison) inputBounds(v *view) bounds {
	a := p.allowed
	var b bounds
	switch v.name {
	case classNew, classOriginal:
		b.most = p.or(a.inward, a.management(v))
		b.least = b.most
	case classReply:
		// This box may speak to its zones, so their answers may come; a mark on such a connection is none of ours.
		zones := a.at(v.input, a.zoneLinks...)
		b.most = p.or(zones, a.onward)
		b.least = p.or(p.and(zones, p.equal(p.connectionMark, number{})), a.onward)
	case classErrorOriginal, classErrorReply:
		admitted := a.inward
		if v.reply {
			admitted = p.or(a.onward, a.at(p.to, a.zoneLinks...))
		}
		b.least = a.pathErrors(v)
		b.most = p.or(b.least, p.services(admitted))
	case classInvalid:
		return bounds{never, never, never}
	default:
		b.most, b.least = never, never
	}
	neighbours := a.neighbours(v)
	b.most, b.least = p.or(b.most, neighbours), p.or(b.least, neighbours)
	return b
}

// outputBounds: sealed packets leave from their device's address and not into a tunnel; into a tunnel goes what flows and probes say; to
// zones this box may speak, but for what belongs to one that is behind tunnels alone.
func (p *comparison) outputBounds(v *view) bounds {
	a := p.allowed
	b := bounds{most: never, least: never}
	switch v.name {
	case classNew, classOriginal:
		b.most, b.least = a.onward, a.onward
	case classReply:
		b.most, b.least = a.inward, a.inward
	case classErrorOriginal, classErrorReply:
		admitted := a.onward
		if v.reply {
			admitted = a.inward
		}
		b.least = a.pathErrors(v)
		b.most = p.or(b.least, p.services(admitted))
	}
	into, elsewhere := a.at(v.output, a.deviceLinks...), not(a.farAlone(v.target))
	marked, sealed := never, never
	for _, d := range a.policy.Devices {
		if d.Mark != 0 {
			is := p.equal(p.packetMark, small(uint64(d.Mark)))
			marked = p.or(marked, is)
			sealed = p.or(sealed, p.all(not(into), is, a.is(v.source, d.LocalIP)))
		}
	}
	for _, side := range []*formula{&b.most, &b.least} {
		*side = p.choose(a.at(v.output, "lo"), always, p.choose(marked, sealed, p.choose(into, *side, elsewhere)))
	}
	return b
}

// check notes one witness for what passes wrongly, one for what passes though spoofed, and one for what is stopped wrongly.
func (p *comparison) check(path string, r *run, can formula, b bounds) {
	for _, c := range []struct {
		kind  Kind
		wrong formula
	}{
		{PassesSpoofed, p.without(r.passes, b.genuine)},
		{PassesWrongly, p.and(p.without(r.passes, b.most), b.genuine)},
		{IsStopped, p.without(p.and(b.least, r.view.domain), r.passes)},
	} {
		// Which marks there can be is asked last: it is about the flows of all places, and what is wrong about those of few. None is one
		// that every connection can have.
		if unmarked := p.and(c.wrong, p.equal(p.connectionMark, number{})); unmarked != never {
			c.wrong = unmarked
		} else {
			c.wrong = p.and(c.wrong, can)
		}
		if c.wrong != never {
			p.violations = append(p.violations, p.violation(path, r, c.kind, c.wrong))
		}
	}
}
