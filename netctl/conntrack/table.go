package conntrack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ti-mo/conntrack"
	"golang.org/x/sys/unix"

	"shekara/netctl"
)

// MaxListed is how many connections a Cut names.
const MaxListed = 20

// Table is the connection table of a network namespace. It is not safe for concurrent use.
type Table struct {
	conn *conntrack.Conn
	// What a connection has left when a packet of it was just seen, in seconds; 0: not known.
	tcpEstablished, udp, udpStream uint32
}

// Cut is connections that were deleted.
type Cut struct {
	Count          int
	Packets, Bytes uint64 // of all, both ways, as far as the kernel counts them (net.netfilter.nf_conntrack_acct)
	// LastSeen is when the latest packet of any of them came, whether the filter let it pass or not: to the second, as the time tells that
	// the kernel still leaves them. Zero: it cannot be told.
	LastSeen time.Time
	Some     []Connection     // the first MaxListed
	Taken    map[Selector]int // how many each revoked selector took: of several that take one the first counts
}

// Open opens the table of the calling thread's network namespace.
func Open() (*Table, error) {
	conn, err := conntrack.Dial(nil)
	if err != nil {
		return nil, fmt.Errorf("open connection table: %w", err)
	}
	return &Table{conn, timeout("tcp_timeout_established"), timeout("udp_timeout"), timeout("udp_timeout_stream")}, nil
}

// timeout reads a sysctl, in seconds; 0 if this kernel has none such.
func timeout(name string) uint32 {
	text, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_" + name)
	if err != nil {
		return 0
	}
	seconds, _ := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	return uint32(seconds)
}

// Close closes the table.
func (t *Table) Close() error { return t.conn.Close() }

// Count says how many connections a selection takes now.
func (t *Table) Count(ctx context.Context, s Selection) (count int, err error) {
	err = t.each(ctx, s, func(*conntrack.Flow, *Selector) error { count++; return nil })
	return count, err
}

// Delete deletes the connections that a selection takes. It reads the whole table, of the families that are revoked, once: the kernel can
// filter by family, not by prefix.
func (t *Table) Delete(ctx context.Context, s Selection) (cut Cut, err error) {
	var failed []error
	cut.Taken = map[Selector]int{}
	err = t.each(ctx, s, func(flow *conntrack.Flow, by *Selector) error {
		// With its ID, so that an entry which took the same addresses since is left.
		err := t.conn.Delete(conntrack.Flow{ID: flow.ID, Zone: flow.Zone, TupleOrig: flow.TupleOrig, TupleReply: flow.TupleReply})
		switch {
		case err == nil:
			t.note(&cut, flow)
			cut.Taken[*by]++
		case !errors.Is(err, fs.ErrNotExist): // else it ended meanwhile
			failed = append(failed, &netctl.Error{Op: "delete connection", Object: connectionOf(flow).String(), Err: err})
		}
		return nil
	})
	return cut, errors.Join(append(failed, err)...)
}

func (t *Table) each(ctx context.Context, s Selection, do func(*conntrack.Flow, *Selector) error) error {
	revoked, kept := newIndex(s.Revoked), newIndex(s.Kept)
	anyway := newIndex(slices.DeleteFunc(slices.Clone(s.Revoked), func(s Selector) bool { return !s.AnswersFrom.IsValid() }))
	for _, family := range s.families() {
		flows, err := t.conn.DumpFilter(conntrack.NewFilter().Family(family), nil)
		if err != nil {
			return &netctl.Error{Op: "read connection table", Err: err}
		}
		for i := range flows {
			by := revoked.find(&flows[i])
			if by == nil || kept.takes(&flows[i]) && !anyway.takes(&flows[i]) {
				continue
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := do(&flows[i], by); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *Table) note(cut *Cut, flow *conntrack.Flow) {
	cut.Count++
	cut.Packets += flow.CountersOrig.Packets + flow.CountersReply.Packets
	cut.Bytes += flow.CountersOrig.Bytes + flow.CountersReply.Bytes
	if len(cut.Some) < MaxListed {
		cut.Some = append(cut.Some, connectionOf(flow))
	}
	const tcpEstablishedState = 3 // TCP_CONNTRACK_ESTABLISHED (linux/netfilter/nf_conntrack_tcp.h)
	whole := uint32(0)
	switch {
	case flow.TupleOrig.Proto.Protocol == unix.IPPROTO_TCP && flow.ProtoInfo.TCP != nil && flow.ProtoInfo.TCP.State == tcpEstablishedState:
		whole = t.tcpEstablished
	case flow.TupleOrig.Proto.Protocol == unix.IPPROTO_UDP && flow.Status.Assured():
		whole = t.udpStream
	case flow.TupleOrig.Proto.Protocol == unix.IPPROTO_UDP:
		whole = t.udp
	}
	if whole == 0 || flow.Timeout > whole {
		return
	}
	if seen := time.Now().Add(-time.Duration(whole-flow.Timeout) * time.Second); seen.After(cut.LastSeen) {
		cut.LastSeen = seen
	}
}

func connectionOf(flow *conntrack.Flow) Connection {
	orig := flow.TupleOrig
	return Connection{Protocol: orig.Proto.Protocol,
		Source:      netip.AddrPortFrom(orig.IP.SourceAddress, orig.Proto.SourcePort),
		Destination: netip.AddrPortFrom(orig.IP.DestinationAddress, orig.Proto.DestinationPort),
		Packets:     flow.CountersOrig.Packets + flow.CountersReply.Packets}
}
