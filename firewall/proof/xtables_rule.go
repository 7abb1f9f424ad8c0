package proof

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"shekara/firewall"
)

// savedRule reads a rule as iptables-save writes it.
func (d *decoder) savedRule(r *rule) {
	x := &xtRule{decoder: d, six: r.chain.family == "ip6"}
	words, err := shellWords(r.text)
	if err == nil {
		err = x.read(words)
	}
	if err != nil {
		r.unknown("table %s, chain %s, rule %d: %v", d.table, r.chain.name, r.number, err)
	}
	r.statements = x.statements
}

// xtRule is a rule of xtables while it is read.
type xtRule struct {
	*decoder
	six        bool
	module     string // of which options are read: "-m conntrack"; "": of every rule
	stated     bool   // this module was asked for the connection's state
	asked      bool   // and for something else
	rated      bool   // it ends for whom a rate is not
	statements []statement
}

// withoutValue are options that no value follows.
var withoutValue = []string{"--clamp-mss-to-pmtu", "--save-mark", "--restore-mark", "--map-mark"}

// read takes words from the left: options of a module, and then of the target, each with its value.
func (x *xtRule) read(words []string) error {
	for len(words) > 0 {
		negated := words[0] == "!"
		if negated {
			words = words[1:]
		}
		if len(words) < 2 {
			return fmt.Errorf("%s without a value", strings.Join(words, " "))
		}
		option, value := words[0], words[1]
		words = words[2:]
		switch {
		case option == "-m":
			x.module, x.stated, x.asked = value, false, false
		case option == "-j" || option == "-g":
			return x.target(option == "-g", value, words)
		case option == "--tcp-flags" || option == "--match-set":
			if len(words) == 0 {
				return fmt.Errorf("%s %s without a value", option, value)
			}
			value += " " + words[0]
			words = words[1:]
			fallthrough
		default:
			if err := x.option(option, value, negated); err != nil {
				return err
			}
		}
	}
	return nil
}

// option reads one of a match.
func (x *xtRule) option(option, value string, negated bool) error {
	name := strings.TrimSpace(x.module + " " + option)
	unknown := fmt.Errorf("-m %s %s", name, value)
	var m *match
	var err error
	switch name {
	case "comment --comment":
		return nil
	case "limit --limit", "limit --limit-burst":
		x.rated = true
		return nil
	case "set --match-set":
		m, err = x.inSet(value)
	case "conntrack --ctstate", "state --state":
		m, err = states(value)
	case "conntrack --ctdir":
		direction := slices.Index([]string{"ORIGINAL", "REPLY"}, value)
		if direction < 0 || negated {
			return unknown
		}
		m = one(expression{field: ctDirection}, oneNumber(uint64(direction)))
	case "conntrack --ctstatus":
		if value != "CONFIRMED" {
			return unknown
		}
		m = one(expression{field: ctStatus}, oneNumber(statusConfirmed))
		m.bits = true
	case "conntrack --ctorigsrc", "conntrack --ctorigdst", "conntrack --ctreplsrc", "conntrack --ctrepldst":
		m, err = x.ofTuple(option, value)
	case "mark --mark":
		m, err = marked(metaMark, value)
	case "connmark --mark":
		m, err = marked(ctMark, value)
	case "addrtype --src-type", "addrtype --dst-type":
		if value != "LOCAL" {
			return unknown
		}
		m = one(expression{field: map[bool]field{true: sourceType, false: destinationType}[option == "--src-type"]}, oneNumber(typeLocal))
	case "u32 --u32":
		m, err = u32(value, x.six)
	default:
		if m, err = x.header(option, value); m == nil && err == nil {
			err = unknown
			if x.module == "" {
				err = fmt.Errorf("%s %s", option, value)
			}
		}
	}
	if err == nil && x.module == "conntrack" {
		err = x.ofConntrack(option, m)
	}
	if err != nil {
		return err
	}
	if len(m.key) > 0 { // else it is asked for anything
		m.negated, m.lacking = negated, negated && (x.module == "set" || x.module == "u32")
		x.statements = append(x.statements, statement{match: m})
	} else if negated {
		return unknown
	}
	if m.key != nil && m.set != nil && m.key[0].field != ctStatus {
		return fits(m.key, m.set)
	}
	return nil
}

// ofConntrack is of one match of conntrack. What has no connection it asks for the state alone, and for no more where a state is asked for as well.
func (x *xtRule) ofConntrack(option string, m *match) error {
	if option != "--ctstate" {
		m.without, x.asked = x.stated, true
		return nil
	}
	if x.stated = true; x.asked { // iptables-save writes the state first
		return fmt.Errorf("-m conntrack %s behind another option", option)
	}
	return nil
}

// ofTuple reads one that asks for an address with which a connection was opened, or of its answers.
func (x *xtRule) ofTuple(option, value string) (*match, error) {
	f := map[string][2]field{"--ctorigsrc": {originalSource4, originalSource6}, "--ctorigdst": {originalDestination4, originalDestination6},
		"--ctreplsrc": {replySource4, replySource6}, "--ctrepldst": {replyDestination4, replyDestination6}}[option]
	is, err := prefixSpan(value)
	if x.six {
		return one(expression{field: f[1]}, is), err
	}
	return one(expression{field: f[0]}, is), err
}

func one(key expression, is ...span) *match {
	elements := make([]element, len(is))
	for i, s := range is {
		elements[i].key = []span{s}
	}
	return &match{key: []expression{key}, set: newSet("", "", elements)}
}

var xtProtocols = map[string]uint64{"icmp": 1, "tcp": 6, "udp": 17, "dccp": 33, "gre": 47, "esp": 50, "ah": 51, "ipv6-icmp": 58, "icmpv6": 58, "sctp": 132, "udplite": 136}

// header reads what asks for interfaces, addresses and headers; nil: it is none of these.
func (x *xtRule) header(option, value string) (*match, error) {
	address := map[bool]map[string]field{false: {"-s": source4, "-d": destination4}, true: {"-s": source6, "-d": destination6}}[x.six]
	switch name := strings.TrimSpace(x.module + " " + option); name {
	case "hl --hl-eq", "hl --hl-gt", "hl --hl-lt":
		return bounded(hopLimit6, option, value)
	case "ttl --ttl-eq", "ttl --ttl-gt", "ttl --ttl-lt":
		return bounded(hopLimit4, option, value)
	case "icmp --icmp-type":
		return icmpMatch(icmpNumber, value)
	case "icmp6 --icmpv6-type":
		return icmpMatch(icmp6, value)
	case "multiport --sports", "multiport --source-ports":
		return ports(expression{field: sourcePort}, value)
	case "multiport --dports", "multiport --destination-ports":
		return ports(expression{field: destinationPort}, value)
	case "tcp --tcp-flags":
		return tcpFlagsMatch(value)
	case "tcp --sport", "udp --sport", "sctp --sport", "dccp --sport":
		return ports(expression{field: sourcePort, protocol: uint8(xtProtocols[x.module])}, value)
	case "tcp --dport", "udp --dport", "sctp --dport", "dccp --dport":
		return ports(expression{field: destinationPort, protocol: uint8(xtProtocols[x.module])}, value)
	}
	switch option { // they may stand anywhere before the target
	case "-s", "-d":
		to, err := prefixSpan(value)
		return one(expression{field: address[option]}, to), err
	case "-i", "-o":
		key := expression{field: map[string]field{"-i": inputName, "-o": outputName}[option]}
		if start, pattern := strings.CutSuffix(value, "+"); pattern {
			value = start + "*"
		}
		if value == "*" {
			return &match{}, nil
		}
		x.ruleset.names[value] = true
		return one(key, span{kind: named, name: value}), nil
	case "-p":
		n, known := xtProtocols[value]
		if !known {
			var err error
			if n, err = strconv.ParseUint(value, 10, 8); err != nil || n == 0 {
				return nil, fmt.Errorf("-p %s", value)
			}
		}
		return one(expression{field: metaProtocol}, oneNumber(n)), nil
	}
	return nil, nil
}

func bounded(f field, option, value string) (*match, error) {
	n, err := strconv.ParseUint(value, 10, 8)
	s := oneNumber(n)
	switch option[len(option)-2:] {
	case "gt":
		s.low.low, s.high.low = n+1, 255
	case "lt":
		s.low.low, s.high.low = 0, n-1
	}
	if err != nil || s.high.less(s.low) || n == 0 && s.low != s.high {
		return nil, fmt.Errorf("%s %s", option, value)
	}
	return one(expression{field: f}, s), nil
}

// icmpMatch reads "8", "3/4" or "any".
func icmpMatch(protocol uint8, value string) (*match, error) {
	if value == "any" {
		return &match{}, nil
	}
	kind, code, coded := strings.Cut(value, "/")
	n, err := strconv.ParseUint(kind, 10, 8)
	m := one(expression{field: icmpType, protocol: protocol}, oneNumber(n))
	if coded && err == nil {
		var c uint64
		c, err = strconv.ParseUint(code, 10, 8)
		m.key = append(m.key, expression{field: icmpCode, protocol: protocol})
		m.set = newSet("", "", []element{{key: []span{oneNumber(n), oneNumber(c)}}})
	}
	if err != nil {
		return nil, fmt.Errorf("ICMP type %s", value)
	}
	return m, nil
}

// ports reads "22,80:90".
func ports(key expression, value string) (*match, error) {
	var list []span
	for _, part := range strings.Split(value, ",") {
		first, last, is := strings.Cut(part, ":")
		low, err := strconv.ParseUint(first, 10, 16)
		high := low
		if is && err == nil {
			high, err = strconv.ParseUint(last, 10, 16)
		}
		if err != nil || high < low {
			return nil, fmt.Errorf("ports %s", value)
		}
		list = append(list, span{low: small(low), high: small(high)})
	}
	return one(key, list...), nil
}

func tcpFlagsMatch(value string) (*match, error) {
	names := []string{"FIN", "SYN", "RST", "PSH", "ACK", "URG"}
	var bits [2]uint64
	for i, list := range strings.Fields(value) {
		for _, name := range strings.Split(list, ",") {
			at := slices.Index(names, name)
			switch {
			case name == "ALL":
				bits[i] |= 0x3f
			case at >= 0:
				bits[i] |= 1 << at
			case name != "NONE":
				return nil, fmt.Errorf("TCP flags %s", value)
			}
		}
	}
	return one(expression{field: tcpFlags, protocol: 6, operations: []operator{{'&', small(bits[0])}}}, oneNumber(bits[1])), nil
}

func states(value string) (*match, error) {
	known := map[string]uint64{"INVALID": stateInvalid, "ESTABLISHED": stateEstablished, "RELATED": stateRelated, "NEW": stateNew, "UNTRACKED": stateUntracked,
		"SNAT": stateSourceMoved, "DNAT": stateTargetMoved}
	var bits uint64
	for _, name := range strings.Split(value, ",") {
		if known[name] == 0 {
			return nil, fmt.Errorf("state %s", value)
		}
		bits |= known[name]
	}
	asked := ctState
	if bits >= stateSourceMoved {
		asked = xtState
	}
	m := one(expression{field: asked}, oneNumber(bits))
	m.bits = true
	return m, nil
}

func marked(f field, text string) (*match, error) {
	value, mask, err := valueAndMask(text)
	key := expression{field: f}
	if mask != allBits {
		key.operations = []operator{{'&', small(mask)}}
	}
	return one(key, oneNumber(value)), err
}

func (x *xtRule) inSet(value string) (*match, error) {
	name, sides, _ := strings.Cut(value, " ")
	s, err := x.ipset(name)
	if err != nil {
		return nil, err
	}
	m := &match{}
	if m.key, err = s.keys(sides); err != nil {
		return nil, fmt.Errorf("set %s: %w", name, err)
	}
	m.set, _, err = s.content(name, false)
	return m, err
}

// u32 knows the one question that is asked of a WireGuard message: how long UDP says that it is. IPv6: with no header between.
func u32(value string, six bool) (*match, error) {
	question := "0x0>>0x16&0x3c@0x4>>0x10="
	if six {
		question = "0x4>>0x8&0xff=0x11&&0x2c>>0x10="
	}
	length, is := strings.CutPrefix(value, question)
	first, last, ranged := strings.Cut(length, ":")
	low, err1 := strconv.ParseUint(first, 0, 16)
	high, err2 := strconv.ParseUint(last, 0, 16)
	if !is || !ranged || err1 != nil || err2 != nil || high < low {
		return nil, fmt.Errorf("-m u32 --u32 %q", value)
	}
	return one(expression{field: u32UDPLength}, span{low: small(low), high: small(high)}), nil
}

// target reads where the rule leads, or what it does.
func (x *xtRule) target(goesTo bool, name string, options []string) error {
	v := &verdict{name: name, target: x.chains[x.table+" "+name]}
	kinds := map[string]verdictKind{"ACCEPT": accepts, "DROP": drops, "RETURN": returns, "REJECT": drops}
	var s statement
	var err error
	switch kind, plain := kinds[name]; {
	case v.target != nil:
		if v.kind = jumps; goesTo {
			v.kind = goes
		}
		s.verdict = v
	case goesTo:
		return fmt.Errorf("-g %s, which is not listed", name)
	case plain:
		s.verdict = &verdict{kind: kind}
	case slices.Contains([]string{"LOG", "NFLOG", "TCPMSS"}, name): // no verdict depends on these
		return nil
	case name == "MARK" || name == "CONNMARK" || name == "SET":
		s.assign, err = x.assign(name, options)
	case name == "CT" && len(options) == 2 && options[0] == "--zone":
		s.assign, err = zoned(options[1])
	case slices.Contains([]string{"NETMAP", "SNAT", "DNAT", "MASQUERADE"}, name):
		s.translation, err = x.translation(name, options)
	case name == "NFQUEUE" && slices.Equal(options, []string{"--queue-num", strconv.Itoa(firewall.LogGroup)}):
		s.verdict = &verdict{kind: drops} // nobody reads it: netctl/filters sees to that
	default:
		return fmt.Errorf("-j %s", strings.Join(append([]string{name}, options...), " "))
	}
	if err == nil && x.rated {
		err = fmt.Errorf("-j %s: a rate decides", name)
	}
	x.statements = append(x.statements, s)
	return err
}

// assign reads what sets a mark. All of them clear some bits of it and join others by exclusive or.
func (x *xtRule) assign(name string, options []string) (*assign, error) {
	unknown := fmt.Errorf("-j %s %s", name, strings.Join(options, " "))
	given := map[string]string{}
	for i := 0; i < len(options); i++ {
		option := options[i]
		switch {
		case slices.Contains(withoutValue, option):
			given[option] = ""
		case option == "--map-set" && i+2 < len(options):
			given[option] = options[i+1] + " " + options[i+2]
			i += 2
		case i+1 < len(options):
			given[option] = options[i+1]
			i++
		default:
			return nil, unknown
		}
	}
	has := func(names ...string) bool {
		return len(given) == len(names) && !slices.ContainsFunc(names, func(n string) bool { _, is := given[n]; return !is })
	}
	masks := func() (packet, connection uint64, err error) {
		if _, packet, err = valueAndMask("0/" + given["--nfmask"]); err == nil {
			_, connection, err = valueAndMask("0/" + given["--ctmask"])
		}
		return packet, connection, err
	}
	a := &assign{to: metaMark}
	switch {
	case name == "MARK" && has("--set-xmark"):
		value, mask, err := valueAndMask(given["--set-xmark"])
		a.value, a.keep = small(value), small(mask^allBits)
		return a, err
	case name == "SET" && has("--map-set", "--map-mark"):
		set, sides, _ := strings.Cut(given["--map-set"], " ")
		s, err := x.ipset(set)
		if err != nil {
			return nil, err
		}
		if a.key, err = s.keys(sides); err != nil {
			return nil, fmt.Errorf("set %s: %w", set, err)
		}
		var mask uint64
		a.set, mask, err = s.content(set, true)
		a.keep = small(mask ^ allBits)
		return a, err
	case name == "CONNMARK" && has("--restore-mark", "--nfmask", "--ctmask"):
		packet, connection, err := masks()
		a.from, a.keep = &expression{field: ctMark, operations: []operator{{'&', small(connection)}}}, small(packet^allBits)
		return a, err
	case name == "CONNMARK" && has("--save-mark", "--nfmask", "--ctmask"):
		packet, connection, err := masks()
		if err == nil && connection == allBits {
			return &assign{to: ctMark, from: &expression{field: metaMark, operations: []operator{{'&', small(packet)}}}}, nil
		}
	case name == "CONNMARK" && has("--set-xmark"):
		if value, mask, err := valueAndMask(given["--set-xmark"]); err == nil && mask == allBits {
			return &assign{to: ctMark, value: small(value)}, nil
		}
	}
	return nil, unknown
}
