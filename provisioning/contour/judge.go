package contour

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"shekara/firewall"
	"shekara/provisioning/document"
)

// Side is one side of a connection: the zone and the addresses in it.
type Side struct {
	Zone     string
	Prefixes []netip.Prefix
	Shown    []netip.Prefix // of a tunnel's end: what stands in the tunnel for Prefixes
	Path     string         // field of the document that holds the prefixes, as spec.from

	zone    *document.Zone
	all     bool    // every prefix is of one party, the only one in parties
	parties []party // systems and gateways that an address of it may be of
	owners  []owner // whose addresses are there
}

// party is who is behind an address: a System or a Gateway.
type party struct {
	name    string
	system  *document.System
	gateway *document.Gateway
}

// Flow is a connection as the rules see it.
type Flow struct {
	From, To    Side
	Tunnel      bool // it goes through a tunnel
	Environment document.Environment
	Services    []firewall.Service
	Service     string // name of the Service document, "" for none
	Waiver      *document.Waiver
}

// Tunnel is two ends that may be joined.
type Tunnel struct {
	Initiator, Owner Side
	CryptoModule     string          // name, "" for none
	IPsec            *document.IPsec // nil: WireGuard, which always encrypts
}

// Finding is a rule that is broken.
type Finding struct {
	Rule  *Rule
	Path  string // field, as spec.to[0]
	Value string // as it stands there
	Why   string // what about it, with names
}

// Hint is why, the next step and the paragraph.
func (f Finding) Hint() string {
	return fmt.Sprintf("%s: %s [%s; %s, paragraph %s]", f.Why, f.Rule.Mend, f.Rule.ID, f.Rule.Act, f.Rule.Paragraph)
}

// Breach is the rule that a finding is of, for a report.
func (f Finding) Breach() Breach { return Breach{f.Rule.ID, f.Rule.Act, f.Rule.Paragraph, f.Rule.What} }

// Breach is a rule that is broken: where it comes from and what it refuses.
type Breach struct {
	Rule      string `json:"rule"` // as GWY-07
	Act       string `json:"act"`
	Paragraph string `json:"paragraph"`
	What      string `json:"what"`
}

func (b Breach) String() string {
	return fmt.Sprintf("%s (%s, paragraph %s): %s", b.Rule, b.Act, b.Paragraph, b.What)
}

// Waived is a flow that passes only by its waiver.
type Waived struct {
	Flow     string   `json:"flow"`
	Breaks   []Breach `json:"breaks"`   // and would be refused for without it
	Reason   string   `json:"reason"`   //
	Approver string   `json:"approver"` // who decided
	Expires  string   `json:"expires"`  // the last day it holds, in Asia/Almaty
}

// String is a sentence for people.
func (w Waived) String() string {
	ids := make([]string, len(w.Breaks))
	for i, b := range w.Breaks {
		ids[i] = b.Rule
	}
	return fmt.Sprintf("flow %s breaks %s by a waiver of %s until %s: %s", w.Flow, strings.Join(ids, ", "), w.Approver, w.Expires, w.Reason)
}

func (f Finding) Error() string { return fmt.Sprintf("%s: %q: %s", f.Rule.What, f.Value, f.Hint()) }

// Judge holds what is declared in one set to the rules, on one day. It is for one goroutine.
type Judge struct {
	set     *document.Set
	day     string
	parties bool // there are systems or gateways at all
	zones   map[string]*document.Zone
}

// For makes a Judge; day is as Day writes it, "" for today.
func For(set *document.Set, day string) *Judge {
	if day == "" {
		day = Today()
	}
	j := &Judge{set: set, day: day, zones: map[string]*document.Zone{}}
	for _, all := range []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")} {
		for range set.Parties(all) {
			j.parties = true
			break
		}
	}
	return j
}

func (j *Judge) zone(name string) *document.Zone {
	z, known := j.zones[name]
	if !known {
		z = j.set.Zone(name)
		j.zones[name] = z
	}
	return z
}

// resolve finds the zone and the parties of a side. It reports false where the zone is not there: then that is the problem.
func (j *Judge) resolve(s *Side) bool {
	if s.zone = j.zone(s.Zone); s.zone == nil {
		return false
	}
	s.all, s.parties, s.owners = j.parties && len(s.Prefixes) > 0, nil, nil
	if !j.parties {
		s.own(j.set, s.zone.Organisation)
		return true
	}
	for _, p := range s.Prefixes {
		held := false
		for q, h := range j.set.Parties(p) {
			x := j.party(h.Ref)
			if x.zone() != s.Zone { // 0.0.0.0/0 of a zone without prefixes is what the others leave over
				continue
			}
			held = held || q.Bits() <= p.Bits()
			if !slices.ContainsFunc(s.parties, x.is) {
				s.parties = append(s.parties, x)
			}
		}
		s.all = s.all && held
	}
	s.all = s.all && len(s.parties) == 1
	for _, p := range s.systems() {
		s.own(j.set, p.system.Organisation)
	}
	if !s.all {
		s.own(j.set, s.zone.Organisation)
	}
	return true
}

func (j *Judge) party(r document.Ref) party {
	if r.Kind == document.KindSystem {
		return party{r.Name, j.set.System(r.Name), nil}
	}
	return party{r.Name, nil, j.set.Gateway(r.Name)}
}

func (p party) zone() string {
	if p.system != nil {
		return p.system.Zone
	}
	return p.gateway.Zone
}

func (p party) is(other party) bool { return p.system == other.system && p.gateway == other.gateway }

// gateway is the gateway that holds the whole of the side, nil if there is none.
func (s *Side) gateway() *document.Gateway {
	if !s.all {
		return nil
	}
	return s.parties[0].gateway
}

// owner is the organisation of a system, or of the zone for addresses that no system has. A gateway is nobody's end: it answers for itself.
type owner struct {
	name string
	*document.Organisation
}

func (s *Side) own(set *document.Set, name string) {
	if name == "" || slices.ContainsFunc(s.owners, func(o owner) bool { return o.name == name }) {
		return
	}
	if o := set.Organisation(name); o != nil {
		s.owners = append(s.owners, owner{name, o})
	}
}

func (s *Side) systems() []party {
	return slices.DeleteFunc(slices.Clone(s.parties), func(p party) bool { return p.system == nil })
}

// at is a breach at the first prefix of a side.
func (s *Side) at(format string, args ...any) *breach {
	b := &breach{path: s.Path, why: fmt.Sprintf(format, args...)}
	if len(s.Prefixes) > 0 {
		b.path, b.value = document.Index(s.Path, 0), s.Prefixes[0].String()
	}
	return b
}

func findings(check func(r *Rule) *breach) []Finding {
	var found []Finding
	for i := range Rules {
		if b := check(&Rules[i]); b != nil {
			found = append(found, Finding{&Rules[i], b.path, b.value, b.why})
		}
	}
	return found
}

// Zone judges a zone.
func (j *Judge) Zone(z *document.Zone) []Finding {
	return findings(func(r *Rule) *breach {
		if r.zone == nil {
			return nil
		}
		return r.zone(z)
	})
}

// System judges a system.
func (j *Judge) System(s *document.System) []Finding {
	return findings(func(r *Rule) *breach {
		if r.system == nil {
			return nil
		}
		return r.system(j, s)
	})
}

// Service judges a service.
func (j *Judge) Service(s *document.Service) []Finding {
	return findings(func(r *Rule) *breach {
		if r.service == nil {
			return nil
		}
		return r.service(j, s)
	})
}

// Management judges the zone that a Site is managed from.
func (j *Judge) Management(zone string) []Finding {
	return findings(func(r *Rule) *breach {
		if r.management == nil {
			return nil
		}
		return r.management(j, zone)
	})
}

// Tunnel judges the two ends of a tunnel.
func (j *Judge) Tunnel(t *Tunnel) []Finding {
	if !j.resolve(&t.Initiator) || !j.resolve(&t.Owner) {
		return nil
	}
	return findings(func(r *Rule) *breach {
		if r.tunnel == nil {
			return nil
		}
		return r.tunnel(j, t)
	})
}

// Flow judges a flow. What its waiver lets pass is in waived; a waiver that has expired lets nothing pass.
func (j *Judge) Flow(f *Flow) (broken, waived []Finding) {
	if !j.resolve(&f.From) || !j.resolve(&f.To) {
		return nil, nil
	}
	for i := range Rules {
		r := &Rules[i]
		if r.flow == nil {
			continue
		}
		b := r.flow(j, f)
		switch {
		case b == nil:
		case f.Waiver == nil || !r.Waivable:
			broken = append(broken, Finding{r, b.path, b.value, b.why})
		case f.Waiver.Expires < j.day:
			broken = append(broken, Finding{r, "spec.waiver.expires", f.Waiver.Expires, "the waiver expired with " + f.Waiver.Expires + ", and " + b.why})
		default:
			waived = append(waived, Finding{r, b.path, b.value, b.why})
		}
	}
	return broken, waived
}

// Ending are the contracts and certificates that are valid today and end within the days, each as a sentence for people.
func (j *Judge) Ending(days int) []string {
	today, err := time.Parse(time.DateOnly, j.day)
	if err != nil {
		return nil
	}
	last := today.AddDate(0, 0, days).Format(time.DateOnly)
	soon := func(day string) bool { return day >= j.day && day <= last }
	var found []string
	for d := range j.set.Of(document.KindOrganisation) {
		for _, c := range j.set.Organisation(d.Name).Contracts {
			if soon(c.Until) {
				found = append(found, fmt.Sprintf("contract %s of %s with %s ends with %s (GWY-02)", c.Number, d.Name, c.With, c.Until))
			}
		}
	}
	for d := range j.set.Of(document.KindCryptoModule) {
		if m := j.set.CryptoModule(d.Name); soon(m.ValidUntil) {
			found = append(found, fmt.Sprintf("certificate %s of %s ends with %s (CRY-01, CRY-02)", m.Certificate, d.Name, m.ValidUntil))
		}
	}
	return found
}
