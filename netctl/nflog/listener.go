package nflog

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/florianl/go-nflog/v2"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"shekara/netctl"
)

// Record is one packet that a rule logged.
type Record struct {
	Prefix  string // of the rule
	In, Out string // links; "": none
	Head    Head   // zero, if the packet could not be read
}

const (
	copied  = 256 // bytes of a packet that the kernel may send; rules ask for fewer
	waiting = 10  // hundredths of a second that the kernel keeps a record to send it with others
)

// Listener is the one reader of a group. Two cannot be at a time: the kernel gives the second EBUSY.
type Listener struct {
	log   *nflog.Nflog
	links *netlink.Handle
}

// Open opens sockets in the calling thread's network namespace. Records come with Run.
func Open(group uint16) (*Listener, error) {
	log, err := nflog.Open(&nflog.Config{Group: group, Copymode: nflog.CopyPacket, Bufsize: copied, Timeout: waiting})
	if err != nil {
		return nil, &netctl.Error{Op: "open records of packets", Object: fmt.Sprintf("group %d", group), Err: err}
	}
	links, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, errors.Join(&netctl.Error{Op: "open records of packets", Err: err}, log.Close())
	}
	return &Listener{log, links}, nil
}

// Group is one whose records are read as long as somebody wants them, and again after an error.
type Group uint16

// Run opens a Listener in the calling thread's network namespace, and is its Run.
func (g Group) Run(ctx context.Context, got func(Record), lost func()) error {
	l, err := Open(uint16(g))
	if err != nil {
		return err
	}
	err = l.Run(ctx, got, lost)
	return errors.Join(err, l.Close())
}

// Close closes the sockets, after Run has returned.
func (l *Listener) Close() error {
	l.links.Close()
	return l.log.Close()
}

// Run hands over each record, one at a time, and tells each time that the kernel had to drop records because they were not read fast
// enough. It returns when the context ends, or with the error that ended it; nothing is handed over after that. It is called once.
func (l *Listener) Run(ctx context.Context, got func(Record), lost func()) error {
	var mu sync.Mutex // the library's reader cannot be waited for: it ends by itself, and finds the door closed
	over := false
	open := func(do func()) int {
		mu.Lock()
		defer mu.Unlock()
		if over {
			return 1
		}
		do()
		return 0
	}
	broken := make(chan error, 1)
	reading, stop := context.WithCancel(ctx)
	defer stop()
	err := l.log.RegisterWithErrorFunc(reading,
		func(a nflog.Attribute) int { return open(func() { got(l.record(a)) }) },
		func(err error) int {
			switch {
			case reading.Err() != nil:
				return 1
			case errors.Is(err, unix.ENOBUFS):
				return open(lost)
			}
			broken <- err
			return 1
		})
	if err != nil {
		return &netctl.Error{Op: "listen for records of packets", Err: err}
	}
	select {
	case <-ctx.Done():
		err = nil
	case err = <-broken:
		err = &netctl.Error{Op: "read records of packets", Err: err}
	}
	mu.Lock()
	defer mu.Unlock()
	over = true
	return err
}

func (l *Listener) record(a nflog.Attribute) Record {
	r := Record{In: l.link(a.InDev), Out: l.link(a.OutDev)}
	if a.Prefix != nil {
		r.Prefix = *a.Prefix
	}
	if a.Payload != nil {
		r.Head, _ = ParseHead(*a.Payload) // zero is what it then is
	}
	return r
}

// link is the name that a link has now: its index came with the record.
func (l *Listener) link(index *uint32) string {
	if index == nil || *index == 0 {
		return ""
	}
	link, err := l.links.LinkByIndex(int(*index))
	if err != nil {
		return fmt.Sprintf("link %d", *index) // it is gone
	}
	return link.Attrs().Name
}
