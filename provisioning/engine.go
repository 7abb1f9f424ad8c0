package provisioning

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"shekara/firewall"
	"shekara/journal"
	"shekara/netctl"
	"shekara/netctl/clock"
	"shekara/netctl/secret"
	"shekara/provisioning/accounting"
	"shekara/provisioning/document"
	"shekara/tunnels"
)

// Network is the host's routing: netctl.Host.
type Network interface {
	// Observe reads all links, our routes and rules, and the sysctls that are asked for; one that is absent is not in the answer.
	Observe(ctx context.Context, sysctls []string) (netctl.State, error)
	// Apply does the steps and returns those that were refused.
	Apply(ctx context.Context, ops []netctl.Op) []netctl.Failure
	// RouteHeld asks for one route alone.
	RouteHeld(route netctl.Route) (bool, error)
	// Others looks for what may take packets another way, in tables that are not ours.
	Others(ctx context.Context) (netctl.Others, error)
	// Cleanup removes all that bears our name and puts sysctls back.
	Cleanup(ctx context.Context) error
}

// Tunnels is the driver of tunnel devices: wireguard.Driver.
type Tunnels interface {
	Observe(ctx context.Context) ([]tunnels.DeviceState, error)
	Apply(ctx context.Context, ops []tunnels.Op) []tunnels.Failure
	ResetPeer(ctx context.Context, device string, key tunnels.PublicKey) error
}

// Resolver finds the addresses of an endpoint's name: net.Resolver.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Prober asks far ends for echo and keeps count: echo.Prober.
type Prober interface {
	// Probe sends one request from local to remote, and waits for its answer.
	Probe(ctx context.Context, local, remote netip.Addr) (time.Duration, error)
}

// Witness hears who changes the host: netctl.Watch.
type Witness interface {
	// Heard is what was heard since the last call.
	Heard() netctl.Heard
}

// Options join the engine to the host. All are needed but those that say what their zero value means.
type Options struct {
	Site     string // name of the Site document that this box is
	StateDir string // revisions, keys and what flows carried live below it
	RunDir   string // what was counted of connections that live is here; "": a daemon that is killed forgets what ended since it wrote last
	Version  string // of the program, for Status and the journal

	Network  Network
	Tunnels  Tunnels
	Filter   firewall.Loader
	Secrets  *secret.Store
	Journal  Recorder
	Resolver Resolver
	Prober   Prober // nil: no probes are sent
	// Connections is where entries of flows that are revoked are deleted. nil: they stay until they time out, and pass nothing.
	Connections Connections
	News        News            // of connections; nil, or no Connections: what flows carry is not counted
	Drops       Drops           // nil: dropped packets are counted and not recorded
	Units       Units           // nil: messages of the host's units are not put on record
	Counts      Counts          // nil: how many records stand for is not known
	Prover      Prover          // nil: what is loaded cannot be verified
	Beside      Beside          // nil: whether anything decides about packets beside nftables cannot be verified
	Hints       <-chan struct{} // something changed on the host: look soon. nil: only the ticks look
	Witness     Witness         // nil: nobody is named when something changed
	Boot        Boot            // nil: KernelBoot
	// Clock reads the host's clock: clock.Read. nil: nothing is said of it.
	Clock func() (clock.Reading, error)
	// Time is the process that asks and serves the time. nil: TimeService documents are kept, and nothing is known of it.
	Time TimeReporter
	// Events is the journal that Journal writes. nil: incidents are not looked for.
	Events EventReader
	Log    *slog.Logger // nil: none
}

// Engine makes documents real and keeps them so. Its methods may be called from many goroutines; Run must be running for what
// happens by itself: the start, the end of a confirm window, drift, retries, samples.
//
// Whoever changes the host holds writing; whoever touches the fields below mu holds that, and never while he waits for the host.
type Engine struct {
	options Options
	store   *store
	ledger  *accounting.Ledger // what flows carried
	counts  *accounting.Store  // its files; they belong to keepCounting
	started time.Time
	strain  [overloads]atomic.Uint64 // what the daemon could not keep up with, since it started
	writing chan struct{}            // holds one token while somebody changes the host
	undone  int                      // the revision whose return is on record; who holds writing may touch it
	look    trigger                  // look at the whole host soon
	retry   trigger                  // the nearest retry may have moved
	windows trigger                  // the confirm window was opened or closed
	tidy    trigger                  // the store may want a snapshot
	revoke  trigger                  // there are connections to forget
	count   trigger                  // somebody asks what flows carried
	// unverified: something changed since what is loaded was verified; verifying holds one token while somebody does.
	unverified trigger
	verifying  chan struct{}
	ready      chan struct{} // closed when the start is over
	measured   measured      // the last word of shekarad time; it waits for nobody

	mu         sync.Mutex
	documents  *document.Set // of the revision in force
	intent     intent        // what these ask of this box
	problems   []string      // documents of the revision that are left out
	day        string        // the date in Almaty on which they were judged last, as waivers and contracts end with one
	before     kept          // the documents to return to while a confirm window is open, so that going back reads nothing
	world      world         // the last look, brought up to date by what was done since
	writes     int           // counts changes of the host: a look that began before one is not believed
	sights     int           // counts what was learned of the host: a program made before is not the way from what is
	filter     filterState
	keys       map[string]secret.Key // those read so far, by name of the secret
	unreadable map[string]error      // private keys that are there and cannot be read, by name of the secret
	pairs      map[string]keyPair    // of the devices' keys, by name of the secret
	troubles   map[string]*trouble   // tunnels with an error of their own
	refused    map[string]*trouble   // steps of the site's own that the host refused, by their text
	lacking    []Failed              // what the site's own parts lack
	health     map[string]*vitals    // by tunnel
	names      map[string]*lookup    // endpoint names
	repairs    repairs
	revoked    []revocation  // connections that no flow allows any more
	revoking   chan struct{} // closed when those are forgotten; nil: there are none
	counted    chan struct{} // closed when connections have been looked at the next time
	verified   verified
	stopped    bool               // nothing is forwarded, as events cannot be recorded
	foreign    []string           // tables of others that could drop what ours lets pass
	hearing    hearing            // of changes of the host, until a look has judged them
	reached    map[string]reached // limits of tunnels that were, by tunnel
	others     []string           // what of others stood in the way when it was told last
	turned     time.Time          // when the loop last turned
	turning    time.Time          // when the turn began that goes on; zero: none does
	// unitsUnread is why messages of the host's units are not on record; "": they are, or nobody asked for them.
	unitsUnread string
	deaf        string         // since when dropped packets are not recorded, and why; "": they are
	overloaded  string         // since when the daemon does not keep up, and in what; "": it does
	clock       *ClockStatus   // nil: it was not looked at yet
	time        *TimeStatus    // nil: no TimeService is in force
	incidents   IncidentReport // by what was read of the journal so far
}

// New opens the state and changes nothing on the host.
func New(o Options) (*Engine, error) {
	if o.Boot == nil {
		o.Boot = KernelBoot
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s, err := openStore(filepath.Join(o.StateDir, "revisions"), realDisk{})
	if err != nil {
		return nil, err
	}
	e := newEngine(o, s)
	e.openLedger()
	return e, nil
}

func newEngine(o Options, s *store) *Engine {
	e := &Engine{
		options: o, store: s, ledger: accounting.NewLedger(accounting.MaxConnections), counts: &accounting.Store{}, started: time.Now(),
		writing: make(chan struct{}, 1), look: newTrigger(), retry: newTrigger(), windows: newTrigger(), tidy: newTrigger(), revoke: newTrigger(), count: newTrigger(), counted: make(chan struct{}),
		unverified: newTrigger(), verifying: make(chan struct{}, 1),
		ready:     make(chan struct{}),
		documents: document.NewSet(),
		world:     newWorld(),
		keys:      map[string]secret.Key{}, unreadable: map[string]error{}, pairs: map[string]keyPair{}, troubles: map[string]*trouble{}, refused: map[string]*trouble{}, health: map[string]*vitals{}, names: map[string]*lookup{}, reached: map[string]reached{},
	}
	e.options.Journal = belonging{o.Journal, e}
	return e
}

// Close lets go of the state. What is on the host stays.
func (e *Engine) Close() error { return errors.Join(e.counts.Close(), e.store.close()) }

// Run brings up what boots and then keeps it: it returns when the context ends, or when the state cannot be read.
func (e *Engine) Run(ctx context.Context) error {
	if err := e.start(ctx); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	close(e.ready)
	group, ctx := errgroup.WithContext(ctx)
	for _, f := range []func(context.Context){e.keepLooking, e.keepRetrying, e.keepWindow, e.keepSampling, e.keepProbing, e.keepResolving, e.keepTidy, e.keepRevoking, e.keepDropped, e.keepVerifying, e.keepCounting, e.keepEvidence, e.keepClock, e.keepTime, e.keepIncidents, e.keepOverload, e.keepUnits} {
		group.Go(func() error {
			f(ctx)
			return nil
		})
	}
	_ = group.Wait()
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	e.record(stop, journal.Event{Type: journal.DaemonStop, Severity: journal.Notice, Message: "the daemon stops; the host stays as it is"})
	return nil
}

// Ready is closed when the start is over: what boots is in force, as far as it can be.
func (e *Engine) Ready() <-chan struct{} { return e.ready }

// Alive is when the engine's loop last turned.
func (e *Engine) Alive() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.turned
}

// lock waits until nobody changes the host.
func (e *Engine) lock(ctx context.Context) error {
	select {
	case e.writing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for another change to end: %w", ctx.Err())
	}
}

func (e *Engine) unlock() { <-e.writing }

// kept is the documents of a revision.
type kept struct {
	revision int
	set      *document.Set
	problems []document.Problem
}

// trigger asks for something to be done soon; asking twice is asking once.
type trigger chan struct{}

func newTrigger() trigger { return make(trigger, 1) }

func (t trigger) poke() {
	select {
	case t <- struct{}{}:
	default:
	}
}

// hintError is an error with its next step.
type hintError struct {
	err  error
	hint string
}

func hinted(err error, hint string) error { return &hintError{err, hint} }

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }

// Hint is the next step.
func (e *hintError) Hint() string { return e.hint }

func hintOf(err error) string {
	var h *hintError
	if errors.As(err, &h) {
		return h.hint
	}
	return ""
}
