package provisioning

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"

	"shekara/firewall"
	"shekara/netctl"
	"shekara/netctl/nftables"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// tracedFilter is nfttest's fake, each transaction of which is a step.
type tracedFilter struct{ *box }

func (f tracedFilter) Load(ctx context.Context, r firewall.Ruleset) error {
	f.step(fmt.Sprintf("filter: load %d", r.Elements.Count()))
	return f.filter.Load(ctx, r)
}

func (f tracedFilter) Change(ctx context.Context, add, remove firewall.Elements) error {
	f.step(fmt.Sprintf("filter: change +%d -%d", add.Count(), remove.Count()))
	return f.filter.Change(ctx, add, remove)
}

func (f tracedFilter) Matches(ctx context.Context, r firewall.Ruleset) ([]string, error) {
	return f.filter.Matches(ctx, r)
}

func (f tracedFilter) Observe(ctx context.Context) (firewall.Observation, error) {
	return f.filter.Observe(ctx)
}

func (f tracedFilter) Remove(ctx context.Context) error {
	f.step("filter: remove")
	return f.filter.Remove(ctx)
}

// Own says that process 1 is ours.
func (f tracedFilter) Own(tx nftables.Transaction) bool { return tx.PID == 1 }

// Engine is nftables, if a test does not say otherwise.
func (f tracedFilter) Engine() firewall.Engine {
	f.heardMu.Lock()
	defer f.heardMu.Unlock()
	return cmp.Or(f.inEngine, firewall.NFTables)
}

func (f tracedFilter) Foreign(context.Context) ([]string, error) {
	f.heardMu.Lock()
	defer f.heardMu.Unlock()
	return f.foreignChains, nil
}

// Heard makes the box a witness.
func (b *box) Heard() netctl.Heard {
	b.heardMu.Lock()
	defer b.heardMu.Unlock()
	heard := b.heard
	b.heard = netctl.Heard{}
	return heard
}

// tell has the kernel tell something, at the next look.
func (b *box) tell(heard netctl.Heard) {
	b.heardMu.Lock()
	b.heard = b.heard.Merge(heard)
	b.heardMu.Unlock()
	b.look.poke()
}
