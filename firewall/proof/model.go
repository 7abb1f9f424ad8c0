package proof

import (
	"crypto/sha256"
	"encoding/binary"
)

// Ruleset is what a kernel's packet filter holds, of all tables. Decode and Kernel.Decode make it.
type Ruleset struct {
	chains []*chain // those with a hook, in the order of the listing
	inner  []*chain // those of ours without
	// unmodelled says what is there and not understood: each with its table and, as far as they go, chain, handle and expression.
	unmodelled []string
	// names of interfaces that rules and sets mention; a trailing * as nft writes it.
	names map[string]bool
	// translates: packets may leave with other addresses than they came with, or belong to conntrack zones.
	translates bool
}

// chain is a chain of rules; with a hook, a base chain.
type chain struct {
	family, table, name string
	hook                string // "": reached by jump and goto only
	priority            int
	nat                 bool // asked about the first packet of a connection alone
	reroutes            bool // what it marks differently is routed anew
	xtables             bool // made by iptables: its rules are told by their numbers
	accept              bool // policy of a base chain
	rules               []*rule
}

type rule struct {
	chain      *chain
	handle     int // of nftables
	number     int // of xtables: the place in the chain, from 1
	comment    string
	text       string // near to what nft prints
	statements []statement
	unmodelled []string // what of it is not understood
}

// statement is a match, a verdict, a verdict map, a mark that is set, a translation or a verdict of a limit; exactly one field is set. What
// changes no verdict (counters, logs, TCP options) is left out.
type statement struct {
	match       *match
	verdict     *verdict
	choice      *choice
	assign      *assign
	translation *translation
	limit       *chain // what is too much ends in it, and all else goes on (limits.go)
}

type match struct {
	key     []expression
	negated bool
	lacking bool // negated: also what has no such field
	without bool // also what has no connection (xt_conntrack, of a rule that asks for its state as well)
	bits    bool // of a number of flags, any of the set's one element
	set     *set
}

type verdictKind uint8

const (
	accepts verdictKind = iota + 1
	drops
	returns
	jumps
	goes
	continues
)

type verdict struct {
	kind   verdictKind
	target *chain
	name   string // of the target
}

// choice is a verdict map.
type choice struct {
	key []expression
	set *set
}

// assign sets a mark or the conntrack zone: to a value, from an expression, or to what a map says for a key.
type assign struct {
	to    field // metaMark, ctMark or ctZone
	value number
	keep  number // bits of what stood there, to which the value is joined by exclusive or (xtables); zero: it is replaced
	from  *expression
	key   []expression
	set   *set
}

// set is a set or map, named or in a rule.
type set struct {
	name     string // with its table; "" in a rule
	id       string // the content: the same only for sets with the same elements, in the same order
	leads    string // of a map: to "mark", "verdict" or "address"
	elements []element
	groups   []group // of a verdict map
}

// newSet names a set by its elements.
func newSet(name, leads string, elements []element) *set {
	s := &set{name: name, leads: leads, elements: elements}
	h := sha256.New()
	b := make([]byte, 0, 256)
	groups := map[verdict]int{}
	for i := range elements {
		e := &elements[i]
		b = append(b[:0], byte(len(e.key)))
		for _, part := range e.key {
			b = append(b, byte(part.kind))
			for _, n := range []uint64{part.low.high, part.low.low, part.high.high, part.high.low, uint64(len(part.name))} {
				b = binary.LittleEndian.AppendUint64(b, n)
			}
			b = append(b, part.name...)
		}
		b = binary.LittleEndian.AppendUint64(b, e.data.low)
		if to := e.address; to != nil {
			for _, n := range []uint64{to.low.high, to.low.low, to.high.high, to.high.low} {
				b = binary.LittleEndian.AppendUint64(b, n)
			}
		}
		if e.verdict != nil {
			g, known := groups[*e.verdict]
			if !known {
				g = len(s.groups)
				groups[*e.verdict] = g
				s.groups = append(s.groups, group{verdict: e.verdict})
			}
			s.groups[g].elements = append(s.groups[g].elements, e)
			b = binary.LittleEndian.AppendUint64(b, uint64(g))
		}
		h.Write(b)
	}
	s.id = string(h.Sum(nil))
	return s
}

// group are the elements of a verdict map that lead to one verdict.
type group struct {
	verdict  *verdict
	elements []*element
}

type element struct {
	key     []span
	verdict *verdict // of a verdict map
	data    number   // of a map to marks
	address *span    // of a map to addresses
}

// span is what a part of a key may be: a range of numbers, or an interface by name.
type span struct {
	kind      kind
	low, high number
	name      string
}

type kind uint8

const (
	numeric kind = iota
	address4
	address6
	named
)

// expression reads a field and then changes its bits.
type expression struct {
	field      field
	protocol   uint8 // of header fields: the protocol whose header it is; 0: any
	operations []operator
}

// operator is &, | or ^ with a constant.
type operator struct {
	sign  byte
	value number
}

type field uint8

const (
	metaMark field = iota + 1
	metaProtocol
	metaFamily
	metaLength
	inputName
	outputName
	ctState
	ctStatus
	ctDirection
	ctMark
	ctZone
	originalSource4
	originalSource6
	originalDestination4
	originalDestination6
	source4
	source6
	destination4
	destination6
	sourcePort
	destinationPort
	icmpType
	icmpCode
	tcpFlags
	udpLength
	hopLimit4
	hopLimit6
	sourceType
	destinationType
	// As xtables read them.
	xtState      // the state, and whether source or target are translated by now
	replySource4 // addresses of the connection's answers
	replySource6
	replyDestination4
	replyDestination6
	setSourcePort // ipset: of ICMP its type and code, of what has no ports 0
	setDestinationPort
	u32UDPLength // bytes 4 and 5 of the transport header
)

// fields is how wide each is and which constants it is compared with.
var fields = map[field]struct {
	name  string
	width int
	kind  kind
}{
	metaMark: {"meta mark", 32, numeric}, metaProtocol: {"meta l4proto", 8, numeric}, metaFamily: {"meta nfproto", 8, numeric}, metaLength: {"meta length", 16, numeric},
	inputName: {"iifname", 0, named}, outputName: {"oifname", 0, named},
	ctState: {"ct state", 8, numeric}, ctStatus: {"ct status", 32, numeric}, ctDirection: {"ct direction", 8, numeric}, ctMark: {"ct mark", 32, numeric}, ctZone: {"ct zone", 16, numeric},
	originalSource4: {"ct original ip saddr", 32, address4}, originalSource6: {"ct original ip6 saddr", 128, address6},
	originalDestination4: {"ct original ip daddr", 32, address4}, originalDestination6: {"ct original ip6 daddr", 128, address6},
	source4: {"ip saddr", 32, address4}, source6: {"ip6 saddr", 128, address6},
	destination4: {"ip daddr", 32, address4}, destination6: {"ip6 daddr", 128, address6},
	sourcePort: {"th sport", 16, numeric}, destinationPort: {"th dport", 16, numeric},
	icmpType: {"icmp type", 8, numeric}, icmpCode: {"icmp code", 8, numeric}, tcpFlags: {"tcp flags", 8, numeric}, udpLength: {"udp length", 16, numeric},
	hopLimit4: {"ip ttl", 8, numeric}, hopLimit6: {"ip6 hoplimit", 8, numeric},
	sourceType: {"fib saddr type", 8, numeric}, destinationType: {"fib daddr type", 8, numeric},
	xtState: {"ctstate", 9, numeric}, replySource4: {"ctreplsrc", 32, address4}, replySource6: {"ctreplsrc", 128, address6},
	replyDestination4: {"ctrepldst", 32, address4}, replyDestination6: {"ctrepldst", 128, address6},
	setSourcePort: {"source port in a set", 16, numeric}, setDestinationPort: {"destination port in a set", 16, numeric}, u32UDPLength: {"u32", 16, numeric},
}

// Numbers of the kernel's interface (linux/netfilter.h, nf_conntrack_common.h, rtnetlink.h).
const (
	stateInvalid, stateEstablished, stateRelated, stateNew, stateUntracked = 1, 2, 4, 8, 64

	stateSourceMoved, stateTargetMoved = 128, 256 // XT_CONNTRACK_STATE_SNAT and DNAT

	statusConfirmed        = 8
	familyIPv4, familyIPv6 = 2, 10
	typeLocal              = 2 // RTN_LOCAL
)
