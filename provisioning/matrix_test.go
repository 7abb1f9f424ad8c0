package provisioning_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"shekara/firewall"
	"shekara/provisioning"
	"shekara/provisioning/document"
	"shekara/provisioning/validate"
)

// TestMatrixAgreesWithExplain: over random documents, a packet passes where and only where a permission of the matrix holds it, and by that
// permission's document.
func TestMatrixAgreesWithExplain(t *testing.T) {
	passed, dropped := 0, 0
	for seed := range uint64(20) {
		e := newEstate(t, seed)
		m, err := provisioning.MatrixOf(e.set, "owner")
		if err != nil {
			t.Fatal(err)
		}
		packets := e.toBox()
		for n := range 90 {
			packets = append(packets, e.draw(n))
		}
		for _, a := range packets {
			if a.from.location.Appliance {
				continue // it speaks to its zones by no permission, and into tunnels by those of the zone of its address
			}
			x, err := provisioning.ExplainDocuments(e.set, "owner", a.question)
			if err != nil {
				t.Fatal(err)
			}
			if !x.Pass && x.Verdict.Reason != firewall.NoFlow && x.Verdict.Reason != firewall.NoPeer {
				continue // not for want of a permission
			}
			var holding []provisioning.ExplainedDocument
			for _, f := range permissions(m, x.Packet) {
				if holdsPacket(t, f, a) {
					holding = append(holding, f.Document)
				}
			}
			if x.Pass != (len(holding) > 0) {
				t.Fatalf("seed %d: %+v: pass %v, but the matrix holds it by %v", seed, a.question, x.Pass, holding)
			}
			if !x.Pass {
				dropped++
				continue
			}
			passed++
			for _, d := range x.Documents {
				if !slices.Contains(holding, d) {
					t.Fatalf("seed %d: %+v passes by %v, the matrix says by %v", seed, a.question, d, holding)
				}
			}
		}
	}
	if passed < 400 || dropped < 200 {
		t.Errorf("%d pass, %d do not: too few of one kind", passed, dropped)
	}
}

// permissions are those of the cell that the packet goes through.
func permissions(m provisioning.Matrix, p provisioning.ExplainedPacket) []provisioning.MatrixFlow {
	name := func(end provisioning.ExplainedEnd) string {
		for _, place := range m.Places {
			if slices.Contains(place.Interfaces, end.Interface) {
				return place.Name
			}
		}
		return provisioning.LocalInterface
	}
	for _, c := range m.Cells {
		if c.From == name(p.From) && c.To == name(p.To) {
			return c.Flows
		}
	}
	return nil
}

func holdsPacket(t *testing.T, f provisioning.MatrixFlow, a asked) bool {
	t.Helper()
	within := func(list []string, address netip.Addr) bool {
		return slices.ContainsFunc(list, func(text string) bool {
			if text == "this box" || text == "any address" {
				return true
			}
			return netip.MustParsePrefix(text).Contains(address)
		})
	}
	served := slices.ContainsFunc(f.Services, func(text string) bool {
		s, err := document.ParseService(text)
		if err != nil {
			t.Fatal(err)
		}
		protocol, _, _ := strings.Cut(text, "/")
		return protocol == a.packet.Protocol && (s.LastPort == 0 || s.FirstPort <= a.packet.Port && a.packet.Port <= s.LastPort)
	})
	return served && within(f.Sources, a.packet.Source) && within(f.Destinations, a.packet.Destination)
}

// TestMatrixPlaces: each zone as the box meets it, in the order of contours, with the tunnels that lead there, and the box last.
func TestMatrixPlaces(t *testing.T) {
	e := newEstate(t, 1)
	m, err := provisioning.MatrixOf(e.set, "owner")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range m.Places {
		names = append(names, p.Contour+" "+p.Name)
		for _, tunnel := range p.Tunnels {
			names = append(names, tunnel.Name+" of "+tunnel.Peer+" to "+strings.Join(tunnel.Prefixes, ","))
		}
	}
	want := []string{"external agencies", "agency-a of agency-a-edge to 10.64.1.0/28", "agency-b of agency-b-edge to 10.64.2.0/28", "agency-c of agency-c-edge to 10.64.3.0/28",
		"external internet", "integration dmz", "integration screen", "internal admin", " local"}
	if !slices.Equal(names, want) {
		t.Errorf("places are %q, want %q", names, want)
	}
	if box := m.Places[len(m.Places)-1]; !slices.Equal(box.Addresses, []string{"203.0.113.10"}) {
		t.Errorf("the box is %+v", box)
	}
}

// TestWaiversAndRegistersAreShown: a flow that passes only by a waiver says so, in the matrix and where a packet passes by it; gateways and
// systems stand in their zones.
func TestWaiversAndRegistersAreShown(t *testing.T) {
	text := estateBase + `---
apiVersion: shekara/v1
kind: Gateway
metadata: {name: shep}
spec:
  name: {kk: ЭҮШ, ru: ШЭП, en: Gateway}
  kind: shep
  environment: production
  zone: dmz
  prefixes: [10.20.0.10/32]
---
apiVersion: shekara/v1
kind: Flow
metadata: {name: out}
spec: {fromZone: admin, toZone: internet, from: [192.168.100.5/32], to: [198.51.100.7/32], allow: [tcp/443], waiver: {reason: updates, approver: A. Director, expires: "2099-01-31"}}
`
	documents, problems := document.Decode([]document.File{{Name: "waived.yaml", Data: []byte(text)}})
	set := document.NewSet(documents...)
	if problems = append(problems, validate.Check(set, validate.Options{Site: "owner"})...); len(problems) > 0 {
		t.Fatal(problems)
	}
	m, err := provisioning.MatrixOf(set, "owner")
	if err != nil || len(m.Waivers) != 1 || !strings.Contains(m.Waivers[0], "flow out ") {
		t.Errorf("waivers are %q, %v", m.Waivers, err)
	}
	for _, c := range m.Cells {
		for _, f := range c.Flows {
			if (f.Document.Name == "out") != (f.Waiver == "2099-01-31") {
				t.Errorf("%+v has the waiver %q", f.Document, f.Waiver)
			}
		}
	}
	for _, p := range m.Places {
		if (p.Zone == "dmz") != (len(p.Hosts) == 1 && p.Hosts[0].Kind == document.KindGateway && p.Hosts[0].Sort == "shep") {
			t.Errorf("in %s stand %+v", p.Name, p.Hosts)
		}
	}
	x, err := provisioning.ExplainDocuments(set, "owner", provisioning.Question{Source: "192.168.100.5", Destination: "198.51.100.7", Service: "tcp/443"})
	if err != nil || !x.Pass || len(x.Notes) != 1 || !strings.Contains(x.Notes[0], "waiver") {
		t.Errorf("a packet of a flow with a waiver: %+v, %v", x, err)
	}
	// Without a waiver no Flow is suggested, and the paragraph is named.
	x, err = provisioning.ExplainDocuments(set, "owner", provisioning.Question{Source: "192.168.100.5", Destination: "198.51.100.8", Service: "tcp/443"})
	if err != nil || x.Pass || x.Suggestion != "" || !strings.Contains(strings.Join(x.Advice, " "), "paragraph") {
		t.Errorf("what the contour rules forbid: %+v, %v", x, err)
	}
}
