package proof

import (
	"fmt"
	"slices"
)

// field is what a packet of the view has. What it lacks ends the rule, as in the kernel (NFT_BREAK).
func (r *run) field(e expression, care formula) (vector, formula) {
	v := &r.now
	tracked := never
	if v.tracked && !r.early {
		tracked = always
	}
	if r.early && r.translates && slices.Contains(ofConnection, e.field) { // that of a template, if it has a zone
		panic(unmodelled{fmt.Sprintf("hook %s: %s before conntrack, beside conntrack zones", r.hook, e)})
	}
	original := func(source bool) vector {
		if source {
			return r.source
		}
		return r.target
	}
	switch e.field {
	case metaMark:
		return r.mark.read(r.diagrams, care), always
	case metaProtocol:
		return v.protocol, always
	case metaFamily:
		return r.chosen(r.version6, constantVector(small(familyIPv6), 8), constantVector(small(familyIPv4), 8)), always
	case metaLength:
		return r.length, always
	case inputName:
		if r.hook == "output" {
			return constantVector(number{}, len(r.from)), always
		}
		return v.input, always
	case outputName:
		if r.hook == "prerouting" || r.hook == "input" {
			return constantVector(number{}, len(r.from)), always
		}
		return v.output, always
	case ctState:
		return r.state(), always
	case xtState:
		return slices.Concat(vector{r.and(tracked, r.isMoved(false)), r.and(tracked, r.isMoved(true))}, r.state()[1:]), always
	case ctStatus:
		value := constantVector(number{}, 32)
		value[28] = v.confirmed // statusConfirmed; no rule that is modelled asks for another
		return value, tracked
	case ctDirection:
		if v.reply {
			return constantVector(small(1), 8), tracked
		}
		return constantVector(number{}, 8), tracked
	case ctMark:
		return r.ct.read(r.diagrams, care), tracked
	case originalSource4, originalDestination4:
		return original(e.field == originalSource4)[:32], r.and(tracked, not(r.version6))
	case originalSource6, originalDestination6:
		return original(e.field == originalSource6), r.and(tracked, r.version6)
	case replySource4, replyDestination4:
		return r.answers(e.field == replySource4)[:32], r.and(tracked, not(r.version6))
	case replySource6, replyDestination6:
		return r.answers(e.field == replySource6), r.and(tracked, r.version6)
	case source4:
		return v.source[:32], not(r.version6)
	case source6:
		return v.source, r.version6
	case destination4:
		return v.target[:32], not(r.version6)
	case destination6:
		return v.target, r.version6
	case hopLimit4:
		return r.hops, not(r.version6)
	case hopLimit6:
		return r.hops, r.version6
	case sourceType, destinationType:
		return r.localType(e.field == sourceType), always
	case setSourcePort, setDestinationPort:
		return r.setPort(e.field == setSourcePort)
	case u32UDPLength:
		if !r.implies(care, r.equal(v.protocol, small(17))) {
			panic(unmodelled{fmt.Sprintf("hook %s: u32 is asked of packets that are not UDP", r.hook)})
		}
		return r.udpLength, not(v.headerless)
	}
	return r.header(e)
}

// ofConnection are the fields that conntrack gives.
var ofConnection = []field{ctState, ctStatus, ctDirection, ctMark, originalSource4, originalSource6, originalDestination4, originalDestination6, xtState,
	replySource4, replySource6, replyDestination4, replyDestination6}

func (r *run) state() vector {
	if r.early && r.view.state != stateUntracked {
		return constantVector(small(stateInvalid), 8)
	}
	return constantVector(small(r.view.state), 8)
}

// localType is what fib says of an address: local, or another type, which no rule that is modelled tells apart.
func (r *run) localType(source bool) vector {
	local := r.localTarget()
	if source {
		if local = r.sourceLocal; r.settled[1] {
			panic(unmodelled{fmt.Sprintf("hook %s: %s, where sources are translated", r.hook, fields[sourceType].name)})
		}
	}
	v := constantVector(number{}, 8)
	v[6] = local // 2, RTN_LOCAL
	return v
}

// header is a field of the transport header, where the packet has it: what depends on the protocol is plain where a rule asks for one.
func (r *run) header(e expression) (vector, formula) {
	v := &r.now
	has := not(v.headerless)
	switch e.protocol {
	case 0:
	case icmpNumber:
		has = r.all(not(r.version6), r.equal(v.protocol, small(icmpNumber)), has)
	case icmp6:
		has = r.all(r.version6, r.equal(v.protocol, small(icmp6)), has)
	default:
		has = r.and(r.equal(v.protocol, small(uint64(e.protocol))), has)
	}
	out := r.udpLength
	switch e.field {
	case sourcePort:
		out = v.head
	case destinationPort:
		out = v.second
	case icmpType:
		out = v.head[:8]
	case icmpCode:
		out = v.head[8:]
	case tcpFlags:
		out = r.flags
	}
	out = slices.Clone(out)
	for i := range out {
		out[i] = r.diagrams.within(out[i], has)
	}
	return out, has
}
