package server

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"shekara/timesync"
	"shekara/timesync/ntp"
)

// policy is a Spec, ready to be looked up in. Nothing in it changes but the tallies.
type policy struct {
	addresses  []netip.Addr
	withhold   bool
	keys       *ntp.Keys // nil: none
	registered map[netip.Prefix]*registration
	four, six  []int // lengths of the prefixes of each family, the longest first
}

// registration is a Client.
type registration struct {
	tally  *tally
	key    uint32
	nts    bool
	broken bool // it must authenticate by a key that we do not have
}

// compile makes a policy, complete in any case. The error is of what cannot be served.
func compile(spec timesync.Spec, tallyOf func(system string) *tally) (*policy, error) {
	p := &policy{withhold: spec.Withhold, registered: map[netip.Prefix]*registration{}}
	for _, a := range spec.Addresses {
		p.addresses = append(p.addresses, a.Unmap().WithZone(""))
	}
	var wrong []error
	if spec.KeyFile != "" {
		keys, err := ntp.ReadKeys(spec.KeyFile)
		if err != nil {
			wrong = append(wrong, err)
		}
		p.keys = keys
	}
	for _, client := range spec.Clients {
		r := &registration{tally: tallyOf(client.System), key: client.Key, nts: client.NTS}
		if client.Key != 0 && !client.NTS {
			if _, err := p.keys.Find(client.Key); err != nil {
				r.broken = true
				wrong = append(wrong, fmt.Errorf("system %s is refused: %w", client.System, err))
			}
		}
		for _, prefix := range client.Prefixes {
			prefix = prefix.Masked()
			if p.registered[prefix] != nil {
				continue // of two systems with the same the first has it, as in the document
			}
			p.registered[prefix] = r
			lengths := &p.four
			if prefix.Addr().Is6() {
				lengths = &p.six
			}
			if !slices.Contains(*lengths, prefix.Bits()) {
				*lengths = append(*lengths, prefix.Bits())
			}
		}
	}
	for _, lengths := range [][]int{p.four, p.six} {
		slices.SortFunc(lengths, func(a, b int) int { return b - a })
	}
	return p, errors.Join(wrong...)
}

// find is the registration with the longest prefix that an address, unmapped, is in; nil where there is none.
func (p *policy) find(address netip.Addr) *registration {
	lengths := p.four
	if address.Is6() {
		lengths = p.six
	}
	for _, bits := range lengths {
		prefix, err := address.Prefix(bits)
		if err != nil {
			return nil // cannot be: the lengths are the family's
		}
		if r := p.registered[prefix]; r != nil {
			return r
		}
	}
	return nil
}
