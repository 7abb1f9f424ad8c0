package firewalltest

import (
	"encoding/base64"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"shekara/firewall"
	"shekara/netctl"
	"shekara/provisioning/compile"
	"shekara/provisioning/document"
	"shekara/provisioning/validate"
	"shekara/testbed/oracle"
)

// paper is a set of documents for the rig's box, what was compiled of it, and who judges it.
type paper struct {
	text    string
	policy  firewall.Policy
	network netctl.Spec // rules and routes of devices whose far side is mapped
	judge   *oracle.Oracle
	end     map[string][]tunnelEnd // by the rig's device: the far ends behind it
}

type tunnelEnd struct {
	peer     string
	prefixes []netip.Prefix
}

const (
	ownerPeer  = "owner-edge" // of device sk-a
	ownerPeer6 = "owner-six"  // of device sk-b
)

// rigZones and rigSite are the rig as documents; random tunnels and flows come to them.
const rigDocuments = `
kind: Zone
metadata: {name: internet}
spec: {contour: external, kind: internet}
---
kind: Zone
metadata: {name: gateway-dmz}
spec: {contour: integration, kind: screened-subnet, prefixes: [10.20.0.0/24, "fd00:20::/64"]}
---
kind: Zone
metadata: {name: lan}
spec: {contour: internal, kind: lan, prefixes: [10.30.0.0/24, "fd00:30::/64"]}
---
kind: Zone
metadata: {name: admin}
spec: {contour: internal, kind: management, prefixes: [192.168.100.0/24, "fd00:100::/64"]}
---
kind: Zone
metadata: {name: agencies}
spec: {contour: external, kind: partners, prefixes: [10.64.0.0/12, "fd00:64::/32", 198.18.2.0/24, "2001:db8:2::/64"]}
---
kind: Zone
metadata: {name: banks}
spec: {contour: external, kind: partners, prefixes: [10.96.0.0/12, "fd00:96::/32", 198.18.3.0/24, "2001:db8:3::/64"]}
---
kind: Site
metadata: {name: owner}
spec:
  lab: true
  peers: [owner-edge, owner-six]
  interfaces:
    - {name: ext0, zone: internet, addresses: [203.0.113.1/30, "2001:db8:113::1/126"], gateways: [203.0.113.2, "2001:db8:113::2"]}
    - {name: dmz0, zone: gateway-dmz, addresses: [10.20.0.1/30, "fd00:20::1/126"]}
    - {name: lan0, zone: lan, addresses: [10.30.0.1/30, "fd00:30::1/126"]}
    - {name: adm0, zone: admin, addresses: [192.168.100.1/30, "fd00:100::1/126"]}
  management: {zone: admin, from: [192.168.100.16/28, "fd00:100::16/128"], allow: [udp/22, tcp/22]}
`

// ownerPeers are the rig's own ends. A device of one tunnel may translate addresses.
func ownerPeers(a, b notation) string {
	return fmt.Sprintf(`
kind: Peer
metadata: {name: owner-edge}
spec: {side: owner, publicIP: 203.0.113.1, wireguard: [{farZone: agencies, environment: production, port: 51820%s}]}
---
kind: Peer
metadata: {name: owner-six}
spec: {side: owner, publicIP: "2001:db8:113::1", wireguard: [{farZone: banks, environment: production, port: 51821%s}]}
`, a.alone("t0"), b.alone("t1"))
}

// someLimits are never reached here: what they are for passes as if they were not there, and all who look at rules must know.
const someLimits = "\n  limits: {newPerSecond: 100000, connections: 10000, mbitPerSecond: 100000}"

// somePaper draws documents, with what the engine can do. What validation refuses is left out again, as its author would; so the rest is what can
// be applied.
func somePaper(t testing.TB, random *rand.Rand, engine Engine) paper {
	t.Helper()
	p := paper{end: map[string][]tunnelEnd{}}
	a, b := notation(random.IntN(int(notations))), notation(random.IntN(int(notations)))
	texts := slices.Concat(strings.Split(rigDocuments, "---\n"), strings.Split(ownerPeers(a, b), "---\n"))
	set := document.NewSet(decoded(t, texts...)...)
	var problems []document.Problem
	add := func(pieces ...string) bool {
		next, _ := set.Merge(decoded(t, pieces...))
		if problems = validate.Check(next, validate.Options{Site: "owner"}); len(problems) > 0 {
			return false
		}
		set, texts = next, append(texts, pieces...)
		return true
	}
	if !add() {
		t.Fatalf("the rig's own documents: %v", problems)
	}
	tunnels := somePaperTunnels(random, &p, map[string]notation{"sk-a": a, "sk-b": b}, engine.Limits, add)
	if len(p.end) < 2 { // each device has one
		t.Fatalf("notations %d and %d: the tunnels are refused: %v", a, b, problems)
	}
	for n := range 14 {
		add(someFlow(random, n, tunnels))
	}
	p.text = strings.Join(texts, "---\n")
	desired, err := compile.Compile(set, "owner")
	if err != nil {
		t.Fatalf("compile: %v\n%s", err, p.text)
	}
	p.policy, p.network = policyOf(desired), networkOf(desired)
	p.policy.Offers = someOffers(random, p.policy)
	if p.judge, err = oracle.Read([]byte(p.text)); err != nil {
		t.Fatal(err)
	}
	return p
}

func decoded(t testing.TB, texts ...string) []*document.Document {
	t.Helper()
	var files []document.File
	for i, text := range texts {
		files = append(files, document.File{Name: fmt.Sprintf("%d.yaml", i), Data: []byte("apiVersion: shekara/v1\n" + strings.ReplaceAll(strings.TrimPrefix(text, "\n"), "---\n", "---\napiVersion: shekara/v1\n"))})
	}
	documents, problems := document.Decode(files)
	if len(problems) > 0 {
		t.Fatalf("decode: %v\n%s", problems, strings.Join(texts, "---\n"))
	}
	return documents
}

// drawnTunnel is a tunnel as flows need to know it: prefixes of one family at each end, in pairs.
type drawnTunnel struct {
	name      string
	far, near []string
}

// somePaperTunnels adds up to six tunnels. The first on each device has probes, and limits; where a device translates it is the only one.
func somePaperTunnels(random *rand.Rand, p *paper, written map[string]notation, limits bool, add func(...string) bool) (tunnels []drawnTunnel) {
	for i, c := range []struct {
		device, zone, owner, outer string
		far                        []string
		probe                      string
	}{
		{"sk-a", "agencies", ownerPeer, "198.51.100.20", []string{"10.64.1.0/24", "fd00:64:1::/64"}, "10.64.1.1 10.20.0.1"},
		{"sk-b", "banks", ownerPeer6, "2001:db8:200::20", []string{"fd00:96:1::/64", "10.96.1.0/24"}, "fd00:96:1::1 fd00:20::1"},
		{"sk-a", "agencies", ownerPeer, "198.51.100.21", []string{"10.66.0.0/16", "fd00:64:2::/48"}, ""},
		{"sk-b", "banks", ownerPeer6, "2001:db8:200::21", []string{"10.97.0.0/28", "fd00:96:2::/48"}, ""},
		{"sk-a", "agencies", ownerPeer, "198.51.100.22", []string{"10.65.7.7/32"}, ""},
	} {
		n := written[c.device]
		if i > 1 && (n != plainly || random.IntN(2) == 0) {
			continue
		}
		key := make([]byte, 32)
		for j := range key {
			key[j] = byte(random.Uint32())
		}
		near := pick(random, [][]string{{"10.20.0.0/24", "fd00:20::/64"}, {"10.20.0.0/28", "fd00:20::/123"}, {"10.20.0.10/32", "10.20.0.1/32", "fd00:20::1/128", "fd00:20::10/127"}})
		nat := ""
		if i > 1 && random.IntN(4) == 0 {
			nat = ", behindNAT: true"
		}
		name := fmt.Sprintf("t%d", i)
		far, mapped, hidden := n.write(c.device, c.far, near)
		initiator, owner, probe := mapped, hidden, ""
		if remote, local, probed := strings.Cut(c.probe, " "); probed {
			if mapped != "" {
				remote = truly(remote)
			}
			probe = "\n  probe: true"
			initiator, owner = initiator+fmt.Sprintf(", probeAddress: %q", remote), owner+fmt.Sprintf(", probeAddress: %q", local)
			if limits {
				probe += someLimits
			}
		}
		if !add(fmt.Sprintf("kind: Peer\nmetadata: {name: far-%d}\nspec: {side: initiator, publicIP: %q%s, wireguard: [{farZone: gateway-dmz, environment: production, port: 51820, publicKey: %q%s}]}\n",
			i, c.outer, nat, base64.StdEncoding.EncodeToString(key), n.facing().alone(name)),
			fmt.Sprintf("kind: Tunnel\nmetadata: {name: %s}\nspec:\n  environment: production\n  protocol: wireguard\n  initiator: {peer: far-%d, zone: %s, prefixes: %s%s}\n  owner: {peer: %s, zone: gateway-dmz, prefixes: %s%s}%s\n",
				name, i, c.zone, listed(far), initiator, c.owner, listed(near), owner, probe)) {
			continue
		}
		tunnels = append(tunnels, drawnTunnel{name, far, near})
		e := tunnelEnd{peer: fmt.Sprintf("far-%d", i)}
		for _, prefix := range slices.Concat(c.far, far) {
			e.prefixes = append(e.prefixes, netip.MustParsePrefix(prefix))
		}
		p.end[c.device] = append(p.end[c.device], e)
	}
	return tunnels
}

func listed(prefixes []string) string { return `["` + strings.Join(prefixes, `", "`) + `"]` }

// someFlow is a Flow through one of the tunnels or between two zones. Many are unlawful or nonsense: validation says which.
func someFlow(random *rand.Rand, n int, tunnels []drawnTunnel) string {
	six := n%2 == 1
	ends := map[string][]string{"internet": {"0.0.0.0/0", "198.51.100.20/31", "::/0", "2001:db8:200::/64"}, "gateway-dmz": {"10.20.0.0/24", "10.20.0.10/32", "fd00:20::/64", "fd00:20::10/128"},
		"lan": {"10.30.0.0/24", "10.30.0.128/25", "10.30.0.10/32", "fd00:30::/64", "fd00:30::10/128"}, "admin": {"192.168.100.0/24", "192.168.100.17/32", "fd00:100::/64"},
		"agencies": {"10.64.0.0/12", "10.64.1.0/24", "10.65.7.7/32", "fd00:64::/32"}, "banks": {"10.96.0.0/12", "10.96.1.0/28", "fd00:96::/32"}}
	of := func(list []string) string {
		fit := slices.DeleteFunc(slices.Clone(list), func(s string) bool { return strings.Contains(s, ":") != six })
		if len(fit) == 0 {
			return "192.0.2.0/24"
		}
		prefix := netip.MustParsePrefix(pick(random, fit))
		if random.IntN(3) == 0 && prefix.Bits() > 0 { // an address of the pools within
			for _, l := range rigLinks {
				for _, a := range pool[l.link] {
					for _, a := range []netip.Addr{a, netip.MustParseAddr(truly(a.String()))} {
						if prefix.Contains(a) {
							prefix = netip.PrefixFrom(a, a.BitLen())
						}
					}
				}
			}
		}
		return prefix.String()
	}
	services := []string{"tcp/443", "tcp", "udp", "udp/8000-8100", "tcp/22-80", "udp/53", "udp/1-65535", "icmp", "sctp/3868"}
	if six {
		services[7] = "icmpv6"
	}
	allow := []string{pick(random, services)}
	if other := pick(random, services); !strings.HasPrefix(other, allow[0][:3]) && random.IntN(2) == 0 {
		allow = append(allow, other)
	}
	way, from, to := "", "", ""
	if random.IntN(2) == 0 {
		t := pick(random, tunnels)
		way, from, to = "tunnel: "+t.name, of(t.far), of(t.near)
		if random.IntN(3) == 0 {
			from, to = to, from
		}
	} else {
		names := slices.Sorted(maps.Keys(ends))
		a, b := pick(random, names), pick(random, names)
		way, from, to = "fromZone: "+a+", toZone: "+b, of(ends[a]), of(ends[b])
	}
	return fmt.Sprintf("kind: Flow\nmetadata: {name: f%d}\nspec: {%s, from: [%q], to: [%q], allow: [%s]}\n", n, way, from, to, strings.Join(allow, ", "))
}

// rigDevices are the rig's links by the names of the devices that they stand for.
func rigDevices(d *compile.Desired) map[string]string {
	link := map[string]string{"": ""}
	for name, device := range d.Base.Devices {
		link[name] = map[string]string{"agencies": "sk-a", "banks": "sk-b"}[device.Filter.FarZone]
	}
	return link
}

// policyOf joins what was compiled, as the daemon does. The links that stand for devices have names of the rig's.
func policyOf(d *compile.Desired) firewall.Policy {
	p := firewall.Policy{Zones: d.Base.Zones, Interfaces: d.Base.Interfaces, Management: d.Base.Management, DNS: d.Base.DNS}
	link := rigDevices(d)
	for name, device := range d.Base.Devices {
		device.Filter.Name = link[name]
		p.Devices = append(p.Devices, device.Filter)
	}
	slices.SortFunc(p.Devices, func(x, y firewall.Device) int { return strings.Compare(x.Name, y.Name) })
	flow := func(f firewall.Flow) {
		f.From.Device, f.To.Device = link[f.From.Device], link[f.To.Device]
		p.Flows = append(p.Flows, f)
	}
	for _, name := range slices.Sorted(maps.Keys(d.Tunnels)) {
		t := d.Tunnels[name]
		t.Port.Device = link[t.Port.Device]
		p.Ports = append(p.Ports, t.Port)
		for _, f := range t.Flows {
			flow(f)
		}
		if t.Limit != nil {
			limit := *t.Limit
			limit.Device = link[limit.Device]
			p.Limits = append(p.Limits, limit)
		}
		if t.Probe != nil {
			probe := *t.Probe
			probe.Device = link[probe.Device]
			p.Probes = append(p.Probes, probe)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.Flows)) {
		flow(d.Flows[name].Flow)
	}
	return p
}

// expects is whether the oracle lets a packet pass, and why. What it does not know stands here: outer packets of tunnels, which are no
// documents' flows, what the box serves, and that this box's own address comes from nowhere.
func (p paper) expects(k packet) (bool, string) {
	for _, list := range ofBox {
		if slices.Contains(list, k.source) {
			return false, "an address of this box"
		}
	}
	if tunnelPort(p.policy, k) {
		return !k.short && k.pieces != later && allowed(p.policy, k), "the port of a tunnel"
	}
	if p.offered(k) {
		return true, "a service of the box"
	}
	asked := oracle.Packet{From: p.location(k.arriveOn, k.source, k.deliverTo), To: p.location(k.deliverTo, k.to, k.arriveOn), Source: k.source, Destination: k.to,
		Protocol: firewall.Service{Protocol: k.protocol}.String(), Port: k.dport, Later: k.pieces == later}
	if k.deliverTo == "" {
		asked.To.Appliance = true
		asked.From.Appliance = k.arriveOn == "sk-a" || k.arriveOn == "sk-b" // only the far appliance asks through a tunnel
	}
	return p.judge.Allowed(asked)
}

// offered says whether the box serves who sends a packet, by the meaning of its policy alone. On a device that shows this side otherwise it is asked by
// what is shown.
func (p paper) offered(k packet) bool {
	known := inside(p.policy, k)
	written, addressable := outside(p.policy, known)
	offers := firewall.Policy{Zones: p.policy.Zones, Interfaces: p.policy.Interfaces, Devices: p.policy.Devices, Offers: p.policy.Offers}
	comes := true
	for _, d := range p.policy.Devices {
		if d.Name == k.arriveOn && len(d.Sources) > 0 {
			comes = slices.ContainsFunc(d.Sources, func(prefix netip.Prefix) bool { return prefix.Contains(k.source) })
		}
	}
	return comes && k.deliverTo == "" && k.pieces != later && addressable && written.to == k.to && allowed(offers, known)
}

// location is where an address is that is behind a link. A peer is told by its addresses, as WireGuard sees to it.
func (p paper) location(link string, address netip.Addr, other string) oracle.Location {
	near := ownerPeer
	if link == "sk-b" || other == "sk-b" {
		near = ownerPeer6
	}
	zone := map[string]string{"ext0": "internet", "dmz0": "gateway-dmz", "lan0": "lan", "adm0": "admin", "sk-a": "agencies", "sk-b": "banks"}[link]
	if link != "sk-a" && link != "sk-b" {
		return oracle.Location{Zone: zone, Peer: near}
	}
	for _, e := range p.end[link] {
		if slices.ContainsFunc(e.prefixes, func(prefix netip.Prefix) bool { return prefix.Contains(address) }) {
			return oracle.Location{Zone: zone, Peer: e.peer}
		}
	}
	return oracle.Location{Zone: zone, Peer: "nobody"}
}
