package proof

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"shekara/firewall"
)

// maxListing bounds a listing in bytes. A ruleset of 50,000 flows takes some 20 MB.
const maxListing = 256 << 20

// Decode reads what "nft -n -j list ruleset" prints. An error says that it is no such listing. What it lists and the model does not know is
// kept as unmodelled, which makes every proof over it indeterminate.
func Decode(listing []byte) (*Ruleset, error) {
	if listing == nil {
		listing = []byte{}
	}
	return Kernel{NFTables: listing}.Decode()
}

// listing reads all that nft lists.
func (d *decoder) listing(listing []byte) error {
	if len(listing) > maxListing {
		return fmt.Errorf("listing of %d bytes: at most %d", len(listing), maxListing)
	}
	var document struct {
		Objects []map[string]map[string]any `json:"nftables"`
	}
	if err := json.Unmarshal(listing, &document); err != nil {
		// nft 1.0.6 prints whatever is in memory for the flags of a table, as of one that is dormant.
		return fmt.Errorf("read listing: %w (nft 1.0.6 writes no JSON for a table with flags: is one dormant?)", err)
	}
	if document.Objects == nil {
		return errors.New(`read listing: no "nftables" in it: it is made by nft -n -j list ruleset`)
	}
	for _, pass := range [](func(string, map[string]any)){d.containers, d.contents, d.rules} {
		for _, object := range document.Objects {
			for what, fields := range object {
				pass(what, fields)
			}
		}
	}
	return nil
}

// finish looks at what can only be said when all is known.
func (d *decoder) finish() {
	for _, v := range d.targets {
		if v.target == nil {
			d.unknown("verdict leads to chain %q, which is not listed", v.name)
		}
	}
	d.settleLimits()
	d.settleInner()
	d.settleMet()
	slices.Sort(d.ruleset.unmodelled)
	d.ruleset.unmodelled = slices.Compact(d.ruleset.unmodelled)
}

// settleMet looks at the rules that packets meet: only what of these is not understood counts, and only where one of these translates does anything
// else than conntrack's null bindings stand in a connection. A chain of type nat that can do nothing to a packet is as good as none.
//
// What rules did that are gone is nobody's question here, whether a table of nat is left without rules (iptables-nft cannot delete it) or none: a
// connection that they translated may still be, and shekara verify looks at each.
func (d *decoder) settleMet() {
	met := map[*chain]bool{}
	var kept []*chain
	for _, c := range d.ruleset.chains {
		acts := !c.accept
		seen := map[*chain]bool{}
		visitRules(c, seen, func(_ *rule, s *statement) {
			d.ruleset.translates = d.ruleset.translates || s.translation != nil || s.assign != nil && s.assign.to == ctZone
			acts = acts || s.match == nil && s.choice == nil && s.verdict == nil || s.verdict != nil && s.verdict.kind == drops
			if s.choice != nil {
				acts = acts || slices.ContainsFunc(s.choice.set.groups, func(g group) bool { return g.verdict.kind == drops })
			}
		})
		maps.Copy(met, seen)
		if acts || !c.nat {
			kept = append(kept, c)
		}
	}
	d.ruleset.chains = kept
	for c := range met {
		for _, r := range c.rules {
			d.ruleset.unmodelled = append(d.ruleset.unmodelled, r.unmodelled...)
		}
	}
}

type decoder struct {
	ruleset *Ruleset
	chains  map[string]*chain // by family, table and name
	sets    map[string]*set
	targets []*verdict
	table   string // in which what is read now stands: "inet shekara"
	// Of xtables.
	saved     map[string]*savedTable // those that nft lists too, by family and name
	savedSets map[string]*savedSet
	ipsets    map[string]*ipset
}

func (d *decoder) unknown(format string, values ...any) {
	d.ruleset.unmodelled = append(d.ruleset.unmodelled, fmt.Sprintf(format, values...))
}

// unknown is for what only counts if packets meet the rule.
func (r *rule) unknown(format string, values ...any) {
	r.unmodelled = append(r.unmodelled, fmt.Sprintf(format, values...))
}

func text(v any) string { s, _ := v.(string); return s }

// whole is a number of JSON that is a whole one.
func whole(v any) (uint64, bool) {
	f, ok := v.(float64)
	return uint64(f), ok && f >= 0 && f < 1<<53 && f == float64(uint64(f))
}

func integer(v any) int { f, _ := v.(float64); return int(f) }

// own says whether IP packets meet a table of the family at the hooks that are modelled.
func own(family string) bool { return family == "inet" || family == "ip" || family == "ip6" }

// containers takes in tables and chains, and names what is none of what the model knows.
func (d *decoder) containers(what string, o map[string]any) {
	family, table, name := text(o["family"]), text(o["table"]), text(o["name"])
	in := family + " " + table
	switch what {
	case "metainfo", "set", "map", "rule", "counter", "quota", "limit", "secmark":
	case "table":
		if _, flagged := o["flags"]; flagged {
			d.unknown("table %s %s: flags (it may be dormant)", family, name)
		}
	case "chain":
		c := &chain{family: family, table: table, name: name, hook: text(o["hook"]), priority: integer(o["prio"]), accept: text(o["policy"]) != "drop",
			nat: text(o["type"]) == "nat", reroutes: text(o["type"]) == "route"}
		d.chains[in+" "+name] = c
		c.xtables = d.saved[in] != nil
		if c.hook == "" {
			if in == firewall.Table {
				d.ruleset.inner = append(d.ruleset.inner, c)
			} else if c.xtables {
				d.addInner(c)
			}
			return
		}
		switch hooks := []string{"prerouting", "input", "forward", "output", "postrouting"}; {
		case family == "arp": // no IP packet meets it
		case !own(family):
			d.unknown("table %s, chain %s: hook %s of family %s", in, name, c.hook, family)
		case text(o["type"]) != "filter" && !c.nat && !c.reroutes:
			d.unknown("table %s, chain %s: type %s", in, name, text(o["type"]))
		case !slices.Contains(hooks, c.hook):
			d.unknown("table %s, chain %s: hook %s", in, name, c.hook)
		default:
			d.ruleset.chains = append(d.ruleset.chains, c)
		}
	default:
		d.unknown("table %s: %s %s", in, what, name)
	}
}

var setProperties = []string{"family", "table", "name", "handle", "type", "map", "flags", "elem", "size", "policy", "auto-merge", "comment"}

// contents takes in sets and maps.
func (d *decoder) contents(what string, o map[string]any) {
	if what != "set" && what != "map" || !own(text(o["family"])) {
		return
	}
	d.table = text(o["family"]) + " " + text(o["table"])
	name := d.table + " " + text(o["name"])
	place := "table " + d.table + ", set " + text(o["name"])
	for _, property := range slices.Sorted(maps.Keys(o)) {
		if !slices.Contains(setProperties, property) {
			d.unknown("%s: %s", place, property)
		}
	}
	flags, _ := o["flags"].([]any)
	for _, flag := range append(flags, o["flags"]) {
		if s := text(flag); s != "" && s != "interval" && s != "constant" {
			d.unknown("%s: flag %s: elements come and go by themselves", place, s)
		}
	}
	list, _ := o["elem"].([]any)
	if o["elem"] != nil && list == nil {
		d.unknown("%s: elements %s", place, compact(o["elem"]))
	}
	leads := mapsTo(o["map"])
	elements, err := d.elements(list, leads)
	if err != nil {
		d.unknown("%s: %v", place, err)
	}
	d.sets[name] = newSet(name, leads, elements)
}

// mapsTo is what a map leads to, as elements knows it: to a conntrack zone, whose type has no name, as to a mark. Newer versions of nft write its type as typeof.
func mapsTo(v any) string {
	if o, ok := v.(map[string]any); ok {
		ct, _ := o["typeof"].(map[string]any)
		if key, ok := ct["ct"].(map[string]any); ok && len(ct) == 1 && text(key["key"]) == "zone" {
			return "mark"
		}
		return compact(v)
	}
	switch data := text(v); data {
	case "ipv4_addr", "ipv6_addr":
		return "address"
	case "integer":
		return "mark"
	default:
		return data
	}
}

// elements reads those of a set; data is what a map leads to: "mark", "verdict", "address"; "": a set's.
func (d *decoder) elements(list []any, data string) ([]element, error) {
	if data != "" && data != "mark" && data != "verdict" && data != "address" {
		return nil, fmt.Errorf("map to %s", data)
	}
	out := make([]element, 0, len(list))
	for _, item := range list {
		value := any(nil)
		if data != "" {
			pair, ok := item.([]any)
			if !ok || len(pair) != 2 {
				return nil, fmt.Errorf("element %s", compact(item))
			}
			item, value = pair[0], pair[1]
		}
		key, err := d.key(item)
		if err != nil {
			return nil, err
		}
		e := element{key: key}
		switch data {
		case "verdict":
			statement, ok := value.(map[string]any)
			if e.verdict = d.verdict(statement); !ok || e.verdict == nil {
				return nil, fmt.Errorf("verdict %s", compact(value))
			}
		case "mark":
			n, ok := whole(value)
			if !ok {
				return nil, fmt.Errorf("mark %s", compact(value))
			}
			e.data = small(n)
		case "address":
			to, err := d.address(value)
			if err != nil {
				return nil, err
			}
			e.address = &to
		}
		out = append(out, e)
	}
	return out, nil
}

// key reads an element's key.
func (d *decoder) key(v any) ([]span, error) {
	if o, ok := v.(map[string]any); ok {
		if inner, ok := o["elem"].(map[string]any); ok && len(o) == 1 {
			for property := range inner {
				if property != "val" && property != "counter" && property != "comment" {
					return nil, fmt.Errorf("element with %s: %s", property, compact(v))
				}
			}
			return d.key(inner["val"])
		}
		if parts, ok := o["concat"].([]any); ok && len(o) == 1 {
			out := make([]span, 0, len(parts))
			for _, part := range parts {
				s, err := d.span(part)
				if err != nil {
					return nil, err
				}
				out = append(out, s)
			}
			return out, nil
		}
	}
	s, err := d.span(v)
	return []span{s}, err
}

// rules takes in the rules, when all chains and sets are known.
func (d *decoder) rules(what string, o map[string]any) {
	family := text(o["family"])
	if what != "rule" || !own(family) {
		return
	}
	d.table = family + " " + text(o["table"])
	r := &rule{handle: integer(o["handle"]), comment: text(o["comment"]), chain: d.chains[d.table+" "+text(o["chain"])]}
	place := fmt.Sprintf("table %s, chain %s, handle %d", d.table, text(o["chain"]), r.handle)
	if r.chain == nil {
		d.unknown("%s: its chain is not listed", place)
		return
	}
	list, ok := o["expr"].([]any)
	if !ok {
		r.unknown("%s: no expressions", place)
	}
	if saved := d.saved[d.table].rule(r.chain.name, len(r.chain.rules)); saved != "" {
		r.number, r.text = len(r.chain.rules)+1, saved
		if slices.ContainsFunc(list, isXT) {
			d.savedRule(r)
			r.chain.rules = append(r.chain.rules, r)
			return
		}
	}
	var words []string
	rated := false
	for _, item := range list {
		object, ok := item.(map[string]any)
		if !ok || len(object) != 1 {
			r.unknown("%s: %s", place, compact(item))
			continue
		}
		s, words2, err := d.statement(object)
		if err != nil {
			r.unknown("%s: %v", place, err)
		}
		words = append(words, words2)
		if slices.ContainsFunc(slices.Collect(maps.Keys(object)), func(word string) bool { return rates[word] }) {
			rated = true // it ends the rule for whom the rate is not
		} else if rated && d.stops(s.verdict) {
			s = statement{limit: s.verdict.target}
		} else if rated && (s.verdict != nil || s.choice != nil || s.assign != nil || s.translation != nil) {
			r.unknown("%s: %s: a rate decides", place, strings.Join(words, " "))
		}
		if s != (statement{}) {
			r.statements = append(r.statements, s)
		}
	}
	if r.text == "" {
		r.text = strings.Join(words, " ")
	}
	r.chain.rules = append(r.chain.rules, r)
}

// isXT says whether a part of a rule is a match or target of xtables, of which nft prints the name alone.
func isXT(item any) bool {
	o, _ := item.(map[string]any)
	_, is := o["xt"]
	return is
}

// compact is JSON for an error, cut where it is long.
func compact(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return "?"
	}
	if len(b) > 120 {
		return string(b[:117]) + "..."
	}
	return string(b)
}
