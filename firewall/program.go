package firewall

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// program is a ruleset read back from its own text, so that what is explained is what is loaded. It knows the words that this package
// writes and no others: any other is an error, never a guess.
type program struct {
	chains map[string]*chain
	hooks  map[string][]*chain // base chains, by hook, in the order of their priorities
	sets   map[string]map[string]bool
	maps   map[string]string // what stands between the braces of a map; those of limits are held
	held   Elements          // what tunnels and flows put into sets
	// named are the chains and sets that rules lead to.
	named struct{ chains, sets []string }
}

type chain struct {
	name     string
	policy   action // of a base chain: what becomes of a packet that no rule decides
	priority int
	nat      bool // a base chain that sees the first packet of a connection alone
	rules    []rule
}

// rule is one line. Its steps are done in order until one does not match or decides.
type rule struct {
	text    string
	comment string
	steps   []step
}

// action is what a step, a rule or a chain does with a packet.
type action struct {
	kind  actionKind
	chain string // of jump and goto
}

type actionKind uint8

const (
	proceed  actionKind = iota // the next step, rule or chain
	mismatch                   // the rule is not for this packet
	accepts
	drops
	returns
	jumps
	goes
)

type step func(*walk) action

// value is what an expression yields: an address, a number or a word.
type value struct {
	address netip.Addr
	number  uint64
	word    string
	form    string // how a number stands in a set's element; "": decimal
}

// key is the value as it stands in a set's element.
func (v value) key() string {
	switch {
	case v.address.IsValid():
		return v.address.String()
	case v.word != "":
		return v.word
	case v.form != "":
		return fmt.Sprintf(v.form, v.number)
	}
	return strconv.FormatUint(v.number, 10)
}

// expression reads something of the packet. It reports false if the packet does not have it; the rule then does not match.
type expression func(*walk) (value, bool)

// parseProgram reads the one table of a ruleset's text.
func parseProgram(text string, held Elements) (*program, error) {
	p := &program{chains: map[string]*chain{}, hooks: map[string][]*chain{}, sets: map[string]map[string]bool{}, maps: map[string]string{}, held: held}
	var in *chain
	var set string
	for number, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		kind, name, _ := strings.Cut(strings.TrimSuffix(line, " {"), " ")
		var err error
		switch {
		case line == "" || line == "}" && in == nil && set == "":
		case line == "}":
			in, set = nil, ""
		case strings.HasSuffix(line, " {") && kind == "chain":
			in = &chain{name: name}
			p.chains[name] = in
		case strings.HasSuffix(line, " {") && (kind == "set" || kind == "map" || kind == "counter"):
			set = name
			if kind != "counter" {
				p.sets[name] = map[string]bool{}
			}
			if kind == "map" {
				p.maps[name] = ""
			}
		case strings.HasSuffix(line, " {") && kind == "table":
		case in != nil:
			err = p.addLine(in, line)
		case set != "":
			err = p.addToSet(set, line)
		default:
			err = fmt.Errorf("not in a chain or set")
		}
		if err != nil {
			return nil, fmt.Errorf("rules, line %d: %q: %w", number+1, line, err)
		}
	}
	for _, list := range p.hooks {
		slices.SortStableFunc(list, func(a, b *chain) int { return a.priority - b.priority })
	}
	return p, p.complete()
}

// complete reports jumps and lookups that lead nowhere.
func (p *program) complete() error {
	for _, hook := range []string{"prerouting", "forward", "input", "output"} {
		if !slices.ContainsFunc(p.hooks[hook], func(c *chain) bool { return c.name == hook }) {
			return fmt.Errorf("rules have no chain at hook %s", hook)
		}
	}
	for _, name := range p.named.chains {
		if p.chains[name] == nil {
			return fmt.Errorf("rules lead to chain %q, which is not there", name)
		}
	}
	for _, name := range p.named.sets {
		if p.sets[name] == nil {
			return fmt.Errorf("rules look into set %q, which is not there", name)
		}
	}
	return nil
}

func (p *program) addToSet(set, line string) error {
	list, found := strings.CutPrefix(line, "elements = { ")
	if !found {
		if property, _, _ := strings.Cut(line, " "); property == "type" || property == "typeof" || property == "flags" || property == "size" {
			return nil
		}
		return fmt.Errorf("unknown property of set %s", set)
	}
	list = strings.TrimSuffix(list, " }")
	if _, isMap := p.maps[set]; isMap {
		p.maps[set] = list
		return nil
	}
	for element := range strings.SplitSeq(list, ", ") {
		p.sets[set][element] = true
	}
	return nil
}

// addLine adds a rule, or makes a base chain of a chain.
func (p *program) addLine(in *chain, line string) error {
	words := split(line)
	if words[0] == "type" && len(words) >= 10 && words[2] == "hook" { // type filter hook X priority Y ; policy Z ;
		return p.addBase(in, words)
	}
	if line == record(in.name) {
		return nil // whether a packet is recorded is no matter of its fate
	}
	c := &cursor{program: p, words: words}
	r := rule{text: withoutDigits(line)}
	for !c.done() {
		if c.take("comment") {
			r.comment = strings.Trim(c.next(), `"`)
			continue
		}
		s, err := c.step()
		if err != nil {
			return err
		}
		r.steps = append(r.steps, s)
	}
	in.rules = append(in.rules, r)
	return nil
}

// priorities are the names of nft(8), CHAINS.
var priorities = map[string]int{"raw": -300, "dstnat": -100, "filter": 0, "srcnat": 100}

func (p *program) addBase(in *chain, words []string) error {
	in.policy = action{kind: map[string]actionKind{"accept": accepts, "drop": drops}[words[8]]}
	if in.policy.kind == proceed {
		return fmt.Errorf("unknown policy %q", words[8])
	}
	var named bool
	if in.priority, named = priorities[words[5]]; !named {
		var err error
		if in.priority, err = strconv.Atoi(words[5]); err != nil {
			return fmt.Errorf("unknown priority %q", words[5])
		}
	}
	in.nat = words[1] == "nat"
	p.hooks[words[3]] = append(p.hooks[words[3]], in)
	return nil
}

// split cuts a line into words; braces, commas, parentheses, semicolons and quoted texts are words of their own.
func split(line string) []string {
	var words []string
	for len(line) > 0 {
		switch {
		case line[0] == ' ':
			line = line[1:]
		case line[0] == '"':
			end := strings.IndexByte(line[1:], '"')
			if end < 0 {
				end = len(line) - 2
			}
			words, line = append(words, line[:end+2]), line[end+2:]
		case strings.IndexByte("{}(),;", line[0]) >= 0:
			words, line = append(words, line[:1]), line[1:]
		default:
			end := strings.IndexAny(line, " {}(),;")
			if end < 0 {
				end = len(line)
			}
			words, line = append(words, line[:end]), line[end:]
		}
	}
	return words
}

// cursor reads the words of one rule.
type cursor struct {
	program *program
	words   []string
	at      int
}

func (c *cursor) done() bool { return c.at >= len(c.words) }

func (c *cursor) peek(ahead int) string {
	if c.at+ahead >= len(c.words) {
		return ""
	}
	return c.words[c.at+ahead]
}

func (c *cursor) next() string {
	word := c.peek(0)
	c.at++
	return word
}

// take passes over the words if they come next.
func (c *cursor) take(words ...string) bool {
	for i, word := range words {
		if c.peek(i) != word {
			return false
		}
	}
	c.at += len(words)
	return true
}

func (c *cursor) unknown(what string) error {
	return fmt.Errorf("unknown %s at %q", what, strings.Join(c.words[min(c.at, len(c.words)):], " "))
}

// verdict reads accept, drop, return, jump X or goto X.
func (c *cursor) verdict() (action, bool) {
	switch {
	case c.take("accept"):
		return action{kind: accepts}, true
	case c.take("drop"):
		return action{kind: drops}, true
	case c.take("return"):
		return action{kind: returns}, true
	case c.take("jump"):
		return action{jumps, c.leads()}, true
	case c.take("goto"):
		return action{goes, c.leads()}, true
	}
	return action{}, false
}

// leads reads the name of a chain.
func (c *cursor) leads() string {
	name := c.next()
	c.program.named.chains = append(c.program.named.chains, name)
	return name
}

// step reads one match or statement.
func (c *cursor) step() (step, error) {
	if a, ok := c.verdict(); ok {
		return func(*walk) action { return a }, nil
	}
	switch {
	case c.take("counter", "name"):
		name := c.next()
		return func(w *walk) action { w.counter = name; return action{} }, nil
	case c.take("tcp", "option", "maxseg", "size", "set", "rt", "mtu"):
		return func(*walk) action { return action{} }, nil // what the route allows: no matter of the rules
	case c.take("tcp", "option", "maxseg", "size", "set"):
		size, err := strconv.Atoi(c.next())
		return func(w *walk) action { w.clamp(size); return action{} }, err
	case c.take("ct", "zone", "set"): // keeps equal addresses apart, and changes no verdict
		e, err := c.assigned()
		return func(w *walk) action { var zone uint32; return assign(w, e, &zone) }, err
	case c.take("dnat"), c.take("snat"):
		return c.translation(c.words[c.at-1] == "dnat")
	case c.take("meta", "mark", "set"):
		e, err := c.assigned()
		return func(w *walk) action { return assign(w, e, &w.mark) }, err
	case c.take("ct", "mark", "set"):
		e, err := c.assigned()
		return func(w *walk) action { return assign(w, e, &w.connection.Mark) }, err
	}
	return c.match()
}

// translation reads what a destination or source becomes: ip to ADDRESS, or ip prefix to EXPRESSION map { PREFIX : PREFIX, ... }.
func (c *cursor) translation(destination bool) (step, error) {
	c.next() // the family, which the expression or the rule's match has too
	if c.take("to") {
		to, err := netip.ParseAddr(c.next())
		return func(w *walk) action { return w.translate(destination, to) }, err
	}
	if !c.take("prefix", "to") {
		return nil, c.unknown("translation")
	}
	e, err := c.term()
	if err != nil {
		return nil, err
	}
	if !c.take("map") {
		return nil, c.unknown("translation")
	}
	var mappings []Mapping
	err = c.entries(func(entry *cursor) error {
		inside, err := netip.ParsePrefix(entry.next())
		if err != nil || !entry.take(":") {
			return entry.unknown("map")
		}
		outside, err := netip.ParsePrefix(entry.next())
		mappings = append(mappings, Mapping{Inside: inside, Outside: outside})
		return err
	})
	if err != nil {
		return nil, err
	}
	return func(w *walk) action {
		v, ok := e(w)
		for _, m := range mappings {
			if ok && m.Inside.Contains(v.address) {
				out, _ := Out(mappings, netip.PrefixFrom(v.address, v.address.BitLen()))
				return w.translate(destination, out.Addr())
			}
		}
		return action{kind: mismatch}
	}, nil
}

// assign sets a mark, or ends the rule where the expression has no value: no entry of a map.
func assign(w *walk, e expression, into *uint32) action {
	v, ok := e(w)
	if !ok {
		return action{kind: mismatch}
	}
	*into = uint32(v.number)
	return action{}
}

// assigned reads what a mark is set to: a number, an expression with a bit set, or a map's entry.
func (c *cursor) assigned() (expression, error) {
	if n, err := strconv.ParseUint(c.peek(0), 0, 32); err == nil {
		c.next()
		return func(*walk) (value, bool) { return value{number: n}, true }, nil
	}
	e, err := c.term()
	if err != nil || !c.take("map") {
		return e, err
	}
	var numbers []entry[uint64]
	err = c.entries(func(at *cursor) error {
		is, err := at.constant()
		if err != nil || !at.take(":") {
			return at.unknown("map")
		}
		n, err := strconv.ParseUint(at.next(), 0, 32)
		numbers = append(numbers, entry[uint64]{is, n})
		return err
	})
	return func(w *walk) (value, bool) {
		v, ok := e(w)
		n, found := lookup(numbers, v)
		return value{number: n}, ok && found
	}, err
}

// entries reads the name of a map, and one entry of it after another: "KEY : DATA".
func (c *cursor) entries(read func(*cursor) error) error {
	name, named := strings.CutPrefix(c.peek(0), "@")
	list, there := c.program.maps[name]
	if !named || !there {
		return c.unknown("map")
	}
	c.next()
	in := &cursor{program: c.program, words: split(list)}
	for more := true; more; more = in.take(",") {
		if err := read(in); err != nil {
			return fmt.Errorf("map %s: %w", name, err)
		}
	}
	if !in.done() {
		return in.unknown("entry of map " + name)
	}
	return nil
}

// entry is one of a map.
type entry[T any] struct {
	is   func(value) bool
	then T
}

func lookup[T any](entries []entry[T], v value) (then T, found bool) {
	i := slices.IndexFunc(entries, func(e entry[T]) bool { return e.is(v) })
	if i < 0 {
		return then, false
	}
	return entries[i].then, true
}

// match reads an expression, or several joined by dots, and what it is compared with.
func (c *cursor) match() (step, error) {
	var terms []expression
	for more := true; more; more = c.take(".") {
		e, err := c.term()
		if err != nil {
			return nil, err
		}
		terms = append(terms, e)
	}
	if set, named := strings.CutPrefix(c.peek(0), "@"); named {
		c.next()
		c.program.named.sets = append(c.program.named.sets, set)
		return func(w *walk) action { return w.inSet(set, terms) }, nil
	}
	if c.take("vmap") {
		if IsLookup(strings.TrimPrefix(c.peek(0), "@")) && len(terms) == 1 {
			return c.verdictMap(terms[0])
		}
		return c.limited(terms)
	}
	if len(terms) != 1 {
		return nil, c.unknown("comparison")
	}
	e := terms[0]
	is, err := c.comparison()
	return func(w *walk) action {
		if v, ok := e(w); ok && is(v) {
			return action{}
		}
		return action{kind: mismatch}
	}, err
}

func (c *cursor) verdictMap(e expression) (step, error) {
	var verdicts []entry[action]
	err := c.entries(func(at *cursor) error {
		is, err := at.constant()
		if err != nil || !at.take(":") {
			return at.unknown("verdict map")
		}
		a, ok := at.verdict()
		if !ok {
			return at.unknown("verdict")
		}
		verdicts = append(verdicts, entry[action]{is, a})
		return nil
	})
	return func(w *walk) action {
		if v, ok := e(w); ok {
			if a, found := lookup(verdicts, v); found {
				return a
			}
		}
		return action{kind: mismatch}
	}, err
}

// comparison reads == X, < X, ! X, { X, Y }, X,Y or X alone.
func (c *cursor) comparison() (func(value) bool, error) {
	if c.take("<") {
		n, err := strconv.ParseUint(c.next(), 0, 64)
		return func(v value) bool { return v.number < n }, err
	}
	if c.take("!") { // none of the bits
		n, err := strconv.ParseUint(c.next(), 0, 64)
		return func(v value) bool { return v.number&n == 0 }, err
	}
	c.take("==")
	braced := c.take("{")
	var any []func(value) bool
	for {
		is, err := c.constant()
		if err != nil {
			return nil, err
		}
		any = append(any, is)
		if !c.take(",") {
			break
		}
	}
	if braced && !c.take("}") {
		return nil, c.unknown("set")
	}
	return func(v value) bool { return slices.ContainsFunc(any, func(is func(value) bool) bool { return is(v) }) }, nil
}

// constant reads one value, prefix or range to compare with.
func (c *cursor) constant() (func(value) bool, error) {
	word := c.next()
	if prefix, err := netip.ParsePrefix(word); err == nil {
		return func(v value) bool { return prefix.Contains(v.address) }, nil
	}
	if address, err := netip.ParseAddr(word); err == nil {
		return func(v value) bool { return v.address == address }, nil
	}
	if n, known := flagNumbers[word]; known {
		return func(v value) bool { return v.number == n }, nil
	}
	first, last, isRange := strings.Cut(word, "-")
	if !isRange {
		last = first
	}
	low, err := strconv.ParseUint(first, 0, 64)
	high, err2 := strconv.ParseUint(last, 0, 64)
	if err == nil && err2 == nil {
		return func(v value) bool { return !v.address.IsValid() && v.word == "" && low <= v.number && v.number <= high }, nil
	}
	if words[word] || strings.HasPrefix(word, `"`) {
		return func(v value) bool { return v.word == word }, nil
	}
	c.at--
	return nil, c.unknown("constant")
}

// words are the constants that stand for themselves.
var words = map[string]bool{"original": true, "reply": true, "new": true, "invalid": true, "established": true, "related": true, "ipv4": true, "ipv6": true, "local": true}

var flagNumbers = map[string]uint64{"fin": 0x01, "syn": 0x02, "rst": 0x04, "ack": 0x10}
