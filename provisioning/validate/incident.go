package validate

import (
	"fmt"
	"slices"

	"shekara/provisioning/document"
	"shekara/provisioning/incidents"
)

// maxRules bounds what is asked of each event.
const maxRules = 200

func (c *checker) incidentRule(d *document.IncidentRule) {
	for i, site := range d.Sites {
		at := document.Index("spec.sites", i)
		if c.reference(at, document.KindSite, site) && slices.Contains(d.Sites[:i], site) {
			c.add(at, "site is listed twice", site, "remove one of them", "")
		}
	}
	if d.Off && !incidents.IsBuiltIn(c.doc.Name) {
		c.add("spec.off", "there is no built-in rule of this name", c.doc.Name, "docs/incidents.md lists them; a rule of your own is put out of force by removing it", "")
	}
	before := 0
	for other := range c.set.Of(document.KindIncidentRule) {
		if other.Name != c.doc.Name && c.later(other.Ref()) {
			if before++; before >= maxRules {
				c.add("spec", "too many rules", c.doc.Name, fmt.Sprintf("there may be %d: join those that differ in one value by by", maxRules), "")
				return
			}
		}
	}
	if c.doc.Broken("spec") {
		return
	}
	_, problems := incidents.Rule(c.doc.Name, d)
	for _, p := range problems {
		c.add(p.Path, p.What, p.Value, p.Hint, "")
	}
}
