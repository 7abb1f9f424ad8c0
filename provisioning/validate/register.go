package validate

import (
	"fmt"
	"iter"
	"regexp"
	"slices"
	"strings"

	"shekara/provisioning/document"
)

// register checks the kinds that are facts alone.
func (c *checker) register(spec any) {
	switch s := spec.(type) {
	case *document.Organisation:
		c.organisation(s)
	case *document.System:
		c.system(s)
	case *document.Gateway:
		c.gateway(s)
	case *document.Service:
		c.service(s)
	case *document.CryptoModule:
		c.cryptoModule(s)
	case *document.Assertion:
		c.assertion(s)
	case *document.EventSink:
		c.sink(s)
	case *document.IncidentRule:
		c.incidentRule(s)
	case *document.TimeService:
		c.timeService(s)
	}
}

// assertion checks the form. Whether it holds is asked of the rules, by provisioning.
func (c *checker) assertion(a *document.Assertion) {
	c.reference("spec.site", document.KindSite, a.Site)
	c.oneOf("spec.require", a.Require, "mustReach", "mustNotReach")
	for path, list := range map[string][]string{"spec.from": a.From, "spec.to": a.To} {
		if len(list) == 0 {
			c.add(path, "assertion without prefixes", "", "list prefixes, as 10.64.1.5/32", "")
		}
	}
	from, to := c.prefixes("spec.from", a.From), c.prefixes("spec.to", a.To)
	if _, err := document.ParseService(a.Service); err != nil {
		c.syntax("spec.service", a.Service, err)
	}
	all := slices.Concat(from, to)
	c.families(all)
	c.family("spec.service", a.Service, all)
}

func (c *checker) organisation(o *document.Organisation) {
	c.people(o.Name)
	c.oneOf("spec.kind", o.Kind, "state-body", "subordinate", "authorised-body", "operator", "quasi-state", "private", "foreign", "service-integrator",
		"certification-authority", "ocib", "state-ocib")
	switch {
	case o.BIN == "" && o.Kind != "foreign":
		c.add("spec.bin", "organisation without a BIN", "", "write its 12 digits, in quotes; only kind foreign goes without", "")
	case o.BIN != "":
		if err := document.ParseBIN(o.BIN); err != nil {
			c.syntax("spec.bin", o.BIN, err)
		}
		c.once("spec.bin", "BIN is used twice", o.BIN, c.set.BINs(o.BIN))
	}
	for i, k := range o.Contracts {
		path := document.Index("spec.contracts", i)
		c.reference(path+".with", document.KindOrganisation, k.With)
		if k.With == c.doc.Name {
			c.add(path+".with", "contract with itself", k.With, "name the other organisation", "GWY-02")
		}
		c.text(path+".number", k.Number)
		if c.date(path+".date", k.Date) && c.date(path+".until", k.Until) && k.Until < k.Date {
			c.add(path+".until", "contract ends before it begins", k.Until, "it was made on "+k.Date+": write a later day", "GWY-02")
		}
	}
}

func (c *checker) system(s *document.System) {
	c.people(s.Name)
	c.reference("spec.organisation", document.KindOrganisation, s.Organisation)
	if s.Class < 1 || s.Class > 3 {
		c.add("spec.class", "class out of range", fmt.Sprint(s.Class), "write 1, 2 or 3", "CRY-03")
	}
	c.oneOf("spec.contour", s.Contour, "internal", "external", "integration")
	c.reference("spec.zone", document.KindZone, s.Zone)
	c.party(s.Prefixes)
	if s.Information != "" {
		c.oneOf("spec.information", s.Information, "public", "confidential", "personal")
	}
	if c.sound() {
		c.contours(c.judge.System(s))
	}
}

func (c *checker) gateway(g *document.Gateway) {
	c.people(g.Name)
	c.oneOf("spec.kind", g.Kind, "shep", "vshep", "national", "payment")
	c.oneOf("spec.environment", string(g.Environment), "test", "production")
	hasZone := c.reference("spec.zone", document.KindZone, g.Zone)
	for _, p := range c.party(g.Prefixes) {
		if zone := c.set.Zone(g.Zone); hasZone && !c.inside(zone, p.Prefix) {
			c.add(p.path, "prefix is outside the zone", p.written, zoneText(g.Zone, zone)+": write prefixes inside it", "")
		}
	}
	if o := g.IndustrialOperation; o != nil {
		c.text("spec.industrialOperation.number", o.Number)
		c.date("spec.industrialOperation.date", o.Date)
	}
}

// party checks the addresses of a System or Gateway: each is of one.
func (c *checker) party(list []string) []prefix {
	if len(list) == 0 {
		c.add("spec.prefixes", "without addresses", "", "list its addresses, as 10.64.1.5/32", "GWY-10")
	}
	made := c.prefixes("spec.prefixes", list)
	for _, p := range made {
		for other, h := range c.set.Parties(p.Prefix) {
			if h.Ref != c.doc.Ref() && c.later(h.Ref) {
				c.add(p.path, "address is of two parties", p.written, fmt.Sprintf("%s has %s: an address is of one System or Gateway", h.Ref, other), "GWY-10")
				break
			}
		}
	}
	return made
}

// serviceCode is the form of the codes in the register of services.
var serviceCode = regexp.MustCompile(`^[A-Z]{2,12}-S-[0-9]{1,6}$`)

func (c *checker) service(s *document.Service) {
	c.people(s.Name)
	if !serviceCode.MatchString(s.Code) {
		c.add("spec.code", "not a code of the register", s.Code, "write it as MIND-S-2147", "DEF-22")
	}
	c.once("spec.code", "code is used twice", s.Code, c.set.ServiceCodes(s.Code))
	c.reference("spec.system", document.KindSystem, s.System)
	c.oneOf("spec.gateway", s.Gateway, "shep", "vshep", "national", "payment", "none")
	if c.sound() {
		c.contours(c.judge.Service(s))
	}
}

func (c *checker) cryptoModule(m *document.CryptoModule) {
	c.text("spec.product", m.Product)
	c.oneOf("spec.kind", m.Kind, "software", "hardware")
	c.text("spec.certificate", m.Certificate)
	if m.Level < 1 || m.Level > 4 {
		c.add("spec.level", "level out of range", fmt.Sprint(m.Level), "write 1 to 4, as the certificate has it", "CRY-01")
	}
	c.date("spec.validUntil", m.ValidUntil)
}

// people checks a name in three languages.
func (c *checker) people(n document.Names) {
	c.text("spec.name.kk", n.KK)
	c.text("spec.name.ru", n.RU)
	c.text("spec.name.en", n.EN)
}

func (c *checker) text(path, value string) {
	if strings.TrimSpace(value) == "" {
		c.add(path, "nothing is written", value, "write what it is called", "")
	}
}

func (c *checker) date(path, value string) bool {
	_, err := document.ParseDate(value)
	if err != nil {
		c.syntax(path, value, err)
	}
	return err == nil
}

// once reports a value that a document which came before has too.
func (c *checker) once(path, what, value string, holders iter.Seq[document.Holder]) {
	for h := range holders {
		if h.Ref != c.doc.Ref() && c.later(h.Ref) {
			c.add(path, what, value, fmt.Sprintf("%s has it too: write another, or remove one of them", h.Ref), "")
			return
		}
	}
}
