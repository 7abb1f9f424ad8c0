package nft

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"shekara/firewall"
	"shekara/netctl/run"
)

// maxForeign bounds what is read of one foreign table, in bytes: some tools keep a rule for each of a hundred thousand services.
const maxForeign = 16 << 20

// hookedForeign is a base chain of another's table.
type hookedForeign struct {
	Family, Table, Name, Type, Hook, Policy string
	Prio                                    int
}

// Foreign lists the base chains of other tables that can drop or change what our table lets pass, and says how. What they accept ours
// may still drop: in nftables accepting ends one base chain, not the others at its hook. So a chain that only accepts or counts is not
// listed. They are reported, never touched.
func (l *Loader) Foreign(ctx context.Context) ([]string, error) {
	items, err := listed[struct{ Chain *hookedForeign }](ctx, "list chains")
	if err != nil {
		return nil, fmt.Errorf("list foreign chains: %w", err)
	}
	tables := map[string][]hookedForeign{}
	for _, item := range items {
		if c := item.Chain; c != nil && c.Hook != "" && c.Family+" "+c.Table != firewall.Table && c.Family+" "+c.Table != checkTable {
			tables[c.Family+" "+c.Table] = append(tables[c.Family+" "+c.Table], *c)
		}
	}
	var foreign []string
	for _, table := range slices.Sorted(maps.Keys(tables)) {
		effects := foreignEffects(ctx, table)
		for _, c := range tables[table] {
			does := effects(c.Name)
			if c.Policy == "drop" {
				does = append([]string{"drops by its policy"}, does...)
			}
			if len(does) > 0 {
				foreign = append(foreign, fmt.Sprintf("table %s chain %s: type %s hook %s priority %d policy %s: %s",
					table, c.Name, c.Type, c.Hook, c.Prio, c.Policy, strings.Join(does, ", ")))
			}
		}
	}
	slices.Sort(foreign)
	return foreign, nil
}

// foreignEffects reads the rules of a table and answers what a chain, with those that it jumps to, does to packets. A table that cannot
// be read, as when it is gone by now or too large, may do anything.
func foreignEffects(ctx context.Context, table string) func(chain string) []string {
	family, name, _ := strings.Cut(table, " ")
	out, err := run.Command{Argv: []string{"nft", "-j", "-t", "list", "table", family, name}, Timeout: patience, MaxOutput: maxForeign}.Run(ctx)
	type item struct {
		Rule *struct {
			Chain string
			Expr  []json.RawMessage
		}
	}
	var items []item
	if err == nil {
		items, err = decode[item](out)
	}
	if err != nil {
		why := "cannot be read"
		if errors.Is(err, run.ErrOutputTooLong) {
			why = "is too large to be read"
		}
		return func(string) []string { return []string{"may drop: the table " + why} }
	}
	does, jumps := map[string]map[string]bool{}, map[string][]string{}
	for _, item := range items {
		if item.Rule == nil {
			continue
		}
		chain := item.Rule.Chain
		if does[chain] == nil {
			does[chain] = map[string]bool{}
		}
		for _, expression := range item.Rule.Expr {
			var statement any
			if err := json.Unmarshal(expression, &statement); err != nil {
				does[chain]["has a rule that cannot be read"] = true
				continue
			}
			walk(statement, func(key string, value any) {
				if effect := effectOf(key, value); effect != "" {
					does[chain][effect] = true
				}
				if target, is := textIn(value, "target"); is && (key == "jump" || key == "goto") {
					jumps[chain] = append(jumps[chain], target)
				}
			})
		}
	}
	return func(chain string) []string {
		all, seen := map[string]bool{}, map[string]bool{}
		var visit func(string)
		visit = func(chain string) {
			if seen[chain] {
				return
			}
			seen[chain] = true
			maps.Copy(all, does[chain])
			for _, target := range jumps[chain] {
				visit(target)
			}
		}
		visit(chain)
		return slices.Sorted(maps.Keys(all))
	}
}

// effectOf says what a statement of nft -j does to packets beyond looking at, counting or accepting them.
func effectOf(key string, value any) string {
	switch key {
	case "drop":
		return "drops"
	case "reject":
		return "rejects"
	case "queue":
		return "hands packets to a program"
	case "snat", "dnat", "masquerade", "redirect", "tproxy":
		return "translates addresses"
	case "mangle", "dup", "fwd", "notrack", "synproxy", "flow":
		return "changes packets or their way (" + key + ")"
	case "xt":
		return "runs xtables, whose matches are not listed"
	case "vmap":
		if data, is := textIn(value, "data"); is && strings.HasPrefix(data, "@") {
			return "may drop by the map " + strings.TrimPrefix(data, "@")
		}
	}
	return ""
}

func textIn(value any, key string) (string, bool) {
	object, _ := value.(map[string]any)
	text, is := object[key].(string)
	return text, is
}

// walk visits each key of what nft -j printed.
func walk(value any, visit func(key string, value any)) {
	switch value := value.(type) {
	case map[string]any:
		for key, inner := range value {
			visit(key, inner)
			walk(inner, visit)
		}
	case []any:
		for _, inner := range value {
			walk(inner, visit)
		}
	}
}
