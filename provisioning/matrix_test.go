package provisioning_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"shekara/firewall"
	"shekara/provisioning"
	"shekara/provisioning/document"
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
		for n := range 90 {
			a := e.draw(n)
			x, err := provisioning.ExplainDocuments(e.set, "owner", a.question)
			if err != nil {
				t.Fatal(err)
			}
			if !x.Pass && x.Verdict.Reason != firewall.NoFlow {
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
