package api

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"shekara/journal"
)

const (
	eventsPerRead   = 500
	streamWriteTime = 10 * time.Second // a reader that takes nothing for so long is let go
	streamHeartbeat = 15 * time.Second // an empty line, so that both ends notice a dead other end
)

type eventsInput struct {
	After uint64 `query:"after" doc:"only those with a greater sequence"`
	Limit int    `query:"limit" minimum:"1" maximum:"10000" default:"1000"`
	EventFilter
}

type eventsOutput struct {
	Body Events
}

type followInput struct {
	After int64 `query:"after" default:"-1" doc:"begin after this sequence; -1: with what comes next; -N-1: look at the newest N first"`
	EventFilter
}

type recordInput struct {
	Sequence uint64 `path:"sequence"`
}

type proofOutput struct {
	Body journal.Proof
}

type rotateKeyInput struct {
	Body RotateKey
}

type journalKeyOutput struct {
	Body JournalKey
}

type headOutput struct {
	Body JournalHead
}

func (s *Server) registerEvents() {
	register(s, Looks, get("list-events", "/events", "Events", "The journal, oldest first"), s.listEvents)
	register(s, Looks, get("show-journal-head", "/journal", "Events", "The journal's key and newest signed checkpoint"), s.journalHead)
	register(s, Acts, post("rotate-journal-key", "/journal/key", "Events", "Have the journal go on with a new signing key"), s.rotateJournalKey)
	register(s, Looks, get("show-journal-stats", "/journal/stats", "Events", "What the journal takes on its disk, and how long that can go on"), s.journalStats)
	register(s, Looks, textual(get("export-partition", "/journal/partition", "Events", "The records of one tunnel or legal entity, and the proof of the last"), lines), s.exportPartition)
	register(s, Looks, get("prove-event", "/events/{sequence}/proof", "Events", "That a record is among those of a signed checkpoint"), s.proveEvent)
	register(s, Looks, textual(get("follow-events", "/events/stream", "Events", "The journal as it grows, one JSON object a line"), lines), s.followEvents)
	register(s, Looks, textual(get("follow-changes", "/changes", "Events", "Tunnels and status whenever they change, one JSON object a line"), lines), s.followChanges)
}

const lines = "application/x-ndjson"

func (s *Server) listEvents(ctx context.Context, in *eventsInput) (*eventsOutput, error) {
	filter, err := in.filter()
	if err != nil {
		return nil, err
	}
	events, looked, err := s.config.Journal.Query(ctx, in.After, in.Limit, filter)
	s.recordLook(ctx, "list-events")
	return &eventsOutput{Body: Events{Events: listed(events), Next: looked}}, err
}

// filter is what was asked for, or a Problem.
func (f EventFilter) filter() (journal.Filter, error) {
	out := journal.Filter{Object: f.Object, Organisation: f.Organisation, System: f.System, Text: f.Text, Since: f.Since, Until: f.Until, WithoutCheckpoints: !f.Checkpoints}
	for _, t := range f.Types {
		out.Types = append(out.Types, journal.Type(t))
		if t == string(journal.JournalCheckpoint) {
			out.WithoutCheckpoints = false
		}
	}
	for _, severity := range f.Severities {
		out.Severities = append(out.Severities, journal.Severity(severity))
	}
	bad := func(err error) error {
		return &Problem{Type: typeRequest, Title: "Bad question", Status: http.StatusUnprocessableEntity, Detail: err.Error(), Hint: "docs/events.md has the types; severities are alert, error, warning, notice and info"}
	}
	if f.Day != "" {
		begins, ends, err := journal.Day(f.Day)
		if err != nil {
			return journal.Filter{}, bad(err)
		}
		if out.Since.Before(begins) {
			out.Since = begins
		}
		if out.Until.IsZero() || out.Until.After(ends) {
			out.Until = ends
		}
	}
	if err := out.Check(); err != nil {
		return journal.Filter{}, bad(err)
	}
	return out, nil
}

func (s *Server) journalHead(context.Context, *struct{}) (*headOutput, error) {
	return &headOutput{JournalHead{Key: s.config.Journal.PublicKey(), Checkpoint: s.config.Journal.Settle(), Last: s.config.Journal.Last()}}, nil
}

// rotateJournalKey ends also where who asked has gone: half a change of the key helps nobody.
func (s *Server) rotateJournalKey(ctx context.Context, in *rotateKeyInput) (*journalKeyOutput, error) {
	public, err := s.config.Journal.RotateKey(context.WithoutCancel(ctx), in.Body.Lost, callerOf(ctx).actor)
	return &journalKeyOutput{JournalKey{public}}, err
}

func (s *Server) proveEvent(ctx context.Context, in *recordInput) (*proofOutput, error) {
	p, err := s.config.Journal.Prove(ctx, in.Sequence)
	s.recordLook(ctx, "prove-event")
	return &proofOutput{p}, err
}

func (s *Server) followEvents(ctx context.Context, in *followInput) (*huma.StreamResponse, error) {
	filter, err := in.filter()
	if err != nil {
		return nil, err
	}
	after := uint64(max(in.After, 0))
	if in.After < 0 {
		newest, back := s.config.Journal.Last(), uint64(-(in.After + 1))
		after = newest - min(newest, back)
	}
	s.recordLook(ctx, "follow-events")
	return s.stream(func(ctx context.Context, send func(any) error) error {
		return s.eachBatch(ctx, after, filter, send, func(events []journal.Event) error {
			for _, e := range events {
				if err := send(e); err != nil {
					return err
				}
			}
			return nil
		})
	}), nil
}

// followChanges sends the status first, then what each event touched. Whatever changes is an event, so nothing is missed; what
// several events touched while the reader was slow is sent once, as it is by then.
func (s *Server) followChanges(_ context.Context, _ *struct{}) (*huma.StreamResponse, error) {
	after := s.config.Journal.Last()
	return s.stream(func(ctx context.Context, send func(any) error) error {
		if err := s.sendStatus(ctx, send); err != nil {
			return err
		}
		return s.eachBatch(ctx, after, journal.Filter{WithoutCheckpoints: true}, send, func(events []journal.Event) error {
			touched, status := touchedBy(events)
			for _, name := range touched {
				if err := s.sendTunnel(ctx, name, send); err != nil {
					return err
				}
			}
			if !status {
				return nil
			}
			return s.sendStatus(ctx, send)
		})
	}), nil
}

// touchedBy is which tunnels the events speak of, each once, and whether any of them changes what Status says.
func touchedBy(events []journal.Event) (names []string, status bool) {
	for _, e := range events {
		if name, ok := strings.CutPrefix(e.Object, "tunnel/"); ok && !slices.Contains(names, name) {
			names = append(names, name)
		}
		status = status || e.Type != journal.AccessRefuse
	}
	return names, status
}

func (s *Server) sendStatus(ctx context.Context, send func(any) error) error {
	status, err := s.config.glance(ctx)
	if err != nil {
		return err
	}
	return send(Update{Status: &status})
}

func (s *Server) sendTunnel(ctx context.Context, name string, send func(any) error) error {
	tunnel, err := s.config.Engine.Tunnel(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return send(Update{Gone: name})
	}
	if err != nil {
		return err
	}
	return send(Update{Tunnel: &tunnel})
}

// eachBatch hands on the events after a sequence that a filter chooses as they come, until the context ends or handle fails.
func (s *Server) eachBatch(ctx context.Context, after uint64, filter journal.Filter, send func(any) error, handle func([]journal.Event) error) error {
	for {
		events, looked, err := s.config.Journal.Query(ctx, after, eventsPerRead, filter)
		if err != nil {
			return err
		}
		if looked == after {
			if err := s.awaitEvent(ctx, after, send); err != nil {
				return err
			}
			continue
		}
		after = looked
		if len(events) == 0 {
			continue
		}
		if err := handle(events); err != nil {
			return err
		}
	}
}

// awaitEvent returns when there is an event above after, sending heartbeats meanwhile.
func (s *Server) awaitEvent(ctx context.Context, after uint64, send func(any) error) error {
	for {
		wait, cancel := context.WithTimeout(ctx, streamHeartbeat)
		err := s.config.Journal.Wait(wait, after)
		cancel()
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		if err := send(nil); err != nil {
			return err
		}
	}
}

// stream answers lines until the caller hangs up, stops reading or the server is stopped.
func (s *Server) stream(produce func(ctx context.Context, send func(any) error) error) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		r, w := humago.Unwrap(hc)
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		go func() {
			select {
			case <-s.closing:
				cancel()
			case <-ctx.Done():
			}
		}()
		control := http.NewResponseController(w)
		encoder := json.NewEncoder(w)
		send := func(v any) error {
			if err := control.SetWriteDeadline(time.Now().Add(streamWriteTime)); err != nil {
				return err
			}
			if v == nil {
				if _, err := w.Write([]byte("\n")); err != nil {
					return err
				}
			} else if err := encoder.Encode(v); err != nil {
				return err
			}
			return control.Flush()
		}
		w.Header().Set("Content-Type", lines)
		w.WriteHeader(http.StatusOK)
		if err := control.Flush(); err != nil {
			return
		}
		if err := produce(ctx, send); err != nil && ctx.Err() == nil {
			s.config.Log.Debug("stream ended", "operation", r.URL.Path, "error", err)
		}
	}}
}

// textual says in the OpenAPI document that the answer is not JSON.
func textual(op huma.Operation, contentType string) huma.Operation {
	op.Metadata = map[string]any{"contentType": contentType}
	return op
}
