package nft

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/big"
	"slices"
	"sync"
	"time"

	"shekara/firewall"
	"shekara/netctl/nftables"
)

const (
	checkTable = "inet shekara-check"
	patience   = 5 * time.Minute // for nft; 10,000 tunnels take well under a second
	maxListing = 256 << 20       // bytes; a flow's element is about 60
)

// Loader loads rulesets into the network namespace of the calling thread, and remembers what it loaded. Safe for concurrent use.
type Loader struct {
	mu         sync.Mutex
	held       map[string]map[string]struct{} // set -> elements that the table holds; nil: unknown
	base       string
	generation int    // of judgement, 1 to firewall.Generations; 0: unknown
	drifted    bool   // the last look saw that somebody else had a hand in our table
	seen       uint32 // kernel's generation at which the table was exactly what is held; 0: look again
	canonical  struct {
		text    string
		listing listing
	}
	earlier map[string]firewall.Counter // counters of tables that were replaced
	commits nftables.Commits
}

// New proves by a dry run that nft and the kernel take our kind of rules.
func New(ctx context.Context) (*Loader, error) {
	// Dormant, since the kernel hooks a base chain before it knows whether the transaction is kept: for the moment of a dry run
	// "policy drop" would drop whatever is forwarded (seen on 6.18: one packet in about a thousand at each start of the daemon).
	sample := "table " + checkTable + ` {
	flags dormant;
	set s { type mark . ipv4_addr . inet_service; }
	map m { type ifname . ipv4_addr : verdict; }
	chain e { limit rate over 125000 bytes/second burst 65536 bytes drop; }
	chain c {
		type filter hook forward priority filter; policy drop;
		ct state new ct status ! 0x8 iifname . ip saddr & 255.255.255.240 vmap @m
		meta mark . ct original ip saddr & 255.255.255.240 . th dport & 65532 @s ct mark set meta mark | 0x00000001
		ct mark & 0xffc00000 . iifname @t accept
		tcp option maxseg size set rt mtu
		limit rate 5/second burst 20 packets log prefix "x" group 21323 snaplen 128
	}
	set t { type mark . ifname; }
}
`
	if _, err := nft(sample, "--check").Run(ctx); err != nil {
		return nil, fmt.Errorf("probe nftables: %w (hint: needs CAP_NET_ADMIN, nft 1.0.6 or newer, and a kernel with nf_tables, nf_conntrack and nfnetlink_log)", err)
	}
	return &Loader{earlier: map[string]firewall.Counter{}}, nil
}

// Load puts the ruleset in place of whatever our table holds, in one transaction. Connections under way are judged again by it:
// those that it allows do not notice. On an error the table is what it was, or holds the ruleset beside what somebody else put there.
func (l *Loader) Load(ctx context.Context, r firewall.Ruleset) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := r.Elements.Check(); err != nil {
		return fmt.Errorf("load ruleset: %w", err)
	}
	generation, err := l.nextGeneration(ctx)
	if err != nil {
		return fmt.Errorf("load ruleset: %w", err)
	}
	l.seen, err = l.replace(ctx, r, generation)
	if err != nil {
		return fmt.Errorf("load ruleset: %w", err)
	}
	l.remember(r, generation)
	l.drifted = false
	return nil
}

// replace puts the ruleset in place of our table. Where it can it keeps the hooked chains and swaps only what they hold: while a hooked
// chain is deleted there is a time in which it still sees packets but has no rules left, and its policy drops them (seen: one
// or two packets lost in each swap at 30,000 packets a second, and all packets for 25 ms on a busy machine). The table is deleted whole
// only if it cannot be emptied, or if emptied and filled it still differs: somebody else put into it what does not go away so.
// Chains of limits that were loaded and are in the ruleset too stay, unless somebody had a hand in the table: else a tunnel could take
// as much anew after every load. Seen is the kernel's generation at which the table was what was sent; 0: somebody came in between.
func (l *Loader) replace(ctx context.Context, r firewall.Ruleset, generation int) (seen uint32, err error) {
	text, err := r.Text(generation)
	if err != nil {
		return 0, err
	}
	there, err := nftables.HasTable(firewall.Table)
	if err != nil {
		return 0, err
	}
	if !there {
		return l.alone(l.commit(ctx, deleteTable(firewall.Table)+text)) // lest one came in meanwhile
	}
	drifted, stay := l.drifted, map[string]bool{}
	if !drifted {
		stay = l.limitsOf(r)
	}
	clearing, ok, err := clearFor(ctx, text, stay, drifted)
	if err != nil {
		return 0, err
	}
	if ok {
		beside, err := r.TextBeside(stay, generation)
		if err != nil {
			return 0, err
		}
		seen, err := l.alone(l.commit(ctx, clearing.script+beside))
		if err == nil && clearing.sweep != "" {
			nftables.Grace()
			// The ruleset is loaded; what a broom leaves behind is unused, and the next look tells of it.
			if swept, sweepErr := l.alone(l.commit(context.WithoutCancel(ctx), clearing.sweep)); sweepErr == nil && swept == seen+1 && seen != 0 {
				seen = swept
			} else {
				seen = 0
			}
		}
		if err == nil && drifted { // a look that fails says nothing: the ruleset is loaded, and the next look is Observe's
			sight, unseen := l.look(ctx, r)
			ok = unseen != nil || len(sight.drift) == 0
		}
		if ok && err == nil || ctx.Err() != nil {
			return seen, err
		}
	}
	counted, err := counters(ctx)
	if err != nil {
		return 0, err
	}
	if seen, err = l.alone(l.commit(ctx, deleteTable(firewall.Table)+text)); err != nil {
		return 0, err
	}
	for name, c := range counted {
		l.earlier[name] = l.earlier[name].Plus(c)
	}
	return seen, nil
}

// alone is the kernel's generation after a commit that nobody came between; 0: somebody did.
func (l *Loader) alone(before, after uint32, err error) (uint32, error) {
	if err != nil || after != before+1 {
		return 0, err
	}
	return after, nil
}

// limitsOf are the chains of limits in the ruleset that were loaded.
func (l *Loader) limitsOf(r firewall.Ruleset) map[string]bool {
	chains := map[string]bool{}
	for _, element := range r.Elements[firewall.Limits] {
		if _, loaded := l.held[firewall.Limits][element]; loaded {
			for _, name := range firewall.LimitChains(element) {
				chains[name] = true
			}
		}
	}
	return chains
}

func deleteTable(table string) string { return "add table " + table + "\ndelete table " + table + "\n" }

// deleteDormant deletes a dormant table, if it is there. It must be named dormant: adding it without the flag wakes it up, and
// until the same transaction has deleted it its chains drop what is forwarded (seen on 6.18: packets lost at each start).
func deleteDormant(table string) string {
	return "add table " + table + " { flags dormant; }\ndelete table " + table + "\n"
}

// remember is called when the table was r, exactly, a moment ago.
func (l *Loader) remember(r firewall.Ruleset, generation int) {
	l.base, l.generation, l.held = r.Base, generation, map[string]map[string]struct{}{}
	for set, list := range r.Elements {
		l.held[set] = make(map[string]struct{}, len(list))
		for _, element := range list {
			l.held[set][element] = struct{}{}
		}
	}
}

// nextGeneration differs from that of the table which is there, if one is; else it is drawn, since marks of connections may
// remain from a table that was removed.
func (l *Loader) nextGeneration(ctx context.Context) (int, error) {
	now := l.generation
	if now == 0 {
		there, err := nftables.HasTable(firewall.Table)
		if err != nil {
			return 0, err
		}
		if there {
			table, err := list(ctx, firewall.Table, true)
			if err != nil {
				return 0, err
			}
			now = table.generation()
		}
	}
	if now == 0 {
		n, err := rand.Int(rand.Reader, big.NewInt(firewall.Generations))
		if err != nil {
			return 0, err
		}
		now = int(n.Int64())
	}
	return now%firewall.Generations + 1, nil
}

// Change adds and removes elements in one transaction: by netlink where that will do, else by nft. Elements to add that are there already are passed over; one to remove
// that is not there is an error (fs.ErrNotExist), and nothing is changed then. If anything is removed that lets packets pass, connections under
// way are judged again.
func (l *Loader) Change(ctx context.Context, add, remove firewall.Elements) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		return fmt.Errorf("change ruleset: %w", firewall.ErrNotLoaded)
	}
	if err := add.Check(); err != nil {
		return fmt.Errorf("change ruleset: %w", err)
	}
	for set, list := range remove {
		for _, element := range list {
			if _, ok := l.held[set][element]; !ok {
				return fmt.Errorf("change ruleset: remove element %s of set %s: %w", element, set, fs.ErrNotExist)
			}
		}
	}
	fresh := firewall.Elements{}
	for set, list := range add {
		for _, element := range list {
			if _, there := l.held[set][element]; !there {
				fresh[set] = append(fresh[set], element)
			}
		}
	}
	if len(fresh) == 0 && remove.Count() == 0 {
		return nil
	}
	// Only which sets there are matters to the rules, not what they hold.
	before, after := firewall.Elements{}, firewall.Elements{}
	for set := range l.held {
		before[set] = nil
		if len(l.held[set])+len(fresh[set]) > len(remove[set]) {
			after[set] = nil
		}
	}
	for set := range fresh {
		after[set] = nil
	}
	generation := l.generation
	if remove.Narrows() {
		generation = generation%firewall.Generations + 1
	}
	var was, is uint32
	var done bool
	var err error
	if maps.EqualFunc(before, after, slices.Equal) { // the same sets
		was, is, done, err = l.quick(fresh, remove, generation)
	}
	if !done {
		var text string
		if text, err = firewall.Change(before, after, fresh, remove, generation); err != nil {
			return fmt.Errorf("change ruleset: %w", err)
		}
		was, is, err = l.commit(ctx, text)
	}
	if err != nil {
		l.seen = 0
		return fmt.Errorf("change ruleset: %w", err)
	}
	l.apply(fresh, remove)
	l.generation = generation
	if l.seen == was && is == was+1 { // the table was what we held, and nobody came in between
		l.seen = is
	} else {
		l.seen = 0
	}
	return nil
}

func (l *Loader) apply(add, remove firewall.Elements) {
	for set, list := range add {
		if l.held[set] == nil {
			l.held[set] = map[string]struct{}{}
		}
		for _, element := range list {
			l.held[set][element] = struct{}{}
		}
	}
	for set, list := range remove {
		for _, element := range list {
			delete(l.held[set], element)
		}
		if len(l.held[set]) == 0 {
			delete(l.held, set)
		}
	}
}

// Observe says whether our table holds exactly what was loaded. While nobody touches nftables it costs microseconds.
func (l *Loader) Observe(ctx context.Context) (firewall.Observation, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		return firewall.Observation{}, fmt.Errorf("observe ruleset: %w", firewall.ErrNotLoaded)
	}
	now, err := nftables.Generation()
	if err != nil {
		return firewall.Observation{}, fmt.Errorf("observe ruleset: %w", err)
	}
	if l.seen != 0 && l.seen == now {
		return firewall.Observation{Present: true}, nil
	}
	elements := firewall.Elements{}
	for set, held := range l.held {
		elements[set] = slices.Sorted(maps.Keys(held))
	}
	seen, err := l.look(ctx, firewall.Ruleset{Base: l.base, Elements: elements})
	if err != nil {
		return firewall.Observation{}, fmt.Errorf("observe ruleset: %w", err)
	}
	return firewall.Observation{Present: seen.present, Drift: seen.drift, Looked: true}, nil
}

// Matches says how our table differs from the ruleset, in words; nothing: it does not, and from then on the Loader takes the
// ruleset for loaded, as after a restart of the daemon. The table itself is only read.
func (l *Loader) Matches(ctx context.Context, r firewall.Ruleset) (drift []string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	seen, err := l.look(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("compare ruleset: %w", err)
	}
	if len(seen.drift) == 0 {
		l.remember(r, seen.generation)
	}
	return seen.drift, nil
}

type sight struct {
	present    bool
	drift      []string
	generation int
}

// look lists our table and compares it. If nobody changed anything meanwhile and nothing differs, it notes the kernel's generation.
func (l *Loader) look(ctx context.Context, r firewall.Ruleset) (sight, error) {
	l.seen = 0
	want, err := l.normalise(ctx, r)
	if err != nil {
		return sight{}, err
	}
	before, err := nftables.Generation()
	if err != nil {
		return sight{}, err
	}
	there, err := nftables.HasTable(firewall.Table)
	if err != nil {
		return sight{}, err
	}
	if !there {
		l.drifted = false
		return sight{drift: []string{"table " + firewall.Table + " missing"}}, nil
	}
	have, err := list(ctx, firewall.Table, false)
	if err != nil {
		return sight{}, err
	}
	after, err := nftables.Generation()
	if err != nil {
		return sight{}, err
	}
	out := sight{present: true, generation: have.generation()}
	if out.generation != 0 {
		want.setGeneration(out.generation)
	}
	out.drift = want.compare(have, r.Elements)
	l.drifted = len(out.drift) > 0
	if !l.drifted && before == after {
		l.seen = after
	}
	return out, nil
}

// normalise is the ruleset without elements as nft lists it. The kernel is asked once for each text: what nft prints differs
// from what it was given, and from version to version. A dormant table has no hooks: no packet meets it.
func (l *Loader) normalise(ctx context.Context, r firewall.Ruleset) (listing, error) {
	empty := firewall.Ruleset{Base: r.Base, Elements: firewall.Elements{}}
	for set := range r.Elements {
		empty.Elements[set] = nil
	}
	text, err := empty.DormantText(checkTable, 1)
	if err != nil {
		return listing{}, err
	}
	if l.canonical.text != text {
		if _, _, err := l.commit(ctx, deleteDormant(checkTable)+text); err != nil {
			return listing{}, err
		}
		table, err := list(ctx, checkTable, false)
		if _, _, e := l.commit(context.WithoutCancel(ctx), deleteDormant(checkTable)); e != nil {
			err = errors.Join(err, e)
		}
		if err != nil {
			return listing{}, err
		}
		table.blocks["table"] = nil // "flags dormant", which ours must not be
		l.canonical.text, l.canonical.listing = text, table
	}
	return l.canonical.listing.clone(), nil
}

// Left says whether our table is there.
func Left(context.Context) (bool, error) { return nftables.HasTable(firewall.Table) }

// Remove deletes our table, if it is there: then nothing is filtered by us.
func (l *Loader) Remove(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held, l.seen, l.generation = nil, 0, 0
	// While a table is deleted its hooked chains still see packets for a moment, with rules whose sets are empty already, or with none: they
	// would drop what the engine that comes after lets pass (seen: one packet at each change of engines).
	opening, err := opening(ctx)
	if err == nil && opening != "" {
		_, _, err = l.commit(ctx, opening)
	}
	if err == nil {
		_, _, err = l.commit(ctx, deleteTable(firewall.Table))
	}
	if err != nil {
		return fmt.Errorf("remove ruleset: %w", err)
	}
	return nil
}

// Counters are the drops by ID ("forward.no_flow") since this Loader was made or, if the table is older, since then.
func (l *Loader) Counters(ctx context.Context) (map[string]firewall.Counter, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	out, err := counters(ctx)
	if err != nil {
		return nil, fmt.Errorf("read counters: %w", err)
	}
	for name, c := range l.earlier {
		out[name] = out[name].Plus(c)
	}
	return out, nil
}

// counters of our table; none if it is not there.
func counters(ctx context.Context) (map[string]firewall.Counter, error) {
	type item struct {
		Counter *struct {
			Family, Table, Name string
			Packets, Bytes      uint64
		}
	}
	items, err := listed[item](ctx, "list counters")
	if err != nil {
		return nil, err
	}
	counted := map[string]firewall.Counter{}
	for _, item := range items {
		if c := item.Counter; c != nil && c.Family+" "+c.Table == firewall.Table {
			counted[c.Name] = firewall.Counter{Packets: c.Packets, Bytes: c.Bytes}
		}
	}
	return counted, nil
}
