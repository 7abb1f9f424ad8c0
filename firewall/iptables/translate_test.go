package iptables

import (
	"net/netip"
	"slices"
	"testing"

	"shekara/firewall"
)

// TestImages: where a permission's destinations are when packets are judged, by what stands between its places.
func TestImages(t *testing.T) {
	prefix := netip.MustParsePrefix
	mapping := func(inside, outside string) firewall.Mapping {
		return firewall.Mapping{Inside: prefix(inside), Outside: prefix(outside), Shared: prefix(outside).IsSingleIP()}
	}
	b := &base{translated: []translated{{number: 5, Translation: firewall.Translation{
		Far:   []firewall.Mapping{mapping("10.64.1.0/28", "192.0.2.0/28"), mapping("fd00:64:1::/64", "2001:db8:2::/64")},
		Local: []firewall.Mapping{mapping("10.30.0.0/28", "10.99.0.16/28"), mapping("10.30.0.16/28", "10.99.0.1/32")}}}}}
	for _, c := range []struct {
		from, to    uint32
		destination string
		want        []string
	}{
		{1, 5, "10.64.1.5/32", []string{"192.0.2.5/32"}},
		{1, 5, "10.64.0.0/16", []string{"192.0.2.0/28"}},
		{1, 5, "10.65.0.0/16", nil},
		{1, 5, "fd00:64:1::5/128", []string{"2001:db8:2::5/128"}},
		{5, 1, "10.99.0.18/32", []string{"10.30.0.2/32"}},
		{5, 1, "10.99.0.1/32", nil}, // all behind one address: nobody opens to it
		{5, 1, "10.30.0.2/32", nil},
		{1, 2, "10.64.1.5/32", nil},
	} {
		var got []string
		for _, p := range b.images(firewall.Permission{From: c.from, To: c.to, Destination: prefix(c.destination)}) {
			got = append(got, p.String())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%d to %d, %s: %q, want %q", c.from, c.to, c.destination, got, c.want)
		}
	}
}
