package validate

import (
	"fmt"

	"shekara/provisioning/document"
)

func (c *checker) zone(z *document.Zone) {
	c.oneOf("spec.contour", z.Contour, "internal", "external", "integration")
	c.oneOf("spec.kind", z.Kind, "ets-go", "lan", "dedicated-segment", "screened-subnet", "partners", "internet", "management")
	if len(z.Prefixes) == 0 && z.Kind != "internet" {
		c.add("spec.prefixes", "zone without prefixes", "", "list what the zone holds; only kind internet goes without", "")
	}
	for _, p := range c.prefixes("spec.prefixes", z.Prefixes) {
		if p.Bits() == 0 {
			c.add(p.path, "zone holds every address", p.written, "leave prefixes out: a zone of kind internet holds all that no other zone claims", "")
			continue
		}
		for other, h := range c.set.Zones(p.Prefix) {
			if h.Ref != c.doc.Ref() && c.later(h.Ref) {
				c.add(p.path, "prefix overlaps zone "+h.Name, p.written, fmt.Sprintf("zone %s holds %s: an address lies in one zone", h.Name, other), "")
				break
			}
		}
	}
	if z.Organisation != "" {
		c.reference("spec.organisation", document.KindOrganisation, z.Organisation)
	}
	if c.sound() {
		c.contours(c.judge.Zone(z))
	}
}
