package api

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"shekara/journal"
	"shekara/provisioning"
	"shekara/provisioning/document"
)

// Problem types, for programs; people read the detail.
const (
	typeForbidden  = "urn:shekara:problem:forbidden"
	typeNotFound   = "urn:shekara:problem:not-found"
	typeInvalid    = "urn:shekara:problem:invalid-documents"
	typeStale      = "urn:shekara:problem:stale-revision"
	typePending    = "urn:shekara:problem:confirmation-pending"
	typeNotPending = "urn:shekara:problem:nothing-to-confirm"
	typeRequest    = "urn:shekara:problem:bad-request"
	typeSiteless   = "urn:shekara:problem:no-site"
	typeJournal    = "urn:shekara:problem:another-journal"
	typeInternal   = "urn:shekara:problem:internal"
	typeStopping   = "urn:shekara:problem:stopping"
)

// Problem is RFC 9457 with a next step.
type Problem struct {
	Type           string             `json:"type" doc:"URN of the kind of problem"`
	Title          string             `json:"title" doc:"the kind of problem in words"`
	Status         int                `json:"status" doc:"HTTP status"`
	Detail         string             `json:"detail" doc:"this occurrence: the thing and the cause"`
	Instance       string             `json:"instance,omitempty" doc:"urn:shekara:request: and the correlation id, which the daemon's log bears too"`
	Hint           string             `json:"hint,omitempty" doc:"the next step"`
	Problems       []document.Problem `json:"problems,omitempty" doc:"everything wrong with the documents"`
	NewestRevision int                `json:"newestRevision,omitempty" doc:"with a conflict: the revision to plan from"`
	NewestUser     string             `json:"newestUser,omitempty" doc:"with a conflict: who made it"`
	Fields         []FieldProblem     `json:"fields,omitempty" doc:"what is wrong with the request itself"`
}

// FieldProblem is one thing wrong with a request.
type FieldProblem struct {
	Location string `json:"location" doc:"path.NAME, query.NAME, header.NAME or body.NAME"`
	Message  string `json:"message"`
}

// problemType is what the OpenAPI document says of every error.
var problemType = reflect.TypeFor[Problem]()

func (p *Problem) Error() string { return p.Detail }

// GetStatus lets huma answer with it.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is that of RFC 9457, section 3.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// problemOf turns an engine's error into what the caller is told. Nothing is parsed out of texts.
func problemOf(err error) *Problem {
	var (
		problem  *Problem
		invalid  *provisioning.InvalidError
		conflict *provisioning.ConflictError
		question *provisioning.QuestionError
		hinted   interface{ Hint() string }
	)
	p := &Problem{Detail: err.Error()}
	if errors.As(err, &hinted) {
		p.Hint = hinted.Hint()
	}
	fill := func(kind, title string, status int, hint string) *Problem {
		p.Type, p.Title, p.Status = kind, title, status
		if p.Hint == "" {
			p.Hint = hint
		}
		return p
	}
	switch {
	case errors.As(err, &problem):
		return problem
	case errors.As(err, &invalid):
		p.Problems = invalid.Problems
		return fill(typeInvalid, "Invalid documents", http.StatusUnprocessableEntity, "correct the places named and try again; shekara validate checks without the daemon")
	case errors.As(err, &question):
		return fill(typeRequest, "Bad question", http.StatusUnprocessableEntity, "/openapi.json describes every request")
	case errors.As(err, &conflict):
		p.NewestRevision, p.NewestUser = conflict.Newest, name(conflict.Actor)
		if conflict.Pending {
			return fill(typePending, "A confirmation is pending", http.StatusConflict, "shekara confirm keeps it, shekara rollback undoes it; then try again")
		}
		return fill(typeStale, "A newer revision exists", http.StatusPreconditionFailed, "look at shekara history and shekara compare, then plan again")
	case errors.Is(err, provisioning.ErrNothingToConfirm):
		return fill(typeNotPending, "Nothing waits for a confirmation", http.StatusConflict, "")
	case errors.Is(err, journal.ErrKeyHere):
		return fill(typeRequest, "The key is there", http.StatusConflict, "")
	case errors.Is(err, fs.ErrNotExist):
		p.Detail = absent(p.Detail)
		return fill(typeNotFound, "Not found", http.StatusNotFound, "shekara history, shekara tunnel list and shekara secret list show what there is")
	case errors.Is(err, fs.ErrExist):
		return fill(typeRequest, "Exists already", http.StatusConflict, "choose another name")
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fill(typeStopping, "Interrupted", http.StatusServiceUnavailable, "try again; if the daemon is being stopped, once it is back")
	}
	return fill(typeInternal, "The daemon could not do it", http.StatusInternalServerError, "the daemon's log (journalctl -u shekarad) and shekara journal list have the details")
}

// absent words "tunnel X: file does not exist", which is how the engine's sentinel reads, as people say it.
func absent(text string) string {
	if thing, found := strings.CutSuffix(text, ": "+fs.ErrNotExist.Error()); found {
		return "there is no " + thing
	}
	return text
}

// hintError is an error with its next step.
type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }
func (e *hintError) Hint() string  { return e.hint }

// asProblem turns what huma itself answers (a field that does not fit) into a Problem, so that callers read one shape.
func asProblem(ctx huma.Context, _ string, v any) (any, error) {
	var p *Problem
	switch v := v.(type) {
	case *Problem:
		p = v
	case *huma.ErrorModel:
		p = &Problem{Type: typeRequest, Title: http.StatusText(v.Status), Status: v.Status, Detail: v.Detail, Hint: "/openapi.json describes every request"}
		for _, e := range v.Errors {
			p.Fields = append(p.Fields, FieldProblem{Location: e.Location, Message: e.Message})
		}
		if v.Status == http.StatusRequestEntityTooLarge {
			p.Hint = "at most 64 MiB of documents in one request: split them over several files and applies"
		}
	default:
		return v, nil
	}
	return stamped(ctx.Context(), p), nil
}

func stamped(ctx context.Context, p *Problem) *Problem {
	c := *p
	if id, ok := ctx.Value(requestKey{}).(string); ok {
		c.Instance = "urn:shekara:request:" + id
	}
	return &c
}

// writeProblem answers outside huma's own path.
func (s *Server) writeProblem(ctx context.Context, w http.ResponseWriter, p *Problem) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	if err := json.NewEncoder(w).Encode(stamped(ctx, p)); err != nil {
		s.config.Log.Debug("answer lost", "error", err)
	}
}

func unwrapWriter(ctx huma.Context) http.ResponseWriter {
	_, w := humago.Unwrap(ctx)
	return w
}
