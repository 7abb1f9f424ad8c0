package nft

import (
	"errors"
	"strings"

	"shekara/firewall"
	"shekara/netctl/nftables"
)

// quick makes a change by netlink, where it is of a few elements of sets that stay: a process of nft takes ten times as long to start as the
// kernel to do it. Rules stay as nft wrote them, but for the number of the generation. done is false if nothing was changed, as the change is
// more than that, or the kernel would not: nft says why.
func (l *Loader) quick(add, remove firewall.Elements, generation int) (before, after uint32, done bool, err error) {
	if add.Count()+remove.Count() > nftables.MaxBatch {
		return 0, 0, false, nil
	}
	now, err := nftables.Generation()
	if err != nil {
		return 0, 0, false, nil
	}
	_, table, _ := strings.Cut(firewall.Table, " ")
	batch := nftables.NewBatch(table, now)
	for _, change := range []struct {
		elements firewall.Elements
		make     func(set string, keys ...[]byte)
	}{{add, batch.Add}, {remove, batch.Delete}} {
		for _, set := range change.elements.Sets() {
			var keys [][]byte
			for _, element := range change.elements[set] {
				key, err := firewall.Key(set, element)
				if err != nil {
					return 0, 0, false, nil // of a map
				}
				keys = append(keys, key)
			}
			change.make(set, keys...)
		}
	}
	if generation != l.generation {
		for _, chain := range firewall.GenerationChains() {
			rules, err := nftables.Rules(table, chain)
			if err != nil || len(rules) == 0 {
				return 0, 0, false, nil
			}
			renumbered, ok := rules[0].WithNumber(uint32(l.generation), uint32(generation))
			if !ok {
				return 0, 0, false, nil
			}
			batch.Replace(renumbered)
		}
	}
	before, after, err = l.commits.Make(1, batch.Commit)
	if refused := new(nftables.Refusal); errors.As(err, &refused) || errors.Is(err, nftables.ErrOutdated) {
		return 0, 0, false, nil
	}
	return before, after, true, err
}
