package nstest

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const ifaNoDAD = unix.IFA_F_NODAD

func maskOf(prefix netip.Prefix) net.IPMask {
	return net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())
}

// Link joins two hosts by a veth pair with the names and addresses given ("192.0.2.1/24"). Both ends have carrier, and
// their addresses can be used, on return.
func Link(t testing.TB, a *H, nameA string, addressesA []string, b *H, nameB string, addressesB []string) {
	t.Helper()
	a.links++
	pair := &netlink.Veth{
		// Two ends with the same index look like no pair to the kernel's link watch, which then takes a second over its
		// carrier (linkwatch_urgent_event in net/core/link_watch.c). The first links of two hosts would both be number 2.
		LinkAttrs:     netlink.LinkAttrs{Name: nameA, Index: 10000 + a.links},
		PeerName:      nameB,
		PeerNamespace: netlink.NsFd(b.Namespace.FD()),
	}
	if err := a.Netlink.LinkAdd(pair); err != nil {
		t.Fatalf("link %s %s to %s %s: %v", a.Name, nameA, b.Name, nameB, err)
	}
	waitA, waitB := a.awaitUp(nameA), b.awaitUp(nameB)
	a.up(nameA)
	b.up(nameB)
	waitA()
	waitB()
	a.Address(nameA, addressesA...)
	b.Address(nameB, addressesB...)
}

// awaitUp begins to listen; the returned function waits until the interface is operational. IPv6 refuses to use an
// interface before that, and veth gets its carrier from a work queue of the kernel.
func (h *H) awaitUp(iface string) (wait func()) {
	h.t.Helper()
	updates, done := make(chan netlink.LinkUpdate, 16), make(chan struct{})
	handle := netns.NsHandle(h.Namespace.FD())
	if err := netlink.LinkSubscribeWithOptions(updates, done, netlink.LinkSubscribeOptions{Namespace: &handle, ListExisting: true}); err != nil {
		h.t.Fatalf("on %s: watch links: %v", h.Name, err)
	}
	return func() {
		h.t.Helper()
		defer func() {
			close(done)
			for range updates { // until the subscription's goroutine has ended
			}
		}()
		timeout := time.After(patience)
		for {
			select {
			case update, ok := <-updates:
				if !ok {
					h.t.Fatalf("on %s: watch links: closed", h.Name)
				}
				if update.Link.Attrs().Name == iface && update.Link.Attrs().OperState == netlink.OperUp {
					return
				}
			case <-timeout:
				h.t.Fatalf("on %s: %s does not come up", h.Name, iface)
			}
		}
	}
}
