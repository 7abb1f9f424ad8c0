package echo

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxWaiting    = 1 << 16 // requests without an answer yet: as many as there are sequence numbers
	receiveBuffer = 8 << 20 // bytes
)

// Prober sends echo requests in the network namespace that it was opened in. It is safe for concurrent use.
type Prober struct {
	v4, v6  *net.IPConn
	id      uint16
	readers sync.WaitGroup

	mu       sync.Mutex
	sequence uint16
	waiting  map[uint16]*wait // by sequence number; nil once closed
}

type wait struct {
	tag    tag
	from   netip.Addr // who is to answer
	answer chan time.Time
}

// Open opens the sockets, in the calling thread's network namespace. It needs CAP_NET_RAW.
func Open() (*Prober, error) {
	p := &Prober{waiting: map[uint16]*wait{}}
	var id [2]byte
	_, _ = rand.Read(id[:]) // never fails
	p.id = binary.BigEndian.Uint16(id[:])
	var err error
	if p.v4, err = listen("ip4:icmp", filterV4); err != nil {
		return nil, fmt.Errorf("open echo prober: %w", err)
	}
	p.v6, err = listen("ip6:ipv6-icmp", filterV6)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		err = nil // a host without IPv6; Echo says so
	}
	if err != nil {
		p.v4.Close()
		return nil, fmt.Errorf("open echo prober: %w", err)
	}
	p.readers.Go(func() { p.read(p.v4, false) })
	if p.v6 != nil {
		p.readers.Go(func() { p.read(p.v6, true) })
	}
	return p, nil
}

func listen(network string, filter func(fd int) error) (*net.IPConn, error) {
	conn, err := net.ListenIP(network, nil)
	if err != nil {
		return nil, err
	}
	raw, err := conn.SyscallConn()
	if err == nil {
		var set error
		err = raw.Control(func(fd uintptr) {
			set = filter(int(fd))
			// Answers to a burst of requests wait here; each counts for about 800 bytes, and the usual limit is reached by
			// 270 of them. Without CAP_NET_ADMIN it stays at that.
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer)
		})
		err = errors.Join(err, set)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// A raw socket gets a copy of every ICMP message of the host. The filters leave echo replies alone.
func filterV4(fd int) error {
	const solRaw, icmpFilter = 255, 1 // linux/icmp.h; a bit set blocks that type
	return unix.SetsockoptInt(fd, solRaw, icmpFilter, ^(1 << replyV4))
}

func filterV6(fd int) error {
	var filter unix.ICMPv6Filter
	for i := range filter.Data {
		filter.Data[i] = 0xffffffff
	}
	filter.Data[replyV6/32] &^= 1 << (replyV6 % 32)
	return unix.SetsockoptICMPv6Filter(fd, unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, &filter)
}

// Close closes the sockets. Requests that wait end with os.ErrClosed.
func (p *Prober) Close() error {
	err := p.v4.Close()
	if p.v6 != nil {
		err = errors.Join(err, p.v6.Close())
	}
	p.readers.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.waiting {
		close(w.answer)
	}
	p.waiting = nil
	return err
}

// Echo sends one request from an address of this host (or the kernel's choice, if it is zero) and returns the time until
// its answer. Without an answer it returns ctx's error when ctx ends; an errno if the request cannot even leave.
func (p *Prober) Echo(ctx context.Context, from, to netip.Addr) (time.Duration, error) {
	from, to = from.Unmap(), to.Unmap()
	if !to.IsValid() || from.IsValid() && !sameFamily(from, to) {
		return 0, fmt.Errorf("echo from %s to %s: not of one family", from, to)
	}
	conn, ipv6 := p.v4, to.Is6()
	if ipv6 {
		conn = p.v6
	}
	if conn == nil {
		return 0, fmt.Errorf("echo to %s: %w", to, unix.EAFNOSUPPORT)
	}
	w, err := p.register(to)
	if err != nil {
		return 0, fmt.Errorf("echo to %s: %w", to, err)
	}
	defer p.forget(w)
	start := time.Now()
	if _, _, err := conn.WriteMsgIP(request(w.tag, ipv6), sourceOf(from), &net.IPAddr{IP: to.AsSlice(), Zone: to.Zone()}); err != nil {
		return 0, fmt.Errorf("echo from %s to %s: %w", from, to, err)
	}
	select {
	case end, ok := <-w.answer:
		if !ok {
			return 0, fmt.Errorf("echo to %s: %w", to, os.ErrClosed)
		}
		return end.Sub(start), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("echo from %s to %s: %w", from, to, ctx.Err())
	}
}

// sourceOf is the control message that sets a packet's source (ip(7), IP_PKTINFO; RFC 3542, section 6).
func sourceOf(from netip.Addr) []byte {
	switch {
	case !from.IsValid():
		return nil
	case from.Is4():
		return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: from.As4()})
	default:
		return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: from.As16()})
	}
}

func (p *Prober) register(to netip.Addr) (*wait, error) {
	w := &wait{from: to.WithZone(""), answer: make(chan time.Time, 1)}
	_, _ = rand.Read(w.tag.nonce[:]) // never fails
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting == nil {
		return nil, os.ErrClosed
	}
	if len(p.waiting) == maxWaiting {
		return nil, fmt.Errorf("%d requests wait for answers", maxWaiting)
	}
	for p.waiting[p.sequence] != nil {
		p.sequence++
	}
	w.tag.id, w.tag.sequence = p.id, p.sequence
	p.waiting[p.sequence] = w
	p.sequence++
	return w, nil
}

func (p *Prober) forget(w *wait) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting[w.tag.sequence] == w {
		delete(p.waiting, w.tag.sequence)
	}
}

func (p *Prober) read(conn *net.IPConn, ipv6 bool) {
	buffer := make([]byte, 2048)
	for {
		n, from, err := conn.ReadFromIP(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // of one packet, such as a checksum
		}
		end := time.Now()
		t, ok := parseReply(buffer[:n], ipv6)
		address, valid := netip.AddrFromSlice(from.IP)
		if ok && valid {
			p.answered(t, address.Unmap(), end)
		}
	}
}

// answered takes the first answer from the one who was asked, with the nonce that it was asked with.
func (p *Prober) answered(t tag, from netip.Addr, end time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.waiting[t.sequence]
	if w == nil || w.tag != t || w.from != from {
		return
	}
	delete(p.waiting, t.sequence)
	w.answer <- end
}
