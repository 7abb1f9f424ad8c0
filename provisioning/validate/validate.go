package validate

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"shekara/provisioning/contour"
	"shekara/provisioning/document"
)

// Options say from where the documents are looked at.
type Options struct {
	// Site is the Site that this box is. Its own peers may lack public keys, and its lab decides about peers that no Site lists.
	// "": no box in particular: the same holds for the peers of any Site, and one lab Site is enough.
	Site string
	// Scope is the documents to check: what Set.Affected gives after a change of a valid set. nil: all; empty: none.
	Scope []document.Ref
	// Day is the date by which waivers, contracts and certificates are valid or not, as contour.Day writes it. "": today.
	Day string
}

// Check finds every problem, sorted by file, line and column. The set is what Decode gave, whose own problems are not repeated.
//
// Where two documents contradict each other the one that came into the set later is blamed, so that a mistake is reported once, and
// where it was made.
func Check(set *document.Set, o Options) []document.Problem {
	c := check(set, o)
	document.Sort(c.problems)
	return c.problems
}

// Waivers are those that are in force: the flows that pass only by one, sorted by name. It looks at no other document, so Scope does not matter.
func Waivers(set *document.Set, o Options) []contour.Waived {
	o.Scope = []document.Ref{}
	for h := range set.Waivers() {
		o.Scope = append(o.Scope, h.Ref)
	}
	return check(set, o).waived
}

// Waived are the same, each as a sentence for people.
func Waived(set *document.Set, o Options) (sentences []string) {
	for _, w := range Waivers(set, o) {
		sentences = append(sentences, w.String())
	}
	return sentences
}

// Ending are the contracts and certificates that end within the days, each as a sentence for people: what needs one is refused afterwards.
func Ending(set *document.Set, o Options, days int) []string {
	return contour.For(set, o.Day).Ending(days)
}

// Unverified are the sinks whose format nobody has compared with the act that it is named after, each as a sentence for people, sorted by name.
func Unverified(set *document.Set) (sinks []string) {
	for d := range set.Of(document.KindEventSink) {
		if s, is := d.Spec.(*document.EventSink); is && s.Format == "52nk" {
			sinks = append(sinks, fmt.Sprintf("sink %s sends by a mapping to the Rules 52/НҚ that nobody has compared with their annex: let the centre say whether it suits (docs/monitoring)", d.Name))
		}
	}
	return sinks
}

func check(set *document.Set, o Options) *checker {
	c := &checker{set: set, options: o, judge: contour.For(set, o.Day)}
	if o.Site != "" && set.Site(o.Site) == nil {
		hint := "write a Site document of this name, or another name into /etc/shekara/site"
		if names := set.Sites(); len(names) > 0 {
			hint = "sites are " + strings.Join(names, ", ") + ": write one of them into /etc/shekara/site, or a document for this one"
		}
		c.problems = append(c.problems, document.Problem{Position: document.Position{File: "/etc/shekara/site", Line: 1, Column: 1},
			What: "no Site document", Value: o.Site, Hint: hint})
	}
	var scope []*document.Document
	if o.Scope == nil {
		scope = slices.AppendSeq(make([]*document.Document, 0, set.Len()), set.All())
	}
	for _, r := range o.Scope {
		if d := set.Get(r); d != nil {
			scope = append(scope, d)
		}
	}
	// What others are judged by comes first.
	for _, d := range scope {
		if facts(d.Kind) {
			c.document(d)
		}
	}
	for _, d := range scope {
		if !facts(d.Kind) {
			c.document(d)
		}
	}
	return c
}

// Valid is the largest part of the set that stands without its problems, and the problems that kept the rest out: documents with a
// problem are left out, and then those that needed them, until none has one. What is before is what Decode complained of.
func Valid(set *document.Set, o Options, before []document.Problem) (*document.Set, []document.Problem) {
	problems := slices.Clone(before)
	set, _ = set.Without(named(set, before)...)
	o.Scope = nil
	for found := Check(set, o); len(found) > 0; found = Check(set, o) {
		problems = append(problems, found...)
		var changes []document.Change
		if set, changes = set.Without(named(set, found)...); len(changes) == 0 {
			break // what is left, a Site that is not there, is no document's
		}
		o.Scope = set.Affected(changes)
	}
	document.Sort(problems)
	return set, problems
}

// named are the documents of the set that the problems stand in.
func named(set *document.Set, problems []document.Problem) []document.Ref {
	var refs []document.Ref
	for _, p := range problems {
		if r := (document.Ref{Kind: p.Kind, Name: p.Name}); set.Get(r) != nil {
			refs = append(refs, r)
		}
	}
	return refs
}

// checker collects the problems of one document after the other.
type checker struct {
	set        *document.Set
	options    Options
	judge      *contour.Judge
	problems   []document.Problem
	waived     []contour.Waived
	wrongFacts bool // a fact is wrong: a contour rule that is judged by it would only repeat that

	doc  *document.Document  // the one at hand
	said map[string]struct{} // paths of doc that have a problem: one is enough

	names   map[document.Kind][]string // of all documents, made when a name is not found
	guesses int
}

// maxGuesses bounds the search for what an unknown name was meant to be: it looks at every document.
const maxGuesses = 100

func (c *checker) document(d *document.Document) {
	c.doc, c.said = d, nil
	c.wrongFacts = c.wrongFacts || facts(d.Kind) && d.Broken("spec")
	switch spec := d.Spec.(type) {
	case *document.Zone:
		c.zone(spec)
	case *document.Site:
		c.site(spec)
	case *document.Peer:
		c.peer(spec)
	case *document.Tunnel:
		c.tunnel(spec)
	case *document.Flow:
		c.flow(spec)
	default:
		c.register(spec)
	}
}

// facts reports whether the contour rules judge other documents by those of the kind.
func facts(k document.Kind) bool { return k == document.KindZone || k.IsRegister() }

// sound reports whether the contour rules have something to judge: neither the document at hand nor, if it is judged by others, one of
// these has another problem.
func (c *checker) sound() bool {
	return c.said == nil && !c.doc.Broken("spec") && (!c.wrongFacts || facts(c.doc.Kind))
}

// contours reports the contour rules that the document at hand breaks.
func (c *checker) contours(found []contour.Finding) {
	before := c.wrongFacts
	for _, f := range found {
		c.add(f.Path, f.Rule.What, f.Value, f.Hint(), f.Rule.ID)
	}
	c.wrongFacts = before
}

// add reports a problem with a field, unless it has one already.
func (c *checker) add(path, what, value, hint, rule string) {
	if _, said := c.said[path]; said || c.doc.Broken(path) {
		return
	}
	if c.said == nil {
		c.said = map[string]struct{}{}
	}
	c.said[path] = struct{}{}
	c.wrongFacts = c.wrongFacts || facts(c.doc.Kind)
	c.problems = append(c.problems, document.Problem{Position: c.doc.Position(path), Kind: c.doc.Kind, Name: c.doc.Name,
		What: what, Value: value, Hint: hint, Rule: rule})
}

// fine reports whether the field has no problem so far, so that one may build on it.
func (c *checker) fine(path string) bool {
	_, said := c.said[path]
	return !said && !c.doc.Broken(path)
}

// syntax reports an error of the document package's parsers.
func (c *checker) syntax(path, value string, err error) {
	var s *document.SyntaxError
	if errors.As(err, &s) {
		c.add(path, s.What, value, s.Hint, "")
		return
	}
	c.add(path, "wrong value", value, err.Error(), "")
}

// oneOf reports a value that is not one of those that are known.
func (c *checker) oneOf(path, value string, known ...string) bool {
	if slices.Contains(known, value) {
		return true
	}
	hint := "write " + strings.Join(known[:len(known)-1], ", ") + " or " + known[len(known)-1]
	if near := document.Nearest(value, known); near != "" {
		hint = "did you mean " + near + "?"
	}
	c.add(path, "unknown value", value, hint, "")
	return false
}

// reference reports a name that no document has.
func (c *checker) reference(path string, kind document.Kind, name string) bool {
	if c.set.Get(document.Ref{Kind: kind, Name: name}) != nil {
		return true
	}
	if !c.fine(path) {
		return false
	}
	hint := fmt.Sprintf("write a %s document of this name, or the name of one that is there", kind)
	if near := c.guess(kind, name); near != "" {
		hint = "did you mean " + near + "?"
	}
	c.add(path, fmt.Sprintf("there is no %s of this name", kind), name, hint, "")
	return false
}

func (c *checker) guess(kind document.Kind, name string) string {
	if c.guesses++; c.guesses > maxGuesses {
		return ""
	}
	if c.names[kind] == nil {
		if c.names == nil {
			c.names = map[document.Kind][]string{}
		}
		for d := range c.set.Of(kind) {
			c.names[kind] = append(c.names[kind], d.Name)
		}
	}
	return document.Nearest(name, c.names[kind])
}

// prefix is one prefix of a list and where it stands.
type prefix struct {
	netip.Prefix
	path, written string
}

// prefixes reads a list, reports what is wrong with each, and gives back the good ones. A prefix within another is reported.
func (c *checker) prefixes(path string, list []string) []prefix {
	made := make([]prefix, 0, len(list))
	for i, s := range list {
		at := document.Index(path, i)
		p, err := document.ParsePrefix(s)
		if err != nil {
			c.syntax(at, s, err)
			continue
		}
		if kind, bad := unroutable(p); bad {
			c.add(at, "prefix overlaps "+kind, s, "write prefixes of hosts that can be reached", "")
			continue
		}
		made = append(made, prefix{p, at, s})
	}
	if len(made) < 2 {
		return made
	}
	// Sorted by address, then length, a prefix comes right after the widest one that holds it or after others in that one.
	sorted := slices.Clone(made)
	slices.SortStableFunc(sorted, func(a, b prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	widest := sorted[0]
	for _, p := range sorted[1:] {
		if !widest.Overlaps(p.Prefix) {
			widest = p
			continue
		}
		c.add(p.path, "prefix is listed twice", p.written, fmt.Sprintf("%s of the same list holds it: remove one of them", widest.written), "")
	}
	return made
}

// inside reports whether a zone holds the prefix. One without prefixes (the internet) holds what no other zone claims.
func (c *checker) inside(zone *document.Zone, p netip.Prefix) bool {
	if len(zone.Prefixes) > 0 {
		return anyHolds(zone.Prefixes, p)
	}
	for z := range c.set.Zones(p) {
		if z.Bits() > 0 { // a zone that claims everything has a problem of its own
			return false
		}
	}
	return true
}

// zoneText is a zone's prefixes for a hint.
func zoneText(name string, zone *document.Zone) string {
	if len(zone.Prefixes) == 0 {
		return fmt.Sprintf("zone %s holds only what no other zone claims", name)
	}
	return fmt.Sprintf("zone %s holds %s", name, few(zone.Prefixes))
}

// few is a list cut short for a hint.
func few(list []string) string {
	if len(list) > 6 {
		return strings.Join(list[:6], ", ") + fmt.Sprintf(" and %d more", len(list)-6)
	}
	return strings.Join(list, ", ")
}

// services reports services that cannot be read.
func (c *checker) services(path string, list []string) {
	for i, s := range list {
		if _, err := document.ParseService(s); err != nil {
			c.syntax(document.Index(path, i), s, err)
		}
	}
}

// own reports whether the peer is this box's, or with no box in particular any Site's.
func (c *checker) own(peer string) bool {
	sites := c.set.SitesOf(peer)
	if c.options.Site == "" {
		return len(sites) > 0
	}
	return slices.Contains(sites, c.options.Site)
}

// lab reports whether the peer may have an address that is not of the Internet. The Site that lists the peer decides; for one that no
// Site lists, this box's Site; with no box in particular, one lab Site is enough.
func (c *checker) lab(peer string) bool {
	governing := c.set.SitesOf(peer)
	if len(governing) == 0 && c.options.Site != "" {
		governing = []string{c.options.Site}
	} else if len(governing) == 0 {
		governing = c.set.Sites()
	}
	for _, s := range governing {
		if site := c.set.Site(s); site != nil && site.Lab {
			return true
		}
	}
	return false
}

// later reports whether the document at hand came after the other one, so that a contradiction is its fault.
func (c *checker) later(other document.Ref) bool { return c.set.Later(c.doc.Ref(), other) }
