package datagram

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// receiveBuffer is asked of the kernel, which gives what net.core.rmem_max allows: room for those that come while others are answered.
	receiveBuffer = 1 << 20
	// stamping is what every socket has the kernel say: when it got a datagram, and of those sent which are asked for when they left, by their number, without their bytes.
	stamping = unix.SOF_TIMESTAMPING_SOFTWARE | unix.SOF_TIMESTAMPING_RX_SOFTWARE | unix.SOF_TIMESTAMPING_OPT_ID | unix.SOF_TIMESTAMPING_OPT_TSONLY
)

// Conn is a UDP socket.
type Conn struct {
	local    netip.AddrPort
	six      bool // of family AF_INET6
	wildcard bool // bound to all addresses
	both     bool // of both families
	closed   atomic.Bool
	using    sync.RWMutex // read: while fd is used
	fd       int          // never blocks
	poller   *os.File     // see newPoller
	waiting  syscall.RawConn
}

// Listen opens a socket at an address and port, beside others that were opened so. The host need not have the address yet. Port 0 is any that is free.
func Listen(at netip.AddrPort) (*Conn, error) {
	if !at.IsValid() || at.Addr().Zone() != "" {
		return nil, fmt.Errorf("listen at %s: want an address without a zone", at)
	}
	family := unix.AF_INET
	if at.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		return nil, fmt.Errorf("listen at %s: %w", at, err)
	}
	c, err := bind(fd, at)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listen at %s: %w", at, err)
	}
	return c, nil
}

func bind(fd int, at netip.AddrPort) (*Conn, error) {
	set := []option{{unix.SOL_SOCKET, unix.SO_REUSEPORT, 1}, {unix.IPPROTO_IP, unix.IP_FREEBIND, 1}}
	var address unix.Sockaddr
	if at.Addr().Is4() {
		address = &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	} else {
		set = append(set, option{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1}, option{unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1})
		address = &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
	}
	if err := setAll(fd, set); err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, address); err != nil {
		return nil, err
	}
	return adopt(fd)
}

// FromFile makes a Conn of a socket that somebody opened and bound, as systemd does. The file may be closed.
func FromFile(file *os.File) (*Conn, error) {
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("adopt socket %s: %w", file.Name(), err)
	}
	fd := -1
	var failed error
	if err := raw.Control(func(f uintptr) { fd, failed = unix.FcntlInt(f, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, fmt.Errorf("adopt socket %s: %w", file.Name(), err)
	}
	if failed != nil {
		return nil, fmt.Errorf("adopt socket %s: %w", file.Name(), failed)
	}
	c, err := adopt(fd)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("adopt socket %s: %w", file.Name(), err)
	}
	return c, nil
}

// adopt asks of a bound socket what there is to be known, and of the kernel what is needed of it.
func adopt(fd int) (*Conn, error) {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return nil, err
	}
	protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil {
		return nil, err
	}
	address, err := unix.Getsockname(fd)
	if err != nil {
		return nil, err
	}
	c := &Conn{fd: fd}
	set := []option{{unix.SOL_SOCKET, unix.SO_TIMESTAMPING, stamping}}
	switch address := address.(type) {
	case *unix.SockaddrInet4:
		c.local = netip.AddrPortFrom(netip.AddrFrom4(address.Addr), uint16(address.Port))
	case *unix.SockaddrInet6:
		c.six = true
		c.local = netip.AddrPortFrom(netip.AddrFrom16(address.Addr), uint16(address.Port))
		set = append(set, option{unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_INTERFACE})
	}
	if kind != unix.SOCK_DGRAM || protocol != unix.IPPROTO_UDP || c.local.Port() == 0 {
		return nil, errors.New("it is no UDP socket that is bound to a port")
	}
	set = append(set, option{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_INTERFACE}) // of a socket for both families too
	if c.wildcard = c.local.Addr().IsUnspecified(); c.wildcard && c.six {
		only, err := unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
		if err != nil {
			return nil, err
		}
		c.both = only == 0
		set = append(set, option{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1})
	} else if c.wildcard {
		set = append(set, option{unix.IPPROTO_IP, unix.IP_PKTINFO, 1})
	}
	if err := setAll(fd, set); err != nil {
		return nil, err
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer) // less is no error
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, err
	}
	if c.poller, err = newPoller(fd); err != nil {
		return nil, err
	}
	c.waiting, err = c.poller.SyscallConn()
	return c, err
}

// newPoller is an epoll (epoll(7)) of the socket alone, for Go's poller to wait for. The socket itself it could not wait for: times of leaving are in the queue of errors, and
// what has an error and nothing to read it takes for a file that it cannot wait for (netpollcheckerr, runtime/netpoll.go).
//
// To block in the system call instead would be simpler, but the runtime would look after the thread every 20 µs (sysmon, runtime/proc.go), which takes more time than to answer. For
// the same reason the calls, none of which waits, are made behind its back (unix.RawSyscall6).
func newPoller(fd int) (*os.File, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an epoll: %w", err)
	}
	err = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN})
	if err == nil {
		err = unix.SetNonblock(epoll, true) // by which os knows what can be waited for
	}
	if err != nil {
		unix.Close(epoll)
		return nil, fmt.Errorf("make an epoll: %w", err)
	}
	return os.NewFile(uintptr(epoll), "epoll"), nil
}

type option struct{ level, name, value int }

func setAll(fd int, options []option) error {
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return fmt.Errorf("set option %d of level %d to %d: %w", o.name, o.level, o.value, err)
		}
	}
	return nil
}

// Local is where the socket is bound.
func (c *Conn) Local() netip.AddrPort { return c.local }

// Serves says whether what is sent to an address and port comes to the socket.
func (c *Conn) Serves(to netip.AddrPort) bool {
	if c.wildcard {
		return to.Port() == c.local.Port() && (to.Addr().Is6() == c.six || c.both)
	}
	return to == c.local
}

// use does something with the socket unless it is closed.
func (c *Conn) use(do func(fd int) error) error {
	c.using.RLock()
	defer c.using.RUnlock()
	if c.closed.Load() {
		return net.ErrClosed
	}
	return do(c.fd)
}

// Close ends an Each that waits, and then the socket.
func (c *Conn) Close() error {
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	err := c.poller.Close() // wakes whoever waits
	c.using.Lock()
	defer c.using.Unlock()
	return errors.Join(err, unix.Close(c.fd))
}
