package testbed

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"shekara/testbed/generate"
	"shekara/testbed/report"
	"shekara/testbed/swarm"
)

const (
	echoPort     = 7
	breakFor     = 1200 * time.Millisecond
	breakRate    = 200 // packets a second of a breakage that sends
	settleFor    = swarm.Patience + 300*time.Millisecond
	floodFor     = 5 * time.Second
	othersKeep   = 0.9
	reachPeerFor = time.Minute
)

// isolation breaks one peer of many in every way there is. The others must lose nothing and keep their counters.
func isolation(ctx context.Context, e *engine, step *report.Step, with map[string]string) error {
	peers, err := strconv.Atoi(with["peers"])
	if err != nil {
		return err
	}
	s, err := openEstate(ctx, e, peers)
	if err != nil {
		return err
	}
	defer func() {
		if s.swarm != nil {
			s.swarm.Close()
		}
	}()
	r := &isolationRun{estate: s, victim: s.Agencies[0]}
	ready := e.record(step, fmt.Sprintf("%d tunnels are applied and all pass", peers), 0, func(step *report.Step) error { return r.begin(ctx, step) })
	if ready.Outcome != report.Passed {
		return nil
	}
	e.record(step, "Idle control: nothing is lost while nothing happens", 0, func(step *report.Step) error {
		return r.around(ctx, step, func() error { return nil }, func() error { return nil })
	})
	for _, way := range swarm.Breakages() {
		e.record(step, way.Name+": "+way.Means, 0, func(step *report.Step) error {
			return r.around(ctx, step, func() error { return r.breakBy(ctx, way.Name, breakRate/max(way.Weight, 1)) }, func() error { return r.mend(ctx) })
		})
	}
	for _, way := range r.byHand(ctx) {
		e.record(step, "on the owner's edge: "+way.name, 0, func(step *report.Step) error { return r.around(ctx, step, way.do, way.undo) })
	}
	for _, flood := range []struct {
		how  string
		rate int
	}{{"initiations-forged", 2000}, {"initiations-own", 2000}, {"inner-flood", 5000}, {"garbage-typed", 5000}} {
		e.record(step, fmt.Sprintf("flood of %s at %d packets a second: the others keep nine tenths", flood.how, flood.rate), 0, func(step *report.Step) error {
			return r.flood(ctx, step, flood.how, flood.rate)
		})
	}
	e.record(step, "the broken peer, mended, passes again", 0, func(step *report.Step) error { return r.victimPasses(ctx) })
	return nil
}

type isolationRun struct {
	*estate
	victim generate.Agency
}

func (r *isolationRun) begin(ctx context.Context, step *report.Step) error {
	took, err := r.apply(ctx, "tunnels.yaml", r.Tunnels(0, len(r.Agencies)))
	if err != nil {
		return err
	}
	if err := r.populate(ctx, 0, len(r.Agencies)); err != nil {
		return err
	}
	if err := r.stream(ctx); err != nil {
		return err
	}
	step.Facts = append(step.Facts, report.Fact{Name: "applied in", Value: took.Round(time.Millisecond).String()})
	deadline := time.Now().Add(reachPeerFor)
	for {
		reports, err := r.ask(ctx, swarm.Command{Do: "report"})
		if err != nil {
			return err
		}
		t := sum(reports, "")
		if t.silent == 0 {
			// What was sent before the first handshakes is not to be counted.
			for _, do := range []string{"settle", "reset"} {
				if _, err := r.ask(ctx, swarm.Command{Do: do}); err != nil {
					return err
				}
			}
			if err := r.stream(ctx); err != nil {
				return err
			}
			step.Facts = append(step.Facts, report.Fact{Name: "answers", Value: fmt.Sprintf("%d from %d peers", t.answered, len(reports))})
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d peers have no answer", t.silent)
		}
		if err := pause(ctx, retryEvery); err != nil {
			return err
		}
	}
}

// stream lets every peer send to the gateway's echo.
func (r *isolationRun) stream(ctx context.Context) error {
	_, err := r.ask(ctx, swarm.Command{Do: "stream", Stream: &swarm.Stream{To: generate.OwnerInside(), Port: echoPort, Rate: 5}})
	return err
}

const (
	tries     = 6 // of a breakage on a machine that loses packets by itself
	suspicion = 2 // tries that lost packets while an idle control beside them lost none: then the breakage is to blame
)

// around does something to one peer and looks at all others: packets, counters and handshakes. On a busy machine packets are lost
// while nothing happens, too; so a loss is repeated beside an idle control of the same length. The breakage passes with the first
// try that loses nothing, and fails once it alone lost packets twice. What was lost on the way is shown.
func (r *isolationRun) around(ctx context.Context, step *report.Step, do, undo func() error) error {
	idle := func() error { return nil }
	blamed := 0
	for range tries {
		sent, lost, err := r.once(ctx, do, undo)
		if err != nil {
			return err
		}
		if lost == 0 {
			step.Facts = append(step.Facts, report.Fact{Name: "others sent", Value: strconv.FormatInt(sent, 10)}, report.Fact{Name: "lost", Value: "0"})
			return nil
		}
		_, idleLost, err := r.once(ctx, idle, idle)
		if err != nil {
			return err
		}
		step.Facts = append(step.Facts, report.Fact{Name: "a try that lost", Value: fmt.Sprintf("%d of %d, and %d idle", lost, sent, idleLost)})
		if idleLost == 0 {
			blamed++
		}
		if blamed == suspicion {
			return fmt.Errorf("the others lost packets in %d tries in which an idle control lost none", blamed)
		}
	}
	return errors.New("the machine is too busy: it loses packets while nothing happens; nothing is proved")
}

func (r *isolationRun) once(ctx context.Context, do, undo func() error) (sent, lost int64, err error) {
	before, countersBefore, err := r.look(ctx)
	if err != nil {
		return 0, 0, err
	}
	problem := do()
	if problem == nil {
		problem = pause(ctx, breakFor)
	}
	problem = errors.Join(problem, undo())
	if err := pause(ctx, settleFor); err != nil { // a packet counts as lost only when its answer is overdue
		return 0, 0, err
	}
	after, countersAfter, err := r.look(ctx)
	if err != nil {
		return 0, 0, errors.Join(problem, err)
	}
	if after.lost > before.lost { // an answer that is only late takes its packet off the list of the lost
		if err := pause(ctx, swarm.Patience); err != nil {
			return 0, 0, err
		}
		late, _, err := r.look(ctx)
		if err != nil {
			return 0, 0, err
		}
		after.lost = min(after.lost, late.lost)
	}
	if after.answered == before.answered {
		problem = errors.Join(problem, errors.New("the others got no answers at all: nothing is proved"))
	}
	if found := regressed(countersBefore, countersAfter, r.victim.PublicKey); len(found) > 0 {
		problem = errors.Join(problem, fmt.Errorf("%d other peers are gone or began to count anew: %s", len(found), strings.Join(found[:min(3, len(found))], ", ")))
	}
	return int64(after.sent) - int64(before.sent), int64(after.lost) - int64(before.lost), problem
}

func (r *isolationRun) look(ctx context.Context) (tally, map[string]ownerPeer, error) {
	reports, err := r.ask(ctx, swarm.Command{Do: "report"})
	if err != nil {
		return tally{}, nil, err
	}
	counters, err := r.ownerPeers(ctx)
	return sum(reports, r.victim.Name), counters, err
}

func (r *isolationRun) breakBy(ctx context.Context, how string, rate int) error {
	_, err := r.ask(ctx, swarm.Command{Do: "break", Peers: []string{r.victim.Name},
		Break: &swarm.Break{How: how, Rate: rate, Seed: 1, To: generate.OwnerInside(), Port: echoPort, Source: r.pretended(how)}})
	return err
}

// pretended is a neighbour's address, for the breakage that takes one.
func (r *isolationRun) pretended(how string) (a netip.Addr) {
	if how == "spoof-source" {
		return r.Agencies[1].Host
	}
	return a
}

func (r *isolationRun) mend(ctx context.Context) error {
	_, err := r.ask(ctx, swarm.Command{Do: "mend", Peers: []string{r.victim.Name}})
	return err
}

func (r *isolationRun) flood(ctx context.Context, step *report.Step, how string, rate int) error {
	before, _, err := r.look(ctx)
	if err != nil {
		return err
	}
	if err := r.breakBy(ctx, how, rate); err != nil {
		return err
	}
	if err := pause(ctx, floodFor); err != nil {
		return err
	}
	if err := r.mend(ctx); err != nil {
		return err
	}
	if err := pause(ctx, settleFor); err != nil {
		return err
	}
	after, _, err := r.look(ctx)
	if err != nil {
		return err
	}
	sent, lost := int64(after.sent)-int64(before.sent), max(0, int64(after.lost)-int64(before.lost))
	share := 1 - float64(lost)/float64(max(1, sent))
	step.Facts = append(step.Facts, report.Fact{Name: "others keep", Value: fmt.Sprintf("%.2f %%", 100*share)}, report.Fact{Name: "sent", Value: strconv.FormatInt(sent, 10)})
	if sent == 0 || share < othersKeep {
		return fmt.Errorf("the others keep %.2f of %d packets, at least %.1f is promised", share, sent, othersKeep)
	}
	return nil
}

func (r *isolationRun) victimPasses(ctx context.Context) error {
	answered := func() (uint64, error) {
		reports, err := r.ask(ctx, swarm.Command{Do: "report", Peers: []string{r.victim.Name}})
		if err != nil || len(reports) != 1 {
			return 0, errors.Join(err, errors.New("no report of the peer"))
		}
		return reports[0].Answered, nil
	}
	before, err := answered()
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(reachPeerFor); time.Now().Before(deadline); {
		now, err := answered()
		if err != nil || now > before {
			return err
		}
		if err := pause(ctx, retryEvery); err != nil {
			return err
		}
	}
	return errors.New("it has no answers any more")
}

// handWay is something done to one tunnel on the owner's edge itself.
type handWay struct {
	name     string
	do, undo func() error
}

// byHand are the ways by document and by hand. What is undone is undone by applying the document again, or by repair.
func (r *isolationRun) byHand(ctx context.Context) []handWay {
	original := append(r.victim.Peer(), r.Changed(0, 0)...)
	host := r.engine.network.Host(estateOwner)
	apply := func(documents []byte, old, new string) func() error {
		return func() error {
			changed := strings.Replace(string(documents), old, new, 1)
			if changed == string(documents) {
				return fmt.Errorf("nothing to replace: %q", old)
			}
			_, err := r.apply(ctx, "broken.yaml", []byte(changed))
			return err
		}
	}
	restore := func() error { _, err := r.apply(ctx, "whole.yaml", original); return err }
	refused := func(f func() error) func() error {
		return func() error {
			if f() == nil {
				return errors.New("it was accepted, and must be refused")
			}
			return nil
		}
	}
	tried := func(f func() error) func() error { // the tunnel fails by itself, and says so; the apply may say it too
		return func() error { _ = f(); return nil }
	}
	shell := func(script string) func() error {
		return func() error {
			_, err := output(ctx, host, "sh", "-ec", strings.NewReplacer("KEY", r.victim.PublicKey, "PREFIX", r.victim.Inside.String()).Replace(script))
			return err
		}
	}
	device := "d=$(wg show interfaces | tr ' ' '\\n' | grep ^sk-); "
	peer, tunnel := r.victim.Peer(), r.Changed(0, 0)
	return []handWay{
		{"an endpoint name that does not resolve", tried(apply(peer, "side: initiator,", "side: initiator, endpoint: nowhere.invalid,")), restore},
		{"an endpoint moved to where nobody is", apply(peer, r.victim.Outer.Addr().String(), "198.18.200.200"), restore},
		{"a key that is none", refused(apply(peer, r.victim.PublicKey, "not-a-key")), restore},
		{"a key of somebody else's tunnel", refused(apply(peer, r.victim.PublicKey, r.Agencies[1].PublicKey)), restore},
		{"a key that nobody holds", apply(peer, r.victim.PublicKey, regexp.MustCompile(`^.`).ReplaceAllString(r.victim.PublicKey, "Z")), restore},
		{"a preshared key that is not there", tried(apply(tunnel, "protocol: wireguard", "protocol: wireguard\n  presharedKey: no-such-secret")), restore},
		{"another keepalive", apply(tunnel, "protocol: wireguard", "protocol: wireguard\n  keepalive: 7"), restore},
		{"the tunnel made inactive", apply(tunnel, "protocol: wireguard", "protocol: wireguard\n  inactive: true"), restore},
		{"prefixes of a neighbour", refused(apply(tunnel, r.victim.Inside.String(), r.Agencies[1].Inside.String())), restore},
		{"the peer removed with wg", shell(device + "wg set $d peer KEY remove"), restore},
		{"its allowed addresses taken with wg", shell(device + "wg set $d peer KEY allowed-ips ''"), restore},
		{"its route deleted with ip", shell("ip route del PREFIX table 21323"), restore},
		{"all neighbours forgotten", shell("ip neigh flush dev ext0 to " + r.victim.Outer.Addr().String()), restore},
	}
}
