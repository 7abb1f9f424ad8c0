package proof

import (
	"slices"
	"strings"
)

// variables are all that a packet and its connection may differ in, in an order of which any other would be as true, only slower. First the
// generation of a connection's mark, so that with the next one all below stays as it is. Then interfaces, as what rules do depends on them
// most, each followed by the bits of marks in which package firewall writes it: hundreds of devices have a mark for each pair. Last the
// addresses of connections and their ports: a set of flows is one such tree for each protocol. All else of a packet stands above, so that
// what is asked of it besides is put together with ten thousand flows at their root; below them it would be at each leaf, and as often as
// anybody asks.
type variables struct {
	version6       formula
	from, to       vector // interface of the side that opened the connection, and of the other; 0: this box
	connectionMark vector // bits of the opener's place, of the other's, and the generation (package firewall)
	writtenMark    vector // the connection's mark after a rule wrote it; next to the other, so that one can be renamed to the other
	packetMark     vector // as the packet comes: a socket may have set it
	source, target vector // addresses with which the connection was opened; of IPv4 the first 32 bits
	// What stands instead of them behind the translation: answers go to one and come from the other. Without any these are the same.
	toSource, toTarget vector
	toSourcePort       vector
	sourceMoved        formula // of the connection that an ICMP error is about: something stands instead
	targetMoved        formula
	connectionZone     vector
	movedLocal         formula // fib says so of the target behind translation, where it is another
	translates         bool
	protocol           vector
	targetPort         vector
	sourcePort         vector // the first two bytes of the header: of ICMP type and code
	errorSource        vector // of an ICMP error: its own addresses and header
	errorTarget        vector
	errorHead          vector
	checksum           vector // bytes 2 and 3 of an ICMP header that travels against the connection
	flags, length      vector
	udpLength, hops    vector
	sourceLocal        formula // fib says that the source is an address of this box
	targetLocal        formula
	unanswered         formula  // of a connection without an answer: this is not its first packet; if anything translates, it did already
	headerless         formula  // shorter than its transport header: rules that read one end
	levels             int      // how many variables there are
	interfaces         []string // by number; 0 is none
	interfaceNumber    map[string]int
	toConnection       []uint32 // by level: of writtenMark those of connectionMark, of others themselves
	ofOnePacket        formula  // conjunctions of variables to forget: all that a connection does not keep, and the mark before
	ofOnePacketAlone   formula  // the same, but for what stands instead of the connection's addresses
	notInterfaces      formula
	ofInterfaces       formula
	ofFrom, ofTo       formula
	ofService          formula // protocol, ports
	ofTargetPort       formula
	ofOther            formula // toSource, toTarget
	ofOpening          formula // all that the first packet of a connection does not leave behind in its entry, but for its interfaces
}

const (
	noInterface    = "" // this box itself
	otherInterface = "(another interface)"
)

// newVariables orders the variables for the interfaces that the ruleset or the policy names. One more stands for all that nobody names; a
// pattern "eth*" stands for an interface that matches it and no more. What only translation makes differ is left out where nothing translates.
func newVariables(d *diagrams, names []string, translates bool) *variables {
	v := &variables{interfaces: names, interfaceNumber: map[string]int{}, translates: translates}
	for i, name := range v.interfaces {
		v.interfaceNumber[name] = i
	}
	width := 1
	for 1<<width < len(v.interfaces) {
		width++
	}
	one := func() formula { v.levels++; return d.variable(v.levels - 1) }
	many := func(n int) vector {
		out := make(vector, n)
		for i := range out {
			out[i] = one()
		}
		return out
	}
	marks := func(n int) (before, written vector) { return many(n), many(n) }
	generation, generationWritten := marks(12)
	v.version6 = one()
	v.from = many(width)
	fromMark, fromWritten := marks(10)
	v.to = many(width)
	toMark, toWritten := marks(10)
	v.connectionMark, v.writtenMark = slices.Concat(fromMark, toMark, generation), slices.Concat(fromWritten, toWritten, generationWritten)
	if translates {
		v.unanswered, v.sourceMoved, v.targetMoved, v.connectionZone = one(), one(), one(), many(16)
	}
	v.packetMark = many(32)
	v.sourceLocal, v.targetLocal, v.headerless = one(), one(), one()
	if translates {
		v.movedLocal = one()
	} else {
		v.unanswered = one()
	}
	v.flags, v.length, v.udpLength, v.hops = many(8), many(16), many(16), many(8)
	v.errorHead, v.checksum = many(16), many(16)
	v.errorSource, v.errorTarget = many(128), many(128)
	pair := func(n int) (own, other vector) {
		if !translates {
			own = many(n)
			return own, own
		}
		for range n { // side by side: most of them are equal
			own, other = append(own, one()), append(other, one())
		}
		return own, other
	}
	v.protocol = many(8)
	v.source, v.toSource = pair(128)
	v.target, v.toTarget = pair(128)
	v.targetPort = many(16)
	v.sourcePort, v.toSourcePort = pair(16)

	v.toConnection = make([]uint32, v.levels)
	for level := range v.toConnection {
		v.toConnection[level] = uint32(level)
	}
	for i, f := range v.writtenMark {
		v.toConnection[d.level(f)] = d.level(v.connectionMark[i])
	}
	v.ofInterfaces, v.ofFrom, v.ofTo = d.all(slices.Concat(v.from, v.to)...), d.all(v.from...), d.all(v.to...)
	v.ofService = d.all(slices.Concat(v.protocol, v.targetPort, v.sourcePort)...)
	v.ofTargetPort = d.all(v.targetPort...)
	v.notInterfaces = d.except(v.levels, slices.Concat(vector{v.version6}, v.from, v.to))
	kept := slices.Concat(vector{v.version6}, v.from, v.to, v.writtenMark, v.source, v.target, v.protocol, v.targetPort, v.sourcePort)
	v.ofOnePacket, v.ofOnePacketAlone = d.except(v.levels, kept), d.except(v.levels, slices.Concat(kept, v.toSource, v.toTarget))
	v.ofOther = d.all(slices.Concat(v.toSource, v.toTarget)...)
	v.ofOpening = d.except(v.levels, slices.Concat(vector{v.version6}, v.from, v.to, v.connectionZone, v.source, v.toSource, v.target, v.toTarget, v.protocol, v.targetPort, v.sourcePort))
	return v
}

// except is the conjunction of all variables but some.
func (d *diagrams) except(levels int, kept vector) formula {
	out := always
	for level := levels - 1; level >= 0; level-- {
		if !slices.ContainsFunc(kept, func(f formula) bool { return d.level(f) == uint32(level) }) {
			out = d.make(uint32(level), never, out)
		}
	}
	return out
}

// numbers are the interfaces that a name in a rule matches.
func (v *variables) numbers(name string) []int {
	start, pattern := strings.CutSuffix(name, "*")
	if !pattern {
		if n, known := v.interfaceNumber[name]; known {
			return []int{n}
		}
		return nil
	}
	var out []int
	for i, other := range v.interfaces[1 : len(v.interfaces)-1] {
		if strings.HasPrefix(other, start) {
			out = append(out, i+1)
		}
	}
	return out
}

// view is one class of packets: what each field of them is, as a function of the variables. The first packet of a connection, an answer
// and an ICMP error differ only in this, so that one policy is compared with all.
type view struct {
	name           string
	input, output  vector // interfaces
	source, target vector
	protocol       vector
	head, second   vector // first and second two bytes of the transport header
	state          uint64
	tracked        bool // conntrack has an entry: its direction, mark and addresses can be read
	reply          bool
	mark           vector  // of the connection, before the rules
	confirmed      formula // of a connection that was there before the packet
	domain         formula // which packets there can be of this class
	headerless     formula
}

// classes of packets, by what conntrack says of them.
const (
	classNew           = "new"
	classOriginal      = "established, original direction"
	classReply         = "established, reply direction"
	classErrorOriginal = "related, original direction"
	classErrorReply    = "related, reply direction"
	classInvalid       = "invalid"
	classUntracked     = "untracked"
)

// Protocol numbers of ICMP and ICMPv6.
const icmpNumber, icmp6 = 1, 58

var allClasses = []string{classNew, classOriginal, classReply, classErrorOriginal, classErrorReply, classInvalid, classUntracked}

// icmp is where a protocol vector and the family say ICMP.
func (e *engine) icmp(protocol vector) formula {
	return e.choose(e.version6, e.equal(protocol, small(icmp6)), e.equal(protocol, small(icmpNumber)))
}

// class is the view of one class, wherever they come from and go to.
func (e *engine) class(name string) *view {
	v := &view{name: name, input: e.from, output: e.to, source: e.source, target: e.target, protocol: e.protocol, head: e.sourcePort, second: e.targetPort,
		state: stateNew, tracked: true, mark: e.connectionMark, headerless: e.headerless, confirmed: always}
	turn := func() {
		v.reply = true
		v.input, v.output = e.to, e.from
		v.source, v.target = e.toTarget, e.toSource
	}
	isICMP := e.icmp(e.protocol)
	// Which types begin something (nf_conntrack_proto_icmp.c, icmpv6.c): all else of ICMP is invalid, an error or not tracked.
	first := e.icmpPairs(e.sourcePort[:8], nil)
	switch name {
	case classNew: // until there is an answer; so it may have a mark already
		v.confirmed = e.unanswered
		v.domain = e.or(not(isICMP), first)
		if e.translates { // its first packet finds no mark
			v.domain = e.and(v.domain, e.or(e.unanswered, e.equal(v.mark, number{})))
		}
	case classOriginal:
		v.state = stateEstablished
		v.domain = e.or(not(isICMP), first)
	case classReply:
		v.state = stateEstablished
		turn()
		v.head, v.second = e.targetPort, make(vector, 16)
		for i := range v.second {
			v.second[i] = e.choose(isICMP, e.checksum[i], e.toSourcePort[i])
		}
		v.domain = e.or(not(isICMP), e.icmpPairs(e.sourcePort[:8], e.targetPort[:8]))
	case classErrorOriginal, classErrorReply:
		v.state = stateRelated
		if name == classErrorReply {
			turn()
		}
		v.source, v.target, v.head, v.second = e.errorSource, e.errorTarget, e.errorHead, e.checksum
		v.protocol = make(vector, 8)
		for i := range v.protocol {
			v.protocol[i] = e.choose(e.version6, constantVector(small(icmp6), 8)[i], constantVector(small(icmpNumber), 8)[i])
		}
		var errors4 []formula
		for _, kind := range []uint64{3, 4, 5, 11, 12} { // nf_conntrack_icmpv4_error
			errors4 = append(errors4, e.equal(v.head[:8], small(kind)))
		}
		v.domain = e.choose(e.version6, not(v.head[0]), e.any(errors4...))
		if e.translates { // IPS_SRC_NAT and IPS_DST_NAT: the address is another, or the port
			other := e.or(not(e.same(e.source, e.toSource)), e.without(not(e.equalVectors(e.sourcePort, e.toSourcePort)), isICMP))
			v.domain = e.all(v.domain, e.choose(e.sourceMoved, e.or(other, isICMP), not(other)), e.choose(e.targetMoved, not(e.same(e.target, e.toTarget)), e.same(e.target, e.toTarget)))
		}
	case classInvalid, classUntracked:
		v.tracked, v.domain = false, always
		if v.state = stateInvalid; name == classUntracked {
			v.state = stateUntracked
		}
	}
	if v.tracked { // else conntrack calls it invalid
		var whole []formula
		for _, protocol := range []uint64{1, 6, 17, 33, 58, 132, 136} {
			whole = append(whole, e.equal(v.protocol, small(protocol)))
		}
		v.domain = e.without(v.domain, e.and(e.headerless, e.any(whole...)))
	}
	return v
}

// icmpPairs is where a type begins something and, if given, the other is that of its answer.
func (e *engine) icmpPairs(kind, answer vector) formula {
	pairs := func(list [][2]uint64) formula {
		var out []formula
		for _, p := range list {
			pair := e.equal(kind, small(p[0]))
			if answer != nil {
				pair = e.and(pair, e.equal(answer, small(p[1])))
			}
			out = append(out, pair)
		}
		return e.any(out...)
	}
	return e.choose(e.version6, pairs([][2]uint64{{128, 129}, {139, 140}}), pairs([][2]uint64{{8, 0}, {13, 14}, {15, 16}, {17, 18}}))
}
