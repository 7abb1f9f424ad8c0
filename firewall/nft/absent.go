package nft

import (
	"context"
	"errors"
	"fmt"

	"shekara/firewall"
	"shekara/netctl/nftables"
)

// LoadIfAbsent loads the ruleset unless a table of ours is there, and says whether it did. That none came in between the kernel sees to.
func (l *Loader) LoadIfAbsent(ctx context.Context, r firewall.Ruleset) (loaded bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if is, err := nftables.HasTable(firewall.Table); is || err != nil {
		return false, err
	}
	generation, err := l.nextGeneration(ctx)
	if err != nil {
		return false, fmt.Errorf("load ruleset: %w", err)
	}
	text, err := r.Text(generation)
	if err != nil {
		return false, fmt.Errorf("load ruleset: %w", err)
	}
	// "create" fails where "add" would join.
	if _, _, err = l.commit(ctx, "create table "+firewall.Table+"\n"+text); err == nil {
		l.remember(r, generation)
		l.seen = 0
		return true, nil
	}
	is, again := nftables.HasTable(firewall.Table)
	if is {
		return false, nil
	}
	return false, fmt.Errorf("load ruleset: %w", errors.Join(err, again))
}
