package provisioning

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"shekara/firewall"
	"shekara/journal"
	"shekara/netctl/nflog"
	"shekara/provisioning/compile"
)

func limitedTunnel(a agency, limits string) string {
	return strings.Replace(a.yaml(), "prefixes: [10.20.0.10/32]}", "prefixes: [10.20.0.10/32]}\n  limits: {"+limits+"}", 1)
}

// TestLimitsOfOneTunnel: a limit comes, changes and goes by one tunnel's elements; no rules are loaded anew and no connection is judged again.
func TestLimitsOfOneTunnel(t *testing.T) {
	b := established(t, 3)
	var steps []string
	held := func() string {
		table, _ := b.filter.Table()
		return strings.Join(table.Elements[firewall.Limits], "; ")
	}
	b.onStep(func(step string) { steps = append(steps, fmt.Sprintf("%s, before it %q", step, held())) })
	for _, c := range []struct{ document, text, held string }{
		{limitedTunnel(agency{n: 1}, "newPerSecond: 5, mbitPerSecond: 2"), "limit tunnel/agency-1 to 5 new connections a second, 2 Mbit/s each way", "agency-1 . 5 . 0 . 2"},
		{limitedTunnel(agency{n: 1}, "newPerSecond: 6"), "limit tunnel/agency-1 to 6 new connections a second", "agency-1 . 6 . 0 . 0"},
		{agency{n: 1}.yaml(), "end the limits of tunnel/agency-1", ""},
	} {
		steps = nil
		plan, err := b.Plan(t.Context(), request(c.document))
		if err != nil {
			t.Fatal(err)
		}
		if len(plan.Steps) != 1 || plan.Steps[0].Text != c.text || plan.Steps[0].Tunnel != "agency-1" {
			t.Errorf("steps %+v, want %q", plan.Steps, c.text)
		}
		b.mustApply(request(c.document))
		if held() != c.held || len(steps) != 1 || !strings.HasPrefix(steps[0], "filter: change ") {
			t.Errorf("%q after %q, want %q by one change", held(), steps, c.held)
		}
		b.mustBeAsAsked()
	}
	b.mustApply(request(limitedTunnel(agency{n: 7}, "connections: 9")))
	x, err := b.Explain(t.Context(), Question{Source: "10.64.0.113", Destination: "10.20.0.10", Service: "tcp/443"}, Request{})
	if err != nil || !x.Pass || !strings.Contains(strings.Join(x.Notes, "\n"), "tunnel agency-7 is limited to 9 connections at a time") {
		t.Errorf("%+v, %v", x, err)
	}
}

// TestNewTunnelIsLimitedBeforeItPasses: what is limited is so in the first change of the filter, before anything opens.
func TestNewTunnelIsLimitedBeforeItPasses(t *testing.T) {
	b := established(t, 1)
	g := watch(b)
	b.mustApply(request(limitedTunnel(agency{n: 5}, "connections: 3")))
	for i, s := range g.steps {
		opened, _ := g.old.Diff(s.elements)
		if limited := len(s.elements[firewall.Limits]) > 0; opened.Narrows() && !limited {
			t.Errorf("step %d, %s: opens %v without a limit", i, s, opened)
		}
	}
	b.onStep(nil)
	b.mustBeAsAsked()
}

// refuses is a filter of an engine that has no limits.
type refuses struct{ tracedFilter }

func (refuses) Check(r firewall.Ruleset) error {
	if len(r.Elements[firewall.Limits]) > 0 {
		return fmt.Errorf("cannot limit")
	}
	return nil
}

// TestLimitsThatTheEngineCannotDo are refused before anything is touched, also where one tunnel alone changes.
func TestLimitsThatTheEngineCannotDo(t *testing.T) {
	b := established(t, 1)
	b.options.Filter = refuses{tracedFilter{b}}
	b.onStep(func(step string) { t.Errorf("a step on the host: %s", step) })
	for _, document := range []string{limitedTunnel(agency{n: 0}, "connections: 3"), limitedTunnel(agency{n: 4}, "connections: 3")} {
		if _, err := b.Apply(t.Context(), request(document)); err == nil || !strings.Contains(err.Error(), "cannot limit") {
			t.Errorf("%v", err)
		}
	}
	b.onStep(nil)
	b.mustBeAsAsked()
}

// TestLimitIsTold: whose limit stopped a packet is on record once a minute, whatever comes, and in the status as long.
func TestLimitIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &droppedBy{records: make(chan nflog.Record), lost: make(chan struct{}), broken: make(chan error)}
		seen := newEvents(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		e := newEngine(Options{Drops: d, Counts: d, Journal: seen, Log: discard()}, nil)
		e.intent.tunnels = map[string]compile.Tunnel{"free": {}}
		for i, name := range []string{"a", "b"} {
			prefix := netip.MustParsePrefix(fmt.Sprintf("10.64.%d.0/28", i+1))
			e.intent.tunnels[name] = compile.Tunnel{Limit: &firewall.Limit{Tunnel: name, Device: "sk-a", Prefixes: []netip.Prefix{prefix}, MbitPerSecond: 8, Connections: 9}}
		}
		go e.keepDropped(ctx)
		drop := func(id, in, out, source, destination string) {
			d.records <- nflog.Record{Prefix: "forward." + id, In: in, Out: out, Head: nflog.Head{Source: netip.MustParseAddr(source), Destination: netip.MustParseAddr(destination), Protocol: 6}}
			synctest.Wait()
		}
		for range 100 {
			drop(firewall.Bandwidth, "dmz0", "sk-a", "10.20.0.10", "10.64.1.5")
			drop(firewall.NoFlow, "sk-a", "dmz0", "10.64.2.5", "10.20.0.10")
			drop(firewall.TooManyNew, "sk-a", "dmz0", "10.64.2.5", "10.20.0.10") // it has no such limit now
			drop(firewall.Bandwidth, "sk-b", "dmz0", "10.64.2.5", "10.20.0.10")
		}
		told := seen.of(journal.TunnelLimit)
		if len(told) != 1 || told[0].Object != "tunnel/a" || told[0].Severity != journal.Warning || told[0].Fields["reason"] != firewall.Bandwidth ||
			!strings.Contains(told[0].Message, "its limits are 9 connections at a time, 8 Mbit/s each way") {
			t.Fatalf("%+v", told)
		}
		drop(firewall.TooManyConnections, "sk-a", "dmz0", "10.64.2.5", "10.20.0.10")
		time.Sleep(limitEvery)
		drop(firewall.TooManyConnections, "sk-a", "dmz0", "10.64.1.5", "10.20.0.10")
		var objects []string
		for _, event := range seen.of(journal.TunnelLimit) {
			objects = append(objects, event.Object)
		}
		if diff := cmp.Diff([]string{"tunnel/a", "tunnel/b", "tunnel/a"}, objects); diff != "" {
			t.Error(diff)
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		if got := e.atLimit(); !cmp.Equal(got, []string{"a"}) {
			t.Errorf("at a limit: %v", got)
		}
		now := time.Now().UTC()
		want := &TunnelLimits{Connections: 9, MbitPerSecond: 8, Reached: firewall.TooManyConnections, ReachedAt: &now}
		if diff := cmp.Diff(want, e.limitsOf("a")); diff != "" || e.limitsOf("free") != nil {
			t.Error(diff)
		}
	})
}
