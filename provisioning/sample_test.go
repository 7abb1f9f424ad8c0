package provisioning

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"shekara/journal"
	"shekara/netctl/conntrack"
	"shekara/tunnels"
)

// All that a new tunnel ever carries may pass before the first look at it.
func TestDataBeforeTheFirstSampleCounts(t *testing.T) {
	inBubble(t, func(t *testing.T, b *box) {
		b.wait(10 * time.Second)
		b.mustApply(request(agency{n: 7}.yaml()))
		if err := b.tunnels.Pass(b.device(), agency{n: 7}.publicKey(), func(p *tunnels.PeerState) {
			p.LastHandshake = time.Now()
			p.ReceivedBytes, p.SentBytes = 100_000, 100_000
		}); err != nil {
			t.Fatal(err)
		}
		b.wait(6 * time.Second)
		if status, err := b.Tunnel(t.Context(), "agency-7"); err != nil || status.State != "passing" {
			t.Errorf("after data both ways: %+v, %v", status, err)
		}
	})
}

func TestStatesAreSampledAndJournaled(t *testing.T) {
	inBubble(t, func(t *testing.T, b *box) {
		b.wait(10 * time.Second)
		state := func() string {
			status, err := b.Tunnel(t.Context(), "agency-0")
			if err != nil {
				t.Fatal(err)
			}
			return status.State
		}
		if got := state(); got != "configured" || b.events.count(journal.TunnelState) != 0 {
			t.Errorf("at first: %s, events %v", got, b.events.types())
		}
		key := agency{n: 0}.publicKey()
		pass := func() {
			if err := b.tunnels.Pass(b.device(), key, func(p *tunnels.PeerState) {
				p.LastHandshake = time.Now()
				p.ReceivedBytes += 100_000
				p.SentBytes += 100_000
			}); err != nil {
				t.Fatal(err)
			}
		}
		for range 5 {
			pass()
			b.wait(2 * time.Second)
		}
		if got := state(); got != "passing" || b.events.count(journal.TunnelState) == 0 {
			t.Errorf("with data both ways: %s, events %v", got, b.events.types())
		}
		status, err := b.Status(t.Context())
		if err != nil || status.Tunnels["passing"] != 1 || status.Tunnels["configured"] != 1 {
			t.Errorf("status: %v, %v", status.Tunnels, err)
		}
		b.wait(time.Minute)
		if got := state(); got == "passing" {
			t.Errorf("a minute after the last data: %s", got)
		}
	})
}

func TestAPeerThatHangsIsResetAlone(t *testing.T) {
	inBubble(t, func(t *testing.T, b *box) {
		b.wait(10 * time.Second)
		var resets []string
		b.onStep(func(step string) { resets = append(resets, step) })
		for range 300 { // initiations leave, nothing comes in
			if err := b.tunnels.Pass(b.device(), agency{n: 0}.publicKey(), func(p *tunnels.PeerState) { p.SentBytes += 148 }); err != nil {
				t.Fatal(err)
			}
			b.wait(2 * time.Second)
		}
		b.onStep(nil)
		if len(resets) == 0 || b.events.count(journal.TunnelReset) != len(resets) || slices.ContainsFunc(resets, func(s string) bool { return !strings.HasPrefix(s, "reset") }) {
			t.Errorf("steps %v, events %v", resets, b.events.types())
		}
	})
}

// forgotten is a table of connections that notes what it is asked to forget.
type forgotten struct {
	selections chan conntrack.Selection
	since      int           // connections that passed packets after they were cut
	idle       time.Duration // since the last packet, when they are cut
}

func (f forgotten) Delete(_ context.Context, s conntrack.Selection) (conntrack.Cut, error) {
	f.selections <- s
	end := netip.MustParseAddrPort("192.0.2.1:443")
	taken := map[conntrack.Selector]int{}
	for _, r := range s.Revoked {
		taken[r]++
	}
	return conntrack.Cut{Count: 25, Packets: 7, Bytes: 700, Taken: taken, LastSeen: time.Now().Add(-f.idle), Some: []conntrack.Connection{{Protocol: 6, Source: end, Destination: end}}}, nil
}

func (f forgotten) Count(context.Context, conntrack.Selection) (int, error) { return f.since, nil }

func (f forgotten) Each(context.Context, func(*conntrack.Account) bool) error { return nil }

func TestRevokedConnectionsAreForgottenWithinASecond(t *testing.T) {
	for _, c := range []struct {
		since int
		idle  time.Duration
		says  string
	}{
		{0, time.Hour, "; no packet has passed since"},
		{0, 0, ", whether the filter dropped it or not; since they were cut none has passed"},
		{1, 0, "; yet 1 have passed packets since"},
	} {
		inBubble(t, func(t *testing.T, b *box) {
			since := c.since
			table := forgotten{make(chan conntrack.Selection, 8), since, c.idle}
			b.kill()
			b.connections = table
			b.run()
			b.mustApply(request(agency{n: 2}.yaml())) // a new flow takes nothing away
			b.wait(time.Second)
			if len(table.selections) != 0 {
				t.Errorf("forgotten: %v", <-table.selections)
			}
			began := time.Now()
			narrower := request(agency{n: 1, services: "tcp/80"}.yaml()) // between the same ends
			narrower.Actor = journal.Actor{UID: 1000, User: "aigerim"}
			revision := b.mustApply(narrower).Revision
			asked := <-table.selections
			tcp := func(n int, port uint16) conntrack.Selector {
				return conntrack.Selector{Source: netip.MustParsePrefix(agency{n: n}.prefixText()), Destination: netip.MustParsePrefix("10.20.0.10/32"), Protocol: 6, FirstPort: port, LastPort: port}
			}
			if !slices.Contains(asked.Revoked, tcp(1, 443)) || slices.Contains(asked.Revoked, tcp(1, 80)) || !slices.Contains(asked.Kept, tcp(0, 443)) ||
				!slices.Contains(asked.Kept, tcp(1, 80)) || slices.Contains(asked.Kept, tcp(1, 443)) {
				t.Errorf("asked for %+v", asked)
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("after %s", took)
			}
			b.wait(2 * revokeWatch)
			event := b.events.last(journal.FlowRevoke)
			want := map[string]string{"connections": "25", "packets": "7", "bytes": "700", "since": fmt.Sprint(since), "list": "tcp 192.0.2.1:443 to 192.0.2.1:443; and 24 more",
				"flows": "agency-1-https", "tunnels": "agency-1", "peers": "agency-1-edge", "revision": fmt.Sprint(revision)}
			for key, value := range want {
				if event.Fields[key] != value {
					t.Errorf("%s is %q, want %q", key, event.Fields[key], value)
				}
			}
			if event.Object != "tunnel/agency-1" || event.Actor != narrower.Actor || !strings.HasSuffix(event.Message, c.says) {
				t.Errorf("event %+v", event)
			}
			closed, err := time.Parse(time.RFC3339Nano, event.Fields["closed"])
			checked, err2 := time.Parse(time.RFC3339Nano, event.Fields["checked"])
			if err != nil || err2 != nil || checked.Sub(closed) < revokeWatch || (event.Severity == journal.Error) != (since > 0) {
				t.Errorf("event %+v", event)
			}
			r := request(site + agency{n: 1, services: "tcp/80"}.yaml() + agency{n: 2}.yaml())
			r.Whole = true
			b.mustApply(r)
			if asked = <-table.selections; !slices.Contains(asked.Revoked, tcp(0, 443)) || slices.ContainsFunc(asked.Revoked, func(s conntrack.Selector) bool { return s.Source != tcp(0, 443).Source }) {
				t.Errorf("asked for %+v", asked)
			}
			b.wait(2 * revokeWatch)
			if gone := b.events.last(journal.FlowRevoke); b.events.count(journal.FlowRevoke) != 2 || gone.Object != "tunnel/agency-0" || gone.Fields["peers"] != "agency-0-edge" || gone.Actor != (journal.Actor{}) {
				t.Errorf("of a tunnel that is gone: %+v", gone)
			}
			r = request(site)
			r.Whole = true
			b.mustApply(r)
			<-table.selections
			b.wait(2 * revokeWatch)
			if two := b.events.last(journal.FlowRevoke); two.Object != "" || two.Fields["flows"] != "agency-1-https agency-2-https" || two.Fields["tunnels"] != "agency-1 agency-2" {
				t.Errorf("of two tunnels: %+v", two)
			}
		})
	}
}

// The first revision is unconfirmed like any that names the Site: missed, the host is as it was before, without anything of ours.
func TestMissedFirstConfirmationLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		booted := time.Now()
		b.boot = func() (string, time.Duration, error) { return "boot-1", time.Since(booted), nil }
		b.run()
		b.mustApply(request(site + agencies(0, 2)))
		b.mustHavePeers(agency{n: 0}, agency{n: 1})
		b.wait(riskyWindow + 5*time.Second)
		b.mustHavePeers()
		state, err := b.network.Observe(t.Context(), nil)
		if err != nil || len(state.Routes)+len(state.Rules) > 0 {
			t.Errorf("left: %v %v, %v", state.Routes, state.Rules, err)
		}
		if _, present := b.filter.Table(); present {
			t.Error("the table is left")
		}
		if current, phase := b.revision(); current != 0 || phase != Confirmed {
			t.Errorf("revision %d %s", current, phase)
		}
		b.mustApply(request(site + agencies(0, 1)))
		b.mustConfirm()
		b.mustBe(2, Confirmed, agency{n: 0})
		b.kill()
	})
}

// An act of an administrator that cannot be recorded is not done.
func TestNothingIsAppliedUnrecorded(t *testing.T) {
	b := established(t, 1)
	b.events.err = errors.New("disk full")
	b.onStep(func(step string) { t.Errorf("a step on the host: %s", step) })
	if _, err := b.Apply(t.Context(), request(agency{n: 1}.yaml())); err == nil || hintOf(err) == "" {
		t.Errorf("apply: %v", err)
	}
	b.onStep(nil)
	b.events.err = nil
	b.mustBe(1, Confirmed, agency{n: 0})
	b.mustApply(request(agency{n: 1}.yaml()))
	b.mustHavePeers(agency{n: 0}, agency{n: 1})
}

func TestCleanupLeavesNothing(t *testing.T) {
	b := established(t, 2)
	options := b.options
	b.kill()
	if err := Cleanup(t.Context(), options, journal.Actor{}); err != nil {
		t.Fatal(err)
	}
	b.mustHavePeers()
	if _, present := b.filter.Table(); present {
		t.Error("the table is left")
	}
	state, err := b.network.Observe(t.Context(), []string{"net.ipv4.ip_forward"})
	if err != nil || len(state.Routes)+len(state.Rules) > 0 || state.Sysctls["net.ipv4.ip_forward"] != "0" {
		t.Errorf("left: %+v, %v", state, err)
	}
	b.start() // and the next start makes it real again
	b.mustBe(1, Confirmed, agency{n: 0}, agency{n: 1})
}

func TestPeerExportHoldsThePublicKey(t *testing.T) {
	b := established(t, 1)
	text, err := b.PeerExport(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	devices, err := b.tunnels.Observe(t.Context())
	if err != nil || len(devices) != 1 || !strings.Contains(string(text), devices[0].PublicKey.String()) {
		t.Errorf("export %s, devices %v, %v", text, devices, err)
	}
}

func TestStatusSaysNothingOfSecrets(t *testing.T) {
	b := established(t, 1)
	key := b.keys["wireguard/owner-edge.agencies.production"].Reveal()
	plan, err := b.Plan(t.Context(), request(agency{n: 0, services: "tcp/80"}.yaml()))
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range plan.Steps {
		if strings.Contains(step.Text, string(key[:])) {
			t.Errorf("step %q", step.Text)
		}
	}
	if len(plan.Steps) == 0 || len(plan.Changes) != 1 || plan.Changes[0].Before == plan.Changes[0].After {
		t.Errorf("plan: %+v", plan)
	}
}
