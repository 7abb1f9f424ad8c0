package document

import (
	"cmp"
	"hash/fnv"
)

// holders is an ordered set of Holders, never changed: add and remove give a new root and share all but one path (a treap, so that a
// Peer which ten thousand tunnels name costs no more to edit than another). nil is the empty set.
type holders struct {
	Holder
	priority    uint64 // a hash of the holder: the shape follows from the content alone
	left, right *holders
}

func (h Holder) compare(other Holder) int {
	return cmp.Or(h.Ref.Compare(other.Ref), cmp.Compare(h.Path, other.Path))
}

func (t *holders) add(h Holder) *holders {
	sum := fnv.New64a()
	for _, s := range []string{string(h.Kind), h.Name, h.Path} {
		_, _ = sum.Write([]byte(s))
	}
	// FNV's high bits differ little between names that differ at the end; multiplying by an odd number spreads them (Knuth, 6.4).
	return t.insert(h, sum.Sum64()*0x9e3779b97f4a7c15)
}

func (t *holders) insert(h Holder, priority uint64) *holders {
	if t != nil && t.Holder == h {
		return t
	}
	if t == nil || priority > t.priority {
		left, right := t.split(h)
		return &holders{h, priority, left, right}
	}
	made := *t
	if h.compare(t.Holder) < 0 {
		made.left = t.left.insert(h, priority)
	} else {
		made.right = t.right.insert(h, priority)
	}
	return &made
}

// split parts t into what comes before h and what comes after it.
func (t *holders) split(h Holder) (before, after *holders) {
	if t == nil {
		return nil, nil
	}
	made := *t
	if t.compare(h) < 0 {
		made.right, after = t.right.split(h)
		return &made, after
	}
	before, made.left = t.left.split(h)
	return before, &made
}

func (t *holders) remove(h Holder) *holders {
	if t == nil {
		return nil
	}
	made := *t
	switch c := h.compare(t.Holder); {
	case c < 0:
		made.left = t.left.remove(h)
	case c > 0:
		made.right = t.right.remove(h)
	default:
		return merge(t.left, t.right)
	}
	return &made
}

// merge joins two sets of which all of a comes before all of b.
func merge(a, b *holders) *holders {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	case a.priority > b.priority:
		made := *a
		made.right = merge(a.right, b)
		return &made
	default:
		made := *b
		made.left = merge(a, b.left)
		return &made
	}
}

// walk calls each in order until it answers false.
func (t *holders) walk(each func(Holder) bool) bool {
	return t == nil || t.left.walk(each) && each(t.Holder) && t.right.walk(each)
}
