package iptables

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"shekara/firewall"
)

// cell is one set of destinations in what a class of sources may reach: between one pair of places, and by one service.
type cell struct {
	places   uint32            // from and to, as in the mark
	protocol firewall.Protocol // 0: of all single ports, which stand in the elements
	first    uint16
	last     uint16
	// translated: the destinations are those of connections that were opened to another address, which was translated.
	translated bool
}

// exact are protocols whose ports ipset knows (ip_set_get_ip_port in ip_set_getport.c).
var exact = map[firewall.Protocol]string{firewall.TCP: "tcp", firewall.UDP: "udp", firewall.SCTP: "sctp", 136: "udplite"}

// place is where a permission to a destination stands: the cell, and the element of its set.
func place(p firewall.Permission, destination netip.Prefix) (cell, string) {
	if p.To == firewall.BoxPlace {
		p.To = boxPlace
	}
	c := cell{places: p.From<<fromShift | p.To<<toShift, protocol: p.Protocol, first: p.FirstPort, last: p.LastPort}
	if name, known := exact[p.Protocol]; known && p.FirstPort != 0 && p.FirstPort == p.LastPort {
		c.protocol, c.first, c.last = 0, 0, 0
		return c, fmt.Sprintf("%s,%s:%d", entry(destination), name, p.FirstPort)
	}
	return c, entry(destination)
}

func (c cell) compare(d cell) int {
	number := func(translated bool) int {
		if translated {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(c.places, d.places), cmp.Compare(c.protocol, d.protocol), cmp.Compare(c.first, d.first), cmp.Compare(c.last, d.last),
		cmp.Compare(number(c.translated), number(d.translated)))
}

func (c cell) kind() string {
	if c.protocol == 0 {
		return "hash:net,port"
	}
	return "hash:net"
}

// name is of the class's set: at most 31 characters with what goes before it (IPSET_MAXNAMELEN).
func (c cell) name(class int) string {
	name := fmt.Sprintf("%05x-%04x", class, c.places>>toShift)
	if c.protocol != 0 {
		name += fmt.Sprintf("-%02x%04x%02x", uint8(c.protocol), c.first, portBits(c.first, c.last))
	}
	if c.translated {
		name += translatedSuffix
	}
	return name
}

const translatedSuffix = "n" // no digit of a number

// portBits is the length of the prefix that a block of ports is.
func portBits(first, last uint16) int {
	bits := 0
	if last != 0 {
		for bits = 16; last != first; last >>= 1 {
			bits--
			first >>= 1
		}
	}
	return bits
}

// parseCell is the inverse of name.
func parseCell(name string) (class int, c cell, ok bool) {
	var places, first, bits uint32
	var protocol uint8
	plain, translated := strings.CutSuffix(name, translatedSuffix)
	if n, _ := fmt.Sscanf(plain, "%05x-%04x-%02x%04x%02x", &class, &places, &protocol, &first, &bits); n != 2 && n != 5 || bits > 16 {
		return 0, cell{}, false
	}
	c = cell{places: places << toShift, protocol: firewall.Protocol(protocol), first: uint16(first), translated: translated}
	if bits > 0 {
		c.last = uint16(first | 0xffff>>bits)
	}
	return class, c, c.name(class) == name
}

// row is what one source may reach: what stands in each cell.
type row map[cell]map[string]bool

func (r row) key() string {
	var b strings.Builder
	for _, c := range slices.SortedFunc(maps.Keys(r), cell.compare) {
		if len(r[c]) == 0 {
			continue // emptied, but its set is there
		}
		fmt.Fprintf(&b, "%+v:%q;", c, slices.Sorted(maps.Keys(r[c])))
	}
	return b.String()
}

func (r row) add(from row) {
	for c, elements := range from {
		if r[c] == nil {
			r[c] = map[string]bool{}
		}
		maps.Copy(r[c], elements)
	}
}

// flows are one family's: each source prefix is of a class, and sources of one class may reach the same. Of the prefixes that a packet's source lies in
// the longest counts, so its class has what the shorter ones may reach too.
type flows struct {
	class   map[netip.Prefix]int
	classes []row // of class 1 and up
}

// rows are what each source prefix may reach, with what its shorter ones may.
func (b *base) rows(permissions []firewall.Permission, f family) map[netip.Prefix]row {
	own := map[netip.Prefix]row{}
	for _, p := range permissions {
		if familyOf(p.Source.Addr()) != f {
			continue
		}
		for _, source := range split(p.Source) {
			for _, destination := range split(p.Destination) {
				c, element := place(p, destination)
				if own[source] == nil {
					own[source] = row{}
				}
				own[source].add(row{c: {element: true}})
			}
			for _, image := range b.images(p) {
				c, element := place(p, image)
				c.translated = true
				own[source].add(row{c: {element: true}})
			}
		}
	}
	lengths := map[int]bool{}
	for source := range own {
		lengths[source.Bits()] = true
	}
	out := make(map[netip.Prefix]row, len(own))
	for source, r := range own {
		out[source] = r
		for length := range lengths {
			outer, err := source.Addr().Prefix(length)
			if length >= source.Bits() || err != nil || own[outer] == nil {
				continue
			}
			whole := row{}
			whole.add(out[source])
			whole.add(own[outer])
			out[source] = whole
		}
	}
	return out
}

// group is sources that may reach the same.
type group struct {
	key     string
	content row
	members []netip.Prefix
}

func groups(rows map[netip.Prefix]row) []group {
	byKey := map[string]*group{}
	for source, r := range rows {
		key := r.key()
		if byKey[key] == nil {
			byKey[key] = &group{key: key, content: r}
		}
		byKey[key].members = append(byKey[key].members, source)
	}
	out := make([]group, 0, len(byKey))
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		slices.SortFunc(byKey[key].members, netip.Prefix.Compare)
		out = append(out, *byKey[key])
	}
	return out
}

// classify numbers classes anew.
func classify(rows map[netip.Prefix]row) flows {
	out := flows{class: map[netip.Prefix]int{}}
	for _, g := range groups(rows) {
		out.classes = append(out.classes, g.content)
		for _, source := range g.members {
			out.class[source] = len(out.classes)
		}
	}
	return out
}

// evolve keeps the classes and their cells, so that no chain changes, and gives each source the class that has, or can be given, what it may reach.
// It reports false if that cannot be.
func (old flows) evolve(rows map[netip.Prefix]row) (flows, bool) {
	next := flows{class: map[netip.Prefix]int{}, classes: slices.Clone(old.classes)}
	members := make([][]netip.Prefix, len(old.classes)+1)
	for source, class := range old.class {
		members[class] = append(members[class], source)
	}
	byKey, taken := map[string]int{}, map[int]bool{}
	for i, r := range old.classes {
		byKey[r.key()] = i + 1
	}
	all := groups(rows)
	var rest []group
	for _, g := range all {
		class := byKey[g.key]
		if class == 0 {
			rest = append(rest, g)
			continue
		}
		taken[class] = true
		for _, source := range g.members {
			next.class[source] = class
		}
	}
	for _, g := range rest {
		inside := map[netip.Prefix]bool{}
		for _, source := range g.members {
			inside[source] = true
		}
		class := 0
		for _, source := range g.members {
			c := old.class[source]
			// All of the class must become the same, or it would be another's that changes with it.
			if c != 0 && !taken[c] && old.classes[c-1].holds(g.content) && !slices.ContainsFunc(members[c], func(s netip.Prefix) bool { return !inside[s] && rows[s] != nil }) {
				class = c
				break
			}
		}
		if class == 0 {
			return flows{}, false
		}
		taken[class] = true
		changed := row{}
		for c := range old.classes[class-1] {
			changed[c] = map[string]bool{} // its set stays, though it may be empty now
		}
		changed.add(g.content)
		next.classes[class-1] = changed
		for _, source := range g.members {
			next.class[source] = class
		}
	}
	return next, true
}

// holds says whether there is a set for each cell of another row.
func (r row) holds(other row) bool {
	for c := range other {
		if _, there := r[c]; !there {
			return false
		}
	}
	return true
}
