package provisioning

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"shekara/firewall"
	"shekara/firewall/proof"
	"shekara/provisioning/contour"
	"shekara/provisioning/document"
	"shekara/provisioning/validate"
	"shekara/provisioning/verification"
)

// ofContours judges the documents in force by the rules of the acts again, as they are today. These are silent where another problem keeps
// them from judging, so a document with one leaves the statement undecided.
func (d demand) ofContours() verification.Found {
	var found verification.Found
	for _, p := range validate.Check(d.view.set, validate.Options{Site: d.view.site}) {
		if what := fmt.Sprintf("%s %s: %s", p.Kind, p.Name, p.What); slices.ContainsFunc(contour.Rules, func(r contour.Rule) bool { return r.ID == p.Rule }) {
			found.Violations = append(found.Violations, verification.Violation{What: what + ": " + p.Hint})
		} else {
			found.Reasons = append(found.Reasons, what+": what it says cannot be judged")
		}
	}
	return found
}

// crossings says of each packet that passes wrongly between two zones which contours these are of, and what a flow for it would break.
func (d demand) crossings(violations []verification.Violation) {
	judge := contour.For(d.view.set, "")
	for i, v := range violations {
		p := v.Packet
		if p == nil || v.Kind != proof.PassesWrongly && v.Kind != proof.PassesSpoofed {
			continue
		}
		from, to := d.view.set.Zone(d.view.zoneOf(p.In)), d.view.set.Zone(d.view.zoneOf(p.Out))
		if from == nil || to == nil { // of or for this box, or past all zones
			continue
		}
		c := &verification.Crossing{From: verification.Zone{Name: d.view.zoneOf(p.In), Contour: from.Contour}, To: verification.Zone{Name: d.view.zoneOf(p.Out), Contour: to.Contour}}
		f := contour.Flow{From: contour.Side{Zone: c.From.Name, Prefixes: []netip.Prefix{alone(p.Source)}}, To: contour.Side{Zone: c.To.Name, Prefixes: []netip.Prefix{alone(p.Destination)}},
			Services: []firewall.Service{{Protocol: p.Protocol, FirstPort: p.DestinationPort, LastPort: p.DestinationPort}}}
		for _, link := range []string{p.In, p.Out} {
			if device, is := d.view.intent.base.Devices[link]; is {
				f.Tunnel, f.Environment = true, document.Environment(device.Spec.Environment)
			}
		}
		broken, _ := judge.Flow(&f)
		for _, b := range broken {
			c.Breaks = append(c.Breaks, b.Breach())
		}
		violations[i].Crossing = c
	}
}

func waiversText(list []contour.Waived) string {
	words := make([]string, len(list))
	for i, w := range list {
		words[i] = w.String()
	}
	return strings.Join(words, "; ")
}
