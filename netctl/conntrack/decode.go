package conntrack

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"shekara/netctl/multicast"
)

// sizeofGeneric is struct nfgenmsg, which each message of netfilter begins with.
const sizeofGeneric = 4

// Attributes of a connection (linux/netfilter/nfnetlink_conntrack.h), and states of TCP (nf_conntrack_tcp.h).
const (
	tupleOriginal, tupleReply, protocolInfo, help, mark = 1, 2, 4, 5, 8
	countersOriginal, countersReply, identity, zone     = 9, 10, 12, 18
	timestamp, timestampStart, timestampStop            = 20, 1, 2

	tupleAddresses, tupleProtocol                = 1, 2
	source4, destination4, source6, destination6 = 1, 2, 3, 4
	protocolNumber, sourcePort, destinationPort  = 1, 2, 3
	icmpType, icmpCode, icmp6Type, icmp6Code     = 5, 6, 8, 9
	infoTCP, infoTCPState                        = 1, 1
	timeWait, closed                             = 7, 8
	countedPackets, countedBytes                 = 1, 2
)

// decode reads a connection, as a dump and as news tell it. What is cut short is read as far as it goes.
func (a *Account) decode(message []byte) error {
	*a = Account{}
	if len(message) < sizeofGeneric {
		return fmt.Errorf("a message of %d bytes", len(message))
	}
	var reply Entry
	for kind, value := range multicast.Attributes(message[sizeofGeneric:]) {
		switch kind {
		case tupleOriginal:
			a.tuple(value)
		case tupleReply:
			reply.tuple(value)
		case protocolInfo:
			a.Closed = closedTCP(value)
		case help:
			a.Helped = true
		case mark:
			a.Mark = big(value)
		case zone:
			if len(value) == 2 {
				a.Zone = binary.BigEndian.Uint16(value)
			}
		case identity:
			a.ID = big(value)
		case countersOriginal:
			a.Counted = true
			a.Original = counter(value)
		case countersReply:
			a.Reply = counter(value)
		case timestamp:
			a.Began, a.Ended = times(value)
		}
	}
	if !(a.Source.IsValid() && a.Destination.IsValid()) {
		return fmt.Errorf("a connection without addresses")
	}
	if reply.Source != a.Destination || reply.Destination != a.Source {
		a.AnswersFrom, a.AnswersTo = reply.Source, reply.Destination
	}
	return nil
}

func closedTCP(info []byte) bool {
	for kind, value := range multicast.Attributes(info) {
		if kind != infoTCP {
			continue
		}
		for kind, value := range multicast.Attributes(value) {
			if kind == infoTCPState && len(value) == 1 {
				return value[0] == timeWait || value[0] == closed
			}
		}
	}
	return false
}

// times reads nanoseconds since 1970.
func times(value []byte) (began, ended time.Time) {
	for kind, value := range multicast.Attributes(value) {
		if len(value) != 8 {
			continue
		}
		switch at := time.Unix(0, int64(binary.BigEndian.Uint64(value))); kind {
		case timestampStart:
			began = at
		case timestampStop:
			ended = at
		}
	}
	return began, ended
}

func counter(value []byte) (c Counter) {
	for kind, value := range multicast.Attributes(value) {
		switch {
		case kind == countedPackets && len(value) == 8:
			c.Packets = binary.BigEndian.Uint64(value)
		case kind == countedBytes && len(value) == 8:
			c.Bytes = binary.BigEndian.Uint64(value)
		}
	}
	return c
}

// tuple reads addresses, protocol and ports of one direction.
func (e *Entry) tuple(value []byte) {
	for kind, value := range multicast.Attributes(value) {
		for inner, value := range multicast.Attributes(value) {
			switch {
			case kind == tupleAddresses && (inner == source4 || inner == source6):
				e.Source, _ = netip.AddrFromSlice(value)
			case kind == tupleAddresses && (inner == destination4 || inner == destination6):
				e.Destination, _ = netip.AddrFromSlice(value)
			case kind == tupleProtocol && len(value) == 1 && inner == protocolNumber:
				e.Protocol = value[0]
			case kind == tupleProtocol && len(value) == 1 && (inner == icmpType || inner == icmp6Type):
				e.ICMPType = value[0]
			case kind == tupleProtocol && len(value) == 1 && (inner == icmpCode || inner == icmp6Code):
				e.ICMPCode = value[0]
			case kind == tupleProtocol && len(value) == 2 && inner == sourcePort:
				e.SourcePort = binary.BigEndian.Uint16(value)
			case kind == tupleProtocol && len(value) == 2 && inner == destinationPort:
				e.DestinationPort = binary.BigEndian.Uint16(value)
			}
		}
	}
}

// messages goes through a datagram as far as it is well formed: the type of each message, and what follows its header.
func messages(datagram []byte) func(yield func(kind uint16, body []byte) bool) {
	return func(yield func(uint16, []byte) bool) {
		for len(datagram) >= unix.SizeofNlMsghdr {
			length := binary.NativeEndian.Uint32(datagram)
			if length < unix.SizeofNlMsghdr || uint64(length) > uint64(len(datagram)) {
				return
			}
			if !yield(binary.NativeEndian.Uint16(datagram[4:]), datagram[unix.SizeofNlMsghdr:length]) {
				return
			}
			datagram = datagram[min(int(length+3)&^3, len(datagram)):]
		}
	}
}

func big(value []byte) uint32 {
	if len(value) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(value)
}
