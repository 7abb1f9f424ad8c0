package multicast

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// receiveSize is more than the kernel puts into one message: 32 KiB in answers, NLMSG_GOODSIZE (a page) in notifications.
	receiveSize = 1 << 16
	// BufferSize is the bytes that may wait to be read. A transaction of nftables tells of all its elements at once: those of 10,000
	// tunnels are some megabytes. Memory is used only while something waits.
	BufferSize = 32 << 20
	// takeMost is more datagrams than can wait at a time: the kernel doubles BufferSize (socket(7)) and charges each with more than 512 bytes, its
	// struct sk_buff and the rest.
	takeMost = 2 * BufferSize / 512
)

// Socket hears some multicast groups in the network namespace of the thread that called Open. It may be used from any goroutine.
type Socket struct {
	file   *os.File
	raw    syscall.RawConn
	mu     sync.Mutex // one reader at a time
	buffer []byte
}

// Open subscribes to groups (numbers as in linux/rtnetlink.h or linux/netfilter/nfnetlink.h) of a netlink family.
func Open(family int, groups ...int) (*Socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, family)
	if err != nil {
		return nil, fmt.Errorf("open netlink family %d: %w", family, err)
	}
	// Beyond net.core.rmem_max only with CAP_NET_ADMIN; without it the buffer stays as it is, and what is lost is said.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, BufferSize) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, BufferSize)
	}
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	for _, group := range groups {
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group)
		}
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("subscribe to netlink family %d: %w", family, err)
	}
	s := &Socket{file: os.NewFile(uintptr(fd), "netlink"), buffer: make([]byte, receiveSize)}
	if s.raw, err = s.file.SyscallConn(); err != nil {
		return nil, errors.Join(err, s.file.Close())
	}
	return s, nil
}

// Close ends a Wait. Afterwards nothing is heard.
func (s *Socket) Close() error { return s.file.Close() }

// Wait returns when there is something to take, or os.ErrClosed.
func (s *Socket) Wait() error {
	err := s.raw.Read(func(fd uintptr) (ready bool) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
	})
	if err != nil { // the one reason there is
		return fmt.Errorf("wait for netlink: %w", os.ErrClosed)
	}
	return nil
}

// Take hands over all that has come, in order, each datagram once, and does not wait for more. Of what comes meanwhile it hands over some, and
// returns even if that never ends; the rest does not keep the next Wait waiting. The bytes are valid until each returns.
// lost says that the kernel had to drop messages since the last Take (ENOBUFS): where among those handed over is not known.
func (s *Socket) Take(each func(messages []byte)) (lost bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	controlErr := s.raw.Control(func(fd uintptr) {
		for range takeMost {
			n, from, receiveErr := unix.Recvfrom(int(fd), s.buffer, unix.MSG_DONTWAIT)
			switch {
			case errors.Is(receiveErr, unix.EINTR):
			case errors.Is(receiveErr, unix.ENOBUFS):
				lost = true
			case receiveErr != nil:
				if !errors.Is(receiveErr, unix.EAGAIN) {
					err = fmt.Errorf("receive from netlink: %w", receiveErr)
				}
				return
			default:
				// What a process sends comes from its port; the kernel's is 0.
				if sender, ok := from.(*unix.SockaddrNetlink); ok && sender.Pid == 0 {
					each(s.buffer[:n])
				}
			}
		}
	})
	return lost, errors.Join(err, controlErr)
}
