package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"shekara/timesync/ntp"
)

const (
	floodSockets = 32 // clients that ask at once, from an address each
	floodWindow  = 16 // requests of each that are on their way
	lostAfter    = 200 * time.Millisecond
)

// header is struct mmsghdr of sendmmsg(2), on machines of 64 bits.
type header struct {
	unix.Msghdr
	length uint32
}

// flood asks as fast as answers come, or at a steady pace.
type flood struct {
	sockets  []int
	waiting  []int // requests on their way
	heard    []time.Time
	poll     []unix.PollFd
	out, in  []header
	requests [][]byte // of each socket
	answers  [floodWindow][1024]byte
	vectors  [2 * floodWindow]unix.Iovec
}

// clientAddress is the i-th of timeNetwork.
func clientAddress(i int) (a [4]byte) {
	binary.BigEndian.PutUint32(a[:], 10<<24|128<<16+uint32(i)+1)
	return a
}

// plainRequest is what a client asks that authenticates nothing.
func plainRequest() []byte {
	return (&ntp.Header{Version: 4, Mode: ntp.Client, Poll: 6, Transmit: 0x123456789abcdef0}).Append(nil)
}

// openTimeFlood asks by these requests in turn, a socket each.
func openTimeFlood(to netip.AddrPort, requests ...[]byte) (*flood, error) {
	f := &flood{waiting: make([]int, floodSockets), heard: make([]time.Time, floodSockets), out: make([]header, floodWindow), in: make([]header, floodWindow)}
	for i := range floodSockets {
		f.requests = append(f.requests, requests[i%len(requests)])
	}
	for i := range floodWindow {
		f.vectors[floodWindow+i].Base = &f.answers[i][0]
		f.vectors[floodWindow+i].SetLen(len(f.answers[i]))
		f.out[i].Iov, f.in[i].Iov = &f.vectors[i], &f.vectors[floodWindow+i]
		f.out[i].SetIovlen(1)
		f.in[i].SetIovlen(1)
	}
	for i := range floodSockets {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err == nil {
			f.sockets = append(f.sockets, fd)
			f.poll = append(f.poll, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
			if err = unix.Bind(fd, &unix.SockaddrInet4{Addr: clientAddress(i)}); err == nil {
				err = unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
			}
		}
		if err != nil {
			f.close()
			return nil, fmt.Errorf("open a client's socket: %w", err)
		}
	}
	return f, nil
}

func (f *flood) close() {
	for _, fd := range f.sockets {
		unix.Close(fd)
	}
}

// run asks for a while: rate times a second, or with rate 0 so that floodWindow requests of each socket are on their way. It says how many were answered, and within what time.
func (f *flood) run(ctx context.Context, during time.Duration, rate int) (answered int, took time.Duration, err error) {
	for i := range f.sockets { // what is still on its way of another run
		for n := 1; n > 0; {
			n, _ = f.receive(i)
		}
		f.waiting[i], f.heard[i] = 0, time.Now()
	}
	began := time.Now()
	sent := 0
	for ctx.Err() == nil {
		if took = time.Since(began); took >= during {
			return answered, took, nil
		}
		got := 0
		for i := range f.sockets {
			n, err := f.receive(i)
			if err != nil {
				return 0, 0, err
			}
			if n > 0 || time.Since(f.heard[i]) > lostAfter {
				f.waiting[i], f.heard[i] = f.waiting[i]-n, time.Now()
				if n == 0 {
					f.waiting[i] = 0
				}
			}
			got += n
			if rate == 0 && f.waiting[i] < floodWindow {
				if err := f.send(i, floodWindow-f.waiting[i]); err != nil {
					return 0, 0, err
				}
				f.waiting[i] = floodWindow
			}
		}
		answered += got
		if rate > 0 {
			for ; sent < int(took.Seconds()*float64(rate)); sent++ {
				if err := f.send(sent%floodSockets, 1); err != nil {
					return 0, 0, err
				}
			}
		}
		if got == 0 {
			wait := unix.Timespec{Nsec: int64(100 * time.Microsecond)}
			if _, err := unix.Ppoll(f.poll, &wait, nil); err != nil && !errors.Is(err, unix.EINTR) {
				return 0, 0, os.NewSyscallError("ppoll", err)
			}
		}
	}
	return 0, 0, ctx.Err()
}

func (f *flood) send(i, n int) error {
	for j := range n {
		f.vectors[j].Base = &f.requests[i][0]
		f.vectors[j].SetLen(len(f.requests[i]))
	}
	for n > 0 {
		got, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(f.sockets[i]), uintptr(unsafe.Pointer(&f.out[0])), uintptr(n), 0, 0, 0)
		if errno == unix.EAGAIN || errno == unix.ECONNREFUSED {
			return nil
		}
		if errno != 0 {
			return os.NewSyscallError("sendmmsg", errno)
		}
		n -= int(got)
	}
	return nil
}

// receive counts the answers that have come.
func (f *flood) receive(i int) (n int, err error) {
	got, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(f.sockets[i]), uintptr(unsafe.Pointer(&f.in[0])), uintptr(len(f.in)), unix.MSG_DONTWAIT, 0, 0)
	if errno == unix.EAGAIN || errno == unix.ECONNREFUSED {
		return 0, nil
	}
	if errno != 0 {
		return 0, os.NewSyscallError("recvmmsg", errno)
	}
	for j := range int(got) {
		if answer := &f.answers[j]; int(f.in[j].length) != len(f.requests[i]) || ntp.ModeOf(answer[:]) != ntp.Server || answer[1] != 10 {
			return 0, fmt.Errorf("a false answer: %x", answer[:f.in[j].length])
		}
	}
	return int(got), nil
}

// timeClient asks one server, with the times of its own kernel on both ways, so that what is left of the error is the server's.
type timeClient struct {
	fd          int
	interleaved bool
	last        exchange // whose answer's time of leaving comes with the next answer
	lastHeader  ntp.Header
	random      ntp.Timestamp
}

// exchange is the four times of RFC 5905 figure 2.
type exchange struct {
	sent, received, answered, returned ntp.Timestamp
	took                               time.Duration // as the program sees it
	whole                              bool
}

// offset is what the client would correct its clock by.
func (e exchange) offset() float64 {
	return float64(e.received.Sub(e.sent)+e.answered.Sub(e.returned)) / 2 / 1000
}

func openTimeClient(to netip.AddrPort, interleaved bool) (*timeClient, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	c := &timeClient{fd: fd, interleaved: interleaved, random: 1}
	const stamping = unix.SOF_TIMESTAMPING_SOFTWARE | unix.SOF_TIMESTAMPING_RX_SOFTWARE | unix.SOF_TIMESTAMPING_TX_SOFTWARE | unix.SOF_TIMESTAMPING_OPT_TSONLY
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPING, stamping),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}),
		unix.Bind(fd, &unix.SockaddrInet4{Addr: clientAddress(floodSockets)}),
		unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}))
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return c, nil
}

func (c *timeClient) close() { unix.Close(c.fd) }

// ask asks once. In interleaved mode what it returns is the exchange before, and not whole where the server does not do it.
func (c *timeClient) ask() (exchange, error) {
	c.random += 0x9e3779b97f4a7c15
	request := ntp.Header{Version: 4, Mode: ntp.Client, Poll: 6, Transmit: c.random}
	if c.interleaved && c.last.returned != 0 {
		request.Origin, request.Receive = c.lastHeader.Receive, c.last.returned
	}
	began := time.Now()
	if _, err := unix.Write(c.fd, request.Append(nil)); err != nil {
		return exchange{}, os.NewSyscallError("write", err)
	}
	data, control := make([]byte, 128), make([]byte, 256)
	n, controls, _, _, err := unix.Recvmsg(c.fd, data, control, 0)
	if err != nil {
		return exchange{}, os.NewSyscallError("recvmsg", err)
	}
	e := exchange{took: time.Since(began), whole: true}
	var answer ntp.Header
	if err := answer.Decode(data[:n]); err != nil {
		return exchange{}, err
	}
	if e.returned, err = stampIn(control[:controls]); err != nil {
		return exchange{}, err
	}
	if _, controls, _, _, err = unix.Recvmsg(c.fd, data, control, unix.MSG_ERRQUEUE); err != nil {
		return exchange{}, os.NewSyscallError("recvmsg", err)
	}
	if e.sent, err = stampIn(control[:controls]); err != nil {
		return exchange{}, err
	}
	e.received, e.answered = answer.Receive, answer.Transmit
	before := c.last
	c.last, c.lastHeader = e, answer
	switch {
	case !c.interleaved && answer.Origin == request.Transmit:
		return e, nil
	case c.interleaved && request.Origin != 0 && answer.Origin == request.Receive:
		before.answered, before.took = answer.Transmit, e.took
		return before, nil
	case c.interleaved && answer.Origin == request.Transmit: // basic mode still
		e.whole = false
		return e, nil
	}
	return exchange{}, fmt.Errorf("an answer to nothing that was asked: %+v", answer)
}

// stampIn is the time that the kernel took of a datagram.
func stampIn(control []byte) (ntp.Timestamp, error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0, err
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPING && len(m.Data) >= 16 {
			return ntp.TimestampOfUnix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:]))), nil
		}
	}
	return 0, errors.New("the kernel did not say when")
}

// seen is what a client sees of a server whose clock is its own.
type seen struct {
	err, jitter float64 // µs: medians of the offsets, and of how far they are from that
	latencies   []float64
}

func askTime(ctx context.Context, at netip.AddrPort, interleaved bool) (seen, error) {
	c, err := openTimeClient(at, interleaved)
	if err != nil {
		return seen{}, err
	}
	defer c.close()
	var s seen
	var offsets, sizes, away []float64
	for range timeAsked {
		if ctx.Err() != nil {
			return seen{}, ctx.Err()
		}
		e, err := c.ask()
		if err != nil {
			return seen{}, err
		}
		if e.whole {
			offsets, sizes, s.latencies = append(offsets, e.offset()), append(sizes, math.Abs(e.offset())), append(s.latencies, float64(e.took)/1000)
		}
		time.Sleep(200 * time.Microsecond)
	}
	if len(offsets) < timeAsked/2 {
		return seen{}, fmt.Errorf("%d of %d exchanges can be used: %w", len(offsets), timeAsked, errNothingMeasured)
	}
	for _, o := range offsets {
		away = append(away, math.Abs(o-median(offsets)))
	}
	s.err, s.jitter = median(sizes), median(away)
	return s, nil
}

// askFromMany asks once from each of many addresses, and again where no answer came.
func askFromMany(ctx context.Context, to netip.AddrPort, many int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{}), unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 20_000})); err != nil {
		return err
	}
	request := (&ntp.Header{Version: 4, Mode: ntp.Client, Poll: 6, Transmit: 1}).Append(nil)
	peer := &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}
	answered := make([]bool, many)
	left := many
	data, control := make([]byte, 128), make([]byte, 128)
	for tries := 0; left > 0 && tries < 20; tries++ {
		const ahead = 64 // requests on their way
		for base := 0; base < many; base += ahead {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			waiting := 0
			for i := base; i < min(base+ahead, many); i++ {
				if answered[i] {
					continue
				}
				if err := unix.Sendmsg(fd, request, unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: clientAddress(i)}), peer, 0); err != nil {
					return os.NewSyscallError("sendmsg", err)
				}
				waiting++
			}
			for ; waiting > 0; waiting-- {
				_, n, _, _, err := unix.Recvmsg(fd, data, control, 0)
				if err != nil {
					break // lost
				}
				i, err := clientIn(control[:n])
				if err != nil {
					return err
				}
				if i < many && !answered[i] {
					answered[i] = true
					left--
				}
			}
		}
	}
	if left > 0 {
		return fmt.Errorf("%d of %d clients had no answer: %w", left, many, errNothingMeasured)
	}
	return nil
}

// clientIn is which client an answer went to.
func clientIn(control []byte) (int, error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0, err
	}
	for _, m := range messages {
		if m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo {
			return int(binary.BigEndian.Uint32(m.Data[8:])) - (10<<24 | 128<<16 + 1), nil
		}
	}
	return 0, errors.New("the kernel did not say where an answer came")
}
