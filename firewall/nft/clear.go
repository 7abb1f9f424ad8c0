package nft

import (
	"context"
	"regexp"
	"strings"

	"shekara/firewall"
)

// hookedChain is how a base chain of ours must be hooked to be kept.
type hookedChain struct {
	Type, Hook string
	Prio       int
}

// hooks are those of our chains, by name. Tables of ours have all of these, but those that translate addresses only if a device does, and limited
// not in one of an older version.
func hooks() map[string]hookedChain {
	return map[string]hookedChain{
		"prerouting":       {"filter", "prerouting", -300},
		"forward":          {"filter", "forward", 0},
		"input":            {"filter", "input", 0},
		"output":           {"filter", "output", 0},
		"limited":          {"filter", "forward", 5},
		"zones_prerouting": {"filter", "prerouting", -450},
		"zones_input":      {"filter", "input", 10},
		"zones_forward":    {"filter", "forward", 10},
		"zones_output":     {"filter", "output", -450},
		"nat_prerouting":   {"nat", "prerouting", -100},
		"nat_output":       {"nat", "output", -100},
		"nat_postrouting":  {"nat", "postrouting", 100},
		"postrouting":      {"filter", "postrouting", 150},
	}
}

var always = [...]string{"prerouting", "forward", "input", "output"}

var ordinary = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_.-]{0,120}$`)

// clearing makes room in our table for the text of another ruleset, and sweeps up behind it.
//
// What the two have in common of counters, chains and maps stays where it is; of chains only the rules go. What only the old one has is
// left too until no packet can be in its rules any more: those must find what they look up.
type clearing struct {
	script string // goes before the text, in one transaction with it
	sweep  string // when the text is loaded, and packets have left the old rules
}

// clearFor looks at what our table holds. Chains to stay are left as they are. Refill: what the maps hold is not to be trusted. ok is false if the
// table is not there, or is not such that clearing would do.
func clearFor(ctx context.Context, text string, stay map[string]bool, refill bool) (c clearing, ok bool, err error) {
	type item struct {
		Chain *struct {
			Family, Table, Name string
			hookedChain
		}
		Set, Map *struct{ Family, Table, Name string }
	}
	items, err := listed[item](ctx, "list chains; list sets; list maps")
	if err != nil {
		return clearing{}, false, err
	}
	stays := map[string]bool{} // "chain forward"
	for line := range strings.Lines(text) {
		if block, begins := strings.CutSuffix(line, " {\n"); begins && line[0] == '\t' {
			stays[block[1:]] = true
		}
	}
	hooks, stayed, there := hooks(), 0, map[string]bool{}
	var first, then, sweepMaps, sweepChains strings.Builder
	if len(stay) == 0 {
		first.WriteString("flush table " + firewall.Table + "\n")
	}
	do := func(b *strings.Builder, what, name string) bool {
		b.WriteString(what + " " + firewall.Table + " " + name + "\n")
		return ordinary.MatchString(name) // else it is somebody else's: the kernel allows what nft's grammar does not
	}
	for _, item := range items {
		ok := true
		switch {
		case item.Set != nil && item.Set.Family+" "+item.Set.Table == firewall.Table:
			ok = do(&then, "delete set", item.Set.Name)
		case item.Map != nil && item.Map.Family+" "+item.Map.Table == firewall.Table:
			switch name := item.Map.Name; {
			case !firewall.IsLookup(name):
				ok = do(&then, "delete map", name)
			case !stays["map "+name]:
				ok = do(&sweepMaps, "delete map", name)
			case refill:
				ok = do(&first, "flush map", name)
			}
		case item.Chain != nil && item.Chain.Family+" "+item.Chain.Table == firewall.Table:
			chain := item.Chain
			if there[chain.Name] = true; stay[chain.Name] {
				stayed++
				continue
			}
			if len(stay) > 0 {
				ok = do(&first, "flush chain", chain.Name)
			}
			if !stays["chain "+chain.Name] {
				ok = do(&sweepChains, "delete chain", chain.Name) // after the maps that lead to it
			} else if hooks[chain.Name] != chain.hookedChain {
				return clearing{}, false, nil
			}
		}
		if !ok {
			return clearing{}, false, nil
		}
	}
	for _, name := range always {
		if !there[name] {
			return clearing{}, false, nil
		}
	}
	return clearing{first.String() + then.String(), sweepMaps.String() + sweepChains.String()}, stayed == len(stay), nil
}

// opening is the script that empties our hooked chains and lets their policies accept.
func opening(ctx context.Context) (string, error) {
	type item struct {
		Chain *struct{ Family, Table, Name, Hook, Policy string }
	}
	items, err := listed[item](ctx, "list chains")
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, item := range items {
		c := item.Chain
		if c == nil || c.Family+" "+c.Table != firewall.Table || c.Hook == "" || !ordinary.MatchString(c.Name) {
			continue
		}
		b.WriteString("flush chain " + firewall.Table + " " + c.Name + "\n")
		if c.Policy == "drop" {
			b.WriteString("add chain " + firewall.Table + " " + c.Name + " { policy accept; }\n")
		}
	}
	return b.String(), nil
}
