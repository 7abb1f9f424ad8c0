package datagram

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// control is the first control message (cmsg(3)) of some that are aligned, as slot.control is. unix.ParseSocketControlMessage would allocate.
type control []byte

// next takes the first off those in rest, and is nil at their end.
func next(rest []byte) (first control, after []byte) {
	if len(rest) < unix.SizeofCmsghdr {
		return nil, nil
	}
	length := int((*unix.Cmsghdr)(unsafe.Pointer(&rest[0])).Len)
	if length < unix.SizeofCmsghdr || length > len(rest) {
		return nil, nil
	}
	return rest[:length:length], rest[min(unix.CmsgSpace(length-unix.CmsgLen(0)), len(rest)):]
}

// is says whether it is of a kind, and long enough for what size asks.
func (c control) is(level, kind int32, size uintptr) bool {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&c[0]))
	return h.Level == level && h.Type == kind && len(c) >= unix.CmsgLen(int(size))
}

func (c control) data() unsafe.Pointer { return unsafe.Pointer(&c[unix.CmsgLen(0)]) }

// time is the time that the kernel's software took (Documentation/networking/timestamping.rst section 2.1.1: the first of three).
func (c control) time() time.Time {
	stamp := &(*unix.ScmTimestamping)(c.data()).Ts[0]
	return time.Unix(int64(stamp.Sec), int64(stamp.Nsec))
}

// putControl makes room for a message behind those that use so much of to.
func putControl(to []byte, used *int, level, kind int32, size int) (data []byte) {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&to[*used]))
	h.Level, h.Type = level, kind
	h.SetLen(unix.CmsgLen(size))
	data = to[*used+unix.CmsgLen(0) : *used+unix.CmsgLen(size)]
	clear(data)
	*used += unix.CmsgSpace(size)
	return data
}
