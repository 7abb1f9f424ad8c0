package firewall

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func prefixesOf(text string) (out []netip.Prefix) {
	for p := range strings.FieldsSeq(text) {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func TestAttribution(t *testing.T) {
	zone, device := Place{Zone: "dmz"}, Place{Device: "sk-agencies"}
	mapped := Device{Name: "sk-mapped", Translation: &Translation{Zone: 7,
		Far:   []Mapping{{Inside: netip.MustParsePrefix("10.99.0.0/24"), Outside: netip.MustParsePrefix("10.64.1.0/24")}},
		Local: []Mapping{{Inside: netip.MustParsePrefix("10.20.0.0/24"), Outside: netip.MustParsePrefix("172.16.0.0/24")}}}}
	web := []Service{{TCP, 443, 443}, {TCP, 8000, 8999}}
	a := NewAttribution(Policy{Devices: []Device{{Name: "sk-agencies"}, mapped}, Flows: []Flow{
		{Name: "web", From: device, To: zone, Sources: prefixesOf("10.64.1.0/24 2001:db8:1::/64"), Destinations: prefixesOf("10.20.0.10/32 2001:db8:2::10/128"), Services: web},
		{Name: "one-host", From: device, To: zone, Sources: prefixesOf("10.64.1.5/32"), Destinations: prefixesOf("10.20.0.0/24"), Services: web},
		{Name: "one-port", From: device, To: zone, Sources: prefixesOf("10.64.1.0/24"), Destinations: prefixesOf("10.20.0.10/32"), Services: []Service{{TCP, 8080, 8080}}},
		{Name: "same", From: device, To: zone, Sources: prefixesOf("10.64.1.0/24"), Destinations: prefixesOf("10.20.0.10/32"), Services: []Service{{TCP, 443, 443}, {UDP, 0, 0}}},
		{Name: "ping", From: zone, To: device, Sources: prefixesOf("0.0.0.0/0"), Destinations: prefixesOf("10.64.0.0/16"), Services: []Service{{Protocol: ICMP}}},
		{Name: "to-mapped", From: zone, To: Place{Device: "sk-mapped"}, Sources: prefixesOf("10.20.0.0/24"), Destinations: prefixesOf("10.99.0.0/24"), Services: web},
		{Name: "from-mapped", From: Place{Device: "sk-mapped"}, To: zone, Sources: prefixesOf("10.99.0.8/29"), Destinations: prefixesOf("10.20.0.10/32"), Services: web},
	}, Offers: []Offer{{Name: "time", From: device, Sources: prefixesOf("10.64.0.0/16"), Addresses: []netip.Addr{netip.MustParseAddr("10.20.0.1")}, Services: []Service{{TCP, 4460, 4460}}}}})
	for _, c := range []struct {
		zone     uint16
		from, to string
		protocol Protocol
		port     uint16
		want     string
	}{
		{0, "10.64.1.9", "10.20.0.10", TCP, 443, "same"}, // the first by name
		{0, "10.64.1.9", "10.20.0.10", TCP, 8001, "web"},
		{0, "10.64.1.9", "10.20.0.10", TCP, 8080, "one-port"},
		{0, "10.64.1.9", "10.20.0.10", TCP, 9000, ""},
		{0, "10.64.1.9", "10.20.0.10", UDP, 1, "same"},
		{0, "10.64.1.9", "10.20.0.11", TCP, 443, ""},
		{0, "10.64.2.9", "10.20.0.10", TCP, 443, ""},
		{0, "10.64.1.5", "10.20.0.10", TCP, 8080, "one-host"}, // its source is more specific
		{0, "10.64.1.5", "10.20.0.77", TCP, 443, "one-host"},
		{0, "10.64.1.5", "10.20.0.1", TCP, 443, ""}, // the box itself
		{0, "2001:db8:1::7", "2001:db8:2::10", TCP, 443, "web"},
		{0, "2001:db8:3::7", "2001:db8:2::10", TCP, 443, ""},
		{0, "203.0.113.1", "10.64.77.1", ICMP, 0, "ping"},
		{0, "203.0.113.1", "10.64.77.1", TCP, 443, ""},
		{7, "10.20.0.10", "10.99.0.3", TCP, 443, "to-mapped"},
		{0, "10.20.0.10", "10.99.0.3", TCP, 443, ""},
		{7, "10.64.1.9", "172.16.0.10", TCP, 443, "from-mapped"}, // as the far side writes it
		{7, "10.64.1.1", "172.16.0.10", TCP, 443, ""},
		{7, "10.64.1.9", "10.20.0.10", TCP, 443, ""},
	} {
		name, found := a.Flow(Opening{c.zone, netip.MustParseAddr(c.from), netip.MustParseAddr(c.to), c.protocol, c.port})
		if name != c.want || found != (c.want != "") {
			t.Errorf("zone %d %s > %s protocol %d port %d is of %q (%v), want %q", c.zone, c.from, c.to, c.protocol, c.port, name, found, c.want)
		}
	}
}

// TestAttributionIsThatOfTheElements: a connection is some flow's if and only if the sets that the rules look into let it be opened, and then it is
// one that does.
func TestAttributionIsThatOfTheElements(t *testing.T) {
	policy := Policy{Zones: []Zone{{Name: "a", Prefixes: prefixesOf("10.0.0.0/8 2001:db8::/32")}, {Name: "b", Prefixes: prefixesOf("172.16.0.0/12 2001:db9::/32")}},
		Interfaces: []Interface{{"eth0", "a"}, {"eth1", "b"}}}
	base, err := CompileBase(policy)
	if err != nil {
		t.Fatal(err)
	}
	address := rapid.Custom(func(r *rapid.T) netip.Addr {
		return netip.MustParseAddr(fmt.Sprintf(rapid.SampledFrom([]string{"10.0.0.%d", "2001:db8::%d"}).Draw(r, "family"), rapid.IntRange(0, 7).Draw(r, "host")))
	})
	prefix := rapid.Custom(func(r *rapid.T) netip.Prefix {
		a := address.Draw(r, "address")
		return netip.PrefixFrom(a, a.BitLen()-rapid.IntRange(0, 3).Draw(r, "free")).Masked()
	})
	service := rapid.Custom(func(r *rapid.T) Service {
		s := Service{Protocol: rapid.SampledFrom([]Protocol{TCP, UDP}).Draw(r, "protocol")}
		if s.FirstPort = rapid.Uint16Range(0, 5).Draw(r, "first"); s.FirstPort > 0 {
			s.LastPort = s.FirstPort + rapid.Uint16Range(0, 4).Draw(r, "more")
		}
		return s
	})
	rapid.Check(t, func(r *rapid.T) {
		var flows []Flow
		elements := map[string]Elements{}
		for i := range rapid.IntRange(1, 6).Draw(r, "flows") {
			f := Flow{Name: fmt.Sprint("flow-", i), From: Place{Zone: "a"}, To: Place{Zone: "b"}, Sources: rapid.SliceOfN(prefix, 1, 3).Draw(r, "sources"),
				Destinations: rapid.SliceOfN(prefix, 1, 3).Draw(r, "destinations"), Services: rapid.SliceOfN(service, 1, 3).Draw(r, "services")}
			e, err := base.Elements(Policy{Flows: []Flow{f}})
			if err != nil {
				continue // of two families
			}
			flows, elements[f.Name] = append(flows, f), e
		}
		a := NewAttribution(Policy{Flows: flows})
		for range 20 {
			o := Opening{0, address.Draw(r, "source"), address.Draw(r, "destination"), rapid.SampledFrom([]Protocol{TCP, UDP}).Draw(r, "protocol"),
				rapid.Uint16Range(0, 12).Draw(r, "port")}
			admits := func(e Elements) bool {
				permissions, err := e.Permissions()
				if err != nil {
					r.Fatal(err)
				}
				return slices.ContainsFunc(permissions, func(p Permission) bool {
					return p.Source.Contains(o.Source) && p.Destination.Contains(o.Destination) && p.Protocol == o.Protocol &&
						(p.LastPort == 0 || p.FirstPort <= o.DestinationPort && o.DestinationPort <= p.LastPort)
				})
			}
			some := false
			for _, e := range elements {
				some = some || admits(e)
			}
			name, found := a.Flow(o)
			if found != some || found && !admits(elements[name]) {
				r.Fatalf("%+v is of %q (%v); some flow admits it: %v", o, name, found, some)
			}
		}
	})
}

// BenchmarkAttribution is one connection among 10,000 flows of 16 shapes.
func BenchmarkAttribution(b *testing.B) {
	var flows []Flow
	for i := range 10_000 {
		source := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64 + byte(i>>12), byte(i >> 4), byte(i << 4)}), 25+i%8).Masked()
		destination := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 20, byte(i >> 8), byte(i)}), 31+i%2).Masked()
		flows = append(flows, Flow{Name: fmt.Sprint("flow-", i), Sources: []netip.Prefix{source}, Destinations: []netip.Prefix{destination}, Services: []Service{{TCP, 443, 443}}})
	}
	b.Run("build", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			NewAttribution(Policy{Flows: flows})
		}
	})
	a := NewAttribution(Policy{Flows: flows})
	b.Run("lookup", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			f := flows[i%len(flows)]
			if _, found := a.Flow(Opening{0, f.Sources[0].Addr(), f.Destinations[0].Addr(), TCP, 443}); !found {
				b.Fatal(f)
			}
		}
	})
}
