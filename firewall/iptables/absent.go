package iptables

import (
	"context"
	"errors"
	"fmt"

	"shekara/firewall"
	"shekara/netctl/iptables"
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

// closeForwarding is for where nothing of ours is there, or what another one left that failed half way. The next ruleset takes its place as that of any other: the
// chain has a letter, and so has a set, by which Left sees that something is there. It is made last: then both families are closed.
func (l *Loader) closeForwarding(ctx context.Context, _ firewall.Ruleset) error {
	now, err := l.look(ctx)
	if err != nil {
		return err
	}
	forward := judging[1]
	i := image{letter: now.free()}
	for _, f := range families {
		i.chains[f] = []chain{{forward.table, chainName(i.letter, forward.chain), []string{drop("forward", firewall.NoFlow)}}}
	}
	if err := l.build(ctx, now, i, false); err != nil {
		return err
	}
	l.loaded = nil
	var failed error
	for _, f := range families { // one of them closed is better than none
		failed = errors.Join(failed, l.replace(ctx, now, f, forward, i.letter))
	}
	if failed != nil {
		return failed
	}
	i.sets = map[string]set{setName(i.letter, v4, "closed"): {kind: "hash:net family inet"}}
	return iptables.RestoreSets(ctx, i.create(false))
}
