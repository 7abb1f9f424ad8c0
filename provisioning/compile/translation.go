package compile

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"shekara/firewall"
	"shekara/netctl"
	"shekara/provisioning/document"
)

// mappings pairs an end's prefixes with what stands for them: in order, or each with the single address of its family.
func mappings(inside, outside []string) ([]firewall.Mapping, error) {
	var made []firewall.Mapping
	oneToOne := document.OneToOne(inside, outside)
	for i, s := range inside {
		p, err := document.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("prefix %q: %w", s, err)
		}
		for j, other := range outside {
			q, err := document.ParsePrefix(other)
			if err != nil {
				return nil, fmt.Errorf("prefix %q: %w", other, err)
			}
			if oneToOne && i == j || !oneToOne && p.Addr().Is4() == q.Addr().Is4() {
				made = append(made, firewall.Mapping{Inside: p, Outside: q, Shared: !oneToOne})
			}
		}
	}
	return made, nil
}

// translate gives a device that serves one tunnel alone what that tunnel asks for.
func (r *Resolver) translate(d *Device, name string) error {
	t := r.set.Tunnel(name)
	if t == nil || t.Inactive {
		return nil
	}
	e := r.endsOf(t)
	if e == nil {
		return nil
	}
	var err error
	if d.Filter.Sources, err = prefixes(e.far.Shown()); err != nil {
		return err
	}
	made := firewall.Translation{}
	if made.Local, err = mappings(e.local.Prefixes, e.local.Hide); err != nil {
		return err
	}
	// Hosts here write mapped where the far ones have prefixes.
	if made.Far, err = mappings(e.far.Mapped, e.far.Prefixes); err != nil || len(e.far.Mapped) == 0 {
		made.Far = nil
	}
	if len(made.Far) > 0 {
		made.Zone = r.zones[d.Spec.Name]
		made.Mark, made.LocalMark = mappedBase|uint32(made.Zone), arrivedBase|uint32(made.Zone)
	}
	if len(made.Far)+len(made.Local) > 0 {
		d.Filter.Translation = &made
	}
	return err
}

// endsOf are the tunnel's ends as this box sees them, nil if it has neither.
func (r *Resolver) endsOf(t *document.Tunnel) *ends {
	if _, own := r.peers[t.Owner.Peer]; own {
		return &ends{local: t.Owner, far: t.Initiator}
	}
	if _, own := r.peers[t.Initiator.Peer]; own {
		return &ends{local: t.Initiator, far: t.Owner}
	}
	return nil
}

// known are prefixes behind the far end as this side writes them.
func known(far *document.End, list []netip.Prefix) ([]netip.Prefix, error) {
	if len(far.Mapped)+len(far.Hide) == 0 {
		return list, nil
	}
	ranges, err := mappings(far.Prefixes, far.Known())
	if err != nil {
		return nil, err
	}
	var made []netip.Prefix
	for _, p := range list {
		out, _ := firewall.Out(ranges, p)
		made = append(made, out)
	}
	slices.SortFunc(made, netip.Prefix.Compare)
	return slices.Compact(made), nil
}

// mappedRules lead to the route tables of devices whose far side is mapped, and make the kernel answer by the mark of what it answers.
func mappedRules(spec *netctl.Spec, devices map[string]Device) {
	for _, name := range slices.Sorted(maps.Keys(devices)) {
		t := devices[name].Filter.Translation
		if t == nil || len(t.Far) == 0 {
			continue
		}
		for _, ipv6 := range []bool{false, true} {
			spec.Rules = append(spec.Rules,
				netctl.Rule{IPv6: ipv6, Priority: netctl.ArrivedRulePriority, In: name, Table: mainTable},
				netctl.Rule{IPv6: ipv6, Priority: netctl.AnswerRulePriority, Mark: t.LocalMark, Table: t.Mark},
				netctl.Rule{IPv6: ipv6, Priority: netctl.BackRulePriority, Mark: t.Mark, In: netctl.LocalIn, Table: mainTable},
				netctl.Rule{IPv6: ipv6, Priority: netctl.MappedRulePriority, Mark: t.Mark, Table: t.Mark})
		}
		spec.Sysctls["net.ipv4.fwmark_reflect"], spec.Sysctls["net.ipv6.fwmark_reflect"] = "1", "1"
	}
	slices.SortStableFunc(spec.Rules, func(a, b netctl.Rule) int { return a.Priority - b.Priority })
}
