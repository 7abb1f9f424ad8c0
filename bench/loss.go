package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"time"

	"shekara/testbed/generate"
	"shekara/testbed/lab"
	"shekara/testbed/swarm"
)

const (
	lossTunnels = 1000 // in force while packets are counted
	lossSenders = 20   // of them, each with a foreign peer that sends
	lossRate    = 1000 // packets a second, all senders together
	echoPort    = 7
)

// loss counts packets of other tunnels that are not answered while the edge is idle, applies, restarts, is killed.
func (b *bench) loss(ctx context.Context) ([]row, error) {
	network := b.network()
	defer network.Close()
	estate, err := generate.New(1, 2*lossTunnels)
	if err != nil {
		return nil, err
	}
	b.say("start an edge with %d tunnels, %d of them in use", lossTunnels, lossSenders)
	e, senders, err := b.lossHosts(ctx, network, estate)
	if err != nil {
		return nil, err
	}
	defer senders.Close()
	length := time.Duration(b.seconds) * time.Second
	var rows []row
	idle := 0.0
	phases := []struct {
		name string
		does func(ctx context.Context) (int, error)
	}{
		{"nothing happens (control)", func(ctx context.Context) (int, error) { <-ctx.Done(); return 1, nil }},
		{"one tunnel after another is changed", func(ctx context.Context) (int, error) { return changing(ctx, e, estate) }},
		{fmt.Sprintf("%d tunnels come and go", lossTunnels), func(ctx context.Context) (int, error) { return comingAndGoing(ctx, e, estate) }},
		{"the daemon restarts", func(ctx context.Context) (int, error) {
			return again(ctx, func() error { return e.restart(context.WithoutCancel(ctx)) })
		}},
		{"the daemon is killed", func(ctx context.Context) (int, error) {
			return again(ctx, func() error { e.kill(); return e.start(context.WithoutCancel(ctx)) })
		}},
		{"nothing happens again (control)", func(ctx context.Context) (int, error) { <-ctx.Done(); return 1, nil }},
	}
	for _, phase := range phases {
		b.say("loss: %s", phase.name)
		times, counted, err := senders.during(ctx, length, phase.does)
		if err != nil {
			return rows, fmt.Errorf("%s: %w", phase.name, err)
		}
		r := newRow("packets lost: "+phase.name, lossTunnels, "packets", []float64{float64(counted.Lost)})
		r.Runs = times
		r = r.noting(fmt.Sprintf("of %d sent; longest time without an answer on one tunnel %.0f ms", counted.Sent, counted.GapSeconds*1000))
		if rows == nil {
			idle = float64(counted.Lost)
		}
		if r.Target = "0"; idle == 0 {
			r = r.should(r.Target, counted.Lost == 0)
		} else if rows != nil {
			r = r.noting(r.Note + "; the idle control lost packets too")
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// changing changes tunnels that nobody uses until ctx ends.
func changing(ctx context.Context, e *edge, estate *generate.Estate) (int, error) {
	variation := 0
	return again(ctx, func() error {
		variation++
		_, err := e.ask(context.WithoutCancel(ctx), estate.Changed(lossSenders+variation%(lossTunnels-lossSenders), variation))
		return err
	})
}

// comingAndGoing adds many tunnels and removes them again until ctx ends.
func comingAndGoing(ctx context.Context, e *edge, estate *generate.Estate) (int, error) {
	few := append(estate.Base(), estate.Tunnels(0, lossTunnels)...)
	path, err := e.put("few", few)
	if err != nil {
		return 0, err
	}
	calm := context.WithoutCancel(ctx)
	return again(ctx, func() error {
		if err := e.apply(calm, "more", estate.Tunnels(lossTunnels, 2*lossTunnels)); err != nil {
			return err
		}
		_, err := command(calm, e.Host, "shekara", "apply", "--whole", path, "--yes")
		return err
	})
}

// again does something until ctx ends, at least once, and counts.
func again(ctx context.Context, does func() error) (int, error) {
	for times := 1; ; times++ {
		if err := does(); err != nil || ctx.Err() != nil {
			return times, err
		}
	}
}

// lossHosts are an edge, a gateway that echoes, and a host where the foreign peers are.
func (b *bench) lossHosts(ctx context.Context, network *lab.Network, estate *generate.Estate) (*edge, *senders, error) {
	outside, err := network.AddHost("outside", false)
	if err != nil {
		return nil, nil, err
	}
	host, gateway, err := owner(network, "", outside.Name)
	if err != nil {
		return nil, nil, err
	}
	// Every agency's address is the outside host's own, without giving it each.
	if err := commands(ctx, outside, "ip route add "+generate.OuterNetwork().String()+" dev ext0",
		"ip route add local 198.18.1.0/24 dev lo", "ip addr add 198.18.1.255/32 dev lo"); err != nil {
		return nil, nil, err
	}
	e, err := b.startEdge(ctx, host, generate.OwnerSite, estate.Base())
	if err != nil {
		return nil, nil, err
	}
	if err := e.apply(ctx, "tunnels", estate.Tunnels(0, lossTunnels)); err != nil {
		return nil, nil, err
	}
	echo := fmt.Sprintf("%s:%d", generate.OwnerInside(), echoPort)
	if _, err := gateway.Start(lab.Command{Args: []string{b.self, swarmWord, "echo", echo}}); err != nil {
		return nil, nil, err
	}
	key, err := e.publicKey(ctx)
	if err != nil {
		return nil, nil, err
	}
	s, err := b.startSenders(outside)
	if err != nil {
		return nil, nil, err
	}
	var far swarm.Key
	if err := far.UnmarshalText([]byte(key)); err != nil {
		return nil, nil, err
	}
	var peers []swarm.Config
	for _, a := range estate.Agencies[:lossSenders] {
		peers = append(peers, swarm.Config{Name: a.Name, PrivateKey: a.PrivateKey, Local: a.Outer, FarKey: far,
			FarEndpoint: netip.AddrPortFrom(generate.OwnerOuter(), generate.Port), Addresses: []netip.Addr{a.Host}})
	}
	_, err = s.Ask(ctx, swarm.Command{Do: "add", Add: peers})
	return e, s, err
}

// senders is a swarm in a process of its own, on a host.
type senders struct{ *swarm.Client }

func (b *bench) startSenders(h *lab.Host) (*senders, error) {
	c, err := swarm.Start(func(in, out *os.File) error {
		_, err := h.Start(lab.Command{Args: []string{b.self, swarmWord}, Files: []*os.File{in, out, os.Stderr}})
		return err
	})
	return &senders{c}, err
}

// total is the figures of all senders together.
type total struct {
	Sent, Answered, Lost uint64
	GapSeconds           float64 // the longest of any
}

// during sends while something is done, and says how often that was and what was lost. The handshakes come before: they are not what
// is measured.
func (s *senders) during(ctx context.Context, length time.Duration, does func(context.Context) (int, error)) (int, total, error) {
	stream := swarm.Stream{To: generate.OwnerInside(), Port: echoPort, Rate: lossRate / lossSenders}
	for _, c := range []swarm.Command{{Do: "reset"}, {Do: "stream", Stream: &stream}} {
		if _, err := s.Ask(ctx, c); err != nil {
			return 0, total{}, err
		}
	}
	if err := s.awaitAnswers(ctx); err != nil {
		return 0, total{}, err
	}
	for _, c := range []swarm.Command{{Do: "stop"}, {Do: "settle"}, {Do: "reset"}, {Do: "stream", Stream: &stream}} {
		if _, err := s.Ask(ctx, c); err != nil {
			return 0, total{}, err
		}
	}
	limited, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	times, err := does(limited)
	if err != nil {
		return times, total{}, err
	}
	<-limited.Done()
	for _, c := range []swarm.Command{{Do: "stop"}, {Do: "settle"}} {
		if _, err := s.Ask(ctx, c); err != nil {
			return times, total{}, err
		}
	}
	answer, err := s.Ask(ctx, swarm.Command{Do: "report"})
	if err != nil {
		return times, total{}, err
	}
	var t total
	for _, r := range answer.Reports {
		t.Sent, t.Answered, t.Lost = t.Sent+r.Sent, t.Answered+r.Answered, t.Lost+r.Lost+r.Pending
		t.GapSeconds = max(t.GapSeconds, r.GapSeconds)
	}
	if t.Answered == 0 {
		return times, t, errNothingMeasured
	}
	return times, t, nil
}

// awaitAnswers waits until every sender was answered.
func (s *senders) awaitAnswers(ctx context.Context) error {
	for deadline := time.Now().Add(30 * time.Second); ; {
		answer, err := s.Ask(ctx, swarm.Command{Do: "report"})
		if err != nil {
			return err
		}
		silent := ""
		for _, r := range answer.Reports {
			if r.Answered == 0 {
				silent = r.Name
			}
		}
		if silent == "" {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s gets no answers through its tunnel", silent)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}
