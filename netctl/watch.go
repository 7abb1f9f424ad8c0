package netctl

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"shekara/netctl/multicast"
	"shekara/netctl/nftables"
)

// Kept of what was heard between two looks; beyond it is counted. A look says what differs, this only who may have done it.
const (
	maxTransactions = 64
	maxChanges      = 64
)

// Watch hears of changes of the host by what the kernel multicasts: links, addresses, routes, rules, forwarding, namespaces and nftables,
// whoever changed them. What a change did the host itself says, when it is looked at; a Watch says when to look, and who it was.
type Watch struct {
	host    *Host
	hints   chan struct{}
	routing *multicast.Socket
	filter  *nftables.Listener
	own     uint32 // our port: what we ask of routing is not heard

	mu    sync.Mutex
	heard Heard
}

// Heard is what the kernel told between two looks.
type Heard struct {
	Transactions []nftables.Transaction // of nftables, our own too
	Changes      []Change               // of what is ours in routing, made by others
	More         int                    // heard besides, and not kept
	Lost         int                    // times that the kernel dropped messages because too many came at once
}

// Change is one change of routing. The kernel does not tell which process made it.
type Change struct {
	Text string // "delete route 10.64.1.0/28 dev sk-agencies table 21323 metric 0"
	// Port is the netlink port that asked for it: for most programs their process ID, in their own PID namespace, but they may choose
	// another. 0: the kernel itself, as when a link goes and takes its routes along.
	Port uint32
}

// By is who made it, as far as that is known.
func (c Change) By() string {
	if c.Port == 0 {
		return "the kernel"
	}
	return fmt.Sprintf("unknown (netlink port %d, often the process's number)", c.Port)
}

// Merge is what was heard before and after.
func (h Heard) Merge(later Heard) Heard {
	h.More += later.More + max(0, len(h.Transactions)+len(later.Transactions)-maxTransactions) + max(0, len(h.Changes)+len(later.Changes)-maxChanges)
	h.Lost += later.Lost
	h.Transactions = append(h.Transactions[:len(h.Transactions):len(h.Transactions)], later.Transactions...)
	h.Changes = append(h.Changes[:len(h.Changes):len(h.Changes)], later.Changes...)
	h.Transactions = h.Transactions[:min(len(h.Transactions), maxTransactions)]
	h.Changes = h.Changes[:min(len(h.Changes), maxChanges)]
	return h
}

// Watch hears from now on, until ctx ends.
func (h *Host) Watch(ctx context.Context) (*Watch, error) {
	w := &Watch{host: h, hints: make(chan struct{}, 1), own: h.rtnl.port()}
	err := h.space.Do(func() (err error) {
		if w.routing, err = multicast.Open(unix.NETLINK_ROUTE, routingGroups()...); err != nil {
			return err
		}
		if w.filter, err = nftables.Listen(); err != nil {
			return errors.Join(err, w.routing.Close())
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("watch the host: %w", err)
	}
	w.hint()
	stop := context.AfterFunc(ctx, func() {
		w.routing.Close()
		w.filter.Close()
	})
	var watchers sync.WaitGroup
	watchers.Go(func() {
		for w.routing.Wait() == nil && w.takeRouting() == nil {
		}
	})
	watchers.Go(func() {
		for w.filter.Wait() == nil && w.takeFilter() == nil {
		}
	})
	go func() {
		watchers.Wait()
		stop()
		close(w.hints)
	}()
	return w, nil
}

// Hints says look: something changed, or messages were lost. Hints that nobody has taken become one. The first comes at once. The channel
// is closed after ctx ends, when nothing of the watch is left.
func (w *Watch) Hints() <-chan struct{} { return w.hints }

// Heard is what the kernel has told since the last call, up to now.
func (w *Watch) Heard() Heard {
	_, _ = w.takeRouting(), w.takeFilter() // of a watch that has ended nothing more comes
	w.mu.Lock()
	defer w.mu.Unlock()
	heard := w.heard
	w.heard = Heard{}
	return heard
}

func (w *Watch) hint() {
	select {
	case w.hints <- struct{}{}:
	default:
	}
}

// note keeps what was taken and hints, both before the next message is waited for.
func (w *Watch) note(heard Heard, lost, concerns bool) {
	if lost {
		heard.Lost++
	}
	w.mu.Lock()
	w.heard = w.heard.Merge(heard)
	w.mu.Unlock()
	if lost || concerns {
		w.hint()
	}
}

func (w *Watch) takeFilter() error {
	var heard Heard
	concerns := false
	lost, err := w.filter.Take(func(tx nftables.Transaction) {
		concerns = concerns || concernsFilter(tx)
		heard = heard.Merge(Heard{Transactions: []nftables.Transaction{tx}})
	})
	w.note(heard, lost, concerns)
	return err
}

// filterTables is how the names of our tables in the packet filter begin, and filterChains those of our chains in the tables of iptables-nft.
const (
	filterTables = "shekara"
	filterChains = "SHEKARA-"
)

// OwnFilter says whether something of nftables is ours, or in what is.
func OwnFilter(o nftables.Object) bool {
	_, name, _ := strings.Cut(o.Table, " ")
	return strings.HasPrefix(name, filterTables) || strings.HasPrefix(o.Name, filterChains)
}

// concernsFilter says whether a transaction changed what is ours, or what tables of others do with packets, which may drop what ours
// lets pass. The elements of others do not: a ban list that grows by the second must not make us look by the second.
func concernsFilter(tx nftables.Transaction) bool {
	if tx.Touches(OwnFilter) {
		return true
	}
	for _, o := range tx.Objects {
		if o.Kind == "table" || o.Kind == "chain" || o.Kind == "rule" {
			return true
		}
	}
	return false
}

func (w *Watch) takeRouting() error {
	var heard Heard
	concerns := false
	lost, err := w.routing.Take(func(messages []byte) {
		concerns = true // what routing says is always ours to look at
		for len(messages) >= unix.SizeofNlMsghdr {
			length := binary.NativeEndian.Uint32(messages)
			if length < unix.SizeofNlMsghdr || uint64(length) > uint64(len(messages)) {
				return
			}
			message := messages[:length]
			messages = messages[min(int(length+3)&^3, len(messages)):]
			port := binary.NativeEndian.Uint32(message[12:])
			if port == w.own {
				continue
			}
			if text := w.host.describe(binary.NativeEndian.Uint16(message[4:]), message[unix.SizeofNlMsghdr:]); text != "" {
				heard = heard.Merge(Heard{Changes: []Change{{text, port}}})
			}
		}
	})
	w.note(heard, lost, concerns)
	return err
}

func routingGroups() []int {
	return []int{
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE,
		unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE, unix.RTNLGRP_NSID,
		unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF, // forwarding and rp_filter, whoever writes them to /proc/sys
	}
}

// describe says what a message of routing tells, in words; nothing if it is not about what is ours.
func (h *Host) describe(kind uint16, body []byte) string {
	switch kind {
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		routes := decodeRoute(nil, body, h.linkName)
		if len(routes) == 0 || !ofProtocol(body) && !OwnTable(routes[0].Table) {
			return ""
		}
		verb := map[uint16]Verb{unix.RTM_NEWROUTE: Add, unix.RTM_DELROUTE: Delete}[kind]
		if kind == unix.RTM_NEWROUTE && !ofProtocol(body) {
			return fmt.Sprintf("%s route of protocol %d: %s", verb, body[5], routes[0])
		}
		return fmt.Sprintf("%s route %s", verb, routes[0])
	case unix.RTM_NEWRULE, unix.RTM_DELRULE:
		rule, ok := decodeRule(body)
		if !ok || rule.protocol != RouteProtocol && !rule.shadows() {
			return ""
		}
		verb := map[uint16]Verb{unix.RTM_NEWRULE: Add, unix.RTM_DELRULE: Delete}[kind]
		return fmt.Sprintf("%s %s", verb, rule.describe())
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		address, ok := decodeAddress(body, h.linkName)
		if !ok || !address.foreign() {
			return ""
		}
		verb := map[uint16]Verb{unix.RTM_NEWADDR: Add, unix.RTM_DELADDR: Delete}[kind]
		return fmt.Sprintf("%s %s", verb, address)
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		name := decodeLinkName(body)
		if !strings.HasPrefix(name, LinkPrefix) {
			return ""
		}
		return map[uint16]string{unix.RTM_NEWLINK: "change link ", unix.RTM_DELLINK: "delete link "}[kind] + name
	}
	return ""
}

// linkName is the name of a link by its index now; it is asked only for what is ours and others changed.
func (h *Host) linkName(index int) string {
	if link, err := h.links.LinkByIndex(index); err == nil {
		return link.Attrs().Name
	}
	return fmt.Sprintf("#%d", index) // gone meanwhile
}

// decodeAddress reads struct ifaddrmsg and the address of the near end.
func decodeAddress(body []byte, name func(index int) string) (Address, bool) {
	if len(body) < unix.SizeofIfAddrmsg {
		return Address{}, false
	}
	var found netip.Addr
	for kind, value := range attributes(body[unix.SizeofIfAddrmsg:]) {
		ip, ok := netip.AddrFromSlice(value)
		if ok && (kind == unix.IFA_LOCAL || kind == unix.IFA_ADDRESS && !found.IsValid()) {
			found = ip
		}
	}
	prefix := netip.PrefixFrom(found, int(body[1]))
	if !prefix.IsValid() {
		return Address{}, false
	}
	return Address{name(int(binary.NativeEndian.Uint32(body[4:]))), prefix}, true
}

// decodeLinkName reads IFLA_IFNAME after struct ifinfomsg.
func decodeLinkName(body []byte) string {
	if len(body) < unix.SizeofIfInfomsg {
		return ""
	}
	for kind, value := range attributes(body[unix.SizeofIfInfomsg:]) {
		if kind == unix.IFLA_IFNAME {
			name, _, _ := strings.Cut(string(value), "\x00")
			return name
		}
	}
	return ""
}
