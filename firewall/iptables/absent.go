package iptables

import (
	"context"
	"fmt"

	"shekara/firewall"
)

// LoadIfAbsent loads the ruleset unless something of ours is there, and says whether it did. firewall.ForwardingClosed becomes the one chain of a
// ruleset's through which what is forwarded passes, and it drops all. What was done before an error stays: it lets nothing pass.
func (l *Loader) LoadIfAbsent(ctx context.Context, r firewall.Ruleset) (loaded bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if is, err := Left(ctx); is || err != nil {
		return false, err
	}
	load := l.load
	if r.IsForwardingClosed() {
		load = l.closeForwarding
	}
	if err := load(ctx, r); err != nil {
		return false, fmt.Errorf("load ruleset: %w", err)
	}
	return true, nil
}

// closeForwarding is for where nothing of ours is there. The next ruleset takes its place as that of any other: the chain has a letter, and so has a set,
// by which Left sees that something is there.
func (l *Loader) closeForwarding(ctx context.Context, _ firewall.Ruleset) error {
	now, err := l.look(ctx)
	if err != nil {
		return err
	}
	forward := judging[1]
	i := image{letter: now.free()}
	i.sets = map[string]set{setName(i.letter, v4, "closed"): {kind: "hash:net family inet"}}
	for _, f := range families {
		i.chains[f] = []chain{{forward.table, chainName(i.letter, forward.chain), []string{drop("forward", firewall.NoFlow)}}}
	}
	if err := l.build(ctx, now, i, false); err != nil {
		return err
	}
	l.loaded = nil
	for _, f := range families {
		if err := l.enter(f, forward, i.letter); err != nil {
			return err
		}
	}
	return nil
}
