package nft

import (
	"context"

	"shekara/netctl/nftables"
)

// keptCommits is more than are made between two looks at what the kernel told of them.
const keptCommits = 1000

// done is a transaction of ours: the process that made it, and the kernel's generation before and after. If others came in between,
// there is more than one generation from before to after, and one of them is ours.
type done struct {
	pid           int
	before, after uint32
}

// commit runs a script in one transaction, between two looks at the kernel's generation. Mu is held.
func (l *Loader) commit(ctx context.Context, script string) (before, after uint32, err error) {
	if before, err = nftables.Generation(); err != nil {
		return 0, 0, err
	}
	command, pid := nft(script), 0
	command.Started = func(child int) { pid = child }
	_, err = command.Run(ctx)
	// Whether it failed or not: a process that was killed may have been killed after its transaction.
	after, generationErr := nftables.Generation()
	if generationErr == nil && after != before {
		l.commits = append(l.commits[max(0, len(l.commits)-keptCommits+1):], done{pid, before, after})
	}
	if err != nil {
		return 0, 0, err
	}
	return before, after, generationErr
}

// Own says whether a transaction that the kernel told of was made by this Loader.
//
// BUG: in a container process IDs cannot be compared with the kernel's. There a transaction of ours in the midst of which others made
// theirs is taken for another's.
func (l *Loader) Own(tx nftables.Transaction) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range l.commits {
		within := tx.Generation-d.before <= d.after-d.before && tx.Generation != d.before // the count may wrap
		if within && (d.after == d.before+1 || d.pid == tx.PID && nftables.SamePIDs()) {
			return true
		}
	}
	return false
}
