package firewall

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Elements is what the named sets hold: by set, sorted and without repetition, in the form in which nft -n lists them.
// A set without elements is absent.
type Elements map[string][]string

// Count is how many elements there are in all sets.
func (e Elements) Count() int {
	n := 0
	for _, list := range e {
		n += len(list)
	}
	return n
}

// Sets are the names of the sets, sorted.
func (e Elements) Sets() []string { return slices.Sorted(maps.Keys(e)) }

// Diff is what must be added to e and removed from it to have next.
func (e Elements) Diff(next Elements) (add, remove Elements) {
	return next.without(e), e.without(next)
}

func (e Elements) without(other Elements) Elements {
	out := Elements{}
	for set, list := range e {
		have := other[set]
		var rest []string
		for _, element := range list {
			if _, found := slices.BinarySearch(have, element); !found {
				rest = append(rest, element)
			}
		}
		if len(rest) > 0 {
			out[set] = rest
		}
	}
	return out
}

// Union is all elements of all parts, each once.
func Union(parts ...Elements) Elements {
	out := Elements{}
	for _, part := range parts {
		for set, list := range part {
			out[set] = append(out[set], list...)
		}
	}
	out.normalise()
	return out
}

// Check reports the first element that cannot be one of its set: it would be a syntax error of nft, or worse, another command.
func (e Elements) Check() error {
	for _, set := range e.Sets() {
		if _, is := parseLimitMap(set); is {
			if err := checkLimitMap(set, e[set]); err != nil {
				return err
			}
			continue
		}
		keyType, known := fixedSets[set]
		if set == Limits {
			for _, element := range e[set] {
				if _, err := parseLimit(element); err != nil {
					return fmt.Errorf("limit %q: %w", element, err)
				}
			}
			continue
		}
		if !known {
			s, ok := parseShape(set)
			if !ok {
				return fmt.Errorf("no set is named %q", set)
			}
			keyType = s.keyType()
		}
		fields := strings.Count(keyType, " . ")
		for _, element := range e[set] {
			if strings.Count(element, " . ") != fields || strings.ContainsFunc(element, notInElement) {
				return fmt.Errorf("set %s: %q is not of the form %s", set, element, keyType)
			}
		}
	}
	return nil
}

const elementLetters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.:_-\" "

func notInElement(r rune) bool { return !strings.ContainsRune(elementLetters, r) }

func (e Elements) normalise() {
	for set, list := range e {
		slices.Sort(list)
		if list = slices.Compact(list); len(list) == 0 {
			delete(e, set)
		} else {
			e[set] = list
		}
	}
}

// Tally counts by how many owners each element is held, for two flows may need one element. The zero value is empty.
// What Replace returns is what the kernel's sets must gain and lose.
type Tally struct{ held map[string]map[string]int }

// Replace lets an owner hold new instead of old (either may be nil).
func (t *Tally) Replace(old, new Elements) (add, remove Elements) {
	if t.held == nil {
		t.held = map[string]map[string]int{}
	}
	gained, lost := old.Diff(new)
	add, remove = Elements{}, Elements{}
	for set, list := range gained {
		if t.held[set] == nil {
			t.held[set] = map[string]int{}
		}
		for _, element := range list {
			if t.held[set][element]++; t.held[set][element] == 1 {
				add[set] = append(add[set], element)
			}
		}
	}
	for set, list := range lost {
		for _, element := range list {
			switch t.held[set][element] {
			case 0: // not held: nothing to take away
			case 1:
				delete(t.held[set], element)
				remove[set] = append(remove[set], element)
			default:
				t.held[set][element]--
			}
		}
		if len(t.held[set]) == 0 {
			delete(t.held, set)
		}
	}
	return add, remove
}

// Elements is all that is held by someone.
func (t *Tally) Elements() Elements {
	out := Elements{}
	for set, held := range t.held {
		out[set] = slices.Sorted(maps.Keys(held))
	}
	return out
}
