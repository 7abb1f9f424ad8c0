package testbed

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"time"

	"shekara/testbed/generate"
	"shekara/testbed/lab"
	"shekara/testbed/swarm"
)

// Hosts that the parts isolation and scale need in their scenario.
const (
	estateOwner    = "owner-edge"
	estateAgencies = "agencies" // its ext0 gets the addresses of all agencies
	estateSeed     = 11
)

// estate is an owner's edge with many tunnels, and a swarm at their far ends.
type estate struct {
	engine *engine
	*generate.Estate
	swarm *swarm.Client
}

// openEstate applies the owner's own documents and learns its key.
func openEstate(ctx context.Context, e *engine, agencies int) (*estate, error) {
	plan, err := generate.New(estateSeed, agencies)
	if err != nil {
		return nil, err
	}
	s := &estate{engine: e, Estate: plan}
	if _, err := s.apply(ctx, "base.yaml", plan.Base()); err != nil {
		return nil, err
	}
	if _, err := s.shekara(ctx, "confirm"); err != nil {
		return nil, err
	}
	exported, err := s.shekara(ctx, "peer", "export")
	if err != nil {
		return nil, err
	}
	if plan.OwnerKey = regexp.MustCompile(`[A-Za-z0-9+/]{43}=`).FindString(exported); plan.OwnerKey == "" {
		return nil, failure{errors.New("shekara peer export shows no public key"), exported}
	}
	return s, nil
}

// apply hands documents to the owner's daemon and says how long that took.
func (s *estate) apply(ctx context.Context, name string, documents []byte) (time.Duration, error) {
	file := "/run/testbed/documents/" + name
	if err := s.engine.network.Host(estateOwner).WriteFile(file, documents, 0o644); err != nil {
		return 0, err
	}
	began := time.Now()
	_, err := s.shekara(ctx, "apply", "--yes", file)
	return time.Since(began), err
}

// estateWithin bounds one command on a large estate.
const estateWithin = 10 * time.Minute

func (s *estate) shekara(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, estateWithin)
	defer cancel()
	return output(ctx, s.engine.network.Host(estateOwner), append([]string{"shekara"}, args...)...)
}

// output runs a command that must succeed.
func output(ctx context.Context, host *lab.Host, args ...string) (string, error) {
	result, err := host.Run(ctx, lab.Command{Args: args})
	if err != nil {
		return "", err
	}
	if result.Exit != 0 {
		return "", failure{fmt.Errorf("%s: exit code %d", strings.Join(args[:min(2, len(args))], " "), result.Exit), result.Stdout + result.Stderr}
	}
	return result.Stdout, nil
}

// populate starts test peers for agencies from first up to, but without, end.
func (s *estate) populate(ctx context.Context, first, end int) error {
	host := s.engine.network.Host(estateAgencies)
	if s.swarm == nil {
		client, err := swarmOn(host, s.engine.self)
		if err != nil {
			return err
		}
		s.swarm = client
	}
	var farKey swarm.Key
	if err := farKey.UnmarshalText([]byte(s.OwnerKey)); err != nil {
		return err
	}
	var configs []swarm.Config
	for _, a := range s.Agencies[first:end] {
		if err := host.AddAddresses("ext0", netip.PrefixFrom(a.Outer.Addr(), generate.OuterNetwork().Bits())); err != nil {
			return err
		}
		configs = append(configs, swarm.Config{Name: a.Name, PrivateKey: a.PrivateKey, Local: a.Outer, FarKey: farKey,
			FarEndpoint: netip.AddrPortFrom(generate.OwnerOuter(), generate.Port), Addresses: []netip.Addr{a.Host}})
	}
	_, err := s.ask(ctx, swarm.Command{Do: "add", Add: configs})
	return err
}

// ownerPeer is a peer as wg(8) shows it on the owner's edge.
type ownerPeer struct {
	handshake, received, sent uint64
}

// ownerPeers reads "wg show all dump": interface, key, psk, endpoint, allowed, handshake, received, sent, keepalive.
func (s *estate) ownerPeers(ctx context.Context) (map[string]ownerPeer, error) {
	text, err := output(ctx, s.engine.network.Host(estateOwner), "wg", "show", "all", "dump")
	if err != nil {
		return nil, err
	}
	peers := map[string]ownerPeer{}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) != 9 {
			continue // the device itself
		}
		var p ownerPeer
		if _, err := fmt.Sscan(strings.Join(fields[5:8], " "), &p.handshake, &p.received, &p.sent); err != nil {
			return nil, fmt.Errorf("read wg dump: %q: %w", line, err)
		}
		peers[fields[1]] = p
	}
	return peers, nil
}

// regressed names peers that lost their identity: those that are gone, whose counters began again or whose handshake is older.
func regressed(before, after map[string]ownerPeer, except string) []string {
	var found []string
	for key, b := range before {
		a, there := after[key]
		if key != except && (!there || a.received < b.received || a.sent < b.sent || a.handshake < b.handshake) {
			found = append(found, key)
		}
	}
	return found
}

// swarmOn starts "testbed swarm" on a host.
func swarmOn(host *lab.Host, self string) (*swarm.Client, error) {
	return swarm.Start(func(in, out *os.File) error {
		_, err := host.Start(lab.Command{Args: []string{self, "testbed", "swarm"}, Files: []*os.File{in, out, os.Stderr}})
		return err
	})
}

// ask has the test peers do something, and returns what they report.
func (s *estate) ask(ctx context.Context, command swarm.Command) ([]swarm.Report, error) {
	answer, err := s.swarm.Ask(ctx, command)
	return answer.Reports, err
}

// tally sums the reports of all but one.
type tally struct {
	sent, answered, lost uint64
	gap                  float64
	silent               int // peers without any answer
}

func sum(reports []swarm.Report, except string) tally {
	var t tally
	for _, r := range reports {
		if r.Name == except {
			continue
		}
		t.sent, t.answered, t.lost, t.gap = t.sent+r.Sent, t.answered+r.Answered, t.lost+r.Lost, max(t.gap, r.GapSeconds)
		if r.Answered == 0 {
			t.silent++
		}
	}
	return t
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
