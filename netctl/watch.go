package netctl

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Watch hints that links, addresses, routes, rules, forwarding or namespaces of the host changed, or our packet filter or the chains of
// another, whoever changed them, ourselves too. Hints that nobody has taken become one; so do messages that the kernel had to drop
// (ENOBUFS). The first hint comes at once. The channel is closed after ctx ends, when nothing of the watch is left.
func (h *Host) Watch(ctx context.Context) (<-chan struct{}, error) {
	var files []*os.File
	err := h.space.Do(func() error {
		routing, err := openWatch(unix.NETLINK_ROUTE, routingGroups())
		if err != nil {
			return err
		}
		files = append(files, routing)
		filter, err := openWatch(unix.NETLINK_NETFILTER, 1<<(unix.NFNLGRP_NFTABLES-1))
		if err != nil {
			return errors.Join(err, routing.Close())
		}
		files = append(files, filter)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("watch the host: %w", err)
	}
	// What routing says is always ours to look at; filters are many people's business.
	concerns := []func([]byte) bool{func([]byte) bool { return true }, concernsFilter}
	hints := make(chan struct{}, 1)
	hints <- struct{}{}
	stop := context.AfterFunc(ctx, func() {
		for _, file := range files {
			file.Close()
		}
	})
	var watchers sync.WaitGroup
	for i, file := range files {
		raw, err := file.SyscallConn()
		if err != nil {
			continue // closed already: ctx has ended
		}
		watchers.Go(func() { watch(raw, hints, concerns[i]) })
	}
	go func() {
		watchers.Wait()
		stop()
		close(hints)
	}()
	return hints, nil
}

// watch hints until the socket is closed. Nothing but whether it concerns us is read out of a message: a hint says look, and the look
// says what.
func watch(raw syscall.RawConn, hints chan<- struct{}, concerns func([]byte) bool) {
	buffer := make([]byte, receiveSize)
	for {
		heard := true // that messages were dropped is a hint
		err := raw.Read(func(fd uintptr) (ready bool) {
			n, _, err := unix.Recvfrom(int(fd), buffer, unix.MSG_DONTWAIT)
			if n > 0 {
				heard = concerns(buffer[:n])
			}
			return n > 0 || !errors.Is(err, unix.EAGAIN)
		})
		if err != nil { // closed
			return
		}
		if !heard {
			continue
		}
		select {
		case hints <- struct{}{}:
		default:
		}
	}
}

func routingGroups() (groups uint32) {
	for _, group := range []int{
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE,
		unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE, unix.RTNLGRP_NSID,
		unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF, // forwarding and rp_filter, whoever writes them to /proc/sys
	} {
		groups |= 1 << (group - 1)
	}
	return groups
}

func openWatch(family int, groups uint32) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, family)
	if err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "netlink"), nil
}

// filterTables is how the names of our tables in the packet filter begin.
const filterTables = "shekara"

// concernsFilter says whether messages of nftables tell of a change to our tables, or of a table or chain of another, which may drop what
// ours lets pass. The elements of others do not: a ban list that grows by the second must not make us look by the second. What cannot
// be read concerns us.
func concernsFilter(messages []byte) bool {
	const nameAttribute = 1 // NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE, NFTA_SET_TABLE... (linux/netfilter/nf_tables.h)
	for len(messages) >= unix.SizeofNlMsghdr {
		length, kind := binary.NativeEndian.Uint32(messages), binary.NativeEndian.Uint16(messages[4:])
		if length < unix.SizeofNlMsghdr+nl.SizeofNfgenmsg || int(length) > len(messages) {
			return true
		}
		body := messages[unix.SizeofNlMsghdr+nl.SizeofNfgenmsg : length]
		messages = messages[min(int(length+3)&^3, len(messages)):]
		switch kind & 0xff {
		case unix.NFT_MSG_NEWGEN: // ends each transaction and names no table
			continue
		case unix.NFT_MSG_NEWTABLE, unix.NFT_MSG_DELTABLE, unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN:
			return true
		}
		attributes, err := nl.ParseRouteAttr(body)
		if err != nil {
			return true
		}
		for _, a := range attributes {
			if a.Attr.Type == nameAttribute && strings.HasPrefix(string(a.Value), filterTables) {
				return true
			}
		}
	}
	return len(messages) > 0
}
