package firewall

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// Mapping is how the addresses of one range stand in another of the same length: one to one.
type Mapping struct {
	Inside  netip.Prefix // as hosts on this box's side of the tunnel write them, and the Policy
	Outside netip.Prefix // as they stand in packets on the device
	// Shared says that it is not one to one: all stand behind the single address Outside, as those of other mappings may too. Then
	// connections are opened from the inside only.
	Shared bool
}

// Translation is how this box translates what passes a device.
type Translation struct {
	Far   []Mapping // of the hosts behind the device: the ranges by which they are known here
	Local []Mapping // of the hosts on this side: what is shown of them. Nothing with another source leaves by the device
	// Zone is the conntrack zone of the device (not 0), where Far has something: equal addresses behind two devices stay apart by it.
	Zone uint16
	// Mark is what packets to Far get before they are routed, LocalMark what this box's own get, and those that arrive: by these they
	// find the device's route table. An arriving packet is not routed by its mark: only its way back is looked up by it.
	Mark, LocalMark uint32
}

// Out is a prefix of this side's notation as it stands in packets on the device: in the ranges of mappings, else as it is. It reports false
// where the prefix is part of what stands behind one address together with others, which nobody can address from outside.
func Out(mappings []Mapping, p netip.Prefix) (out netip.Prefix, addressable bool) {
	for _, m := range mappings {
		if m.Inside.Bits() > p.Bits() || !m.Inside.Contains(p.Addr()) {
			continue
		}
		if m.Shared {
			return m.Outside, false
		}
		return shift(p, m.Inside.Bits(), m.Outside.Addr()), true
	}
	return p, true
}

// In is the inverse of Out, for what is mapped one to one.
func In(mappings []Mapping, p netip.Prefix) netip.Prefix {
	turned := make([]Mapping, 0, len(mappings))
	for _, m := range mappings {
		if !m.Shared {
			turned = append(turned, Mapping{Inside: m.Outside, Outside: m.Inside})
		}
	}
	in, _ := Out(turned, p)
	return in
}

// shift gives a prefix the leading bits of another address.
func shift(p netip.Prefix, bits int, to netip.Addr) netip.Prefix {
	a, b := p.Addr().AsSlice(), to.AsSlice()
	for i := range bits {
		mask := byte(0x80) >> (i % 8)
		a[i/8] = a[i/8]&^mask | b[i/8]&mask
	}
	moved, _ := netip.AddrFromSlice(a) // of the length of an address
	return netip.PrefixFrom(moved, p.Bits())
}

// checkTranslation of a device. Taken are the ranges, zones and marks of the devices before it.
func checkTranslation(d Device, taken *takenByTranslations) error {
	for _, prefix := range d.Sources {
		if err := checkPrefix(prefix); err != nil {
			return fmt.Errorf("sources: %w", err)
		}
	}
	t := d.Translation
	if t == nil {
		return nil
	}
	if len(t.Far)+len(t.Local) == 0 {
		return fmt.Errorf("translation without anything to translate")
	}
	for _, m := range slices.Concat(t.Far, t.Local) {
		for _, prefix := range []netip.Prefix{m.Inside, m.Outside} {
			if err := checkPrefix(prefix); err != nil {
				return fmt.Errorf("translation: %w", err)
			}
		}
		if m.Inside.Addr().Is4() != m.Outside.Addr().Is4() || m.Shared && !(m.Outside.IsSingleIP() && slices.Contains(t.Local, m)) || !m.Shared && m.Inside.Bits() != m.Outside.Bits() {
			return fmt.Errorf("translation of %s to %s: neither of one length nor behind one address", m.Inside, m.Outside)
		}
	}
	for i, m := range t.Local {
		for _, other := range t.Local[:i] {
			if m.Inside.Overlaps(other.Inside) || !(m.Shared && other.Shared) && m.Outside.Overlaps(other.Outside) {
				return fmt.Errorf("translation of %s overlaps that of %s", m.Inside, other.Inside)
			}
		}
	}
	if len(t.Far) == 0 {
		return nil
	}
	if len(d.Sources) == 0 {
		return fmt.Errorf("translation of the far side without the sources that it has")
	}
	if t.Zone == 0 || t.Mark == 0 || t.LocalMark == 0 || t.Mark == t.LocalMark {
		return fmt.Errorf("translation of the far side needs a conntrack zone and two marks")
	}
	return taken.take(t)
}

// takenByTranslations is what no two devices may both have.
type takenByTranslations struct {
	ranges []netip.Prefix
	zones  map[uint16]bool
	marks  map[uint32]bool
}

func (taken *takenByTranslations) take(t *Translation) error {
	if taken.zones[t.Zone] || taken.marks[t.Mark] || taken.marks[t.LocalMark] {
		return fmt.Errorf("conntrack zone %d or marks 0x%08x, 0x%08x are also another device's", t.Zone, t.Mark, t.LocalMark)
	}
	taken.zones[t.Zone], taken.marks[t.Mark], taken.marks[t.LocalMark] = true, true, true
	for i, m := range t.Far {
		for _, other := range taken.ranges {
			if m.Inside.Overlaps(other) {
				return fmt.Errorf("mapped range %s overlaps %s", m.Inside, other)
			}
		}
		for _, other := range t.Far[:i] {
			if m.Outside.Overlaps(other.Outside) {
				return fmt.Errorf("mapped ranges %s and %s are of overlapping ones", m.Inside, other.Inside)
			}
		}
		taken.ranges = append(taken.ranges, m.Inside)
	}
	return nil
}

// Opened are the sources and destinations of a flow as its opener writes them, if it is opened from behind the device: conntrack's original
// addresses. From this side they are what the Policy has.
func (d Device) Opened(f Flow) (sources, destinations []netip.Prefix, err error) {
	t := d.Translation
	if t == nil || f.From.Device != d.Name {
		return f.Sources, f.Destinations, nil
	}
	for _, p := range f.Sources {
		out, _ := Out(t.Far, p)
		sources = append(sources, out)
	}
	for _, p := range f.Destinations {
		out, addressable := Out(t.Local, p)
		if !addressable {
			return nil, nil, fmt.Errorf("destination %s is hidden behind %s: nobody can open a connection to it", p, out)
		}
		destinations = append(destinations, out)
	}
	return sources, destinations, nil
}

// zone is the conntrack zone of the device's connections.
func (d Device) zone() uint16 {
	if d.Translation == nil {
		return 0
	}
	return d.Translation.Zone
}

// translated is a device that translates, with its place.
type translated struct {
	place
	Translation
}

// translated are the devices that translate, and of these the ones that map the far side.
func (b *Base) translated() (all, far []translated) {
	for _, c := range b.places {
		if !c.device || b.device[c.interfaces[0]].Translation == nil {
			continue
		}
		d := translated{c, *b.device[c.interfaces[0]].Translation}
		all = append(all, d)
		if len(d.Far) > 0 {
			far = append(far, d)
		}
	}
	return all, far
}

const (
	natHook    = "type nat hook %s priority %s; policy accept;"
	filterHook = "type filter hook %s priority %s; policy accept;"
	// zonesFirst is before conntrack puts fragments together (NF_IP_PRI_CONNTRACK_DEFRAG, -400): those of two hosts with one address never mix.
	zonesFirst   = "-450"
	afterJudging = "10"
	// hidingLast is after source translation (100).
	hidingLast = "150"
)

// translationChains translate the first packet of a connection; conntrack does the same with the others, with answers, and with ICMP
// errors and the packets that they quote. They are there only if a device translates.
func (b *Base) translationChains(w *writer) {
	devices, far := b.translated()
	if len(devices) == 0 {
		return
	}
	var mapped []Mapping
	for _, d := range far {
		mapped = append(mapped, d.Far...)
	}
	toFar := w.natRules("dnat", "daddr", mapped)
	if len(far) > 0 {
		zoneChains(w, far)
		// What this box itself sends is routed before its address is translated, and then again.
		w.chain("nat_output", append([]string{fmt.Sprintf(natHook, "output", "-100")}, toFar...)...)
	}
	w.chain("nat_prerouting", append([]string{fmt.Sprintf(natHook, "prerouting", "dstnat"), "iifname vmap " + w.leads("shown", devices)}, toFar...)...)
	postrouting := []string{fmt.Sprintf(natHook, "postrouting", "srcnat")}
	if len(far) > 0 {
		postrouting = append(postrouting, "iifname vmap "+w.leads("known", far))
	}
	hiding := slices.DeleteFunc(slices.Clone(devices), func(d translated) bool { return len(d.Local) == 0 })
	if len(hiding) > 0 {
		postrouting = append(postrouting, "oifname vmap "+w.leads("hide", hiding))
	}
	w.chain("nat_postrouting", postrouting...)
	for _, d := range devices {
		d.chains(w)
	}
	if len(hiding) > 0 {
		// A connection from before it was to be hidden would go on as it is: it ends here.
		w.chain("postrouting", fmt.Sprintf(filterHook, "postrouting", hidingLast), "oifname vmap "+w.leads("leave", hiding)+` comment "address hiding"`)
	}
}

// chains are what one device translates: what is shown to it back to what it is, its hosts to how they are known, and what is to be hidden.
func (d translated) chains(w *writer) {
	var shown, known, oneToOne []Mapping
	var hide []string
	var outside []netip.Prefix
	for _, m := range d.Local {
		outside = append(outside, m.Outside)
		if !m.Shared {
			shown, oneToOne = append(shown, Mapping{Inside: m.Outside, Outside: m.Inside}), append(oneToOne, m)
		} else {
			k := keyword(m.Inside)
			hide = append(hide, fmt.Sprintf("%s saddr %s snat %s to %s", k, m.Inside, k, m.Outside.Addr()))
		}
	}
	for _, m := range d.Far {
		known = append(known, Mapping{Inside: m.Outside, Outside: m.Inside})
	}
	w.chain("shown_"+d.chain, w.natRules("dnat", "daddr", shown)...)
	if len(known) > 0 {
		w.chain("known_"+d.chain, w.natRules("snat", "saddr", known)...)
	}
	if len(d.Local) > 0 {
		w.chain("hide_"+d.chain, append(w.natRules("snat", "saddr", oneToOne), hide...)...)
		w.chain("leave_"+d.chain, append(matchPrefixes("saddr", texts(outside), "accept"), drop("postrouting", Unhidden))...)
	}
}

// zoneChains give packets from and to devices that map their far side the conntrack zone of the device, and a mark by which they are routed.
func zoneChains(w *writer, far []translated) {
	for _, d := range far {
		w.chain("zone_"+d.chain, fmt.Sprintf("ct zone set %d meta mark set 0x%08x", d.Zone, d.LocalMark))
	}
	rules := []string{fmt.Sprintf(filterHook, "prerouting", zonesFirst), "iifname vmap " + w.leads("zone", far)}
	rules = append(rules, w.farRules(far, "ct zone", func(d translated) string { return fmt.Sprint(d.Zone) })...)
	w.chain("zones_prerouting", append(rules, w.farRules(far, "meta mark", func(d translated) string { return fmt.Sprintf("0x%08x", d.Mark) })...)...)
	zones := make([]string, len(far))
	for i, d := range far {
		zones[i] = fmt.Sprintf("%q : %d", d.interfaces[0], d.Zone)
	}
	// Judging a packet costs it its mark, by which this box would answer.
	marks := make([]string, len(far))
	for i, d := range far {
		marks[i] = fmt.Sprintf("%q : 0x%08x", d.interfaces[0], d.LocalMark)
	}
	for _, hook := range []string{"input", "forward"} {
		w.chain("zones_"+hook, fmt.Sprintf(filterHook, hook, afterJudging), "meta mark set iifname map "+w.lookup("link", linkMark, marks))
	}
	rules = []string{fmt.Sprintf(filterHook, "output", zonesFirst), "ct zone set oifname map " + w.lookup("link", linkZone, zones)}
	w.chain("zones_output", append(rules, w.farRules(far, "meta mark", func(d translated) string { return fmt.Sprintf("0x%08x", d.LocalMark) })...)...)
}

// farRules set something by the destination, one rule for each family.
func (w *writer) farRules(far []translated, what string, value func(translated) string) []string {
	byFamily := map[string][]string{}
	for _, d := range far {
		for _, m := range d.Far {
			k := keyword(m.Inside)
			byFamily[k] = append(byFamily[k], fmt.Sprintf("%s : %s", m.Inside, value(d)))
		}
	}
	var rules []string
	for _, k := range slices.Sorted(maps.Keys(byFamily)) {
		rules = append(rules, fmt.Sprintf("%s set %s daddr map %s", what, k, w.lookup("far", prefixMap(k, what), byFamily[k])))
	}
	return rules
}

// natRules translate Inside to Outside, address by address, one rule for each family.
func (w *writer) natRules(verb, side string, mappings []Mapping) []string {
	byFamily := map[string][]string{}
	for _, m := range mappings {
		k := keyword(m.Inside)
		byFamily[k] = append(byFamily[k], fmt.Sprintf("%s : %s", m.Inside, m.Outside))
	}
	var rules []string
	for _, k := range slices.Sorted(maps.Keys(byFamily)) {
		rules = append(rules, fmt.Sprintf("%s %s prefix to %s %s map %s", verb, k, k, side, w.lookup(verb, prefixMap(k, "address"), byFamily[k])))
	}
	return rules
}

// leads is a verdict map from the devices' links to their chains of a kind.
func (w *writer) leads(kind string, devices []translated) string {
	verdicts := make([]string, len(devices))
	for i, d := range devices {
		verdicts[i] = fmt.Sprintf("%q : goto %s_%s", d.interfaces[0], kind, d.chain)
	}
	return w.lookup(kind, linkVerdict, verdicts)
}

// keyword is how nft calls the header of a prefix's family.
func keyword(p netip.Prefix) string {
	if p.Addr().Is4() {
		return "ip"
	}
	return "ip6"
}
