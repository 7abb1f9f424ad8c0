package conntrack

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"shekara/netctl"
	"shekara/netctl/multicast"
)

// Counter is what passed one way: IP packets, and their bytes with all headers from IP's on.
type Counter struct{ Packets, Bytes uint64 }

// Plus is both together.
func (c Counter) Plus(d Counter) Counter { return Counter{c.Packets + d.Packets, c.Bytes + d.Bytes} }

// Minus is what came since d.
func (c Counter) Minus(d Counter) Counter { return Counter{c.Packets - d.Packets, c.Bytes - d.Bytes} }

// Less says whether c cannot come after d: something of it is smaller.
func (c Counter) Less(d Counter) bool { return c.Packets < d.Packets || c.Bytes < d.Bytes }

// Account is a connection with what the kernel counted of it. A packet is counted when it arrives and belongs to a connection that is
// tracked, before the filter judges it; of a connection whose first packet the filter drops there is no account.
type Account struct {
	Entry
	// ID is the kernel's. It tells connections apart that live at a time; of two with the same addresses and ports, one after the other, it
	// may be the same.
	ID              uint32
	Counted         bool // else the connection is older than net.netfilter.nf_conntrack_acct
	Original, Reply Counter
	// Began and Ended are the kernel's, by the box's clock; zero: it lives, or that is not told (with a beginning, or as net.netfilter.nf_conntrack_timestamp was 0).
	Began, Ended time.Time
}

// Key tells a connection from all others that live at a time. It is the same in each process.
func (a *Account) Key() uint64 {
	const offset, prime = 14695981039346656037, 1099511628211 // FNV-1a, 64 bits
	var text [46]byte
	source, destination := a.Source.As16(), a.Destination.As16()
	copy(text[:], source[:])
	copy(text[16:], destination[:])
	binary.BigEndian.PutUint32(text[32:], a.ID)
	binary.BigEndian.PutUint16(text[36:], a.SourcePort)
	binary.BigEndian.PutUint16(text[38:], a.DestinationPort)
	binary.BigEndian.PutUint16(text[40:], a.Zone)
	text[42], text[43], text[44] = a.Protocol, a.ICMPType, a.ICMPCode
	key := uint64(offset)
	for _, b := range text {
		key = (key ^ uint64(b)) * prime
	}
	return key
}

const (
	dumpBuffer = 1 << 16 // more than the kernel puts into one datagram of a dump (32 KiB)
	// dumpPatience is for one datagram: the kernel makes it while it is asked for.
	dumpPatience = 10 * time.Second

	messageNew, messageGet, messageDelete = 0, 1, 2 // IPCTNL_MSG_CT_NEW, _GET, _DELETE (linux/netfilter/nfnetlink_conntrack.h)
)

// Each reads the whole table, connection by connection as the kernel tells them, until do answers false. It needs no memory for the table: the
// account is valid until do returns. The table is that of the calling thread's network namespace; it may change meanwhile.
func (t *Table) Each(ctx context.Context, do func(*Account) bool) error {
	var a Account
	var failed error
	err := dump(ctx, func(message []byte) bool {
		if failed = a.decode(message); failed != nil {
			return false
		}
		return do(&a)
	})
	if err = errors.Join(err, failed); err != nil {
		return &netctl.Error{Op: "read connection table", Err: err}
	}
	return nil
}

// dump asks for the whole table and hands over its messages until one is not wanted. A table of 100,000 is 30 MB of messages, so
// they go through one buffer: libraries take a new one for each datagram.
func dump(ctx context.Context, each func(message []byte) bool) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer unix.Close(fd)
	patience := unix.NsecToTimeval(dumpPatience.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience); err != nil {
		return fmt.Errorf("set up netlink: %w", err)
	}
	request := make([]byte, unix.SizeofNlMsghdr+sizeofGeneric)
	binary.NativeEndian.PutUint32(request, uint32(len(request)))
	binary.NativeEndian.PutUint16(request[4:], unix.NFNL_SUBSYS_CTNETLINK<<8|messageGet)
	binary.NativeEndian.PutUint16(request[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP) // AF_UNSPEC: all families
	if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	buffer := make([]byte, dumpBuffer)
	for {
		n, _, err := unix.Recvfrom(fd, buffer, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		for kind, body := range messages(buffer[:n]) {
			switch {
			case kind == unix.NLMSG_DONE || kind == unix.NLMSG_ERROR:
				if len(body) >= 4 {
					if code := int32(binary.NativeEndian.Uint32(body)); code < 0 {
						return unix.Errno(-code)
					}
				}
				return nil
			case kind>>8 == unix.NFNL_SUBSYS_CTNETLINK && !each(body):
				return nil
			}
		}
	}
}

// Listener hears of connections that begin and end, in one network namespace. It is safe for concurrent use.
type Listener struct{ socket *multicast.Socket }

// Listen hears what happens in the calling thread's network namespace from now on, of connections that were opened while
// net.netfilter.nf_conntrack_events was 1, or while somebody listened.
func Listen() (*Listener, error) {
	socket, err := multicast.Open(unix.NETLINK_NETFILTER, unix.NFNLGRP_CONNTRACK_NEW, unix.NFNLGRP_CONNTRACK_DESTROY)
	if err != nil {
		return nil, fmt.Errorf("listen to connections: %w", err)
	}
	return &Listener{socket}, nil
}

// Close ends it.
func (l *Listener) Close() error { return l.socket.Close() }

// Heard hands over each connection that began or ended since the last call, in the kernel's order, without waiting for more. Of one that ended these
// are the last figures; of one that began there are none. The kernel tells of a beginning when the first packet has passed the filter, and of an
// end just before it takes the connection out of its table. lost says that it had to drop messages (ENOBUFS), or that one could not be
// read: of some connections one or the other was not told. The account is valid until the function returns.
func (l *Listener) Heard(began, ended func(*Account)) (lost bool, err error) {
	var a Account
	unread := false
	lost, err = l.socket.Take(func(datagram []byte) {
		for kind, body := range messages(datagram) {
			tell := ended
			switch kind {
			case unix.NFNL_SUBSYS_CTNETLINK<<8 | messageNew:
				tell = began
			case unix.NFNL_SUBSYS_CTNETLINK<<8 | messageDelete:
			default:
				continue
			}
			if a.decode(body) != nil {
				unread = true
				continue
			}
			tell(&a)
		}
	})
	if err != nil {
		return lost || unread, fmt.Errorf("listen to connections: %w", err)
	}
	return lost || unread, nil
}
