package firewall

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
)

// Attribution says which flow lets a connection be opened. It is for use by many goroutines.
//
// It is the same lookup as that of the rules: by prefix lengths, the most specific source first, then the most specific destination, then
// the narrowest range of ports. Of flows that say the same it is the first by name. Places it does not ask for: whoever could not be there has
// no connection, as anti-spoofing drops its first packet. What is opened to the box itself no flow lets, whatever its prefixes hold.
type Attribution struct {
	tables []*attributionTable
	own    map[ownAddress]bool // where the box itself serves
}

// ownAddress is one of the box's, as it is written in a conntrack zone.
type ownAddress struct {
	address netip.Addr
	zone    uint16
}

// attributionTable is the flows with prefixes of the same lengths.
type attributionTable struct {
	is4                 bool
	source, destination int
	first               map[attributed]int32 // index in allowances
	allowances          []allowance
}

// attributed is two prefixes, and the conntrack zone in which they are known.
type attributed struct {
	source, destination bits128
	zone                uint16
}

// allowance is a service between two prefixes.
type allowance struct {
	flow                string
	next                int32 // another between the same, -1: none
	firstPort, lastPort uint16
	protocol            Protocol
}

// Opening is a connection as it was opened: conntrack's original direction.
type Opening struct {
	Zone                uint16 // conntrack zone
	Source, Destination netip.Addr
	Protocol            Protocol
	DestinationPort     uint16
}

// NewAttribution indexes the flows of a policy, of which it looks at devices and offers beside them. A flow that does not compile lets nothing be opened.
func NewAttribution(p Policy) *Attribution {
	byName := make(map[string]Device, len(p.Devices))
	for _, d := range p.Devices {
		byName[d.Name] = d
	}
	type shapeKey struct {
		is4                 bool
		source, destination int
	}
	tables := map[shapeKey]*attributionTable{}
	// The last that is put in front is found first.
	sorted := slices.Clone(p.Flows)
	slices.SortStableFunc(sorted, func(x, y Flow) int { return cmp.Compare(y.Name, x.Name) })
	for _, f := range sorted {
		device := byName[cmp.Or(f.From.Device, f.To.Device)]
		sources, destinations, err := device.Opened(f)
		if err != nil {
			continue
		}
		zone := device.zone()
		for _, source := range sources {
			for _, destination := range destinations {
				is4 := source.Addr().Is4()
				if is4 != destination.Addr().Is4() {
					continue
				}
				key := shapeKey{is4, source.Bits(), destination.Bits()}
				t := tables[key]
				if t == nil {
					t = &attributionTable{is4: is4, source: key.source, destination: key.destination, first: map[attributed]int32{}}
					tables[key] = t
				}
				t.put(attributed{bitsOf(source.Addr()).masked(key.source), bitsOf(destination.Addr()).masked(key.destination), zone}, f)
			}
		}
	}
	a := &Attribution{own: map[ownAddress]bool{}}
	for _, o := range p.Offers {
		device := byName[o.From.Device]
		_, own, err := device.Opened(o.flow())
		if err != nil {
			continue
		}
		for _, address := range own {
			a.own[ownAddress{address.Addr(), device.zone()}] = true
		}
	}
	for _, t := range tables {
		a.tables = append(a.tables, t)
	}
	slices.SortFunc(a.tables, func(x, y *attributionTable) int {
		return cmp.Or(y.source-x.source, y.destination-x.destination)
	})
	return a
}

func (t *attributionTable) put(key attributed, f Flow) {
	for _, s := range f.Services {
		next, more := t.first[key]
		if !more {
			next = -1
		}
		t.allowances = append(t.allowances, allowance{flow: f.Name, next: next, firstPort: s.FirstPort, lastPort: s.LastPort, protocol: s.Protocol})
		t.first[key] = int32(len(t.allowances) - 1)
	}
}

// Flow names the flow that lets a connection be opened, if there is one.
func (a *Attribution) Flow(o Opening) (name string, found bool) {
	if a.own[ownAddress{o.Destination, o.Zone}] {
		return "", false
	}
	is4 := o.Source.Is4()
	source, destination := bitsOf(o.Source), bitsOf(o.Destination)
	for _, t := range a.tables {
		if t.is4 != is4 {
			continue
		}
		i, held := t.first[attributed{source.masked(t.source), destination.masked(t.destination), o.Zone}]
		if !held {
			continue
		}
		narrowest := 1 << 17
		for ; i >= 0; i = t.allowances[i].next {
			if s := &t.allowances[i]; s.protocol == o.Protocol && s.width() < narrowest && s.takes(o.DestinationPort) {
				name, found, narrowest = s.flow, true, s.width()
			}
		}
		if found {
			return name, true
		}
	}
	return "", false
}

// width is how many ports it takes; all of them are more than from 1 to 65535.
func (s *allowance) width() int {
	if s.lastPort == 0 {
		return 1 << 16
	}
	return int(s.lastPort) - int(s.firstPort) + 1
}

func (s *allowance) takes(port uint16) bool {
	return s.lastPort == 0 || s.firstPort <= port && port <= s.lastPort
}

// bits128 is an address, from its first bit on.
type bits128 struct{ high, low uint64 }

func bitsOf(a netip.Addr) bits128 {
	if a.Is4() {
		b := a.As4()
		return bits128{high: uint64(binary.BigEndian.Uint32(b[:])) << 32}
	}
	b := a.As16()
	return bits128{binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])}
}

// masked keeps the first bits.
func (b bits128) masked(length int) bits128 {
	if length <= 64 {
		return bits128{b.high &^ (^uint64(0) >> length), 0} // shifted by 64: nothing is left
	}
	return bits128{b.high, b.low &^ (^uint64(0) >> (length - 64))}
}
