package iptables

import (
	"fmt"
	"net/netip"
	"slices"

	"shekara/firewall"
)

// Sets of devices that map their far side.
const (
	markSet   = "marks"  // device -> the mark by which this box answers
	mappedSet = "mapped" // range by which a far side is known here -> the mark by which packets are led to its device
)

// translated is a device that translates, with the number of its place.
type translated struct {
	firewall.Translation
	link   string
	number uint32
}

func translatedDevices(devices []firewall.Device, places []firewall.Numbered) (out []translated) {
	for _, place := range places {
		for _, d := range devices {
			if d.Name == place.Device && d.Translation != nil {
				out = append(out, translated{*d.Translation, d.Name, place.Number})
			}
		}
	}
	return out
}

// chain is the name of one of the device's own chains.
func (d translated) chain(of string) string { return fmt.Sprintf("%s-%02x", of, d.number) }

// of are the mappings of a family.
func (f family) of(mappings []firewall.Mapping) (out []firewall.Mapping) {
	for _, m := range mappings {
		if familyOf(m.Inside.Addr()) == f {
			out = append(out, m)
		}
	}
	return out
}

// shown are what packets that arrive by the device are for, back to what it is: Outside to Inside, one to one.
func (d translated) shown() (out []firewall.Mapping) {
	for _, m := range d.Local {
		if !m.Shared {
			out = append(out, firewall.Mapping{Inside: m.Outside, Outside: m.Inside})
		}
	}
	return out
}

// shownBy are what packets that arrive at a place are for, back to what it is.
func (b *base) shownBy(place uint32) []firewall.Mapping {
	if i := slices.IndexFunc(b.translated, func(d translated) bool { return d.number == place }); i >= 0 {
		return b.translated[i].shown()
	}
	return nil
}

// destinations are how the destinations of connections between two places are translated before they are judged.
func (b *base) destinations(from, to uint32) []firewall.Mapping {
	number := func(place uint32) func(translated) bool {
		return func(d translated) bool { return d.number == place }
	}
	if slices.ContainsFunc(b.translated, number(from)) {
		return b.shownBy(from)
	}
	if i := slices.IndexFunc(b.translated, number(to)); i >= 0 {
		return b.translated[i].Far
	}
	return nil
}

// images are where the destinations of a permission are when they are judged, if they are translated before.
func (b *base) images(p firewall.Permission) (out []netip.Prefix) {
	for _, m := range b.destinations(p.From, p.To) {
		switch {
		case m.Inside.Addr().Is4() != p.Destination.Addr().Is4():
		case m.Inside.Bits() <= p.Destination.Bits() && m.Inside.Contains(p.Destination.Addr()):
			image, _ := firewall.Out([]firewall.Mapping{m}, p.Destination)
			out = append(out, image)
		case p.Destination.Contains(m.Inside.Addr()):
			out = append(out, m.Outside)
		}
	}
	return out
}

const (
	wasTranslated = "-m conntrack --ctstate DNAT " // another destination than the opener's
	notTranslated = "-m conntrack ! --ctstate DNAT "
	ofThisBox     = "-m addrtype --src-type LOCAL "
)

// guards are what a leaf's rule asks beside its set, each in a rule of its own. Nothing that is translated passes as if it were not, and the other way
// round; nor does it between places where nothing is to be translated, should it be led there.
func (w *writer) guards(way string, c cell) []string {
	switch {
	case len(w.translated) == 0:
		return []string{""}
	case c.translated:
		return w.translatedFrom(w.destinations(c.places>>fromShift, c.places&toMask>>toShift))
	case way == "open" && c.places&toMask>>toShift != boxPlace && len(w.destinations(c.places>>fromShift, c.places&toMask>>toShift)) > 0:
		// What this box sends itself is judged before it is translated, its connection's first packet and all others. To itself it sends nothing through a device.
		return []string{notTranslated, wasTranslated + ofThisBox}
	}
	return []string{notTranslated}
}

// translatedFrom asks for what was translated, from one of the ranges that mappings are of: another device may have the same range behind it.
func (w *writer) translatedFrom(mappings []firewall.Mapping) (guards []string) {
	for _, m := range w.family.of(mappings) {
		guards = append(guards, wasTranslated+"--ctorigdst "+m.Inside.String()+" ")
	}
	return guards
}

// far are the devices that map their far side.
func (b *base) far() (out []translated) {
	for _, d := range b.translated {
		if len(d.Far) > 0 {
			out = append(out, d)
		}
	}
	return out
}

// known is how an address behind a device is known here, and shownAs which address of this side is shown as another by a device.
func (b *base) known(device, address string) string {
	return b.inside(device, address, func(d translated) []firewall.Mapping { return d.Far })
}

func (b *base) shownAs(device, address string) string {
	return b.inside(device, address, func(d translated) []firewall.Mapping { return d.Local })
}

func (b *base) inside(device, address string, mappings func(translated) []firewall.Mapping) string {
	for _, d := range b.translated {
		if a, err := netip.ParseAddr(address); err == nil && d.link == device {
			return firewall.In(mappings(d), netip.PrefixFrom(a, a.BitLen())).Addr().String()
		}
	}
	return address
}

// probes lets echoes of a device pass, translated or not.
func (w *writer) probes(place uint32, match, sides string) []string {
	if len(w.translated) == 0 {
		return []string{match + w.in(probeSet(place, false), sides) + passes}
	}
	rules := []string{match + notTranslated + w.in(probeSet(place, false), sides) + passes}
	for _, guard := range w.translatedFrom(w.shownBy(place)) {
		rules = append(rules, match+guard+w.in(probeSet(place, true), sides)+passes)
	}
	return rules
}

func marked(mark uint32) string { return fmt.Sprintf("-m mark --mark 0x%x/0xffffffff ", mark) }

func setMark(mark uint32) string { return fmt.Sprintf("-j MARK --set-xmark 0x%x/0xffffffff", mark) }

// markOf gives a packet the mark of the device on a side, if it maps its far side.
func (w *writer) markOf(sides string) []string {
	if len(w.far()) == 0 {
		return nil
	}
	return []string{w.mapped(markSet, sides)}
}

// zones gives packets from and to devices that map their far side the conntrack zone of the device. The first zone that a packet gets stays: where it
// comes from decides, before whatever it is for.
func (w *writer) zones() []string {
	if len(w.far()) == 0 {
		return nil
	}
	return []string{w.in(markSet, "src,src") + w.jump("zones-from"), w.in(mappedSet, "dst") + w.jump("zones-to")}
}

// behindTunnels: what is for a host that is known here by a mapped address leaves by no other interface than its device.
func (w *writer) behindTunnels() (rules []string) {
	for _, d := range w.far() {
		rules = append(rules, marked(d.LocalMark)+drop("output", firewall.NoFlow))
	}
	return rules
}

// otherMarks stops what goes into a tunnel with a mark that is not its device's, or without the one that it has. It would have to be taken away to judge
// by ours, and a packet whose mark changes here is routed again, past all that judged where it goes.
func (w *writer) otherMarks() []string {
	const any = "-m mark ! --mark 0x0/0xffffffff "
	far := w.far()
	if len(far) == 0 {
		return []string{any + drop("output", firewall.NoFlow)}
	}
	var rules []string
	for _, d := range far {
		rules = append(rules, "-o "+d.link+" "+marked(d.LocalMark)+"-j RETURN")
	}
	w.chain(mangle, "marked", append(rules, drop("output", firewall.NoFlow))...)
	return []string{any + w.jump("marked"), marked(0) + w.in(markSet, "dst,dst") + drop("output", firewall.NoFlow)}
}

// translation writes the chains that keep connections of equal addresses apart, lead packets to their devices, translate the first packet of each
// connection, and stop what leaves with an address that is to be hidden. They are there only if a device translates.
func (w *writer) translation() {
	if len(w.translated) == 0 {
		return
	}
	w.separation()
	var toFar []string
	for _, d := range w.far() {
		toFar = append(toFar, w.netmap("-d", d.Far)...)
	}
	var arrive []string
	leave := []string{"-o lo " + passes} // what this box says to itself is nobody's, whatever mark it has
	for _, d := range w.translated {
		arrive = append(arrive, "-i "+d.link+" "+w.goTo(d.chain("shown")))
		w.chain(nat, d.chain("shown"), w.netmap("-d", d.shown())...)
	}
	for _, d := range w.far() {
		// By its mark: older kernels do not know any more here by which device a packet came. What this box sends has it too, and leaves by the device.
		leave = append(leave, marked(d.LocalMark)+"! -o "+d.link+" "+w.goTo(d.chain("known")))
		var known []firewall.Mapping
		for _, m := range d.Far {
			known = append(known, firewall.Mapping{Inside: m.Outside, Outside: m.Inside})
		}
		w.chain(nat, d.chain("known"), w.netmap("-s", known)...)
	}
	for _, d := range w.hiding() {
		leave = append(leave, "-o "+d.link+" "+w.jump(d.chain("hide")), "-o "+d.link+" "+w.goTo(d.chain("unhidden")))
		var rules []string
		for _, m := range w.family.of(d.Local) {
			if !m.Shared {
				rules = append(rules, w.netmap("-s", []firewall.Mapping{m})...)
			} else {
				rules = append(rules, fmt.Sprintf("-s %s -j SNAT --to-source %s", m.Inside, m.Outside.Addr()))
			}
		}
		w.chain(nat, d.chain("hide"), rules...)
		var shown []string
		for _, m := range w.family.of(d.Local) {
			shown = append(shown, "-s "+m.Outside.String()+" "+passes)
		}
		w.chain(nat, d.chain("unhidden"), append(shown, drop("postrouting", firewall.Unhidden))...)
	}
	w.chain(nat, "nat-prerouting", append(arrive, toFar...)...)
	w.chain(nat, "nat-output", toFar...)
	w.chain(nat, "nat-postrouting", leave...)
	w.postrouting()
}

// netmap translates Inside to Outside on a side, address by address.
func (w *writer) netmap(side string, mappings []firewall.Mapping) (rules []string) {
	for _, m := range w.family.of(mappings) {
		rules = append(rules, fmt.Sprintf("%s %s -j NETMAP --to %s", side, m.Inside, m.Outside))
	}
	return rules
}

// separation are zones and marks.
func (w *writer) separation() {
	marks, mapped := w.set(markSet, "hash:net,iface skbinfo"), w.set(mappedSet, "hash:net skbinfo")
	var to, from, reach, into []string
	for _, d := range w.far() {
		marks[w.family.all()+","+d.link] = becomes(d.LocalMark)
		zone := fmt.Sprintf("-j CT --zone %d", d.Zone)
		from, into = append(from, "-i "+d.link+" "+zone), append(into, "-o "+d.link+" "+zone)
		for _, m := range w.family.of(d.Far) {
			to, reach = append(to, fmt.Sprintf("-d %s %s", m.Inside, zone)), append(reach, fmt.Sprintf("-d %s %s", m.Inside, setMark(d.LocalMark)))
			for _, part := range split(m.Inside) {
				mapped[entry(part)] = becomes(d.Mark)
			}
		}
	}
	w.chain(raw, "zones-to", to...)
	w.chain(raw, "zones-from", from...)
	w.chain(raw, "reach", reach...)
	w.chain(raw, "zones-into", into...)
	// What this box sends is routed before its destination is translated, and then again, by the mark.
	w.chain(raw, "zones-output", w.in(mappedSet, "dst")+w.jump("reach"), w.in(markSet, "dst,dst")+w.jump("zones-into"))
	w.chain(mangle, "marks", w.mapped(mappedSet, "dst"), w.mapped(markSet, "src,src")) // the last mark stays
}

func becomes(mark uint32) string { return fmt.Sprintf(" skbmark 0x%x", mark) }

func (b *base) hiding() (out []translated) {
	for _, d := range b.translated {
		if len(d.Local) > 0 {
			out = append(out, d)
		}
	}
	return out
}

// postrouting: what this box sends to a mapped address leaves by its device, and what leaves by a device that hides addresses has one that is shown.
func (w *writer) postrouting() {
	rules := []string{"-o lo " + passes}
	for _, d := range w.far() {
		rules = append(rules, marked(d.LocalMark)+"! -o "+d.link+" "+ofThisBox+drop("output", firewall.NoFlow))
	}
	for _, d := range w.hiding() {
		rules = append(rules, "-o "+d.link+" "+w.goTo(d.chain("leave")))
		w.leave(d)
	}
	w.chain(mangle, "postrouting", rules...)
}

// leave lets pass what leaves a device with an address that is shown. The table comes before sources are translated, so what will stand in a packet is read
// off its connection: what answers to the opener are for, or what the opener wrote. The first packet has no translation yet: nat-postrouting looks at it,
// and ends what it does not hide. Of an error the source is its own unless its connection is translated on that side.
func (w *writer) leave(d translated) {
	const (
		asks    = "-m conntrack --ctdir ORIGINAL --ctrepldst "
		answers = "-m conntrack --ctdir REPLY --ctorigdst "
	)
	var rules, errors []string
	for _, m := range w.family.of(d.Local) {
		shown := m.Outside.String()
		rules = append(rules, asks+shown+" "+passes, answers+shown+" "+passes,
			fmt.Sprintf("-s %s -m conntrack --ctstate NEW --ctdir ORIGINAL ! --ctstatus CONFIRMED %s", m.Inside, passes))
		errors = append(errors, "-m conntrack --ctstate SNAT "+asks+shown+" "+passes, wasTranslated+answers+shown+" "+passes)
		for _, asItIs := range []string{"! --ctstate SNAT --ctdir ORIGINAL ", "! --ctstate DNAT --ctdir REPLY ", "--ctstate INVALID,UNTRACKED "} {
			errors = append(errors, "-s "+shown+" -m conntrack "+asItIs+passes)
		}
	}
	dropped := drop("postrouting", firewall.Unhidden)
	w.chain(mangle, d.chain("leave"), append([]string{"-m conntrack ! --ctstate NEW,ESTABLISHED " + w.goTo(d.chain("errors"))}, append(rules, dropped)...)...)
	w.chain(mangle, d.chain("errors"), append(errors, dropped)...)
}
