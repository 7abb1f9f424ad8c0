package nftables

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"shekara/netctl/multicast"
)

// What is kept of one transaction: one of ten thousand elements is told of as well as one of ten.
const (
	maxObjects = 32
	maxName    = 256 // NFT_NAME_MAXLEN (linux/netfilter/nf_tables.h)
	maxCommand = 15  // TASK_COMM_LEN without its end (linux/sched.h)
)

// Transaction is one change of nftables, all or nothing, by one process.
type Transaction struct {
	Generation uint32 // the kernel's count after it
	// PID is the thread that made it, as the initial PID namespace counts; 0: the kernel did not say. It may have ended since.
	PID     int
	Command string // its name, which each process gives itself
	Objects []Object
	More    int // objects that it touched besides
	Seen    time.Time
}

// Object is what a transaction touched.
type Object struct {
	Verb   string // "add" (which is also "change") or "delete"
	Kind   string // "table", "chain", "rule", "set", "element", "object", "flowtable"
	Table  string // with its family, as "inet shekara"
	Name   string // of the chain that a rule is in, of the set that an element is in, of the rest their own; "" for a table
	Handle uint64 // of a rule
}

func (o Object) String() string {
	switch o.Kind {
	case "table":
		return fmt.Sprintf("%s table %s", o.Verb, o.Table)
	case "rule":
		return fmt.Sprintf("%s rule %s %s handle %d", o.Verb, o.Table, o.Name, o.Handle)
	}
	return fmt.Sprintf("%s %s %s %s", o.Verb, o.Kind, o.Table, o.Name)
}

// By is who made it, for people.
func (t Transaction) By() string {
	if t.PID == 0 {
		return "unknown"
	}
	return fmt.Sprintf("%s (process %d)", t.Command, t.PID)
}

// Touches says whether it touched such an object. One that touched more than was kept may have.
func (t Transaction) Touches(such func(Object) bool) bool {
	return t.More > 0 || slices.ContainsFunc(t.Objects, such)
}

// Listener hears of the transactions in one network namespace. It is safe for concurrent use.
type Listener struct {
	socket *multicast.Socket
	decode decoder // the socket hands one datagram over at a time
}

// Listen hears what is done in the calling thread's network namespace from now on.
func Listen() (*Listener, error) {
	socket, err := multicast.Open(unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES)
	if err != nil {
		return nil, fmt.Errorf("listen to nftables: %w", err)
	}
	return &Listener{socket: socket}, nil
}

// Close ends a Wait.
func (l *Listener) Close() error { return l.socket.Close() }

// Wait returns when there is something to take, or os.ErrClosed.
func (l *Listener) Wait() error { return l.socket.Wait() }

// Take hands over each transaction that was made since the last Take, without waiting for more. lost says that the kernel had to drop
// messages (ENOBUFS), so that some are missing, or look smaller than they were.
func (l *Listener) Take(each func(Transaction)) (lost bool, err error) {
	lost, err = l.socket.Take(func(messages []byte) { l.decode.datagram(messages, each) })
	if err != nil {
		return lost, fmt.Errorf("listen to nftables: %w", err)
	}
	return lost, nil
}

// decoder puts transactions together: the kernel tells of each object, and at the end (NFT_MSG_NEWGEN) who did it.
type decoder struct{ pending Transaction }

func (d *decoder) datagram(messages []byte, each func(Transaction)) {
	for len(messages) >= unix.SizeofNlMsghdr {
		length, kind := binary.NativeEndian.Uint32(messages), binary.NativeEndian.Uint16(messages[4:])
		if length < unix.SizeofNlMsghdr || uint64(length) > uint64(len(messages)) {
			return // the rest cannot be read: what is said of the transaction stays true, if not whole
		}
		body := messages[unix.SizeofNlMsghdr:length]
		messages = messages[min(int(length+3)&^3, len(messages)):]
		if kind>>8 != unix.NFNL_SUBSYS_NFTABLES || len(body) < nl.SizeofNfgenmsg {
			continue
		}
		if kind&0xff == unix.NFT_MSG_NEWGEN {
			d.pending.finish(body[nl.SizeofNfgenmsg:])
			each(d.pending)
			d.pending = Transaction{}
			continue
		}
		if object, known := decodeObject(byte(kind), body); known {
			d.pending.touch(object)
		}
	}
}

func (t *Transaction) touch(o Object) {
	if len(t.Objects) == maxObjects {
		t.More++
		return
	}
	t.Objects = append(t.Objects, o)
}

// NFTA_GEN_* (linux/netfilter/nf_tables.h), numbers in network byte order. NFTA_GEN_ID is generationAttribute.
const (
	generationPID  = 2
	generationName = 3
)

func (t *Transaction) finish(attributes []byte) {
	t.Seen = time.Now()
	for kind, value := range multicast.Attributes(attributes) {
		switch {
		case kind == generationAttribute && len(value) == 4:
			t.Generation = binary.BigEndian.Uint32(value)
		case kind == generationPID && len(value) == 4:
			t.PID = int(binary.BigEndian.Uint32(value))
		case kind == generationName:
			t.Command = text(value, maxCommand)
		}
	}
}

// kindOf is what a message is about, with the numbers of the attributes that name it: NFTA_CHAIN_NAME, NFTA_RULE_CHAIN, NFTA_SET_NAME,
// NFTA_SET_ELEM_LIST_SET, NFTA_OBJ_NAME, NFTA_FLOWTABLE_NAME; the table's name is 1 in all of them.
func kindOf(message byte) (verb, kind string, name uint16, known bool) {
	switch message {
	case unix.NFT_MSG_NEWTABLE:
		return "add", "table", 0, true
	case unix.NFT_MSG_DELTABLE:
		return "delete", "table", 0, true
	case unix.NFT_MSG_NEWCHAIN:
		return "add", "chain", 3, true
	case unix.NFT_MSG_DELCHAIN:
		return "delete", "chain", 3, true
	case unix.NFT_MSG_NEWRULE:
		return "add", "rule", 2, true
	case unix.NFT_MSG_DELRULE:
		return "delete", "rule", 2, true
	case unix.NFT_MSG_NEWSET:
		return "add", "set", 2, true
	case unix.NFT_MSG_DELSET:
		return "delete", "set", 2, true
	case unix.NFT_MSG_NEWSETELEM:
		return "add", "element", 2, true
	case unix.NFT_MSG_DELSETELEM:
		return "delete", "element", 2, true
	case unix.NFT_MSG_NEWOBJ:
		return "add", "object", 2, true
	case unix.NFT_MSG_DELOBJ:
		return "delete", "object", 2, true
	case 22: // NFT_MSG_NEWFLOWTABLE
		return "add", "flowtable", 2, true
	case 24: // NFT_MSG_DELFLOWTABLE
		return "delete", "flowtable", 2, true
	}
	return "", "", 0, false
}

const (
	tableAttribute      = 1
	ruleHandleAttribute = 3 // NFTA_RULE_HANDLE
)

func decodeObject(message byte, body []byte) (Object, bool) {
	verb, kind, name, known := kindOf(message)
	if !known {
		return Object{}, false
	}
	o := Object{Verb: verb, Kind: kind, Table: "?"}
	for attribute, value := range multicast.Attributes(body[nl.SizeofNfgenmsg:]) {
		switch {
		case attribute == tableAttribute:
			o.Table = familyName(body[0]) + " " + text(value, maxName)
		case attribute == name:
			o.Name = text(value, maxName)
		case kind == "rule" && attribute == ruleHandleAttribute && len(value) == 8:
			o.Handle = binary.BigEndian.Uint64(value)
		}
	}
	return o, true
}

// families are the names that nft(8) has for the kernel's families of tables.
func families() map[byte]string {
	return map[byte]string{
		unix.NFPROTO_INET: "inet", unix.NFPROTO_IPV4: "ip", unix.NFPROTO_IPV6: "ip6",
		unix.NFPROTO_ARP: "arp", unix.NFPROTO_NETDEV: "netdev", unix.NFPROTO_BRIDGE: "bridge",
	}
}

func familyName(family byte) string {
	if name, known := families()[family]; known {
		return name
	}
	return fmt.Sprintf("family %d", family)
}

// text is a name as people may read it: whoever makes a table chooses its bytes.
func text(value []byte, most int) string {
	s, _, _ := strings.Cut(string(value[:min(len(value), most)]), "\x00")
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0xfffd {
			return '?'
		}
		return r
	}, s)
}
