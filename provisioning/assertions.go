package provisioning

import (
	"crypto/sha256"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"

	"shekara/firewall"
	"shekara/provisioning/document"
	"shekara/tunnels"
)

const (
	mustReach = "mustReach" // the other kind of assertion is mustNotReach
	// maxCases bounds what one assertion may ask of the rules.
	maxCases = 20_000
)

// special are addresses that routing treats in a way of its own (RFC 6890).
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("::/127"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff00::/8"),
}

// CheckAssertions asks the rules that the documents make for a site whether each Assertion about it holds. The documents must be valid.
// The problems are sorted by file and line; an error says why the rules cannot be made.
func CheckAssertions(set *document.Set, site string) ([]document.Problem, error) {
	var names []string
	for h := range set.References(document.Ref{Kind: document.KindSite, Name: site}, document.KindAssertion) {
		names = append(names, h.Name)
	}
	if len(names) == 0 || set.Site(site) == nil {
		return nil, nil
	}
	set, err := withKeys(set)
	if err != nil {
		return nil, err
	}
	v, err := viewOf(set, site)
	if err != nil {
		return nil, err
	}
	rules, err := firewall.NewExplainer(v.ruleset, v.local)
	if err != nil {
		return nil, fmt.Errorf("read the rules: %w", err)
	}
	v.indexTunnels()
	permitted, places := v.permitted(), v.placesOf()
	var problems []document.Problem
	for _, name := range names {
		a, err := v.assertion(set.Assertion(name))
		if err != nil {
			return nil, fmt.Errorf("assertion %q: %w", name, err)
		}
		a.permitted, a.places = permitted, places
		why, err := a.fails(rules)
		if err != nil {
			return nil, fmt.Errorf("assertion %q: %w", name, err)
		}
		if why != "" {
			d := set.Get(document.Ref{Kind: document.KindAssertion, Name: name})
			problems = append(problems, document.Problem{Position: d.Position("spec.require"), Kind: d.Kind, Name: d.Name,
				What: "assertion does not hold", Value: a.written.Require, Hint: why})
		}
	}
	document.Sort(problems)
	return problems, nil
}

// withKeys has a public key for each device of a Site that leaves its key to its box: no verdict depends on which.
func withKeys(set *document.Set) (*document.Set, error) {
	var keyed []*document.Document
	for _, site := range set.Sites() {
		for _, name := range set.Site(site).Peers {
			p := set.Peer(name)
			if p == nil || !slices.ContainsFunc(p.WireGuard, func(w document.WireGuardPort) bool { return w.PublicKey == "" }) {
				continue
			}
			peer := *p
			peer.WireGuard = slices.Clone(p.WireGuard)
			for i := range peer.WireGuard {
				if peer.WireGuard[i].PublicKey == "" {
					peer.WireGuard[i].PublicKey = tunnels.PublicKey(sha256.Sum256(fmt.Appendf(nil, "%s %d", name, i))).String()
				}
			}
			d, err := document.New(name, &peer)
			if err != nil {
				return nil, err
			}
			keyed = append(keyed, d)
		}
	}
	set, _ = set.Merge(keyed)
	return set, nil
}

// assertion is one Assertion and the rules that it is about.
type assertion struct {
	view     *view
	written  *document.Assertion
	from, to []netip.Prefix
	service  firewall.Service

	permitted []region       // by the view, and of all its assertions
	places    []netip.Prefix // alike
}

// region is what a permission and an assertion have in common: connections from any of one prefix to any of another, to ports from first to last.
type region struct {
	from, to netip.Prefix
	service  firewall.Service
	own      bool // a permission that no document gives: this box sends it
}

func (v *view) assertion(written *document.Assertion) (assertion, error) {
	a := assertion{view: v, written: written}
	var err error
	for _, x := range []struct {
		list []string
		into *[]netip.Prefix
	}{{written.From, &a.from}, {written.To, &a.to}} {
		for _, s := range x.list {
			p, err := document.ParsePrefix(s)
			if err != nil {
				return assertion{}, err
			}
			*x.into = append(*x.into, p)
		}
	}
	if a.service, err = document.ParseService(written.Service); err != nil {
		return assertion{}, err
	}
	if a.service.LastPort == 0 && a.service.Protocol != firewall.ICMP && a.service.Protocol != firewall.ICMPv6 {
		a.service.FirstPort, a.service.LastPort = 1, 65535
	}
	return a, nil
}

// regions are what the assertion names.
func (a assertion) regions() []region {
	var made []region
	for _, from := range a.from {
		for _, to := range a.to {
			made = append(made, region{from: from, to: to, service: a.service})
		}
	}
	return made
}

// permitted are the regions that rules let pass, and never less: of flows, management, probes, the ports of tunnels, what this box offers, and
// of what it may send itself, which is at most everything. Nothing else opens a connection.
func (v *view) permitted() []region {
	var made []region
	add := func(from, to []netip.Prefix, services []firewall.Service) {
		for _, f := range from {
			for _, t := range to {
				for _, s := range services {
					made = append(made, region{from: f, to: t, service: s})
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.intent.tunnels)) { // the same question has the same answer
		t := v.intent.tunnels[name]
		if t.Unsupported != "" {
			continue
		}
		for _, f := range t.Flows {
			add(f.Sources, f.Destinations, f.Services)
		}
		if t.Probe != nil && t.Probe.Local.IsValid() && t.Probe.Remote.IsValid() {
			ends := []netip.Prefix{alone(t.Probe.Local), alone(t.Probe.Remote)}
			add(ends, ends, []firewall.Service{{Protocol: firewall.ICMP}, {Protocol: firewall.ICMPv6}})
		}
		d := v.intent.base.Devices[t.Spec.Device].Spec
		from := anywhere(d.LocalIP)
		if t.Port.From.IsValid() {
			from = alone(t.Port.From)
		}
		add([]netip.Prefix{from}, []netip.Prefix{alone(d.LocalIP)}, []firewall.Service{{Protocol: firewall.UDP, FirstPort: d.Port, LastPort: d.Port}})
	}
	for _, name := range slices.Sorted(maps.Keys(v.intent.flows)) {
		f := v.intent.flows[name]
		add(f.Flow.Sources, f.Flow.Destinations, f.Flow.Services)
	}
	for _, o := range v.intent.base.Offers {
		add(o.Sources, allAlone(o.Addresses), o.Services)
	}
	add(v.intent.base.Management.From, allAlone(v.local), v.intent.base.Management.Services)
	sends := len(made)
	for _, own := range allAlone(v.local) { // no document names a loopback address
		add([]netip.Prefix{own}, []netip.Prefix{anywhere(own.Addr())}, []firewall.Service{
			{Protocol: firewall.TCP}, {Protocol: firewall.UDP}, {Protocol: firewall.SCTP}, {Protocol: firewall.ICMP}, {Protocol: firewall.ICMPv6}})
	}
	for i := range made[sends:] {
		made[sends+i].own = true
	}
	return made
}

// anywhere is every address of the family.
func anywhere(a netip.Addr) netip.Prefix {
	all, _ := a.Prefix(0)
	return all
}

func allAlone(list []netip.Addr) []netip.Prefix {
	made := make([]netip.Prefix, len(list))
	for i, a := range list {
		made[i] = alone(a)
	}
	return made
}

func alone(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// fails says why the assertion does not hold, with a connection that shows it; "": it holds.
func (a assertion) fails(rules *firewall.Explainer) (string, error) {
	must, asked := a.written.Require == mustReach, 0
	for p := range a.cases() {
		if asked++; asked > maxCases {
			return fmt.Sprintf("it asks for more than %d cases that the rules tell apart: name fewer or smaller prefixes", maxCases), nil
		}
		x, way, err := a.ask(rules, p)
		if err != nil {
			return "", err
		}
		if x.Pass == must {
			continue
		}
		connection := fmt.Sprintf("%s to %s, %s", p.Source, p.Destination, serviceText(p))
		if must {
			return fmt.Sprintf("%s does not pass: shekara explain %s %s says why; add a Flow, or narrow the assertion", connection, p.Source, p.Destination), nil
		}
		documents := a.view.documents(p, x, way)
		if len(documents) == 0 {
			return connection + " passes: this box may speak to its zones freely; narrow the assertion", nil
		}
		return fmt.Sprintf("%s passes by %s %s: narrow that, or the assertion", connection, documents[0].Kind, documents[0].Name), nil
	}
	return "", nil
}

// cases are connections of which one shows that the assertion fails, if any connection does. Where a permission or a place begins or
// ends within what is asked for, a case begins: between two of them nothing changes. For mustNotReach only what is permitted can fail; what this
// box sends by no document, only where it alone is named: a network in which it has an address stands for the hosts there.
func (a assertion) cases() iter.Seq[firewall.Packet] {
	return func(yield func(firewall.Packet) bool) {
		for _, r := range a.regions() {
			parts, cuts := []region{r}, slices.Clone(a.places)
			for _, p := range a.permitted {
				part, overlap := r.common(p)
				switch {
				case !overlap || p.own && !r.from.IsSingleIP():
				case a.written.Require == mustReach:
					cuts = append(cuts, p.from, p.to)
				default:
					parts = append(parts, part)
				}
			}
			if a.written.Require != mustReach {
				parts = parts[1:]
			}
			for _, part := range parts {
				for _, port := range part.ports(a.permitted) {
					for _, from := range cells(part.from, cuts) {
						for _, to := range cells(part.to, cuts) {
							if !yield(part.packet(from, to, port)) {
								return
							}
						}
					}
				}
			}
		}
	}
}

// ports are those of the region at which a permission begins or has just ended, and its own first.
func (r region) ports(permitted []region) []uint16 {
	found := []uint16{r.service.FirstPort}
	for _, p := range permitted {
		if _, overlap := r.common(p); overlap {
			for _, port := range []uint16{p.service.FirstPort, p.service.LastPort + 1} { // 65535+1 is 0, which is before any port
				if port > r.service.FirstPort && port <= r.service.LastPort {
					found = append(found, port)
				}
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// placesOf are the prefixes by which an address is in one place or another.
func (v *view) placesOf() []netip.Prefix {
	found := slices.Clone(special)
	for _, z := range v.intent.base.Zones {
		found = append(found, z.Prefixes...)
	}
	for _, t := range v.intent.tunnels {
		found = append(found, t.Known...)
	}
	for _, networks := range v.connected {
		found = append(found, networks...)
	}
	for _, l := range v.local {
		found = append(found, alone(l))
	}
	return found
}

// cells are the addresses of within at which a prefix begins or has just ended, and its own first.
func cells(within netip.Prefix, prefixes []netip.Prefix) []netip.Addr {
	found := []netip.Addr{within.Addr()}
	for _, p := range prefixes {
		if !p.Overlaps(within) {
			continue
		}
		for _, a := range []netip.Addr{p.Addr(), last(p).Next()} {
			if a.IsValid() && within.Contains(a) {
				found = append(found, a)
			}
		}
	}
	slices.SortFunc(found, netip.Addr.Compare)
	return slices.Compact(found)
}

// last is the highest address of a prefix.
func last(p netip.Prefix) netip.Addr {
	bytes := p.Addr().AsSlice()
	for i := p.Bits(); i < len(bytes)*8; i++ {
		bytes[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(bytes)
	return a
}

// common is what both have in common, if there is anything.
func (r region) common(p region) (region, bool) {
	if r.service.Protocol != p.service.Protocol || !r.from.Overlaps(p.from) || !r.to.Overlaps(p.to) {
		return region{}, false
	}
	made := region{from: smaller(r.from, p.from), to: smaller(r.to, p.to), service: r.service}
	if p.service.LastPort > 0 {
		made.service.FirstPort, made.service.LastPort = max(r.service.FirstPort, p.service.FirstPort), min(r.service.LastPort, p.service.LastPort)
	}
	return made, made.service.FirstPort <= made.service.LastPort
}

// smaller is that of two overlapping prefixes which lies in the other.
func smaller(a, b netip.Prefix) netip.Prefix {
	if a.Bits() < b.Bits() {
		return b
	}
	return a
}

func (r region) packet(from, to netip.Addr, port uint16) firewall.Packet {
	p := firewall.Packet{Source: from, Destination: to, Protocol: r.service.Protocol, DestinationPort: port, SourcePort: ephemeralPort}
	switch p.Protocol {
	case firewall.ICMP:
		p.ICMPType, p.SourcePort = firewall.EchoRequest, 0
	case firewall.ICMPv6:
		p.ICMPType, p.SourcePort = firewall.EchoRequest6, 0
	}
	return p
}

// ask follows a connection's first packet from where routing has its source to where it has its destination. Where it has none, nothing passes.
func (a assertion) ask(rules *firewall.Explainer, p firewall.Packet) (firewall.Explanation, ExplainedPacket, error) {
	var x Explanation
	from, err := a.view.end(p.Source, &x, "comes from")
	if err != nil {
		return firewall.Explanation{}, ExplainedPacket{}, nil
	}
	to, err := a.view.end(p.Destination, &x, "goes to")
	if err != nil {
		return firewall.Explanation{}, ExplainedPacket{}, nil
	}
	way := ExplainedPacket{From: from, To: to}
	p.From, p.To = from.link(), to.link()
	if p.From == "" && p.To == "" {
		p.From = "lo"
	}
	a.view.outside(&p, from.Interface) // an assertion is written in this side's notation
	verdict, err := a.view.judge(rules, a.view.sealed(p, &x), way)
	return verdict, way, err
}
