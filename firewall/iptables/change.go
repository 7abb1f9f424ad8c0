package iptables

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"shekara/firewall"
	"shekara/netctl/iptables"
)

// Change adds and removes elements. What is removed is gone, and connections under way are judged again, before anything is added. Elements to
// add that are there already are passed over; one to remove that is not there is an error (fs.ErrNotExist), and nothing is changed then. What
// elements of sets alone cannot express (a source that may reach what no other may) is loaded as a whole ruleset.
func (l *Loader) Change(ctx context.Context, add, remove firewall.Elements) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.loaded == nil {
		return fmt.Errorf("change ruleset: %w", firewall.ErrNotLoaded)
	}
	if err := add.Check(); err != nil {
		return fmt.Errorf("change ruleset: %w", err)
	}
	add, remove = firewall.Union(add), firewall.Union(remove)
	absent, _ := l.loaded.elements.Diff(remove)
	for _, set := range absent.Sets() {
		return fmt.Errorf("change ruleset: remove element %s of set %s: %w", absent[set][0], set, fs.ErrNotExist)
	}
	fresh, _ := l.loaded.elements.Diff(add)
	if fresh.Count()+remove.Count() == 0 {
		return nil
	}
	if err := l.change(ctx, fresh, remove); err != nil {
		return fmt.Errorf("change ruleset: %w", err)
	}
	return nil
}

func (l *Loader) change(ctx context.Context, add, remove firewall.Elements) error {
	kept, _ := remove.Diff(l.loaded.elements)
	after := firewall.Union(kept, add)
	generation := l.loaded.generation
	if remove.Count() > 0 {
		generation = generation%firewall.Generations + 1
	}
	less, ok, err := l.loaded.with(kept, generation)
	if err != nil {
		return err
	}
	var more *state
	if ok {
		if more, ok, err = less.with(after, generation); err != nil {
			return err
		}
	}
	if !ok {
		now, err := l.look(ctx)
		if err != nil {
			return err
		}
		if letter, drift := now.loaded(); letter != l.loaded.image.letter || len(drift) > 0 {
			return fmt.Errorf("our chains are not as they were loaded: %q: %w", drift, fs.ErrNotExist)
		}
		return l.load(ctx, firewall.Ruleset{Policy: l.loaded.base.policy, Elements: after})
	}
	for _, next := range []*state{less, more} {
		if script := l.loaded.image.change(next.image); script != "" {
			if err := iptables.RestoreSets(ctx, script); err != nil {
				return err
			}
		}
		if next.generation != l.loaded.generation {
			if err := l.judgeAgain(ctx, next); err != nil {
				return err
			}
		}
		l.loaded = next
	}
	return nil
}

// with is the state with other elements in the same chains and sets; false if they do not suffice.
func (s *state) with(elements firewall.Elements, generation int) (*state, bool, error) {
	next := &state{base: s.base, elements: elements, generation: generation}
	wanted, err := s.base.wantedRows(elements)
	if err != nil {
		return nil, false, err
	}
	for _, f := range families {
		var ok bool
		if next.flows[f], ok = s.flows[f].evolve(wanted[f]); !ok {
			return nil, false, nil
		}
		next.listing[f] = maps.Clone(s.listing[f])
		for _, name := range []string{"begin", "pass"} {
			key := chainKey{mangle, chainName(s.image.letter, name)}
			rules := slices.Clone(next.listing[f][key])
			rules[0] = strings.Replace(rules[0], fmt.Sprintf("0x%x/", s.generation), fmt.Sprintf("0x%x/", generation), 1)
			next.listing[f][key] = rules
		}
	}
	next.image, err = s.base.render(s.image.letter, generation, next.flows, elements)
	return next, true, err
}

// judgeAgain begins the state's generation.
func (l *Loader) judgeAgain(ctx context.Context, next *state) error {
	letter := next.image.letter
	pass, begin, old := chainName(letter, "pass"), chainName(letter, "begin"), l.loaded.generation
	script := fmt.Sprintf("*%s\n-D %s %s\n-I %s 1 %s\n-D %s %s\n-I %s 1 %s\nCOMMIT\n", mangle, pass, passRule(old), pass, passRule(next.generation),
		begin, beginRule(old), begin, beginRule(next.generation))
	for _, f := range families {
		if err := l.tables[f].Restore(ctx, script); err != nil {
			return err
		}
	}
	return nil
}
