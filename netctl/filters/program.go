package filters

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Commands, attach types and link types of bpf(2) (linux/bpf.h).
const (
	commandInfo     = 15 // BPF_OBJ_GET_INFO_BY_FD
	commandQuery    = 16 // BPF_PROG_QUERY
	commandLinkFile = 30 // BPF_LINK_GET_FD_BY_ID
	commandNextLink = 31 // BPF_LINK_GET_NEXT_ID

	attachIngress = 46 // BPF_TCX_INGRESS, since Linux 6.6
	attachEgress  = 47 // BPF_TCX_EGRESS

	linkNetfilter = 10 // BPF_LINK_TYPE_NETFILTER, since Linux 6.4

	attributeSize = 128 // of union bpf_attr: more than what is used here; the kernel wants the rest to be zero
	maxLinks      = 10_000
)

// bpf calls bpf(2). The kernel answers in the attribute.
func bpf(command uintptr, attribute *[attributeSize]byte) (uintptr, error) {
	answer, _, errno := unix.Syscall(unix.SYS_BPF, command, uintptr(unsafe.Pointer(attribute)), attributeSize)
	if errno != 0 {
		return 0, errno
	}
	return answer, nil
}

// programs names those that were attached by bpf(2), not by netlink.
func (l *looker) programs(links []netlink.Link) {
	for _, link := range links {
		for _, side := range []struct {
			attach uint32
			name   string
		}{{attachIngress, "ingress"}, {attachEgress, "egress"}} {
			var a [attributeSize]byte
			binary.NativeEndian.PutUint32(a[0:], uint32(link.Attrs().Index)) // target_ifindex
			binary.NativeEndian.PutUint32(a[4:], side.attach)
			_, err := bpf(commandQuery, &a)
			switch {
			case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS): // a kernel without
				continue
			case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENOENT): // gone meanwhile, or none was ever attached
				continue
			case err != nil:
				l.unseen(BPF, "programs (tcx)", err)
				continue
			}
			if count := number(a[:], 24); count > 0 {
				l.add(BPF, "%d programs (tcx) at %s of interface %s (bpftool net show dev %s)", count, side.name, link.Attrs().Name, link.Attrs().Name)
			}
		}
	}
	l.netfilterLinks()
}

// netfilterLinks names programs at netfilter's hooks, of this namespace or another: the kernel does not say of which.
func (l *looker) netfilterLinks() {
	id := uint32(0)
	for range maxLinks {
		var a [attributeSize]byte
		binary.NativeEndian.PutUint32(a[0:], id)
		_, err := bpf(commandNextLink, &a)
		switch {
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
			return // no more, or a kernel without
		case errors.Is(err, unix.EPERM):
			l.found = append(l.found, Found{Kind: BPF, What: "netfilter programs by BPF links could not be listed: CAP_SYS_ADMIN is not held", Unasked: true})
			return
		case err != nil:
			l.unseen(BPF, "programs at netfilter's hooks", err)
			return
		}
		id = number(a[:], 4)
		kind, where, err := linkInfo(id)
		switch {
		case errors.Is(err, unix.ENOENT): // gone meanwhile
		case err != nil:
			l.unseen(BPF, fmt.Sprintf("what link %d is", id), err)
		case kind == linkNetfilter:
			l.add(BPF, "a program at netfilter's hook %s, link %d, perhaps of another namespace (bpftool link show id %d)", where, id, id)
		}
	}
}

// linkInfo is the type of a link, and for netfilter its family and hook.
func linkInfo(id uint32) (kind uint32, where string, err error) {
	var a [attributeSize]byte
	binary.NativeEndian.PutUint32(a[0:], id)
	fd, err := bpf(commandLinkFile, &a)
	if err != nil {
		return 0, "", err
	}
	file := os.NewFile(fd, "bpf link")
	defer file.Close()
	info := make([]byte, 64) // struct bpf_link_info: type, id, prog_id, then the type's own
	a = [attributeSize]byte{}
	binary.NativeEndian.PutUint32(a[0:], uint32(fd))
	binary.NativeEndian.PutUint32(a[4:], uint32(len(info)))
	binary.NativeEndian.PutUint64(a[8:], uint64(uintptr(unsafe.Pointer(&info[0]))))
	_, err = bpf(commandInfo, &a)
	runtime.KeepAlive(info)
	if err != nil {
		return 0, "", err
	}
	return number(info, 0), fmt.Sprintf("%d of family %d", number(info, 20), number(info, 16)), nil
}
