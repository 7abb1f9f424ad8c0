package proof

import "fmt"

// formula is a set of packets, as a node of reduced ordered binary decision diagrams (Bryant 1986) with complement edges: the number of
// the node, and in the lowest bit whether its complement is meant. Equal sets have equal formulas.
type formula uint32

const (
	always formula = 0
	never  formula = 1
)

func not(f formula) formula { return f ^ 1 }

// node tests one variable. High is never a complement, so that a function and its complement share one node.
type node struct {
	level     uint32
	low, high formula
}

const (
	terminalLevel = 1 << 30
	chunkBits     = 16
	chunkSize     = 1 << chunkBits
	maxCache      = 1 << 21 // entries of 16 bytes
)

// tooLarge is thrown by diagrams that grow over their bound and caught by Prove.
type tooLarge struct{ nodes int }

func (e tooLarge) Error() string {
	return fmt.Sprintf("the proof needs more than %d nodes of decision diagrams, which many devices take, those that translate (mapped, hide) above all: "+
		"let more boxes share the tunnels; until then shekara explain answers for single packets, by the documents", e.nodes)
}

// diagrams hold all nodes. Nothing is ever freed: a Prover that has too many begins anew.
type diagrams struct {
	chunks [][]node
	count  uint32
	limit  int
	table  []uint32 // open addressing; 0: free, as node 0 is the terminal and never looked for
	cache  []operation
}

type operation struct{ f, g, h, result formula }

func newDiagrams(limit int) *diagrams {
	d := &diagrams{limit: limit, table: make([]uint32, 1<<12), cache: make([]operation, 1<<12)}
	d.chunks = [][]node{make([]node, chunkSize)}
	d.chunks[0][0] = node{level: terminalLevel}
	d.count = 1
	return d
}

func (d *diagrams) at(f formula) *node {
	i := f >> 1
	return &d.chunks[i>>chunkBits][i&(chunkSize-1)]
}

func (d *diagrams) level(f formula) uint32 { return d.at(f).level }

// cofactors are f where the variable of a level is false, and where it is true. No level of f lies above it.
func (d *diagrams) cofactors(f formula, level uint32) (low, high formula) {
	n := d.at(f)
	if n.level != level {
		return f, f
	}
	return n.low ^ f&1, n.high ^ f&1
}

func (d *diagrams) variable(level int) formula { return d.make(uint32(level), never, always) }

// make is the one node for a test, found or made.
func (d *diagrams) make(level uint32, low, high formula) formula {
	if low == high {
		return low
	}
	if high&1 != 0 {
		return not(d.make(level, not(low), not(high)))
	}
	mask := uint32(len(d.table) - 1)
	slot := hash(level, uint32(low), uint32(high)) & mask
	for ; d.table[slot] != 0; slot = (slot + 1) & mask {
		n := d.at(formula(d.table[slot]) << 1)
		if n.level == level && n.low == low && n.high == high {
			return formula(d.table[slot]) << 1
		}
	}
	if int(d.count) >= d.limit {
		panic(tooLarge{d.limit})
	}
	if d.count&(chunkSize-1) == 0 {
		d.chunks = append(d.chunks, make([]node, chunkSize))
	}
	made := d.count
	d.count++
	*d.at(formula(made) << 1) = node{level, low, high}
	d.table[slot] = made
	if int(d.count) > len(d.table)/2 {
		d.grow()
	}
	return formula(made) << 1
}

func (d *diagrams) grow() {
	d.table = make([]uint32, 2*len(d.table))
	mask := uint32(len(d.table) - 1)
	for i := uint32(1); i < d.count; i++ {
		n := d.at(formula(i) << 1)
		slot := hash(n.level, uint32(n.low), uint32(n.high)) & mask
		for ; d.table[slot] != 0; slot = (slot + 1) & mask {
		}
		d.table[slot] = i
	}
	if len(d.cache) < maxCache {
		known := d.cache
		d.cache = make([]operation, 2*len(known))
		for _, o := range known {
			d.cache[hash(uint32(o.f), uint32(o.g), uint32(o.h))&uint32(len(d.cache)-1)] = o
		}
	}
}

func hash(a, b, c uint32) uint32 {
	h := uint64(a)*0x9e3779b97f4a7c15 ^ uint64(b)*0xc2b2ae3d27d4eb4f ^ uint64(c)*0x165667b19e3779f9
	return uint32(h>>32) ^ uint32(h>>15)
}

func (d *diagrams) and(f, g formula) formula {
	if f > g {
		f, g = g, f
	}
	return d.choose(f, g, never)
}

func (d *diagrams) or(f, g formula) formula { return not(d.and(not(f), not(g))) }

func (d *diagrams) without(f, g formula) formula { return d.and(f, not(g)) }

func (d *diagrams) implies(f, g formula) bool { return d.without(f, g) == never }

func (d *diagrams) all(list ...formula) formula {
	out := always
	for i := len(list) - 1; i >= 0; i-- { // from the bottom: lists are written in the order of the variables
		out = d.and(list[i], out)
	}
	return out
}

// any joins by halves, so that n sorted sets cost n log n.
func (d *diagrams) any(list ...formula) formula {
	switch len(list) {
	case 0:
		return never
	case 1:
		return list[0]
	}
	return d.or(d.any(list[:len(list)/2]...), d.any(list[len(list)/2:]...))
}

// choose is "if f then g else h".
func (d *diagrams) choose(f, g, h formula) formula {
	switch {
	case f == always:
		return g
	case f == never:
		return h
	}
	switch {
	case g == f:
		g = always
	case g == not(f):
		g = never
	}
	switch {
	case h == f:
		h = never
	case h == not(f):
		h = always
	}
	switch {
	case g == h:
		return g
	case g == always && h == never:
		return f
	case g == never && h == always:
		return not(f)
	}
	if f&1 != 0 {
		f, g, h = not(f), h, g
	}
	negated := g & 1
	g, h = g^negated, h^negated
	slot := hash(uint32(f), uint32(g), uint32(h)) & uint32(len(d.cache)-1)
	if c := &d.cache[slot]; c.f == f && c.g == g && c.h == h && f != 0 {
		return c.result ^ negated
	}
	level := min(d.level(f), d.level(g), d.level(h))
	f0, f1 := d.cofactors(f, level)
	g0, g1 := d.cofactors(g, level)
	h0, h1 := d.cofactors(h, level)
	result := d.make(level, d.choose(f0, g0, h0), d.choose(f1, g1, h1))
	d.cache[hash(uint32(f), uint32(g), uint32(h))&uint32(len(d.cache)-1)] = operation{f, g, h, result}
	return result ^ negated
}

// Operations on two formulas share the cache with choose, whose third is never one of these.
const (
	existsOf formula = ^formula(0) - iota
	withinOf
	renamedOf
)

func (d *diagrams) known(f, g, kind formula) (formula, bool) {
	c := &d.cache[hash(uint32(f), uint32(g), uint32(kind))&uint32(len(d.cache)-1)]
	return c.result, c.f == f && c.g == g && c.h == kind
}

func (d *diagrams) keep(f, g, kind, result formula) formula {
	d.cache[hash(uint32(f), uint32(g), uint32(kind))&uint32(len(d.cache)-1)] = operation{f, g, kind, result}
	return result
}

// exists is f with some variables forgotten: those of a conjunction.
func (d *diagrams) exists(f, forget formula) formula {
	if f <= never {
		return f
	}
	level := d.level(f)
	for d.level(forget) < level {
		forget = d.at(forget).high
	}
	if forget == always {
		return f
	}
	if known, ok := d.known(f, forget, existsOf); ok {
		return known
	}
	low, high := d.cofactors(f, level)
	var out formula
	if d.level(forget) == level {
		rest := d.at(forget).high
		if out = d.exists(low, rest); out != always {
			out = d.or(out, d.exists(high, rest))
		}
	} else {
		out = d.make(level, d.exists(low, forget), d.exists(high, forget))
	}
	return d.keep(f, forget, existsOf, out)
}

// within is some function that equals f wherever care holds, and tends to be smaller (the restrict of Coudert and Madre, 1990).
func (d *diagrams) within(f, care formula) formula {
	if f <= never || care <= never {
		return f
	}
	if known, ok := d.known(f, care, withinOf); ok {
		return known
	}
	level, own := d.level(care), d.level(f)
	var out formula
	switch low, high := d.cofactors(care, level); {
	case level < own:
		out = d.within(f, d.or(low, high))
	case level == own && low == never:
		_, f1 := d.cofactors(f, own)
		out = d.within(f1, high)
	case level == own && high == never:
		f0, _ := d.cofactors(f, own)
		out = d.within(f0, low)
	default:
		c0, c1 := d.cofactors(care, own)
		f0, f1 := d.cofactors(f, own)
		out = d.make(own, d.within(f0, c0), d.within(f1, c1))
	}
	return d.keep(f, care, withinOf, out)
}

// renamed is f with variables for those of other levels, in the same order. Diagrams have one renaming.
func (d *diagrams) renamed(f formula, to []uint32) formula {
	if f <= never {
		return f
	}
	if known, ok := d.known(f, f, renamedOf); ok {
		return known
	}
	level := d.level(f)
	low, high := d.cofactors(f, level)
	return d.keep(f, f, renamedOf, d.make(to[level], d.renamed(low, to), d.renamed(high, to)))
}

// assignment is one value of each variable, by level.
type assignment []bool

// holds says whether one packet is in the set.
func (d *diagrams) holds(f formula, a assignment) bool {
	for f > never {
		level := d.level(f)
		low, high := d.cofactors(f, level)
		if f = low; a[level] {
			f = high
		}
	}
	return f == always
}

// pick is one packet of a set that is not empty; variables that do not matter are false.
func (d *diagrams) pick(f formula, variables int) assignment {
	a := make(assignment, variables)
	for f > never {
		level := d.level(f)
		low, high := d.cofactors(f, level)
		if f = low; low == never {
			f, a[level] = high, true
		}
	}
	return a
}

// vector is a number whose bits are functions of the packet, the highest first.
type vector []formula

// equal is where a vector has a value. The value's bits are right-aligned.
func (d *diagrams) equal(v vector, is number) formula {
	out := always
	for i := len(v) - 1; i >= 0; i-- {
		if bit := v[i]; is.bit(len(v) - 1 - i) {
			out = d.and(bit, out)
		} else {
			out = d.and(not(bit), out)
		}
	}
	return out
}

// atLeast is where a vector is a value or more.
func (d *diagrams) atLeast(v vector, least number) formula {
	out := always
	for i := len(v) - 1; i >= 0; i-- {
		if least.bit(len(v) - 1 - i) {
			out = d.and(v[i], out)
		} else {
			out = d.or(v[i], out)
		}
	}
	return out
}

// between is where a vector is in a range, ends included.
func (d *diagrams) between(v vector, low, high number) formula {
	if low == high {
		return d.equal(v, low)
	}
	out := d.atLeast(v, low)
	if next, overflow := high.next(); !overflow && (len(v) == 128 || next.high == 0 && (len(v) >= 64 || next.low>>len(v) == 0)) {
		out = d.without(out, d.atLeast(v, next))
	}
	return out
}

// prefix is where the leading bits of a vector are those of a value of its width.
func (d *diagrams) prefix(v vector, of number, length int) formula {
	out := always
	for i := length - 1; i >= 0; i-- {
		if of.bit(len(v) - 1 - i) {
			out = d.and(v[i], out)
		} else {
			out = d.and(not(v[i]), out)
		}
	}
	return out
}

// value is what a vector is for one packet.
func (d *diagrams) value(v vector, a assignment) (n number) {
	for _, bit := range v {
		n = n.shifted(d.holds(bit, a))
	}
	return n
}

// constant is a vector that is the same for all packets.
func constantVector(n number, width int) vector {
	v := make(vector, width)
	for i := range v {
		if v[i] = never; n.bit(width - 1 - i) {
			v[i] = always
		}
	}
	return v
}
