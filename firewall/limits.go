package firewall

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Limit is how much of what passes through this box one tunnel may take. What this box itself sends and gets is not counted.
type Limit struct {
	Tunnel   string // of the Tunnel document
	Device   string
	Prefixes []netip.Prefix // behind the far end, as they stand in packets on the device; no other tunnel of the device has them
	// NewPerSecond and Connections count what either side opens, both together. 0: any number.
	NewPerSecond int // connections opened in a second, and at most as many at once; at most MaxNewPerSecond
	Connections  int // connections at a time that conntrack knows and does not call closed; at most MaxConnections
	// MbitPerSecond is of IP packets in each direction on its own, in megabits (10^6). 0: any; at most MaxMbitPerSecond. What is not used is
	// kept for a second: so much more may pass at once.
	MbitPerSecond int
}

func (l Limit) String() string {
	var parts []string
	for _, x := range []struct {
		n    int
		text string
	}{{l.NewPerSecond, "%d new connections a second"}, {l.Connections, "%d connections at a time"}, {l.MbitPerSecond, "%d Mbit/s each way"}} {
		if x.n > 0 {
			parts = append(parts, fmt.Sprintf(x.text, x.n))
		}
	}
	return strings.Join(parts, ", ")
}

// The largest limits.
const (
	MaxNewPerSecond  = 100_000
	MaxMbitPerSecond = 100_000
	// MaxConnections: once in a tick of the kernel's clock a connection that opens has the kernel look at all that it counts (nf_conncount.c).
	MaxConnections = 10_000
)

// Reasons of what a limit stops.
const (
	TooManyNew         = "too_many_new"         // more connections opened in a second than its tunnel may
	TooManyConnections = "too_many_connections" // more connections at a time than its tunnel may
	Bandwidth          = "bandwidth"            // more bytes in a second than its tunnel may
)

// IsLimit says whether packets are dropped for the reason by a limit alone.
func IsLimit(reason string) bool {
	return reason == TooManyNew || reason == TooManyConnections || reason == Bandwidth
}

// Limits is a name among Elements that is no set's: each of its elements is the chains of one limited tunnel, "agency-a . 20 . 100 . 8" for 20
// new connections a second, 100 at a time and 8 Mbit/s, 0 for what is not limited.
const Limits = "limits"

const (
	bitsPerMbit = 1_000_000
	limitBurst  = 65536 // bytes beside those of a second: the largest packet that the kernel makes of many
	bytesOver   = "limit rate over %d bytes/second burst %d bytes"
)

// limitChains are of each limited tunnel, "limit_in_agency-a": what the far side sends, what it gets, and what opens a connection. A map of the
// same name and a shape, "limit_in4_28", leads to them.
var limitChains = [...]string{"limit_in", "limit_out", "limit_open"}

// parseLimit reads an element of Limits.
func parseLimit(element string) (Limit, error) {
	fields := strings.Split(element, " . ")
	if len(fields) != 4 {
		return Limit{}, fmt.Errorf("has %d fields, not 4", len(fields))
	}
	l := Limit{Tunnel: fields[0]}
	for i, into := range []*int{&l.NewPerSecond, &l.Connections, &l.MbitPerSecond} {
		var err error
		if *into, err = strconv.Atoi(fields[i+1]); err != nil {
			return Limit{}, err
		}
	}
	return l, l.check()
}

// LimitChains are the names of the chains that an element of Limits stands for; none if it is no such element.
func LimitChains(element string) []string {
	l, err := parseLimit(element)
	if err != nil {
		return nil
	}
	var out []string
	for _, chain := range sortedKeys(l.chains()) {
		out = append(out, chain+"_"+l.Tunnel)
	}
	return out
}

func (l Limit) element() string {
	return fmt.Sprintf("%s . %d . %d . %d", l.Tunnel, l.NewPerSecond, l.Connections, l.MbitPerSecond)
}

// Limits reads what each limited tunnel may take: without devices and prefixes.
func (e Elements) Limits() (map[string]Limit, error) {
	out := make(map[string]Limit, len(e[Limits]))
	for _, element := range e[Limits] {
		l, err := parseLimit(element)
		if err != nil {
			return nil, fmt.Errorf("limit %q: %w", element, err)
		}
		out[l.Tunnel] = l
	}
	return out, nil
}

func (l Limit) check() error {
	if _, err := identifier("tunnel", l.Tunnel, longestZone); err != nil {
		return err
	}
	for _, n := range []struct {
		what     string
		is, most int
	}{{"new connections a second", l.NewPerSecond, MaxNewPerSecond}, {"connections", l.Connections, MaxConnections}, {"Mbit/s", l.MbitPerSecond, MaxMbitPerSecond}} {
		if n.is < 0 || n.is > n.most {
			return fmt.Errorf("limit of %d %s: is not between 1 and %d", n.is, n.what, n.most)
		}
	}
	if l.NewPerSecond == 0 && l.Connections == 0 && l.MbitPerSecond == 0 {
		return fmt.Errorf("a limit that limits nothing")
	}
	return nil
}

// chains are those of the tunnel, without the ones that have nothing to limit.
func (l Limit) chains() map[string][]string {
	out := map[string][]string{}
	add := func(chain, over, reason string) {
		out[chain] = append(out[chain], over+" "+drop("forward", reason))
	}
	if l.MbitPerSecond > 0 {
		over := fmt.Sprintf(bytesOver, l.MbitPerSecond*bitsPerMbit/8, limitBurst)
		add("limit_in", over, Bandwidth)
		add("limit_out", over, Bandwidth)
	}
	if l.NewPerSecond > 0 {
		// Before connections are counted, which costs more: the kernel looks at each that it counts.
		add("limit_open", fmt.Sprintf("limit rate over %d/second burst %d packets", l.NewPerSecond, l.NewPerSecond), TooManyNew)
	}
	if l.Connections > 0 {
		add("limit_open", fmt.Sprintf("ct count over %d", l.Connections), TooManyConnections)
	}
	return out
}

var (
	listedBytes = regexp.MustCompile(`^limit rate over (\d+) ([kmg]?)bytes/second burst (\d+) ([kmg]?)bytes goto forward\.bandwidth$`)
	listedNew   = regexp.MustCompile(`^limit rate over (\d+)/second burst (\d+) packets goto forward\.too_many_new$`)
	listedCount = regexp.MustCompile(`^ct count over (\d+) goto forward\.too_many_connections$`)
)

// ListedLimit is the element of Limits of which nft listed the chains, by their names without the tunnel's. It reports false if they are none
// that this package writes.
func ListedLimit(tunnel string, chains map[string][]string) (element string, ok bool) {
	l := Limit{Tunnel: tunnel}
	number := func(digits, unit string) int {
		n, err := strconv.Atoi(digits)
		if err != nil {
			return -1
		}
		return n << (10 * (strings.Index("kmg", unit) + len(unit))) // "" is at 0 and has no length
	}
	for _, rules := range chains {
		for _, rule := range rules {
			if m := listedBytes.FindStringSubmatch(rule); m != nil {
				l.MbitPerSecond = number(m[1], m[2]) * 8 / bitsPerMbit
			} else if m := listedNew.FindStringSubmatch(rule); m != nil {
				l.NewPerSecond = number(m[1], "")
			} else if m := listedCount.FindStringSubmatch(rule); m != nil {
				l.Connections = number(m[1], "")
			}
		}
	}
	if l.check() != nil {
		return "", false
	}
	want := l.chains()
	for name, rules := range chains {
		written := make([]string, len(rules))
		for i, rule := range rules {
			written[i] = rule
			if m := listedBytes.FindStringSubmatch(rule); m != nil {
				written[i] = fmt.Sprintf(bytesOver, number(m[1], m[2]), number(m[3], m[4])) + " " + drop("forward", Bandwidth)
			}
		}
		if !slices.Equal(written, want[name]) {
			return "", false
		}
	}
	if len(chains) != len(want) {
		return "", false
	}
	return l.element(), true
}

// SplitLimitChain is a chain's name in two: "limit_in" and "agency-a". It reports false for a chain of another kind.
func SplitLimitChain(name string) (chain, tunnel string, ok bool) {
	for _, chain := range limitChains {
		if tunnel, ok := strings.CutPrefix(name, chain+"_"); ok {
			return chain, tunnel, true
		}
	}
	return "", "", false
}

// addLimit puts a tunnel's limits into the maps that lead to its chains.
func (b *Base) addLimit(out Elements, l Limit) error {
	if err := l.check(); err != nil {
		return err
	}
	if _, ok := b.device[l.Device]; !ok {
		return fmt.Errorf("no device %q", l.Device)
	}
	if len(l.Prefixes) == 0 {
		return fmt.Errorf("limits without the prefixes that they are for")
	}
	out.put(Limits, l.element())
	for chain := range l.chains() {
		for _, prefix := range l.Prefixes {
			if err := checkPrefix(prefix); err != nil {
				return err
			}
			m := limitMap{chain, prefix.Addr().Is4(), prefix.Bits()}
			out.put(m.String(), fmt.Sprintf("%q . %s : jump %s_%s", l.Device, prefix.Addr(), chain, l.Tunnel))
		}
	}
	return nil
}

// limitMap is a map from device and far prefix, all of one length, to chains of one kind.
type limitMap struct {
	chain string
	is4   bool
	bits  int
}

func (m limitMap) String() string { return m.chain + family(m.is4) + "_" + strconv.Itoa(m.bits) }

// parseLimitMap is the inverse of String.
func parseLimitMap(name string) (limitMap, bool) {
	for _, chain := range limitChains {
		for _, is4 := range []bool{true, false} {
			digits, ok := strings.CutPrefix(name, chain+family(is4)+"_")
			bits, err := strconv.Atoi(digits)
			m := limitMap{chain, is4, bits}
			if ok && err == nil && bits >= 0 && bits <= map[bool]int{true: 32, false: 128}[is4] && m.String() == name {
				return m, true
			}
		}
	}
	return limitMap{}, false
}

// limitMaps are those among the elements, sorted.
func (e Elements) limitMaps() []limitMap {
	var out []limitMap
	for name := range e {
		if m, ok := parseLimitMap(name); ok {
			out = append(out, m)
		}
	}
	slices.SortFunc(out, func(x, y limitMap) int {
		return cmp.Or(strings.Compare(x.chain, y.chain), strings.Compare(x.String(), y.String()))
	})
	return out
}

func (m limitMap) keyType() string { return "ifname . ipv" + family(m.is4) + "_addr" }

// rule leads a packet of a far prefix on one side to its tunnel's chain.
func (m limitMap) rule(link, side string) string {
	all, keyword := netip.IPv6Unspecified(), "ip6"
	if m.is4 {
		all, keyword = netip.IPv4Unspecified(), "ip"
	}
	key := fmt.Sprintf("%s . %s %s", link, keyword, side)
	if m.bits < all.BitLen() {
		key += " & " + maskOf(all, m.bits).String()
	}
	return key + " vmap @" + m.String()
}

// Of a hooked chain behind that which judges: it sees what was let pass, on the shortcut too, and can only take away. Not by ct state alone: a
// connection is new until it is answered.
const (
	limitHook = "type filter hook forward priority 5; policy accept;"
	opens     = `ct state new ct status ! 0x8 jump limited_open comment "opens a connection"`

	statusConfirmed = 0x8 // IPS_CONFIRMED: not a connection's first packet
)

// limitRules are those of the two chains which lead to the tunnels' own: as many as there are lengths of far prefixes, however many tunnels.
func limitRules(list []limitMap) (limits, open []string) {
	for _, m := range list {
		in, out := m.rule("iifname", "saddr"), m.rule("oifname", "daddr")
		switch m.chain {
		case "limit_in":
			limits = append(limits, in)
		case "limit_out":
			limits = append(limits, out)
		default:
			open = append(open, in, out)
		}
	}
	if len(open) > 0 {
		// Bandwidth first: what is too much opens nothing.
		limits = append(limits, opens)
	}
	return limits, open
}

// limitTable writes the maps and chains of limits, but not what the maps hold, nor chains that are there.
func (w *writer) limitTable(e Elements, beside map[string]bool) error {
	list := e.limitMaps()
	limits, open := limitRules(list)
	for _, m := range list {
		fmt.Fprintf(w, "\tmap %s {\n\t\ttype %s : verdict\n\t}\n", m, m.keyType())
	}
	all, err := e.Limits()
	if err != nil {
		return err
	}
	for _, tunnel := range sortedKeys(all) {
		chains := all[tunnel].chains()
		for _, chain := range sortedKeys(chains) {
			if name := chain + "_" + tunnel; !beside[name] {
				w.chain(name, chains[chain]...)
			}
		}
	}
	w.chain("limited_open", open...)
	w.chain("limited", append([]string{limitHook}, limits...)...)
	return nil
}

// limitChange is what Change does to limits: what comes before elements change, and what goes after. A tunnel's chains that stay as they are
// are not touched, for they know how much it has taken.
func limitChange(before, after, add, remove Elements) (first, last string, err error) {
	come, gone := &writer{}, &writer{}
	had, have := before.limitMaps(), after.limitMaps()
	for _, m := range have {
		if !slices.Contains(had, m) {
			fmt.Fprintf(come, "add map %s %s { type %s : verdict; }\n", Table, m, m.keyType())
		}
	}
	added, err := add.Limits()
	if err != nil {
		return "", "", err
	}
	removed, err := remove.Limits()
	if err != nil {
		return "", "", err
	}
	for _, tunnel := range sortedKeys(added) {
		old, next := removed[tunnel].chains(), added[tunnel].chains()
		for _, chain := range sortedKeys(next) {
			if !slices.Equal(old[chain], next[chain]) {
				fmt.Fprintf(come, "add chain %s %s_%s\n", Table, chain, tunnel)
				come.rewrite(chain+"_"+tunnel, next[chain]...)
			}
		}
	}
	for _, tunnel := range sortedKeys(removed) {
		for _, chain := range sortedKeys(removed[tunnel].chains()) {
			if _, stays := added[tunnel].chains()[chain]; !stays {
				fmt.Fprintf(gone, "flush chain %[1]s %[2]s_%[3]s\ndelete chain %[1]s %[2]s_%[3]s\n", Table, chain, tunnel)
			}
		}
	}
	if slices.Equal(had, have) {
		return come.String(), gone.String(), nil
	}
	limits, open := limitRules(have)
	rewrite := &writer{}
	rewrite.rewrite("limited_open", open...)
	rewrite.rewrite("limited", limits...)
	for _, m := range had {
		if !slices.Contains(have, m) {
			fmt.Fprintf(rewrite, "delete map %s %s\n", Table, m)
		}
	}
	return come.String(), rewrite.String() + gone.String(), nil
}

// parts are the elements of limits, and all others.
func (e Elements) parts() (limits, others Elements) {
	limits, others = Elements{}, Elements{}
	for set, list := range e {
		if _, is := parseLimitMap(set); is || set == Limits {
			limits[set] = list
		} else {
			others[set] = list
		}
	}
	return limits, others
}

// OnlyLimits is the elements of limits alone.
func (e Elements) OnlyLimits() Elements { limits, _ := e.parts(); return limits }

// WithoutLimits is all other elements.
func (e Elements) WithoutLimits() Elements { _, others := e.parts(); return others }

// Narrows says whether less is allowed without the elements, so that connections must be judged again. Limits allow nothing.
func (e Elements) Narrows() bool { _, others := e.parts(); return others.Count() > 0 }

func checkLimitMap(name string, elements []string) error {
	for _, element := range elements {
		key, verdict, _ := strings.Cut(element, " : jump ")
		m, _ := parseLimitMap(name)
		chain, tunnel, ok := SplitLimitChain(verdict)
		_, err := identifier("tunnel", tunnel, longestZone)
		if !ok || err != nil || chain != m.chain || strings.Count(key, " . ") != 1 || strings.ContainsFunc(key, notInElement) {
			return fmt.Errorf("map %s: %q is not of the form %s : jump CHAIN", name, element, m.keyType())
		}
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// limited reads a map's name. What the map leads to stops what is too much, which depends on what came before: the packet is noted to meet the
// limits of a tunnel, and goes on.
func (c *cursor) limited(terms []expression) (step, error) {
	set := strings.TrimPrefix(c.next(), "@")
	if _, ok := parseLimitMap(set); !ok {
		return nil, c.unknown("map")
	}
	c.program.named.sets = append(c.program.named.sets, set)
	return func(w *walk) action {
		key, ok := w.key(terms)
		held := w.program.held[set]
		at, _ := slices.BinarySearch(held, key+" : ")
		if !ok || at == len(held) || !strings.HasPrefix(held[at], key+" : ") {
			return action{kind: mismatch}
		}
		_, verdict, _ := strings.Cut(held[at], " : jump ")
		if _, tunnel, ok := SplitLimitChain(verdict); ok && !slices.Contains(w.out.Limited, tunnel) {
			w.out.Limited = append(w.out.Limited, tunnel)
		}
		return action{}
	}, nil
}
