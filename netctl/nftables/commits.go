package nftables

import "sync"

// keptCommits is more than are made between two looks at what the kernel told of them.
const keptCommits = 1000

// Commits are transactions that we had made, so that they can be told from those of others. The zero value is ready; safe for concurrent use.
type Commits struct {
	mu   sync.Mutex
	done []commit
}

// commit is what one call of Make did: how many transactions it said it would make, by which process, and the kernel's generation before and after.
type commit struct {
	transactions  int
	pid           int // 0: unknown
	before, after uint32
}

// Make has something make so many transactions, by a process whose ID it answers (0: it does not know), between two looks at the kernel's generation.
func (c *Commits) Make(transactions int, make func() (pid int, err error)) (before, after uint32, err error) {
	before, beforeErr := Generation()
	pid, err := make()
	// Whether it failed or not: a process that was killed may have been killed after its transaction.
	after, afterErr := Generation()
	if beforeErr == nil && afterErr == nil && after != before {
		c.mu.Lock()
		c.done = append(c.done[max(0, len(c.done)-keptCommits+1):], commit{transactions, pid, before, after})
		c.mu.Unlock()
	}
	switch {
	case err != nil:
		return 0, 0, err
	case beforeErr != nil:
		return 0, 0, beforeErr
	}
	return before, after, afterErr
}

// Own says whether a transaction that the kernel told of is among them: it was made in between by that process, or there were exactly as many in
// between as were said. The kernel counts none of a transaction that changes nothing.
//
// BUG: in a container process IDs cannot be compared with the kernel's. There a transaction of ours in the midst of which others made
// theirs is taken for another's, and so is the first of two if the second failed.
func (c *Commits) Own(tx Transaction) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.done {
		moved := d.after - d.before // the count may wrap
		within := tx.Generation-d.before <= moved && tx.Generation != d.before
		if within && (moved == uint32(d.transactions) || d.pid != 0 && d.pid == tx.PID && SamePIDs()) {
			return true
		}
	}
	return false
}
