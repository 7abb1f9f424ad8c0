package validate_test

import (
	"fmt"
	"strings"
	"testing"

	"shekara/provisioning/document"
	"shekara/provisioning/validate"
)

func TestPublicIPOutsideALab(t *testing.T) {
	inLab := []string{"10.1.2.3", "172.31.0.1", "192.168.1.1", "100.64.0.1", "100.127.255.254", "192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1",
		"198.19.255.254", "2001:db8::1", "3fff::1", "2001:2::1", "fd00::1", "fc00::1"}
	never := []string{"0.0.0.0", "127.0.0.1", "169.254.9.9", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "ff02::1", "4000::1"}
	always := []string{"1.0.0.1", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "198.17.0.1", "223.255.255.254", "2a00::1", "2001:200::1", "2620:fe::fe"}
	for _, c := range []struct {
		addresses   []string
		lab, public bool
	}{{inLab, true, false}, {never, false, false}, {always, true, true}} {
		for _, a := range c.addresses {
			text := doc("Site", "s", "{lab: %t, peers: [], interfaces: []}") + doc("Peer", "p", fmt.Sprintf("{side: owner, publicIP: %q}", a))
			for _, lab := range []bool{false, true} {
				problems := check(t, fmt.Sprintf(text, lab), validate.Options{})
				fine := c.public
				if lab {
					fine = c.lab
				}
				if (len(problems) == 0) != fine {
					t.Errorf("%s with lab %t: %v", a, lab, problems)
				}
				for _, p := range problems {
					if p.Rule != "VPN-01" || p.Value != a {
						t.Errorf("%s: %+v", a, p)
					}
				}
			}
		}
	}
}

// Which Site decides: the one that lists the peer; else this box's; else, with no box in particular, any.
func TestWhichSiteGoverns(t *testing.T) {
	text := doc("Site", "lab", "{lab: true, peers: [a], interfaces: []}") + doc("Site", "real", "{peers: [b], interfaces: []}") +
		doc("Peer", "a", "{side: owner, publicIP: 192.0.2.1}") + doc("Peer", "b", "{side: owner, publicIP: 192.0.2.2}") + doc("Peer", "far", "{side: initiator, publicIP: 192.0.2.3}")
	for site, want := range map[string]string{"": "b", "lab": "b", "real": "b far"} {
		var named []string
		for _, p := range check(t, text, validate.Options{Site: site}) {
			named = append(named, p.Name)
		}
		if got := strings.Join(named, " "); got != want {
			t.Errorf("site %q: problems of %q, want %q", site, got, want)
		}
	}
}

func TestWhoMayLackAPublicKey(t *testing.T) {
	text := doc("Zone", "z", "{contour: external, kind: internet}") + doc("Site", "one", "{lab: true, peers: [a], interfaces: []}") + doc("Site", "two", "{lab: true, peers: [b], interfaces: []}")
	for i, name := range []string{"a", "b", "far"} {
		text += doc("Peer", name, fmt.Sprintf("{side: owner, publicIP: 192.0.2.%d, wireguard: [{farZone: z, environment: test, port: 1}]}", i+1))
	}
	text = strings.Replace(text, "lab: true, peers: [b]", "lab: true, peers: [b]", 1)
	for site, want := range map[string]string{"": "far", "one": "b far", "two": "a far"} {
		var named []string
		for _, p := range check(t, text, validate.Options{Site: site}) {
			named = append(named, p.Name)
		}
		if got := strings.Join(named, " "); got != want {
			t.Errorf("site %q: problems of %q, want %q", site, got, want)
		}
	}
}

func TestMissingSite(t *testing.T) {
	problems := check(t, validText(t), validate.Options{Site: "ownr"})
	if len(problems) == 0 || problems[0].What != "no Site document" || !strings.Contains(problems[0].Hint, "owner") {
		t.Errorf("got %v", problems)
	}
}

// Ten mistakes in one file are ten problems, each with its line.
func TestTenMistakesAreTenProblems(t *testing.T) {
	text := validText(t)
	mistakes := []struct{ old, new string }{
		{"contour: integration", "contour: integrated"}, {"kind: partners", "knid: partners"}, {"name: adm0", "name: administrative00"},
		{"port: 51821, mtu: 1400", "port: many, mtu: 1400"}, {"four.example.kz", "four example"}, {"behindNAT: true", "behindNAT: yes"},
		{"10.64.4.0/28", "10.64.4.1/28"}, {"presharedKey: four-test", "presharedKey: four"}, {"tunnel: six,", "tunnel: sic,"}, {"tcp/443]}\n---", "tcp/70000]}\n---"},
	}
	lines := map[int]bool{}
	for _, m := range mistakes {
		before, _, found := strings.Cut(text, m.old)
		if !found {
			t.Fatalf("%q is not in the valid documents", m.old)
		}
		lines[strings.Count(before, "\n")+1] = true
		text = before + m.new + strings.TrimPrefix(text[len(before):], m.old)
	}
	problems := check(t, text, validate.Options{})
	for _, p := range problems {
		if !lines[p.Position.Line] {
			t.Errorf("unexpected: %s", p)
		}
		delete(lines, p.Position.Line)
	}
	if len(problems) != len(mistakes) || len(lines) != 0 {
		t.Errorf("%d problems for %d mistakes; lines without one: %v\n%v", len(problems), len(mistakes), lines, problems)
	}
}

func TestValidKeepsTheRest(t *testing.T) {
	text := strings.Replace(validText(t), "10.64.4.0/28", "10.64.4.1/28", 1)
	text = strings.Replace(text, "publicIP: 2001:db8:e::6", "publicIp: 2001:db8:e::6", 1)
	documents, before := document.Decode([]document.File{{Name: "test.yaml", Data: []byte(text)}})
	set := document.NewSet(documents...)
	rest, problems := validate.Valid(set, validate.Options{Site: "owner"}, before)
	var kept []string
	for d := range rest.All() {
		kept = append(kept, d.Ref().String())
	}
	const want = "EventSink centre, EventSink copy, Flow mirror, Flow updates, Peer four, Peer nat, Peer owner-a, Peer owner-b, Peer sec, Site owner, TimeService owner-time, Tunnel four-test, Tunnel nat, Tunnel sec, Zone admin, Zone agencies, Zone dmz, Zone internet"
	if got := strings.Join(kept, ", "); got != want {
		t.Errorf("kept %s\nwant %s", got, want)
	}
	if left := validate.Check(rest, validate.Options{Site: "owner"}); len(left) > 0 {
		t.Errorf("the rest is not valid: %v", left)
	}
	for _, p := range problems {
		if p.Name != "four" && p.Name != "six" && p.Name != "four-https" && p.Name != "four-back" && p.Name != "six-https" {
			t.Errorf("unexpected: %s", p)
		}
	}
}
