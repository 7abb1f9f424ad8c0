package nftables

import "sync"

// keptCommits is more than are made between two looks at what the kernel told of them.
const keptCommits = 1000

// Commits are transactions that we had made, so that they can be told from those of others. The zero value is ready; safe for concurrent use.
type Commits struct {
	mu   sync.Mutex
	done []commit
}

// commit is one or several transactions of ours: the process that made them, and the kernel's generation before and after. If others came in
// between, not all generations from before to after are ours.
type commit struct {
	pid           int
	before, after uint32
}

// Make has something make transactions, by a process whose ID it answers (0: it does not know), between two looks at the kernel's generation.
func (c *Commits) Make(make func() (pid int, err error)) (before, after uint32, err error) {
	before, beforeErr := Generation()
	pid, err := make()
	// Whether it failed or not: a process that was killed may have been killed after its transaction.
	after, afterErr := Generation()
	if beforeErr == nil && afterErr == nil && after != before {
		c.mu.Lock()
		c.done = append(c.done[max(0, len(c.done)-keptCommits+1):], commit{pid, before, after})
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

// Own says whether a transaction that the kernel told of is among them.
//
// BUG: in a container process IDs cannot be compared with the kernel's. There a transaction of ours in the midst of which others made
// theirs is taken for another's, and so are those of a process that makes several, as iptables-restore does for several tables.
func (c *Commits) Own(tx Transaction) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.done {
		within := tx.Generation-d.before <= d.after-d.before && tx.Generation != d.before // the count may wrap
		if within && (d.after == d.before+1 || d.pid == tx.PID && SamePIDs()) {
			return true
		}
	}
	return false
}
