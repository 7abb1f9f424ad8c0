package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"shekara/netctl/certificate"
	"shekara/netctl/durable"
	"shekara/timesync"
	"shekara/timesync/chrony"
	"shekara/timesync/nts"
	"shekara/timesync/server"
	"shekara/timesync/source"
)

const (
	askEvery      = 5 * time.Second  // what to do; and between two tries of what fails
	againEvery    = time.Minute      // between two looks at the key file
	forgetTrouble = 15 * time.Minute // after which a trouble that is not told again is over: the clock is kept on disk every ten minutes, chronyd started again every minute
	establishment = "key establishment"
	aboutClock    = "clock"   // a trouble that nobody tells to be over
	aboutChronyd  = "chronyd" // the same
	askTime       = 5 * time.Second
	specBytes     = 8 << 20
	group         = "shekara-time" // of the files that only the process may read
)

// Options say where the process lives and whom it asks what to do.
type Options struct {
	// Ask gives what the TimeService in force asks of this box, nil where there is none.
	Ask    func(context.Context) (*timesync.Spec, error)
	Dir    string // state
	RunDir string // of the socket
	Steer  bool   // chronyd, where it is the engine, steers the host's clock (CAP_SYS_TIME); else it only says by how much it would
	Log    *slog.Logger
}

// service is the process. Who is asked for its report waits for nobody.
type service struct {
	options    Options
	began      time.Time
	keys       *nts.Keys // nil: keysFailed says why, and NTS is not served
	keysFailed error
	server     *server.Server
	spec       atomic.Pointer[timesync.Spec]
	engine     atomic.Pointer[engine]
	chronyd    chrony.Served    // by chronyd, while it was the engine
	parts      map[string]*part // of follow's goroutine
	set        time.Time        // when the server was told last; of follow's goroutine

	mu   sync.Mutex
	said map[string]said // troubles that stand, by what they are about
}

// said is a trouble, and when it was seen last.
type said struct {
	why string
	at  time.Time
}

// part is what goes on by a share of the Spec: it begins anew when that share changes, and not when something else does.
type part struct {
	by   any
	stop func()
}

// Run asks and serves until the context ends, and returns why it cannot.
func Run(ctx context.Context, o Options) error {
	if err := durable.MkdirAll(o.Dir, 0o700); err != nil {
		return err
	}
	lock, err := durable.AcquireLock(filepath.Join(o.Dir, "LOCK"))
	if err != nil {
		return fmt.Errorf("one time service runs on a box: %w", err)
	}
	defer func() { _ = lock.Release() }()
	if err := durable.RemoveTemporary(o.Dir); err != nil {
		return err
	}
	if err := os.MkdirAll(o.RunDir, 0o755); err != nil {
		return err
	}
	if err := chrony.EndOrphan(chronyFolders(o)); err != nil {
		o.Log.Warn("end the chronyd of before", "error", err)
	}
	door, err := listen(o.RunDir)
	if err != nil {
		return fmt.Errorf("open the socket for the daemon: %w", err)
	}
	s := &service{options: o, parts: map[string]*part{}, said: map[string]said{}, began: time.Now()}
	nothing := timesync.Spec{}
	s.spec.Store(&nothing)
	s.engine.Store(&engine{Engine: source.New(nothing, "", func(error) {})})     // nothing is known yet
	if s.keys, err = nts.OpenKeys(filepath.Join(o.Dir, "cookies")); err != nil { // who needs no NTS is served all the same
		s.keysFailed = err
	}
	s.server = server.New(server.Options{Standing: s.standing, NTS: s.keys, Logger: o.Log})
	running, ctx := errgroup.WithContext(ctx)
	running.Go(func() error { return serve(ctx, door, s) })
	running.Go(func() error { s.server.Run(ctx); return nil })
	if s.keys != nil {
		running.Go(func() error { s.keys.Run(ctx, func(err error) { s.trouble("keys of cookies", err) }); return nil })
	}
	running.Go(func() error { s.follow(ctx); return nil })
	return running.Wait()
}

// follow asks what to do, and does it.
func (s *service) follow(ctx context.Context) {
	defer func() {
		for _, p := range s.parts {
			p.stop()
		}
	}()
	s.adopt(ctx, s.remembered())
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		ask, cancel := context.WithTimeout(ctx, askTime)
		spec, err := s.options.Ask(ask)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil: // the daemon starts, or is being replaced: what it said last goes on
			s.options.Log.Debug("ask what to do", "error", err)
		default:
			if spec == nil {
				spec = &timesync.Spec{}
			}
			if !reflect.DeepEqual(*s.spec.Load(), *spec) {
				s.remember(*spec)
				s.adopt(ctx, *spec)
			}
		}
		if time.Since(s.set) > againEvery { // the key file may be another
			s.serve(*s.spec.Load())
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// adopt goes on by another Spec.
func (s *service) adopt(ctx context.Context, spec timesync.Spec) {
	if was := s.spec.Load(); was.Engine != spec.Engine {
		s.end("sources") // the ports that one engine holds the other cannot have
		s.trouble(aboutChronyd, nil)
	}
	s.serve(spec)
	s.spec.Store(&spec) // from here on reports are of it
	establish := establishing{addresses: spec.Addresses}
	if spec.NTS != nil && spec.Engine != timesync.EngineChrony {
		establish.nts = *spec.NTS
	}
	s.begin(ctx, establishment, establish, func() func(context.Context) error { return s.establish(establish) })
	if spec.Engine == timesync.EngineChrony {
		s.begin(ctx, "sources", spec, func() func(context.Context) error { return s.chrony(spec) })
		return
	}
	watched := spec
	watched.Clients, watched.NTS, watched.Withhold = nil, nil, false // who is served changes nothing of what is known of the clock
	s.begin(ctx, "sources", watched, func() func(context.Context) error {
		watch := source.New(watched, filepath.Join(s.options.Dir, "clock.json"), func(err error) { s.trouble(aboutClock, err) })
		s.engine.Store(&engine{Engine: watch})
		return watch.Run
	})
}

// serve tells our own server whom to serve: nobody where chronyd does.
func (s *service) serve(spec timesync.Spec) {
	if spec.Engine == timesync.EngineChrony {
		spec = timesync.Spec{}
	}
	s.trouble("serve", s.server.Set(spec))
	s.set = time.Now()
}

// establishing is what the establishment of keys goes by.
type establishing struct {
	nts       timesync.NTS
	addresses []netip.Addr
}

func (s *service) establish(e establishing) func(context.Context) error {
	if e.nts == (timesync.NTS{}) {
		return nil
	}
	establishing := &nts.Server{Addresses: e.addresses, Files: certificate.Files{Certificate: e.nts.Certificate, Key: e.nts.Key, Group: group}, Keys: s.keys, Admit: s.registered,
		Done: func(client netip.Addr, err error) {
			s.options.Log.Debug("key establishment", "client", client, "error", err)
		}, Log: s.options.Log}
	return func(ctx context.Context) error {
		return s.persist(ctx, establishment, func() error { // an address may be taken now, and free later
			if s.keys == nil {
				return s.keysFailed
			}
			return establishing.Run(ctx)
		})
	}
}

// persist does something until the context ends, and tells why it ended before.
func (s *service) persist(ctx context.Context, about string, do func() error) error {
	for {
		if err := do(); ctx.Err() == nil {
			s.trouble(about, err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(askEvery):
		}
	}
}

// begin ends a part and begins it anew, if what it goes by has changed. To run is nil where there is nothing to do.
func (s *service) begin(ctx context.Context, name string, by any, make func() (run func(context.Context) error)) {
	if was := s.parts[name]; was != nil && reflect.DeepEqual(was.by, by) {
		return
	}
	s.end(name)
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	if run := make(); run != nil {
		running.Go(func() { s.trouble(name, run(ctx)) })
	}
	s.parts[name] = &part{by, func() {
		cancel()
		running.Wait()
	}}
}

func (s *service) end(name string) {
	if was := s.parts[name]; was != nil {
		was.stop()
		s.trouble(name, nil)
		delete(s.parts, name)
	}
}

func (s *service) trouble(about string, err error) {
	if err != nil && errors.Is(err, context.Canceled) {
		err = nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		delete(s.said, about)
	default:
		if s.said[about].why != err.Error() {
			s.options.Log.Warn(about, "error", err)
		}
		s.said[about] = said{err.Error(), time.Now()}
	}
}

func (s *service) standing() timesync.Standing { return s.engine.Load().Standing() }

// Report is how it stands.
func (s *service) Report() Report {
	spec, e := s.spec.Load(), s.engine.Load()
	r := Report{Service: spec.Name, Digest: spec.Digest(), Engine: spec.Engine, Steers: e.steers, Began: s.began.UTC(), Time: time.Now().UTC(), Status: e.Status(),
		Requests: s.server.Counters(), Systems: s.server.Systems()}
	s.chronyd.AddTo(&r.Requests, &r.Systems)
	s.mu.Lock()
	defer s.mu.Unlock()
	for about, t := range s.said {
		if (about == aboutClock || about == aboutChronyd) && time.Since(t.at) > forgetTrouble {
			continue
		}
		r.Troubles = append(r.Troubles, about+": "+t.why)
	}
	for _, f := range s.server.Failures() {
		r.Troubles = append(r.Troubles, fmt.Sprintf("serve at %s: %v", f.Address, f.Err))
	}
	slices.Sort(r.Troubles)
	return r
}

// Clients are at most limit addresses after one, by address.
func (s *service) Clients(after netip.Addr, limit int) []server.Client {
	if s.spec.Load().Engine == timesync.EngineChrony {
		return page(s.chronyd.Clients(), after, limit)
	}
	return page(s.server.Clients(), after, limit)
}

func page(all []server.Client, after netip.Addr, limit int) []server.Client {
	slices.SortFunc(all, func(a, b server.Client) int { return a.Address.Compare(b.Address) })
	at, found := slices.BinarySearchFunc(all, after, func(c server.Client, a netip.Addr) int { return c.Address.Compare(a) })
	if found {
		at++
	}
	return all[at:min(at+limit, len(all))]
}

// registered says whether an address is that of a system that is served.
func (s *service) registered(a netip.Addr) bool {
	_, is := s.spec.Load().SystemOf(a)
	return is
}

func (s *service) file() string { return filepath.Join(s.options.Dir, "service.json") }

// remembered is what it was told last: at boot nobody may be there to tell.
func (s *service) remembered() (spec timesync.Spec) {
	text, err := durable.ReadFile(s.file(), specBytes)
	if err == nil {
		err = json.Unmarshal(text, &spec)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.options.Log.Warn("read what to do; the daemon is asked", "error", err)
		return timesync.Spec{}
	}
	return spec
}

func (s *service) remember(spec timesync.Spec) {
	text, err := json.Marshal(spec)
	if err == nil {
		err = durable.WriteFile(s.file(), text, os.FileMode(0o600))
	}
	if err != nil {
		s.options.Log.Warn("remember what to do; it goes on without", "error", err)
	}
}
