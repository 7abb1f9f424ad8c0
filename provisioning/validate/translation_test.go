package validate_test

import (
	"strings"
	"testing"

	"shekara/provisioning/validate"
)

// spareTranslated is a tunnel with the peer spare whose ends are as given, and the devices that it needs.
func spareTranslated(t testing.TB, initiator, owner string) string {
	t.Helper()
	const device = "    - {farZone: agencies, environment: test, port: 51821, mtu: 1400}\n"
	text := strings.Replace(validText(t), device, device+"    - {farZone: agencies, environment: production, tunnel: spare, port: 51830}\n", 1)
	peer := sparePeer
	if strings.Contains(owner, "hide") || strings.Contains(initiator, "hide") {
		peer = strings.Replace(peer, "environment: production,", "environment: production, tunnel: spare,", 1)
	}
	return text + doc("Peer", "spare", peer) + doc("Tunnel", "spare", "{environment: production, protocol: wireguard, initiator: {peer: spare, zone: agencies, "+initiator+
		"}, owner: {peer: owner-a, zone: dmz, "+owner+"}}")
}

// TestTranslated: what may be mapped and hidden is valid, and each mistake is found by itself.
func TestTranslated(t *testing.T) {
	for _, c := range []struct{ name, initiator, owner, flow, what, value string }{
		{"mapped past another agency", "prefixes: [10.64.4.0/28], mapped: [10.64.99.0/28]", "prefixes: [10.20.9.0/28]", "", "", ""},
		{"mapped past a local zone", "prefixes: [192.168.100.0/28], mapped: [10.64.99.0/28]", "prefixes: [10.20.9.0/28]", "", "", ""},
		{"mapped and at both ends", "prefixes: [10.20.9.0/28], mapped: [10.64.99.0/28]", "prefixes: [10.20.9.0/28], hide: [10.99.0.0/28]", "", "", ""},
		{"hidden one to one", "prefixes: [10.64.99.0/28]", "prefixes: [10.20.9.0/28], hide: [10.99.0.0/28]", "{tunnel: spare, from: [10.64.99.1/32], to: [10.20.9.1/32], allow: [tcp/443]}", "", ""},
		{"hidden behind one address", "prefixes: [10.64.99.0/28]", "prefixes: [10.20.9.0/28], hide: [10.99.0.1/32]", "{tunnel: spare, from: [10.20.9.1/32], to: [10.64.99.1/32], allow: [tcp/443]}", "", ""},

		{"overlap without mapping", "prefixes: [10.64.4.0/28]", "prefixes: [10.20.9.0/28], hide: [10.99.0.1/32]", "", "remote prefix overlaps tunnel four", "10.64.4.0/28"},
		{"mapped range overlaps another agency", "prefixes: [192.168.1.0/28], mapped: [10.64.4.0/28]", "prefixes: [10.20.9.0/28]", "", "remote prefix overlaps tunnel four", "10.64.4.0/28"},
		{"mapped range outside the zone", "prefixes: [192.168.1.0/28], mapped: [192.168.2.0/28]", "prefixes: [10.20.9.0/28]", "", "prefix is outside the zone", "192.168.2.0/28"},
		{"mapped to another length", "prefixes: [192.168.1.0/28], mapped: [10.64.99.0/27]", "prefixes: [10.20.9.0/28]", "", "mapped is not one to one", "10.64.99.0/27"},
		{"mapped to fewer", "prefixes: [192.168.1.0/28, 192.168.2.0/28], mapped: [10.64.99.0/28]", "prefixes: [10.20.9.0/28]", "", "mapped is not one to one", "10.64.99.0/28"},
		{"mapped to the other family", "prefixes: [192.168.1.0/28], mapped: [\"2001:db8:64:9::/64\"]", "prefixes: [10.20.9.0/28]", "", "mapped is not one to one", "2001:db8:64:9::/64"},
		{"mapped onto itself", "prefixes: [10.64.99.0/28], mapped: [10.64.99.0/28]", "prefixes: [10.20.9.0/28]", "", "range overlaps what it stands for", "10.64.99.0/28"},
		{"mapped and hides", "prefixes: [192.168.1.0/28], mapped: [10.64.99.0/28], hide: [10.64.98.0/28]", "prefixes: [10.20.9.0/28]", "", "end is mapped and hides", "10.64.99.0/28"},
		{"hidden behind a range", "prefixes: [10.64.99.0/28]", "prefixes: [10.20.9.0/28], hide: [10.99.0.0/30]", "", "hide is neither one to one nor a single address", "10.99.0.0/30"},
		{"one family not hidden", "prefixes: [10.64.99.0/28, \"2001:db8:64:9::/64\"]", "prefixes: [10.20.9.0/28, \"2001:db8:20:9::/64\"], hide: [10.99.0.1/32]", "", "prefix is not hidden", "10.99.0.1/32"},
		{"to who is hidden", "prefixes: [10.64.99.0/28]", "prefixes: [10.20.9.0/28], hide: [10.99.0.1/32]", "{tunnel: spare, from: [10.64.99.1/32], to: [10.20.9.1/32], allow: [tcp/443]}", "destination is hidden behind one address", "10.20.9.1/32"},
		{"at both ends", "prefixes: [10.20.9.0/28], mapped: [10.64.99.0/28]", "prefixes: [10.20.9.0/28]", "", "prefix is at both ends", "10.20.9.0/28"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := spareTranslated(t, c.initiator, c.owner)
			if c.flow != "" {
				text += doc("Flow", "spare", c.flow)
			}
			problems := check(t, text, validate.Options{})
			switch {
			case c.what == "" && len(problems) > 0:
				t.Errorf("refused: %v", problems)
			case c.what != "" && (len(problems) != 1 || problems[0].What != c.what || problems[0].Value != c.value):
				t.Errorf("%v, want one %q of %q", problems, c.what, c.value)
			}
		})
	}
	// The refusal shows the way.
	problems := check(t, strings.Replace(spareTunnel("10.64.4.0/28", "10.20.9.0/28"), "", validText(t), 1), validate.Options{})
	if len(problems) != 1 || !strings.Contains(problems[0].Hint, "write mapped: [a free /28] beside prefixes of the initiator, inside zone agencies") {
		t.Errorf("%v", problems)
	}
	// A tunnel that is translated does not share a device.
	text := strings.Replace(spareTranslated(t, "prefixes: [192.168.1.0/28], mapped: [10.64.99.0/28]", "prefixes: [10.20.9.0/28]"), ", tunnel: spare, port: 51830", ", tunnel: other, port: 51830", 1)
	if problems := check(t, text, validate.Options{}); len(problems) != 1 || problems[0].What != "peer has no WireGuard device for this tunnel alone" {
		t.Errorf("%v", problems)
	}
}
