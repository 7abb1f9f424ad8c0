package document

import "hash/maphash"

// table is a map from string to V that can be copied in a moment: copy shares everything, and a write replaces only the path that it
// touches (copy on write). 256 pages of 256 slots keep a quarter of a million keys at about four a slot.
// A table belongs to one Set; edit marks the pages that this Set made itself and may write in place.
type table[V any] struct {
	seed  maphash.Seed
	pages *[256]*page[V]
	edit  *edit
	mine  bool // pages was copied by this edit
	size  int
}

// edit is a token: pages that carry it were made by the current writer.
type edit struct{ _ byte }

type page[V any] struct {
	edit  *edit
	slots [256][]slot[V]
}

type slot[V any] struct {
	key   string
	value V
}

func newTable[V any]() table[V] {
	return table[V]{seed: maphash.MakeSeed(), pages: new([256]*page[V]), edit: &edit{}, mine: true}
}

// copied is a table with the same content; writes to it leave t as it was. From now on t is only to be read.
func (t *table[V]) copied() table[V] {
	return table[V]{seed: t.seed, pages: t.pages, edit: &edit{}, size: t.size}
}

func (t *table[V]) find(key string) (*page[V], uint8, uint8) {
	h := maphash.String(t.seed, key)
	return t.pages[uint8(h)], uint8(h), uint8(h >> 8)
}

func (t *table[V]) get(key string) (V, bool) {
	if p, _, i := t.find(key); p != nil {
		for _, s := range p.slots[i] {
			if s.key == key {
				return s.value, true
			}
		}
	}
	var none V
	return none, false
}

// writable makes the page its own and hands it out.
func (t *table[V]) writable(i uint8) *page[V] {
	if !t.mine {
		pages := *t.pages
		t.pages, t.mine = &pages, true
	}
	p := t.pages[i]
	switch {
	case p == nil:
		p = &page[V]{edit: t.edit}
	case p.edit != t.edit:
		made := *p
		made.edit, p = t.edit, &made
	}
	t.pages[i] = p
	return p
}

func (t *table[V]) set(key string, value V) {
	_, at, i := t.find(key)
	p := t.writable(at)
	old := p.slots[i]
	made := make([]slot[V], 0, len(old)+1) // never in place: an older Set may share the slot
	for _, s := range old {
		if s.key != key {
			made = append(made, s)
		}
	}
	t.size += 1 + len(made) - len(old)
	p.slots[i] = append(made, slot[V]{key, value})
}

func (t *table[V]) remove(key string) {
	_, at, i := t.find(key)
	if _, known := t.get(key); !known {
		return
	}
	p := t.writable(at)
	made := make([]slot[V], 0, len(p.slots[i]))
	for _, s := range p.slots[i] {
		if s.key != key {
			made = append(made, s)
		}
	}
	t.size--
	p.slots[i] = made
}

// all calls each for every key, in no order.
func (t *table[V]) all(each func(key string, value V)) {
	for _, p := range t.pages {
		if p == nil {
			continue
		}
		for _, slots := range p.slots {
			for _, s := range slots {
				each(s.key, s.value)
			}
		}
	}
}
