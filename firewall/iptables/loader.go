package iptables

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"shekara/firewall"
	"shekara/netctl/iptables"
	"shekara/netctl/nftables"
)

// Loader loads rulesets into the network namespace of the calling thread, and remembers what it loaded. Safe for concurrent use.
type Loader struct {
	mu      sync.Mutex
	tables  [2]*iptables.Tables
	commits nftables.Commits
	loaded  *state // nil: unknown
}

// state is what was loaded.
type state struct {
	base       *base
	elements   firewall.Elements
	flows      [2]flows
	image      image
	generation int
	listing    [2]map[chainKey][]string // the image's chains as the programs list them
}

// New proves that programs and kernel take our kind of rules, in chains and sets that nothing leads to.
func New(ctx context.Context, variant iptables.Variant) (*Loader, error) {
	l := &Loader{}
	for _, f := range families {
		var err error
		if l.tables[f], err = iptables.Open(variant, f == v6, &l.commits); err != nil {
			return nil, fmt.Errorf("probe iptables: %w", err)
		}
	}
	sample := firewall.Policy{Zones: []firewall.Zone{{Name: "probe"}}, Interfaces: []firewall.Interface{{Name: "probe", Zone: "probe"}}}
	if err := l.probe(ctx, sample); err != nil {
		return nil, fmt.Errorf("probe iptables: %w (hint: needs CAP_NET_ADMIN, CAP_NET_RAW, iptables 1.8, ipset 6.22 and a kernel with xt_set, xt_connmark, xt_TCPMSS and "+
			"ip_set with skbinfo: 3.18 or newer)", err)
	}
	return l, nil
}

func (l *Loader) probe(ctx context.Context, sample firewall.Policy) error {
	b, err := compileBase(sample)
	if err != nil {
		return err
	}
	now, err := l.look(ctx)
	if err != nil {
		return err
	}
	letter := now.free()
	i, err := b.render(letter, 1, [2]flows{}, nil)
	if err != nil {
		return err
	}
	err = l.build(ctx, now, i, false)
	ctx = context.WithoutCancel(ctx)
	return errors.Join(err, l.unbuild(ctx, i), l.deleteDrops(ctx, func(f family, key chainKey) bool {
		_, was := now.chains[f][key]
		return !was && slices.Contains(i.tables(f), key.table)
	}))
}

// Own says whether a transaction that the kernel told of was made by this Loader: iptables-nft writes nftables.
func (l *Loader) Own(tx nftables.Transaction) bool { return l.commits.Own(tx) }

// Check says why a ruleset could not be loaded, without asking the kernel: an *UnsupportedError where the policy is more than this engine can do.
func Check(r firewall.Ruleset) error {
	_, err := plan(r, letters[:1], 1)
	return err
}

// plan is the ruleset as a state that is not loaded yet.
func plan(r firewall.Ruleset, letter string, generation int) (*state, error) {
	if err := r.Elements.Check(); err != nil {
		return nil, err
	}
	b, err := compileBase(r.Policy)
	if err != nil {
		return nil, err
	}
	s := &state{base: b, elements: firewall.Union(r.Elements), generation: generation}
	wanted, err := b.wantedRows(s.elements)
	if err != nil {
		return nil, err
	}
	for _, f := range families {
		s.flows[f] = classify(wanted[f])
	}
	s.image, err = b.render(letter, generation, s.flows, s.elements)
	return s, err
}

// Load puts the ruleset in place of whatever is ours. It is built aside and swapped in: each packet is judged by the old or by the new ruleset, and
// by both for a moment. Connections under way are judged again: those that the new one allows do not notice. On an error before the swap nothing has changed.
func (l *Loader) Load(ctx context.Context, r firewall.Ruleset) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.load(ctx, r)
	if errors.As(err, new(swapError)) && ctx.Err() == nil {
		err = l.load(ctx, r) // somebody took away what was to be replaced: look again at what there is
	}
	if err != nil {
		return fmt.Errorf("load ruleset: %w", err)
	}
	return nil
}

// swapError says that a ruleset is not swapped in everywhere.
type swapError struct{ error }

func (e swapError) Unwrap() error { return e.error }

func (l *Loader) load(ctx context.Context, r firewall.Ruleset) error {
	now, err := l.look(ctx)
	if err != nil {
		return err
	}
	generation, err := now.nextGeneration()
	if err != nil {
		return err
	}
	next, err := plan(r, now.free(), generation)
	if err != nil {
		return err
	}
	err = l.build(ctx, now, next.image, true)
	if err == nil {
		next.listing, err = l.list(ctx, next.image.letter)
	}
	if err != nil {
		return errors.Join(err, l.sweepNow(context.WithoutCancel(ctx), next.image.letter))
	}
	l.loaded = nil // until the swap is whole
	for _, f := range families {
		if err := l.swap(ctx, now, f, next); err != nil {
			return swapError{err}
		}
	}
	l.loaded = next
	if err := l.sweepNow(ctx, strings.ReplaceAll(letters, next.image.letter, "")); err != nil || len(next.base.translated) > 0 {
		return err
	}
	// Where nothing translates any more nothing of ours stays in nat: what would lead there is gone.
	return l.deleteDrops(ctx, func(f family, key chainKey) bool { _, there := now.chains[f][key]; return there && key.table == nat })
}

func (b *base) wantedRows(e firewall.Elements) (out [2]map[netip.Prefix]row, err error) {
	permissions, err := e.Permissions()
	for _, f := range families {
		out[f] = b.rows(permissions, f)
	}
	return out, err
}

// free is a letter that nothing jumps to.
func (k kernel) free() string {
	used := k.used()
	for _, letter := range strings.Split(letters, "") {
		if !slices.Contains(used, letter) {
			return letter
		}
	}
	return letters[:1] // three at once: somebody else's doing; what is there is built anew under it
}

// nextGeneration differs from that of the ruleset which is there, if one is; else it is drawn, since marks of connections may remain from one
// that was removed.
func (k kernel) nextGeneration() (int, error) {
	now := 0
	for _, letter := range k.used() {
		now = max(now, k.generation(letter))
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

// build makes the image's sets and chains, to which nothing leads yet, and the chains that drop if they are not there.
func (l *Loader) build(ctx context.Context, now kernel, i image, filled bool) error {
	if err := l.sweep(ctx, now, i.letter); err != nil {
		return err
	}
	if err := iptables.RestoreSets(ctx, i.create(filled)); err != nil {
		return err
	}
	for _, f := range families {
		if err := l.tables[f].Restore(ctx, now.declareDrops(f, i)+i.declare(f)); err != nil {
			return err
		}
	}
	return nil
}

// unbuild removes what build made, if nothing leads to it.
func (l *Loader) unbuild(ctx context.Context, i image) error {
	made := kernel{sets: i.sets}
	for _, f := range families {
		made.chains[f] = map[chainKey][]string{}
		for _, c := range i.chains[f] {
			made.chains[f][chainKey{c.table, c.name}] = nil
		}
	}
	return l.sweep(ctx, made, i.letter)
}

// list gives the chains of a letter as the programs list them: that differs from what they were given, and from version to version.
func (l *Loader) list(ctx context.Context, letter string) (listing [2]map[chainKey][]string, err error) {
	now := kernel{}
	for _, f := range families {
		if err := l.lookAt(ctx, f, &now); err != nil {
			return listing, err
		}
		listing[f] = map[chainKey][]string{}
		for _, key := range now.ofFamily(f, letter) {
			listing[f][key] = now.chains[f][key]
		}
	}
	return listing, nil
}

// declareDrops writes the chains that drop and that the image needs, where they are not there.
func (k kernel) declareDrops(f family, i image) string {
	var b strings.Builder
	for _, table := range i.tables(f) {
		var part strings.Builder
		for _, id := range dropChains()[table] {
			name := chainPrefix + id
			if drops(k.chains[f][chainKey{table, name}], table, id) {
				continue // it has counted
			}
			fmt.Fprintf(&part, ":%s - [0:0]\n", name)
			for _, rule := range dropRules(table, id) {
				fmt.Fprintf(&part, "-A %s %s\n", name, rule)
			}
		}
		if part.Len() > 0 {
			fmt.Fprintf(&b, "*%s\n%sCOMMIT\n", table, &part)
		}
	}
	return b.String()
}

// sweepNow removes the chains and sets of letters that are there now.
func (l *Loader) sweepNow(ctx context.Context, letters string) error {
	now, err := l.look(ctx)
	if err != nil {
		return err
	}
	for _, letter := range strings.Split(letters, "") {
		if err := l.sweep(ctx, now, letter); err != nil {
			return err
		}
	}
	return nil
}

// sweep removes the chains and sets of a letter.
func (l *Loader) sweep(ctx context.Context, now kernel, letter string) error {
	for _, f := range families {
		if keys := now.ofFamily(f, letter); len(keys) > 0 {
			if err := l.tables[f].Restore(ctx, deleteChains(keys)); err != nil {
				return err
			}
		}
	}
	return l.destroy(ctx, now, letter)
}

// destroy removes the sets of a letter. The kernel frees rules that are gone a little later (nf_tables_trans_destroy_work), and until then holds
// their sets.
func (l *Loader) destroy(ctx context.Context, now kernel, letter string) error {
	for deadline := time.Now().Add(destroyPatience); ; time.Sleep(destroyPause) {
		var script strings.Builder
		for name := range now.sets {
			if strings.HasPrefix(name, setPrefix+letter) {
				script.WriteString("destroy " + name + "\n")
			}
		}
		if script.Len() == 0 {
			return nil
		}
		err := iptables.RestoreSets(ctx, script.String())
		if err == nil || ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}
		out, err := iptables.SaveSets(ctx)
		if err != nil {
			return err
		}
		now = kernel{sets: map[string]set{}}
		now.readSets(string(out))
	}
}

const (
	destroyPatience = 20 * time.Second
	destroyPause    = 10 * time.Millisecond
)

// deleteChains empties all before it deletes any: they lead to each other.
func deleteChains(keys []chainKey) string {
	var b strings.Builder
	for _, table := range tables {
		if !slices.ContainsFunc(keys, func(key chainKey) bool { return key.table == table }) {
			continue // to name a table makes it
		}
		fmt.Fprintf(&b, "*%s\n", table)
		for _, verb := range []string{":%s - [0:0]\n", "-X %s\n"} {
			for _, key := range keys {
				if key.table == table {
					fmt.Fprintf(&b, verb, key.name)
				}
			}
		}
		b.WriteString("COMMIT\n")
	}
	return b.String()
}
