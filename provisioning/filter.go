package provisioning

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"shekara/firewall"
)

// filterState is what our table holds, by owner. The zero value knows nothing.
type filterState struct {
	loaded   bool // the kernel's table is base and tally, as far as we know
	policy   firewall.Policy
	base     *firewall.Base
	holdings map[string]firewall.Elements
	tally    firewall.Tally
}

// filterChange is the way from one filter to the next in two transactions, with the devices, peers and routes in between:
// the first takes away, and adds nothing but the tunnel ports of peers that come, the second adds. A port is open before its peer is
// there, since the answer to a peer's first handshake would be dropped and WireGuard tries again only after five seconds. Limits change in the
// first too: what comes is limited when it comes, and no tunnel is without its limit in between.
type filterChange struct {
	remove bool // the whole table goes, last
	// whole replaces the table: its base is another, or it is not known what is loaded.
	whole *filterState
	deny  firewall.Ruleset // with whole: what both the old and the new allow, in the new base
	// owners are changed one by one, in a base that stays.
	owners map[string]ownerChange
}

type ownerChange struct{ old, kept, new firewall.Elements }

func (c filterChange) empty() bool { return !c.remove && c.whole == nil && len(c.owners) == 0 }

// planFilter compares what is loaded with what is asked for after the patch. It changes nothing.
func planFilter(f *filterState, i *intent, p patch) (filterChange, error) {
	base, present := i.after(p)
	if !present {
		return filterChange{remove: f.loaded || i.present}, nil
	}
	policy := policyOf(base)
	if !f.loaded || !reflect.DeepEqual(policy, f.policy) {
		return planWhole(f, i, p, policy)
	}
	change := filterChange{owners: map[string]ownerChange{}}
	if p.base != nil {
		if err := change.owner(f, boxOwner, holding{offers: base.Offers}); err != nil {
			return filterChange{}, fmt.Errorf("filter of what the box serves: %w", err)
		}
	}
	for name := range p.tunnels {
		next, found := i.tunnel(p, name)
		if !found {
			next.Unsupported = "gone"
		}
		if err := change.owner(f, tunnelOwner(name), holdingOf(next)); err != nil {
			return filterChange{}, fmt.Errorf("filter of tunnel %s: %w", name, err)
		}
	}
	for name, next := range p.flows {
		h := holding{}
		if next != nil {
			h.flows = []firewall.Flow{next.Flow}
		}
		if err := change.owner(f, flowOwner(name), h); err != nil {
			return filterChange{}, fmt.Errorf("filter of flow %s: %w", name, err)
		}
	}
	return change, nil
}

func (c *filterChange) owner(f *filterState, owner string, next holding) error {
	elements, err := f.base.Elements(next.policy())
	if err != nil {
		return err
	}
	old := f.holdings[owner]
	added, removed := old.Diff(elements)
	if added.Count() == 0 && removed.Count() == 0 {
		return nil
	}
	kept, _ := removed.Diff(old) // old without what is removed
	ports, err := f.base.Elements(firewall.Policy{Ports: next.ports, Limits: next.limits})
	if err != nil {
		return err
	}
	kept = firewall.Union(kept, ports)
	c.owners[owner] = ownerChange{old: old, kept: kept, new: elements}
	return nil
}

// holdings are all owners' after the patch, and what of each was asked for before it too.
func (i *intent) holdings(p patch) (next, kept map[string]holding) {
	next, kept = map[string]holding{}, map[string]holding{}
	if base, _ := i.after(p); len(base.Offers) > 0 {
		next[boxOwner] = holding{offers: base.Offers}
		kept[boxOwner] = holding{offers: i.base.Offers}.common(next[boxOwner])
	}
	for name, t := range i.tunnels {
		owner := tunnelOwner(name)
		if now, found := i.tunnel(p, name); found {
			next[owner] = holdingOf(now)
			kept[owner] = next[owner]
			if _, changed := p.tunnels[name]; changed {
				kept[owner] = holdingOf(t).common(next[owner])
			}
		}
	}
	for name, t := range p.tunnels {
		if _, had := i.tunnels[name]; !had && t != nil {
			next[tunnelOwner(name)] = holdingOf(*t)
		}
	}
	flow := func(name string, f firewall.Flow, both bool) {
		h := holding{flows: []firewall.Flow{f}}
		next[flowOwner(name)] = h
		if both {
			kept[flowOwner(name)] = h
		}
	}
	for name, f := range i.flows {
		if now, changed := p.flows[name]; !changed {
			flow(name, f.Flow, true)
		} else if now != nil {
			flow(name, now.Flow, reflect.DeepEqual(f, *now))
		}
	}
	for name, f := range p.flows {
		if _, had := i.flows[name]; !had && f != nil {
			flow(name, f.Flow, false)
		}
	}
	return next, kept
}

func planWhole(f *filterState, i *intent, p patch, policy firewall.Policy) (filterChange, error) {
	base, err := firewall.CompileBase(policy)
	if err != nil {
		return filterChange{}, fmt.Errorf("filter: %w", err)
	}
	next, kept := i.holdings(p)
	whole := &filterState{policy: policy, base: base, holdings: map[string]firewall.Elements{}}
	var denied []firewall.Elements
	for _, owner := range slices.Sorted(maps.Keys(next)) {
		h := next[owner]
		if whole.holdings[owner], err = base.Elements(h.policy()); err != nil {
			return filterChange{}, fmt.Errorf("filter of %s: %w", owner, err)
		}
		ports, err := base.Elements(firewall.Policy{Ports: h.ports, Limits: h.limits})
		if err != nil {
			return filterChange{}, fmt.Errorf("filter of %s: %w", owner, err)
		}
		denied = append(denied, ports)
		if k, both := kept[owner]; both {
			elements, err := base.Elements(firewall.Policy{Flows: k.flows, Probes: k.probes, Offers: k.offers})
			if err != nil {
				// What was kept named a place that the new base no longer has: it is not allowed by both, then.
				continue
			}
			denied = append(denied, elements)
		}
	}
	change := filterChange{whole: whole}
	change.deny, err = base.Ruleset(firewall.Union(denied...))
	return change, err
}

// check asks the loader's engine whether it can do what is asked, before anything is changed. An engine that can do all has no such question.
func (c filterChange) check(loader firewall.Loader, base *firewall.Base) error {
	limited, is := loader.(interface{ Check(firewall.Ruleset) error })
	switch {
	case !is:
		return nil
	case c.whole != nil:
		ruleset, err := c.whole.ruleset()
		if err == nil {
			err = limited.Check(ruleset)
		}
		if err != nil {
			return fmt.Errorf("filter: %w", err)
		}
		return nil
	}
	for _, owner := range slices.Sorted(maps.Keys(c.owners)) {
		limits := c.owners[owner].new.OnlyLimits()
		if limits.Count() == 0 {
			continue // with the base stays what the engine can do
		}
		ruleset, err := base.Ruleset(limits)
		if err == nil {
			err = limited.Check(ruleset)
		}
		if err != nil {
			return fmt.Errorf("filter of %s: %w", owner, err)
		}
	}
	return nil
}

// ruleset is all that the state holds.
func (f *filterState) ruleset() (firewall.Ruleset, error) {
	return f.base.Ruleset(firewall.Union(slices.Collect(maps.Values(f.holdings))...))
}

// adopt takes a table that is already as the state says.
func (f *filterState) adopt() {
	f.tally = firewall.Tally{}
	for _, elements := range f.holdings {
		f.tally.Replace(nil, elements)
	}
	f.loaded = true
}

// denyFirst is the first transaction: it closes what will no longer be open, and opens the ports of tunnels. While it runs, and after an
// error, it is not known what is loaded. closed says whether it may have closed anything.
func (c filterChange) denyFirst(ctx context.Context, loader firewall.Loader, f *filterState) (closed bool, err error) {
	if c.whole != nil {
		f.loaded = false
		return true, loader.Load(ctx, c.deny)
	}
	var added, removed []firewall.Elements
	for owner, change := range c.owners {
		come, gone := f.tally.Replace(change.old, change.kept)
		added, removed = append(added, come), append(removed, gone)
		f.hold(owner, change.kept)
	}
	gone := firewall.Union(removed...)
	return gone.Narrows(), f.change(ctx, loader, firewall.Union(added...), gone)
}

// allow is the second transaction: it opens what is newly allowed.
func (c filterChange) allow(ctx context.Context, loader firewall.Loader, f *filterState) error {
	if c.whole != nil {
		ruleset, err := c.whole.ruleset()
		if err != nil {
			return err
		}
		add, _ := c.deny.Elements.Diff(ruleset.Elements)
		if add.Count() > 0 {
			if err := loader.Change(ctx, add, nil); err != nil {
				return err
			}
		}
		*f = *c.whole
		f.adopt()
		return nil
	}
	var added []firewall.Elements
	for owner, change := range c.owners {
		gained, _ := f.tally.Replace(change.kept, change.new)
		added = append(added, gained)
		f.hold(owner, change.new)
	}
	return f.change(ctx, loader, firewall.Union(added...), nil)
}

func (f *filterState) hold(owner string, elements firewall.Elements) {
	if elements.Count() == 0 {
		delete(f.holdings, owner)
	} else {
		f.holdings[owner] = elements
	}
}

func (f *filterState) change(ctx context.Context, loader firewall.Loader, add, remove firewall.Elements) error {
	if add.Count() == 0 && remove.Count() == 0 {
		return nil
	}
	f.loaded = false
	if err := loader.Change(ctx, add, remove); err != nil {
		return err
	}
	f.loaded = true
	return nil
}
