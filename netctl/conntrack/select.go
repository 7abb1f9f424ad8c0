package conntrack

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/ti-mo/conntrack"
	"github.com/ti-mo/netfilter"
	"golang.org/x/sys/unix"
)

// Selector takes connections by who opened them, to whom and for what.
type Selector struct {
	Source, Destination netip.Prefix
	Protocol            uint8  // an IP protocol number; 0: any. ICMP and ICMPv6 count as one
	FirstPort, LastPort uint16 // of the destination; both 0: any
	Zone                uint16 // conntrack zone; 0: of none
	// Only those whose answers come from and go to these, whatever else allows them; zero: all.
	AnswersFrom, AnswersTo netip.Addr
}

// Compare is an order of selectors: of those that overlap, the one in front takes a connection.
func (s Selector) Compare(t Selector) int {
	return cmp.Or(s.Source.Compare(t.Source), s.Destination.Compare(t.Destination), cmp.Compare(s.Protocol, t.Protocol), cmp.Compare(s.FirstPort, t.FirstPort),
		cmp.Compare(s.LastPort, t.LastPort), cmp.Compare(s.Zone, t.Zone), s.AnswersFrom.Compare(t.AnswersFrom), s.AnswersTo.Compare(t.AnswersTo))
}

// Selection is the connections that some Revoked takes and no Kept does, but for those that one takes by their answers.
type Selection struct{ Revoked, Kept []Selector }

// Connection is one that a selection took.
type Connection struct {
	Protocol            uint8
	Source, Destination netip.AddrPort // as opened, before any translation
	Packets             uint64         // both ways; 0 where the kernel does not count them (net.netfilter.nf_conntrack_acct)
}

func (c Connection) String() string {
	name := map[uint8]string{unix.IPPROTO_ICMP: "icmp", unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_ICMPV6: "icmpv6", unix.IPPROTO_SCTP: "sctp"}[c.Protocol]
	if name == "" {
		name = fmt.Sprintf("protocol %d", c.Protocol)
	}
	if c.Source.Port() == 0 && c.Destination.Port() == 0 {
		return fmt.Sprintf("%s %s to %s", name, c.Source.Addr(), c.Destination.Addr())
	}
	return fmt.Sprintf("%s %s to %s", name, c.Source, c.Destination)
}

// takes says whether a connection is the selector's. far is the end that answers, behind any translation of the destination.
func (s Selector) takes(flow *conntrack.Flow) bool {
	if s.Zone != flow.Zone {
		return false
	}
	orig, far := flow.TupleOrig, flow.TupleReply.IP.SourceAddress
	if s.AnswersFrom.IsValid() && (s.AnswersFrom != far || s.AnswersTo != flow.TupleReply.IP.DestinationAddress) {
		return false
	}
	if !s.Source.Contains(orig.IP.SourceAddress) || !s.Destination.Contains(orig.IP.DestinationAddress) && !s.Destination.Contains(far) {
		return false
	}
	if protocol(s.Protocol) != 0 && protocol(s.Protocol) != protocol(orig.Proto.Protocol) {
		return false
	}
	within := func(port uint16) bool { return s.FirstPort <= port && port <= s.LastPort }
	return s.LastPort == 0 || within(orig.Proto.DestinationPort) || within(flow.TupleReply.Proto.SourcePort)
}

func protocol(number uint8) uint8 {
	if number == unix.IPPROTO_ICMPV6 {
		return unix.IPPROTO_ICMP
	}
	return number
}

// index finds selectors by the source's prefix: the table of connections may be as long as the list of selectors.
type index struct {
	lengths []int
	by      map[netip.Prefix][]Selector
}

func newIndex(selectors []Selector) index {
	x := index{by: make(map[netip.Prefix][]Selector, len(selectors))}
	for _, s := range selectors {
		source := s.Source.Masked()
		x.by[source] = append(x.by[source], s)
		if !slices.Contains(x.lengths, source.Bits()) {
			x.lengths = append(x.lengths, source.Bits())
		}
	}
	slices.SortFunc(x.lengths, func(a, b int) int { return b - a }) // the longest first
	return x
}

func (x index) takes(flow *conntrack.Flow) bool { return x.find(flow) != nil }

// find is the first selector that takes a connection; nil: none does.
func (x index) find(flow *conntrack.Flow) *Selector {
	for _, length := range x.lengths {
		prefix, err := flow.TupleOrig.IP.SourceAddress.Prefix(length)
		if err != nil { // longer than an address of this family
			continue
		}
		if i := slices.IndexFunc(x.by[prefix], func(s Selector) bool { return s.takes(flow) }); i >= 0 {
			return &x.by[prefix][i]
		}
	}
	return nil
}

// families that revoked connections can be of: the kernel filters a dump by family.
func (s Selection) families() []netfilter.ProtoFamily {
	var v4, v6 bool
	for _, r := range s.Revoked {
		v4, v6 = v4 || r.Source.Addr().Is4(), v6 || r.Source.Addr().Is6()
	}
	var families []netfilter.ProtoFamily
	if v4 {
		families = append(families, netfilter.ProtoIPv4)
	}
	if v6 {
		families = append(families, netfilter.ProtoIPv6)
	}
	return families
}
