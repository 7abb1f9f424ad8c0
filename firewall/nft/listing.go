package nft

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"shekara/firewall"
)

// listing is a table as nft -n -s lists it: blocks ("chain forward", "set zone_links", "counter spoofed") with their lines.
type listing struct {
	blocks   map[string][]string
	elements firewall.Elements // of sets
}

const maxDrift = 100 // lines; beyond, "and N more"

var (
	marked = regexp.MustCompile(`^ct mark & 0x00000fff == 0x([0-9a-f]{8}) accept$`)
	marks  = regexp.MustCompile(`^ct mark set meta mark \| 0x([0-9a-f]{8})$`)
	inner  = regexp.MustCompile(`\{ [^{}]* \}`)
)

func list(ctx context.Context, table string, terse bool) (listing, error) {
	argv := []string{"-n", "-s"}
	if terse {
		argv = append(argv, "-t")
	}
	family, name, _ := strings.Cut(table, " ")
	out, err := query(ctx, append(argv, "list", "table", family, name)...)
	if err != nil {
		return listing{}, err
	}
	return parseListing(string(out)), nil
}

// parseListing reads what nft printed. It does not judge: a line that it does not know stays a line, and so shows as drift.
func parseListing(text string) listing {
	l := listing{map[string][]string{"table": nil}, firewall.Elements{}}
	block, inElements := "table", false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "table "):
		case line == "}" && !inElements:
			block = "table"
		case block == "table" && strings.HasSuffix(line, " {"):
			block = strings.TrimSuffix(line, " {")
			l.blocks[block] = nil
		case inElements || strings.HasPrefix(line, "elements = {"):
			_, set, _ := strings.Cut(block, " ")
			inElements = !strings.HasSuffix(line, "}")
			line = strings.TrimSuffix(strings.TrimPrefix(line, "elements = {"), "}")
			for element := range strings.SplitSeq(line, ",") {
				if element = strings.TrimSpace(element); element != "" {
					l.elements[set] = append(l.elements[set], element)
				}
			}
		default:
			l.blocks[block] = append(l.blocks[block], sortBraces(line))
		}
	}
	for set, list := range l.elements {
		for i := range list {
			list[i] = canonicalElement(list[i])
		}
		slices.Sort(list)
		l.elements[set] = list
	}
	l.takeLimits()
	return l
}

// takeLimits reads the chains of limited tunnels. Those that are not as our rules would have them stay chains, and so show as drift.
func (l listing) takeLimits() {
	byTunnel := map[string]map[string][]string{}
	for block, rules := range l.blocks {
		if chain, tunnel, ok := firewall.SplitLimitChain(strings.TrimPrefix(block, "chain ")); ok {
			if byTunnel[tunnel] == nil {
				byTunnel[tunnel] = map[string][]string{}
			}
			byTunnel[tunnel][chain] = rules
		}
	}
	for _, tunnel := range slices.Sorted(maps.Keys(byTunnel)) {
		element, ok := firewall.ListedLimit(tunnel, byTunnel[tunnel])
		if !ok {
			continue
		}
		l.elements[firewall.Limits] = append(l.elements[firewall.Limits], element)
		for chain := range byTunnel[tunnel] {
			delete(l.blocks, "chain "+chain+"_"+tunnel)
		}
	}
	slices.Sort(l.elements[firewall.Limits])
}

// sortBraces sorts what stands in anonymous sets and maps: the kernel keeps no order in them.
func sortBraces(line string) string {
	return inner.ReplaceAllStringFunc(line, func(braces string) string {
		items := strings.Split(strings.TrimSuffix(strings.TrimPrefix(braces, "{ "), " }"), ", ")
		slices.Sort(items)
		return "{ " + strings.Join(items, ", ") + " }"
	})
}

// canonicalElement writes IPv6 addresses as Go does: the C library prints ::192.0.2.1 where Go prints ::c000:201.
func canonicalElement(element string) string {
	if !strings.Contains(element, ":") || !strings.Contains(element, "::") {
		return element
	}
	element, verdict, of := strings.Cut(element, " : ")
	fields := strings.Split(element, " . ")
	for i, field := range fields {
		if a, err := netip.ParseAddr(field); err == nil {
			fields[i] = a.String()
		}
	}
	if element = strings.Join(fields, " . "); of {
		return element + " : " + verdict // of a map
	}
	return element
}

func (l listing) clone() listing {
	return listing{maps.Clone(l.blocks), maps.Clone(l.elements)}
}

// generation of judgement; 0: the two chains that hold it are not what they should be.
func (l listing) generation() int {
	verify, pass := l.blocks["chain verify"], l.blocks["chain pass"]
	if len(verify) != 1 || len(pass) == 0 {
		return 0
	}
	a, b := marked.FindStringSubmatch(verify[0]), marks.FindStringSubmatch(pass[0])
	if a == nil || b == nil || a[1] != b[1] {
		return 0
	}
	var n int
	if _, err := fmt.Sscanf(a[1], "%x", &n); err != nil || n > firewall.Generations {
		return 0
	}
	return n
}

// setGeneration makes a canonical listing expect generation n. The listing must be a clone.
func (l listing) setGeneration(n int) {
	number := fmt.Sprintf("0x%08x", n)
	for _, chain := range []string{"chain verify", "chain pass"} {
		rules := slices.Clone(l.blocks[chain])
		if len(rules) == 0 {
			continue
		}
		for _, pattern := range []*regexp.Regexp{marked, marks} {
			if at := pattern.FindStringSubmatchIndex(rules[0]); at != nil {
				rules[0] = rules[0][:at[2]-2] + number + rules[0][at[3]:]
			}
		}
		l.blocks[chain] = rules
	}
}

// compare says in words how have differs from l with the elements.
func (l listing) compare(have listing, elements firewall.Elements) []string {
	var drift []string
	for _, block := range slices.Sorted(maps.Keys(l.blocks)) {
		got, there := have.blocks[block]
		switch {
		case !there:
			drift = append(drift, block+" missing")
		case !slices.Equal(got, l.blocks[block]):
			drift = append(drift, compareLines(block, l.blocks[block], got)...)
		}
	}
	for _, block := range slices.Sorted(maps.Keys(have.blocks)) {
		if _, wanted := l.blocks[block]; !wanted {
			drift = append(drift, block+" added")
		}
	}
	want := firewall.Union(l.elements, elements)
	missing, added := have.elements.Diff(want)
	for _, side := range []struct {
		word string
		is   firewall.Elements
	}{{"missing", missing}, {"added", added}} {
		for _, set := range side.is.Sets() {
			for _, element := range side.is[set] {
				if set == firewall.Limits {
					drift = append(drift, fmt.Sprintf("chains of limits %s %s", element, side.word))
					continue
				}
				drift = append(drift, fmt.Sprintf("set %s: element %s %s", set, element, side.word))
			}
		}
	}
	if more := len(drift) - maxDrift; more > 0 {
		drift = append(drift[:maxDrift], fmt.Sprintf("and %d more", more))
	}
	return drift
}

func compareLines(block string, want, have []string) []string {
	count := map[string]int{}
	for _, line := range have {
		count[line]++
	}
	var drift []string
	for _, line := range want {
		if count[line]--; count[line] < 0 {
			drift = append(drift, fmt.Sprintf("%s: rule missing: %s", block, line))
		}
	}
	for _, line := range have {
		if count[line] > 0 {
			count[line]--
			drift = append(drift, fmt.Sprintf("%s: rule added: %s", block, line))
		}
	}
	if len(drift) == 0 {
		drift = []string{block + ": rules in another order"}
	}
	return drift
}
