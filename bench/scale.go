package main

import (
	"context"
	"fmt"
	"time"

	"shekara/provisioning/client"
	"shekara/testbed/generate"
	"shekara/testbed/lab"
)

// atLeast is how often what takes little time is done.
const atLeast = 15

// settle is how long the daemon is left alone before its memory is read: it looks at the host and its heap falls to what it needs.
const settle = 15 * time.Second

// size is what was measured at one number of tunnels.
type size struct {
	n                            int
	apply, bareApply, remove     []float64 // s
	change, ask, only, bareWords []float64 // ms
	daemon, dataplane, bare      float64   // MiB
}

// scale measures what depends on the number of tunnels: from empty to N, the change of one, memory.
func (b *bench) scale(ctx context.Context) ([]row, error) {
	var all []size
	for _, n := range b.sizes {
		s, err := b.scaleAt(ctx, n)
		if err != nil {
			return scaleRows(all), fmt.Errorf("at %d tunnels: %w", n, err)
		}
		all = append(all, s)
	}
	return scaleRows(all), nil
}

func (b *bench) scaleAt(ctx context.Context, n int) (size, error) {
	s := size{n: n}
	estate, err := generate.New(1, n)
	if err != nil {
		return s, err
	}
	network := b.network()
	defer network.Close()
	outside, err := network.AddHost("outside", false)
	if err != nil {
		return s, err
	}
	bareOutside, err := network.AddHost("bare-outside", false)
	if err != nil {
		return s, err
	}
	host, _, err := owner(network, "", outside.Name)
	if err != nil {
		return s, err
	}
	bare, _, err := owner(network, "bare-", bareOutside.Name)
	if err != nil {
		return s, err
	}
	b.say("%d tunnels: start the edge and the bare device", n)
	e, err := b.startEdge(ctx, host, generate.OwnerSite, estate.Base())
	if err != nil {
		return s, err
	}
	if err := bareDevice(ctx, bare, e.device, 1420); err != nil {
		return s, err
	}
	if err := b.fill(ctx, &s, e, bare, estate); err != nil {
		return s, err
	}
	if err := b.weigh(&s, e, bare); err != nil {
		return s, err
	}
	return s, b.change(ctx, &s, e, bare, estate)
}

// fill goes from empty to N and back, ours and the bare tools in turns; both are full in the end.
func (b *bench) fill(ctx context.Context, s *size, e *edge, bare *lab.Host, estate *generate.Estate) error {
	path, err := e.put("tunnels", estate.Tunnels(0, s.n))
	if err != nil {
		return err
	}
	base, err := e.put("base", estate.Base())
	if err != nil {
		return err
	}
	var held content
	for i := range b.runs {
		took, err := timed(func() error {
			_, err := command(ctx, e.Host, "shekara", "apply", path, "--yes")
			return err
		})
		if err != nil {
			return err
		}
		s.apply = append(s.apply, took.Seconds())
		b.say("%d tunnels: applied in %.2f s (run %d of %d)", s.n, took.Seconds(), i+1, b.runs)
		if i == 0 {
			if held, err = e.dump(ctx); err != nil {
				return err
			}
			if err := held.give(bare); err != nil {
				return err
			}
			// As the edge's own empty state, but for the key.
			if err := commands(ctx, bare, "wg setconf "+e.device+" "+workFolder+"/empty.conf"); err != nil {
				return err
			}
		}
		if took, err = timed(func() error { return makeBare(ctx, bare, e.device) }); err != nil {
			return err
		}
		s.bareApply = append(s.bareApply, took.Seconds())
		if i == b.runs-1 {
			return nil
		}
		if took, err = timed(func() error {
			_, err := command(ctx, e.Host, "shekara", "apply", "--whole", base, "--yes")
			return err
		}); err != nil {
			return err
		}
		s.remove = append(s.remove, took.Seconds())
		if err := held.emptyBare(ctx, bare, e.device); err != nil {
			return err
		}
	}
	return nil
}

// weigh reads what the processes hold in memory.
func (b *bench) weigh(s *size, e *edge, bare *lab.Host) error {
	b.say("%d tunnels: memory, after %v of quiet", s.n, settle)
	time.Sleep(settle)
	var err error
	if s.daemon, err = residentMiB(e.Host, e.daemon.PID); err != nil {
		return err
	}
	for _, of := range []struct {
		host *lab.Host
		to   *float64
	}{{e.Host, &s.dataplane}, {bare, &s.bare}} {
		pid, err := findProcess(of.host, "dataplane")
		if err != nil {
			return err
		}
		if *of.to, err = residentMiB(of.host, pid); err != nil {
			return err
		}
	}
	return nil
}

// change changes one tunnel in the middle, now its keepalive, now its flow: by the command line, by the same two requests over the
// socket, and by the second of them alone.
func (b *bench) change(ctx context.Context, s *size, e *edge, bare *lab.Host, estate *generate.Estate) error {
	b.say("%d tunnels: change one", s.n)
	middle := s.n / 2
	variation := 0
	next := func() []byte {
		variation++
		return estate.Changed(middle, variation)
	}
	for range max(atLeast, b.runs) {
		path, err := e.put("change", next())
		if err != nil {
			return err
		}
		took, err := timed(func() error {
			_, err := command(ctx, e.Host, "shekara", "apply", path, "--yes")
			return err
		})
		if err != nil {
			return err
		}
		s.change = append(s.change, milliseconds(took))
		text := next()
		if took, err = timed(func() error {
			_, err := e.ask(ctx, text)
			return err
		}); err != nil {
			return err
		}
		s.ask = append(s.ask, milliseconds(took))
		text = next()
		if took, err = timed(func() error {
			_, err := e.client.Apply(ctx, documents(text), client.Newest)
			return err
		}); err != nil {
			return err
		}
		s.only = append(s.only, milliseconds(took))
		words := []string{"wg", "set", e.device, "peer", estate.Agencies[middle].PublicKey, "persistent-keepalive", fmt.Sprint(variation)}
		if took, err = timed(func() error {
			_, err := command(ctx, bare, words...)
			return err
		}); err != nil {
			return err
		}
		s.bareWords = append(s.bareWords, milliseconds(took))
	}
	return nil
}

func timed(f func() error) (time.Duration, error) {
	start := time.Now()
	err := f()
	return time.Since(start), err
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func scaleRows(all []size) []row {
	var rows []row
	at := map[int]size{}
	for _, s := range all {
		at[s.n] = s
		filled := newRow("empty to N tunnels", s.n, "s", s.apply).against(bareName, s.bareApply)
		if s.n == 1000 {
			filled = filled.should("ratio <= 1.5", filled.Ratio <= 1.5)
		}
		rows = append(rows, filled)
		if len(s.remove) > 0 {
			rows = append(rows, newRow("N tunnels to empty", s.n, "s", s.remove))
		}
		changed := newRow("one tunnel's change, command line", s.n, "ms", s.change).against("wg set, keepalive alone", s.bareWords)
		rows = append(rows,
			changed.should("<= 50 ms", changed.Ours <= 50),
			newRow("one tunnel's change, plan and apply over the socket", s.n, "ms", s.ask),
			newRow("one tunnel's change, apply alone over the socket", s.n, "ms", s.only))
		daemon := newRow("memory of the daemon", s.n, "MiB", []float64{s.daemon})
		if s.n == 1000 {
			daemon = daemon.should("<= 80 MiB", daemon.Ours <= 80)
		}
		rows = append(rows, daemon, newRow("memory of the dataplane", s.n, "MiB", []float64{s.dataplane}).against("the same, set up by wg", []float64{s.bare}))
	}
	if small, big := at[1000], at[10000]; small.n > 0 && big.n > 0 {
		r := newRow("empty to 10,000 / empty to 1,000", 10000, "s", big.apply).against("ours at 1,000", small.apply)
		bare := newRow("  the same, bare tools", 10000, "s", big.bareApply).against(bareName+" at 1,000", small.bareApply)
		rows = append(rows, r.should("ratio < 11", r.Ratio < 11), bare)
	}
	if small, big := at[10], at[10000]; small.n > 0 && big.n > 0 {
		r := newRow("one tunnel's change at 10,000 / at 10", 10000, "ms", big.change).against("ours at 10", small.change)
		rows = append(rows, r.should("ratio <= 3", r.Ratio <= 3))
	}
	for i, s := range all[:max(0, len(all)-1)] {
		grown, per := all[i+1], float64(all[i+1].n-s.n)/1000
		for _, m := range []struct {
			name       string
			from, upTo float64
		}{{"daemon", s.daemon, grown.daemon}, {"dataplane", s.dataplane, grown.dataplane}} {
			rows = append(rows, newRow("memory of the "+m.name+" for 1,000 tunnels more", grown.n, "MiB", []float64{(m.upTo - m.from) / per}))
		}
	}
	return rows
}
