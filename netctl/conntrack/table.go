package conntrack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"

	"github.com/ti-mo/conntrack"
	"github.com/ti-mo/netfilter"

	"shekara/netctl"
)

// Pair is two ends. An entry is between them if its original source lies in one and its original destination in the other.
type Pair struct{ A, B netip.Prefix }

func (p Pair) between(source, destination netip.Addr) bool {
	return p.A.Contains(source) && p.B.Contains(destination) || p.B.Contains(source) && p.A.Contains(destination)
}

// Table is the connection table of a network namespace. It is not safe for concurrent use.
type Table struct{ conn *conntrack.Conn }

// Open opens the table of the calling thread's network namespace.
func Open() (*Table, error) {
	conn, err := conntrack.Dial(nil)
	if err != nil {
		return nil, fmt.Errorf("open connection table: %w", err)
	}
	return &Table{conn}, nil
}

// Close closes the table.
func (t *Table) Close() error { return t.conn.Close() }

// Delete deletes the entries between the two ends of any pair, and returns how many. It reads the whole table, of the
// families that the pairs have, once: the kernel can filter by family, not by prefix.
func (t *Table) Delete(ctx context.Context, pairs []Pair) (deleted int, err error) {
	var failed []error
	for _, family := range families(pairs) {
		flows, err := t.conn.DumpFilter(conntrack.NewFilter().Family(family), nil)
		if err != nil {
			return deleted, &netctl.Error{Op: "read connection table", Err: err}
		}
		for _, flow := range flows {
			tuple := flow.TupleOrig.IP
			if !slices.ContainsFunc(pairs, func(p Pair) bool { return p.between(tuple.SourceAddress, tuple.DestinationAddress) }) {
				continue
			}
			if err := ctx.Err(); err != nil {
				return deleted, errors.Join(append(failed, err)...)
			}
			// With its ID, so that an entry which took the same addresses since is left.
			err := t.conn.Delete(conntrack.Flow{ID: flow.ID, Zone: flow.Zone, TupleOrig: flow.TupleOrig, TupleReply: flow.TupleReply})
			switch {
			case err == nil:
				deleted++
			case !errors.Is(err, fs.ErrNotExist): // else it ended meanwhile
				object := tuple.SourceAddress.String() + " to " + tuple.DestinationAddress.String()
				failed = append(failed, &netctl.Error{Op: "delete connection", Object: object, Err: err})
			}
		}
	}
	return deleted, errors.Join(failed...)
}

func families(pairs []Pair) []netfilter.ProtoFamily {
	var v4, v6 bool
	for _, pair := range pairs {
		v4 = v4 || pair.A.Addr().Is4()
		v6 = v6 || pair.A.Addr().Is6()
	}
	var families []netfilter.ProtoFamily
	if v4 {
		families = append(families, netfilter.ProtoIPv4)
	}
	if v6 {
		families = append(families, netfilter.ProtoIPv6)
	}
	return families
}
