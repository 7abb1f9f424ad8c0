package proof

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Kernel is what a kernel's packet filter holds, as programs list it at one moment.
type Kernel struct {
	NFTables []byte    // nft -n -j list ruleset; nil: only XTables hold rules
	XTables  []XTables //
	Sets     []byte    // ipset save; nil: there are none
}

// XTables is what iptables-save(8) or ip6tables-save(8) prints of all tables that there are.
type XTables struct {
	IPv6   bool
	Legacy bool // in the kernel's ip_tables; else in its nftables, whose listing has them too, without their matches and targets
	Saved  []byte
}

// Tables are the names of those that were saved.
func (x XTables) Tables() (names []string) {
	for line := range bytes.Lines(x.Saved) {
		if name, is := strings.CutPrefix(strings.TrimSpace(string(line)), "*"); is {
			names = append(names, name)
		}
	}
	return names
}

// Decode reads all that is held. An error says that something is no such listing. What the model does not know is kept as unmodelled.
func (k Kernel) Decode() (*Ruleset, error) {
	d := &decoder{ruleset: &Ruleset{names: map[string]bool{}}, chains: map[string]*chain{}, sets: map[string]*set{}, saved: map[string]*savedTable{}, ipsets: map[string]*ipset{}}
	var err error
	if d.savedSets, err = readSets(k.Sets); err != nil {
		return nil, fmt.Errorf("read sets: %w", err)
	}
	var own []*savedTable
	for _, x := range k.XTables {
		tables, err := x.read()
		if err != nil {
			return nil, fmt.Errorf("read tables of xtables: %w", err)
		}
		for _, t := range tables {
			if k.NFTables == nil || x.Legacy {
				own = append(own, t)
			} else {
				d.saved[t.family+" "+t.name] = t
			}
		}
	}
	if k.NFTables != nil {
		if err := d.listing(k.NFTables); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.saved)) {
		d.compareSaved(d.saved[name])
	}
	for _, t := range own {
		d.savedChains(t)
	}
	d.finish()
	return d.ruleset, nil
}

// savedTable is one table of iptables-save.
type savedTable struct {
	family, name string
	chains       map[string]*savedChain
	order        []string
}

type savedChain struct {
	policy string // "-": it is no base chain
	rules  []string
}

func (x XTables) read() (tables []*savedTable, err error) {
	var t *savedTable
	for line := range bytes.Lines(x.Saved) {
		text := strings.TrimSpace(string(line))
		if strings.HasPrefix(text, "[") { // counters
			_, text, _ = strings.Cut(text, "] ")
		}
		words := strings.SplitN(text, " ", 3)
		switch {
		case text == "" || text[0] == '#':
		case text == "COMMIT" && t != nil:
			t = nil
		case text[0] == '*' && t == nil:
			t = &savedTable{family: "ip", name: text[1:], chains: map[string]*savedChain{}}
			if x.IPv6 {
				t.family = "ip6"
			}
			if x.Legacy {
				t.name += " (legacy)"
			}
			tables = append(tables, t)
		case text[0] == ':' && t != nil && len(words) > 1:
			t.chains[words[0][1:]] = &savedChain{policy: words[1]}
			t.order = append(t.order, words[0][1:])
		case words[0] == "-A" && t != nil && len(words) > 1 && t.chains[words[1]] != nil:
			rest := ""
			if len(words) == 3 {
				rest = words[2]
			}
			c := t.chains[words[1]]
			c.rules = append(c.rules, rest)
		default:
			return nil, fmt.Errorf("line %q", text)
		}
	}
	if t != nil {
		return nil, errors.New("the last table does not end")
	}
	return tables, nil
}

// rule is the text of one; "": there is none.
func (t *savedTable) rule(chain string, index int) string {
	if t == nil || t.chains[chain] == nil || index >= len(t.chains[chain].rules) {
		return ""
	}
	return t.chains[chain].rules[index]
}

// builtins are the hooks and priorities of the chains that a table has by itself (linux/netfilter_ipv4.h, xt_hook_ops_alloc).
var builtins = map[string]map[string]int{
	"raw":      {"PREROUTING": -300, "OUTPUT": -300},
	"mangle":   {"PREROUTING": -150, "INPUT": -150, "FORWARD": -150, "OUTPUT": -150, "POSTROUTING": -150},
	"nat":      {"PREROUTING": priorityTarget, "INPUT": prioritySource, "OUTPUT": priorityTarget, "POSTROUTING": prioritySource},
	"filter":   {"INPUT": 0, "FORWARD": 0, "OUTPUT": 0},
	"security": {"INPUT": 50, "FORWARD": 50, "OUTPUT": 50},
}

// savedChains takes in a table that nft does not list.
func (d *decoder) savedChains(t *savedTable) {
	d.table = t.family + " " + t.name
	short, _, _ := strings.Cut(t.name, " ")
	for _, name := range t.order {
		saved := t.chains[name]
		c := &chain{family: t.family, table: t.name, name: name, xtables: true, accept: saved.policy != "DROP", nat: short == "nat", reroutes: short == "mangle"}
		d.chains[d.table+" "+name] = c
		if saved.policy == "-" {
			d.addInner(c)
			continue
		}
		priority, known := builtins[short][name]
		switch {
		case !known:
			d.unknown("table %s, chain %s: where packets meet it is not known", d.table, name)
		default:
			c.hook, c.priority = strings.ToLower(name), priority
			d.ruleset.chains = append(d.ruleset.chains, c)
		}
	}
	for _, name := range t.order {
		c := d.chains[d.table+" "+name]
		for _, text := range t.chains[name].rules {
			r := &rule{chain: c, number: len(c.rules) + 1, text: text}
			d.savedRule(r)
			c.rules = append(c.rules, r)
		}
	}
}

// addInner keeps a chain of ours without a hook.
func (d *decoder) addInner(c *chain) {
	if strings.HasPrefix(c.name, ourChains) {
		d.ruleset.inner = append(d.ruleset.inner, c)
	}
}

// ourChains begin so (package firewall/iptables), then comes the letter of the ruleset: "SHEKARA-a-pass".
const ourChains = "SHEKARA-"

// settleInner leaves those chains of ours whose ruleset packets meet: another may be under way, or left.
func (d *decoder) settleInner() {
	met := map[string]bool{}
	for _, c := range d.ruleset.chains {
		for _, r := range c.rules {
			for _, s := range r.statements {
				if s.verdict != nil && c.xtables && len(s.verdict.name) > len(ourChains) {
					met[s.verdict.name[:len(ourChains)+1]] = true
				}
			}
		}
	}
	d.ruleset.inner = slices.DeleteFunc(d.ruleset.inner, func(c *chain) bool {
		return strings.HasPrefix(c.name, ourChains) && !met[c.name[:min(len(c.name), len(ourChains)+1)]]
	})
}

// ofXTables says whether packets meet rules of ours that are in iptables.
func (r *Ruleset) ofXTables() bool {
	return slices.ContainsFunc(r.inner, func(c *chain) bool { return c.xtables })
}

// compareSaved sees to it that nft and iptables-save say the same of a table that both list: rules are told by their place in a chain.
func (d *decoder) compareSaved(t *savedTable) {
	in := t.family + " " + t.name
	for _, name := range t.order {
		saved, listed := t.chains[name], d.chains[in+" "+name]
		rules, accept := 0, true
		if listed != nil {
			rules, accept = len(listed.rules), listed.accept
		}
		if rules != len(saved.rules) || accept != (saved.policy != "DROP") || listed == nil && saved.policy == "-" {
			d.unknown("table %s, chain %s: nft and iptables-save do not list the same", in, name)
		}
	}
	for key, c := range d.chains {
		if c.family == t.family && c.table == t.name && t.chains[c.name] == nil {
			d.unknown("table %s: nft and iptables-save do not list the same", key)
		}
	}
}

// ipset is a set as the kernel holds it.
func (d *decoder) ipset(name string) (*ipset, error) {
	if s := d.ipsets[name]; s != nil {
		return s, nil
	}
	saved := d.savedSets[name]
	if saved == nil {
		return nil, fmt.Errorf("set %s is not listed", name)
	}
	s, err := saved.read()
	if err != nil {
		return nil, fmt.Errorf("set %s: %w", name, err)
	}
	for _, e := range s.elements {
		for _, part := range e.key {
			if part.kind == named {
				d.ruleset.names[part.name] = true
			}
		}
	}
	d.ipsets[name] = s
	return s, nil
}

// shellWords splits a line as iptables-restore(8) does: words between spaces, or in double quotes with \ before what is meant as it stands.
func shellWords(line string) (words []string, err error) {
	var word strings.Builder
	quoted, begun := false, false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\' && quoted && i+1 < len(line):
			i++
			word.WriteByte(line[i])
		case c == '"':
			quoted, begun = !quoted, true
		case c == ' ' && !quoted:
			if begun {
				words = append(words, word.String())
			}
			word.Reset()
			begun = false
		default:
			word.WriteByte(c)
			begun = true
		}
	}
	if begun {
		words = append(words, word.String())
	}
	if quoted {
		err = errors.New("a quote does not end")
	}
	return words, err
}

// valueAndMask reads "0x10/0xf0", or "0x10" with all bits.
func valueAndMask(text string) (value, mask uint64, err error) {
	before, after, is := strings.Cut(text, "/")
	value, err = strconv.ParseUint(before, 0, 32)
	if mask = allBits; is && err == nil {
		mask, err = strconv.ParseUint(after, 0, 32)
	}
	if err != nil {
		err = fmt.Errorf("mark %s", text)
	}
	return value, mask, err
}

const allBits = 0xffffffff

// joined is a value with some bits of what stood there by exclusive or.
func (r *run) joined(value, before vector, keep number) vector {
	out := slices.Clone(value)
	for i := range out {
		if keep.bit(len(out) - 1 - i) {
			out[i] = r.choose(value[i], not(before[i]), before[i])
		}
	}
	return out
}

// setPort is what ipset takes for a port (ip_set_getport.c).
func (r *run) setPort(source bool) (vector, formula) {
	v := &r.now
	port := v.second
	if source {
		port = v.head
	}
	icmp, ports := never, never
	for _, protocol := range []uint64{icmpNumber, icmp6} {
		icmp = r.or(icmp, r.equal(v.protocol, small(protocol)))
	}
	for _, protocol := range setProtocols {
		ports = r.or(ports, r.equal(v.protocol, small(protocol)))
	}
	value := make(vector, len(port))
	for i := range value {
		value[i] = r.choose(icmp, v.head[i], r.and(ports, port[i]))
	}
	return value, not(r.and(v.headerless, r.or(icmp, ports)))
}
