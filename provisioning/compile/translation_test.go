package compile_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shekara/firewall"
	"shekara/netctl"
	"shekara/provisioning/compile"
	"shekara/provisioning/document"
)

const bothTranslated = `
apiVersion: shekara/v1
kind: Peer
metadata: {name: spare}
spec:
  side: initiator
  publicIP: 198.51.100.99
  wireguard: [{farZone: dmz, environment: production, tunnel: spare, port: 1, publicKey: BIFybNmYKnvRGiPy3oSJUdyTnDCpQrv+RFlWTvSoCQo=}]
---
apiVersion: shekara/v1
kind: Peer
metadata: {name: owner-a}
spec:
  side: owner
  publicIP: 203.0.113.10
  wireguard:
    - {farZone: agencies, environment: production, port: 51820}
    - {farZone: agencies, environment: test, port: 51821, mtu: 1400}
    - {farZone: agencies, environment: production, tunnel: spare, port: 51830}
  ipsec:
    - {environment: production, type: ip, value: 203.0.113.10}
---
apiVersion: shekara/v1
kind: Tunnel
metadata: {name: spare}
spec:
  environment: production
  protocol: wireguard
  probe: true
  initiator: {peer: spare, zone: agencies, prefixes: [10.64.4.0/28], mapped: [10.64.99.0/28], probeAddress: 10.64.4.1}
  owner: {peer: owner-a, zone: dmz, prefixes: [10.20.9.0/28], hide: [10.99.0.0/28]}
---
apiVersion: shekara/v1
kind: Flow
metadata: {name: spare-in}
spec: {tunnel: spare, from: [10.64.4.5/32], to: [10.20.9.7/32], allow: [tcp/443]}
---
apiVersion: shekara/v1
kind: Flow
metadata: {name: spare-out}
spec: {tunnel: spare, from: [10.20.9.7/32], to: [10.64.4.5/32], allow: [tcp/443]}
`

// TestHostsBehindOneAddress: single hosts that share one address are not one to one, though each is as long as it.
func TestHostsBehindOneAddress(t *testing.T) {
	text := strings.Replace(bothTranslated, "prefixes: [10.20.9.0/28], hide: [10.99.0.0/28]", "prefixes: [10.20.9.1/32, 10.20.9.2/32], hide: [10.99.0.1/32]", 1)
	documents, problems := document.Decode([]document.File{{Name: "t.yaml", Data: []byte(text)}})
	if len(problems) > 0 || text == bothTranslated {
		t.Fatal(problems, text)
	}
	set, _ := validSet(t).Merge(documents)
	desired, err := compile.Compile(set, "owner")
	if err != nil {
		t.Fatal(err)
	}
	filter := desired.Base.Devices[desired.Tunnels["spare"].Spec.Device].Filter
	p := netip.MustParsePrefix
	want := []firewall.Mapping{{Inside: p("10.20.9.1/32"), Outside: p("10.99.0.1/32"), Shared: true}, {Inside: p("10.20.9.2/32"), Outside: p("10.99.0.1/32"), Shared: true}}
	if diff := cmp.Diff(want, filter.Translation.Local, plainly); diff != "" {
		t.Errorf("hidden (-want +got):\n%s", diff)
	}
	policy := firewall.Policy{Zones: desired.Base.Zones, Interfaces: desired.Base.Interfaces, Management: desired.Base.Management, Devices: []firewall.Device{filter}}
	if _, err := firewall.Compile(policy); err != nil {
		t.Error(err)
	}
}

// TestTranslation: a mapped far end gets a device, a table and a zone of its own; the filter knows it by the mapped range, WireGuard by its own.
func TestTranslation(t *testing.T) {
	documents, problems := document.Decode([]document.File{{Name: "t.yaml", Data: []byte(bothTranslated)}})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	set, _ := validSet(t).Merge(documents)
	desired, err := compile.Compile(set, "owner")
	if err != nil {
		t.Fatal(err)
	}
	tunnel := desired.Tunnels["spare"]
	device := desired.Base.Devices[tunnel.Spec.Device]
	if device.Spec.Tunnel != "spare" || device.Spec.Name == desired.Tunnels["four"].Spec.Device || !strings.HasSuffix(device.KeyName, ".spare") {
		t.Errorf("device %+v", device.Spec)
	}
	p := netip.MustParsePrefix
	want := &firewall.Translation{Far: []firewall.Mapping{{Inside: p("10.64.99.0/28"), Outside: p("10.64.4.0/28")}},
		Local: []firewall.Mapping{{Inside: p("10.20.9.0/28"), Outside: p("10.99.0.0/28")}},
		Zone:  device.Filter.Translation.Zone, Mark: 0x534c0000 | uint32(device.Filter.Translation.Zone), LocalMark: 0x534d0000 | uint32(device.Filter.Translation.Zone)}
	if diff := cmp.Diff(want, device.Filter.Translation, plainly); diff != "" || want.Zone == 0 {
		t.Errorf("translation (-want +got):\n%s", diff)
	}
	if got := fmt.Sprint(tunnel.Spec.AllowedIPs, device.Filter.Sources, tunnel.Known, tunnel.Probe.Remote); got != "[10.64.4.0/28] [10.64.4.0/28] [10.64.99.0/28] 10.64.99.1" {
		t.Errorf("allowed, sources, known, probe: %s", got)
	}
	var routes []string
	for _, r := range tunnel.Routes {
		routes = append(routes, fmt.Sprintf("%d %s %d", r.Table, r.Prefix, r.Kind))
	}
	table := device.Filter.Translation.Mark
	if diff := cmp.Diff([]string{fmt.Sprint(netctl.InnerTable, " 10.64.99.0/28 0"), fmt.Sprint(netctl.InnerTable, " 10.64.99.0/28 1"),
		fmt.Sprint(table, " 10.64.4.0/28 0"), fmt.Sprint(table, " 10.64.4.0/28 1")}, routes); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
	rules := slices.DeleteFunc(slices.Clone(desired.Base.Network.Rules), func(r netctl.Rule) bool {
		return r.IPv6 || r.Priority < netctl.ArrivedRulePriority || r.Priority > netctl.MappedRulePriority
	})
	if len(rules) != 4 || desired.Base.Network.Sysctls["net.ipv4.fwmark_reflect"] != "1" {
		t.Errorf("rules %v", rules)
	}
	var flows []string
	for _, f := range tunnel.Flows {
		flows = append(flows, fmt.Sprint(f.Name, f.Sources, f.Destinations))
	}
	if got := strings.Join(flows, " "); got != "spare-in[10.64.99.5/32] [10.20.9.7/32] spare-out[10.20.9.7/32] [10.64.99.5/32]" {
		t.Errorf("flows %s", got)
	}
	if before, _ := compile.Compile(validSet(t), "owner"); before.Tunnels["four"].Spec.Device != desired.Tunnels["four"].Spec.Device {
		t.Error("another tunnel's device changes its name")
	}
}
