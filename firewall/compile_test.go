package firewall_test

import (
	"encoding/json"
	"flag"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"shekara/firewall"
)

var update = flag.Bool("update", false, "write what is, as what should be, into testdata")

func parse(t testing.TB, text []byte) firewall.Policy {
	t.Helper()
	var p firewall.Policy
	if err := json.Unmarshal(text, &p); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestGolden: testdata/*.txtar hold a policy (policy.json) and its rules in nft syntax (ruleset.nft), or the error.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no goldens: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			rules, err := firewall.Compile(parse(t, archive.Files[0].Data))
			if err != nil {
				t.Fatal(err)
			}
			got, err := rules.Text(1)
			if err != nil {
				t.Fatal(err)
			}
			if *update {
				archive.Files = append(archive.Files[:1], txtar.File{Name: "ruleset.nft", Data: []byte(got)})
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(archive.Files[1].Data), got); diff != "" {
				t.Errorf("rules differ (- want, + got; -update accepts):\n%s", diff)
			}
		})
	}
}

func site(t testing.TB) firewall.Policy {
	t.Helper()
	archive, err := txtar.ParseFile("testdata/site.txtar")
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, archive.Files[0].Data)
}

// TestOrderDoesNotMatter: equal policies give equal text, in whatever order they are written.
func TestOrderDoesNotMatter(t *testing.T) {
	want, err := firewall.Compile(site(t))
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(20) {
		random, p := rand.New(rand.NewPCG(seed, 1)), site(t)
		random.Shuffle(len(p.Zones), func(i, j int) { p.Zones[i], p.Zones[j] = p.Zones[j], p.Zones[i] })
		random.Shuffle(len(p.Interfaces), func(i, j int) { p.Interfaces[i], p.Interfaces[j] = p.Interfaces[j], p.Interfaces[i] })
		random.Shuffle(len(p.Devices), func(i, j int) { p.Devices[i], p.Devices[j] = p.Devices[j], p.Devices[i] })
		random.Shuffle(len(p.Flows), func(i, j int) { p.Flows[i], p.Flows[j] = p.Flows[j], p.Flows[i] })
		random.Shuffle(len(p.Ports), func(i, j int) { p.Ports[i], p.Ports[j] = p.Ports[j], p.Ports[i] })
		for _, z := range p.Zones {
			random.Shuffle(len(z.Prefixes), func(i, j int) { z.Prefixes[i], z.Prefixes[j] = z.Prefixes[j], z.Prefixes[i] })
		}
		got, err := firewall.Compile(p)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want.Elements, got.Elements) + cmp.Diff(want.Base, got.Base); diff != "" {
			t.Fatalf("seed %d: %s", seed, diff)
		}
	}
}

// TestBaseIsNotTheTunnels: what belongs to tunnels and flows never shows in the base, and Compile is the union of the parts.
func TestBaseIsNotTheTunnels(t *testing.T) {
	p := site(t)
	whole, err := firewall.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	base, err := firewall.CompileBase(p)
	if err != nil {
		t.Fatal(err)
	}
	var parts []firewall.Elements
	collect := func(e firewall.Elements, err error) {
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, e)
	}
	for _, x := range p.Ports {
		collect(base.Elements(firewall.Policy{Ports: []firewall.TunnelPort{x}}))
	}
	for _, x := range p.Flows {
		collect(base.Elements(firewall.Policy{Flows: []firewall.Flow{x}}))
	}
	for _, x := range p.Probes {
		collect(base.Elements(firewall.Policy{Probes: []firewall.Probe{x}}))
	}
	for _, x := range p.Offers {
		collect(base.Elements(firewall.Policy{Offers: []firewall.Offer{x}}))
	}
	if diff := cmp.Diff(whole.Elements, firewall.Union(parts...)); diff != "" {
		t.Errorf("elements differ from those of the parts: %s", diff)
	}
	p.Ports, p.Flows, p.Probes, p.Offers = nil, nil, nil, nil
	bare, err := firewall.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	if bare.Base != whole.Base {
		t.Error("the base depends on tunnels or flows")
	}
	if bare.Elements.Count() != 0 || whole.Elements.Count() == 0 {
		t.Errorf("%d elements without and %d with tunnels and flows", bare.Elements.Count(), whole.Elements.Count())
	}
}

// TestErrors: what cannot be is refused, and the error names it.
func TestErrors(t *testing.T) {
	prefix := netip.MustParsePrefix
	for name, c := range map[string]struct {
		change func(*firewall.Policy)
		want   string
	}{
		"zone's name closes a comment": {func(p *firewall.Policy) { p.Zones[0].Name = `x" accept` }, `zone "x\" accept"`},
		"interface with a wildcard":    {func(p *firewall.Policy) { p.Interfaces[0].Name = "eth*" }, `interface "eth*"`},
		"interface without a name":     {func(p *firewall.Policy) { p.Interfaces[0].Name = "" }, `interface ""`},
		"interface's name too long":    {func(p *firewall.Policy) { p.Interfaces[0].Name = "abcdefghijklmnop" }, "1 to 15"},
		"interface in two zones":       {func(p *firewall.Policy) { p.Interfaces = append(p.Interfaces, p.Interfaces[0]) }, "not twice"},
		"loopback in a zone":           {func(p *firewall.Policy) { p.Interfaces[0].Name = "lo" }, `"lo"`},
		"interface of no zone":         {func(p *firewall.Policy) { p.Interfaces[0].Zone = "nowhere" }, `no zone "nowhere"`},
		"zone twice":                   {func(p *firewall.Policy) { p.Zones = append(p.Zones, p.Zones[0]) }, "twice"},
		"prefix of two zones":          {func(p *firewall.Policy) { p.Zones[0].Prefixes = p.Zones[1].Prefixes }, "is also that of zone"},
		"prefix with host bits":        {func(p *firewall.Policy) { p.Zones[0].Prefixes = []netip.Prefix{prefix("192.0.2.1/24")} }, "host bits"},
		"IPv4 in IPv6's clothes":       {func(p *firewall.Policy) { p.Zones[0].Prefixes = []netip.Prefix{prefix("::ffff:10.0.0.0/104")} }, "cannot be filtered"},
		"device without port":          {func(p *firewall.Policy) { p.Devices[0].Port = 0 }, "no port"},
		"device without address":       {func(p *firewall.Policy) { p.Devices[0].LocalIP = netip.Addr{} }, "local address"},
		"device is an interface":       {func(p *firewall.Policy) { p.Devices[0].Name = p.Interfaces[0].Name }, "also an interface"},
		"two devices on one port":      {func(p *firewall.Policy) { p.Devices = append(p.Devices, p.Devices[0]); p.Devices[2].Name = "sk-c" }, "is also that of device"},
		"MTU":                          {func(p *firewall.Policy) { p.Devices[0].MTU = 10 }, "MTU 10"},
		"management of no zone":        {func(p *firewall.Policy) { p.Management.Zone = "nowhere" }, `management: no zone "nowhere"`},
		"resolver":                     {func(p *firewall.Policy) { p.DNS = []netip.Addr{{}} }, "resolver"},
		"port of no device":            {func(p *firewall.Policy) { p.Ports[0].Device = "sk-x" }, `no device "sk-x"`},
		"peer of the other family":     {func(p *firewall.Policy) { p.Ports[0].From = netip.MustParseAddr("2001:db8::1") }, "is not of the family"},
		"probe of mixed families":      {func(p *firewall.Policy) { p.Probes[0].Local = netip.MustParseAddr("fd00:20::10") }, "is not of the family"},
		"flow of no place":             {func(p *firewall.Policy) { p.Flows[0].From = firewall.Place{} }, "either a zone or a device"},
		"flow of two places":           {func(p *firewall.Policy) { p.Flows[0].To = firewall.Place{Zone: "gateway-dmz", Device: "sk-agencies"} }, "either a zone or a device"},
		"flow without services":        {func(p *firewall.Policy) { p.Flows[0].Services = nil }, "needs sources"},
		"flow of mixed families": {func(p *firewall.Policy) {
			p.Flows[0].Sources = []netip.Prefix{prefix("fd00:64::/48")}
			p.Flows[0].Destinations = []netip.Prefix{prefix("10.20.0.10/32")}
		}, "address family"},
		"ports of a protocol without": {func(p *firewall.Policy) {
			p.Flows[0].Services = []firewall.Service{{Protocol: 47, FirstPort: 1, LastPort: 2}}
		}, "has no ports"},
		"ports the wrong way round": {func(p *firewall.Policy) {
			p.Flows[0].Services = []firewall.Service{{Protocol: firewall.TCP, FirstPort: 9, LastPort: 2}}
		}, "not a range"},
		"ICMP over IPv6": {func(p *firewall.Policy) {
			p.Flows[0].Services = []firewall.Service{{Protocol: firewall.ICMP}}
			p.Flows[0].Sources = []netip.Prefix{prefix("fd00:64::/48")}
			p.Flows[0].Destinations = []netip.Prefix{prefix("fd00:20::/64")}
		}, "address family"},
		"service without protocol": {func(p *firewall.Policy) { p.Flows[0].Services = []firewall.Service{{}} }, "without a protocol"},
		"flow beyond all bounds": {func(p *firewall.Policy) {
			for i := range 300 {
				a := prefix(netip.AddrFrom4([4]byte{10, 64, byte(i >> 8), byte(i)}).String() + "/32")
				p.Flows[0].Sources, p.Flows[0].Destinations = append(p.Flows[0].Sources, a), append(p.Flows[0].Destinations, a)
			}
		}, "65536"},
		"flows of too many shapes": {func(p *firewall.Policy) {
			for i := range 20 {
				for j := range 20 {
					p.Flows = append(p.Flows, firewall.Flow{Name: "x", From: p.Flows[0].From, To: p.Flows[0].To, Services: p.Flows[0].Services[:1],
						Sources: []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), i)}, Destinations: []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), j)}})
				}
			}
		}, "more than 256"},
	} {
		t.Run(name, func(t *testing.T) {
			p := site(t)
			c.change(&p)
			if _, err := firewall.Compile(p); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}
