package document

import "net/netip"

// trie is a set of prefixes with their holders, never changed: add and remove give a new root and share all but one path. A node
// stands for a prefix; its children are longer prefixes that begin with it, by their next bit. nil is the empty trie.
type trie struct {
	prefix   netip.Prefix
	holders  []Holder // none: the node only joins its children
	children [2]*trie
}

// Holder is a field of a document.
type Holder struct {
	Ref
	Path string // "spec.initiator.prefixes[0]"
}

// roots are the two families' tries.
type roots struct{ ipv4, ipv6 *trie }

func (r roots) family(p netip.Prefix) *trie {
	if p.Addr().Is4() {
		return r.ipv4
	}
	return r.ipv6
}

func (r roots) with(p netip.Prefix, t *trie) roots {
	if p.Addr().Is4() {
		r.ipv4 = t
	} else {
		r.ipv6 = t
	}
	return r
}

func (r roots) add(p netip.Prefix, h Holder) roots { return r.with(p, r.family(p).add(p, h)) }

func (r roots) remove(p netip.Prefix, h Holder) roots { return r.with(p, r.family(p).remove(p, h)) }

// overlapping calls each for every holder of a prefix that contains p, is p, or lies inside p, until it answers false.
func (r roots) overlapping(p netip.Prefix, each func(netip.Prefix, Holder) bool) {
	t := r.family(p)
	for t != nil && t.prefix.Bits() < p.Bits() && t.prefix.Contains(p.Addr()) {
		if !t.call(each) {
			return
		}
		t = t.children[bit(p.Addr(), t.prefix.Bits())]
	}
	if t != nil && p.Overlaps(t.prefix) {
		t.walk(each)
	}
}

func (t *trie) call(each func(netip.Prefix, Holder) bool) bool {
	for _, h := range t.holders {
		if !each(t.prefix, h) {
			return false
		}
	}
	return true
}

func (t *trie) walk(each func(netip.Prefix, Holder) bool) bool {
	return t == nil || t.call(each) && t.children[0].walk(each) && t.children[1].walk(each)
}

func (t *trie) add(p netip.Prefix, h Holder) *trie {
	if t == nil {
		return &trie{prefix: p, holders: []Holder{h}}
	}
	made := *t
	switch shared := commonBits(t.prefix, p); {
	case shared == t.prefix.Bits() && shared == p.Bits():
		made.holders = append(append([]Holder(nil), t.holders...), h)
	case shared == t.prefix.Bits(): // p lies inside
		i := bit(p.Addr(), shared)
		made.children[i] = t.children[i].add(p, h)
	case shared == p.Bits(): // t lies inside p
		made = trie{prefix: p, holders: []Holder{h}}
		made.children[bit(t.prefix.Addr(), shared)] = t
	default:
		made = trie{prefix: netip.PrefixFrom(p.Addr(), shared).Masked()}
		made.children[bit(t.prefix.Addr(), shared)] = t
		made.children[bit(p.Addr(), shared)] = &trie{prefix: p, holders: []Holder{h}}
	}
	return &made
}

func (t *trie) remove(p netip.Prefix, h Holder) *trie {
	if t == nil || t.prefix.Bits() > p.Bits() || !t.prefix.Contains(p.Addr()) {
		return t
	}
	made := *t
	if t.prefix == p {
		made.holders = nil
		for _, other := range t.holders {
			if other != h {
				made.holders = append(made.holders, other)
			}
		}
	} else {
		i := bit(p.Addr(), t.prefix.Bits())
		made.children[i] = t.children[i].remove(p, h)
	}
	switch {
	case len(made.holders) > 0 || made.children[0] != nil && made.children[1] != nil:
		return &made
	case made.children[0] != nil:
		return made.children[0]
	default:
		return made.children[1]
	}
}

func bit(a netip.Addr, i int) int {
	b := a.As16()
	if a.Is4() {
		i += 96
	}
	return int(b[i/8]>>(7-i%8)) & 1
}

// commonBits is how many leading bits two prefixes of one family share, at most the shorter's length.
func commonBits(a, b netip.Prefix) int {
	limit, x, y := min(a.Bits(), b.Bits()), a.Addr().As16(), b.Addr().As16()
	start := 0
	if a.Addr().Is4() {
		start = 96
	}
	for i := range limit {
		at := start + i
		if (x[at/8]^y[at/8])>>(7-at%8)&1 != 0 {
			return i
		}
	}
	return limit
}
