package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"shekara/testbed/lab"
	"shekara/timesync"
	"shekara/timesync/nts"
	"shekara/timesync/server"
)

const (
	timeServerWord = "time-server"   // makes this program a server of time, as shekarad time is, but for the limit of requests
	timeNetwork    = "10.128.0.0/15" // clients: more than 100,000 addresses
	manyClients    = 100_000
	timeFlood      = 3 * time.Second
	timePace       = 5000 // requests a second of a load that leaves the server idle in between
	timeAsked      = 1500 // exchanges of one client
)

// timeServer is one of the two that are compared, on a host of its own.
type timeServer struct {
	host    *lab.Host
	process *lab.Process
	at      netip.AddrPort
	figures map[string][]float64 // by row, a round each

	roots     *x509.CertPool // of its certificate
	strangers atomic.Int64   // clients that established keys
}

// clock measures how time is served, beside chronyd, in turns, by the same load.
func (b *bench) clock(ctx context.Context) ([]row, error) {
	network := b.network()
	defer network.Close()
	load, err := network.AddHost("load", false)
	if err != nil {
		return nil, err
	}
	if err := commands(ctx, load, "ip route add local "+timeNetwork+" dev lo"); err != nil {
		return nil, err
	}
	ours, err := timeHost(ctx, network, "ours", "198.18.1.", b.self, timeServerWord, "198.18.1.1")
	if err != nil {
		return nil, err
	}
	peer, err := timeHost(ctx, network, "chrony", "198.18.2.", "chronyd", "-x", "-d", "-f", "/etc/chrony-bench.conf")
	if err != nil {
		return nil, err
	}
	servers := []*timeServer{ours, peer}
	rounds := max(5, b.runs)
	for round := range rounds {
		b.say("round %d of %d", round+1, rounds)
		for _, i := range rand.Perm(len(servers)) {
			if err := load.Do(func() error { return servers[i].round(ctx, load) }); err != nil {
				return nil, fmt.Errorf("%s: %w", servers[i].host.Name, err)
			}
		}
	}
	b.say("%d clients", manyClients)
	for _, s := range servers {
		if err := load.Do(func() error { return s.weigh(ctx) }); err != nil {
			return nil, fmt.Errorf("%s: %w", s.host.Name, err)
		}
	}
	return timeRows(ours, peer), nil
}

// timeHost starts a server that the host named load reaches by an interface with the server's name.
func timeHost(ctx context.Context, network *lab.Network, name, between string, program ...string) (*timeServer, error) {
	host, err := network.AddHost(name, false)
	if err != nil {
		return nil, err
	}
	s := &timeServer{host: host, at: netip.AddrPortFrom(netip.MustParseAddr(between+"1"), 123), figures: map[string][]float64{}}
	if _, err := network.AddLink(lab.LinkSpec{Name: name, Ends: []lab.End{
		{Host: name, Interface: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix(between + "1/30")}},
		{Host: "load", Interface: name, Addresses: []netip.Prefix{netip.MustParsePrefix(between + "2/30")}},
	}}); err != nil {
		return nil, err
	}
	if err := host.AddRoute(lab.Route{To: netip.MustParsePrefix(timeNetwork), Via: netip.MustParseAddr(between + "2")}); err != nil {
		return nil, err
	}
	// It remembers as many clients as ours, and limits none, as ours does here.
	configuration := "local stratum 10\nallow\ncmdport 0\nuser root\npidfile /run/chrony-bench.pid\nclientloglimit 134217728\nbindaddress " + between + "1\n"
	configuration += "ntsservercert " + ntsCertificate + "\nntsserverkey " + ntsKey + "\n"
	if err := s.certify(); err != nil {
		return nil, err
	}
	if err := host.WriteFile("/etc/chrony-bench.conf", []byte(configuration), 0o644); err != nil {
		return nil, err
	}
	if s.process, err = host.Start(lab.Command{Args: program}); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		err := network.Host("load").Do(func() error {
			c, err := openTimeClient(s.at, false)
			if err != nil {
				return err
			}
			defer c.close()
			_, err = c.ask()
			return err
		})
		if err == nil {
			return s, nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return nil, fmt.Errorf("%s does not answer: %w\n%s", name, err, s.process.Stderr())
		}
	}
}

// serveTime is our server in a process of its own, until it is killed.
func serveTime(ctx context.Context, address string, stderr io.Writer) int {
	runtime.GOMAXPROCS(server.Processors(runtime.NumCPU()))
	at, err := netip.ParseAddr(address)
	var establishes *nts.Server
	if err == nil {
		establishes, err = establishKeys(at)
	}
	if err == nil {
		began := time.Now()
		s := server.New(server.Options{NTS: establishes.Keys, Every: time.Nanosecond, Burst: 1 << 30, Standing: func() timesync.Standing {
			return timesync.Standing{State: timesync.Synchronised, Since: began, Stratum: 10, ReferenceTime: began, At: began}
		}})
		err = s.Set(timesync.Spec{Addresses: []netip.Addr{at}, Clients: []timesync.Client{{System: "all", Prefixes: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}}})
		if err == nil {
			var running sync.WaitGroup
			running.Go(func() { s.Run(ctx) })
			if err = establishes.Run(ctx); err == nil {
				running.Wait()
				return 0
			}
		}
	}
	fmt.Fprintln(stderr, err)
	return 1
}

// Names of figures.
const (
	timeRate        = "requests answered"
	timeBusy        = "processor time of the server for an answered request, flat out"
	timeIdle        = "the same, 5,000 requests a second"
	timeLatency     = "latency, one request at a time"
	timeLatency99   = "the same, 99 of 100"
	timeError       = "error that serving adds, as one client sees it"
	timeJitter      = "its jitter"
	timeErrorInter  = "error that serving adds, interleaved mode"
	timeJitterInt   = "its jitter, interleaved mode"
	timeSealed      = "requests answered, network time security"
	timeSealedBusy  = "processor time of the server for each"
	timeEstablished = "keys established"
	timeMemory      = "memory of the server with 100,000 clients"
	timeMemoryNone  = "the same, before"
)

func (s *timeServer) note(name string, value float64) {
	s.figures[name] = append(s.figures[name], value)
}

// round measures everything once. It runs on the host of the load.
func (s *timeServer) round(ctx context.Context, load *lab.Host) error {
	flood, err := openTimeFlood(s.at, plainRequest())
	if err != nil {
		return err
	}
	defer flood.close()
	for _, load := range []struct {
		busy string
		rate int
	}{{timeBusy, 0}, {timeIdle, timePace}} {
		before, err := s.worked()
		if err != nil {
			return err
		}
		answered, took, err := flood.run(ctx, timeFlood, load.rate)
		if err != nil {
			return err
		}
		after, err := s.worked()
		if err != nil {
			return err
		}
		s.note(load.busy, (after-before).Seconds()*1e6/float64(answered))
		if load.rate == 0 {
			s.note(timeRate, float64(answered)/took.Seconds()/1000)
		}
	}
	for _, interleaved := range []bool{false, true} {
		e, err := askTime(ctx, s.at, interleaved)
		if err != nil {
			return err
		}
		if interleaved {
			s.note(timeErrorInter, e.err)
			s.note(timeJitterInt, e.jitter)
			continue
		}
		s.note(timeError, e.err)
		s.note(timeJitter, e.jitter)
		s.note(timeLatency, median(e.latencies))
		s.note(timeLatency99, percentile(e.latencies, 0.99))
	}
	return s.secured(ctx, load)
}

// worked is the processor time that the server has had, its threads together.
func (s *timeServer) worked() (time.Duration, error) {
	files, err := filepath.Glob(s.host.Path(fmt.Sprintf("/proc/%d/task/*/schedstat", s.process.PID)))
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("no process %d on %s", s.process.PID, s.host.Name)
	}
	var sum time.Duration
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // a thread that ended
		}
		var nanoseconds int64
		if _, err := fmt.Sscan(string(text), &nanoseconds); err != nil {
			return 0, fmt.Errorf("%s: %w", file, err)
		}
		sum += time.Duration(nanoseconds)
	}
	return sum, nil
}

// weigh has 100,000 clients ask.
func (s *timeServer) weigh(ctx context.Context) error {
	before, err := residentMiB(s.host, s.process.PID)
	if err != nil {
		return err
	}
	if err := askFromMany(ctx, s.at, manyClients); err != nil {
		return err
	}
	after, err := residentMiB(s.host, s.process.PID)
	s.note(timeMemoryNone, before)
	s.note(timeMemory, after)
	return err
}

func timeRows(ours, peer *timeServer) []row {
	var rows []row
	for _, f := range []struct {
		name, unit string
		n          int
		target     string
		met        func(ratio number) bool
	}{
		{timeRate, "thousand/s", 1, "ratio >= 1", func(r number) bool { return r >= 1 }},
		{timeBusy, "µs", 1, "ratio <= 1", func(r number) bool { return r <= 1 }},
		{timeIdle, "µs", 1, "ratio <= 1", func(r number) bool { return r <= 1 }},
		{timeLatency, "µs", 1, "", nil},
		{timeLatency99, "µs", 1, "", nil},
		{timeError, "µs", 1, "ratio <= 1", func(r number) bool { return r <= 1 }},
		{timeJitter, "µs", 1, "", nil},
		{timeErrorInter, "µs", 1, "ratio <= 1", func(r number) bool { return r <= 1 }},
		{timeJitterInt, "µs", 1, "", nil},
		{timeSealed, "thousand/s", 1, "ratio >= 1", func(r number) bool { return r >= 1 }},
		{timeSealedBusy, "µs", 1, "", nil},
		{timeEstablished, "1/s", establishers, "", nil},
		{timeMemory, "MiB", manyClients, "", nil},
		{timeMemoryNone, "MiB", 0, "", nil},
	} {
		r := paired(f.name, f.unit, ours.figures[f.name], peer.figures[f.name], "chronyd")
		if r.N = f.n; f.met != nil {
			r = r.should(f.target, f.met(r.Ratio))
		}
		rows = append(rows, r)
	}
	return rows
}
