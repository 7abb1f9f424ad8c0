package proof

import (
	"encoding/binary"
	"slices"
	"strings"
)

// find is where a key is among the elements: of a set of thousands in one pass from the leaves up, not by as many unions. Elements chosen
// by a filter are found under a name of their own.
func (e *engine) find(key []vector, s *set, filter string, chosen func(*element) bool) formula {
	var exact, others []*element
	for i := range s.elements {
		if chosen != nil && !chosen(&s.elements[i]) {
			continue
		}
		for _, element := range e.numbered(&s.elements[i]) {
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
	return e.or(e.any(list...), e.exact(key, s, filter, exact))
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

// exact builds the diagram of exact elements. Columns that are functions (a mark that rules wrote) come first; below them, those that are
// variables, in their order, so that each node is made once. What is below depends on the set alone and is kept for the next class.
func (e *engine) exact(key []vector, s *set, filter string, elements []*element) formula {
	var fixed, columns []column
	for part, v := range key {
		for i, bit := range v {
			c := column{part: part, bit: len(v) - 1 - i, is: bit}
			if bit <= never {
				fixed = append(fixed, c)
				continue
			}
			n := e.at(bit)
			c.level, c.plain = n.level, bit&1 == 0 && n.low == never && n.high == always
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
	b := &builder{engine: e, columns: columns, computed: computed, kept: filter + "|" + s.name + "|" + string(layout)}
	if s.name == "" {
		b.kept = ""
	}
	return b.build(rows, 0)
}

// rowsOf writes each element as one byte for each column, sorted. Elements that differ from a fixed bit match nothing.
func rowsOf(elements []*element, fixed, columns []column) []string {
	rows := make([]string, 0, len(elements))
	row := make([]byte, len(columns))
elements:
	for _, element := range elements {
		for _, c := range fixed {
			if element.key[c.part].low.bit(c.bit) != (c.is == always) {
				continue elements
			}
		}
		for i, c := range columns {
			if row[i] = '0'; element.key[c.part].low.bit(c.bit) {
				row[i] = '1'
			}
		}
		rows = append(rows, string(row))
	}
	slices.Sort(rows)
	return slices.Compact(rows)
}

type builder struct {
	engine   *engine
	columns  []column
	computed int
	kept     string // under which name lower parts are kept; "": they are not
}

func (b *builder) build(rows []string, depth int) formula {
	if len(rows) == 0 {
		return never
	}
	if depth == len(b.columns) {
		return always
	}
	if depth == b.computed && b.kept != "" {
		name := b.kept + "|" + rows[0][:depth]
		if f, known := b.engine.lower[name]; known {
			return f
		}
		f := b.split(rows, depth)
		b.engine.lower[strings.Clone(name)] = f
		return f
	}
	return b.split(rows, depth)
}

func (b *builder) split(rows []string, depth int) formula {
	ones, _ := slices.BinarySearchFunc(rows, byte('1'), func(row string, one byte) int { return int(row[depth]) - int(one) })
	low, high := b.build(rows[:ones], depth+1), b.build(rows[ones:], depth+1)
	c, d := b.columns[depth], b.engine.diagrams
	if c.plain && c.level < d.level(low) && c.level < d.level(high) {
		return d.make(c.level, low, high)
	}
	return d.choose(c.is, high, low)
}
