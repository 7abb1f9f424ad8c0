package iptables

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	library "github.com/coreos/go-iptables/iptables"

	"shekara/netctl"
	"shekara/netctl/nftables"
	"shekara/netctl/run"
)

// Variant is by which of the kernel's interfaces the programs speak to it.
type Variant string

const (
	Default Variant = ""       // whichever the host calls iptables
	NFT     Variant = "nft"    // through nf_tables
	Legacy  Variant = "legacy" // through ip_tables, for kernels without nf_tables
)

const (
	lockSeconds = 60 // how long the programs wait for another's change (xtables lock)
	patience    = 5 * time.Minute
	maxListing  = 256 << 20 // bytes; a set's element is about 60
)

// Tables are those of one address family in the network namespace of the calling thread.
type Tables struct {
	name    string // of the program, "ip6tables-nft"
	single  *library.IPTables
	commits *nftables.Commits
}

// Open finds the programs of a family. What they do to nftables is noted in commits. An error says which is missing.
func Open(variant Variant, v6 bool, commits *nftables.Commits) (*Tables, error) {
	t := &Tables{name: "iptables", commits: commits}
	protocol := library.ProtocolIPv4
	if v6 {
		t.name, protocol = "ip6tables", library.ProtocolIPv6
	}
	if variant != Default {
		t.name += "-" + string(variant)
	}
	for _, program := range []string{t.name, t.name + "-restore", t.name + "-save"} {
		if _, err := run.Find(program); err != nil {
			return nil, &netctl.Error{Op: "find", Object: program, Err: err}
		}
	}
	path, err := run.Find(t.name)
	if err == nil {
		t.single, err = library.New(library.IPFamily(protocol), library.Path(path), library.Timeout(lockSeconds))
	}
	if err != nil {
		return nil, &netctl.Error{Op: "ask the version of", Object: t.name, Err: err}
	}
	return t, nil
}

// Restore runs a script of iptables-restore(8). Chains that it declares are made or emptied, all others stay. Each table's part up to its
// COMMIT is one transaction; one that changes nothing is none, and so that our own can be told from others' there should be no such part.
func (t *Tables) Restore(ctx context.Context, script string) error {
	return t.noted(strings.Count(script, "\nCOMMIT\n"), func() (pid int, err error) {
		_, err = run.Command{Argv: []string{t.name + "-restore", "--noflush", fmt.Sprintf("--wait=%d", lockSeconds)}, Stdin: []byte(script),
			Timeout: patience, Started: func(child int) { pid = child }}.Run(ctx)
		return pid, err
	})
}

// noted does something to the tables, in so many transactions. That the kernel's generation cannot be told is no fault: a kernel without nftables has none, and nothing to
// tell of.
func (t *Tables) noted(transactions int, do func() (pid int, err error)) error {
	var err error
	_, _, _ = t.commits.Make(transactions, func() (pid int, _ error) {
		pid, err = do()
		return pid, err
	})
	return err
}

// Save lists the tables that are there, in the form that Restore takes, with the counters of rules. To ask for one that is not there would make it,
// and packets would pass it from then on.
func (t *Tables) Save(ctx context.Context) ([]byte, error) {
	return run.Command{Argv: []string{t.name + "-save", "-c"}, Timeout: patience, MaxOutput: maxListing}.Run(ctx)
}

// Insert puts a rule before all others of a chain.
func (t *Tables) Insert(table, chain string, rule ...string) error {
	return t.wrap("insert rule into", table, chain, t.noted(1, func() (int, error) { return 0, t.single.Insert(table, chain, 1, rule...) }))
}

// Delete takes one rule away.
func (t *Tables) Delete(table, chain string, rule ...string) error {
	return t.wrap("delete rule of", table, chain, t.noted(1, func() (int, error) { return 0, t.single.Delete(table, chain, rule...) }))
}

func (t *Tables) wrap(op, table, chain string, err error) error {
	if err == nil {
		return nil
	}
	return &netctl.Error{Op: op, Object: t.name + " -t " + table + " " + chain, Err: err}
}

// RestoreSets runs a script of ipset(8). Each line is done by itself; the first that fails ends it.
func RestoreSets(ctx context.Context, script string) error {
	_, err := run.Command{Argv: []string{"ipset", "restore"}, Stdin: []byte(script), Timeout: patience}.Run(ctx)
	return err
}

// SaveSets lists all sets in the form that RestoreSets takes.
func SaveSets(ctx context.Context) ([]byte, error) {
	return run.Command{Argv: []string{"ipset", "save"}, Timeout: patience, MaxOutput: maxListing}.Run(ctx)
}

// SetNames are the names of all sets; none where there is no ipset.
func SetNames(ctx context.Context) ([]string, error) {
	out, err := run.Command{Argv: []string{"ipset", "list", "-name"}, Timeout: patience, MaxOutput: maxListing}.Run(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return strings.Fields(string(out)), err
}
