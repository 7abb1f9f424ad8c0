package proof

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"shekara/firewall"
	"shekara/firewall/firewalltest"
)

// drawn is a random function of eight variables, as a diagram and as a table.
type drawn struct {
	f     formula
	table [256]bool
}

func draw(t *rapid.T, d *diagrams, depth int) drawn {
	var out drawn
	if len(d.cache) < 1<<14 && rapid.IntRange(0, 20).Draw(t, "grow") == 0 { // the tables, as many nodes would make them
		d.grow()
	}
	if depth == 0 || rapid.IntRange(0, 4).Draw(t, "leaf") == 0 {
		level := rapid.IntRange(0, 7).Draw(t, "variable")
		out.f = d.variable(level)
		for i := range out.table {
			out.table[i] = i>>level&1 != 0
		}
		return out
	}
	a, b, c := draw(t, d, depth-1), draw(t, d, depth-1), draw(t, d, depth-1)
	out.f = d.choose(a.f, not(b.f), c.f)
	for i := range out.table {
		if out.table[i] = c.table[i]; a.table[i] {
			out.table[i] = !b.table[i]
		}
	}
	return out
}

func assigned(i int) assignment {
	a := make(assignment, 8)
	for level := range a {
		a[level] = i>>level&1 != 0
	}
	return a
}

// TestDiagramsAreFunctions: a diagram is the function that it was made for, and equal functions are one diagram.
func TestDiagramsAreFunctions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newDiagrams(1 << 20)
		x, y := draw(t, d, 4), draw(t, d, 4)
		forgotten := uint32(rapid.IntRange(0, 7).Draw(t, "forgotten"))
		both, exists, within := d.and(x.f, y.f), d.exists(x.f, d.variable(int(forgotten))), d.within(x.f, y.f)
		for i := range x.table {
			a := assigned(i)
			if d.holds(x.f, a) != x.table[i] || d.holds(both, a) != (x.table[i] && y.table[i]) || d.holds(d.or(x.f, y.f), a) != (x.table[i] || y.table[i]) {
				t.Fatalf("assignment %d: not the function", i)
			}
			if d.holds(exists, a) != (x.table[i] || x.table[i^1<<forgotten]) {
				t.Fatalf("assignment %d: exists", i)
			}
			if y.table[i] && d.holds(within, a) != x.table[i] {
				t.Fatalf("assignment %d: within its care it is another function", i)
			}
		}
		if (x.table == y.table) != (x.f == y.f) {
			t.Fatal("one function has two diagrams, or one diagram is two functions")
		}
		if x.f != never && !d.holds(x.f, d.pick(x.f, 8)) {
			t.Fatal("what is picked is not in the set")
		}
	})
}

// TestRanges: comparisons of vectors are those of numbers, at every edge.
func TestRanges(t *testing.T) {
	d := newDiagrams(1 << 20)
	v := make(vector, 8)
	for i := range v {
		v[i] = d.variable(7 - i)
	}
	for low := range uint64(256) {
		for _, high := range []uint64{low, low + 1, 200, 255} {
			if high < low || high > 255 {
				continue
			}
			f := d.between(v, small(low), small(high))
			for n := range 256 {
				if d.holds(f, assigned(n)) != (uint64(n) >= low && uint64(n) <= high) {
					t.Fatalf("%d in %d-%d", n, low, high)
				}
				if n := d.value(v, assigned(n)); !d.holds(d.equal(v, n), assigned(int(n.low))) {
					t.Fatalf("%v is not itself", n)
				}
			}
		}
	}
	wide := make(vector, 128)
	for i := range wide {
		wide[i] = d.variable(i)
	}
	top := number{1<<63 | 5, 7}
	for _, c := range []struct {
		n    number
		want bool
	}{{top, true}, {number{1<<63 | 5, 6}, false}, {number{^uint64(0), ^uint64(0)}, true}, {number{5, 7}, false}} {
		a := make(assignment, 128)
		for i := range a {
			a[i] = c.n.bit(127 - i)
		}
		if got := d.holds(d.between(wide, top, number{^uint64(0), ^uint64(0)}), a); got != c.want {
			t.Errorf("%x: %v", c.n, got)
		}
	}
}

// TestSetsAreFound: a set built in one pass from its leaves is the union of its elements, also where parts of the key are functions, fixed
// bits or the same field twice.
func TestSetsAreFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := newEngine([]string{noInterface, otherInterface}, false, 1<<20)
		d := e.diagrams
		bits := func(name string) vector {
			v := make(vector, 4)
			for i := range v {
				switch level := rapid.IntRange(0, 7).Draw(t, name); rapid.IntRange(0, 5).Draw(t, name) {
				case 0:
					v[i] = never
				case 1:
					v[i] = always
				case 2:
					v[i] = d.and(d.variable(level), not(d.variable((level+1)%8)))
				default:
					v[i] = d.variable(level)
				}
			}
			return v
		}
		key := []vector{bits("first"), bits("second")}
		s := &set{name: "s"}
		want := never
		for range rapid.IntRange(0, 8).Draw(t, "elements") {
			a, b := uint64(rapid.IntRange(0, 15).Draw(t, "a")), uint64(rapid.IntRange(0, 15).Draw(t, "b"))
			last := b
			if rapid.IntRange(0, 3).Draw(t, "range") == 0 {
				last = uint64(rapid.IntRange(int(b), 15).Draw(t, "last"))
			}
			s.elements = append(s.elements, element{key: []span{{low: small(a), high: small(a)}, {low: small(b), high: small(last)}}})
			want = d.or(want, d.and(d.equal(key[0], small(a)), d.between(key[1], small(b), small(last))))
		}
		if e.find(key, s, all) != want {
			t.Fatal("what is found is not what is in the set")
		}
		if e.find(slices.Clone(key), s, all) != want {
			t.Fatal("found differently the second time")
		}
	})
}

// TestPermittedIsTheUnion: permissions that are built together are the union of each alone, also where they overlap, of both families, and
// with protocols above the addresses and ports below.
func TestPermittedIsTheUnion(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := newEngine([]string{noInterface, otherInterface}, rapid.Bool().Draw(t, "translates"), 1<<20)
		a := &allowed{engine: e}
		second := rapid.SampledFrom([]vector{nil, e.target}).Draw(t, "second")
		var list []permission
		want := never
		for range rapid.IntRange(0, 8).Draw(t, "permissions") {
			six := rapid.Bool().Draw(t, "six")
			prefix := func() netip.Prefix {
				n := byte(rapid.IntRange(0, 7).Draw(t, "address"))
				if six {
					return netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 15: n}), rapid.IntRange(126, 128).Draw(t, "bits")).Masked()
				}
				return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 3: n}), rapid.IntRange(30, 32).Draw(t, "bits")).Masked()
			}
			p := permission{first: prefix()}
			p.protocol, p.ports = a.service(firewall.Service{Protocol: rapid.SampledFrom([]firewall.Protocol{firewall.TCP, firewall.UDP, firewall.ICMP, firewall.ICMPv6}).Draw(t, "protocol"),
				FirstPort: 80, LastPort: rapid.SampledFrom([]uint16{0, 80, 443}).Draw(t, "last")})
			one := e.all(a.inside(e.source, p.first), p.protocol, p.ports)
			if second != nil {
				p.second = prefix()
				one = e.and(one, a.inside(e.target, p.second))
			}
			list, want = append(list, p), e.or(want, one)
		}
		if e.permitted(e.source, second, list) != want {
			t.Fatalf("%v: not the union", list)
		}
	})
}

// TestMarksAreRenamedInOrder: what renamed is for: of all that is not forgotten before, no variable takes another's place or passes it.
func TestMarksAreRenamedInOrder(t *testing.T) {
	for _, translates := range []bool{false, true} {
		e := newEngine([]string{noInterface, "a", "b", "c", otherInterface}, translates, 1<<20)
		last := -1
		for level := range e.levels {
			if e.exists(e.variable(level), e.ofOnePacket) == always {
				continue
			}
			to := int(e.toConnection[level])
			if to <= last {
				t.Fatalf("translates %v: level %d becomes %d, behind %d", translates, level, to, last)
			}
			last = to
		}
		for i, f := range e.writtenMark {
			if e.renamed(f, e.toConnection) != e.connectionMark[i] {
				t.Errorf("translates %v: bit %d of a mark that was written is another of the connection's", translates, i)
			}
		}
	}
}

// TestHeadersWhereTheyAre: a field of the transport header is the packet's wherever it has it, in every class of packets, with translation and
// without, and for a rule that asks for a protocol it is a variable and no function of the protocol.
func TestHeadersWhereTheyAre(t *testing.T) {
	for _, translates := range []bool{false, true} {
		e := newEngine([]string{noInterface, otherInterface}, translates, 1<<20)
		for _, class := range allClasses {
			v := e.class(class)
			r := &run{evaluation: &evaluation{engine: e}, view: v, now: *v}
			for f, of := range map[field]vector{sourcePort: v.head, destinationPort: v.second, icmpType: v.head[:8], icmpCode: v.head[8:], tcpFlags: e.flags, udpLength: e.udpLength} {
				for _, protocol := range []uint8{0, icmpNumber, icmp6, 6, 17} {
					got, has := r.header(expression{field: f, protocol: protocol})
					for i := range of {
						if e.and(has, got[i]) != e.and(has, of[i]) {
							t.Fatalf("%s, %s of protocol %d: bit %d is another", class, fields[f].name, protocol, i)
						}
						if has != never && protocol != 0 && !e.plain(got[i]) {
							t.Fatalf("%s, %s of protocol %d: bit %d is a function", class, fields[f].name, protocol, i)
						}
					}
				}
			}
		}
	}
}

// TestDiagramsAreBounded: over the bound is an error that says so and what to do, not a wrong answer.
func TestDiagramsAreBounded(t *testing.T) {
	result, err := (&Prover{limit: 20_000}).Prove(t.Context(), readListing(t, "site"), firewalltest.Example(t, "site"))
	if err != nil || result.Verdict != Indeterminate || len(result.Reasons) != 1 || !strings.HasPrefix(result.Reasons[0], "the proof needs more than 20000 nodes of decision diagrams") || !strings.Contains(result.Reasons[0], "let more boxes share the tunnels") {
		t.Errorf("%+v, %v", result, err)
	}
}
