package api

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
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

// Refusals, plans, looks at the journal and exports of it are journaled, but each costs a synced write: one user may cause so many of them in a minute. Those
// beyond are counted in one more when it is over, so that nothing is lost and nobody can wear out the disk.
const (
	refusalsPerMinute = 10
	plansPerMinute    = 10
	looksPerMinute    = 1
	exportsPerMinute  = 10
	budgetUsers       = 1024
)

// budget is what each user may cause in a minute.
type budget struct {
	most   int
	mu     sync.Mutex
	byUser map[uint32]*budgetWindow // guarded by mu
}

type budgetWindow struct {
	began             time.Time
	written, withheld int
	rest              func(withheld int) // tells the last that was withheld
}

// recordRefusal puts a refusal on record. It stands whether or not it can be recorded; a journal that cannot write raises its own alarm.
func (s *Server) recordRefusal(actor journal.Actor, what string) {
	s.recordWithin(&s.refusals, journal.Event{Type: journal.AccessRefuse, Severity: journal.Warning, Actor: actor,
		Message: fmt.Sprintf("user %s was refused %s", name(actor), what), Fields: map[string]string{"operation": what}})
}

// recordLook puts on record that somebody looked at the journal.
func (s *Server) recordLook(ctx context.Context, what string) {
	actor := callerOf(ctx).actor
	s.recordWithin(&s.looks, journal.Event{Type: journal.JournalLook, Severity: journal.Info, Actor: actor, Object: "journal",
		Message: fmt.Sprintf("user %s looked at the journal: %s", name(actor), what), Fields: map[string]string{"operation": what}})
}

// recordWithin records an event of a user's within his budget.
func (s *Server) recordWithin(of *budget, e journal.Event) {
	if s.config.Recorder == nil {
		return
	}
	if of.admit(e.Actor.UID, time.Now(), func(withheld int) {
		e.Fields = maps.Clone(e.Fields)
		e.Fields["withheld"] = strconv.Itoa(withheld)
		e.Message = fmt.Sprintf("%s; the last of %d that within a minute were not told one by one", e.Message, withheld)
		s.config.Recorder.Post(e)
	}) {
		s.config.Recorder.Post(e)
	}
}

// admit says whether this one is to be written. Of those that are not, rest tells the last, and how many they are, when the minute is over.
func (b *budget) admit(user uint32, now time.Time, rest func(withheld int)) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.byUser == nil || len(b.byUser) >= budgetUsers {
		b.byUser = map[uint32]*budgetWindow{} // what was withheld is told all the same
	}
	w := b.byUser[user]
	if w == nil {
		w = &budgetWindow{began: now}
		b.byUser[user] = w
	}
	if now.Sub(w.began) >= time.Minute {
		w.began, w.written = now, 0
	}
	if w.written < b.most {
		w.written++
		return true
	}
	if w.withheld++; w.withheld == 1 {
		time.AfterFunc(w.began.Add(time.Minute).Sub(now), func() { b.tell(w) })
	}
	w.rest = rest
	return false
}

func (b *budget) tell(w *budgetWindow) {
	b.mu.Lock()
	withheld, rest := w.withheld, w.rest
	w.withheld = 0
	b.mu.Unlock()
	if withheld > 0 {
		rest(withheld)
	}
}

// end tells what was withheld in minutes that are not over.
func (b *budget) end() {
	b.mu.Lock()
	windows := slices.Collect(maps.Values(b.byUser))
	b.mu.Unlock()
	for _, w := range windows {
		b.tell(w)
	}
}
