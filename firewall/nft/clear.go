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

func hooked() map[string]hookedChain {
	return map[string]hookedChain{
		"prerouting": {"filter", "prerouting", -300},
		"forward":    {"filter", "forward", 0},
		"input":      {"filter", "input", 0},
		"output":     {"filter", "output", 0},
	}
}

// hookedPerhaps are not in every table of ours: those that translate addresses only if a device does, limited not in one of an older version.
func hookedPerhaps() map[string]hookedChain {
	return map[string]hookedChain{
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

var ordinary = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_.-]{0,120}$`)

// clearing is the script that empties our table but for its counters, for those of its hooked chains that the text to come has too, and for
// chains that are to stay as they are. ok is false if the table is not there, or is not such that this would do.
func clearing(ctx context.Context, text string, stay map[string]bool) (script string, ok bool, err error) {
	type item struct {
		Chain *struct {
			Family, Table, Name string
			hookedChain
		}
		Set, Map *struct{ Family, Table, Name string }
	}
	items, err := listed[item](ctx, "list chains; list sets; list maps")
	if err != nil {
		return "", false, err
	}
	keep, kept, optional := hooked(), 0, hookedPerhaps()
	var chains, flushed, sets, maps []string
	stayed := 0
	for _, item := range items {
		if s := item.Set; s != nil && s.Family+" "+s.Table == firewall.Table {
			sets = append(sets, s.Name)
		}
		if m := item.Map; m != nil && m.Family+" "+m.Table == firewall.Table {
			maps = append(maps, m.Name)
		}
		c := item.Chain
		if c == nil || c.Family+" "+c.Table != firewall.Table {
			continue
		}
		if stay[c.Name] {
			stayed++
			continue
		}
		flushed = append(flushed, c.Name)
		if want, ours := keep[c.Name]; ours {
			if c.hookedChain != want {
				return "", false, nil
			}
			kept++
		} else if want, ours := optional[c.Name]; ours && c.hookedChain == want && strings.Contains(text, "\tchain "+c.Name+" {\n") {
			continue
		} else if len(stay) == 0 || !firewall.IsLimit(firewall.Reason(c.Name)) { // to these lead the chains that stay
			chains = append(chains, c.Name)
		}
	}
	if kept != len(keep) || stayed != len(stay) {
		return "", false, nil
	}
	var b strings.Builder
	if len(stay) == 0 {
		b.WriteString("flush table " + firewall.Table + "\n")
		flushed = nil
	}
	for _, list := range []struct {
		what  string
		names []string
	}{{"flush chain ", flushed}, {"delete chain ", chains}, {"delete set ", sets}, {"delete map ", maps}} {
		for _, name := range list.names {
			if !ordinary.MatchString(name) { // somebody else's: the kernel allows what nft's grammar does not
				return "", false, nil
			}
			b.WriteString(list.what + firewall.Table + " " + name + "\n")
		}
	}
	return b.String(), true, nil
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
