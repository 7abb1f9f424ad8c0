package contour

import (
	"slices"
	"strings"

	"shekara/firewall"
	"shekara/provisioning/document"
)

// both calls the check for each side with the other one. Contours have no direction: answers pass either way.
func (f *Flow) both(check func(x, y *Side) *breach) *breach {
	if b := check(&f.From, &f.To); b != nil {
		return b
	}
	return check(&f.To, &f.From)
}

func (s *Side) isGateway(kinds ...string) bool {
	g := s.gateway()
	return g != nil && slices.Contains(kinds, g.Kind)
}

func flowJoinsInternet(_ *Judge, f *Flow) *breach {
	if f.Tunnel {
		return nil // the tunnel is judged
	}
	return joinsInternet(&f.From, &f.To)
}

func nonStatePastGateway(_ *Judge, f *Flow) *breach {
	return f.both(func(x, y *Side) *breach {
		for _, o := range x.owners {
			if o.State() || o.Kind == "foreign" { // foreign ones are for GWY-08
				continue
			}
			if g := y.gateway(); g != nil {
				switch {
				case g.Kind == "payment" || g.Kind == "vshep" && g.IndustrialOperation != nil:
				case g.Kind == "vshep" && g.Environment == document.Test && f.Environment == document.Test:
				case g.Kind == "vshep":
					return y.at("%s is no state body, and gateway %s is not in industrial operation", o.name, y.parties[0].name)
				default:
					return y.at("%s is no state body, and gateway %s is of kind %s", o.name, y.parties[0].name, g.Kind)
				}
				continue
			}
			for _, other := range y.owners {
				if other.State() {
					return y.at("%s is no state body, and %s is reached directly", o.name, other.name)
				}
			}
		}
		return nil
	})
}

// withoutContract looks for the contract of a non-state user and the state body whose service it reaches through ВШЭП; for a service of
// its own, which state bodies use, with any of them.
func withoutContract(j *Judge, f *Flow) *breach {
	return f.both(func(x, y *Side) *breach {
		if !y.isGateway("vshep") {
			return nil
		}
		for _, o := range x.owners {
			if o.State() || o.Kind == "foreign" {
				continue
			}
			with, why := "", "the flow names no service, so nobody knows with whom"
			if s := j.set.Service(f.Service); s != nil {
				if y := j.set.System(s.System); y != nil && y.Organisation != o.name {
					with = y.Organisation
				}
				why = "of " + o.name + " with " + with
				if with == "" {
					why = "of " + o.name + " with a state body"
				}
				if other := j.set.Organisation(with); other != nil && !other.State() || j.contract(o.name, with) {
					continue
				}
			}
			return x.at("there is none that is valid: %s", why)
		}
		return nil
	})
}

// contract reports whether a contract of the two is valid today, in whichever document it stands. With "" any state body will do.
func (j *Judge) contract(a, b string) bool {
	for d := range j.set.Of(document.KindOrganisation) {
		o := d.Spec.(*document.Organisation)
		for _, c := range o.Contracts {
			if c.Until < j.day || c.Date > j.day {
				continue
			}
			other := ""
			switch a {
			case d.Name:
				other = c.With
			case c.With:
				other = d.Name
			default:
				continue
			}
			if x := j.set.Organisation(other); other == b || b == "" && x != nil && x.State() {
				return true
			}
		}
	}
	return false
}

func withoutService(_ *Judge, f *Flow) *breach {
	return f.both(func(x, y *Side) *breach {
		if !y.isGateway("shep", "vshep") || f.Service != "" {
			return nil
		}
		for _, o := range x.owners {
			if o.State() {
				return y.at("%s uses gateway %s for a service that is not named", o.name, y.parties[0].name)
			}
		}
		return nil
	})
}

// inside reports whether both sides are of the internal contour and neither is ШЭП itself.
func (f *Flow) inside() bool {
	return f.From.zone.Contour == "internal" && f.To.zone.Contour == "internal" && !f.From.isGateway("shep") && !f.To.isGateway("shep")
}

func interDepartmental(_ *Judge, f *Flow) *breach {
	if !f.inside() {
		return nil
	}
	for _, a := range f.From.owners {
		for _, b := range f.To.owners {
			if a.name != b.name && a.State() && b.State() {
				return f.To.at("%s reaches %s directly", a.name, b.name)
			}
		}
	}
	return nil
}

func withoutArchitecture(_ *Judge, f *Flow) *breach {
	if !f.inside() {
		return nil
	}
	for _, a := range f.From.owners {
		for _, b := range f.To.owners {
			if a.name == b.name && a.State() && a.Architecture == "" {
				return f.To.at("%s has written none down", a.name)
			}
		}
	}
	return nil
}

// across is a breach if the flow joins the internal contour to a zone that outside accepts, with neither side a screened subnet or a
// gateway of the kinds.
func (f *Flow) across(outside func(*document.Zone) bool, gateways ...string) *breach {
	return f.both(func(x, y *Side) *breach {
		if x.zone.Contour != "internal" || y.zone.Contour != "external" || !outside(y.zone) {
			return nil
		}
		if x.zone.Kind == "screened-subnet" || y.zone.Kind == "screened-subnet" || x.isGateway(gateways...) || y.isGateway(gateways...) {
			return nil
		}
		return f.To.at("zone %s is internal, zone %s external", x.Zone, y.Zone)
	})
}

func internalToExternal(_ *Judge, f *Flow) *breach {
	return f.across(func(z *document.Zone) bool { return z.Kind != "dedicated-segment" }, "vshep", "national")
}

func segmentToInternal(_ *Judge, f *Flow) *breach {
	return f.across(func(z *document.Zone) bool { return z.Kind == "dedicated-segment" }, "shep")
}

func foreignPastNational(_ *Judge, f *Flow) *breach {
	return f.both(func(x, y *Side) *breach {
		others := y.owners
		if y.isGateway("national") || len(others) > 0 && !slices.ContainsFunc(others, func(o owner) bool { return o.Kind != "foreign" }) {
			return nil
		}
		for _, o := range x.owners {
			if o.Kind == "foreign" {
				return y.at("%s is of another state", o.name)
			}
		}
		return nil
	})
}

// unidentified asks who is behind each address in a zone that names its organisation, and that the service is one that is there to be reached.
func unidentified(j *Judge, f *Flow) *breach {
	for _, s := range []*Side{&f.From, &f.To} {
		if s.zone.Organisation != "" && !s.all {
			return s.at("zone %s is of %s, and not all of these addresses are of one System or Gateway", s.Zone, s.zone.Organisation)
		}
	}
	service := j.set.Service(f.Service)
	if service == nil {
		return nil
	}
	given := func(s *Side) bool {
		if g := s.gateway(); g != nil {
			return g.Kind == service.Gateway
		}
		return s.all && s.parties[0].name == service.System
	}
	if given(&f.From) || given(&f.To) {
		return nil
	}
	return &breach{"spec.service", f.Service, "neither side is system " + service.System + " or the gateway that it is published on (" + service.Gateway + ")"}
}

func internetFlowElsewhere(_ *Judge, f *Flow) *breach {
	return f.both(func(x, y *Side) *breach {
		if x != &f.From || x.zone.Kind != "internet" || y.zone.Kind == "dedicated-segment" {
			return nil
		}
		for _, p := range y.systems() {
			return y.at("the Internet reaches system %s in zone %s, of kind %s", p.name, y.Zone, y.zone.Kind)
		}
		return nil
	})
}

// secretly is a breach if a system that want accepts is led to ШЭП or ВШЭП.
func (f *Flow) toGateway(want func(*document.System) bool, why string) *breach {
	return f.both(func(x, y *Side) *breach {
		if !y.isGateway("shep", "vshep") {
			return nil
		}
		for _, p := range x.systems() {
			if want(p.system) {
				return x.at("system %s %s", p.name, why)
			}
		}
		return nil
	})
}

func secretFlow(_ *Judge, f *Flow) *breach {
	return f.toGateway(func(s *document.System) bool { return s.StateSecrets || s.OfficialUse }, "holds state secrets or information for official use")
}

func dataSpaceFlow(_ *Judge, f *Flow) *breach {
	return f.toGateway(func(s *document.System) bool { return s.OnPlatform && s.SingleDataSpace }, "is of the single data space on the platform")
}

func authenticationHeaderAsPort(_ *Judge, f *Flow) *breach {
	for i, s := range f.Services {
		if s.Protocol == firewall.UDP && s.FirstPort == 51 && s.LastPort == 51 {
			return &breach{document.Index("spec.allow", i), s.String(), "51 is an IP protocol, not a UDP port"}
		}
	}
	return nil
}

func restrictedInTheClear(_ *Judge, f *Flow) *breach {
	if f.Tunnel {
		return nil
	}
	return f.both(func(x, y *Side) *breach {
		// What users on the Internet ask for, as a portal's pages, is not between systems: TLS of the service protects that.
		outward := y.zone.Kind == "internet" && x == &f.From
		if !outward && y.zone.Kind != "partners" {
			return nil
		}
		var names []string
		for _, p := range x.systems() {
			if p.system.Restricted() {
				names = append(names, p.name)
			}
		}
		if len(names) == 0 {
			return nil
		}
		return x.at("it is of %s, and zone %s is of kind %s", strings.Join(names, ", "), y.Zone, y.zone.Kind)
	})
}
