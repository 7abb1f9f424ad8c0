package api

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"shekara/journal"
)

// Role is what a caller may do.
type Role int

const (
	Nobody Role = iota
	Looks       // may read everything that is not secret
	Acts        // may change as well
)

func (r Role) String() string { return [...]string{"nobody", "looks", "acts"}[r] }

// Credentials are the kernel's word about the process at the other end.
type Credentials struct {
	Actor  journal.Actor
	Groups []uint32 // primary and supplementary
}

// Identify asks the kernel who is at the other end of a connection.
type Identify func(net.Conn) (Credentials, error)

// Groups are the numbers of the groups that give a role. A nil group gives it to nobody; root always acts.
type Groups struct {
	Act  *uint32 // "shekara"
	View *uint32 // "shekara-view"
}

// role is the most that the credentials allow.
func (g Groups) role(c Credentials) Role {
	switch {
	case c.Actor.UID == 0:
		return Acts
	case g.Act != nil && slices.Contains(c.Groups, *g.Act):
		return Acts
	case g.View != nil && slices.Contains(c.Groups, *g.View):
		return Looks
	}
	return Nobody
}

// caller is who asks, kept in the context of the connection.
type caller struct {
	actor journal.Actor
	role  Role
	err   error // the kernel would not say who it is
}

type callerKey struct{}

func callerOf(ctx context.Context) caller {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c
}

// greet finds out who connected, once for each connection: credentials cannot change during it.
func (s *Server) greet(most Role) func(context.Context, net.Conn) context.Context {
	return func(ctx context.Context, conn net.Conn) context.Context {
		if held, ok := conn.(*boundedConn); ok {
			conn = held.Conn
		}
		c, err := s.config.Identify(conn)
		return context.WithValue(ctx, callerKey{}, caller{actor: c.Actor, role: min(most, s.config.Groups.role(c)), err: err})
	}
}

// refusal is the problem to answer with if the caller may not do what needs the role; nil if it may.
func (s *Server) refusal(ctx context.Context, needs Role, what string) *Problem {
	c := callerOf(ctx)
	if c.err == nil && c.role >= needs {
		return nil
	}
	p := &Problem{Status: http.StatusForbidden, Title: "Not allowed", Type: typeForbidden}
	switch {
	case c.err != nil:
		p.Detail = "the kernel does not say who asks: " + c.err.Error()
		p.Hint = "connect over the unix socket from the same user and process namespace"
	case c.role == Looks:
		p.Detail = fmt.Sprintf("user %s may look, not act: %s", name(c.actor), what)
		p.Hint = "members of group shekara act, through shekarad.sock: ask the administrator to add you, then log in anew"
	default:
		p.Detail = fmt.Sprintf("user %s is neither in group shekara nor in group shekara-view: %s", name(c.actor), what)
		p.Hint = "ask the administrator to add you to group shekara (acts) or shekara-view (looks), then log in anew"
	}
	s.recordRefusal(c.actor, what)
	return p
}

func name(a journal.Actor) string {
	if a.User != "" {
		return a.User
	}
	return fmt.Sprintf("%d", a.UID)
}

// require is the middleware of one operation.
func (s *Server) require(needs Role) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		if p := s.refusal(ctx.Context(), needs, ctx.Operation().OperationID); p != nil {
			s.writeProblem(ctx.Context(), unwrapWriter(ctx), p)
			return
		}
		next(ctx)
	}
}

// queueLarge makes those who only look wait for each other before their documents are read: with all the connections that they may have they
// could fill the memory otherwise. Those who act do not wait for them.
func (s *Server) queueLarge(ctx huma.Context, next func(huma.Context)) {
	if ctx.Operation().MaxBodyBytes < maxBodyBytes || callerOf(ctx.Context()).role >= Acts {
		next(ctx)
		return
	}
	select {
	case s.large <- struct{}{}:
		defer func() { <-s.large }()
		next(ctx)
	case <-ctx.Context().Done():
	case <-s.closing:
	}
}

// Refusals, looks at the journal and exports of it are journaled, but each costs a synced write: one user may cause so many of them in a minute, and those
// beyond are counted in the next record, so that nothing is lost and nobody can wear out the disk.
const (
	refusalsPerMinute = 10
	looksPerMinute    = 1
	exportsPerMinute  = 10
	budgetUsers       = 1024
)

// budget is what each user may cause in a minute.
type budget struct {
	mu     sync.Mutex
	byUser map[uint32]*budgetWindow // guarded by mu
}

type budgetWindow struct {
	began             time.Time
	written, withheld int
}

// recordRefusal puts a refusal on record. It stands whether or not it can be recorded; a journal that cannot write raises its own alarm.
func (s *Server) recordRefusal(actor journal.Actor, what string) {
	if withheld, write := s.refusals.admit(actor.UID, refusalsPerMinute, time.Now()); write && s.config.Recorder != nil {
		s.config.Recorder.Post(journal.Event{Type: journal.AccessRefuse, Severity: journal.Warning, Actor: actor,
			Message: fmt.Sprintf("user %s was refused %s", name(actor), what), Fields: asked(what, withheld)})
	}
}

// recordLook puts on record that somebody looked at the journal.
func (s *Server) recordLook(ctx context.Context, what string) {
	actor := callerOf(ctx).actor
	if withheld, write := s.looks.admit(actor.UID, looksPerMinute, time.Now()); write && s.config.Recorder != nil {
		s.config.Recorder.Post(journal.Event{Type: journal.JournalLook, Severity: journal.Info, Actor: actor, Object: "journal",
			Message: fmt.Sprintf("user %s looked at the journal: %s", name(actor), what), Fields: asked(what, withheld)})
	}
}

func asked(what string, withheld int) map[string]string {
	fields := map[string]string{"operation": what}
	if withheld > 0 {
		fields["withheld"] = fmt.Sprint(withheld)
	}
	return fields
}

// admit says whether this one is to be written, and how many before it were not.
func (r *budget) admit(user uint32, most int, now time.Time) (withheld int, write bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byUser == nil || len(r.byUser) >= budgetUsers {
		r.byUser = map[uint32]*budgetWindow{}
	}
	w := r.byUser[user]
	if w == nil {
		w = &budgetWindow{began: now}
		r.byUser[user] = w
	}
	if now.Sub(w.began) >= time.Minute {
		w.began, w.written = now, 0
	}
	if w.written >= most {
		w.withheld++
		return 0, false
	}
	w.written++
	withheld, w.withheld = w.withheld, 0
	return withheld, true
}
