package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"shekara/provisioning"
	"shekara/provisioning/client"
	"shekara/testbed/generate"
)

const (
	revertTunnels = 1000
	revertWindow  = 3 * time.Second
	revertTarget  = 5 // s
	pollEvery     = 5 * time.Millisecond
)

// revert measures how long after a missed confirmation the host is as it was before: seen on the device itself, not in the daemon's word.
func (b *bench) revert(ctx context.Context) ([]row, error) {
	network := b.network()
	defer network.Close()
	outside, err := network.AddHost("outside", false)
	if err != nil {
		return nil, err
	}
	host, _, err := owner(network, "", outside.Name)
	if err != nil {
		return nil, err
	}
	estate, err := generate.New(1, revertTunnels)
	if err != nil {
		return nil, err
	}
	b.say("start an edge with %d tunnels", revertTunnels)
	e, err := b.startEdge(ctx, host, generate.OwnerSite, estate.Base())
	if err != nil {
		return nil, err
	}
	if err := e.apply(ctx, "tunnels", estate.Tunnels(0, revertTunnels)); err != nil {
		return nil, err
	}
	ways := []struct {
		name   string
		killed time.Duration // after the apply; negative: never
		start  time.Duration // after the deadline; negative: before it
	}{
		{"the daemon runs", -1, 0},
		{"killed, and started again before the deadline", 0, -revertWindow / 2},
		{"killed, and started again after the deadline", 0, time.Second},
	}
	var rows []row
	for _, way := range ways {
		var took []float64
		for i := range b.runs {
			b.say("revert: %s (run %d of %d)", way.name, i+1, b.runs)
			seconds, err := b.revertOnce(ctx, e, estate, way.killed >= 0, way.start)
			if err != nil {
				return rows, fmt.Errorf("%s: %w", way.name, err)
			}
			took = append(took, seconds)
		}
		r := newRow("back at the previous revision: "+way.name, revertTunnels, "s", took)
		worst := 0.0
		for _, seconds := range took {
			worst = max(worst, seconds)
		}
		rows = append(rows, r.should(fmt.Sprintf("<= %d s", revertTarget), worst <= revertTarget).noting(fmt.Sprintf("from the deadline, or the restart after it; worst %.2f s", worst)))
	}
	return rows, nil
}

// revertOnce changes one tunnel's keepalive, does not confirm, and waits for it to be gone.
func (b *bench) revertOnce(ctx context.Context, e *edge, estate *generate.Estate, killed bool, start time.Duration) (float64, error) {
	middle := len(estate.Agencies) / 2
	request := documents(estate.Changed(middle, 1))
	request.ConfirmWithin = revertWindow.String()
	result, err := e.client.Apply(ctx, request, client.Newest)
	if err != nil {
		return 0, err
	}
	if result.ConfirmBy == nil {
		return 0, errors.New("no confirm window was opened")
	}
	if changed, err := e.keepalive(ctx, estate.Agencies[middle].PublicKey); err != nil || changed == "off" {
		return 0, fmt.Errorf("the change is not in force: %q, %w", changed, err)
	}
	from := *result.ConfirmBy
	if killed {
		e.kill()
		restart := from.Add(start)
		time.Sleep(time.Until(restart))
		if restart.After(from) {
			from = time.Now()
		}
		if err := e.start(ctx); err != nil {
			return 0, err
		}
	}
	for limit := from.Add(time.Minute); ; {
		now, err := e.keepalive(ctx, estate.Agencies[middle].PublicKey)
		if err != nil {
			return 0, err
		}
		if now == "off" {
			break
		}
		if time.Now().After(limit) {
			return 0, errors.New("the change is still in force a minute after the deadline")
		}
		time.Sleep(pollEvery)
	}
	took := time.Since(from)
	return took.Seconds(), e.awaitConfirmed(ctx)
}

// keepalive of a peer, as wg shows it.
func (e *edge) keepalive(ctx context.Context, publicKey string) (string, error) {
	out, err := command(ctx, e.Host, "wg", "show", e.device, "persistent-keepalive")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(out) {
		if key, value, _ := strings.Cut(strings.TrimSpace(line), "\t"); key == publicKey {
			return value, nil
		}
	}
	return "", fmt.Errorf("device %s has no peer %s", e.device, publicKey)
}

// awaitConfirmed waits until the daemon, too, knows that no window is open.
func (e *edge) awaitConfirmed(ctx context.Context) error {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(pollEvery) {
		status, err := e.client.Status(ctx)
		if err != nil {
			return err
		}
		if status.State == provisioning.Confirmed && status.ConfirmBy == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("revision %d is still %s", status.Revision, status.State)
		}
	}
}
