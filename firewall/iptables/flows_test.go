package iptables

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"shekara/firewall"
)

// permissions draws some between two places, with prefixes that lie in each other.
func permissions(t *rapid.T, label string) []firewall.Permission {
	prefix := rapid.SampledFrom([]netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.1.0.0/16"),
		netip.MustParsePrefix("10.1.1.0/28"), netip.MustParsePrefix("10.1.1.1/32"), netip.MustParsePrefix("10.2.0.0/16")})
	one := rapid.Custom(func(t *rapid.T) firewall.Permission {
		p := firewall.Permission{From: 1, To: rapid.Uint32Range(2, 3).Draw(t, "to"), Source: prefix.Draw(t, "source"), Destination: prefix.Draw(t, "destination"),
			Protocol: rapid.SampledFrom([]firewall.Protocol{firewall.TCP, firewall.ICMP}).Draw(t, "protocol")}
		if p.Protocol == firewall.TCP {
			p.FirstPort = rapid.SampledFrom([]uint16{0, 443, 8000}).Draw(t, "port")
			if p.LastPort = p.FirstPort; p.FirstPort == 8000 {
				p.LastPort = 8063
			}
		}
		return p
	})
	return rapid.SliceOfN(one, 0, 8).Draw(t, label)
}

// reach is what a source address may reach as the sets of an image say it: through the class of the longest prefix.
func (i image) reach(source netip.Addr) map[string]bool {
	class, longest := -1, -1
	for element, value := range i.sets[setName(i.letter, v4, classSet)].elements {
		prefix, err := netip.ParsePrefix(element)
		if err != nil {
			prefix = netip.PrefixFrom(netip.MustParseAddr(element), 32)
		}
		if prefix.Contains(source) && prefix.Bits() > longest {
			longest = prefix.Bits()
			if _, err := fmt.Sscanf(value, " skbmark 0x%x/0x0", &class); err != nil {
				panic(err)
			}
		}
	}
	out := map[string]bool{}
	for name, s := range i.sets {
		short, _ := strings.CutPrefix(name, setName(i.letter, v4, ""))
		if c, cell, ok := parseCell(short); ok && c == class {
			for element := range s.elements {
				out[fmt.Sprintf("%+v %s", cell, element)] = true
			}
		}
	}
	return out
}

var someSources = []netip.Addr{netip.MustParseAddr("10.1.1.1"), netip.MustParseAddr("10.1.1.2"), netip.MustParseAddr("10.1.9.9"), netip.MustParseAddr("10.9.9.9"),
	netip.MustParseAddr("10.2.0.1"), netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("9.9.9.9")}

// meant is what permissions let a source reach, in the same words.
func meant(permissions []firewall.Permission, source netip.Addr) map[string]bool {
	out := map[string]bool{}
	for _, p := range permissions {
		destinations := []netip.Prefix{p.Destination}
		if p.Destination.Bits() == 0 {
			destinations = v4.halves()
		}
		for _, d := range destinations {
			if c, element := place(p, d); p.Source.Contains(source) {
				out[fmt.Sprintf("%+v %s", c, element)] = true
			}
		}
	}
	return out
}

func subset(a, b map[string]bool) bool {
	for k := range a {
		if !b[k] {
			return false
		}
	}
	return true
}

// TestChangesNeverOpenTooMuch: a change by elements of sets ends in what a new load would be, and after each single line of it no source may reach
// what neither the ruleset before nor the one after lets it.
func TestChangesNeverOpenTooMuch(t *testing.T) {
	b, err := compileBase(firewall.Policy{Zones: []firewall.Zone{{Name: "a"}}})
	if err != nil {
		t.Fatal(err)
	}
	evolved := 0
	check := func(t *rapid.T) {
		before := permissions(t, "before")
		after := slices.Clone(before)
		shrinks := rapid.Bool().Draw(t, "shrinks")
		if n := len(before); shrinks && n > 0 {
			after = after[:rapid.IntRange(0, n).Draw(t, "kept")]
		} else {
			after = append(after, permissions(t, "added")...)
		}
		render := func(f flows) image {
			i, err := b.render("a", 1, [2]flows{f, {}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			return i
		}
		old := classify(b.rows(before, v4))
		fresh := render(classify(b.rows(after, v4)))
		next, ok := old.evolve(b.rows(after, v4))
		if !ok {
			return
		}
		evolved++
		now, end := render(old), render(next)
		if len(now.chains[v4]) != len(end.chains[v4]) {
			t.Fatal("chains changed")
		}
		allowed := map[netip.Addr]map[string]bool{}
		for _, s := range someSources {
			allowed[s] = maps.Clone(render(old).reach(s))
			maps.Copy(allowed[s], fresh.reach(s))
		}
		for line := range strings.Lines(now.change(end)) {
			fields := strings.SplitN(strings.TrimSuffix(strings.TrimSpace(line), " -exist"), " ", 4)
			elements := now.sets[fields[1]].elements
			if fields[0] == "del" {
				delete(elements, fields[2])
			} else if elements[fields[2]] = ""; len(fields) == 4 {
				elements[fields[2]] = " " + fields[3]
			}
			for _, s := range someSources {
				if !subset(now.reach(s), allowed[s]) {
					t.Fatalf("after %q %s reaches %v, allowed %v", line, s, now.reach(s), allowed[s])
				}
			}
		}
		for _, s := range someSources {
			if got, want := now.reach(s), meant(after, s); !maps.Equal(got, want) || !maps.Equal(fresh.reach(s), want) {
				t.Fatalf("%s reaches %v, by a new load %v, want %v", s, got, fresh.reach(s), want)
			}
		}
	}
	for round := 0; round == 0 || round < 50 && evolved < 5 && !t.Failed(); round++ {
		rapid.Check(t, check)
	}
	if evolved < 5 {
		t.Errorf("only %d changes were by elements: the draw is no test", evolved)
	}
}

func TestCellNamesAreReadBack(t *testing.T) {
	for _, c := range []cell{{places: 5<<fromShift | 3<<toShift}, {places: maxPlaces<<fromShift | maxPlaces<<toShift, protocol: 17, first: 8000, last: 8063},
		{places: 1 << fromShift, protocol: 1}, {protocol: 6, first: 32768, last: 65535}, {protocol: 33, first: 22, last: 22}, {places: placesMask, protocol: 17, first: 1, last: 1, translated: true}} {
		name := c.name(maxClasses)
		if len(setName("a", v6, name)) > 31 {
			t.Errorf("%s is too long for ipset", setName("a", v6, name))
		}
		if class, got, ok := parseCell(name); !ok || class != maxClasses || got != c {
			t.Errorf("%s: read back as %d %+v %v", name, class, got, ok)
		}
	}
	for _, name := range []string{"from", "probe-01", "00001", "00001-0285-11", "00001-0285-111f400a0"} {
		if _, _, ok := parseCell(name); ok {
			t.Errorf("%s is no cell", name)
		}
	}
}

// TestTreeFindsEveryClass: in as many steps as the number has digits, whatever number of classes there is.
func TestTreeFindsEveryClass(t *testing.T) {
	for _, n := range []int{0, 1, 15, 16, 17, 255, 256, 300} {
		i := image{letter: "a", sets: map[string]set{}}
		w := &writer{image: &i, base: &base{}}
		w.tree("open", n)
		chains := map[string][]string{}
		for _, c := range i.chains[v4] {
			chains[c.name] = append([]string{}, c.rules...)
		}
		for class := range n + 2 {
			at, steps := chainName("a", "open"), 0
			for ; chains[at] != nil; steps++ {
				next := "nowhere"
				for _, rule := range chains[at] {
					var mark, mask uint32
					var to string
					if _, err := fmt.Sscanf(rule, "-m mark --mark 0x%x/0x%x -g %s", &mark, &mask, &to); err == nil && uint32(class)&mask == mark {
						next = to
						break
					}
				}
				at = next
			}
			want := chainName("a", leaf("open", class))
			if class == 0 {
				want = "nowhere"
			}
			if class <= n && at != want || steps > 3 {
				t.Errorf("%d classes: class %d leads to %s in %d steps, want %s", n, class, at, steps, want)
			}
		}
	}
}

// TestWhatItCannotDoIsRefused: with an error that names the field.
func TestWhatItCannotDoIsRefused(t *testing.T) {
	var p firewall.Policy
	for i := range maxPlaces + 1 {
		p.Zones = append(p.Zones, firewall.Zone{Name: fmt.Sprint("z", i)})
	}
	crowded := firewall.Policy{Zones: []firewall.Zone{{Name: "a"}, {Name: "b"}}}
	for i := range maxLinks + 1 {
		crowded.Interfaces = append(crowded.Interfaces, firewall.Interface{Name: fmt.Sprint("eth", i), Zone: "a"})
	}
	ports := firewall.Policy{Zones: crowded.Zones}
	flow := firewall.Flow{Name: "many", From: firewall.Place{Zone: "a"}, To: firewall.Place{Zone: "b"},
		Sources: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Destinations: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	for i := range maxCells + 1 {
		flow.Services = append(flow.Services, firewall.Service{Protocol: firewall.TCP, FirstPort: uint16(2 + 4*i), LastPort: uint16(3 + 4*i)})
	}
	ports.Flows = []firewall.Flow{flow}
	limited := firewall.Policy{Zones: []firewall.Zone{{Name: "a"}}, Devices: []firewall.Device{{Name: "sk-a", FarZone: "a", LocalIP: netip.MustParseAddr("192.0.2.1"), Port: 1}}}
	limited.Limits = []firewall.Limit{{Tunnel: "a", Device: "sk-a", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.99.0.0/28")}, Connections: 1}}
	for field, p := range map[string]firewall.Policy{"Limits": limited, "Zones, Devices": p, "Interfaces, Devices": crowded, "Flows": ports} {
		r, err := firewall.Compile(p)
		if err != nil {
			t.Fatal(err)
		}
		var unsupported *UnsupportedError
		if err := Check(r); !errors.As(err, &unsupported) || unsupported.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	crowded.Interfaces = crowded.Interfaces[:maxLinks]
	if r, err := firewall.Compile(crowded); err != nil || Check(r) != nil {
		t.Errorf("as many interfaces as can be: %v, %v", err, Check(r))
	}
}
