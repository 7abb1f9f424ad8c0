package proof

import (
	"net/netip"
	"slices"

	"shekara/firewall"
)

// opening says who may open connections of one kind. Where nothing translates the three are one.
type opening struct {
	loose  formula // by the addresses that rules judge by, whatever stands instead of them
	exact  formula // and what stands instead of them is what the policy says
	opened formula // exact, of packets that are not translated yet
}

func (a *allowed) opening(loose, exact []formula) opening {
	o := opening{loose: a.any(loose...), exact: a.any(exact...)}
	if o.opened = o.exact; a.translates {
		o.opened = a.exists(o.exact, a.ofOther)
	}
	return o
}

// translates says whether a policy asks for translation.
func translates(p firewall.Policy) bool {
	return slices.ContainsFunc(p.Devices, func(d firewall.Device) bool { return d.Translation != nil })
}

// notations are a policy's translations as relations between the addresses with which a connection is opened and those that stand instead.
type notations struct {
	onward formula // of what leaves this box
	inward formula // of what is for this box: by whom it is opened stays as it is on the device
	astray formula // to a far host by another way than its device: what becomes of the target there nothing says
	lasts  formula // what a living connection keeps on devices whose far side is mapped, or that show this side
	seen   formula // of what leaves this box, the source alone
	shown  formula // what leaves by a device that hides has a source that is to be seen
}

func (a *allowed) newNotations() notations {
	if !a.translates {
		return notations{onward: always, inward: always, astray: never, lasts: always, seen: always, shown: always}
	}
	source, target := a.source, a.target
	var mapping, showing, translating []string
	n := notations{astray: never}
	for _, d := range a.policy.Devices {
		t := d.Translation
		if t == nil {
			continue
		}
		from, to := a.at(a.from, d.Name), a.at(a.to, d.Name)
		source = a.chosen(from, a.moved(a.source, t.Far, true), source)
		target = a.chosen(from, a.moved(a.target, t.Local, true), target)
		translating = append(translating, d.Name)
		if len(t.Far) > 0 {
			mapping = append(mapping, d.Name)
		}
		if len(t.Local) > 0 {
			showing = append(showing, d.Name)
		}
		for _, m := range t.Far {
			n.astray = a.or(n.astray, a.without(a.inside(a.target, m.Inside), to))
		}
	}
	n.astray = a.without(n.astray, a.at(a.from, translating...)) // these write other addresses
	shown, known := source, target
	for _, d := range a.policy.Devices {
		if t := d.Translation; t != nil {
			to := a.at(a.to, d.Name)
			shown = a.chosen(to, a.moved(source, t.Local, false), shown)
			known = a.chosen(to, a.moved(target, t.Far, false), known)
		}
	}
	goes := a.same(known, a.toTarget)
	n.seen = a.same(shown, a.toSource)
	n.onward = a.and(n.seen, goes)
	n.inward = a.and(a.same(a.source, a.toSource), a.same(target, a.toTarget))
	comes := a.or(not(a.at(a.from, mapping...)), a.same(source, a.toSource))
	n.lasts = a.and(comes, a.any(goes, n.astray, not(a.or(a.at(a.to, mapping...), a.at(a.from, showing...)))))
	n.shown = a.hidden(a.to, a.toSource)
	return n
}

// moved is an address as it stands in the other range of a mapping that has it; back: from outside to inside.
func (a *allowed) moved(address vector, mappings []firewall.Mapping, back bool) vector {
	out := address
	for _, m := range mappings {
		from, to := m.Inside, m.Outside
		if back {
			if from, to = m.Outside, m.Inside; m.Shared {
				continue // one address stands for many: nobody knows which
			}
		}
		next := slices.Clone(address)
		copy(next, constantVector(addressNumber(to.Addr()), to.Addr().BitLen())[:to.Bits()])
		out = a.chosen(a.inside(address, from), next, out)
	}
	return out
}

// hidden is where a source may be seen on an interface: of a device that hides, those that are to be shown alone.
func (a *allowed) hidden(interfaces, source vector) formula {
	out := always
	for _, d := range a.policy.Devices {
		if d.Translation == nil || len(d.Translation.Local) == 0 {
			continue
		}
		var list []netip.Prefix
		for _, m := range d.Translation.Local {
			list = append(list, m.Outside)
		}
		out = a.and(out, a.or(not(a.at(interfaces, d.Name)), a.insideAny(source, list)))
	}
	return out
}

// outside is a prefix as it stands in packets on a device.
func outside(mappings []firewall.Mapping, p netip.Prefix) netip.Prefix {
	for _, m := range mappings {
		switch {
		case m.Inside.Bits() > p.Bits() || !m.Inside.Contains(p.Addr()):
		case m.Shared:
			return m.Outside
		default:
			from, to := p.Addr().AsSlice(), m.Outside.Addr().AsSlice()
			for i := range from {
				keep := byte(0xff) >> min(8, max(0, m.Outside.Bits()-8*i))
				to[i] = to[i]&^keep | from[i]&keep
			}
			address, _ := netip.AddrFromSlice(to) // of the length of an address
			return netip.PrefixFrom(address, p.Bits())
		}
	}
	return p
}

// ownMarks is where what this box sends by a device has no mark or, if its far side is mapped, the one by which its packets are led there: what is for
// a mapped address the rules mark, and for no other device than its own.
func (a *allowed) ownMarks(v *view) formula {
	out, unmarked := never, a.equal(a.packetMark, number{})
	all, _ := a.mapped(v.target)
	for _, d := range a.policy.Devices {
		may := a.without(unmarked, all)
		if d.Translation != nil && len(d.Translation.Far) > 0 {
			known := a.inRanges(v.target, d.Translation.Far)
			may = a.or(a.and(unmarked, known), a.without(a.equal(a.packetMark, small(uint64(d.Translation.LocalMark))), a.without(all, known)))
		}
		out = a.or(out, a.and(a.at(v.output, d.Name), may))
	}
	return out
}

// mapped is where an address is one by which a far host is known here, and where the mark says that the packet is for one: the kernel
// answers with the mark of what it answers (fwmark_reflect).
func (a *allowed) mapped(address vector) (known, marked formula) {
	known, marked = never, never
	for _, d := range a.policy.Devices {
		if d.Translation == nil || len(d.Translation.Far) == 0 {
			continue
		}
		marked = a.or(marked, a.equal(a.packetMark, small(uint64(d.Translation.LocalMark))))
		for _, m := range d.Translation.Far {
			known = a.or(known, a.inside(address, m.Inside))
		}
	}
	return known, marked
}
