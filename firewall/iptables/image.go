package iptables

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// A connection's mark, and the packet's mark while it is judged: from place, to place, generation. While flows are looked up the lowest bits
// of the packet's mark are the class of the source, and one bit says that nothing has let it pass.
const (
	fromShift      = 25
	toShift        = 18
	fromMask       = 0xfe000000
	toMask         = 0x01fc0000
	placesMask     = fromMask | toMask
	undecided      = 0x00020000 // while flows are looked up; what passes clears it
	classMask      = 0x0001ffff
	generationMask = 0x00000fff
	maxPlaces      = 1<<7 - 2
	boxPlace       = 1<<7 - 1 // firewall.BoxPlace
	maxClasses     = classMask
	maxLinks       = 64 // hash:net,iface holds so many interfaces of one prefix (AHASH_MAX_SIZE in ip_set_hash_gen.h)
)

// family is 0 for IPv4 and 1 for IPv6.
type family int

const (
	v4 family = iota
	v6
)

var families = [...]family{v4, v6}

func familyOf(a netip.Addr) family {
	if a.Is4() {
		return v4
	}
	return v6
}

func (f family) String() string { return [...]string{"IPv4", "IPv6"}[f] }

func (f family) digit() string { return [...]string{"4", "6"}[f] }

// halves are prefixes that ipset takes for all addresses: it has none of length 0.
func (f family) halves() []netip.Prefix {
	if f == v4 {
		return []netip.Prefix{netip.MustParsePrefix("0.0.0.0/1"), netip.MustParsePrefix("128.0.0.0/1")}
	}
	return []netip.Prefix{netip.MustParsePrefix("::/1"), netip.MustParsePrefix("8000::/1")}
}

func (f family) all() string { return [...]string{"0.0.0.0/0", "::/0"}[f] }

// split is a prefix as ipset can hold it.
func split(p netip.Prefix) []netip.Prefix {
	if p.Bits() == 0 {
		return familyOf(p.Addr()).halves()
	}
	return []netip.Prefix{p}
}

// entry is a prefix as ipset lists it.
func entry(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// set is one ipset: its type with family and extensions, and its elements with what they are mapped to.
type set struct {
	kind     string
	elements map[string]string
}

// chain is one of ours in a table of a family.
type chain struct {
	table, name string
	rules       []string
}

// image is what stands in the kernel: a whole ruleset, under the letter of its names.
type image struct {
	letter string
	sets   map[string]set
	chains [2][]chain // by family
}

// The tables in which there is something of ours. Raw comes before conntrack, which a spoofed packet shall not reach. Sets can map to marks in mangle
// only. Nat is there, and costs each connection its look, only if a device translates.
const (
	raw    = "raw"
	mangle = "mangle"
	nat    = "nat"
)

var tables = [...]string{raw, mangle, nat}

// hook is a built-in chain whose first rule is the jump to ours.
type hook struct{ table, builtin, chain string }

// The first is of what looks at sources, the others judge.
var judging = [...]hook{{raw, "PREROUTING", "prerouting"}, {mangle, "FORWARD", "forward"}, {mangle, "INPUT", "input"}, {mangle, "OUTPUT", "output"}}

// translating are there if a device translates, in the order in which they come: what keeps connections apart and leads them, then what translates,
// then what stops what is not translated.
var translating = [...]hook{{raw, "OUTPUT", "zones-output"}, {mangle, "PREROUTING", "marks"}, {nat, "PREROUTING", "nat-prerouting"},
	{nat, "POSTROUTING", "nat-postrouting"}, {mangle, "POSTROUTING", "postrouting"}}

// ownTranslated translates what this box itself sends.
var ownTranslated = hook{nat, "OUTPUT", "nat-output"}

func hooks() []hook { return append(slices.Concat(judging[:], translating[:]), ownTranslated) }

const (
	chainPrefix = "SHEKARA-"
	setPrefix   = "shekara-"
	letters     = "abc" // one loaded, one being built, and one more if a swap broke off between families
)

func chainName(letter, name string) string { return chainPrefix + letter + "-" + name }

func setName(letter string, f family, name string) string {
	return setPrefix + letter + f.digit() + "-" + name
}

// tables are those in which the image has chains: to name another makes it.
func (i image) tables(f family) (out []string) {
	for _, table := range tables {
		if slices.ContainsFunc(i.chains[f], func(c chain) bool { return c.table == table }) {
			out = append(out, table)
		}
	}
	return out
}

// declare writes the chains for Restore, without what hooks them.
func (i image) declare(f family) string {
	var b strings.Builder
	for _, table := range i.tables(f) {
		fmt.Fprintf(&b, "*%s\n", table)
		for _, c := range i.chains[f] {
			if c.table == table {
				fmt.Fprintf(&b, ":%s - [0:0]\n", c.name)
			}
		}
		for _, c := range i.chains[f] {
			if c.table == table {
				for _, rule := range c.rules {
					fmt.Fprintf(&b, "-A %s %s\n", c.name, rule)
				}
			}
		}
		b.WriteString("COMMIT\n")
	}
	return b.String()
}

// create writes the sets for RestoreSets, with their elements or without.
func (i image) create(filled bool) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(i.sets)) {
		s := i.sets[name]
		// The kernel's limit is not ours, and an empty set shall be small: there may be many.
		fmt.Fprintf(&b, "create %s %s hashsize 64 maxelem 16777216\n", name, s.kind)
		if filled {
			for element, value := range s.elements {
				b.WriteString("add " + name + " " + element + value + "\n")
			}
		}
	}
	return b.String()
}

// change writes what makes after's elements of i's, which has the same sets: first all that takes away, then all that adds.
func (i image) change(after image) string {
	var gone, come strings.Builder
	for _, name := range slices.Sorted(maps.Keys(i.sets)) {
		old, next := i.sets[name].elements, after.sets[name].elements
		for element := range old {
			if _, stays := next[element]; !stays {
				fmt.Fprintf(&gone, "del %s %s\n", name, element)
			}
		}
	}
	// Classes last: what a source is mapped to must hold what it may reach, and no more, when it is mapped.
	for _, classes := range []bool{false, true} {
		for _, name := range slices.Sorted(maps.Keys(after.sets)) {
			if strings.HasSuffix(name, "-"+classSet) != classes {
				continue
			}
			for element, value := range after.sets[name].elements {
				if was, there := i.sets[name].elements[element]; !there || was != value {
					fmt.Fprintf(&come, "add %s %s%s -exist\n", name, element, value)
				}
			}
		}
	}
	return gone.String() + come.String()
}

func mapsTo(mark uint32) string { return fmt.Sprintf(" skbmark 0x%x/0x0", mark) }
