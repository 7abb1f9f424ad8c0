package socket

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Credentials are those that the peer had when it connected, as the kernel recorded them then.
type Credentials struct {
	UID    uint32
	GID    uint32
	PID    int32    // may have ended, and been reused, since
	Groups []uint32 // supplementary
}

// In reports whether the peer was in a group.
func (c Credentials) In(gid uint32) bool { return c.GID == gid || slices.Contains(c.Groups, gid) }

// Peer returns the credentials of the process that connected to, or listens at, the other end.
func Peer(conn *net.UnixConn) (Credentials, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return Credentials{}, fmt.Errorf("ask for peer: %w", err)
	}
	var peer Credentials
	var asked error
	err = raw.Control(func(fd uintptr) {
		var ucred *unix.Ucred
		if ucred, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); asked != nil {
			return
		}
		peer = Credentials{UID: ucred.Uid, GID: ucred.Gid, PID: ucred.Pid}
		peer.Groups, asked = peerGroups(int(fd))
	})
	if err := errors.Join(err, asked); err != nil {
		return Credentials{}, fmt.Errorf("ask for peer: %w", err)
	}
	return peer, nil
}

// peerGroups asks with SO_PEERGROUPS (Linux 4.13), for which golang.org/x/sys/unix has no function. It is what the
// process has; /etc/group only says what its user would get at the next login.
func peerGroups(fd int) ([]uint32, error) {
	const groupsMax = 65536 // NGROUPS_MAX
	for n := 32; n <= groupsMax; n *= 2 {
		groups := make([]uint32, n)
		length := uint32(n * 4)
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&length)), 0)
		switch errno {
		case 0:
			return groups[:length/4], nil
		case unix.ERANGE:
			continue
		default:
			return nil, errno
		}
	}
	return nil, unix.ERANGE
}
