package api

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"regexp"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"golang.org/x/sync/errgroup"

	"shekara/firewall"
	"shekara/provisioning"
	"shekara/provisioning/document"
	"shekara/provisioning/verification"
	"shekara/timesync"
	"shekara/timesync/server"
	"shekara/timesync/service"
)

// RequestHeader carries the correlation id: taken from the caller if it is well-formed, else made here, and always answered.
const RequestHeader = "X-Request-Id"

// Bounds of what one caller can cost.
const (
	maxBodyBytes   = 64 << 20 // documents of some 60,000 tunnels
	maxSmallBytes  = 128 << 10
	maxHeaderBytes = 32 << 10
	headerTimeout  = 5 * time.Second
	bodyTimeout    = time.Minute
	writeTimeout   = 15 * time.Minute // of one answer, the work for it included: 10,000 tunnels on a slow box
	idleTimeout    = 2 * time.Minute
	drainTimeout   = 20 * time.Second // at shutdown, for changes under way; less than the unit's TimeoutStopSec
	maxConnections = 256
	maxLargeLooks  = 2 // large requests under way of callers who may only look: each may take hundreds of megabytes
)

// Config joins the server to the rest. All fields are needed but Site and ExportDir.
type Config struct {
	Site      string // name of the Site that this box is; "": not known, and so nothing can be applied
	Engine    Engine
	Identify  Identify
	Groups    Groups
	Journal   Journal
	ExportDir string // where shekarad export says how far it got
	Recorder  provisioning.Recorder
	Metrics   *Metrics
	Log       *slog.Logger
	Version   string

	times *recordTimes // New makes it; nil: nothing is remembered
}

// Server answers on the doors it is given.
type Server struct {
	config    Config
	api       huma.API
	handler   http.Handler
	refusals  budget
	plans     budget
	looks     budget
	exports   budget
	followers followers
	large     chan struct{} // holds a token for each large request of one who only looks
	closing   chan struct{} // closed when shutdown begins: streams end, new work is refused
	close     sync.Once
}

// New makes a server. It does not listen.
func New(config Config) *Server {
	config.times = &recordTimes{}
	s := &Server{config: config, large: make(chan struct{}, maxLargeLooks), closing: make(chan struct{}),
		refusals: budget{most: refusalsPerMinute}, plans: budget{most: plansPerMinute}, looks: budget{most: looksPerMinute}, exports: budget{most: exportsPerMinute}}
	mux := http.NewServeMux()
	s.api = humago.New(mux, openAPIConfig(config.Version))
	s.registerPlans()
	s.registerRevisions()
	s.registerTunnels()
	s.registerFlows()
	s.registerExplanations()
	s.registerSecrets()
	s.registerEvents()
	s.registerSinks()
	s.registerIncidents()
	s.registerTime()
	s.registerHealth()
	dropForeignErrorModel(s.api)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.writeProblem(r.Context(), w, &Problem{Type: typeNotFound, Title: "No such operation", Status: http.StatusNotFound,
			Detail: fmt.Sprintf("there is no operation %s %s", r.Method, r.URL.Path), Hint: "/openapi.json lists all of them"})
	})
	s.handler = s.outer(mux)
	return s
}

func openAPIConfig(version string) huma.Config {
	config := huma.DefaultConfig("Shekara", version)
	config.Info.Description = "The edge daemon's API, served on unix sockets only: /run/shekara/shekarad.sock acts, /run/shekara/shekarad-view.sock looks. " +
		"Who asks is the kernel's word (SO_PEERCRED); there are no tokens. Errors are application/problem+json (RFC 9457) with a hint."
	config.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	config.DocsPath = "" // the pages that huma offers load scripts from the Internet
	config.SchemasPath = ""
	config.CreateHooks = nil // no $schema field in answers
	config.Transformers = []huma.Transformer{asProblem}
	config.RejectUnknownQueryParameters = true
	return config
}

// schemaName keeps apart what two packages call the same: the problem of a document is not the problem that an answer is, and what the rules
// say of a packet is not all that is said.
func schemaName(t reflect.Type, hint string) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t {
	case reflect.TypeFor[document.Problem]():
		return "DocumentProblem"
	case reflect.TypeFor[firewall.Explanation]():
		return "Verdict"
	case reflect.TypeFor[verification.Report]():
		return "Verification"
	}
	if t.Name() != "" {
		switch t.PkgPath() {
		case reflect.TypeFor[timesync.Status]().PkgPath():
			return "Timesync" + t.Name()
		case reflect.TypeFor[server.Client]().PkgPath(), reflect.TypeFor[service.Report]().PkgPath():
			return "TimeServer" + t.Name()
		}
	}
	return huma.DefaultSchemaNamer(t, hint)
}

// Door is a listener and the most that may be done through it.
type Door struct {
	Listener net.Listener
	Most     Role
}

// Run serves until ctx ends, then in order: streams end, no new connection is taken, changes under way finish (or 20
// seconds pass), and everything is closed. It returns when all of that is done.
func (s *Server) Run(ctx context.Context, doors ...Door) error {
	group, groupCtx := errgroup.WithContext(ctx)
	for _, door := range doors {
		server := &http.Server{
			Handler: s.handler, ConnContext: s.greet(door.Most), MaxHeaderBytes: maxHeaderBytes,
			ReadHeaderTimeout: headerTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
			ErrorLog: slog.NewLogLogger(s.config.Log.Handler(), slog.LevelDebug),
		}
		group.Go(func() error {
			if err := server.Serve(bounded(door.Listener, maxConnections)); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve %s: %w", door.Listener.Addr(), err)
			}
			return nil
		})
		group.Go(func() error {
			<-groupCtx.Done()
			s.close.Do(func() { close(s.closing) })
			drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
			defer cancel()
			if err := server.Shutdown(drain); err != nil {
				_ = server.Close()
				return fmt.Errorf("end connections of %s: %w", door.Listener.Addr(), err)
			}
			return nil
		})
	}
	if s.config.Recorder != nil {
		group.Go(func() error {
			s.watchSinks(groupCtx)
			return nil
		})
	}
	err := group.Wait()
	for _, b := range []*budget{&s.refusals, &s.plans, &s.looks, &s.exports} {
		b.end()
	}
	return err
}

// OpenAPI is the document that /openapi.json serves, indented; docs/openapi.json holds it.
func (s *Server) OpenAPI() ([]byte, error) {
	text, err := json.MarshalIndent(s.api.OpenAPI(), "", "  ")
	return append(text, '\n'), err
}

type requestKey struct{}

var wellFormedRequest = regexp.MustCompile(`^[A-Za-z0-9._-]{8,64}$`)

// outer is what every request passes: its id, the least of rights, the log.
func (s *Server) outer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get(RequestHeader)
		if !wellFormedRequest.MatchString(id) {
			id = rand.Text()
		}
		w.Header().Set(RequestHeader, id)
		w.Header().Set("Cache-Control", "no-store")
		ctx := context.WithValue(r.Context(), requestKey{}, id)
		r = r.WithContext(ctx)
		what := r.Method + " " + r.URL.Path
		if p := s.refusal(ctx, Looks, what); p != nil {
			s.writeProblem(ctx, w, p)
			return
		}
		began := time.Now()
		next.ServeHTTP(w, r)
		level := slog.LevelDebug
		if r.Method != http.MethodGet {
			level = slog.LevelInfo
		}
		s.config.Log.Log(ctx, level, "request", "id", id, "operation", what, "user", name(callerOf(ctx).actor), "took", time.Since(began))
	})
}

// bounded refuses to hold more than n connections: those beyond wait in the kernel's queue.
func bounded(l net.Listener, n int) net.Listener {
	return &boundedListener{Listener: l, slots: make(chan struct{}, n), closed: make(chan struct{})}
}

type boundedListener struct {
	net.Listener
	slots  chan struct{}
	closed chan struct{}
	once   sync.Once
}

func (l *boundedListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &boundedConn{Conn: conn, slots: l.slots}, nil
}

func (l *boundedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type boundedConn struct {
	net.Conn
	slots chan struct{}
	once  sync.Once
}

func (c *boundedConn) Close() error {
	c.once.Do(func() { <-c.slots })
	return c.Conn.Close()
}

// dropForeignErrorModel takes huma's own error out of the document: asProblem never lets it out.
func dropForeignErrorModel(api huma.API) {
	schemas := api.OpenAPI().Components.Schemas.Map()
	delete(schemas, "ErrorModel")
	delete(schemas, "ErrorDetail")
}

// documentFiles are the files of a request as the engine takes them.
func documentFiles(files []File) []document.File {
	out := make([]document.File, len(files))
	for i, f := range files {
		out[i] = document.File{Name: f.Name, Data: []byte(f.Content)}
	}
	return out
}
