package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"shekara/firewall"
	"shekara/firewall/engine"
	"shekara/journal"
	"shekara/netctl"
	"shekara/netctl/clock"
	"shekara/netctl/conntrack"
	"shekara/netctl/echo"
	"shekara/netctl/filters"
	"shekara/netctl/journald"
	"shekara/netctl/nflog"
	"shekara/netctl/secret"
	"shekara/provisioning"
	"shekara/provisioning/api"
	"shekara/systemd"
	"shekara/timesync/service"
	"shekara/tunnels"
	"shekara/tunnels/wireguard"
	"shekara/tunnels/wireguard/dataplane"
)

// commands joins the subcommands; without one it is the daemon.
func commands(stdout, stderr io.Writer) *cobra.Command {
	s := &settings{}
	root := &cobra.Command{
		Use:           "shekarad",
		Short:         "The edge daemon: makes documents real and keeps them so",
		Long:          "shekarad boots the last confirmed revision. /etc/shekara is only input: it is read by shekara apply, or on SIGHUP as a whole.",
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			log, err := s.logger(stderr)
			if err != nil {
				return err
			}
			return s.runDaemon(c.Context(), log)
		},
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetVersionTemplate("shekarad {{.Version}}\n")
	root.CompletionOptions.DisableDefaultCmd = true
	flags := root.PersistentFlags()
	flags.StringVar(&s.stateDir, "state-dir", "/var/lib/shekara", "revisions, keys and the journal")
	flags.StringVar(&s.runDir, "run-dir", "/run/shekara", "sockets")
	flags.StringVar(&s.etcDir, "etc", "/etc/shekara", "documents to read on SIGHUP, and the file site that says which Site this box is")
	flags.StringVar(&s.exportDir, "export-dir", "/var/lib/shekara-export", "how far the journal got on its way to each monitoring centre")
	flags.StringVar(&s.timeDir, "time-dir", "/var/lib/shekara-time", "what shekarad time knows: the last good time, the clock's drift, keys of NTS cookies")
	flags.StringVar(&s.timeRunDir, "time-run-dir", "/run/shekara-time", "the socket on which shekarad time tells the daemon how it stands")
	flags.StringVar(&s.engine, "engine", "auto", "what makes tunnel devices: auto, kernel or userspace")
	flags.StringVar(&s.logFormat, "log-format", "text", "text or json")
	flags.StringVar(&s.logLevel, "log-level", "info", "debug, info, warn or error")
	root.AddCommand(s.dataplaneCommand(stderr), s.cleanupCommand(stderr), s.closeCommand(stderr), s.exportCommand(stderr), s.timeCommand(stderr), &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(stdout, "shekarad %s\n", version)
			return err
		},
	})
	return root
}

func (s *settings) logger(to io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.logLevel)); err != nil {
		return nil, hint(fmt.Errorf("--log-level %q: there is no such level", s.logLevel), "it is debug, info, warn or error")
	}
	options := &slog.HandlerOptions{Level: level}
	switch s.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(to, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(to, options)), nil
	}
	return nil, hint(fmt.Errorf("--log-format %q: there is no such format", s.logFormat), "it is text or json")
}

func (s *settings) dataplaneCommand(stderr io.Writer) *cobra.Command {
	return &cobra.Command{
		Use:   "dataplane NAME",
		Short: "Be one userspace WireGuard device; the daemon starts this by itself",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			log, err := s.logger(stderr)
			if err != nil {
				return err
			}
			return dataplane.Run(c.Context(), args[0], dataplane.Options{RunDir: s.runDir, Log: log})
		},
	}
}

func (s *settings) cleanupCommand(stderr io.Writer) *cobra.Command {
	return &cobra.Command{
		Use:   "cleanup",
		Short: "Remove everything on the host that bears our name: devices, routes, rules, the filter's table; restore sysctls",
		Long: "cleanup removes what the daemon made on the host, and puts sysctls back. Revisions, keys and the journal stay: the daemon's next\n" +
			"start makes the last confirmed revision real again. It refuses while a daemon runs.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			log, err := s.logger(stderr)
			if err != nil {
				return err
			}
			return s.cleanUp(c.Context(), log)
		},
	}
}

// host is what reaches the kernel.
type host struct {
	network *netctl.Host
	tunnels *wireguard.Driver
	filter  *engine.Loader
	prober  *echo.Prober // nil: no probes can be sent
	// connections is nil where the kernel's table of connections cannot be opened: revoked entries then stay until they time out.
	connections *conntrack.Table
	news        *conntrack.Listener // nil: what flows carry is not counted, as unheard says
	unheard     error
}

func (s *settings) openHost(ctx context.Context, log *slog.Logger) (*host, error) {
	h := &host{}
	var err error
	if h.network, err = netctl.Open(); err != nil {
		return nil, fmt.Errorf("open the host's network: %w", err)
	}
	h.network.KeepOriginals(filepath.Join(s.stateDir, "sysctls.json"))
	launcher, err := s.launcher()
	if err != nil {
		return nil, errors.Join(err, h.close())
	}
	if h.tunnels, err = wireguard.New(wireguard.Options{Engine: tunnels.Engine(s.engine), RunDir: s.runDir, Launcher: launcher, Log: log}); err != nil {
		return nil, errors.Join(fmt.Errorf("open the tunnel driver: %w", err), h.close())
	}
	if h.filter, err = engine.New(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open the packet filter: %w", err), h.close())
	}
	// Without raw sockets all but the probes works, and each probed tunnel says why it has none.
	if h.prober, err = echo.Open(); err != nil {
		log.Warn("open the prober", "error", err)
	}
	// Without it the filter still lets nothing of a revoked flow pass.
	if h.connections, err = conntrack.Open(); err != nil {
		log.Warn("open the table of connections", "error", err)
	}
	if h.news, err = conntrack.Listen(); err != nil {
		log.Warn("listen to connections", "error", err)
		h.unheard = err
	}
	return h, nil
}

func (h *host) close() error {
	var err error
	if h.connections != nil {
		err = h.connections.Close()
	}
	if h.news != nil {
		err = errors.Join(err, h.news.Close())
	}
	if h.prober != nil {
		err = errors.Join(err, h.prober.Close())
	}
	if h.tunnels != nil {
		err = errors.Join(err, h.tunnels.Close())
	}
	if h.network != nil {
		err = errors.Join(err, h.network.Close())
	}
	return err
}

// launcher starts device processes so that they outlive the daemon: as units where systemd started the daemon, as detached
// processes elsewhere.
func (s *settings) launcher() (wireguard.Launcher, error) {
	if (systemd.Manager{}).Managed() {
		return dataplane.Unit{}, nil
	}
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return &dataplane.Exec{Argv: func(device string) []string {
		return []string{program, "dataplane", device, "--run-dir", s.runDir}
	}}, nil
}

// runDaemon opens everything, runs until the context ends, and closes in the opposite order.
func (s *settings) runDaemon(ctx context.Context, log *slog.Logger) (err error) {
	var opened []io.Closer
	defer func() {
		for i := len(opened) - 1; i >= 0; i-- {
			err = errors.Join(err, opened[i].Close())
		}
	}()
	if err := s.makeDirectories(); err != nil {
		return err
	}
	lock, err := s.alone()
	if err != nil {
		return err
	}
	opened = append(opened, closer(lock.Release))
	events, err := s.openJournal(ctx, log)
	if err != nil {
		return err
	}
	opened = append(opened, events)
	host, err := s.openHost(ctx, log)
	if err != nil {
		return err
	}
	opened = append(opened, closer(host.close))
	metrics := api.NewMetrics(version)
	recorder := metrics.Recorder(events)
	engine, err := s.openEngine(ctx, host, recorder, events, log)
	if err != nil {
		return err
	}
	opened = append(opened, engine)
	events.Believe(engine.Clock)
	site, err := s.site()
	if err != nil {
		return err
	}
	groups, err := groups(log)
	if err != nil {
		return err
	}
	doors, err := openDoors(s.runDir, groups)
	if err != nil {
		return err
	}
	d := &daemon{settings: *s, site: site, log: log, engine: engine, journal: recorder, doors: doors, manager: systemd.Manager{}}
	config := api.Config{Site: site, Engine: engine, Identify: identify, Groups: groups, Journal: events, ExportDir: s.exportDir, Recorder: recorder, Metrics: metrics,
		Log: log, Version: version}
	d.api = api.New(config)
	defer tend(ctx, events, engine, config.Anchored, log)()
	return d.Run(ctx)
}

// tend looks after the journal's files until it is told to stop, from when the engine knows its documents: they say how long records are kept. A disk that does not
// answer is not waited for.
func tend(ctx context.Context, events *journal.Journal, engine *provisioning.Engine, anchored func(context.Context) (uint64, error), log *slog.Logger) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-engine.Ready():
			events.Tend(ctx, journal.Tending{Months: engine.KeepMonths, Anchored: anchored, Complain: func(err error) { log.Error("tend the journal's files", "error", err) }})
		case <-ctx.Done():
		}
	}()
	return func() {
		cancel()
		timer := time.NewTimer(tendEnds)
		defer timer.Stop()
		select {
		case <-ended:
		case <-timer.C:
		}
	}
}

// tendEnds is how long a stop waits for the file that is being compressed or removed.
const tendEnds = 5 * time.Second

// prober gives the engine's word to what sends echo requests.
type prober struct{ echo *echo.Prober }

// Probe is one request and its answer.
func (p prober) Probe(ctx context.Context, local, remote netip.Addr) (time.Duration, error) {
	return p.echo.Echo(ctx, local, remote)
}

type closer func() error

func (c closer) Close() error { return c() }

// openJournal opens the journal with its key, which is made at the first start. A key that cannot be had keeps no box from starting: nothing is signed then, changes are refused, and the journal says so.
func (s *settings) openJournal(ctx context.Context, log *slog.Logger) (*journal.Journal, error) {
	site, err := s.site()
	if err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	store, err := secret.Open(filepath.Join(s.stateDir, "keys"))
	dir := filepath.Join(s.stateDir, "journal")
	var events *journal.Journal
	if err != nil {
		events, err = journal.OpenUnsigned(dir, err)
	} else {
		events, err = journal.OpenKept(ctx, dir, journal.NewKeys(store, strings.TrimSuffix("journal/"+site, "/")))
	}
	if err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	if unsigned := events.Health().Unsigned; unsigned != nil {
		next := provisioning.KeyBack(unsigned)
		log.Error("the journal is not signed, and changes are refused", "error", unsigned, "hint", next)
		if _, err := events.Append(ctx, journal.Event{Type: journal.JournalUnsigned, Severity: journal.Alert, Object: "journal", Message: fmt.Sprintf("nothing is signed until there is a key: %v", unsigned),
			Fields: map[string]string{"hint": next}}); err != nil {
			log.Error("and cannot be written", "error", err)
		}
	}
	return events, nil
}

// options join the engine to the host.
func (s *settings) options(h *host, recorder provisioning.Recorder, log *slog.Logger) (provisioning.Options, error) {
	site, err := s.site()
	if err != nil {
		return provisioning.Options{}, err
	}
	secrets, err := secret.Open(filepath.Join(s.stateDir, "keys"))
	if err != nil {
		return provisioning.Options{}, fmt.Errorf("open the keys: %w", err)
	}
	if err := secrets.RemoveTemporary(); err != nil {
		return provisioning.Options{}, fmt.Errorf("tidy the keys: %w", err)
	}
	options := provisioning.Options{
		Site: site, StateDir: s.stateDir, RunDir: s.runDir, Version: version,
		Network: h.network, Tunnels: h.tunnels, Filter: h.filter, Secrets: secrets, Journal: recorder,
		Prover: &engine.Prover{}, Beside: filters.Look, Resolver: net.DefaultResolver, Counts: h.filter, Drops: nflog.Group(firewall.LogGroup), Clock: clock.Read, Units: journald.Reader{}, Time: service.NewReporter(s.timeRunDir), Log: log,
	}
	if h.connections != nil { // a nil table in the interface would not be nil
		options.Connections = h.connections
	}
	if h.news != nil {
		options.News = h.news
	} else {
		recorder.Post(journal.Event{Type: journal.FlowMiss, Severity: journal.Error, Object: "flows", Message: "what flows carry is not counted, and connections are not on record, until shekarad is started again: " + h.unheard.Error()})
	}
	return options, nil
}

func (s *settings) openEngine(ctx context.Context, h *host, recorder provisioning.Recorder, events provisioning.EventReader, log *slog.Logger) (*provisioning.Engine, error) {
	options, err := s.options(h, recorder, log)
	if err != nil {
		return nil, err
	}
	options.Events = events
	// Without the kernel's hints drift is found by the ticks alone: later, but found.
	if watch, err := h.network.Watch(ctx); err != nil {
		log.Warn("watch the host's network", "error", err)
	} else {
		options.Hints, options.Witness = watch.Hints(), watch
	}
	if h.prober != nil {
		options.Prober = prober{h.prober}
	}
	engine, err := provisioning.New(options)
	if err != nil {
		return nil, fmt.Errorf("open the revisions: %w", err)
	}
	return engine, nil
}

func (s *settings) cleanUp(ctx context.Context, log *slog.Logger) (err error) {
	if err := s.makeDirectories(); err != nil {
		return err
	}
	lock, err := s.alone()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	events, err := s.openJournal(ctx, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, events.Close()) }()
	h, err := s.openHost(ctx, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	options, err := s.options(h, events, log)
	if err != nil {
		return err
	}
	return provisioning.Cleanup(ctx, options, self())
}
