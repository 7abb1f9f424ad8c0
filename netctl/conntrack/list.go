package conntrack

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
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
