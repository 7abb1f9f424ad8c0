package validate

import (
	"fmt"
	"slices"

	"shekara/provisioning/document"
	"shekara/provisioning/incidents"
)

const (
	// maxRules bounds what is asked of each event.
	maxRules = 200
	// maxRuleEvents bounds what the rules are held to in one check, which keeps others waiting.
	maxRuleEvents = 100_000
)

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
	before, events := 0, incidents.Events(d)
	for other := range c.set.Of(document.KindIncidentRule) {
		if other.Name != c.doc.Name && c.later(other.Ref()) {
			if before++; before >= maxRules {
				c.add("spec", "too many rules", c.doc.Name, fmt.Sprintf("there may be %d: join those that differ in one value by by", maxRules), "")
				return
			}
			if events += incidents.Events(other.Spec.(*document.IncidentRule)); events > maxRuleEvents {
				c.add("spec.tests", "too many events in the tests of all rules", fmt.Sprintf("more than %d", maxRuleEvents), "ask for fewer times: this rule and those before it go beyond", "")
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
