package firewall

import (
	"crypto/sha256"
	"fmt"
	"regexp"
	"strings"
)

// Properties of the maps of the base, as nft declares them. The kernel keeps those of prefixes in a tree and the others in a hash table.
const (
	linkVerdict      = "type ifname : verdict"
	linkMark         = "type ifname : mark"
	linkZone         = "typeof iifname : ct zone" // a zone's type has no name
	markVerdict      = "type mark : verdict"
	directionVerdict = "type ct_dir : verdict"
	prefixes         = "; flags interval"
)

// prefixMap is the property of a map from prefixes of a family ("ip", "ip6") to marks, to zones, or to other prefixes.
func prefixMap(keyword, data string) string {
	address := map[string]string{"ip": "ipv4_addr", "ip6": "ipv6_addr"}[keyword]
	switch data {
	case "meta mark":
		return "type " + address + " : mark" + prefixes
	case "ct zone":
		return "typeof " + keyword + " daddr : ct zone" + prefixes
	}
	return "type " + address + " : interval " + address + prefixes
}

// lookup writes a map into the table, unless it is there, and is how rules name it.
//
// No map stands in a rule itself, and each is named by what it holds. A map that goes with its rule, or under whose name another comes, is empty
// from the moment of the commit on (nft_map_deactivate): packets that are in the old rules just then would find nothing in it. So those of
// one ruleset stand beside those of the next, until no packet can be in the old one any more.
func (w *writer) lookup(name, properties string, entries []string) string {
	if !strings.HasSuffix(properties, prefixes) {
		properties += fmt.Sprintf("; size %d", len(entries)) // a hash table of its size; in a tree the kernel counts ends too
	}
	block := "\t\t" + strings.ReplaceAll(properties, "; ", "\n\t\t") + "\n\t\telements = " + braces(entries) + "\n"
	name += "." + fmt.Sprintf("%x", sha256.Sum256([]byte(block)))[:12]
	if w.lookups == nil {
		w.lookups = map[string]bool{}
	}
	if !w.lookups[name] {
		w.lookups[name] = true
		w.WriteString("\tmap " + name + " {\n" + block + "\t}\n")
	}
	return "@" + name
}

var lookupName = regexp.MustCompile(`^[a-z_]+\.[0-9a-f]{12}$`)

// IsLookup says whether a map of our table is named by what it holds: then all maps of the name hold the same.
func IsLookup(name string) bool { return lookupName.MatchString(name) }

var lookupInRule = regexp.MustCompile(`(map @[a-z_]+)\.[0-9a-f]{12}\b`)

// withoutDigits is a rule for people, who are told that there is a map and not which.
func withoutDigits(rule string) string { return lookupInRule.ReplaceAllString(rule, "$1") }
