package filters

import (
	"encoding/binary"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// queues names the filters on all queueing disciplines. Two requests find the disciplines and, of those that can have any, the filters.
func (l *looker) queues(names map[int]string) {
	qdiscs, err := traffic(unix.RTM_GETQDISC, &nl.TcMsg{})
	if err != nil {
		l.unseen(TC, "queueing disciplines", err)
		return
	}
	for _, q := range qdiscs {
		parents := []uint32{q.message.Handle}
		switch q.kind {
		case "clsact":
			parents = []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS}
		case "ingress":
			parents = []uint32{netlink.HANDLE_MIN_INGRESS}
		}
		for _, parent := range parents {
			if parent == 0 {
				continue // what the kernel gave the interface by itself: it has no filters
			}
			name := names[int(q.message.Ifindex)]
			where := fmt.Sprintf("%s at %s of interface %s", parentName(parent), q.kind, name)
			filters, err := traffic(unix.RTM_GETTFILTER, &nl.TcMsg{Ifindex: q.message.Ifindex, Parent: parent})
			if err != nil {
				l.unseen(TC, "filters "+where, err)
			}
			for _, f := range filters {
				l.add(TC, "a filter of kind %s, %s (tc filter show dev %s %s)", f.kind, where, name, parentName(parent))
			}
		}
	}
}

func parentName(parent uint32) string {
	switch parent {
	case netlink.HANDLE_MIN_INGRESS:
		return "ingress"
	case netlink.HANDLE_MIN_EGRESS:
		return "egress"
	}
	return fmt.Sprintf("parent %x:", parent>>16)
}

// object is a queueing discipline or a filter.
type object struct {
	message nl.TcMsg
	kind    string
}

// traffic dumps objects of traffic control. Their kinds are all that is read, so that none is too new to be seen.
func traffic(what int, about *nl.TcMsg) ([]object, error) {
	request := nl.NewNetlinkRequest(what, unix.NLM_F_DUMP)
	request.AddData(about)
	answers, err := request.Execute(unix.NETLINK_ROUTE, 0)
	if err != nil {
		return nil, err
	}
	var found []object
	for _, answer := range answers {
		if len(answer) < nl.SizeofTcMsg {
			return nil, fmt.Errorf("an answer of %d bytes", len(answer))
		}
		o := object{message: *nl.DeserializeTcMsg(answer)}
		attributes, err := nl.ParseRouteAttr(answer[nl.SizeofTcMsg:])
		if err != nil {
			return nil, err
		}
		for _, a := range attributes {
			if a.Attr.Type == nl.TCA_KIND {
				o.kind = unix.ByteSliceToString(a.Value)
			}
		}
		found = append(found, o)
	}
	return found, nil
}

// number reads one of the kernel's 32-bit numbers out of a structure of bpf(2).
func number(raw []byte, at int) uint32 { return binary.NativeEndian.Uint32(raw[at:]) }
