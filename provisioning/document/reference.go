package document

import (
	"fmt"
	"reflect"
	"strings"
)

// Reference is docs/documents.md: every kind and field, from the types. A test fails when the file is stale.
func Reference() string {
	var w strings.Builder
	w.WriteString(referenceHead)
	for _, k := range kinds() {
		about, example := referenceOf(k)
		fmt.Fprintf(&w, "\n## %s\n\n%s\n", k, about)
		tables(&w, reflect.TypeOf(newSpec(k)).Elem(), "spec", "")
		fmt.Fprintf(&w, "\n```yaml\n%s```\n", canonicalOf(&Document{Kind: k, Name: example.name, Spec: example.spec}))
	}
	w.WriteString(referenceTail)
	return w.String()
}

// tables writes one table for a struct and one for each struct inside it.
func tables(w *strings.Builder, t reflect.Type, path, note string) {
	fmt.Fprintf(w, "\n`%s`%s\n\n| field | type | default | meaning |\n|---|---|---|---|\n", path, note)
	for _, f := range fieldsOf(t) {
		standard := "must be there"
		switch {
		case f.standard != "":
			standard = f.standard
		case t.Field(f.index).Type.Kind() == reflect.Bool:
			standard = "false"
		case f.optional:
			standard = "none"
		}
		fmt.Fprintf(w, "| `%s` | %s | %s | %s |\n", f.name, typeName(t.Field(f.index).Type), standard, strings.ReplaceAll(f.doc, "|", `\|`))
	}
	seen := map[reflect.Type]string{}
	for _, f := range fieldsOf(t) {
		inner, each := t.Field(f.index).Type, ""
		if inner.Kind() == reflect.Slice {
			inner, each = inner.Elem(), ", each item"
		}
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		if inner.Kind() != reflect.Struct {
			continue
		}
		if before, told := seen[inner]; told {
			fmt.Fprintf(w, "\n`%s.%s` has the same fields as `%s`.\n", path, f.name, before)
			continue
		}
		seen[inner] = path + "." + f.name
		tables(w, inner, path+"."+f.name, each)
	}
}

func typeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Slice:
		return "list of " + typeName(t.Elem())
	case reflect.Int:
		return "number"
	case reflect.Bool:
		return "true or false"
	case reflect.Struct, reflect.Pointer:
		return "fields"
	default:
		return "text"
	}
}

type example struct {
	name string
	spec any
}

func referenceOf(k Kind) (about string, e example) {
	switch k {
	case KindZone:
		return "A segment, known to all sites. An address lies in one zone at most. A zone of kind `internet` without prefixes holds what no other zone claims.",
			example{"agencies", &Zone{Contour: "external", Kind: "partners", Prefixes: []string{"10.64.0.0/12"}}}
	case KindSite:
		return "One appliance. `/etc/shekara/site` names the Site that a box is.\n\n" +
				"Write `addresses` and `gateways` of the uplinks: then encrypted packets of a peer leave by the interface that has its address, from that address, or not at all. " +
				"Without them they follow the host's own routes, and the packet filter still drops what would leave from another address.",
			example{"owner", &Site{Lab: true, Peers: []string{"owner-edge"},
				Interfaces: []Interface{{Name: "ext0", Zone: "internet", Addresses: []string{"203.0.113.10/24"}, Gateways: []string{"203.0.113.1"}}, {Name: "dmz0", Zone: "gateway-dmz"}, {Name: "adm0", Zone: "admin"}},
				Management: Management{Zone: "admin", From: []string{"192.168.100.0/24"}, Allow: []string{"tcp/22"}}}}
	case KindPeer:
		return "An address that terminates tunnels. Each entry of `wireguard` is a device of its own, with its own key and port.",
			example{"agency-a-edge", &Peer{Organisation: "Agency A", Side: "initiator", PublicIP: "198.51.100.20",
				WireGuard: []WireGuardPort{{FarZone: "gateway-dmz", Environment: Production, Port: 51820, PublicKey: "iT3N63YOUxqGcdv8jbK8YJJDh2GBR4BK1BlqaSIqPRg="}}}}
	case KindTunnel:
		return "Exactly two ends (DEF-33). The end whose peer the box's Site lists is the local one; the same document serves both boxes. Two peers are joined once in each environment (VPN-03). Applying `ipsec` answers \"not yet\".\n\n" +
				"Where ranges overlap an end is `mapped`: hosts of the other side write those addresses, and the other end's appliance translates. Where addresses are not to be seen (HID-01) an end has `hide`: its own appliance translates, " +
				"and nothing leaves by the tunnel with another source. Flows, probes and registers name hosts by `prefixes`, their own addresses, everywhere; `shekara explain` and `shekara tunnel show` have both notations. " +
				"The appliance that translates, and one that sees hidden addresses, needs a device for that tunnel alone: an entry with `tunnel` in its Peer's `wireguard`.\n\n" +
				"`limits` are of this one tunnel: at its limit it takes nothing from its neighbours. New connections and those at a time count in both directions together, bandwidth in each on its own. " +
				"What is too much is dropped and counted by the IDs `forward.too_many_new`, `forward.too_many_connections` and `forward.bandwidth`, and `tunnel.limit` is on record once a minute. " +
				"Where a limit of a tunnel changes, its connections are counted anew from then on. The iptables engine has no limits.",
			example{"agency-a", &Tunnel{Environment: Production, Protocol: "wireguard", PresharedKey: "agency-a", Probe: true,
				Limits:    Limits{NewPerSecond: 50, Connections: 1000, MbitPerSecond: 20},
				Initiator: End{Peer: "agency-a-edge", Zone: "agencies", Prefixes: []string{"10.64.1.0/28"}, ProbeAddress: "10.64.1.1"},
				Owner:     End{Peer: "owner-edge", Zone: "gateway-dmz", Prefixes: []string{"10.20.0.0/24"}, ProbeAddress: "10.20.0.1"}}}
	case KindFlow:
		return "Who may open connections to whom; answers pass by themselves, and nothing else passes. No flow leads to the appliance itself, whatever `to` holds: only management, " +
				"probes, far peers and those whom a TimeService serves reach it; but where `from` holds an address of the appliance, it may open them too. A flow names its tunnel, and which way it goes follows from whose prefixes its sources lie in; " +
				"or it names two zones, and holds on every box that touches both. In a zone without prefixes `0.0.0.0/0` or `::/0` means the whole zone.",
			example{"agency-a-https", &Flow{Tunnel: "agency-a", From: []string{"10.64.1.5/32"}, To: []string{"10.20.0.10/32"}, Allow: []string{"tcp/443"}}}
	default:
		return registerReference(k)
	}
}

func registerReference(k Kind) (about string, e example) {
	name := func(kk, ru, en string) Names { return Names{KK: kk, RU: ru, EN: en} }
	switch k {
	case KindOrganisation:
		return "A legal entity. The contour rules judge by it ([contours](contours.md)); nothing of it stands on the host.",
			example{"registry-body", &Organisation{Name: name("Тіркеу органы", "Регистрирующий орган", "Registration body"), Kind: "state-body", BIN: "250140000013", Architecture: "order 12 of 2026-02-01",
				Contracts: []Contract{{With: "bank-b", Number: "IS-7", Date: "2026-02-02", Until: "2028-02-01"}}}}
	case KindSystem:
		return "An object of informatization: who is behind an address. A flow's addresses say which systems it joins, so nothing has to be repeated in it.",
			example{"registry", &System{Name: name("Тіркелім", "Реестр", "Registry"), Organisation: "registry-body", Class: 1, Contour: "internal", Zone: "registry-lan", Prefixes: []string{"10.30.0.0/28"}, Information: "personal"}}
	case KindGateway:
		return "A gateway of electronic government. What goes to its hosts goes through it.",
			example{"vshep", &Gateway{Name: name("ЭҮСШ", "ВШЭП", "External gateway"), Kind: "vshep", Environment: Production, Zone: "gateway-dmz", Prefixes: []string{"10.20.0.10/32"}, IndustrialOperation: &Order{Number: "15", Date: "2026-01-15"}}}
	case KindService:
		return "An entry of the register of services.",
			example{"registry-extract", &Service{Name: name("Үзінді", "Выписка", "Extract"), Code: "RGST-S-101", System: "registry", Gateway: "vshep"}}
	case KindEventSink:
		return sinkReference()
	case KindIncidentRule:
		return incidentReference()
	case KindTimeService:
		return timeReference()
	case KindAssertion:
		return "What must hold of all flows together. It lets nothing pass. Whatever would break it is refused, by `shekara validate`, by a plan and before an apply, with a connection that shows it, " +
				"and what is in force stays. It is judged by the packet filter's rules as they would be loaded, for connections that come from where routing has their sources.",
			example{"bank-not-to-registry", &Assertion{Site: "gateway", Require: "mustNotReach", From: []string{"10.64.0.0/12"}, To: []string{"10.30.0.0/24"}, Service: "tcp"}}
	default:
		return "A product that encrypts, as the operator has it on record. A tunnel that names one is of its level; any other is of level 1.",
			example{"vpn-module", &CryptoModule{Product: "VPN module 4.2", Kind: "software", Certificate: "KZ-0001", Level: 3, ValidUntil: "2028-12-31"}}
	}
}

const referenceHead = `# Documents

<!-- Generated from the types in provisioning/document: go generate ./provisioning/document -->

What should be connected is written in YAML, one or many documents a file, in one file or many. Each has the same four fields:

| field | meaning |
|---|---|
| ` + "`apiVersion`" + ` | ` + "`shekara/v1`" + ` |
| ` + "`kind`" + ` | a kind below |
| ` + "`metadata.name`" + ` | unique among documents of the same kind; 1 to 63 of a-z, 0-9 and "-", beginning and ending with a letter or digit |
| ` + "`spec`" + ` | the fields below |

Reading is strict: an unknown, repeated or missing field, a wrong type, an alias or a tag is a problem, and all problems of all files are reported at
once, each as ` + "`file:line:column: what: \"value\": hint`" + `. Prefixes have no host bits set; nothing is written as IPv4-mapped IPv6. A file may have 64 MiB, a
document 1 MiB, all files together 500,000 documents. Secrets never stand in documents.

Whole sets to begin from are in [examples](examples).
`

const referenceTail = `
## What is checked beyond single fields

The rule's requirement, where one stands behind it, is in brackets.

- Every name that is referred to has a document. Where two documents contradict each other, the one that came later is blamed.
- A public peer IP is of the Internet [VPN-01]. Private, CGNAT, documentation, benchmark and unique local addresses are allowed in a lab: for a peer that
  a Site lists, if that Site says ` + "`lab: true`" + `; for a far peer, if this box's Site does (checking for no box in particular: if any Site does). Loopback, link-local,
  multicast, reserved and unspecified addresses are never allowed.
- A public peer IP belongs to one active peer [VPN-01], a peer to one Site [DEF-09], a public key to one device, a port to one device of an appliance.
- A public key may be absent only for this box's own peers (checking for no box in particular: for the peers of any Site).
- A tunnel joins two peers [DEF-33] of two appliances: at ` + "`initiator`" + ` one of that side, at ` + "`owner`" + ` one of that [DEF-09]; both public IPs of one family; at most one end behind NAT, and then not
  with AH [VPN-02]; two peers once in each environment [VPN-03].
- Each end's prefixes lie inside its zone, and the zone is on an interface of the Site that lists the peer. Seen from a Site, far prefixes overlap neither those of another tunnel nor a zone that the Site touches
  [VPN-03].
- Far prefixes are compared as the Site's side writes them: ` + "`mapped`" + `, else ` + "`hide`" + `, else ` + "`prefixes`" + `. A mapped end has its mapped ranges inside the zone, its own ones only if a Site lists its peer. An end
  does not have both; neither is for ` + "`ipsec`" + `; nobody opens a connection to who is hidden behind one address [HID-01].
- Test and production of one pair share no prefix, no preshared key and no public key [VPN-11].
- No selector is a default route: its route would stand before the host's own networks. Inside a WireGuard tunnel a selector may hold a peer's public IP:
  encrypted packets are marked, and the mark selects a route table of their own, so they never enter a tunnel. With IPsec it may not.
- A flow lies inside its tunnel's prefixes, or inside its zones, and is of one address family. Its destination is no address of the appliance at which it ends, as far as the
  Site lists ` + "`addresses`" + `: that is what ` + "`management`" + ` is for.
- A BIN is of one Organisation and its check digit fits; a code is of one Service; an address is of one System or Gateway, and inside its zone.
- The contour rules, which come from the acts: [contours](contours.md).
`
