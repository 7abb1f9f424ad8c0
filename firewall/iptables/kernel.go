package iptables

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"shekara/firewall"
	"shekara/netctl/iptables"
)

// kernel is what stands there now, as the programs list it. A line that is not known stays a line, and so shows as drift.
type kernel struct {
	chains   [2]map[chainKey][]string // ours and the built-in ones of all tables
	counters [2]map[chainKey]firewall.Counter
	sets     map[string]set
}

type chainKey struct{ table, name string }

func (k chainKey) String() string { return "table " + k.table + " chain " + k.name }

var counted = regexp.MustCompile(`^\[(\d+):(\d+)\] -A (\S+) ?(.*)$`)

// look lists the tables of both families, and all sets of ours.
func (l *Loader) look(ctx context.Context) (kernel, error) {
	k := kernel{sets: map[string]set{}}
	for _, f := range families {
		if err := l.lookAt(ctx, f, &k); err != nil {
			return kernel{}, err
		}
	}
	out, err := iptables.SaveSets(ctx)
	if err != nil {
		return kernel{}, err
	}
	k.readSets(string(out))
	return k, nil
}

func (l *Loader) lookAt(ctx context.Context, f family, k *kernel) error {
	k.chains[f], k.counters[f] = map[chainKey][]string{}, map[chainKey]firewall.Counter{}
	out, err := l.tables[f].Save(ctx)
	k.read(f, string(out))
	return err
}

func (k *kernel) read(f family, text string) {
	table := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if name, begins := strings.CutPrefix(line, "*"); begins {
			table = name
			continue
		}
		if name, _, _ := strings.Cut(strings.TrimPrefix(line, ":"), " "); strings.HasPrefix(line, ":") {
			k.chains[f][chainKey{table, name}] = nil
			continue
		}
		m := counted.FindStringSubmatch(line)
		if m == nil {
			continue // a comment, COMMIT
		}
		key := chainKey{table, m[3]}
		k.chains[f][key] = append(k.chains[f][key], m[4])
		if strings.HasPrefix(key.name, chainPrefix) && m[4] == endOf(table) {
			var c firewall.Counter
			if _, err := fmt.Sscanf(m[1]+" "+m[2], "%d %d", &c.Packets, &c.Bytes); err == nil {
				k.counters[f][key] = k.counters[f][key].Plus(c)
			}
		}
	}
}

var sizes = regexp.MustCompile(` (hashsize|maxelem|bucketsize|initval) \S+`)

func (k *kernel) readSets(text string) {
	for line := range strings.Lines(text) {
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, rest, _ := strings.Cut(rest, " ")
		switch {
		case !strings.HasPrefix(name, setPrefix):
		case verb == "create":
			k.sets[name] = set{sizes.ReplaceAllString(rest, ""), map[string]string{}}
		case verb == "add":
			element, value, found := strings.Cut(rest, " ")
			if found {
				value = " " + value
			}
			k.sets[name].elements[canonical(element)] = value
		}
	}
}

// canonical writes IPv6 addresses as Go does: the C library prints ::192.0.2.1 where Go prints ::c000:201.
func canonical(element string) string {
	if !strings.Contains(element, "::") {
		return element
	}
	fields := strings.Split(element, ",")
	for i, field := range fields {
		if a, err := netip.ParseAddr(field); err == nil {
			fields[i] = a.String()
		} else if p, err := netip.ParsePrefix(field); err == nil {
			fields[i] = p.String()
		}
	}
	return strings.Join(fields, ",")
}

// jumps are the letters to which a built-in chain jumps, in order, and whether the first rule is such a jump.
func (k kernel) jumps(f family, h hook) (letters []string, first bool) {
	for i, rule := range k.chains[f][chainKey{h.table, h.builtin}] {
		rest, ours := strings.CutPrefix(rule, "-j "+chainPrefix)
		letter, name, _ := strings.Cut(rest, "-")
		if ours && name == h.chain && len(letter) == 1 {
			letters = append(letters, letter)
			first = first || i == 0
		}
	}
	return letters, first
}

// loaded is the letter that all built-in chains jump to, first of all and once; "" and why if it is not so.
func (k kernel) loaded() (letter string, drift []string) {
	for _, f := range families {
		for n, h := range hooks() {
			found, first := k.jumps(f, h)
			_, needed := k.chains[f][chainKey{h.table, chainName(letter, h.chain)}]
			switch {
			case len(found) == 0 && n >= len(judging) && !needed:
				continue
			case len(found) == 0:
				drift = append(drift, fmt.Sprintf("%s table %s chain %s: jump to our chain missing", f, h.table, h.builtin))
			case !first:
				drift = append(drift, fmt.Sprintf("%s table %s chain %s: a rule of others stands before ours: %s", f, h.table, h.builtin,
					k.chains[f][chainKey{h.table, h.builtin}][0]))
			case len(found) > 1:
				drift = append(drift, fmt.Sprintf("%s table %s chain %s: more than one jump to ours", f, h.table, h.builtin))
			}
			for _, l := range found {
				if letter != "" && l != letter {
					drift = append(drift, fmt.Sprintf("%s table %s chain %s: jumps to another ruleset of ours", f, h.table, h.builtin))
				}
				letter = l
			}
		}
	}
	return letter, drift
}

// used are the letters to which anything jumps.
func (k kernel) used() (letters []string) {
	for _, f := range families {
		for _, h := range hooks() {
			found, _ := k.jumps(f, h)
			letters = append(letters, found...)
		}
	}
	slices.Sort(letters)
	return slices.Compact(letters)
}

// ofFamily are the chains of a family under a letter.
func (k kernel) ofFamily(f family, letter string) (keys []chainKey) {
	for key := range k.chains[f] {
		rest, ours := strings.CutPrefix(key.name, chainPrefix)
		if ours && len(rest) > 2 && rest[1] == '-' && rest[:1] == letter {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, func(a, b chainKey) int { return strings.Compare(a.String(), b.String()) })
	return keys
}

var generationRule = regexp.MustCompile(`^-j MARK --set-xmark 0x([0-9a-f]+)/0x`)

// generation of judgement under a letter; 0: the chains that hold it are not what they should be.
func (k kernel) generation(letter string) int {
	generation := 0
	for _, f := range families {
		for _, name := range []string{"begin", "pass"} {
			rules := k.chains[f][chainKey{mangle, chainName(letter, name)}]
			if len(rules) == 0 {
				return 0
			}
			m := generationRule.FindStringSubmatch(rules[0])
			var n int
			if m == nil {
				return 0
			}
			if _, err := fmt.Sscanf(m[1], "%x", &n); err != nil || n == 0 || n > firewall.Generations || generation != 0 && n != generation {
				return 0
			}
			generation = n
		}
	}
	return generation
}

// flows reads back which class each source is of, and what each class may reach.
func (k kernel) flows(letter string, f family) flows {
	out := flows{class: map[netip.Prefix]int{}}
	stem := setName(letter, f, "")
	for name, s := range k.sets {
		short, ours := strings.CutPrefix(name, stem)
		if !ours {
			continue
		}
		if short == classSet {
			for element, value := range s.elements {
				source, err := netip.ParsePrefix(element)
				if a, e := netip.ParseAddr(element); e == nil {
					source, err = netip.PrefixFrom(a, a.BitLen()), nil
				}
				var class int
				if _, e := fmt.Sscanf(value, " skbmark 0x%x/0x0", &class); err == nil && e == nil {
					out.class[source] = class
				}
			}
			continue
		}
		class, c, ok := parseCell(short)
		if !ok || class < 1 || class > maxClasses {
			continue
		}
		for len(out.classes) < class {
			out.classes = append(out.classes, row{})
		}
		elements := map[string]bool{}
		for element := range s.elements {
			elements[element] = true
		}
		out.classes[class-1][c] = elements
	}
	return out
}

// compare says in words how what a source may reach differs from rows.
func (have flows) compare(rows map[netip.Prefix]row, f family) (drift []string) {
	for source, want := range rows {
		class := have.class[source]
		switch {
		case class == 0 || class > len(have.classes):
			drift = append(drift, fmt.Sprintf("%s flows: source %s missing", f, source))
		case have.classes[class-1].key() != want.key():
			drift = append(drift, fmt.Sprintf("%s flows: source %s may reach something else", f, source))
		}
	}
	for source := range have.class {
		if rows[source] == nil {
			drift = append(drift, fmt.Sprintf("%s flows: source %s added", f, source))
		}
	}
	slices.Sort(drift)
	return drift
}
