package testbed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"shekara/testbed/generate"
	"shekara/testbed/report"
	"shekara/testbed/swarm"
)

const (
	scalePeers   = 10 // that send while tunnels are added and changed
	scaleRate    = 20 // packets a second of each
	scaleChanges = 5  // of one tunnel, of which the median is shown
)

// scale grows an owner's edge to thousands of tunnels and changes one of them, while the first ten pass traffic.
func scale(ctx context.Context, e *engine, step *report.Step, with map[string]string) error {
	var sizes []int
	for _, text := range strings.Split(with["sizes"], ",") {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || n < scalePeers || len(sizes) > 0 && n <= sizes[len(sizes)-1] {
			return fmt.Errorf("sizes %q: growing numbers from %d are wanted", with["sizes"], scalePeers)
		}
		sizes = append(sizes, n)
	}
	s, err := openEstate(ctx, e, sizes[len(sizes)-1])
	if err != nil {
		return err
	}
	defer func() {
		if s.swarm != nil {
			s.swarm.Close()
		}
	}()
	have := 0
	for _, n := range sizes {
		grown := e.record(step, fmt.Sprintf("from %d to %d tunnels", have, n), 0, func(step *report.Step) error { return s.grow(ctx, step, have, n) })
		if grown.Outcome != report.Passed {
			return nil
		}
		have = n
		if n == sizes[0] {
			passing := e.record(step, fmt.Sprintf("the first %d peers pass traffic", scalePeers), 0, func(*report.Step) error { return s.beginTraffic(ctx) })
			if passing.Outcome != report.Passed {
				return nil
			}
		}
		e.record(step, fmt.Sprintf("one tunnel of %d is changed", n), 0, func(step *report.Step) error { return s.change(ctx, step, n) })
	}
	return nil
}

// grow adds tunnels. The traffic of those that are there already must not notice.
func (s *estate) grow(ctx context.Context, step *report.Step, have, want int) error {
	return s.withoutLoss(ctx, step, func() error {
		took, err := s.apply(ctx, "tunnels.yaml", s.Tunnels(have, want))
		if err != nil {
			return err
		}
		step.Facts = append(step.Facts, report.Fact{Name: "applied in", Value: took.Round(time.Millisecond).String()},
			report.Fact{Name: "a tunnel", Value: (took / time.Duration(want-have)).Round(10 * time.Microsecond).String()})
		peers, err := s.ownerPeers(ctx)
		if err != nil {
			return err
		}
		if len(peers) != want {
			return fmt.Errorf("wg shows %d peers, want %d", len(peers), want)
		}
		return nil
	})
}

func (s *estate) beginTraffic(ctx context.Context) error {
	if err := s.populate(ctx, 0, scalePeers); err != nil {
		return err
	}
	stream := swarm.Command{Do: "stream", Stream: &swarm.Stream{To: generate.OwnerInside(), Port: echoPort, Rate: scaleRate}}
	if _, err := s.ask(ctx, stream); err != nil {
		return err
	}
	for deadline := time.Now().Add(reachPeerFor); ; {
		reports, err := s.ask(ctx, swarm.Command{Do: "report"})
		if err != nil {
			return err
		}
		if sum(reports, "").silent == 0 {
			break
		}
		if time.Now().After(deadline) {
			return errors.New("not all of them have answers")
		}
		if err := pause(ctx, retryEvery); err != nil {
			return err
		}
	}
	// What was sent before the first handshakes is not to be counted.
	if _, err := s.ask(ctx, swarm.Command{Do: "reset"}); err != nil {
		return err
	}
	_, err := s.ask(ctx, stream)
	return err
}

// change changes the last tunnel a few times.
func (s *estate) change(ctx context.Context, step *report.Step, tunnels int) error {
	return s.withoutLoss(ctx, step, func() error {
		before, err := s.ownerPeers(ctx)
		if err != nil {
			return err
		}
		var times []time.Duration
		for variation := range scaleChanges {
			took, err := s.apply(ctx, "changed.yaml", s.Changed(tunnels-1, variation+1))
			if err != nil {
				return err
			}
			times = append(times, took)
		}
		slices.Sort(times)
		step.Facts = append(step.Facts, report.Fact{Name: "median of the whole command", Value: times[len(times)/2].Round(time.Millisecond).String()})
		after, err := s.ownerPeers(ctx)
		if err != nil {
			return err
		}
		if found := regressed(before, after, ""); len(found) > 0 {
			return fmt.Errorf("%d peers are gone or began to count anew", len(found))
		}
		return nil
	})
}

// withoutLoss does something and wants every packet that the first peers sent meanwhile answered.
func (s *estate) withoutLoss(ctx context.Context, step *report.Step, do func() error) error {
	if s.swarm == nil {
		return do()
	}
	before, err := s.ask(ctx, swarm.Command{Do: "report"})
	if err != nil {
		return err
	}
	problem := do()
	if err := pause(ctx, settleFor); err != nil {
		return err
	}
	after, err := s.ask(ctx, swarm.Command{Do: "report"})
	if err != nil {
		return err
	}
	b, a := sum(before, ""), sum(after, "")
	sent, lost := int64(a.sent)-int64(b.sent), int64(a.lost)-int64(b.lost)
	step.Facts = append(step.Facts, report.Fact{Name: "packets meanwhile", Value: strconv.FormatInt(sent, 10)}, report.Fact{Name: "lost", Value: strconv.FormatInt(lost, 10)},
		report.Fact{Name: "longest gap", Value: fmt.Sprintf("%.0f ms", a.gap*1000)})
	if a.answered == b.answered {
		problem = errors.Join(problem, errors.New("no answers at all came meanwhile: nothing is proved"))
	}
	if lost > 0 {
		problem = errors.Join(problem, fmt.Errorf("%d of %d packets were lost", lost, sent))
	}
	return problem
}
