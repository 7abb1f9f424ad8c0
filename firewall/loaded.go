package firewall

import "errors"

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
