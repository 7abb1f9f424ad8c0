package socket

import (
	"errors"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Unacknowledged is how many bytes written to a TCP socket the other end's kernel has not acknowledged yet (SIOCOUTQ, tcp(7)).
func Unacknowledged(conn syscall.Conn) (bytes int, err error) {
	err = control(conn, func(fd int) (err error) {
		bytes, err = unix.IoctlGetInt(fd, unix.SIOCOUTQ)
		return err
	})
	return bytes, err
}

// GiveUpAfter ends a TCP connection whose other end acknowledges nothing for so long, where the kernel alone would try for a quarter of an
// hour (TCP_USER_TIMEOUT, tcp(7)).
func GiveUpAfter(conn syscall.Conn, silence time.Duration) error {
	return control(conn, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(silence.Milliseconds()))
	})
}

// Refused says whether nobody listened where a connection was opened to: its host said so (ECONNREFUSED).
func Refused(err error) bool { return errors.Is(err, unix.ECONNREFUSED) }

func control(conn syscall.Conn, do func(fd int) error) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var done error
	if err := raw.Control(func(fd uintptr) { done = do(int(fd)) }); err != nil {
		return err
	}
	return done
}

// Freebind lets a socket be bound to an address that the host does not have yet (IP_FREEBIND, ip(7)). It is a Control of net.ListenConfig.
func Freebind(network, _ string, raw syscall.RawConn) error {
	level, option := unix.SOL_IP, unix.IP_FREEBIND
	if strings.HasSuffix(network, "6") {
		level, option = unix.SOL_IPV6, unix.IPV6_FREEBIND
	}
	var failed error
	err := raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), level, option, 1) })
	return errors.Join(err, failed)
}
