package firewall

import (
	"context"
	"errors"
)

// Loader is an engine: it holds rulesets in the packet filter of the calling thread's network namespace. Nothing
// passes in the midst of a call that neither the ruleset before it nor the one after it lets pass.
type Loader interface {
	// Load puts the ruleset in place of whatever is ours.
	Load(ctx context.Context, r Ruleset) error
	// Change adds and removes elements of what was loaded.
	Change(ctx context.Context, add, remove Elements) error
	// Matches says how what the kernel holds of ours differs from the ruleset; nothing: not at all, and it counts as loaded.
	Matches(ctx context.Context, r Ruleset) ([]string, error)
	// Observe says how what the kernel holds of ours differs from what was loaded.
	Observe(ctx context.Context) (Observation, error)
	// Remove takes away what is ours.
	Remove(ctx context.Context) error
}

// ErrNotLoaded says that an engine does not know what the kernel holds: call Load, or Matches after a restart.
var ErrNotLoaded = errors.New("no ruleset is known to be loaded")

// Observation is what an engine saw in the kernel.
type Observation struct {
	Present bool     // our rules are there
	Drift   []string // how they differ from what was loaded, in words; empty: they do not
	Looked  bool     // false: nobody touched the kernel's filter since the last look, so there was nothing to list
}

// Counter counts packets that were dropped by one hook for one reason.
type Counter struct{ Packets, Bytes uint64 }

// Plus is the sum.
func (c Counter) Plus(d Counter) Counter { return Counter{c.Packets + d.Packets, c.Bytes + d.Bytes} }
