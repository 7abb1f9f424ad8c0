package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"shekara/testbed/generate"
	"shekara/testbed/lab"
)

// path is a way from an agency's host to the owner's gateway through two edges.
type path struct {
	name    string
	agency  *lab.Host
	gateway *lab.Host
	speed   []float64 // Mbit/s, a round each
	delay   []float64 // ms, the median of a round each
}

const (
	pings        = 40 // of a round
	barePath     = "by hand, no filter"
	noWiderThan  = 0.05
	leastRatio   = 0.95
	targetRounds = 40
)

// throughput measures three paths that exist at once, one at a time: ours, one made by hand, and another made by hand, which tells how
// far apart two equal paths seem to be on this machine.
func (b *bench) throughput(ctx context.Context) ([]row, error) {
	network := b.network()
	defer network.Close()
	estate, err := generate.New(1, 1)
	if err != nil {
		return nil, err
	}
	b.say("make three paths")
	ours, mtu, err := b.ourPath(ctx, network, estate)
	if err != nil {
		return nil, err
	}
	paths := []*path{ours}
	for _, name := range []string{"bare1-", "bare2-"} {
		p, err := b.barePath(ctx, network, name, estate, mtu)
		if err != nil {
			return nil, err
		}
		paths = append(paths, p)
	}
	return b.rounds(ctx, paths)
}

// rounds measures every path once a round, in an order drawn anew. The first path is ours, the third the control.
func (b *bench) rounds(ctx context.Context, paths []*path) ([]row, error) {
	for _, p := range paths {
		if _, err := p.gateway.Start(lab.Command{Args: []string{"iperf3", "-s"}}); err != nil {
			return nil, err
		}
		if err := p.warm(ctx); err != nil {
			return nil, err
		}
	}
	for round := range b.pairs {
		if round%10 == 0 {
			b.say("round %d of %d", round+1, b.pairs)
		}
		for _, i := range rand.Perm(len(paths)) {
			if err := paths[i].measure(ctx); err != nil {
				return nil, err
			}
		}
	}
	return throughputRows(paths[0], paths[1], paths[2]), nil
}

func throughputRows(ours, bare, control *path) []row {
	var rows []row
	for _, f := range []struct {
		name, unit string
		of         func(*path) []float64
	}{{"throughput LAN to LAN, one TCP connection", "Mbit/s", func(p *path) []float64 { return p.speed }},
		{"latency LAN to LAN, echo", "ms", func(p *path) []float64 { return p.delay }}} {
		r := paired(f.name, f.unit, f.of(ours), f.of(bare), barePath)
		c := paired("  the same, by hand / by hand", f.unit, f.of(control), f.of(bare), barePath)
		if f.unit == "Mbit/s" {
			r.Target = fmt.Sprintf("ratio >= %.2f", leastRatio)
			switch width := float64(c.High - c.Low); {
			case r.Runs < targetRounds:
				r = r.noting(fmt.Sprintf("%d rounds are too few", r.Runs))
			case !(width <= noWiderThan):
				r = r.noting(fmt.Sprintf("two paths by hand differ within %.3f: the machine is too noisy", width))
			default:
				r = r.should(r.Target, r.Ratio >= leastRatio)
			}
		}
		rows = append(rows, r, c)
	}
	return rows
}

// paired is a row whose ratio is the median of the ratios of each round, with its interval.
func paired(name, unit string, ours, peer []float64, peerName string) row {
	ratios := make([]float64, len(ours))
	for i := range ours {
		ratios[i] = ours[i] / peer[i]
	}
	r := newRow(name, 1, unit, ours).against(peerName, peer)
	low, high := interval(ratios)
	r.Ratio, r.Low, r.High = number(median(ratios)), number(low), number(high)
	return r
}

// ourPath is two edges, each with its daemon and the filter as shipped.
func (b *bench) ourPath(ctx context.Context, network *lab.Network, estate *generate.Estate) (*path, int, error) {
	agency := &estate.Agencies[0]
	edges, lan, err := pathHosts(network, "", estate)
	if err != nil {
		return nil, 0, err
	}
	agency.PublicKey, estate.OwnerKey = "", ""
	// Each end makes its key itself; then both get the same documents, with both keys.
	ownerEdge, err := b.startEdge(ctx, edges[0], generate.OwnerSite, estate.Base())
	if err != nil {
		return nil, 0, err
	}
	if estate.OwnerKey, err = ownerEdge.publicKey(ctx); err != nil {
		return nil, 0, err
	}
	agencyEdge, err := b.startEdge(ctx, edges[1], agency.Name, append(estate.AgencyBase(0), agency.Peer()...))
	if err != nil {
		return nil, 0, err
	}
	if agency.PublicKey, err = agencyEdge.publicKey(ctx); err != nil {
		return nil, 0, err
	}
	for _, e := range []*edge{ownerEdge, agencyEdge} {
		if err := e.apply(ctx, "tunnel", append(estate.OwnerDocument(), estate.Tunnels(0, 1)...)); err != nil {
			return nil, 0, err
		}
	}
	text, err := command(ctx, ownerEdge.Host, "cat", "/sys/class/net/"+ownerEdge.device+"/mtu")
	if err != nil {
		return nil, 0, err
	}
	mtu, err := strconv.Atoi(strings.TrimSpace(text))
	return lan, mtu, err
}

// pathHosts are the hosts of a path: the owner's edge and the agency's, with what stands behind each.
func pathHosts(network *lab.Network, prefix string, estate *generate.Estate) ([2]*lab.Host, *path, error) {
	agency := estate.Agencies[0]
	var edges [2]*lab.Host
	fail := func(err error) ([2]*lab.Host, *path, error) { return edges, nil, err }
	p := &path{name: prefix}
	var err error
	if edges[1], err = network.AddHost(prefix+"agency-edge", false); err != nil {
		return fail(err)
	}
	if p.agency, err = network.AddHost(prefix+"agency", false); err != nil {
		return fail(err)
	}
	if _, err = network.AddLink(lab.LinkSpec{Name: prefix + "lan", Ends: []lab.End{
		{Host: edges[1].Name, Interface: "lan0", Addresses: []netip.Prefix{netip.PrefixFrom(agency.Edge(), agency.Inside.Bits())}},
		{Host: p.agency.Name, Interface: "eth0", Addresses: []netip.Prefix{netip.PrefixFrom(agency.Host, agency.Inside.Bits())}},
	}}); err != nil {
		return fail(err)
	}
	if err := p.agency.AddRoute(lab.Route{To: generate.OwnerNetwork(), Via: agency.Edge()}); err != nil {
		return fail(err)
	}
	edges[0], p.gateway, err = owner(network, prefix, edges[1].Name, netip.PrefixFrom(agency.Outer.Addr(), generate.OuterNetwork().Bits()))
	return edges, p, err
}

// barePath is the same hosts and the same WireGuard, by hand: wg, ip route, forwarding, and no filter.
func (b *bench) barePath(ctx context.Context, network *lab.Network, prefix string, estate *generate.Estate, mtu int) (*path, error) {
	agency := estate.Agencies[0]
	edges, p, err := pathHosts(network, prefix, estate)
	if err != nil {
		return nil, err
	}
	ends := [2]struct {
		far, route string
		port       uint16
	}{
		{agency.Outer.String(), agency.Inside.String(), generate.Port},
		{netip.AddrPortFrom(generate.OwnerOuter(), generate.Port).String(), generate.OwnerNetwork().String(), agency.Outer.Port()},
	}
	var public [2]string
	for i, h := range edges {
		if err := bareDevice(ctx, h, "wg0", mtu); err != nil {
			return nil, err
		}
		key := base64.StdEncoding.EncodeToString(slices.Concat(agency.PrivateKey[:31], []byte{byte(i)}))
		if err := h.WriteFile(workFolder+"/key", []byte(key+"\n"), 0o600); err != nil {
			return nil, err
		}
		if err := commands(ctx, h, fmt.Sprintf("wg set wg0 private-key %s/key listen-port %d", workFolder, ends[i].port)); err != nil {
			return nil, err
		}
		out, err := command(ctx, h, "wg", "show", "wg0", "public-key")
		if err != nil {
			return nil, err
		}
		public[i] = strings.TrimSpace(out)
	}
	for i, h := range edges {
		if err := commands(ctx, h,
			fmt.Sprintf("wg set wg0 peer %s endpoint %s allowed-ips %s", public[1-i], ends[i].far, ends[i].route),
			fmt.Sprintf("ip route add %s dev wg0", ends[i].route),
			"sysctl -qw net.ipv4.ip_forward=1",
		); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// warm waits for the first handshake, the first packets and the server; what it measures does not count.
func (p *path) warm(ctx context.Context) error {
	if _, err := command(ctx, p.agency, "ping", "-c", "1", "-w", "20", generate.OwnerInside().String()); err != nil {
		return err
	}
	trial := *p
	var err error
	for limit := time.Now().Add(readyWithin); time.Now().Before(limit); {
		if err = trial.measure(ctx); !errors.Is(err, errNothingMeasured) {
			return err
		}
	}
	return err
}

// measure adds one round: a second of TCP, then echo.
func (p *path) measure(ctx context.Context) error {
	out, err := command(ctx, p.agency, "iperf3", "-c", generate.OwnerInside().String(), "-t", "1", "-J")
	if err != nil {
		return err
	}
	var report struct {
		End struct {
			Received struct {
				BitsPerSecond float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
		Error string `json:"error"` // it does not always fail by its exit code
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		return fmt.Errorf("read iperf3: %w", err)
	}
	if report.End.Received.BitsPerSecond == 0 {
		return fmt.Errorf("iperf3 on %s: %w: %s", p.agency.Name, errNothingMeasured, report.Error)
	}
	p.speed = append(p.speed, report.End.Received.BitsPerSecond/1e6)
	if out, err = command(ctx, p.agency, "ping", "-c", strconv.Itoa(pings), "-i", "0.005", generate.OwnerInside().String()); err != nil {
		return err
	}
	var times []float64
	for line := range strings.Lines(out) {
		if _, rest, found := strings.Cut(line, "time="); found {
			word, _, _ := strings.Cut(rest, " ")
			if ms, err := strconv.ParseFloat(word, 64); err == nil {
				times = append(times, ms)
			}
		}
	}
	if len(times) == 0 {
		return fmt.Errorf("ping on %s: %w", p.agency.Name, errNothingMeasured)
	}
	p.delay = append(p.delay, median(times))
	return nil
}
