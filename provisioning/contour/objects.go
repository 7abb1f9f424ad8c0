package contour

import (
	"fmt"
	"slices"
	"strings"

	"shekara/provisioning/document"
)

// kindOutsideContour holds those kinds to a contour of which the acts say what is in it. The external one is where state bodies meet persons
// and legal entities, so partners are there; a screened subnet stands between it and the internal one, and is said to be an internal network
// (Order 653, 6(14)m), so it is of any contour but the external. Of a LAN, and of the network that an appliance is managed from, they say
// nothing: a private body has both, and is of the external contour.
func kindOutsideContour(z *document.Zone) *breach {
	fits := map[string][]string{"internet": {"external"}, "dedicated-segment": {"external"}, "partners": {"external"}, "ets-go": {"internal"}, "screened-subnet": {"integration", "internal"}}
	if want, bound := fits[z.Kind]; bound && !slices.Contains(want, z.Contour) {
		return &breach{"spec.contour", z.Contour, fmt.Sprintf("a zone of kind %s is of the %s contour", z.Kind, strings.Join(want, " or "))}
	}
	return nil
}

func etsWithInternet(z *document.Zone) *breach {
	if z.Kind == "ets-go" && z.InternetAccess {
		return &breach{"spec.internetAccess", "true", "LANs with Internet access are no part of ETS GO"}
	}
	return nil
}

func systemOfOtherContour(j *Judge, s *document.System) *breach {
	if z := j.zone(s.Zone); z != nil && z.Contour != s.Contour {
		return &breach{"spec.contour", s.Contour, fmt.Sprintf("zone %s is of the %s contour", s.Zone, z.Contour)}
	}
	return nil
}

func systemOutsideZone(j *Judge, s *document.System) *breach {
	z := j.zone(s.Zone)
	if z == nil {
		return nil
	}
	for i, text := range s.Prefixes {
		p, err := document.ParsePrefix(text)
		if err != nil {
			continue
		}
		inside := len(z.Prefixes) == 0 // such a zone holds what no other does
		for q, h := range j.set.Zones(p) {
			if len(z.Prefixes) == 0 {
				inside = false
			} else {
				inside = inside || h.Name == s.Zone && q.Bits() <= p.Bits()
			}
		}
		if !inside {
			return &breach{document.Index("spec.prefixes", i), text, "zone " + s.Zone + " does not hold it"}
		}
	}
	return nil
}

func internetSystemElsewhere(j *Judge, s *document.System) *breach {
	if z := j.zone(s.Zone); s.InternetFacing && z != nil && z.Kind != "dedicated-segment" {
		return &breach{"spec.zone", s.Zone, fmt.Sprintf("it is used over the Internet, and zone %s is of kind %s", s.Zone, z.Kind)}
	}
	return nil
}

// managementFromOutside refuses the zones in which are others than those who manage: whoever reaches a segment from the Internet, and the Internet
// itself, also where a host of the zone brings it along. Partners are not refused: to an agency's own appliance that is what its own LAN is called.
func managementFromOutside(j *Judge, zone string) *breach {
	z := j.zone(zone)
	switch {
	case z == nil:
	case z.Kind == "internet" || z.Kind == "dedicated-segment":
		return &breach{"spec.management.zone", zone, "zone " + zone + " is of kind " + z.Kind}
	case z.InternetAccess:
		return &breach{"spec.management.zone", zone, "the hosts of zone " + zone + " reach the Internet"}
	}
	return nil
}

// integrates reports whether the exclusions of paragraph 3 speak of the kind of gateway (EXC-05).
func integrates(kind string) bool { return kind == "shep" || kind == "vshep" }

func serviceOfAuthority(_ *Judge, s *document.Service) *breach {
	if integrates(s.Gateway) && s.CertificationAuthority {
		return &breach{"spec.gateway", s.Gateway, "a certification authority gives the service"}
	}
	return nil
}

func openDataService(_ *Judge, s *document.Service) *breach {
	if integrates(s.Gateway) && s.OpenAccess && s.OneWay {
		return &breach{"spec.gateway", s.Gateway, "the service only gives out open data"}
	}
	return nil
}

func secretService(j *Judge, s *document.Service) *breach {
	if y := j.set.System(s.System); y != nil && integrates(s.Gateway) && (y.StateSecrets || y.OfficialUse) {
		return &breach{"spec.gateway", s.Gateway, "system " + s.System + " holds state secrets or information for official use"}
	}
	return nil
}

func dataSpaceService(j *Judge, s *document.Service) *breach {
	if y := j.set.System(s.System); y != nil && integrates(s.Gateway) && y.OnPlatform && y.SingleDataSpace {
		return &breach{"spec.gateway", s.Gateway, "system " + s.System + " is of the single data space on the platform"}
	}
	return nil
}

// internetSide reports whether the zone's hosts reach the Internet.
func internetSide(z *document.Zone) bool { return z.InternetAccess || z.Kind == "internet" }

// joinsInternet names the two zones if one is of ETS GO and the hosts of the other reach the Internet. ВШЭП is the way between them
// (paragraph 2(26)).
func joinsInternet(a, b *Side) *breach {
	for _, x := range [][2]*Side{{a, b}, {b, a}} {
		ets, lan := x[0], x[1]
		if ets.zone.Kind != "ets-go" || !internetSide(lan.zone) {
			continue
		}
		if g := ets.gateway(); g != nil && g.Kind == "vshep" {
			continue
		}
		return lan.at("zone %s is of ETS GO, and the hosts of zone %s reach the Internet", ets.Zone, lan.Zone)
	}
	return nil
}

func tunnelJoinsInternet(_ *Judge, t *Tunnel) *breach { return joinsInternet(&t.Initiator, &t.Owner) }

// internalSelector is HID-01 as far as selectors show addresses: what stands in them the far side knows. None may be of a zone of the
// internal contour.
func internalSelector(j *Judge, t *Tunnel) *breach {
	for _, x := range [][2]*Side{{&t.Initiator, &t.Owner}, {&t.Owner, &t.Initiator}} {
		inside, outside := x[0], x[1]
		if inside.zone.Contour != "internal" || outside.zone.Contour != "external" {
			continue
		}
		for _, p := range inside.Shown {
			for _, h := range j.set.Zones(p) {
				if z := j.zone(h.Name); z != nil && z.Contour == "internal" {
					return inside.at("zone %s is internal, the other end, in zone %s, is external, and %s of zone %s would stand in the tunnel", inside.Zone, outside.Zone, p, h.Name)
				}
			}
		}
	}
	return nil
}

// restricted are the systems behind the tunnel whose information must be encrypted on the way.
func (t *Tunnel) restricted() []string {
	var names []string
	for _, p := range slices.Concat(t.Initiator.systems(), t.Owner.systems()) {
		if p.system.Restricted() {
			names = append(names, p.name)
		}
	}
	return names
}

func tunnelInTheClear(_ *Judge, t *Tunnel) *breach {
	names := t.restricted()
	if t.IPsec == nil || len(names) == 0 {
		return nil
	}
	who := "it reaches " + strings.Join(names, ", ")
	if t.IPsec.Encapsulation == "ah" {
		return &breach{"spec.ipsec.encapsulation", "ah", "AH does not encrypt, and " + who}
	}
	for i, p := range t.IPsec.Proposals {
		if slices.Contains(strings.Split(p, "-"), "null") {
			return &breach{document.Index("spec.ipsec.proposals", i), p, "null does not encrypt, and " + who}
		}
	}
	return nil
}

// module is the module of the tunnel, nil if it names none, or its certificate is no longer valid.
func (j *Judge) module(t *Tunnel) *document.CryptoModule {
	if t.CryptoModule == "" {
		return nil
	}
	m := j.set.CryptoModule(t.CryptoModule)
	if m == nil || m.Certificate == "" || m.ValidUntil < j.day {
		return nil
	}
	return m
}

func tunnelWithoutModule(j *Judge, t *Tunnel) *breach {
	names := t.restricted()
	if len(names) == 0 || j.module(t) != nil {
		return nil
	}
	why := "no module is named"
	if m := j.set.CryptoModule(t.CryptoModule); m != nil {
		why = "the certificate of the module ended with " + m.ValidUntil
	}
	return &breach{"spec.cryptoModule", t.CryptoModule, why + ", and the tunnel reaches " + strings.Join(names, ", ")}
}

// RequiredLevel is the security level of ST RK 1073-2007 for a class: the numbers run in opposite directions (CRY-02).
func RequiredLevel(class int) int { return 4 - class }

// tunnelLevel asks for the higher of the levels that the systems at both ends need.
func tunnelLevel(j *Judge, t *Tunnel) *breach {
	level := 1
	if m := j.module(t); m != nil {
		level = m.Level
	}
	need, who := 0, ""
	for _, p := range slices.Concat(t.Initiator.systems(), t.Owner.systems()) {
		if l := RequiredLevel(p.system.Class); l > need {
			need, who = l, fmt.Sprintf("system %s of class %d", p.name, p.system.Class)
		}
	}
	if need <= level {
		return nil
	}
	return &breach{"spec.cryptoModule", t.CryptoModule, fmt.Sprintf("it is %d, and %s needs %d", level, who, need)}
}
