package contourtest

import (
	"os"
	"strings"
	"testing"

	"shekara/provisioning/document"
)

// Edit puts new text in the place of the first old text.
type Edit struct{ Old, New string }

// Case breaks one rule.
type Case struct {
	Rule  string
	Name  string // what of it
	Value string // that is refused, as the documents have it
	add   string // documents
	edit  []Edit
	mend  []Edit
}

// base is docs/examples/contours with three more zones that the appliance touches, so that what a case adds is compiled.
func base(t testing.TB) string {
	t.Helper()
	var text string
	for _, name := range []string{"zones", "registers", "site", "assertions"} {
		data, err := os.ReadFile("../../docs/examples/contours/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		text += string(data) + "---\n"
	}
	return apply(t, text, Edit{"    - {name: adm0,", "    - {name: anx0, zone: annex}\n    - {name: off0, zone: office}\n    - {name: ets0, zone: ets}\n    - {name: adm0,"}) +
		doc("Zone", "annex", "{contour: external, kind: partners, prefixes: [10.80.0.0/16]}") +
		doc("Zone", "office", "{contour: internal, kind: lan, internetAccess: false, prefixes: [10.81.0.0/16]}") +
		doc("Zone", "ets", "{contour: internal, kind: ets-go, prefixes: [10.82.0.0/16]}") +
		doc("Organisation", "neighbour", "{name: "+names+", kind: foreign}") +
		doc("System", "neighbour", "{name: "+names+", organisation: neighbour, class: 3, contour: external, zone: annex, prefixes: [10.80.1.0/28]}") +
		doc("System", "branch-of-bank", "{name: "+names+", organisation: bank, class: 3, contour: external, zone: annex, prefixes: [10.80.2.0/28]}") +
		doc("System", "kiosk", "{name: "+names+", organisation: operator, class: 3, contour: external, zone: annex, prefixes: [10.80.3.0/28]}") +
		doc("Gateway", "national", "{name: "+names+", kind: national, environment: production, zone: gateways, prefixes: [10.20.0.30/32]}")
}

const names = "{kk: Аты, ru: Имя, en: Name}"

func doc(kind, name, spec string) string {
	return "apiVersion: shekara/v1\nkind: " + kind + "\nmetadata: {name: " + name + "}\nspec: " + spec + "\n---\n"
}

func flow(from, source, to, destination, more string) string {
	return doc("Flow", "added", "{fromZone: "+from+", toZone: "+to+", from: ["+source+"], to: ["+destination+"], allow: [tcp/443]"+more+"}")
}

func apply(t testing.TB, text string, edits ...Edit) string {
	t.Helper()
	for _, e := range edits {
		if strings.Count(text, e.Old) == 0 {
			t.Fatalf("%q is not in the documents", e.Old)
		}
		text = strings.Replace(text, e.Old, e.New, 1)
	}
	return text
}

// Texts are the documents broken, and mended.
func (c Case) Texts(t testing.TB) (broken, mended string) {
	broken = apply(t, base(t)+c.add, c.edit...)
	return broken, apply(t, broken, c.mend...)
}

// Set is the documents of a text; that they decode is part of each case.
func Set(t testing.TB, text string) *document.Set {
	t.Helper()
	documents, problems := document.Decode([]document.File{{Name: "case.yaml", Data: []byte(text)}})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return document.NewSet(documents...)
}

const waiver = ", waiver: {reason: the old line goes in May, approver: head of security, expires: \"2040-05-31\"}"

// Cases are all of them: each rule that a document can break has one at least.
func Cases() []Case {
	var all []Case
	for _, list := range [][]Case{gatewayCases(), segmentCases(), exclusionCases(), tunnelCases()} {
		all = append(all, list...)
	}
	return all
}

func gatewayCases() []Case {
	const added = "allow: [tcp/443]}"
	return []Case{
		{Rule: "GWY-01", Name: "not in operation", Value: "10.20.0.20/32", edit: []Edit{{"  industrialOperation: {number: \"15\", date: \"2026-01-15\"}\n", ""}},
			mend: []Edit{{"  prefixes: [10.20.0.20/32]\n", "  prefixes: [10.20.0.20/32]\n  industrialOperation: {number: \"15\", date: \"2026-01-15\"}\n"}}},
		{Rule: "GWY-01", Name: "test gateway in production", Value: "10.20.0.20/32", edit: []Edit{{"  kind: vshep\n  environment: production", "  kind: vshep\n  environment: test"},
			{"  industrialOperation: {number: \"15\", date: \"2026-01-15\"}\n", ""}}, mend: []Edit{
			{"metadata: {name: bank}\nspec:\n  environment: production", "metadata: {name: bank}\nspec:\n  environment: test"},
			{"{farZone: partners, environment: production, port: 51820}", "{farZone: partners, environment: test, port: 51820}"},
			{"{farZone: gateways, environment: production, port: 51820,", "{farZone: gateways, environment: test, port: 51820,"}}},
		{Rule: "GWY-01", Name: "directly", Value: "10.40.0.10/32", add: flow("annex", "10.80.2.5/32", "portal-segment", "10.40.0.10/32", ""),
			mend: []Edit{{"toZone: portal-segment, from: [10.80.2.5/32], to: [10.40.0.10/32], " + added, "toZone: gateways, from: [10.80.2.5/32], to: [10.20.0.20/32], allow: [tcp/443], service: registry-extract}"}}},
		{Rule: "GWY-01", Name: "through ШЭП", Value: "10.20.0.10/32", add: flow("annex", "10.80.2.5/32", "gateways", "10.20.0.10/32", ", service: registry-data"),
			mend: []Edit{{"from: [10.80.2.5/32], to: [10.20.0.10/32], allow: [tcp/443], service: registry-data", "from: [10.80.2.5/32], to: [10.20.0.20/32], allow: [tcp/443], service: registry-extract"}}},
		{Rule: "GWY-02", Name: "ended", Value: "10.64.1.5/32", edit: []Edit{{`until: "2040-12-31"`, `until: "2026-03-01"`}}, mend: []Edit{{`until: "2026-03-01"`, `until: "2041-03-01"`}}},
		{Rule: "GWY-02", Name: "waived", Value: "10.64.1.5/32", edit: []Edit{{"contracts:\n    - {with: bank,", "contracts:\n    - {with: operator,"}},
			mend: []Edit{{"allow: [tcp/443], service: registry-extract}", "allow: [tcp/443], service: registry-extract" + waiver + "}"}}},
		{Rule: "GWY-02", Name: "no service", Value: "10.64.1.5/32", edit: []Edit{{"to: [10.20.0.20/32], allow: [tcp/443], service: registry-extract", "to: [10.20.0.20/32], allow: [tcp/443]"}},
			mend: []Edit{{"to: [10.20.0.20/32], allow: [tcp/443]", "to: [10.20.0.20/32], allow: [tcp/443], service: registry-extract"}}},
		{Rule: "GWY-04", Value: "10.20.0.10/32", edit: []Edit{{"to: [10.20.0.10/32], allow: [tcp/443], service: registry-data", "to: [10.20.0.10/32], allow: [tcp/443]"}},
			mend: []Edit{{"to: [10.20.0.10/32], allow: [tcp/443]", "to: [10.20.0.10/32], allow: [tcp/443], service: registry-data"}}},
		{Rule: "GWY-05", Name: "waived", Value: "10.30.0.5/32", add: flow("tax-lan", "10.31.0.5/32", "registry-lan", "10.30.0.5/32", ""),
			mend: []Edit{{"to: [10.30.0.5/32], " + added, "to: [10.30.0.5/32], allow: [tcp/443]" + waiver + "}"}}},
		{Rule: "GWY-05", Name: "through ШЭП", Value: "10.30.0.5/32", add: flow("tax-lan", "10.31.0.5/32", "registry-lan", "10.30.0.5/32", ""),
			mend: []Edit{{"toZone: registry-lan, from: [10.31.0.5/32], to: [10.30.0.5/32], " + added, "toZone: gateways, from: [10.31.0.5/32], to: [10.20.0.10/32], allow: [tcp/443], service: registry-data}"}}},
		{Rule: "GWY-06", Value: "10.30.1.5/32", edit: []Edit{{"  architecture: order 12 of 2026-02-01\n", ""}}, mend: []Edit{{"allow: [tcp/5432]", "allow: [tcp/5432]" + waiver}}},
		{Rule: "GWY-07", Value: "10.80.0.5/32", add: flow("archive-lan", "10.30.1.5/32", "annex", "10.80.0.5/32", ""),
			mend: []Edit{{"toZone: annex, from: [10.30.1.5/32], to: [10.80.0.5/32], " + added, "toZone: gateways, from: [10.30.1.5/32], to: [10.20.0.20/32], allow: [tcp/443], service: registry-extract}"}}},
		{Rule: "GWY-07", Name: "from outside", Value: "10.81.0.5/32", add: flow("annex", "10.80.0.5/32", "office", "10.81.0.5/32", ""), mend: []Edit{{"metadata: {name: office}\nspec: {contour: internal", "metadata: {name: office}\nspec: {contour: integration"}}},
		{Rule: "GWY-08", Value: "10.40.0.10/32", add: flow("annex", "10.80.1.5/32", "portal-segment", "10.40.0.10/32", ""),
			mend: []Edit{{"toZone: portal-segment, from: [10.80.1.5/32], to: [10.40.0.10/32]", "toZone: gateways, from: [10.80.1.5/32], to: [10.20.0.30/32]"}}},
		{Rule: "GWY-10", Name: "unknown address", Value: "10.30.0.100/32", edit: []Edit{{"from: [10.20.0.20/32], to: [10.30.0.5/32]", "from: [10.20.0.20/32], to: [10.30.0.100/32]"}},
			mend: []Edit{{"from: [10.20.0.20/32], to: [10.30.0.100/32]", "from: [10.20.0.20/32], to: [10.30.0.15/32]"}}},
		{Rule: "GWY-10", Name: "service of another", Value: "registry-extract", edit: []Edit{{"to: [10.20.0.10/32], allow: [tcp/443], service: registry-data", "to: [10.20.0.10/32], allow: [tcp/443], service: registry-extract"}},
			mend: []Edit{{"  gateway: vshep\n", "  gateway: shep\n"}, {"to: [10.20.0.20/32], allow: [tcp/443], service: registry-extract", "to: [10.20.0.20/32], allow: [tcp/443], service: registry-copy"},
				{"from: [10.20.0.20/32], to: [10.30.0.5/32], allow: [tcp/443], service: registry-extract", "from: [10.20.0.20/32], to: [10.30.0.5/32], allow: [tcp/443], service: registry-copy"}},
			add: doc("Service", "registry-copy", "{name: "+names+", code: RGST-S-103, system: registry, gateway: vshep}")},
	}
}

func segmentCases() []Case {
	another := Edit{"    - {name: adm0,", "    - {name: abr0, zone: abroad}\n    - {name: adm0,"}
	managed := func(zone, from string) []Edit {
		return []Edit{{"management: {zone: admin, from: [192.168.100.0/24]", "management: {zone: " + zone + ", from: [" + from + "]"}}
	}
	inside := func(zone, from string) []Edit {
		return []Edit{{"management: {zone: " + zone + ", from: [" + from + "]", "management: {zone: admin, from: [192.168.100.64/28]"}}
	}
	return []Case{
		{Rule: "DEF-19", Name: "flow", Value: "10.81.0.5/32", add: flow("office", "10.81.0.5/32", "ets", "10.82.0.5/32", ""), edit: []Edit{{"internetAccess: false", "internetAccess: true"}},
			mend: []Edit{{"internetAccess: true", "internetAccess: false"}}},
		{Rule: "DEF-19", Name: "tunnel", Value: "10.31.0.0/28", edit: []Edit{{"  prefixes: [10.31.0.0/24]\n", "  internetAccess: true\n  prefixes: [10.31.0.0/24]\n"}},
			mend: []Edit{{"  internetAccess: true\n", ""}}},
		{Rule: "DEF-38", Value: "external", edit: []Edit{{"  contour: internal\n  zone: archive-lan", "  contour: external\n  zone: archive-lan"}},
			mend: []Edit{{"  contour: external\n  zone: archive-lan", "  contour: internal\n  zone: archive-lan"}}},
		{Rule: "SEG-01", Name: "internet", Value: "integration", edit: []Edit{{"spec: {contour: external, kind: internet}", "spec: {contour: integration, kind: internet}"}},
			mend: []Edit{{"spec: {contour: integration, kind: internet}", "spec: {contour: external, kind: internet}"}}},
		{Rule: "SEG-01", Name: "ETS GO", Value: "integration", edit: []Edit{{"{contour: internal, kind: ets-go", "{contour: integration, kind: ets-go"}}, mend: []Edit{{"{contour: integration, kind: ets-go", "{contour: integration, kind: lan"}}},
		{Rule: "SEG-01", Name: "partners", Value: "integration", add: doc("Zone", "abroad", "{contour: integration, kind: partners, prefixes: [10.84.0.0/16]}"), edit: []Edit{another},
			mend: []Edit{{"{contour: integration, kind: partners", "{contour: external, kind: partners"}}},
		{Rule: "SEG-01", Name: "screened subnet outside", Value: "external", add: doc("Zone", "abroad", "{contour: external, kind: screened-subnet, prefixes: [10.84.0.0/16]}"), edit: []Edit{another},
			mend: []Edit{{"{contour: external, kind: screened-subnet", "{contour: internal, kind: screened-subnet"}}},
		{Rule: "SEG-02", Value: "10.39.0.0/28", add: doc("System", "stray", "{name: "+names+", organisation: registry-body, class: 3, contour: internal, zone: archive-lan, prefixes: [10.30.1.32/28, 10.39.0.0/28]}"),
			mend: []Edit{{", 10.39.0.0/28]", ", 10.30.1.48/28]"}}},
		{Rule: "SEG-03", Name: "system", Value: "archive-lan", edit: []Edit{{"  prefixes: [10.30.1.0/28]\n", "  prefixes: [10.30.1.0/28]\n  internetFacing: true\n"}}, mend: []Edit{{"10.30.1.0/28]\n  internetFacing: true\n", "10.30.1.0/28]\n"}}},
		{Rule: "SEG-03", Name: "flow", Value: "10.80.3.5/32", add: flow("internet", "0.0.0.0/0", "annex", "10.80.3.5/32", ""),
			mend: []Edit{{"toZone: annex, from: [0.0.0.0/0], to: [10.80.3.5/32]", "toZone: portal-segment, from: [0.0.0.0/0], to: [10.40.0.10/32]"}}},
		{Rule: "SEG-04", Value: "10.30.1.5/32", add: flow("portal-segment", "10.40.0.10/32", "archive-lan", "10.30.1.5/32", ""),
			mend: []Edit{{"toZone: archive-lan, from: [10.40.0.10/32], to: [10.30.1.5/32], allow: [tcp/443]}", "toZone: gateways, from: [10.40.0.10/32], to: [10.20.0.10/32], allow: [tcp/443], service: registry-data}"}}},
		{Rule: "SEG-05", Value: "true", edit: []Edit{{"  prefixes: [10.32.0.0/24]\n", "  internetAccess: true\n  prefixes: [10.32.0.0/24]\n"}}, mend: []Edit{{"internetAccess: true", "internetAccess: false"}}},
		{Rule: "SEG-06", Name: "internet", Value: "internet", edit: managed("internet", "203.0.113.64/28"), mend: inside("internet", "203.0.113.64/28")},
		{Rule: "SEG-06", Name: "segment", Value: "portal-segment", edit: managed("portal-segment", "10.40.0.64/28"), mend: inside("portal-segment", "10.40.0.64/28")},
		{Rule: "SEG-06", Name: "LAN with Internet access", Value: "office", edit: append(managed("office", "10.81.0.0/28"), Edit{"internetAccess: false", "internetAccess: true"}),
			mend: []Edit{{"internetAccess: true", "internetAccess: false"}}},
	}
}

func exclusionCases() []Case {
	service := func(more string) string {
		return doc("Service", "copy", "{name: "+names+", code: ARCH-S-1, system: archive, gateway: vshep"+more+"}")
	}
	direct := []Edit{{"system: archive, gateway: vshep", "system: archive, gateway: none"}} // EXC-05: the exclusions bind the gateways alone
	archive := func(flags string) []Edit {
		return []Edit{{"  prefixes: [10.30.1.0/28]\n", "  prefixes: [10.30.1.0/28]\n" + flags}}
	}
	toGateway := flow("archive-lan", "10.30.1.5/32", "gateways", "10.20.0.10/32", ", service: registry-data")
	elsewhere := []Edit{{"toZone: gateways, from: [10.30.1.5/32], to: [10.20.0.10/32], allow: [tcp/443], service: registry-data", "toZone: registry-lan, from: [10.30.1.5/32], to: [10.30.0.5/32], allow: [tcp/443]"}}
	return []Case{
		{Rule: "EXC-01", Value: "vshep", add: service(", certificationAuthority: true"), mend: direct},
		{Rule: "EXC-02", Name: "secrets", Value: "vshep", add: service(""), edit: archive("  stateSecrets: true\n"), mend: direct},
		{Rule: "EXC-02", Name: "official use", Value: "vshep", add: service(""), edit: archive("  officialUse: true\n"), mend: direct},
		{Rule: "EXC-02", Name: "flow", Value: "10.30.1.5/32", add: toGateway, edit: archive("  stateSecrets: true\n"), mend: elsewhere},
		{Rule: "EXC-03", Value: "vshep", add: service(""), edit: archive("  onPlatform: true\n  singleDataSpace: true\n"), mend: direct},
		{Rule: "EXC-03", Name: "flow", Value: "10.30.1.5/32", add: toGateway, edit: archive("  onPlatform: true\n  singleDataSpace: true\n"), mend: elsewhere},
		{Rule: "EXC-04", Value: "vshep", add: service(", openAccess: true, oneWay: true"), mend: direct},
	}
}

// hidden is a tunnel from a zone of the internal contour to partners.
func hidden(hide string) string {
	tunnel := ""
	if hide != "" {
		tunnel = ", tunnel: firm"
	}
	return doc("Peer", "firm", "{side: initiator, publicIP: 198.51.100.50, wireguard: [{farZone: archive-lan, environment: production"+tunnel+", port: 51820, publicKey: BIFybNmYKnvRGiPy3oSJUdyTnDCpQrv+RFlWTvSoCQo=}]}") +
		doc("Tunnel", "firm", "{environment: production, protocol: wireguard, initiator: {peer: firm, zone: partners, prefixes: [10.67.0.0/28]}, owner: {peer: gateway-edge, zone: archive-lan, prefixes: [10.30.1.0/28]"+hide+"}}")
}

func tunnelCases() []Case {
	ipsec := doc("Zone", "corporate", "{contour: internal, kind: lan, prefixes: [10.83.0.0/24]}") +
		doc("Peer", "corporate", "{side: initiator, publicIP: 198.51.100.40, ipsec: [{environment: production, type: fqdn, value: a.example.kz}]}") +
		doc("Tunnel", "corporate", "{environment: production, protocol: ipsec, cryptoModule: vpn-module, ipsec: {encapsulation: esp, proposals: [aes256gcm16-ecp384]}, "+
			"initiator: {peer: corporate, zone: corporate, prefixes: [10.83.0.0/28]}, owner: {peer: gateway-edge, zone: tax-lan, prefixes: [10.31.0.0/28]}}")
	identity := Edit{"  publicIP: 203.0.113.10\n", "  publicIP: 203.0.113.10\n  ipsec: [{environment: production, type: ip, value: 203.0.113.10}]\n"}
	return []Case{
		{Rule: "VPN-05", Value: "udp/51", edit: []Edit{{"allow: [tcp/5432]", "allow: [tcp/5432, udp/51]"}}, mend: []Edit{{", udp/51]", ", udp/51-52]"}}},
		{Rule: "VPN-06", Name: "AH", Value: "ah", add: ipsec, edit: []Edit{identity, {"encapsulation: esp", "encapsulation: ah"}}, mend: []Edit{{"encapsulation: ah", "encapsulation: esp"}}},
		{Rule: "VPN-06", Name: "null", Value: "null-sha256", add: ipsec, edit: []Edit{identity, {"aes256gcm16-ecp384", "null-sha256"}}, mend: []Edit{{"null-sha256", "aes256-sha256"}}},
		{Rule: "CRY-01", Name: "no module", Value: "", edit: []Edit{{"  class: 2\n  contour: internal\n  zone: tax-lan", "  class: 3\n  contour: internal\n  zone: tax-lan"}, {"  cryptoModule: vpn-module\n", ""}},
			mend: []Edit{{"prefixes: [10.31.0.0/28]}\n", "prefixes: [10.31.0.0/28]}\n  cryptoModule: vpn-module\n"}}},
		{Rule: "CRY-01", Name: "certificate ended", Value: "vpn-module", edit: []Edit{{"  class: 2\n  contour: internal\n  zone: tax-lan", "  class: 3\n  contour: internal\n  zone: tax-lan"},
			{"validUntil: \"2040-12-31\"", "validUntil: \"2026-01-31\""}}, mend: []Edit{{"  information: confidential\n", "  information: public\n"}}},
		{Rule: "CRY-02", Name: "class 2", Value: "vpn-module", edit: []Edit{{"  level: 3", "  level: 1"}}, mend: []Edit{{"  level: 1", "  level: 2"}}},
		{Rule: "CRY-02", Name: "the higher of both ends", Value: "vpn-module", edit: []Edit{{"  level: 3", "  level: 2"}, {"  class: 3\n  contour: internal\n  zone: tax-branches", "  class: 1\n  contour: internal\n  zone: tax-branches"}},
			mend: []Edit{{"  level: 2", "  level: 3"}}},
		{Rule: "CRY-02", Name: "no module is level 1", Value: "", edit: []Edit{{"  information: confidential\n", ""}, {"  cryptoModule: vpn-module\n", ""}},
			mend: []Edit{{"  class: 2\n  contour: internal\n  zone: tax-lan", "  class: 3\n  contour: internal\n  zone: tax-lan"}}},
		{Rule: "CRY-04", Name: "to partners", Value: "10.40.0.10/32", add: flow("portal-segment", "10.40.0.10/32", "annex", "10.80.0.5/32", ""), edit: []Edit{{"  internetFacing: true\n", "  internetFacing: true\n  information: personal\n"}},
			mend: []Edit{{"information: personal\n---\napiVersion: shekara/v1\nkind: System\nmetadata: {name: bank-core}", "information: public\n---\napiVersion: shekara/v1\nkind: System\nmetadata: {name: bank-core}"}}},
		{Rule: "CRY-04", Name: "to the Internet", Value: "10.40.0.10/32", add: flow("portal-segment", "10.40.0.10/32", "internet", "0.0.0.0/0", ""), edit: []Edit{{"  internetFacing: true\n", "  internetFacing: true\n  information: confidential\n"}},
			mend: []Edit{{"fromZone: portal-segment, toZone: internet, from: [10.40.0.10/32], to: [0.0.0.0/0]", "fromZone: internet, toZone: portal-segment, from: [0.0.0.0/0], to: [10.40.0.10/32]"}}},
		{Rule: "HID-01", Value: "10.30.1.0/28", add: hidden(""),
			mend: []Edit{{"farZone: archive-lan", "farZone: gateways"}, {"owner: {peer: gateway-edge, zone: archive-lan, prefixes: [10.30.1.0/28]}", "owner: {peer: gateway-edge, zone: gateways, prefixes: [10.20.0.40/32]}"}}},
		{Rule: "HID-01", Name: "behind an internal address", Value: "10.30.1.0/28", add: hidden(", hide: [10.30.1.200/32]"), edit: []Edit{{"    - {farZone: partners, environment: production, port: 51820}\n", "    - {farZone: partners, environment: production, port: 51820}\n    - {farZone: partners, environment: production, tunnel: firm, port: 51830}\n"}},
			mend: []Edit{{"hide: [10.30.1.200/32]", "hide: [10.99.0.1/32]"}}},
	}
}
