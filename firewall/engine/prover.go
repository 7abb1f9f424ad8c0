package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"time"

	"shekara/firewall"
	"shekara/firewall/nft"
	"shekara/firewall/proof"
	door "shekara/netctl/iptables"
	"shekara/netctl/nftables"
)

// Listing is all that the packet filter of a network namespace held at one moment, whoever put it there.
type Listing struct {
	proof.Kernel
	Generation uint32 // of nftables; 0: this kernel has none
}

// Covers says whether a table is in the listing: "iptables-legacy mangle".
func (l Listing) Covers(table string) bool {
	return slices.ContainsFunc(l.XTables, func(x proof.XTables) bool {
		program := map[bool]string{false: "iptables-legacy ", true: "ip6tables-legacy "}[x.IPv6]
		name, is := strings.CutPrefix(table, program)
		return x.Legacy && is && slices.Contains(x.Tables(), name)
	})
}

// Prover reads and proves what the network namespace of the calling thread has loaded, in nftables and in the tables of iptables alike. It writes
// nothing, and a Loader does not wait for it. The zero value is ready. Proofs follow one another: the next is quicker for what the last one built.
type Prover struct{ proofs proof.Prover }

// Generation counts the changes of the kernel's nftables, whoever made them: those through iptables-nft too, not those of ipset and legacy tables.
func (*Prover) Generation() (uint32, error) {
	n, err := nftables.Generation()
	if err != nil && nftables.Absent(err) {
		return 0, nil
	}
	return n, err
}

const (
	readings    = 5                      // how often a reading is begun anew because somebody changed something meanwhile
	readingRest = 100 * time.Millisecond // before that
)

// Read lists every table and set. What nftables count is of one generation. The kernel does not count changes of sets and of legacy tables: they are
// read before all else and after it, and must be the same. The error is nft.ErrUnsteady if something kept changing.
func (p *Prover) Read(ctx context.Context) (Listing, error) {
	for try := range readings {
		if try > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(readingRest):
			}
		}
		before := readUncounted(ctx)
		l, err := p.readCounted(ctx)
		after := readUncounted(ctx)
		generation, generationErr := p.Generation()
		switch {
		case ctx.Err() != nil:
			return Listing{}, fmt.Errorf("list the rules: %w", ctx.Err())
		case err != nil || generationErr != nil:
			return Listing{}, errors.Join(err, generationErr)
		case generation == l.Generation && before.same(after):
			l.Sets, l.XTables = after.sets, append(l.XTables, after.legacy...)
			return l, nil
		}
	}
	return Listing{}, nft.ErrUnsteady
}

// readCounted reads what nftables hold: all that nft lists, and what iptables-nft says of its part. Without nft it must be all iptables-nft's.
func (p *Prover) readCounted(ctx context.Context) (Listing, error) {
	var l Listing
	generation, err := nftables.Generation()
	if err != nil {
		if _, tablesErr := nftables.Tables(); nftables.Absent(err) && tablesErr != nil && nftables.Absent(tablesErr) {
			return l, nil
		}
		return l, fmt.Errorf("list the rules: %w", err)
	}
	listing, err := nft.List(ctx)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return l, err
	}
	for _, v6 := range []bool{false, true} {
		// What it cannot list is in nft's listing, and named there.
		if saved, err := door.SaveAll(ctx, door.NFT, v6); err == nil && saved != nil {
			l.XTables = append(l.XTables, proof.XTables{IPv6: v6, Saved: saved})
		}
	}
	if !missing {
		l.NFTables, l.Generation = listing.JSON, listing.Generation
		return l, nil
	}
	l.Generation = generation
	return l, l.whole(err)
}

// whole says that nftables hold nothing but what iptables-nft has saved; missing is why nft cannot say it.
func (l Listing) whole(missing error) error {
	tables, err := nftables.Tables()
	if err != nil {
		return fmt.Errorf("list the rules: %w", err)
	}
	for _, t := range tables {
		of := slices.ContainsFunc(l.XTables, func(x proof.XTables) bool {
			return t.Family == map[bool]string{false: "ip", true: "ip6"}[x.IPv6] && slices.Contains(x.Tables(), t.Name)
		})
		// A base chain of another name would be listed as one without a hook.
		strange := slices.ContainsFunc(t.Hooked, func(name string) bool { return !builtin[name] })
		if t.Family != "arp" && (!of || strange || t.Flags != 0) {
			return fmt.Errorf("list table %s %s of nftables: %w", t.Family, t.Name, missing)
		}
	}
	return nil
}

var builtin = map[string]bool{"PREROUTING": true, "INPUT": true, "FORWARD": true, "OUTPUT": true, "POSTROUTING": true}

// uncounted is what can change without the kernel's count.
type uncounted struct {
	legacy []proof.XTables
	sets   []byte
}

// readUncounted reads it as far as this host has the programs: what a rule asks of a set that was not read, and a legacy table that was not, is named
// as unknown (Covers).
func readUncounted(ctx context.Context) (u uncounted) {
	for _, v6 := range []bool{false, true} {
		if saved, err := door.SaveAll(ctx, door.Legacy, v6); err == nil && saved != nil {
			u.legacy = append(u.legacy, proof.XTables{IPv6: v6, Legacy: true, Saved: saved})
		}
	}
	if sets, err := door.SaveSets(ctx); err == nil {
		u.sets = sets
	}
	return u
}

// moving is what changes by itself, and decides about no packet.
var moving = regexp.MustCompile(`(?m)^#.*$| \[\d+:\d+\]$| (packets|bytes) \d+`)

func (u uncounted) same(other uncounted) bool {
	still := func(text []byte) []byte { return moving.ReplaceAll(text, nil) }
	return bytes.Equal(still(u.sets), still(other.sets)) && slices.EqualFunc(u.legacy, other.legacy, func(x, y proof.XTables) bool {
		return x.IPv6 == y.IPv6 && bytes.Equal(still(x.Saved), still(y.Saved))
	})
}

// Prove decides for all packets whether what was listed lets pass what the policy allows.
func (p *Prover) Prove(ctx context.Context, l Listing, policy firewall.Policy) (proof.Result, error) {
	loaded, err := l.Decode()
	if err != nil {
		return proof.Result{}, err
	}
	defer func() {
		if r := recover(); r != nil { // whatever is half built must not be built upon
			p.proofs = proof.Prover{}
			panic(r)
		}
	}()
	return p.proofs.Prove(ctx, loaded, policy)
}
