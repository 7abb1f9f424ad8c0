package netctl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// rtnl is a routing netlink socket for requests. Routes go through it rather than vishvananda/netlink, because it sends many
// changes in one message, asks the kernel to filter dumps, and reads the kernel's own words about an error.
type rtnl struct {
	mu  sync.Mutex // one request at a time
	fd  int
	seq uint32
}

const (
	batchSize   = 100     // changes in one sendmsg(2); their errors fit into the receive buffer
	receiveSize = 1 << 16 // the kernel makes parts of a dump up to 32 KiB

	attributeTypeMask = 0x3fff // NLA_TYPE_MASK: the two high bits are flags
)

// errDumpInterrupted says that the table changed while it was read. The reading is repeated.
var errDumpInterrupted = errors.New("dump interrupted by a change")

func openRTNL() (*rtnl, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open routing netlink: %w", err)
	}
	for _, option := range []int{unix.NETLINK_EXT_ACK, unix.NETLINK_CAP_ACK, unix.NETLINK_GET_STRICT_CHK} {
		if err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, option, 1); err != nil {
			break
		}
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	}
	if err == nil {
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 30}) // an answer that was lost must not hang the daemon
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("open routing netlink: %w", err)
	}
	return &rtnl{fd: fd}, nil
}

// port is by which the kernel tells our requests from others'; 0: it is not known.
func (r *rtnl) port() uint32 {
	name, err := unix.Getsockname(r.fd)
	if own, ok := name.(*unix.SockaddrNetlink); ok && err == nil {
		return own.Pid
	}
	return 0
}

func (r *rtnl) close() error { return unix.Close(r.fd) }

// request is one netlink message without its sequence number: header, family header and attributes.
type request []byte

func newRequest(kind uint16, flags uint16, header []byte) request {
	m := make(request, unix.SizeofNlMsghdr, 128)
	binary.NativeEndian.PutUint16(m[4:], kind)
	binary.NativeEndian.PutUint16(m[6:], flags|unix.NLM_F_REQUEST)
	return append(m, header...)
}

func (m *request) attribute(kind uint16, value []byte) {
	b := binary.NativeEndian.AppendUint16(*m, uint16(unix.SizeofRtAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	for len(b)%unix.RTA_ALIGNTO != 0 {
		b = append(b, 0)
	}
	*m = b
}

func (m *request) attribute32(kind uint16, value uint32) {
	m.attribute(kind, binary.NativeEndian.AppendUint32(nil, value))
}

// execute sends changes in order and returns one error for each, nil where it was made. The kernel answers each error, and
// of the successes the last of a batch alone, since only that asks for an answer.
func (r *rtnl) execute(requests []request) []error {
	r.mu.Lock()
	defer r.mu.Unlock()
	errs := make([]error, len(requests))
	for begin := 0; begin < len(requests); begin += batchSize {
		end := min(begin+batchSize, len(requests))
		first := r.seq + 1
		var out []byte
		for i := begin; i < end; i++ {
			r.seq++
			m := requests[i]
			binary.NativeEndian.PutUint32(m, uint32(len(m)))
			binary.NativeEndian.PutUint32(m[8:], r.seq)
			if i == end-1 {
				binary.NativeEndian.PutUint16(m[6:], binary.NativeEndian.Uint16(m[6:])|unix.NLM_F_ACK)
			}
			out = append(out, m...)
		}
		err := unix.Sendto(r.fd, out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		if err == nil {
			last := r.seq
			err = r.receive(func(header unix.NlMsghdr, body []byte) (done bool) {
				if header.Type != unix.NLMSG_ERROR || header.Seq < first || header.Seq > last {
					return false // of an earlier request that was given up
				}
				errs[begin+int(header.Seq-first)] = kernelError(header, body)
				return header.Seq == last
			})
		}
		if err != nil { // nothing is known of these: say so of all
			for i := begin; i < len(requests); i++ {
				errs[i] = errors.Join(errs[i], err)
			}
			return errs
		}
	}
	return errs
}

// dump sends a request and calls each with the body of every message of the answer.
func (r *rtnl) dump(m request, each func(kind uint16, body []byte)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seq++
	binary.NativeEndian.PutUint32(m, uint32(len(m)))
	binary.NativeEndian.PutUint16(m[6:], binary.NativeEndian.Uint16(m[6:])|unix.NLM_F_DUMP)
	binary.NativeEndian.PutUint32(m[8:], r.seq)
	if err := unix.Sendto(r.fd, m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	var failed error
	err := r.receive(func(header unix.NlMsghdr, body []byte) (done bool) {
		if header.Seq != r.seq {
			return false
		}
		if header.Flags&unix.NLM_F_DUMP_INTR != 0 && failed == nil {
			failed = errDumpInterrupted // the rest is still read, lest it stay in the socket
		}
		switch header.Type {
		case unix.NLMSG_DONE:
			if len(body) >= 4 {
				if code := int32(binary.NativeEndian.Uint32(body)); code < 0 {
					failed = unix.Errno(-code)
				}
			}
			return true
		case unix.NLMSG_ERROR:
			failed = kernelError(header, body)
			return true
		default:
			each(header.Type, body)
			return false
		}
	})
	return errors.Join(err, failed)
}

// ask sends a request that has one message for an answer and calls each with its body.
func (r *rtnl) ask(m request, each func(kind uint16, body []byte)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seq++
	binary.NativeEndian.PutUint32(m, uint32(len(m)))
	binary.NativeEndian.PutUint32(m[8:], r.seq)
	if err := unix.Sendto(r.fd, m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	var failed error
	err := r.receive(func(header unix.NlMsghdr, body []byte) (done bool) {
		switch {
		case header.Seq != r.seq:
			return false
		case header.Type == unix.NLMSG_ERROR:
			failed = kernelError(header, body)
		default:
			each(header.Type, body)
		}
		return true
	})
	return errors.Join(err, failed)
}

func (r *rtnl) receive(each func(header unix.NlMsghdr, body []byte) (done bool)) error {
	buffer := make([]byte, receiveSize)
	for {
		n, _, err := unix.Recvfrom(r.fd, buffer, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("receive from routing netlink: %w", err)
		}
		for rest := buffer[:n]; len(rest) >= unix.SizeofNlMsghdr; {
			header := unix.NlMsghdr{
				Len:   binary.NativeEndian.Uint32(rest),
				Type:  binary.NativeEndian.Uint16(rest[4:]),
				Flags: binary.NativeEndian.Uint16(rest[6:]),
				Seq:   binary.NativeEndian.Uint32(rest[8:]),
			}
			if header.Len < unix.SizeofNlMsghdr || int(header.Len) > len(rest) {
				return errors.New("receive from routing netlink: message is cut short")
			}
			if each(header, rest[unix.SizeofNlMsghdr:header.Len]) {
				return nil
			}
			rest = rest[min(len(rest), (int(header.Len)+3)&^3):]
		}
	}
}

// refusal is an errno with the kernel's extended acknowledgement.
type refusal struct {
	errno  unix.Errno
	detail string
}

func (e *refusal) Error() string { return e.errno.Error() + ": " + e.detail }
func (e *refusal) Unwrap() error { return e.errno }

func kernelError(header unix.NlMsghdr, body []byte) error {
	if len(body) < 4 {
		return unix.EBADMSG
	}
	code := int32(binary.NativeEndian.Uint32(body))
	if code == 0 {
		return nil
	}
	errno := unix.Errno(-code)
	const original = 4 + unix.SizeofNlMsghdr // NETLINK_CAP_ACK: the header of the request alone
	if header.Flags&unix.NLM_F_ACK_TLVS != 0 && len(body) > original {
		for kind, value := range attributes(body[original:]) {
			if kind == unix.NLMSGERR_ATTR_MSG && len(value) > 1 {
				return &refusal{errno, string(value[:len(value)-1])}
			}
		}
	}
	return errno
}

// attributes goes through a list of attributes as far as it is well formed.
func attributes(list []byte) func(yield func(kind uint16, value []byte) bool) {
	return func(yield func(uint16, []byte) bool) {
		for len(list) >= unix.SizeofRtAttr {
			length := int(binary.NativeEndian.Uint16(list))
			if length < unix.SizeofRtAttr || length > len(list) {
				return
			}
			if !yield(binary.NativeEndian.Uint16(list[2:])&attributeTypeMask, list[unix.SizeofRtAttr:length]) {
				return
			}
			list = list[min(len(list), (length+3)&^3):]
		}
	}
}
