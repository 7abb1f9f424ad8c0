package proof

import (
	"cmp"
	"slices"
)

// inOrder throws where two chains of one priority are asked about the same packets and their order matters: if both write, or one reads what the
// other writes. Else a packet passes if both let it, and only what is dropped may have been marked before.
func inOrder(list []*chain) {
	for i, c := range list {
		for _, other := range list[:i] {
			apart := c.family != other.family && c.family != "inet" && other.family != "inet"
			if !apart && other.priority == c.priority && (writes(c) && (writes(other) || reads(other)) || writes(other) && reads(c)) {
				panic(unmodelled{c.place() + ": which of two chains of one priority sets marks or addresses first is not known"})
			}
		}
	}
}

// byPriority sorts as packets meet them; of one priority those that write first, as what they write may stay though the other drops the packet.
func byPriority(list []step) {
	writer := func(s step) int {
		if !s.nat && writes(s.chains[0]) {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(list, func(x, y step) int { return cmp.Or(x.priority-y.priority, writer(x)-writer(y)) })
}

// writes says whether a chain, or one that it leads to, sets a mark or an address.
func writes(c *chain) (found bool) {
	visitRules(c, map[*chain]bool{}, func(_ *rule, s *statement) { found = found || s.assign != nil || s.translation != nil })
	return found
}

// reads says whether a chain, or one that it leads to, asks for what rules write.
func reads(c *chain) (found bool) {
	ask := func(list ...expression) {
		for _, e := range list {
			found = found || e.field == metaMark || e.field == ctMark || e.field == ctZone
		}
	}
	visitRules(c, map[*chain]bool{}, func(_ *rule, s *statement) {
		switch {
		case s.match != nil:
			ask(s.match.key...)
		case s.choice != nil:
			ask(s.choice.key...)
		case s.assign != nil:
			found = true
		case s.translation != nil:
			found = true
		}
	})
	return found
}

// routedOnce throws where a chain marks what this box sends otherwise than it came: that is routed anew, and may leave by another interface
// (ipt_mangle_out, nf_route_table_hook4).
func (r *run) routedOnce(c *chain, passes formula, before vector) {
	for i, bit := range r.mark.read(r.diagrams, passes) {
		if other := r.and(passes, r.choose(before[i], not(bit), bit)); other != never {
			panic(unmodelled{c.place() + ": it marks packets of this box, which are then routed anew"})
		}
	}
}
