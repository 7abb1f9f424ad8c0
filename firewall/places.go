package firewall

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// A connection's mark, and the packet's mark while it is judged: from place, to place, generation.
const (
	fromShift      = 22
	toShift        = 12
	fromMask       = 0xffc00000
	toMask         = 0x003ff000
	generationMask = 0x00000fff
	maxPlaces      = 1<<10 - 2 // 0 is no place

	// BoxPlace is the number of the box itself, as where connections go that others open to it (Offer).
	BoxPlace = 1<<10 - 1

	// Generations is how many generations there are; they are counted 1 to Generations and then again from 1.
	// BUG: a connection that stays silent for exactly Generations removals counts as judged though it was not.
	Generations = generationMask
)

// place is a zone or a device with its number.
type place struct {
	number     uint32
	label      string // "zone gateway-dmz", "device sk-agencies"; safe in a comment
	chain      string // zone_gateway-dmz, device_sk-agencies; safe in a chain's name
	interfaces []string
	prefixes   []netip.Prefix // sources that it may send; nil: those that no zone claims
	device     bool
}

// Base is the part of a ruleset that does not depend on tunnels and flows.
type Base struct {
	places []place
	number map[Place]uint32
	device map[string]Device
	zones  []Zone // sorted by name; prefixes sorted
	policy Policy // without what is for Elements
	text   string
}

// Numbered is a place with what is at it.
type Numbered struct {
	Place
	Number     uint32 // in the mark of a permission; 1 and up, zones first
	Interfaces []string
	Prefixes   []netip.Prefix // sources that it may send; nil: those that no zone claims
}

// Places are all of them, in the order of their numbers.
func (b *Base) Places() []Numbered {
	out := make([]Numbered, len(b.places))
	for key, number := range b.number {
		place := b.places[number-1]
		out[number-1] = Numbered{key, number, place.interfaces, place.prefixes}
	}
	return out
}

// identifier passes a name that may stand in nft syntax, quoted or as the end of an identifier: letters, digits, dot, dash,
// underscore. No quote, no space, no wildcard (a trailing * in an interface's name), nothing that ends a string.
func identifier(what, name string, longest int) (string, error) {
	if name == "" || len(name) > longest {
		return "", fmt.Errorf("%s %q: must have 1 to %d characters", what, name, longest)
	}
	for _, c := range []byte(name) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("._-", c) >= 0) {
			return "", fmt.Errorf("%s %q: character %q cannot stand in a rule", what, name, c)
		}
	}
	return name, nil
}

const (
	longestInterface = 15 // IFNAMSIZ without its zero
	longestZone      = 63
)

// numberPlaces gives each zone and device of the policy its place. Zones first, both by name, so equal policies number equally.
func (b *Base) numberPlaces(p Policy) error {
	b.number, b.device = map[Place]uint32{}, map[string]Device{}
	b.zones = slices.Clone(p.Zones)
	slices.SortFunc(b.zones, func(x, y Zone) int { return strings.Compare(x.Name, y.Name) })
	if len(p.Zones)+len(p.Devices) > maxPlaces {
		return fmt.Errorf("%d zones and %d devices: together at most %d", len(p.Zones), len(p.Devices), maxPlaces)
	}
	claimed := map[netip.Prefix]string{}
	for i := range b.zones {
		zone := &b.zones[i]
		if _, err := identifier("zone", zone.Name, longestZone); err != nil {
			return err
		}
		zone.Prefixes = sortedPrefixes(zone.Prefixes)
		for _, prefix := range zone.Prefixes {
			if err := checkPrefix(prefix); err != nil {
				return fmt.Errorf("zone %q: %w", zone.Name, err)
			}
			if other, taken := claimed[prefix]; taken {
				return fmt.Errorf("zone %q: prefix %s is also that of zone %q", zone.Name, prefix, other)
			}
			claimed[prefix] = zone.Name
		}
		if err := b.addPlace(Place{Zone: zone.Name}, place{label: "zone " + zone.Name, chain: "zone_" + zone.Name, prefixes: zone.Prefixes}); err != nil {
			return err
		}
	}
	if err := b.placeInterfaces(p); err != nil {
		return err
	}
	return b.placeDevices(p)
}

func (b *Base) addPlace(key Place, place place) error {
	if b.number[key] != 0 {
		return fmt.Errorf("%s: named twice", place.label)
	}
	place.number = uint32(len(b.places) + 1)
	b.number[key] = place.number
	b.places = append(b.places, place)
	return nil
}

func (b *Base) placeInterfaces(p Policy) error {
	interfaces := slices.Clone(p.Interfaces)
	slices.SortFunc(interfaces, func(x, y Interface) int { return strings.Compare(x.Name, y.Name) })
	for i, iface := range interfaces {
		if _, err := identifier("interface", iface.Name, longestInterface); err != nil {
			return err
		}
		if iface.Name == "lo" || i > 0 && interfaces[i-1].Name == iface.Name {
			return fmt.Errorf("interface %q: cannot be placed, or not twice", iface.Name)
		}
		number := b.number[Place{Zone: iface.Zone}]
		if number == 0 {
			return fmt.Errorf("interface %q: no zone %q", iface.Name, iface.Zone)
		}
		b.places[number-1].interfaces = append(b.places[number-1].interfaces, iface.Name)
	}
	return nil
}

func (b *Base) placeDevices(p Policy) error {
	devices := slices.Clone(p.Devices)
	slices.SortFunc(devices, func(x, y Device) int { return strings.Compare(x.Name, y.Name) })
	ports, links := map[netip.AddrPort]string{}, map[string]bool{}
	taken := &takenByTranslations{zones: map[uint16]bool{}, marks: map[uint32]bool{}}
	for _, iface := range p.Interfaces {
		links[iface.Name] = true
	}
	for _, device := range devices {
		name, err := identifier("device", device.Name, longestInterface)
		if err != nil {
			return err
		}
		port := netip.AddrPortFrom(device.LocalIP, device.Port)
		switch {
		case links[name] || name == "lo":
			return fmt.Errorf("device %q: is also an interface of a zone", name)
		case !plain(device.LocalIP):
			return fmt.Errorf("device %q: local address %s cannot be filtered on", name, device.LocalIP)
		case device.Port == 0:
			return fmt.Errorf("device %q: has no port", name)
		case ports[port] != "":
			return fmt.Errorf("device %q: %s is also that of device %q", name, port, ports[port])
		case device.MTU != 0 && (device.MTU < 576 || device.MTU > 65535):
			return fmt.Errorf("device %q: MTU %d is not between 576 and 65535", name, device.MTU)
		}
		ports[port] = name
		if err := checkTranslation(device, taken); err != nil {
			return fmt.Errorf("device %q: %w", name, err)
		}
		zone := b.number[Place{Zone: device.FarZone}]
		if zone == 0 {
			return fmt.Errorf("device %q: no zone %q", name, device.FarZone)
		}
		sources := b.places[zone-1].prefixes
		if len(device.Sources) > 0 {
			sources = sortedPrefixes(device.Sources)
		}
		err = b.addPlace(Place{Device: name}, place{label: "device " + name, chain: "device_" + name, interfaces: []string{name}, prefixes: sources, device: true})
		if err != nil {
			return err
		}
		b.device[name] = device
	}
	return nil
}

// resolve is the number of a place, which must exist.
func (b *Base) resolve(p Place) (uint32, error) {
	number := b.number[p]
	switch {
	case number != 0:
		return number, nil
	case p.Device != "" && p.Zone != "" || p == Place{}:
		return 0, fmt.Errorf("place must be either a zone or a device")
	case p.Device != "":
		return 0, fmt.Errorf("no device %q", p.Device)
	}
	return 0, fmt.Errorf("no zone %q", p.Zone)
}

// plain reports whether an address can stand in a rule: valid, without IPv6 zone, not IPv4 in IPv6's clothes.
func plain(a netip.Addr) bool { return a.IsValid() && a.Zone() == "" && !a.Is4In6() }

func checkPrefix(p netip.Prefix) error {
	switch {
	case !p.IsValid() || !plain(p.Addr()):
		return fmt.Errorf("prefix %s cannot be filtered on", p)
	case p != p.Masked():
		return fmt.Errorf("prefix %s has host bits set", p)
	}
	return nil
}

func sortedPrefixes(list []netip.Prefix) []netip.Prefix {
	list = slices.Clone(list)
	slices.SortFunc(list, netip.Prefix.Compare)
	return slices.Compact(list)
}
