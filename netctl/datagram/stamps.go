package datagram

import (
	"errors"
	"fmt"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	remembered = 256 // answers whose time of leaving is awaited
	atOnce     = 32  // times that are read with one call
	// patience is how often nothing is found before what is missing is given up: some answers never leave, and to look costs a call.
	patience = 16
)

// stamps tells which answer a time of leaving is of. The kernel numbers the datagrams of a socket of which it is asked for (SOF_TIMESTAMPING_OPT_ID), from 0.
type stamps struct {
	queued  []uint64 // tags of answers that are not sent yet
	number  uint32   // of the next that is sent
	tags    [remembered]tag
	waiting int
	vain    int // looks since something was found
	in      []mmsghdr
	control [][controlLen]byte
}

type tag struct {
	number uint32
	set    bool
	tag    uint64
}

func (s *stamps) init() {
	s.in, s.control = make([]mmsghdr, atOnce), make([][controlLen]byte, atOnce)
	for i := range s.in {
		s.in[i].header.Control = &s.control[i][0]
	}
}

// sent says that the kernel took all that is queued.
func (s *stamps) sent() {
	for _, t := range s.queued {
		s.tags[s.number%remembered] = tag{s.number, true, t}
		s.number++
	}
	if len(s.queued) > 0 {
		s.waiting, s.vain = min(s.waiting+len(s.queued), remembered), 0
	}
	s.queued = s.queued[:0]
}

// restart has the kernel number from 0 again: kernels differ in whether a datagram that was not sent has a number. What is awaited is forgotten.
func (s *stamps) restart(fd int) error {
	if len(s.queued) == 0 {
		return nil
	}
	for {
		if n, err := s.take(fd); n < atOnce || err != nil {
			break
		}
	}
	s.queued, s.number, s.waiting = s.queued[:0], 0, 0
	clear(s.tags[:])
	return errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPING, stamping&^unix.SOF_TIMESTAMPING_OPT_ID),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPING, stamping))
}

// take reads from the socket's queue of errors, where the kernel puts times of leaving. It waits for nothing.
func (s *stamps) take(fd int) (n int, err error) {
	for i := range s.in {
		s.in[i].header.SetControllen(controlLen)
	}
	for {
		got, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&s.in[0])), uintptr(len(s.in)), unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT, 0, 0)
		runtime.KeepAlive(s)
		switch errno {
		case 0:
			return int(got), nil
		case unix.EAGAIN:
			return 0, nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// Stamps says when answers left whose AnswerStamped asked for it, as far as it is known by now: when the kernel handed them to the device. It must be called between sends, since
// what nobody reads takes the place of datagrams; where nothing is awaited it costs nothing.
func (b *Batch) Stamps(left func(tag uint64, at time.Time)) error {
	s := &b.stamps
	if s.waiting == 0 {
		return nil
	}
	err := b.use(func(fd int) error {
		for {
			n, err := s.take(fd)
			if err != nil {
				return err
			}
			for i := range n {
				s.read(i, left)
			}
			if n == 0 {
				s.vain++
			}
			if s.vain > patience {
				s.waiting = 0
			}
			if n < atOnce {
				return nil
			}
		}
	})
	if err != nil {
		return fmt.Errorf("ask when answers left %s: %w", b.conn.local, err)
	}
	return nil
}

// read finds the number and the time in the i-th entry.
func (s *stamps) read(i int, left func(tag uint64, at time.Time)) {
	var at time.Time
	var number uint32
	found := false
	rest := s.control[i][:s.in[i].header.Controllen]
	for c, rest := next(rest); c != nil; c, rest = next(rest) {
		switch {
		case c.is(unix.SOL_SOCKET, unix.SCM_TIMESTAMPING, unsafe.Sizeof(unix.ScmTimestamping{})):
			at = c.time()
		case c.is(unix.IPPROTO_IP, unix.IP_RECVERR, unsafe.Sizeof(unix.SockExtendedErr{})), c.is(unix.IPPROTO_IPV6, unix.IPV6_RECVERR, unsafe.Sizeof(unix.SockExtendedErr{})):
			e := (*unix.SockExtendedErr)(c.data())
			found = e.Origin == unix.SO_EE_ORIGIN_TIMESTAMPING && e.Info == unix.SCM_TSTAMP_SND
			number = e.Data
		}
	}
	t := &s.tags[number%remembered]
	if !found || !t.set || t.number != number {
		return
	}
	t.set = false
	s.waiting, s.vain = s.waiting-1, 0
	left(t.tag, at)
}
