package timesync

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSystemOf(t *testing.T) {
	prefix := netip.MustParsePrefix
	spec := Spec{Clients: []Client{{System: "wide", Prefixes: []netip.Prefix{prefix("10.0.0.0/8")}}, {System: "narrow", Prefixes: []netip.Prefix{prefix("10.1.0.0/16")}}, {System: "late", Prefixes: []netip.Prefix{prefix("10.1.0.0/16")}}}}
	got := map[string]string{}
	for _, a := range []string{"10.2.0.1", "10.1.0.1", "192.0.2.1"} {
		got[a], _ = spec.SystemOf(netip.MustParseAddr(a))
	}
	if diff := cmp.Diff(map[string]string{"10.2.0.1": "wide", "10.1.0.1": "narrow", "192.0.2.1": ""}, got); diff != "" {
		t.Error(diff)
	}
}

func TestHostIsWrittenInOneWay(t *testing.T) {
	for address, want := range map[string]string{"TIME.example.org.:123": "time.example.org", "[2001:DB8:0::1]:123": "2001:db8::1", "192.0.2.1:123": "192.0.2.1", "192.0.2.1": ""} {
		if got := (Source{Address: address}).Host(); got != want {
			t.Errorf("%s: %q, want %q", address, got, want)
		}
	}
}
