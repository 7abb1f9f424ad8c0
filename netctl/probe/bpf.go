package probe

import (
	"encoding/binary"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// bpf loads a program for netfilter's hooks, which lets everything pass, and asks for those of an interface (tcx). Nothing is attached.
func bpf() error {
	const load, query, netfilter, attachNetfilter, attachTCX, loopback = 5, 16, 32, 45, 46, 1 // linux/bpf.h
	program := []byte{0xb7, 0, 0, 0, 1, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0}                   // r0 = NF_ACCEPT; exit
	license := []byte("GPL\x00")
	var a [128]byte // union bpf_attr
	put := binary.NativeEndian
	put.PutUint32(a[0:], netfilter)
	put.PutUint32(a[4:], uint32(len(program)/8))
	put.PutUint64(a[8:], uint64(uintptr(unsafe.Pointer(&program[0]))))
	put.PutUint64(a[16:], uint64(uintptr(unsafe.Pointer(&license[0]))))
	put.PutUint32(a[68:], attachNetfilter) // expected_attach_type
	fd, _, errno := unix.Syscall(unix.SYS_BPF, load, uintptr(unsafe.Pointer(&a)), uintptr(len(a)))
	runtime.KeepAlive(program)
	runtime.KeepAlive(license)
	if errno != 0 {
		return errno
	}
	if err := unix.Close(int(fd)); err != nil {
		return err
	}
	a = [128]byte{}
	put.PutUint32(a[0:], loopback)
	put.PutUint32(a[4:], attachTCX)
	if _, _, errno := unix.Syscall(unix.SYS_BPF, query, uintptr(unsafe.Pointer(&a)), uintptr(len(a))); errno != 0 && errno != unix.ENOENT {
		return errno
	}
	return nil
}
