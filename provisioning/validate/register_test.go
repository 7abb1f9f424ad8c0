package validate_test

import (
	"slices"
	"strings"
	"testing"

	"shekara/provisioning/validate"
)

func registerCases() []broken {
	return []broken{
		{"zone organisation unknown", "organisation: tax-body\n  prefixes", "organisation: tax-bodi\n  prefixes", "there is no Organisation", "tax-bodi", ""},
		{"organisation kind", "kind: private", "kind: privat", "unknown value", "privat", ""},
		{"organisation without BIN", "  bin: \"240340000059\"\n", "", "organisation without a BIN", "", ""},
		{"BIN short", "240340000059", "24034000005", "not a BIN", "24034000005", ""},
		{"BIN letters", "240340000059", "24034000005X", "not a BIN", "24034000005X", ""},
		{"BIN month", "240340000059", "241340000059", "BIN with a wrong month", "241340000059", ""},
		{"BIN digit", "240340000059", "240340000058", "BIN with a wrong check digit", "240340000058", ""},
		{"BIN twice", "240340000059", "250140000013", "BIN is used twice", "250140000013", ""},
		{"name empty", "kk: Банк,", "kk: \"\",", "nothing is written", "", ""},
		{"contract with nobody", "{with: bank,", "{with: banc,", "there is no Organisation", "banc", ""},
		{"contract with itself", "{with: bank,", "{with: registry-body,", "contract with itself", "registry-body", "GWY-02"},
		{"contract without number", "number: ИБ-7", "number: \"\"", "nothing is written", "", ""},
		{"contract date", "\"2026-02-02\"", "02.02.2026", "not a date", "02.02.2026", ""},
		{"contract backwards", "\"2026-02-02\"", "\"2041-01-01\"", "contract ends before it begins", "2040-12-31", "GWY-02"},
		{"system organisation unknown", "organisation: registry-body\n  class: 3", "organisation: registry\n  class: 3", "there is no Organisation", "registry", ""},
		{"class 0", "organisation: registry-body\n  class: 3", "organisation: registry-body\n  class: 0", "class out of range", "0", "CRY-03"},
		{"class 4", "organisation: registry-body\n  class: 3", "organisation: registry-body\n  class: 4", "class out of range", "4", "CRY-03"},
		{"system contour", "contour: internal\n  zone: archive-lan", "contour: inner\n  zone: archive-lan", "unknown value", "inner", ""},
		{"system zone unknown", "contour: internal\n  zone: archive-lan", "contour: internal\n  zone: archive", "there is no Zone", "archive", ""},
		{"system without addresses", "", doc("System", "s", "{name: {kk: a, ru: b, en: c}, organisation: bank, class: 3, contour: external, zone: partners, prefixes: []}"), "without addresses", "", "GWY-10"},
		{"system address twice", "", doc("System", "s", "{name: {kk: a, ru: b, en: c}, organisation: bank, class: 3, contour: external, zone: partners, prefixes: [10.64.1.8/32]}"), "address is of two parties", "10.64.1.8/32", "GWY-10"},
		{"information", "information: confidential", "information: secret", "unknown value", "secret", ""},
		{"gateway kind", "kind: vshep", "kind: wshep", "unknown value", "wshep", ""},
		{"gateway environment", "environment: production\n  zone: gateways\n  prefixes: [10.20.0.20/32]", "environment: live\n  zone: gateways\n  prefixes: [10.20.0.20/32]", "unknown value", "live", ""},
		{"gateway outside its zone", "", doc("Gateway", "g", "{name: {kk: a, ru: b, en: c}, kind: payment, environment: test, zone: gateways, prefixes: [10.21.0.1/32]}"), "prefix is outside the zone", "10.21.0.1/32", ""},
		{"gateway zone unknown", "", doc("Gateway", "g", "{name: {kk: a, ru: b, en: c}, kind: payment, environment: test, zone: gate, prefixes: [10.20.0.77/32]}"), "there is no Zone", "gate", ""},
		{"order date", "\"15\", date: \"2026-01-15\"", "\"15\", date: \"2026-15-01\"", "not a date", "2026-15-01", ""},
		{"service code", "RGST-S-101", "RGST-101", "not a code of the register", "RGST-101", "DEF-22"},
		{"service code twice", "RGST-S-102", "RGST-S-101", "code is used twice", "RGST-S-101", ""},
		{"service system unknown", "", doc("Service", "s", "{name: {kk: a, ru: b, en: c}, code: AB-S-1, system: none, gateway: none}"), "there is no System", "none", ""},
		{"service gateway", "gateway: shep\n", "gateway: sheep\n", "unknown value", "sheep", ""},
		{"module kind", "kind: software", "kind: firmware", "unknown value", "firmware", ""},
		{"module level", "level: 3", "level: 5", "level out of range", "5", "CRY-01"},
		{"module without certificate", "certificate: KZ-0001 (a sample)", "certificate: \" \"", "nothing is written", " ", ""},
		{"module date", "validUntil: \"2040-12-31\"", "validUntil: never", "not a date", "never", ""},
		{"tunnel module unknown", "cryptoModule: vpn-module", "cryptoModule: vpn", "there is no CryptoModule", "vpn", ""},
		{"flow service unknown", "[10.31.0.5/32], to: [10.20.0.10/32], allow: [tcp/443], service: registry-data", "[10.31.0.5/32], to: [10.20.0.10/32], allow: [tcp/443], service: registry-date", "there is no Service", "registry-date", ""},
		{"waiver without reason", "allow: [tcp/5432]", "allow: [tcp/5432], waiver: {reason: \"\", approver: a, expires: \"2030-01-01\"}", "waiver without a reason", "", "ARC-03"},
		{"waiver without approver", "allow: [tcp/5432]", "allow: [tcp/5432], waiver: {reason: r, approver: \"\", expires: \"2030-01-01\"}", "waiver without an approver", "", "ARC-03"},
		{"waiver date", "allow: [tcp/5432]", "allow: [tcp/5432], waiver: {reason: r, approver: a, expires: \"2030-02-30\"}", "not a date", "2030-02-30", ""},
	}
}

func assertionCases() []broken {
	assertion := func(spec string) string { return doc("Assertion", "a", spec) }
	return []broken{
		{"assertion site unknown", "", assertion("{site: gate, require: mustReach, from: [10.64.1.5/32], to: [10.20.0.20/32], service: tcp/443}"), "there is no Site", "gate", ""},
		{"assertion require", "", assertion("{site: gateway, require: mustReech, from: [10.64.1.5/32], to: [10.20.0.20/32], service: tcp/443}"), "unknown value", "mustReech", ""},
		{"assertion without from", "", assertion("{site: gateway, require: mustReach, from: [], to: [10.20.0.20/32], service: tcp/443}"), "assertion without prefixes", "", ""},
		{"assertion without to", "", assertion("{site: gateway, require: mustReach, from: [10.64.1.5/32], to: [], service: tcp/443}"), "assertion without prefixes", "", ""},
		{"assertion prefix", "", assertion("{site: gateway, require: mustReach, from: [10.64.1.5], to: [10.20.0.20/32], service: tcp/443}"), "prefix has no length", "10.64.1.5", ""},
		{"assertion service", "", assertion("{site: gateway, require: mustReach, from: [10.64.1.5/32], to: [10.20.0.20/32], service: https}"), "unknown service", "https", ""},
		{"assertion families", "", assertion(`{site: gateway, require: mustReach, from: [10.64.1.5/32], to: ["2001:db8::/32"], service: tcp/443}`), "address families mixed", "2001:db8::/32", ""},
		{"assertion icmp", "", assertion("{site: gateway, require: mustReach, from: [10.64.1.5/32], to: [10.20.0.20/32], service: icmpv6}"), "address families mixed", "icmpv6", ""},
	}
}

func TestEachRegisterRuleBrokenAlone(t *testing.T) {
	base := ""
	for _, name := range []string{"zones", "registers", "site"} {
		base += example(t, name) + "---\n"
	}
	base = strings.TrimSuffix(base, "---\n")
	if p := check(t, base, validate.Options{Day: dayOfCases}); len(p) > 0 {
		t.Fatal(p)
	}
	for _, c := range slices.Concat(registerCases(), assertionCases(), sinkCases(), incidentCases(), timeCases()) {
		t.Run(c.name, func(t *testing.T) {
			text := base + c.new
			if c.old != "" {
				if !strings.Contains(base, c.old) {
					t.Fatalf("%q is not in the example", c.old)
				}
				text = strings.Replace(base, c.old, c.new, 1)
			}
			problems := check(t, text, validate.Options{Day: dayOfCases})
			if len(problems) != 1 {
				t.Fatalf("%d problems, want one:\n%v", len(problems), problems)
			}
			p := problems[0]
			if !strings.HasPrefix(p.What, c.what) || p.Value != c.value || p.Rule != c.rule || p.Hint == "" {
				t.Errorf("got %s (rule %q)\nwant %s: %q (rule %q)", p, p.Rule, c.what, c.value, c.rule)
			}
			if line := strings.Split(text, "\n")[p.Position.Line-1]; !strings.Contains(line, c.value) {
				t.Errorf("%q is not on line %d: %s", c.value, p.Position.Line, line)
			}
		})
	}
}
