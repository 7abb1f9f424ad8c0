package server

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"shekara/netctl/datagram"
	"shekara/timesync"
	"shekara/timesync/ntp"
	"shekara/timesync/nts"
)

const (
	batchSize    = 16              // datagrams that are answered together: more makes the last of them wait
	reopenAfter  = 5 * time.Second // a socket that could not be opened, or failed
	maxStrangers = 1024            // addresses that are not registered of which there is a record
)

// Options are what no document asks for. All but Standing may be left out.
type Options struct {
	Standing   func() timesync.Standing // called for every few requests, by several goroutines
	NTS        *nts.Keys                // nil: NTS is not served
	Port       uint16                   // 123
	Files      []*os.File               // UDP sockets that somebody opened, as systemd does. They serve those of Spec.Addresses that they are bound to, and no other is opened there
	Sockets    int                      // for each address: as many as there are processors for Go
	MaxClients int                      // addresses in the table: 131072
	Every      time.Duration            // so often may an address ask in the long run: 32 times a second, since a whole agency may be behind one
	Burst      int                      // and so many times at once: 64
	Logger     *slog.Logger             // what cannot be opened, and that it can again
}

// Processors is how many of a machine's processors a process that serves time should have Go use: half of them. The kernel receives on the others meanwhile; and where few ask, each
// processor that Go may use and does not need costs an answer a third more, for it is woken to find that out.
func Processors(machine int) int { return max(1, machine/2) }

// Server answers. It is Set before it Runs, and then whenever the document changes.
type Server struct {
	options   Options
	precision int8
	began     time.Time // limits go by the monotonic clock
	policy    atomic.Pointer[policy]
	changed   chan struct{}
	clients   *table
	strangers *table
	counters  counters
	failures  atomic.Pointer[[]Failure]
	open      atomic.Int32 // addresses

	mutex   sync.Mutex // of what is below
	systems map[string]*tally
}

// Failure is an address at which nothing is served though it should be.
type Failure struct {
	Address netip.AddrPort
	Err     error
}

// New makes a server that serves nobody yet.
func New(o Options) *Server {
	o.Port = cmp.Or(o.Port, ntp.Port)
	o.Sockets = cmp.Or(o.Sockets, runtime.GOMAXPROCS(0))
	o.MaxClients = cmp.Or(o.MaxClients, 1<<17)
	o.Every = cmp.Or(o.Every, time.Second/32)
	o.Burst = cmp.Or(o.Burst, 64)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	s := &Server{options: o, precision: precision(), began: time.Now(), changed: make(chan struct{}, 1), systems: map[string]*tally{}}
	s.clients, s.strangers = newTable(o.MaxClients), newTable(maxStrangers)
	s.policy.Store(&policy{})
	s.failures.Store(&[]Failure{})
	return s
}

// Set replaces what is served to whom. What is being answered still is by the old. The error names clients whose key cannot be used, who are refused until another Set; all else is in force.
func (s *Server) Set(spec timesync.Spec) error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	p, err := compile(spec, func(system string) *tally {
		if s.systems[system] == nil {
			s.systems[system] = &tally{name: system}
		}
		return s.systems[system]
	})
	s.policy.Store(p)
	select {
	case s.changed <- struct{}{}:
	default: // it will be looked at anyway
	}
	return err
}

// Registered says whether an address is that of a registered system, for who establishes keys with it.
func (s *Server) Registered(address netip.Addr) bool {
	return s.policy.Load().find(address.Unmap().WithZone("")) != nil
}

// Failures are the addresses at which nothing is served now though the document asks for it. It is tried again every few seconds.
func (s *Server) Failures() []Failure { return *s.failures.Load() }

// Listening is at how many addresses it serves now: Set tells what it should be, and Run does it soon after.
func (s *Server) Listening() int { return int(s.open.Load()) }

// Run serves until ctx ends. It returns when all its goroutines have.
func (s *Server) Run(ctx context.Context) {
	r := &running{server: s, open: map[netip.AddrPort][]*datagram.Conn{}, adopted: map[netip.AddrPort]*datagram.Conn{}, ended: make(chan ending)}
	defer r.stop()
	r.adopt(ctx)
	for {
		failures := r.reconcile(ctx, s.policy.Load().addresses)
		s.report(failures)
		var again <-chan time.Time
		if len(failures) > 0 {
			again = time.After(reopenAfter)
		}
		select {
		case <-ctx.Done():
			return
		case <-s.changed:
		case <-again:
		case failed := <-r.ended:
			at := failed.conn.Local()
			if !slices.Contains(r.open[at], failed.conn) && r.adopted[at] != failed.conn {
				continue // another one's end has closed it already
			}
			r.closeAt(at)
			s.report([]Failure{{at, failed.err}})
			select { // before it is opened anew
			case <-ctx.Done():
				return
			case <-time.After(reopenAfter):
			}
		}
	}
}

// report logs what fails newly, and what does no more.
func (s *Server) report(failures []Failure) {
	before := s.Failures()
	has := func(list []Failure, f Failure) bool {
		return slices.ContainsFunc(list, func(g Failure) bool { return g.Address == f.Address && g.Err.Error() == f.Err.Error() })
	}
	for _, f := range failures {
		if !has(before, f) {
			s.options.Logger.Error("time is not served at an address", "address", f.Address, "error", f.Err)
		}
	}
	for _, f := range before {
		if !slices.ContainsFunc(failures, func(g Failure) bool { return g.Address == f.Address }) {
			s.options.Logger.Info("time is served at an address again, or should not be any more", "address", f.Address)
		}
	}
	s.failures.Store(&failures)
}
