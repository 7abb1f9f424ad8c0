package link

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"shekara/netctl"
	"shekara/netctl/ns"
)

// Kinds of link that carry our name. TUN is what the kernel calls "tun" and netlink's library "tuntap".
const (
	KindWireGuard = "wireguard"
	KindTUN       = "tun"
)

// Handle is a netlink socket in one network namespace. It may be used by many goroutines.
type Handle struct {
	netlink *netlink.Handle
	space   *ns.Namespace
	closed  atomic.Bool
}

// Open makes a Handle in a namespace; nil means that of the process, which needs no right to change namespaces.
func Open(space *ns.Namespace) (*Handle, error) {
	var h *netlink.Handle
	var err error
	if space == nil {
		h, err = netlink.NewHandle(unix.NETLINK_ROUTE)
	} else {
		h, err = netlink.NewHandleAt(netns.NsHandle(space.FD()), unix.NETLINK_ROUTE)
	}
	if err != nil {
		return nil, &netctl.Error{Op: "open netlink socket", Object: "route", Err: err}
	}
	return &Handle{netlink: h, space: space}, nil
}

// Close closes the socket. It may be called twice.
func (h *Handle) Close() {
	if !h.closed.Swap(true) {
		h.netlink.Close()
	}
}

// open guards against use after Close: the library would then quietly work in the namespace of the calling thread.
func (h *Handle) open(op, name string) error {
	if h.closed.Load() {
		return &netctl.Error{Op: op, Object: name, Err: fs.ErrClosed}
	}
	return nil
}

// List gives our links: those whose names begin with netctl.LinkPrefix, without their addresses.
func (h *Handle) List() ([]netctl.Link, error) {
	if err := h.open("list links", netctl.LinkPrefix+"*"); err != nil {
		return nil, err
	}
	all, err := h.netlink.LinkList()
	if errors.Is(err, netlink.ErrDumpInterrupted) { // links changed meanwhile: what was read is a fair look, and there is always a next
		err = nil
	}
	if err != nil {
		return nil, &netctl.Error{Op: "list links", Object: netctl.LinkPrefix + "*", Err: err}
	}
	var ours []netctl.Link
	for _, l := range all {
		if strings.HasPrefix(l.Attrs().Name, netctl.LinkPrefix) {
			ours = append(ours, describe(l))
		}
	}
	return ours, nil
}

// Get gives one link of ours. The error is fs.ErrNotExist if it is not there.
func (h *Handle) Get(name string) (netctl.Link, error) {
	l, err := h.byName("get link", name)
	if err != nil {
		return netctl.Link{}, err
	}
	return describe(l), nil
}

// AddWireGuard makes a kernel WireGuard link, down. The error is errors.ErrUnsupported if the kernel knows no such kind.
func (h *Handle) AddWireGuard(name string, mtu int) error {
	if err := errors.Join(ours("add link", name), h.open("add link", name)); err != nil {
		return err
	}
	attributes := netlink.NewLinkAttrs()
	attributes.Name, attributes.MTU = name, mtu
	err := h.netlink.LinkAdd(&netlink.Wireguard{LinkAttrs: attributes})
	if errors.Is(err, unix.EOPNOTSUPP) { // "Unknown device type"
		err = errors.Join(err, errors.ErrUnsupported)
	}
	return failed("add link", name, err)
}

// SetMTU changes the MTU.
func (h *Handle) SetMTU(name string, mtu int) error {
	l, err := h.byName("set MTU of link", name)
	if err != nil {
		return err
	}
	return failed(fmt.Sprintf("set MTU %d of link", mtu), name, h.netlink.LinkSetMTU(l, mtu))
}

// SetUp sets the link up. A kernel WireGuard link opens its port now: the error is then unix.EADDRINUSE if another has it.
func (h *Handle) SetUp(name string) error {
	l, err := h.byName("set up link", name)
	if err != nil {
		return err
	}
	return failed("set up link", name, h.netlink.LinkSetUp(l))
}

// Delete deletes the link. One that is not there is deleted already.
func (h *Handle) Delete(name string) error {
	l, err := h.byName("delete link", name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	err = h.netlink.LinkDel(l)
	if errors.Is(err, unix.ENODEV) {
		err = nil
	}
	return failed("delete link", name, err)
}

// NoLinkLocal keeps the kernel from giving the link an IPv6 link-local address when it comes up: a TUN would get one, and with it
// router solicitations and neighbour traffic that a WireGuard link never has. No IPv6, nothing to do.
func (h *Handle) NoLinkLocal(name string) error {
	if err := ours("set address generation of link", name); err != nil {
		return err
	}
	set := func() error {
		const none = "1" // IN6_ADDR_GEN_MODE_NONE
		err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/addr_gen_mode", []byte(none), 0)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return failed("set address generation of link", name, err)
	}
	if h.space == nil {
		return set()
	}
	return h.space.Do(set)
}

func (h *Handle) byName(op, name string) (netlink.Link, error) {
	if err := errors.Join(ours(op, name), h.open(op, name)); err != nil {
		return nil, err
	}
	l, err := h.netlink.LinkByName(name)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) || errors.Is(err, unix.ENODEV) {
		return nil, &netctl.Error{Op: op, Object: name, Err: fs.ErrNotExist}
	}
	return l, failed(op, name, err)
}

// ours is the guard that keeps every change to links that bear our name.
func ours(op, name string) error {
	if !strings.HasPrefix(name, netctl.LinkPrefix) || len(name) >= unix.IFNAMSIZ || strings.ContainsAny(name, "/ \t\n\x00") {
		return &netctl.Error{Op: op, Object: name, Err: errors.New("not a link name of ours")}
	}
	return nil
}

func failed(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &netctl.Error{Op: op, Object: name, Err: err}
}

func describe(l netlink.Link) netctl.Link {
	a := l.Attrs()
	kind := l.Type()
	if kind == "tuntap" {
		kind = KindTUN
	}
	if kind == "device" {
		kind = ""
	}
	return netctl.Link{Name: a.Name, Index: a.Index, Kind: kind, MTU: a.MTU, Up: a.RawFlags&unix.IFF_UP != 0}
}
