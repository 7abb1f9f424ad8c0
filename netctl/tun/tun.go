package tun

import (
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"shekara/netctl"
)

const clone = "/dev/net/tun"

// Create makes the device and returns its descriptor, non-blocking. It has virtio headers and no packet information, and
// exists as long as the descriptor, or a copy of it in whatever process and namespace, is open. The name is at most 15
// bytes; one that is taken is EBUSY (errors.Is fs.ErrExist does not hold), or EINVAL if it is no TUN.
func Create(name string) (*os.File, error) {
	request, err := unix.NewIfreq(name)
	if err == nil && (name == "" || strings.Contains(name, "%")) { // the kernel would choose a name
		err = fs.ErrInvalid
	}
	if err != nil {
		return nil, &netctl.Error{Op: "create tun", Object: name, Err: err}
	}
	fd, err := unix.Open(clone, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &netctl.Error{Op: "open " + clone + " for", Object: name, Err: err}
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_TUN_EXCL)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		unix.Close(fd)
		return nil, &netctl.Error{Op: "create tun", Object: name, Err: err}
	}
	// Only now may the runtime's poller see it: before TUNSETIFF the descriptor polls as an error.
	return os.NewFile(uintptr(fd), clone), nil
}

// Name asks the kernel for the present name of the device behind a descriptor.
func Name(file *os.File) (string, error) {
	conn, err := file.SyscallConn()
	if err != nil {
		return "", err
	}
	request, err := unix.NewIfreq("")
	if err != nil {
		return "", err
	}
	var asked error
	if err := conn.Control(func(fd uintptr) { asked = unix.IoctlIfreq(int(fd), unix.TUNGETIFF, request) }); err != nil {
		return "", err
	}
	if asked != nil {
		return "", &netctl.Error{Op: "name tun", Object: file.Name(), Err: asked}
	}
	return request.Name(), nil
}
