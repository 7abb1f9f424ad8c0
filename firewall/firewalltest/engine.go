package firewalltest

import (
	"context"
	"testing"

	"shekara/firewall"
	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
)

type counter interface {
	Counters(context.Context) (map[string]firewall.Counter, error)
}

// Engine is one of those that make a Policy real.
type Engine struct {
	Needs []probe.Feature
	New   func(context.Context) (firewall.Loader, error)
	// Prove proves what a host holds against a policy; nil: the proof cannot read what the engine loads.
	Prove  func(*nstest.H, firewall.Policy) error
	Limits bool // what single tunnels may take
	// Unhide is a command of the host that takes away what hides addresses in sk-b, and Unguard what stops packets then.
	Unhide, Unguard string
	Slow            bool     // a load takes many programs, and so a test under traffic does fewer
	List            []string // the program that lists what is loaded with its counters, for the messages of tests that fail
}

// Contract is what every engine keeps, with real packets of both families.
func Contract(t *testing.T, e Engine) {
	for _, test := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"every packet of random policies passes or not as the reference says", e.matrix},
		{"what is explained is what the kernel does", e.explainAgreesWithKernel},
		{"documents agree", e.documentsAgree},
		{"a connection is bound to its two places, and ends when it is revoked", e.connectionIsBound},
		{"path MTU errors", e.pathMTU},
		{"errors do not revive", e.errorsDoNotRevive},
		{"MSS", e.clampsMSS},
		{"outer source", e.outerSource},
		{"the box and its tunnels", e.boxAndTunnels},
		{"what the box serves", e.offers},
		{"replaced under traffic", e.replacedUnderTraffic},
		{"adopted under traffic", e.adoptedUnderTraffic},
		{"taken over under traffic", e.takenOverUnderTraffic},
		{"changed under traffic", e.changedUnderTraffic},
		{"goldens load", e.goldensLoad},
		{"translation", e.translation},
		{"what is older than hiding", e.olderThanHiding},
		{"what hides is taken away", e.hidingTakenAway},
		{"translation replaced under traffic", e.translationReplaced},
		{"limits on connections", e.limitsConnections},
		{"limits on new connections", e.limitsNew},
		{"limits on bandwidth", e.limitsBandwidth},
		{"limits of translated tunnels", e.limitsTranslated},
		{"counters", e.counters},
		{"what is dropped is recorded", e.droppedIsRecorded},
		{"a flood is recorded in part", e.floodIsRecordedInPart},
	} {
		t.Run(test.name, test.run)
	}
}

// Inside calls a Loader in a host's namespace, as a daemon there would.
type Inside struct {
	host   *nstest.H
	loader firewall.Loader
}

// Open makes the engine's Loader for a host.
func (e Engine) Open(t testing.TB, host *nstest.H) Inside {
	t.Helper()
	probetest.Need(t, e.Needs...)
	in := Inside{host: host}
	host.Do(func() {
		var err error
		if in.loader, err = e.New(context.Background()); err != nil {
			t.Fatal(err)
		}
	})
	return in
}

// Load is Loader.Load.
func (in Inside) Load(ctx context.Context, r firewall.Ruleset) (err error) {
	in.host.Do(func() { err = in.loader.Load(ctx, r) })
	return err
}

// Change is Loader.Change.
func (in Inside) Change(ctx context.Context, add, remove firewall.Elements) (err error) {
	in.host.Do(func() { err = in.loader.Change(ctx, add, remove) })
	return err
}

// Observe is Loader.Observe.
func (in Inside) Observe(ctx context.Context) (seen firewall.Observation, err error) {
	in.host.Do(func() { seen, err = in.loader.Observe(ctx) })
	return seen, err
}

// Matches is Loader.Matches.
func (in Inside) Matches(ctx context.Context, r firewall.Ruleset) (drift []string, err error) {
	in.host.Do(func() { drift, err = in.loader.Matches(ctx, r) })
	return drift, err
}

// Remove is Loader.Remove.
func (in Inside) Remove(ctx context.Context) (err error) {
	in.host.Do(func() { err = in.loader.Remove(ctx) })
	return err
}

// Do runs f with the Loader inside the host.
func (in Inside) Do(f func(firewall.Loader)) { in.host.Do(func() { f(in.loader) }) }

// state is what the engine's programs list on the rig's box.
func (r *rig) state() string { return r.box.Run(r.engine.List...) }
