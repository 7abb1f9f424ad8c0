package conntrack

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"shekara/netctl"
)

// Entry is a tracked connection, as it was opened.
type Entry struct {
	Source, Destination         netip.Addr
	Protocol                    uint8
	SourcePort, DestinationPort uint16
	ICMPType, ICMPCode          uint8
	Mark                        uint32
	Zone                        uint16
	// Where answers come from and go to, if that is not simply the destination and the source: what these were translated to. Both are zero
	// or none.
	AnswersFrom, AnswersTo netip.Addr
	Helped                 bool // a helper reads it, and may let others in as related
	Closed                 bool // TCP that both ends have closed: it only waits for late packets
}

func (e Entry) String() string {
	s := fmt.Sprintf("%s > %s protocol %d", e.Source, e.Destination, e.Protocol)
	switch {
	case e.Protocol == unix.IPPROTO_ICMP || e.Protocol == unix.IPPROTO_ICMPV6:
		s += fmt.Sprintf(" type %d code %d", e.ICMPType, e.ICMPCode)
	case e.SourcePort != 0 || e.DestinationPort != 0:
		s += fmt.Sprintf(" %d>%d", e.SourcePort, e.DestinationPort)
	}
	if e.AnswersFrom.IsValid() {
		s += fmt.Sprintf(" answered %s > %s", e.AnswersFrom, e.AnswersTo)
	}
	if e.Zone != 0 {
		s += fmt.Sprintf(" zone %d", e.Zone)
	}
	return s
}

// Attributes of a connection (linux/netfilter/nfnetlink_conntrack.h), and states of TCP (nf_conntrack_tcp.h).
const (
	tupleOriginal, tupleReply, protocolInfo, help, mark, zone = 1, 2, 4, 5, 8, 18

	tupleAddresses, tupleProtocol                = 1, 2
	source4, destination4, source6, destination6 = 1, 2, 3, 4
	protocolNumber, sourcePort, destinationPort  = 1, 2, 3
	icmpType, icmpCode, icmp6Type, icmp6Code     = 5, 6, 8, 9
	infoTCP, infoTCPState                        = 1, 1
	timeWait, closed                             = 7, 8
)

// Each reads the whole table, entry by entry as the kernel tells them, until do answers false. It needs no memory for the table.
// The table is that of the calling thread's network namespace; it may change meanwhile.
func (t *Table) Each(ctx context.Context, do func(Entry) bool) error {
	request := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP)
	request.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: nl.NFNETLINK_V0})
	var failed error
	err := request.ExecuteIter(unix.NETLINK_NETFILTER, 0, func(message []byte) bool {
		if failed = ctx.Err(); failed != nil {
			return false
		}
		e, err := decode(message)
		if err != nil {
			failed = err
			return false
		}
		return do(e)
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return &netctl.Error{Op: "read connection table", Err: err}
	}
	return nil
}

// decode reads one message of a dump.
func decode(message []byte) (Entry, error) {
	if len(message) < nl.SizeofNfgenmsg {
		return Entry{}, fmt.Errorf("a message of %d bytes", len(message))
	}
	var e, reply Entry
	err := attributes(message[nl.SizeofNfgenmsg:], func(kind uint16, value []byte) error {
		switch kind {
		case tupleOriginal:
			return e.tuple(value)
		case tupleReply:
			return reply.tuple(value)
		case protocolInfo:
			return attributes(value, func(kind uint16, value []byte) error {
				if kind != infoTCP {
					return nil
				}
				return attributes(value, func(kind uint16, value []byte) error {
					if kind == infoTCPState && len(value) == 1 {
						e.Closed = value[0] == timeWait || value[0] == closed
					}
					return nil
				})
			})
		case help:
			e.Helped = true
		case mark:
			e.Mark = big(value)
		case zone:
			if len(value) == 2 {
				e.Zone = binary.BigEndian.Uint16(value)
			}
		}
		return nil
	})
	if err == nil && !(e.Source.IsValid() && e.Destination.IsValid()) {
		err = fmt.Errorf("an entry without addresses")
	}
	if reply.Source != e.Destination || reply.Destination != e.Source {
		e.AnswersFrom, e.AnswersTo = reply.Source, reply.Destination
	}
	return e, err
}

// tuple reads addresses, protocol and ports of one direction.
func (e *Entry) tuple(value []byte) error {
	return attributes(value, func(kind uint16, value []byte) error {
		return attributes(value, func(inner uint16, value []byte) error {
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
			return nil
		})
	})
}

// attributes walks through those of a message. Nested ones may bear a flag.
func attributes(raw []byte, do func(kind uint16, value []byte) error) error {
	list, err := nl.ParseRouteAttr(raw)
	if err != nil {
		return err
	}
	for _, a := range list {
		if err := do(a.Attr.Type&nl.NLA_TYPE_MASK, a.Value); err != nil {
			return err
		}
	}
	return nil
}

func big(value []byte) uint32 {
	if len(value) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(value)
}
