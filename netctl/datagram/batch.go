package datagram

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// MaxLen is the longest datagram that is taken whole.
	MaxLen = 2048
	// controlLen is room for the times (48 bytes) and the address (20 with IPv6) of one datagram, or for its error (44 with the address), and their heads.
	controlLen = 192
)

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	header unix.Msghdr
	length uint32
}

// Message is a datagram that was received.
type Message struct {
	From  netip.AddrPort // without a zone
	To    netip.Addr     // where it came
	At    time.Time      // when the kernel got it; zero where it did not say
	Data  []byte         // of the batch: until the next
	Whole bool           // it was no longer than MaxLen
}

// Batch is room for datagrams of one socket, and for an answer to each. One goroutine uses it.
type Batch struct {
	conn     *Conn
	messages []Message
	in, out  []mmsghdr
	slots    []slot
	queued   int  // answers, at the start of out
	held     bool // Each goes on
	got      int  // by receive
	failed   unix.Errno
	stamps   stamps
}

// slot is what the kernel reads and writes of one datagram and of its answer. Its pointers stay valid: Go moves nothing that is on the heap.
type slot struct {
	peer       unix.RawSockaddrInet6 // large enough for IPv4
	inVector   unix.Iovec
	outVector  unix.Iovec
	control    [controlLen]byte
	outControl [controlLen]byte
	request    [MaxLen]byte
	answer     [MaxLen]byte
}

// NewBatch makes room for n datagrams at once.
func (c *Conn) NewBatch(n int) *Batch {
	b := &Batch{conn: c, messages: make([]Message, n), in: make([]mmsghdr, n), out: make([]mmsghdr, n), slots: make([]slot, n)}
	for i := range b.slots {
		s := &b.slots[i]
		s.inVector.Base = &s.request[0]
		s.inVector.SetLen(MaxLen)
		h := &b.in[i].header
		h.Name, h.Iov, h.Control = (*byte)(unsafe.Pointer(&s.peer)), &s.inVector, &s.control[0]
		h.SetIovlen(1)
	}
	b.stamps.init()
	return b
}

// Each hands over what comes until do returns an error, which is returned, or Close ends it (net.ErrClosed). It waits for a datagram, takes as many as there are by then and as there is
// room for, and calls do with how many; what came before, and the answers that were not sent, are forgotten. do may use the batch, and must not close the socket.
//
// It stays in one call of the runtime's poller, which remembers what comes meanwhile: so the kernel need not be asked whether there is more before each wait. Where few ask, that was a fifth of the
// time that an answer took.
func (b *Batch) Each(do func(n int) error) error {
	var ended error
	err := b.conn.use(func(int) error {
		b.held = true
		defer func() { b.held = false }()
		return b.conn.waiting.Read(func(uintptr) bool {
			for ended == nil {
				b.prepare()
				if !b.receive() {
					return false
				}
				switch {
				case b.conn.closed.Load():
					ended = net.ErrClosed
				case b.failed != 0:
					ended = fmt.Errorf("receive at %s: %w", b.conn.local, b.failed)
				default:
					for i := range b.got {
						b.read(i)
					}
					if ended = do(b.got); ended == nil && b.got < len(b.in) {
						return false // there were no more
					}
				}
			}
			return true
		})
	})
	runtime.KeepAlive(b)
	if ended != nil {
		return ended
	}
	if b.conn.closed.Load() {
		err = net.ErrClosed
	}
	return fmt.Errorf("receive at %s: %w", b.conn.local, err)
}

// use does something with the socket, which is held already while Each goes on.
func (b *Batch) use(do func(fd int) error) error {
	if b.held {
		return do(b.conn.fd)
	}
	return b.conn.use(do)
}

func (b *Batch) prepare() {
	b.forget()
	for i := range b.in {
		h := &b.in[i].header
		h.Namelen = unix.SizeofSockaddrInet6
		h.SetControllen(controlLen)
	}
	b.got, b.failed = 0, 0
}

// receive takes what there is, and says whether there is something, or no use in waiting for it.
func (b *Batch) receive() bool {
	for {
		got, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(b.conn.fd), uintptr(unsafe.Pointer(&b.in[0])), uintptr(len(b.in)), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			b.got = int(got)
			return true
		case unix.EAGAIN:
			return false
		case unix.EINTR:
		default:
			b.failed = errno
			return true
		}
	}
}

// read makes the i-th message out of what the kernel wrote.
func (b *Batch) read(i int) {
	s, m := &b.slots[i], &b.messages[i]
	h := &b.in[i].header
	*m = Message{Data: s.request[:min(b.in[i].length, MaxLen):MaxLen], Whole: h.Flags&unix.MSG_TRUNC == 0, To: b.conn.local.Addr()}
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&s.peer.Port))[:])
	if s.peer.Family == unix.AF_INET {
		m.From = netip.AddrPortFrom(netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(&s.peer)).Addr), port)
	} else {
		m.From = netip.AddrPortFrom(netip.AddrFrom16(s.peer.Addr).Unmap(), port)
	}
	for c, rest := next(s.control[:h.Controllen]); c != nil; c, rest = next(rest) {
		switch {
		case c.is(unix.SOL_SOCKET, unix.SCM_TIMESTAMPING, unsafe.Sizeof(unix.ScmTimestamping{})):
			m.At = c.time()
		case c.is(unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo):
			m.To = netip.AddrFrom4((*unix.Inet4Pktinfo)(c.data()).Spec_dst)
		case c.is(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo):
			m.To = netip.AddrFrom16((*unix.Inet6Pktinfo)(c.data()).Addr).Unmap()
		}
	}
}

// Message is the i-th that came.
func (b *Batch) Message(i int) *Message { return &b.messages[i] }

// Room is where an answer to the i-th message may be written: of no bytes, and MaxLen at most.
func (b *Batch) Room(i int) []byte { return b.slots[i].answer[:0] }

// Answer queues data, which is in Room(i), for where the i-th message came from, out of where it came to. One answer to a message at most.
func (b *Batch) Answer(i int, data []byte) { b.answer(i, data, false, 0) }

// AnswerStamped is Answer, and Stamps will say when it left, and tag.
func (b *Batch) AnswerStamped(i int, data []byte, tag uint64) { b.answer(i, data, true, tag) }

func (b *Batch) answer(i int, data []byte, stamped bool, tag uint64) {
	s, h := &b.slots[i], &b.out[b.queued].header
	s.outVector.Base = unsafe.SliceData(data)
	s.outVector.SetLen(len(data))
	*h = unix.Msghdr{Name: b.in[i].header.Name, Namelen: b.in[i].header.Namelen, Iov: &s.outVector}
	h.SetIovlen(1)
	used := 0
	if b.conn.wildcard {
		used = b.source(s.outControl[:], b.messages[i].To)
	}
	if stamped {
		binary.NativeEndian.PutUint32(putControl(s.outControl[:], &used, unix.SOL_SOCKET, unix.SO_TIMESTAMPING, 4), unix.SOF_TIMESTAMPING_TX_SOFTWARE)
		b.stamps.queued = append(b.stamps.queued, tag)
	}
	if used > 0 {
		h.Control = &s.outControl[0]
		h.SetControllen(used)
	}
	b.queued++
}

// source has an answer leave from an address: by any interface that leads to the peer.
func (b *Batch) source(control []byte, from netip.Addr) (used int) {
	if b.conn.six {
		address := from.As16()
		copy(putControl(control, &used, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo), address[:])
		return used
	}
	address := from.As4()
	copy(putControl(control, &used, unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo)[4:], address[:]) // behind the interface: ipi_spec_dst
	return used
}

// Send gives the kernel the answers that are queued. It waits for nothing: sent is how many it took, and err the last reason why it did not take one.
func (b *Batch) Send() (sent int, err error) {
	failed := b.use(func(fd int) error {
		for at := 0; at < b.queued; {
			got, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.out[at])), uintptr(b.queued-at), unix.MSG_DONTWAIT, 0, 0)
			switch {
			case errno == 0:
				at, sent = at+int(got), sent+int(got)
			case errno != unix.EINTR:
				at++ // the kernel stops before the first that it does not take
				err = errno
			}
		}
		if err != nil {
			return errors.Join(err, b.stamps.restart(fd))
		}
		b.stamps.sent()
		return nil
	})
	runtime.KeepAlive(b)
	b.forget()
	if failed != nil {
		return sent, fmt.Errorf("send from %s: %w", b.conn.local, failed)
	}
	return sent, nil
}

func (b *Batch) forget() { b.queued, b.stamps.queued = 0, b.stamps.queued[:0] }
