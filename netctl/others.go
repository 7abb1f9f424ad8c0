package netctl

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// localTable is asked before every rule of ours, by the kernel's own rule 0.
const localTable uint32 = 255

// Others is what is not ours and may take packets another way than our routes do.
type Others struct {
	Rules  []OtherRule
	Routes []Route // in the local table (ways that lead on, not addresses), and in those that Rules look in; State has those in our tables
}

// OtherRule is a rule of others that decides before one of ours.
type OtherRule struct {
	Rule
	More bool   // it says more than Rule can: other conditions, or another action than to look in Table
	Text string // for people
}

// Others looks for what may take packets another way, in tables that are not ours.
func (h *Host) Others(ctx context.Context) (Others, error) {
	var out Others
	rules, err := h.rtnl.dumpRules()
	if err != nil {
		return Others{}, &Error{Op: "list rules", Err: err}
	}
	tables := []uint32{localTable}
	for _, rule := range rules {
		if !rule.shadows() {
			continue
		}
		out.Rules = append(out.Rules, OtherRule{rule.Rule, rule.more, rule.describe()})
		if rule.Table != 0 && !OwnTable(rule.Table) {
			tables = append(tables, rule.Table)
		}
	}
	links, err := h.observeLinks()
	if err != nil {
		return Others{}, err
	}
	name := func(index int) string {
		for _, l := range links {
			if l.Index == index {
				return l.Name
			}
		}
		return fmt.Sprintf("#%d", index)
	}
	slices.Sort(tables)
	for _, table := range slices.Compact(tables) {
		for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
			if err := ctx.Err(); err != nil {
				return Others{}, err
			}
			filter := routeFilter{family: family, table: table, strangers: true}
			if table == localTable {
				filter.kind = unix.RTN_UNICAST
			}
			routes, err := h.rtnl.dumpRoutes(filter, name)
			if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
				return Others{}, &Error{Op: "list routes", Object: fmt.Sprintf("%s table %d", familyName(family), table), Err: err}
			}
			out.Routes = append(out.Routes, routes...)
		}
	}
	slices.SortFunc(out.Routes, compareRoutes)
	return out, nil
}
