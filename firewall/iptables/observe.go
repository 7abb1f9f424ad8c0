package iptables

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"shekara/firewall"
	"shekara/netctl/iptables"
)

// Observe says whether our chains and sets hold exactly what was loaded. The kernel does not count changes of them, so all are listed each time.
func (l *Loader) Observe(ctx context.Context) (firewall.Observation, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.loaded == nil {
		return firewall.Observation{}, fmt.Errorf("observe ruleset: %w", firewall.ErrNotLoaded)
	}
	now, err := l.look(ctx)
	if err != nil {
		return firewall.Observation{}, fmt.Errorf("observe ruleset: %w", err)
	}
	if len(now.used()) == 0 {
		return firewall.Observation{Drift: []string{missing}, Looked: true}, nil
	}
	return firewall.Observation{Present: true, Drift: l.loaded.compare(now), Looked: true}, nil
}

const (
	missing  = "the jumps to our chains are missing"
	maxDrift = 100 // lines; beyond, "and N more"
)

// Matches says how our chains and sets differ from the ruleset, in words; nothing: they do not, and from then on the Loader takes the ruleset for
// loaded, as after a restart of the daemon. What packets meet is only read.
func (l *Loader) Matches(ctx context.Context, r firewall.Ruleset) ([]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	found, drift, err := l.find(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("compare ruleset: %w", err)
	}
	if len(drift) == 0 {
		l.loaded = found
	}
	return shortened(drift), nil
}

// find reads back a state that is the ruleset, or says why there is none. Classes of sources are taken as they are: which number one has is no matter.
func (l *Loader) find(ctx context.Context, r firewall.Ruleset) (*state, []string, error) {
	b, err := compileBase(r.Policy)
	if err != nil {
		return nil, nil, err
	}
	s := &state{base: b, elements: firewall.Union(r.Elements)}
	wanted, err := b.wantedRows(s.elements)
	if err != nil {
		return nil, nil, err
	}
	now, err := l.look(ctx)
	if err != nil {
		return nil, nil, err
	}
	if len(now.used()) == 0 {
		return nil, []string{missing}, nil
	}
	letter, drift := now.loaded()
	if len(drift) > 0 {
		return nil, drift, nil
	}
	if s.generation = now.generation(letter); s.generation == 0 {
		return nil, []string{"the chains of judgement's generation are not as they were loaded"}, nil
	}
	for _, f := range families {
		s.flows[f] = now.flows(letter, f)
		drift = append(drift, s.flows[f].compare(wanted[f], f)...)
	}
	if len(drift) > 0 {
		return nil, drift, nil
	}
	if s.image, err = b.render(letter, s.generation, s.flows, s.elements); err != nil {
		return nil, nil, err
	}
	if s.listing, err = l.listed(ctx, now, s); err != nil {
		return nil, nil, err
	}
	return s, s.compare(now), nil
}

// listed is what the programs list of the state's chains. They are asked once more, with the same chains under another letter that nothing leads to.
func (l *Loader) listed(ctx context.Context, now kernel, s *state) (out [2]map[chainKey][]string, err error) {
	aside, err := s.base.render(now.free(), s.generation, s.flows, s.elements)
	if err != nil {
		return out, err
	}
	var listing [2]map[chainKey][]string
	if err = l.build(ctx, now, aside, false); err == nil {
		listing, err = l.list(ctx, aside.letter)
	}
	if err = errors.Join(err, l.unbuild(context.WithoutCancel(ctx), aside)); err != nil {
		return out, err
	}
	rename := strings.NewReplacer(chainName(aside.letter, ""), chainName(s.image.letter, ""), setPrefix+aside.letter, setPrefix+s.image.letter)
	for _, f := range families {
		out[f] = map[chainKey][]string{}
		for key, rules := range listing[f] {
			renamed := make([]string, len(rules))
			for i, rule := range rules {
				renamed[i] = rename.Replace(rule)
			}
			out[f][chainKey{key.table, rename.Replace(key.name)}] = renamed
		}
	}
	return out, nil
}

// compare says in words how what is there differs from the state.
func (s *state) compare(now kernel) []string {
	letter, drift := now.loaded()
	if letter != s.image.letter {
		drift = append(drift, "another ruleset of ours is loaded")
	}
	for _, f := range families {
		want := maps.Clone(s.listing[f])
		for table, ids := range dropChains() {
			for _, id := range ids {
				key := chainKey{table, chainPrefix + id}
				if _, there := now.chains[f][key]; !there && !slices.Contains(s.image.tables(f), table) {
					continue
				}
				want[key] = now.chains[f][key]
				if !drops(want[key], table, id) {
					drift = append(drift, fmt.Sprintf("%s %s: does not record and drop all: %q", f, key, want[key]))
				}
			}
		}
		for key, rules := range want {
			got, there := now.chains[f][key]
			switch {
			case !there:
				drift = append(drift, fmt.Sprintf("%s %s missing", f, key))
			case !slices.Equal(got, rules):
				drift = append(drift, compareRules(fmt.Sprintf("%s %s", f, key), rules, got)...)
			}
		}
		for key := range now.chains[f] {
			if _, wanted := want[key]; !wanted && strings.HasPrefix(key.name, chainPrefix) {
				drift = append(drift, fmt.Sprintf("%s %s added", f, key))
			}
		}
	}
	drift = append(drift, compareSets(s.image.sets, now.sets)...)
	slices.Sort(drift)
	return shortened(drift)
}

func shortened(drift []string) []string {
	if more := len(drift) - maxDrift; more > 0 {
		drift = append(drift[:maxDrift:maxDrift], fmt.Sprintf("and %d more", more))
	}
	return drift
}

func compareRules(chain string, want, have []string) (drift []string) {
	count := map[string]int{}
	for _, rule := range have {
		count[rule]++
	}
	for _, rule := range want {
		if count[rule]--; count[rule] < 0 {
			drift = append(drift, chain+": rule missing: "+rule)
		}
	}
	for _, rule := range have {
		if count[rule] > 0 {
			count[rule]--
			drift = append(drift, chain+": rule added: "+rule)
		}
	}
	if len(drift) == 0 {
		drift = []string{chain + ": rules in another order"}
	}
	return drift
}

func compareSets(want, have map[string]set) (drift []string) {
	for name, s := range want {
		got, there := have[name]
		switch {
		case !there:
			drift = append(drift, "set "+name+" missing")
			continue
		case got.kind != s.kind:
			drift = append(drift, fmt.Sprintf("set %s is %s, not %s", name, got.kind, s.kind))
		}
		for element, value := range s.elements {
			if is, there := got.elements[element]; !there {
				drift = append(drift, "set "+name+": element "+element+" missing")
			} else if is != value {
				drift = append(drift, fmt.Sprintf("set %s: element %s has%s, not%s", name, element, is, value))
			}
		}
		for element := range got.elements {
			if _, wanted := s.elements[element]; !wanted {
				drift = append(drift, "set "+name+": element "+element+" added")
			}
		}
	}
	for name := range have {
		if _, wanted := want[name]; !wanted {
			drift = append(drift, "set "+name+" added")
		}
	}
	return drift
}

// Left says whether sets of ours are there, and so perhaps chains. A host without ipset has none.
func Left(ctx context.Context) (bool, error) {
	names, err := iptables.SetNames(ctx)
	return slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, setPrefix) }), err
}

// Remove deletes all that is ours: then nothing is filtered by us.
func (l *Loader) Remove(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loaded = nil
	if err := l.remove(ctx); err != nil {
		return fmt.Errorf("remove ruleset: %w", err)
	}
	return nil
}

func (l *Loader) remove(ctx context.Context) error {
	now, err := l.look(ctx)
	if err != nil {
		return err
	}
	for _, f := range families {
		for _, h := range slices.Backward(hooks()) {
			if err := l.leave(now, f, h); err != nil {
				return err
			}
		}
	}
	if err := l.sweepNow(ctx, letters); err != nil {
		return err
	}
	return l.deleteDrops(ctx, func(f family, key chainKey) bool { _, there := now.chains[f][key]; return there })
}

// deleteDrops deletes those of the chains in which packets end that are to go.
func (l *Loader) deleteDrops(ctx context.Context, goes func(family, chainKey) bool) error {
	for _, f := range families {
		var keys []chainKey
		for table, ids := range dropChains() {
			for _, id := range ids {
				if key := (chainKey{table, chainPrefix + id}); goes(f, key) {
					keys = append(keys, key)
				}
			}
		}
		if len(keys) > 0 {
			if err := l.tables[f].Restore(ctx, deleteChains(keys)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Counters are the drops by ID ("forward.no_flow") since our chains were first made.
func (l *Loader) Counters(ctx context.Context) (map[string]firewall.Counter, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, err := l.look(ctx)
	if err != nil {
		return nil, fmt.Errorf("read counters: %w", err)
	}
	out := map[string]firewall.Counter{}
	for _, f := range families {
		for table, ids := range dropChains() {
			for _, id := range ids {
				if c, there := now.counters[f][chainKey{table, chainPrefix + id}]; there {
					out[id] = out[id].Plus(c)
				}
			}
		}
	}
	return out, nil
}

// Foreign lists what others have in the built-in chains through which packets pass: what they drop or rewrite is dropped or rewritten, whatever our
// chains say. It is reported, never touched.
func (l *Loader) Foreign(ctx context.Context) ([]string, error) {
	var foreign []string
	for _, f := range families {
		out, err := l.tables[f].Save(ctx)
		if err != nil {
			return nil, fmt.Errorf("list foreign rules: %w", err)
		}
		table := ""
		for line := range strings.Lines(string(out)) {
			line = strings.TrimSpace(line)
			fields := strings.Fields(line)
			m := counted.FindStringSubmatch(line)
			switch {
			case strings.HasPrefix(line, "*"):
				table = line[1:]
			case m != nil && builtin[m[3]] && !strings.HasPrefix(m[4], "-j "+chainPrefix):
				foreign = append(foreign, fmt.Sprintf("%s table %s chain %s: %s", f, table, m[3], m[4]))
			case len(fields) > 1 && builtin[strings.TrimPrefix(fields[0], ":")] && fields[1] == "DROP":
				foreign = append(foreign, fmt.Sprintf("%s table %s chain %s: policy DROP", f, table, fields[0][1:]))
			}
		}
	}
	slices.Sort(foreign)
	return foreign, nil
}

var builtin = map[string]bool{"PREROUTING": true, "INPUT": true, "FORWARD": true, "OUTPUT": true, "POSTROUTING": true}
