package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"shekara/testbed/wire"
)

// Network is hosts and the links between them.
type Network struct {
	agent       []string
	environment []string
	hosts       map[string]*Host
	fabric      *Host // holds the bridges; made with the first
	links       map[string]*Link
	context     context.Context // of the wires
	stop        context.CancelFunc
	wires       sync.WaitGroup
}

// Open makes an empty network. agent is the command line of a program that calls Agent with the argument that follows it;
// environment is that of all programs on the hosts.
func Open(agent, environment []string) *Network {
	n := &Network{agent: agent, environment: environment, hosts: map[string]*Host{}, links: map[string]*Link{}}
	n.context, n.stop = context.WithCancel(context.Background())
	return n
}

// Close ends all hosts at once and waits until nothing of them is left.
func (n *Network) Close() {
	n.stop()
	n.wires.Wait()
	var ending sync.WaitGroup
	for _, h := range n.hosts {
		ending.Go(h.close)
	}
	if n.fabric != nil {
		ending.Go(n.fabric.close)
	}
	ending.Wait()
}

// Host finds a host by its name; nil if there is none.
func (n *Network) Host(name string) *Host { return n.hosts[name] }

// Link finds a link by its name; nil if there is none.
func (n *Network) Link(name string) *Link { return n.links[name] }

// AddHost makes a host, which forwards packets if it is a router.
func (n *Network) AddHost(name string, router bool) (*Host, error) {
	if n.hosts[name] != nil {
		return nil, fmt.Errorf("host %q is there already", name)
	}
	h, err := startHost(name, n.agent, n.environment)
	if err != nil {
		return nil, err
	}
	n.hosts[name] = h
	if router {
		for _, key := range []string{"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"} {
			if err := h.Sysctl(key, "1"); err != nil {
				return nil, err
			}
		}
	}
	return h, nil
}

// End is where a link meets a host.
type End struct {
	Host      string
	Interface string
	Addresses []netip.Prefix
}

// LinkSpec is a link between two hosts, or more: then they meet at a switch.
type LinkSpec struct {
	Name string
	Ends []End
	MTU  int    // 0: 1500
	Wire bool   // can be impaired; two ends only
	Seed uint64 // of the impairment
}

// Link is a link of the network.
type Link struct {
	Spec LinkSpec
	Wire *wire.Wire // nil unless Spec.Wire

	network *Network
}

// AddLink makes a link and gives its ends their addresses, which can be used on return.
func (n *Network) AddLink(spec LinkSpec) (*Link, error) {
	l := &Link{Spec: spec, network: n}
	for _, end := range spec.Ends {
		if n.hosts[end.Host] == nil {
			return nil, fmt.Errorf("link %q: there is no host %q", spec.Name, end.Host)
		}
	}
	var err error
	switch {
	case spec.Wire && len(spec.Ends) == 2:
		err = l.makeWire()
	case spec.Wire:
		err = errors.New("a wire has two ends")
	case len(spec.Ends) == 2:
		err = l.makeVeth()
	case len(spec.Ends) > 2:
		err = l.makeSwitch()
	default:
		err = errors.New("a link has at least two ends")
	}
	if err == nil {
		err = l.configure()
	}
	if err != nil {
		return nil, fmt.Errorf("link %q: %w", spec.Name, err)
	}
	n.links[spec.Name] = l
	return l, nil
}

func (l *Link) makeVeth() error {
	a, b := l.Spec.Ends[0], l.Spec.Ends[1]
	return l.network.hosts[a.Host].veth(a.Interface, l.network.hosts[b.Host], b.Interface)
}

func (h *Host) veth(name string, peer *Host, peerName string) error {
	v := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: peerName, PeerNamespace: netlink.NsFd(peer.namespace.FD())}
	v.Name = name
	if err := h.netlink.LinkAdd(v); err != nil {
		return fmt.Errorf("make %s on %s: %w", name, h.Name, err)
	}
	return nil
}

func (l *Link) makeSwitch() error {
	n := l.network
	if n.fabric == nil {
		fabric, err := startHost("fabric", n.agent, n.environment)
		if err != nil {
			return err
		}
		n.fabric = fabric
	}
	// Interface names hold 15 bytes: numbers do.
	number := len(n.links)
	bridge := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs()}
	bridge.Name = fmt.Sprintf("br%d", number)
	if err := n.fabric.netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("make switch: %w", err)
	}
	if err := n.fabric.netlink.LinkSetUp(bridge); err != nil {
		return err
	}
	for i, end := range l.Spec.Ends {
		port := fmt.Sprintf("br%dp%d", number, i)
		if err := n.hosts[end.Host].veth(end.Interface, n.fabric, port); err != nil {
			return err
		}
		link, err := n.fabric.netlink.LinkByName(port)
		if err != nil {
			return err
		}
		if err := errors.Join(n.fabric.netlink.LinkSetMaster(link, bridge), n.fabric.netlink.LinkSetUp(link)); err != nil {
			return err
		}
	}
	return nil
}

func (l *Link) makeWire() error {
	var taps [2]io.ReadWriteCloser
	for i, end := range l.Spec.Ends {
		tap, err := openTap(l.network.hosts[end.Host], end.Interface)
		if err != nil {
			if i == 1 {
				taps[0].Close()
			}
			return err
		}
		taps[i] = tap
		if err := l.network.hosts[end.Host].deepenQueue(end.Interface); err != nil {
			return errors.Join(err, taps[0].Close(), tap.Close())
		}
	}
	l.Wire = wire.New(taps[0], taps[1], l.Spec.Seed)
	l.network.wires.Go(func() { l.Wire.Run(l.network.context) })
	return nil
}

// tapQueue is how many frames wait for the wire. The kernel's 500 overflow when a busy machine keeps the wire from running for a
// quarter of a second: restarts of a daemon were seen to "lose" packets so, which a veth did not.
const tapQueue = 20_000

func (h *Host) deepenQueue(name string) error {
	link, err := h.netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if err := h.netlink.LinkSetTxQLen(link, tapQueue); err != nil {
		return fmt.Errorf("set queue of %s on %s: %w", name, h.Name, err)
	}
	return nil
}

// openTap makes a tap that lives as long as its descriptor. Without a virtio header the kernel hands over no segments larger than
// the MTU and no unfinished checksums: each frame is as it would be on a cable.
func openTap(h *Host, name string) (*os.File, error) {
	var tap *os.File
	err := h.Do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return fmt.Errorf("open /dev/net/tun: %w", err)
		}
		r, err := unix.NewIfreq(name)
		if err == nil {
			r.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, r)
		}
		if err != nil {
			unix.Close(fd)
			return fmt.Errorf("make tap %s on %s: %w", name, h.Name, err)
		}
		tap = os.NewFile(uintptr(fd), name)
		return nil
	})
	return tap, err
}

// configure sets MTU and addresses of all ends and brings them up.
func (l *Link) configure() error {
	for _, end := range l.Spec.Ends {
		h := l.network.hosts[end.Host]
		link, err := h.netlink.LinkByName(end.Interface)
		if err != nil {
			return fmt.Errorf("%s on %s: %w", end.Interface, end.Host, err)
		}
		if l.Spec.MTU != 0 {
			if err := h.netlink.LinkSetMTU(link, l.Spec.MTU); err != nil {
				return fmt.Errorf("set MTU of %s on %s: %w", end.Interface, end.Host, err)
			}
		}
		if err := h.netlink.LinkSetUp(link); err != nil {
			return fmt.Errorf("set %s on %s up: %w", end.Interface, end.Host, err)
		}
		if err := h.AddAddresses(end.Interface, end.Addresses...); err != nil {
			return err
		}
	}
	return nil
}

// SetUp brings one end's interface up or down, as a pulled cable would.
func (l *Link) SetUp(host string, up bool) error {
	i := slices.IndexFunc(l.Spec.Ends, func(e End) bool { return e.Host == host })
	if i < 0 {
		return fmt.Errorf("link %q does not end at %q", l.Spec.Name, host)
	}
	h := l.network.hosts[host]
	link, err := h.netlink.LinkByName(l.Spec.Ends[i].Interface)
	if err != nil {
		return err
	}
	if up {
		return h.netlink.LinkSetUp(link)
	}
	return h.netlink.LinkSetDown(link)
}

// AddAddresses gives an interface addresses; IPv6 ones can be used at once.
func (h *Host) AddAddresses(iface string, addresses ...netip.Prefix) error {
	link, err := h.netlink.LinkByName(iface)
	if err != nil {
		return fmt.Errorf("%s on %s: %w", iface, h.Name, err)
	}
	for _, prefix := range addresses {
		a := &netlink.Addr{IPNet: netlink.NewIPNet(prefix.Addr().AsSlice())}
		a.Mask = mask(prefix)
		if prefix.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD
		}
		if err := h.netlink.AddrAdd(link, a); err != nil {
			return fmt.Errorf("add %s to %s on %s: %w", prefix, iface, h.Name, err)
		}
	}
	return nil
}

// Route is a route of a host's main table.
type Route struct {
	To     netip.Prefix
	Via    netip.Addr
	Source netip.Addr // preferred; zero: the kernel's choice
}

// AddRoute adds a route.
func (h *Host) AddRoute(r Route) error {
	to := netlink.NewIPNet(r.To.Addr().AsSlice())
	to.Mask = mask(r.To)
	route := &netlink.Route{Dst: to, Gw: r.Via.AsSlice()}
	if r.Source.IsValid() {
		route.Src = r.Source.AsSlice()
	}
	if err := h.netlink.RouteAdd(route); err != nil {
		return fmt.Errorf("route %s via %s on %s: %w", r.To, r.Via, h.Name, err)
	}
	return nil
}

func mask(p netip.Prefix) []byte {
	m := make([]byte, p.Addr().BitLen()/8)
	for bit := range p.Bits() {
		m[bit/8] |= 1 << (7 - bit%8)
	}
	return m
}
