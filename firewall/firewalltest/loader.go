package firewalltest

import (
	"errors"
	"io/fs"
	"net/netip"
	"strings"
	"testing"

	"shekara/firewall"
)

// Host is a loader and what happens around it.
type Host struct {
	Loader  firewall.Loader
	Restart func() firewall.Loader    // a new Loader, as after a restart of the daemon
	Tamper  func(set, element string) // adds an element behind the Loader's back
	Vanish  func()                    // deletes all that is ours behind the Loader's back
	// Says are the words in which that element is reported; nil: as Elements has them.
	Says func(set, element string) []string
	// Counts says that the kernel counts changes, so that nothing is listed while there are none.
	Counts bool
}

// Policy is a small one with a tunnel, for tests.
func Policy() firewall.Policy {
	prefix := netip.MustParsePrefix
	return firewall.Policy{
		Zones: []firewall.Zone{
			{Name: "internet"},
			{Name: "gateway-dmz", Prefixes: []netip.Prefix{prefix("10.20.0.0/24"), prefix("fd00:20::/64")}},
			{Name: "agencies", Prefixes: []netip.Prefix{prefix("10.64.0.0/12"), prefix("fd00:64::/32")}},
			{Name: "admin", Prefixes: []netip.Prefix{prefix("192.168.100.0/24")}},
		},
		Interfaces: []firewall.Interface{{Name: "ext0", Zone: "internet"}, {Name: "dmz0", Zone: "gateway-dmz"}, {Name: "adm0", Zone: "admin"}},
		Devices: []firewall.Device{{Name: "sk-agencies", FarZone: "agencies", LocalIP: netip.MustParseAddr("203.0.113.10"),
			Port: 51820, Mark: 0x534b0001, MTU: 1420}},
		Ports: []firewall.TunnelPort{{Tunnel: "agency-a", Device: "sk-agencies", From: netip.MustParseAddr("198.51.100.20")}},
		Flows: []firewall.Flow{{Name: "agency-a-https", Tunnel: "agency-a", From: firewall.Place{Device: "sk-agencies"}, To: firewall.Place{Zone: "gateway-dmz"},
			Sources:      []netip.Prefix{prefix("10.64.1.0/28"), prefix("fd00:64:1::/48")},
			Destinations: []netip.Prefix{prefix("10.20.0.10/32"), prefix("fd00:20::10/128")},
			Services:     []firewall.Service{{Protocol: firewall.TCP, FirstPort: 443, LastPort: 443}, {Protocol: firewall.UDP, FirstPort: 8000, LastPort: 8100}}}},
		Probes: []firewall.Probe{{Tunnel: "agency-a", Device: "sk-agencies", Local: netip.MustParseAddr("10.20.0.10"), Remote: netip.MustParseAddr("10.64.1.1")}},
		Management: firewall.Management{Zone: "admin", From: []netip.Prefix{prefix("192.168.100.0/24")},
			Services: []firewall.Service{{Protocol: firewall.TCP, FirstPort: 22, LastPort: 22}, {Protocol: firewall.ICMP}}},
		DNS: []netip.Addr{netip.MustParseAddr("198.51.100.53")},
	}
}

// LoaderContract is the exam that every Loader sits, and the fake. open makes a host without a ruleset of ours.
func LoaderContract(t *testing.T, open func(t *testing.T) Host) {
	for name, test := range map[string]func(*testing.T, Host){
		"load, change there and back, look, remove": loadChangeRemove,
		"all or nothing":         allOrNothing,
		"drift is seen and said": drift,
		"restart":                restart,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// more is an element of a set that the policy does not have.
func more() firewall.Elements {
	return firewall.Elements{"flow4_24_32_16": {"0x01403000 . 10.65.0.0 . 10.20.0.11 . 6 . 80"}}
}

func compiled(t testing.TB, p firewall.Policy) firewall.Ruleset {
	t.Helper()
	r, err := firewall.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func same(t *testing.T, l firewall.Loader, r firewall.Ruleset) {
	t.Helper()
	seen, err := l.Observe(t.Context())
	if err != nil || !seen.Present || len(seen.Drift) > 0 {
		t.Errorf("after the step Observe says %+v, %v", seen, err)
	}
	if drift, err := l.Matches(t.Context(), r); err != nil || len(drift) > 0 {
		t.Errorf("after the step Matches says %q, %v", drift, err)
	}
}

func loadChangeRemove(t *testing.T, h Host) {
	ctx, r := t.Context(), compiled(t, Policy())
	if err := h.Loader.Load(ctx, r); err != nil {
		t.Fatal(err)
	}
	same(t, h.Loader, r)
	if seen, err := h.Loader.Observe(ctx); err != nil || seen.Looked == h.Counts {
		t.Errorf("nothing changed, and Observe says %+v, %v", seen, err)
	}
	if err := h.Loader.Change(ctx, more(), nil); err != nil {
		t.Fatal(err)
	}
	same(t, h.Loader, r.With(firewall.Union(r.Elements, more())))
	if drift, err := h.Loader.Matches(ctx, r); err != nil || len(drift) == 0 {
		t.Errorf("an element more than asked, but Matches says %q, %v", drift, err)
	}
	if err := h.Loader.Change(ctx, more(), nil); err != nil {
		t.Errorf("add what is there: %v", err)
	}
	if err := h.Loader.Change(ctx, nil, more()); err != nil {
		t.Fatal(err)
	}
	same(t, h.Loader, r)
	if err := h.Loader.Load(ctx, r); err != nil {
		t.Errorf("load again: %v", err)
	}
	same(t, h.Loader, r)
	if err := h.Loader.Remove(ctx); err != nil {
		t.Fatal(err)
	}
	if drift, err := h.Loader.Matches(ctx, r); err != nil || len(drift) == 0 {
		t.Errorf("no table, but Matches says %q, %v", drift, err)
	}
	if err := h.Loader.Remove(ctx); err != nil {
		t.Errorf("remove what is not there: %v", err)
	}
}

func allOrNothing(t *testing.T, h Host) {
	ctx, r := t.Context(), compiled(t, Policy())
	if err := h.Loader.Change(ctx, more(), nil); !errors.Is(err, firewall.ErrNotLoaded) {
		t.Errorf("change before load: %v", err)
	}
	if err := h.Loader.Load(ctx, r); err != nil {
		t.Fatal(err)
	}
	for name, step := range map[string]struct{ add, remove firewall.Elements }{
		"remove what is not there": {firewall.Elements{"flow4_28_32_16": {"0x01403000 . 10.64.9.0 . 10.20.0.10 . 6 . 443"}}, more()},
		"unknown set":              {firewall.Elements{"flow4_28_32_16": {"0x01403000 . 10.64.9.0 . 10.20.0.10 . 6 . 443"}, "nonsense": {"1"}}, nil},
		"another command":          {firewall.Elements{"tunnel_any4": {"203.0.113.10 . 1 }; flush ruleset; add element x {"}}, nil},
		"too few fields":           {firewall.Elements{"tunnel_any4": {"203.0.113.10"}}, nil},
	} {
		if err := h.Loader.Change(ctx, step.add, step.remove); err == nil {
			t.Errorf("%s: no error", name)
		}
		same(t, h.Loader, r)
	}
	if err := h.Loader.Change(ctx, nil, more()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("remove what is not there: %v", err)
	}
	if err := h.Loader.Load(ctx, r.With(firewall.Elements{"nonsense": {"1"}})); err == nil {
		t.Error("a set that there is not: no error")
	}
	same(t, h.Loader, r)
}

func drift(t *testing.T, h Host) {
	ctx, r := t.Context(), compiled(t, Policy())
	if err := h.Loader.Load(ctx, r); err != nil {
		t.Fatal(err)
	}
	same(t, h.Loader, r)
	const set, element = "tunnel_any4", "203.0.113.10 . 51820"
	h.Tamper(set, element)
	words := []string{set, element}
	if h.Says != nil {
		words = h.Says(set, element)
	}
	for range 2 { // it does not get used to it
		seen, err := h.Loader.Observe(ctx)
		said := err == nil && len(seen.Drift) == 1
		for _, word := range words {
			said = said && strings.Contains(seen.Drift[0], word)
		}
		if !said {
			t.Errorf("an element was added by hand: %+v, %v", seen, err)
		}
	}
	if err := h.Loader.Load(ctx, r); err != nil {
		t.Fatal(err)
	}
	same(t, h.Loader, r)
	h.Vanish()
	if seen, err := h.Loader.Observe(ctx); err != nil || seen.Present || len(seen.Drift) == 0 {
		t.Errorf("the table is gone: %+v, %v", seen, err)
	}
	if err := h.Loader.Change(ctx, more(), nil); err == nil {
		t.Error("change of a table that is gone: no error")
	}
	if err := h.Loader.Load(ctx, r); err != nil {
		t.Fatal(err)
	}
	same(t, h.Loader, r)
}

func restart(t *testing.T, h Host) {
	ctx, r := t.Context(), compiled(t, Policy())
	if err := h.Loader.Load(ctx, r); err != nil {
		t.Fatal(err)
	}
	again := h.Restart()
	if _, err := again.Observe(ctx); !errors.Is(err, firewall.ErrNotLoaded) {
		t.Errorf("observe before anything is known: %v", err)
	}
	other := Policy()
	other.Devices[0].MTU = 1380
	if drift, err := again.Matches(ctx, compiled(t, other)); err != nil || len(drift) == 0 {
		t.Errorf("another base: %q, %v", drift, err)
	}
	if drift, err := again.Matches(ctx, r); err != nil || len(drift) > 0 {
		t.Errorf("the same: %q, %v", drift, err)
	}
	if err := again.Change(ctx, more(), nil); err != nil {
		t.Errorf("change after a match: %v", err)
	}
	same(t, again, r.With(firewall.Union(r.Elements, more())))
}
