package proof

import (
	"fmt"
	"net/netip"
	"strings"
)

// verdict reads {"accept": null}, {"jump": {"target": "x"}} and their like; nil if it is none.
func (d *decoder) verdict(o map[string]any) *verdict {
	for word, kind := range map[string]verdictKind{"accept": accepts, "drop": drops, "return": returns, "continue": continues, "jump": jumps, "goto": goes} {
		argument, is := o[word]
		if !is || len(o) != 1 {
			continue
		}
		v := &verdict{kind: kind}
		if kind == jumps || kind == goes {
			to, _ := argument.(map[string]any)
			v.name = text(to["target"])
			v.target = d.chains[d.table+" "+v.name]
			d.targets = append(d.targets, v)
		}
		return v
	}
	return nil
}

func (v *verdict) String() string {
	words := map[verdictKind]string{accepts: "accept", drops: "drop", returns: "return", continues: "continue", jumps: "jump ", goes: "goto "}
	return words[v.kind] + v.name
}

// harmless are statements that change no verdict, of this packet or another: a limit only where nothing behind it does, see rules.
var harmless = map[string]bool{"counter": true, "log": true, "last": true, "comment": true, "limit": true, "ct count": true}

// rates are the statements that end a rule for whom what came before is, or is not, too much.
var rates = map[string]bool{"limit": true, "ct count": true}

// statement reads one, and how nft would print it, nearly. The zero statement is one that decides nothing.
func (d *decoder) statement(o map[string]any) (statement, string, error) {
	if v := d.verdict(o); v != nil {
		return statement{verdict: v}, v.String(), nil
	}
	for word, argument := range o {
		fields, _ := argument.(map[string]any)
		switch {
		case harmless[word]:
			return statement{}, strings.TrimSpace(word + " " + text(argument)), nil
		case word == "reject": // drops, and says so
			return statement{verdict: &verdict{kind: drops}}, word, nil
		case word == "match":
			m, text, err := d.match(fields)
			return statement{match: m}, text, err
		case word == "vmap":
			key, words, err := d.keys(fields["key"])
			if err != nil {
				return statement{}, compact(o), err
			}
			s, err := d.mapping(fields["data"], "verdict")
			if err == nil {
				err = fits(key, s)
			}
			if err != nil {
				return statement{}, compact(o), err
			}
			return statement{choice: &choice{key, s}}, words + " vmap " + s.describe(fields["data"]), nil
		case word == "mangle":
			return d.mangle(fields)
		case word == "snat" || word == "dnat" || word == "masquerade":
			return d.translation(word, fields)
		}
	}
	return statement{}, compact(o), fmt.Errorf("statement %s", compact(o))
}

// mangle reads what sets a mark or a conntrack zone, or what changes a packet in a way that no verdict depends on.
func (d *decoder) mangle(fields map[string]any) (statement, string, error) {
	key, _ := fields["key"].(map[string]any)
	if option, ok := key["tcp option"].(map[string]any); ok && text(option["name"]) == "maxseg" {
		return statement{}, "tcp option maxseg size set " + written(fields["value"]), nil
	}
	if meta, ok := key["meta"].(map[string]any); ok && (text(meta["key"]) == "nftrace" || text(meta["key"]) == "priority") {
		return statement{}, "meta " + text(meta["key"]) + " set", nil
	}
	to, err := d.expression(fields["key"])
	if ct, ok := key["ct"].(map[string]any); ok && len(ct) == 1 && text(ct["key"]) == "zone" { // of one direction: not modelled
		to, err = expression{field: ctZone}, nil
	}
	if err != nil || to.field != metaMark && to.field != ctMark && to.field != ctZone || len(to.operations) > 0 {
		return statement{}, compact(fields), fmt.Errorf("statement sets %s", compact(fields["key"]))
	}
	a := &assign{to: to.field}
	words := to.String() + " set "
	if n, ok := whole(fields["value"]); ok {
		a.value = small(n)
		return statement{assign: a}, fmt.Sprintf("%s0x%08x", words, n), nil
	}
	object, _ := fields["value"].(map[string]any)
	if mapped, ok := object["map"].(map[string]any); ok && len(object) == 1 {
		var keyText string
		if a.key, keyText, err = d.keys(mapped["key"]); err == nil {
			if a.set, err = d.mapping(mapped["data"], "mark"); err == nil {
				err = fits(a.key, a.set)
			}
		}
		if err != nil {
			return statement{}, compact(fields), err
		}
		return statement{assign: a}, words + keyText + " map " + a.set.describe(mapped["data"]), nil
	}
	from, err := d.expression(fields["value"])
	if err == nil && (to.field == ctZone || from.field != metaMark && from.field != ctMark) {
		err = fmt.Errorf("mark set from %s", from)
	}
	if err != nil {
		return statement{}, compact(fields), err
	}
	a.from = &from
	return statement{assign: a}, words + from.String(), nil
}

// mapping reads "@name" or {"set": [...]} of a map.
func (d *decoder) mapping(v any, data string) (*set, error) {
	if name, ok := strings.CutPrefix(text(v), "@"); ok {
		s, err := d.named(name)
		if err == nil && s.leads != data {
			err = fmt.Errorf("map @%s is not one to %ss", name, data)
		}
		return s, err
	}
	o, _ := v.(map[string]any)
	list, ok := o["set"].([]any)
	if !ok {
		return nil, fmt.Errorf("map %s", compact(v))
	}
	elements, err := d.elements(list, data)
	return newSet("", data, elements), err
}

func (d *decoder) named(name string) (*set, error) {
	if s := d.sets[d.table+" "+name]; s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("set @%s is not listed", name)
}

// describe is how nft prints a map, nearly.
func (s *set) describe(v any) string {
	if name := text(v); name != "" {
		return name
	}
	return "{…}"
}

// written is a constant, nearly as nft prints it.
func written(v any) string {
	list, isList := v.([]any)
	o, _ := v.(map[string]any)
	prefix, isPrefix := o["prefix"].(map[string]any)
	ends, isRange := o["range"].([]any)
	elements, isSet := o["set"].([]any)
	if n, ok := whole(v); ok {
		return fmt.Sprint(n)
	}
	switch {
	case isList:
		return joined(list, ",")
	case isPrefix:
		return text(prefix["addr"]) + "/" + written(prefix["len"])
	case isRange:
		return joined(ends, "-")
	case isSet:
		return "{ " + joined(elements, ", ") + " }"
	case text(v) != "":
		return text(v)
	}
	return compact(v)
}

func joined(list []any, by string) string {
	const most = 8
	words := make([]string, 0, most+1)
	for i, item := range list {
		if i == most {
			words = append(words, "…")
			break
		}
		words = append(words, written(item))
	}
	return strings.Join(words, by)
}

// fits says whether a set's keys are of the form of what is looked up in it.
func fits(key []expression, s *set) error {
	for i := range s.elements {
		e := s.elements[i].key
		if len(e) != len(key) {
			return fmt.Errorf("set with keys of %d parts is asked for %d", len(e), len(key))
		}
		for j := range e {
			f := fields[key[j].field]
			if e[j].kind != f.kind || f.kind == numeric && !e[j].high.fits(f.width) {
				return fmt.Errorf("%s is compared with what it cannot be", f.name)
			}
			if key[j].field == ctStatus {
				return fmt.Errorf("ct status in a set")
			}
			if f := key[j].field; (f == sourceType || f == destinationType) && (e[j].low != e[j].high || e[j].low != small(typeLocal)) {
				return fmt.Errorf("%s other than local", fields[f].name)
			}
		}
	}
	return nil
}

func (n number) fits(width int) bool { return n.high == 0 && (width >= 64 || n.low>>width == 0) }

// keys reads one expression or a concatenation.
func (d *decoder) keys(v any) ([]expression, string, error) {
	list := []any{v}
	if o, ok := v.(map[string]any); ok && len(o) == 1 {
		if parts, ok := o["concat"].([]any); ok {
			list = parts
		}
	}
	var out []expression
	var words []string
	for _, item := range list {
		e, err := d.expression(item)
		if err != nil {
			return nil, compact(v), err
		}
		out, words = append(out, e), append(words, e.String())
	}
	return out, strings.Join(words, " . "), nil
}

// match reads a comparison. Whatever the right side is, it becomes a set.
func (d *decoder) match(o map[string]any) (*match, string, error) {
	key, words, err := d.keys(o["left"])
	if err != nil {
		return nil, compact(o), err
	}
	m := &match{key: key}
	var elements []element
	op, right := text(o["op"]), o["right"]
	inRule := strings.NewReplacer(" == ", " ", " in ", " ").Replace(fmt.Sprintf("%s %s %s", words, op, written(right)))
	if name, ok := strings.CutPrefix(text(right), "@"); ok {
		m.set, err = d.named(name)
		inRule = words + " @" + name
	} else if object, ok := right.(map[string]any); ok && object["set"] != nil {
		list, _ := object["set"].([]any)
		elements, err = d.elements(list, "")
	} else if flags, ok := right.([]any); ok {
		var n uint64
		for _, flag := range flags {
			bit, ok := whole(flag)
			if n |= bit; !ok {
				return nil, inRule, fmt.Errorf("match %s", inRule)
			}
		}
		elements = []element{{key: []span{{low: small(n), high: small(n)}}}}
	} else {
		var constant []span
		constant, err = d.key(right)
		elements = []element{{key: constant}}
	}
	if err == nil {
		err = m.compare(op, elements)
	}
	switch {
	case err != nil:
	case key[0].field == ctStatus:
		err = m.confirmedOnly()
	default:
		err = fits(key, m.set)
	}
	if err != nil {
		return nil, inRule, fmt.Errorf("match %s: %w", inRule, err)
	}
	return m, inRule, nil
}

// compare makes of an operator and one constant a set of ranges.
func (m *match) compare(op string, elements []element) error {
	f := fields[m.key[0].field]
	listed := m.set != nil
	if !listed {
		m.set = newSet("", "", elements)
	}
	switch op {
	case "==":
		return nil
	case "!=":
		m.negated = true
		return nil
	case "!": // none of the bits
		m.negated, op = true, "in"
	}
	if len(m.key) != 1 || listed || len(elements) != 1 || len(elements[0].key) != 1 || f.kind == named {
		return fmt.Errorf("operator %s", op)
	}
	s := &elements[0].key[0]
	if s.low != s.high {
		return fmt.Errorf("operator %s", op)
	}
	switch op {
	case "in":
		m.bits = true
	case "<", ">=":
		m.negated = op == "<"
		s.high = number{}.last(f.width, 0)
	case ">", "<=":
		m.negated = op == ">"
		s.low = number{}
	default:
		return fmt.Errorf("operator %s", op)
	}
	m.set = newSet("", "", elements)
	return nil
}

// span reads a constant, a prefix or a range.
func (d *decoder) span(v any) (span, error) {
	switch v := v.(type) {
	case float64:
		n, ok := whole(v)
		if !ok {
			return span{}, fmt.Errorf("constant %s", compact(v))
		}
		return span{low: small(n), high: small(n)}, nil
	case string:
		if a, err := netip.ParseAddr(v); err == nil && a.Zone() == "" {
			return spanOf(a, a.BitLen()), nil
		}
		if v == "" || strings.HasPrefix(v, "@") || len(v) > 16 {
			return span{}, fmt.Errorf("constant %s", compact(v))
		}
		d.ruleset.names[v] = true
		return span{kind: named, name: v}, nil
	case map[string]any:
		if prefix, ok := v["prefix"].(map[string]any); ok && len(v) == 1 {
			a, err := netip.ParseAddr(text(prefix["addr"]))
			length, ok := whole(prefix["len"])
			if err != nil || !ok || a.Zone() != "" || length > uint64(a.BitLen()) {
				return span{}, fmt.Errorf("prefix %s", compact(v))
			}
			return spanOf(a, int(length)), nil
		}
		if ends, ok := v["range"].([]any); ok && len(v) == 1 && len(ends) == 2 {
			low, err := d.span(ends[0])
			high, err2 := d.span(ends[1])
			if err != nil || err2 != nil || low.kind != high.kind || low.kind == named || high.high.less(low.low) {
				return span{}, fmt.Errorf("range %s", compact(v))
			}
			low.high = high.high
			return low, nil
		}
	}
	return span{}, fmt.Errorf("constant %s", compact(v))
}

// spanOf are the addresses of a prefix, whose host bits may be set.
func spanOf(a netip.Addr, length int) span {
	kind := address6
	if a.Is4() {
		kind = address4
	}
	first, _ := a.Prefix(length) // of a length that fits
	low := addressNumber(first.Addr())
	return span{kind: kind, low: low, high: low.last(a.BitLen(), length)}
}
