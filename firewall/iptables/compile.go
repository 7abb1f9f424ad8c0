package iptables

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"shekara/firewall"
)

// UnsupportedError says that this engine cannot keep a policy exactly, and so does not load it.
type UnsupportedError struct {
	Field  string // of firewall.Policy
	Reason string
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("the iptables engine cannot do this: %s: %s", e.Field, e.Reason)
}

// Names of sets, after letter and family.
const (
	fromSet   = "from"   // interface -> its place as from
	toSet     = "to"     // interface -> its place as to
	zoneSet   = "zones"  // interfaces of zones
	deviceSet = "tunnel" // tunnel devices
	sourceSet = "source" // what may come from an interface
	homeSet   = "home"   // address of this box -> its zone as from
	portSet   = "port"   // tunnel ports
	peerSet   = "peer"   // peers of tunnel ports
	anySet    = "any"    // tunnel ports that peers behind NAT may reach
	askedSet  = "asked"  // far ends that probes ask
	manageSet = "manage" // who manages
	farSet    = "far"    // what belongs to zones that are behind tunnels alone
	classSet  = "class"  // source -> its class in the flows
)

// probeSet holds who asks which address of this box through a device; of those that are translated before they are judged, one of its own.
func probeSet(place uint32, translated bool) string {
	name := fmt.Sprintf("probe-%02x", place)
	if translated {
		name += translatedSuffix
	}
	return name
}

// base is what does not depend on tunnels and flows.
type base struct {
	policy     firewall.Policy
	places     []firewall.Numbered
	translated []translated // the devices that translate, by number
}

func compileBase(p firewall.Policy) (*base, error) {
	compiled, err := firewall.CompileBase(p)
	if err != nil {
		return nil, err
	}
	b := &base{policy: p, places: compiled.Places()}
	links := 0
	for _, place := range b.places {
		links += len(place.Interfaces)
	}
	b.translated = translatedDevices(p.Devices, b.places)
	switch {
	case len(b.places) > maxPlaces:
		return nil, &UnsupportedError{"Zones, Devices", fmt.Sprintf("%d together, more than %d", len(b.places), maxPlaces)}
	case links > maxLinks:
		return nil, &UnsupportedError{"Interfaces, Devices", fmt.Sprintf("%d together, more than %d", links, maxLinks)}
	}
	return b, nil
}

// render is the whole ruleset under a letter.
func (b *base) render(letter string, generation int, flows [2]flows, elements firewall.Elements) (image, error) {
	if limits, err := elements.Limits(); err != nil {
		return image{}, err
	} else if len(limits) > 0 {
		return image{}, &UnsupportedError{"Limits", fmt.Sprintf("of tunnels %q: only nftables does", slices.Sorted(maps.Keys(limits)))}
	}
	i := image{letter: letter, sets: map[string]set{}}
	for _, f := range families {
		w := &writer{image: &i, family: f, base: b, generation: generation}
		w.linkSets()
		w.farZones()
		w.addressSets()
		if err := w.elementSets(elements); err != nil {
			return image{}, err
		}
		w.prerouting()
		w.verdicts()
		w.mss()
		w.forward()
		w.input()
		w.output()
		w.translation()
		if err := w.flows(flows[f]); err != nil {
			return image{}, err
		}
	}
	return i, nil
}

// writer writes one family's part.
type writer struct {
	*base
	image      *image
	family     family
	generation int
}

func (w *writer) chain(table, name string, rules ...string) {
	w.image.chains[w.family] = append(w.image.chains[w.family], chain{table, chainName(w.image.letter, name), rules})
}

func (w *writer) jump(name string) string  { return "-j " + chainName(w.image.letter, name) }
func (w *writer) goTo(name string) string  { return "-g " + chainName(w.image.letter, name) }
func drop(hook, reason string) string      { return "-g " + chainPrefix + hook + "." + reason }
func (w *writer) name(which string) string { return setName(w.image.letter, w.family, which) }

func (w *writer) in(which, sides string) string {
	return "-m set --match-set " + w.name(which) + " " + sides + " "
}

func (w *writer) mapped(which, sides string) string {
	return "-j SET --map-set " + w.name(which) + " " + sides + " --map-mark"
}

func (w *writer) set(which, kind string) map[string]string {
	kind, extension, _ := strings.Cut(kind, " ")
	kind += " family " + [...]string{"inet", "inet6"}[w.family]
	if extension != "" {
		kind += " " + extension
	}
	elements := map[string]string{}
	w.image.sets[w.name(which)] = set{kind, elements}
	return elements
}

// linkSets know interfaces by their names.
func (w *writer) linkSets() {
	from, to := w.set(fromSet, "hash:net,iface skbinfo"), w.set(toSet, "hash:net,iface skbinfo")
	zones, devices, sources := w.set(zoneSet, "hash:net,iface"), w.set(deviceSet, "hash:net,iface"), w.set(sourceSet, "hash:net,iface")
	given := map[string]bool{}
	for _, d := range w.policy.Devices {
		given[d.Name] = len(d.Sources) > 0
	}
	var all []netip.Prefix
	for _, zone := range w.policy.Zones {
		for _, prefix := range zone.Prefixes {
			if familyOf(prefix.Addr()) == w.family {
				all = append(all, prefix)
			}
		}
	}
	for _, place := range w.places {
		var own []netip.Prefix
		for _, prefix := range place.Prefixes {
			if familyOf(prefix.Addr()) == w.family {
				own = append(own, prefix)
			}
		}
		for _, link := range place.Interfaces {
			any := w.family.all() + "," + link
			from[any], to[any] = mapsTo(place.Number<<fromShift), mapsTo(place.Number<<toShift)
			if place.Device != "" {
				devices[any] = ""
			} else {
				zones[any] = ""
			}
			// The longest prefix decides: what lies in another zone inside is not this one's.
			if len(place.Prefixes) == 0 {
				sources[any] = ""
			}
			for _, prefix := range all {
				if given[place.Device] {
					break // it says itself what may arrive
				}
				if len(place.Prefixes) == 0 || slices.ContainsFunc(own, func(o netip.Prefix) bool { return o.Bits() < prefix.Bits() && o.Contains(prefix.Addr()) }) {
					sources[entry(prefix)+","+link] = " nomatch"
				}
			}
			for _, prefix := range own {
				sources[entry(prefix)+","+link] = ""
			}
		}
	}
}

// farZones are those behind tunnels alone: nothing leaves for them by another interface, should their routes be gone. The longest prefix says to
// which zone an address belongs.
func (w *writer) farZones() {
	far, near, behind := w.set(farSet, "hash:net"), map[string]bool{}, map[string]bool{}
	for _, i := range w.policy.Interfaces {
		near[i.Zone] = true
	}
	for _, d := range w.policy.Devices {
		behind[d.FarZone] = true
	}
	for _, zone := range w.policy.Zones {
		value := " nomatch"
		if behind[zone.Name] && !near[zone.Name] {
			value = ""
		}
		for _, prefix := range zone.Prefixes {
			for _, part := range split(prefix) {
				// A longer prefix that another zone claims stands by itself.
				if element := entry(part); familyOf(part.Addr()) == w.family {
					if _, claimed := far[element]; !claimed || part == prefix {
						far[element] = value
					}
				}
			}
		}
	}
}

// addressSets know addresses of this box and who manages it.
func (w *writer) addressSets() {
	home, ports, manage := w.set(homeSet, "hash:net skbinfo"), w.set(portSet, "hash:ip,port"), w.set(manageSet, "hash:net,iface")
	var open []uint32 // zones without prefixes: all that no other claims. Two of them: nobody can tell which
	for _, place := range w.places {
		if place.Device != "" {
			continue
		}
		if len(place.Prefixes) == 0 {
			open = append(open, place.Number)
		}
		for _, prefix := range place.Prefixes {
			for _, part := range split(prefix) {
				if familyOf(part.Addr()) == w.family {
					home[entry(part)] = mapsTo(place.Number << fromShift)
				}
			}
		}
		if place.Zone == w.policy.Management.Zone {
			for _, link := range place.Interfaces {
				for _, prefix := range w.policy.Management.From {
					if familyOf(prefix.Addr()) == w.family {
						manage[entry(prefix)+","+link] = ""
					}
				}
			}
		}
	}
	if len(open) == 1 {
		for _, half := range w.family.halves() {
			if _, claimed := home[entry(half)]; !claimed {
				home[entry(half)] = mapsTo(open[0] << fromShift)
			}
		}
	}
	for _, d := range w.policy.Devices {
		if familyOf(d.LocalIP) == w.family {
			ports[fmt.Sprintf("%s,udp:%d", d.LocalIP, d.Port)] = ""
		}
	}
}

var icmpName = [...]string{"icmp", "ipv6-icmp"}

// elementSets hold what tunnels put into sets that are always there.
func (w *writer) elementSets(elements firewall.Elements) error {
	peers, anybody, asked := w.set(peerSet, "hash:ip,port,ip"), w.set(anySet, "hash:ip,port"), w.set(askedSet, "hash:net,iface")
	type probed struct {
		device     string
		translated bool
	}
	probes := map[probed]map[string]string{}
	for _, place := range w.places {
		if place.Device != "" {
			probes[probed{place.Device, false}] = w.set(probeSet(place.Number, false), "hash:ip,port,ip")
			if len(w.shownBy(place.Number)) > 0 {
				probes[probed{place.Device, true}] = w.set(probeSet(place.Number, true), "hash:ip,port,ip")
			}
		}
	}
	read := func(set string, add func([]string)) {
		for _, element := range elements[set+w.family.digit()] {
			add(strings.Split(element, " . "))
		}
	}
	read("tunnel_peer", func(e []string) { peers[e[0]+",udp:"+e[1]+","+e[2]] = "" })
	read("tunnel_any", func(e []string) { anybody[e[0]+",udp:"+e[1]] = "" })
	read("probe_out", func(e []string) {
		// What this box asks is judged before its destination is translated, the answer before its source is.
		for _, address := range []string{e[1], w.known(strings.Trim(e[0], `"`), e[1])} {
			asked[address+","+strings.Trim(e[0], `"`)] = ""
		}
	})
	var err error
	read("probe_in", func(e []string) {
		device := strings.Trim(e[0], `"`)
		local := w.shownAs(device, e[2])
		into := probes[probed{device, local != e[2]}]
		if into == nil {
			err = fmt.Errorf("probe: no device %q", device)
			return
		}
		for _, kind := range []string{"echo-request", "echo-reply"} {
			into[e[1]+","+icmpName[w.family]+":"+kind+","+local] = ""
		}
	})
	return err
}

// flows writes the sets of the classes, and the way to each: a tree over the class's number, once for packets in the direction of the opening and once
// for answers.
func (w *writer) flows(all flows) error {
	if len(all.classes) > maxClasses {
		return &UnsupportedError{"Flows", fmt.Sprintf("sources are of %d classes that may each reach something else, more than %d", len(all.classes), maxClasses)}
	}
	classes := w.set(classSet, "hash:net skbinfo")
	for source, class := range all.class {
		classes[entry(source)] = mapsTo(uint32(class))
	}
	for i, r := range all.classes {
		if len(r) > maxCells {
			return &UnsupportedError{"Flows", fmt.Sprintf("one source uses %d different ranges of ports, protocols and places, more than %d", len(r), maxCells)}
		}
		for c, elements := range r {
			into := w.set(c.name(i+1), c.kind())
			for element := range elements {
				into[element] = ""
			}
		}
	}
	for _, way := range []string{"open", "answer"} {
		for i, r := range all.classes {
			w.chain(mangle, leaf(way, i+1), w.leafRules(way, i+1, r)...)
		}
		w.tree(way, len(all.classes))
	}
	return nil
}

const (
	maxCells = 256 // each is one rule that the first packet of a connection may have to pass
	treeBits = 4
)

func leaf(way string, class int) string { return fmt.Sprintf("%s-%05x", way, class) }

func (w *writer) leafRules(way string, class int, r row) []string {
	var rules []string
	for _, c := range slices.SortedFunc(maps.Keys(r), cell.compare) {
		rule := fmt.Sprintf("-m mark --mark 0x%x/0x%x ", c.places, uint32(placesMask))
		side, port := "dst", "dports"
		if way == "answer" {
			side, port = "src", "sports"
		}
		switch {
		case c.protocol == 0:
			side += "," + side
		case c.last != 0:
			rule = fmt.Sprintf("-p %d -m multiport --%s %s ", c.protocol, port, portRange(c.first, c.last)) + rule
		default:
			rule = fmt.Sprintf("-p %d ", c.protocol) + rule
		}
		for _, guard := range w.guards(way, c) {
			rules = append(rules, rule+guard+w.in(c.name(class), side)+w.goTo("pass"))
		}
	}
	return rules
}

func portRange(first, last uint16) string {
	if first == last {
		return strconv.Itoa(int(first))
	}
	return fmt.Sprintf("%d:%d", first, last)
}

// tree leads from a class in the mark to its leaf in as many steps as the number of classes has digits.
func (w *writer) tree(way string, classes int) {
	top := 0
	for classes>>(top+treeBits) > 0 {
		top += treeBits
	}
	node := func(shift, value int) string { // all classes whose digits above shift are value's
		if shift > top {
			return way
		}
		return fmt.Sprintf("%s-%d-%x", way, shift, value)
	}
	for shift := top; shift >= 0; shift -= treeBits {
		for value := 0; value <= classes>>(shift+treeBits); value++ {
			var rules []string
			for digit := range 1 << treeBits {
				child := value<<treeBits | digit
				if child > classes>>shift {
					break
				}
				if shift == 0 && child == 0 {
					continue // no source is of class 0
				}
				to := node(shift, child)
				if shift == 0 {
					to = leaf(way, child)
				}
				rules = append(rules, fmt.Sprintf("-m mark --mark 0x%x/0x%x ", digit<<shift, (1<<treeBits-1)<<shift)+w.goTo(to))
			}
			w.chain(mangle, node(shift+treeBits, value), rules...)
		}
	}
}
