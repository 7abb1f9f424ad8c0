package proof

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sort"
	"strings"
)

// all stands for all elements of a set, where find is asked for some of them.
const all = -1

// find is where a key is among the elements of a set: all; of a verdict map those of a group; of a map to marks those whose mark has a bit.
// A set of thousands is found in one pass from the leaves up, not by as many unions.
func (e *engine) find(key []vector, s *set, part int) formula {
	name := make([]byte, 0, 256)
	name = append(append(name, s.id...), byte(part), byte(part>>8))
	for _, v := range key {
		for _, bit := range v {
			name = binary.LittleEndian.AppendUint32(name, uint32(bit))
		}
		name = binary.LittleEndian.AppendUint32(name, 1<<31) // no formula
	}
	if known, ok := e.found[string(name)]; ok {
		return known
	}
	var exact, others []*element
	for _, original := range s.part(part) {
		for _, element := range e.numbered(original) {
			if slices.ContainsFunc(element.key, func(s span) bool { return s.low != s.high }) {
				others = append(others, element)
			} else {
				exact = append(exact, element)
			}
		}
	}
	// Sorted, so that halves have little in common and their union costs little.
	slices.SortStableFunc(others, func(x, y *element) int {
		for i := range x.key {
			if x.key[i].low != y.key[i].low {
				return map[bool]int{true: -1, false: 1}[x.key[i].low.less(y.key[i].low)]
			}
		}
		return 0
	})
	list := make([]formula, len(others))
	for i, element := range others {
		list[i] = e.oneElement(key, element)
	}
	out := e.or(e.any(list...), e.exact(key, s, part, exact))
	e.found[string(name)] = out
	return out
}

// part are some elements of a set, as find says.
func (s *set) part(part int) []*element {
	switch {
	case s.leads == "verdict" && part != all:
		return s.groups[part].elements
	}
	var out []*element
	for i := range s.elements {
		if part == all || s.elements[i].data.bit(part) {
			out = append(out, &s.elements[i])
		}
	}
	return out
}

// numbered is an element with the numbers of interfaces for their names: as many elements as interfaces match.
func (e *engine) numbered(original *element) []*element {
	out := []*element{original}
	for i, s := range original.key {
		if s.kind != named {
			continue
		}
		var next []*element
		for _, element := range out {
			for _, n := range e.numbers(s.name) {
				key := slices.Clone(element.key)
				key[i] = span{low: small(uint64(n)), high: small(uint64(n))}
				next = append(next, element.withKey(key))
			}
		}
		out = next
	}
	return out
}

func (e *element) withKey(key []span) *element {
	out := *e
	out.key = key
	return &out
}

func (e *engine) oneElement(key []vector, element *element) formula {
	out := always
	for i := len(key) - 1; i >= 0; i-- {
		out = e.and(e.between(key[i], element.key[i].low, element.key[i].high), out)
	}
	return out
}

// column is one bit of a concatenated key.
type column struct {
	part, bit int // which bit of which part, counted from its lowest
	is        formula
	level     uint32
	plain     bool // is a variable itself
}

// plain says whether a formula is a variable itself.
func (e *engine) plain(f formula) bool {
	n := e.at(f)
	return f > never && f&1 == 0 && n.low == never && n.high == always
}

// exact builds the diagram of exact elements. Columns that are functions (a mark that rules wrote) come first; below them, those that are
// variables, in their order, so that each node is made once. What is below depends on the set alone and is kept for the next class.
func (e *engine) exact(key []vector, s *set, part int, elements []*element) formula {
	var fixed, columns []column
	for part, v := range key {
		for i, bit := range v {
			c := column{part: part, bit: len(v) - 1 - i, is: bit}
			if bit <= never {
				fixed = append(fixed, c)
				continue
			}
			c.level, c.plain = e.level(bit), e.plain(bit)
			columns = append(columns, c)
		}
	}
	slices.SortStableFunc(columns, func(x, y column) int {
		if x.plain != y.plain {
			return map[bool]int{false: -1, true: 1}[x.plain]
		}
		return int(x.level) - int(y.level)
	})
	computed := 0
	layout := make([]byte, 0, 8*len(columns))
	for _, c := range columns {
		if !c.plain {
			computed++
		}
		layout = binary.LittleEndian.AppendUint32(append(layout, byte(c.part), byte(c.bit)), c.level)
	}
	for _, c := range fixed {
		layout = append(layout, byte(c.part), byte(c.bit), byte(c.is))
	}
	rows := rowsOf(elements, fixed, columns)
	b := &builder{engine: e, columns: columns, computed: computed, kept: keptAs(s, part, layout)}
	return b.build(rows, 0)
}

// keptAs is a short name for what the lower parts of a set's diagram depend on.
func keptAs(s *set, part int, layout []byte) string {
	sum := sha256.Sum256(fmt.Append(nil, s.id, part, "|", string(layout)))
	return string(sum[:])
}

// row is an element with one byte for each column, and what holds where all its bits do.
type row struct {
	bits string
	leaf formula
}

// rowsOf are the elements as rows, sorted. Elements that differ from a fixed bit match nothing.
func rowsOf(elements []*element, fixed, columns []column) []row {
	rows := make([]row, 0, len(elements))
	bits := make([]byte, len(columns))
elements:
	for _, element := range elements {
		for _, c := range fixed {
			if element.key[c.part].low.bit(c.bit) != (c.is == always) {
				continue elements
			}
		}
		for i, c := range columns {
			if bits[i] = '0'; element.key[c.part].low.bit(c.bit) {
				bits[i] = '1'
			}
		}
		rows = append(rows, row{string(bits), always})
	}
	sortRows(rows)
	return rows
}

func sortRows(rows []row) {
	slices.SortFunc(rows, func(x, y row) int { return strings.Compare(x.bits, y.bits) })
}

type builder struct {
	engine   *engine
	columns  []column
	computed int
	kept     string // under which name lower parts are kept; "": they are not
}

func (b *builder) build(rows []row, depth int) formula {
	if len(rows) == 0 {
		return never
	}
	if depth == len(b.columns) {
		out := never
		for _, r := range rows {
			out = b.engine.or(out, r.leaf)
		}
		return out
	}
	if depth == b.computed && b.kept != "" {
		name := b.kept + rows[0].bits[:depth]
		if f, known := b.engine.lower[name]; known {
			return f
		}
		f := b.split(rows, depth)
		b.engine.lower[name] = f
		return f
	}
	return b.split(rows, depth)
}

func (b *builder) split(rows []row, depth int) formula {
	ones := sort.Search(len(rows), func(i int) bool { return rows[i].bits[depth] == '1' })
	low, high := b.build(rows[:ones], depth+1), b.build(rows[ones:], depth+1)
	c, d := b.columns[depth], b.engine.diagrams
	if c.plain && c.level < d.level(low) && c.level < d.level(high) {
		return d.make(c.level, low, high)
	}
	return d.choose(c.is, high, low)
}

// permission is a set of addresses, of one vector or of two, and what else must hold there: zero, nothing.
type permission struct {
	first, second netip.Prefix // of one family; second is not valid where there is one vector
	protocol      formula      // of variables above the addresses: there are few of them
	ports         formula      // of variables below
}

// permitted is the union of permissions. Those of a protocol with prefixes of the same lengths are built in one pass.
func (e *engine) permitted(first, second vector, list []permission) formula {
	type shape struct {
		is4           bool
		first, second int
		protocol      formula
	}
	groups := map[shape][]permission{}
	for _, p := range list {
		s := shape{p.first.Addr().Is4(), p.first.Bits(), max(0, p.second.Bits()), p.protocol}
		groups[s] = append(groups[s], p)
	}
	shapes := slices.SortedFunc(maps.Keys(groups), func(x, y shape) int {
		return cmp.Or(cmp.Compare(x.protocol, y.protocol), x.first-y.first, x.second-y.second)
	})
	var four, six []formula
	for _, s := range shapes {
		list := groups[s]
		var columns []column
		for part, v := range []vector{first[:s.first], second[:s.second]} {
			for i, bit := range v {
				columns = append(columns, column{part: part, bit: i, is: bit, level: e.level(bit), plain: e.plain(bit)})
			}
		}
		slices.SortFunc(columns, func(x, y column) int { return int(x.level) - int(y.level) })
		rows := make([]row, len(list))
		bits := make([]byte, len(columns))
		for i, p := range list {
			bytes := [2][]byte{p.first.Addr().AsSlice(), p.second.Addr().AsSlice()}
			for j, c := range columns {
				bits[j] = '0' + bytes[c.part][c.bit/8]>>(7-c.bit%8)&1
			}
			rows[i] = row{string(bits), p.ports}
		}
		sortRows(rows)
		b := &builder{engine: e, columns: columns}
		if f := e.and(s.protocol, b.build(rows, 0)); s.is4 {
			four = append(four, f)
		} else {
			six = append(six, f)
		}
	}
	return e.choose(e.version6, e.any(six...), e.any(four...))
}
