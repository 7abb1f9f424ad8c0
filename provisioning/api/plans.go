package api

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"shekara/journal"
	"shekara/provisioning"
)

type planInput struct {
	Brief bool `query:"brief" doc:"cut long lists of documents and steps to the first of each group; omitted counts the rest"`
	Body  Documents
}

type planOutput struct {
	ETag string `header:"ETag" doc:"the plan's base revision: give it as If-Match to apply"`
	Body provisioning.Plan
}

type applyInput struct {
	Brief   bool   `query:"brief" doc:"as of plan"`
	IfMatch string `header:"If-Match" maxLength:"32" doc:"the revision that the plan was made from, as its ETag says (\"0\": there was none); absent or *: whichever is newest"`
	Body    Documents
}

type confirmInput struct{}

type returnInput struct {
	Body Return
}

type resultOutput struct {
	ETag string `header:"ETag" doc:"the revision now in force"`
	Body provisioning.Result
}

type holdInput struct {
	Body HoldRequest
}

type holdOutput struct {
	Body Hold
}

func (s *Server) registerPlans() {
	register(s, Looks, large(post("plan", "/plans", "Plans", "Say what would change; nothing does")), s.plan)
	register(s, Acts, large(post("apply", "/applies", "Plans", "Make documents real")), s.apply)
	register(s, Acts, post("confirm", "/confirmations", "Plans", "Keep the revision that waits for it"), s.confirm)
	register(s, Acts, post("rollback", "/rollbacks", "Plans", "Go back to an earlier revision"), s.rollback)
	register(s, Acts, post("hold", "/holds", "Plans", "Report drift but leave it, for a while"), s.hold)
	register(s, Acts, remove("end-hold", "/holds", "Plans", "Repair drift again"), s.endHold)
}

func (s *Server) plan(ctx context.Context, in *planInput) (*planOutput, error) {
	request, err := s.request(ctx, in.Body, "")
	if err != nil {
		return nil, err
	}
	plan, err := s.config.Engine.Plan(ctx, request)
	if err != nil {
		return nil, err
	}
	s.recordWithin(&s.plans, journal.Event{Type: journal.PlanMake, Severity: journal.Info, Actor: request.Actor, Object: "plan/" + plan.ID,
		Message: fmt.Sprintf("%d documents would change, in %d steps", len(plan.Changes), len(plan.Steps)), Fields: map[string]string{"base": strconv.Itoa(plan.Base)}})
	if in.Brief {
		plan = plan.Brief()
	}
	return &planOutput{ETag: etag(plan.Base), Body: whole(plan)}, nil
}

// Changes go on when the caller hangs up: half an apply helps nobody. The engine answers for how long they may take.
func (s *Server) apply(ctx context.Context, in *applyInput) (*resultOutput, error) {
	request, err := s.request(ctx, in.Body, in.IfMatch)
	if err != nil {
		return nil, err
	}
	result, err := s.config.Engine.Apply(context.WithoutCancel(ctx), request)
	if in.Brief {
		result.Plan = result.Plan.Brief()
	}
	return answer(result, err)
}

func (s *Server) confirm(ctx context.Context, _ *confirmInput) (*resultOutput, error) {
	return answer(s.config.Engine.Confirm(context.WithoutCancel(ctx), callerOf(ctx).actor))
}

func (s *Server) rollback(ctx context.Context, in *returnInput) (*resultOutput, error) {
	return answer(s.config.Engine.Rollback(context.WithoutCancel(ctx), in.Body.Revision, callerOf(ctx).actor))
}

func (s *Server) hold(ctx context.Context, in *holdInput) (*holdOutput, error) {
	length, err := duration("body.for", in.Body.For, time.Second, 24*time.Hour)
	if err != nil {
		return nil, err
	}
	until, err := s.config.Engine.Hold(context.WithoutCancel(ctx), length, callerOf(ctx).actor)
	return &holdOutput{Body: Hold{Until: until}}, err
}

func (s *Server) endHold(ctx context.Context, _ *struct{}) (*struct{}, error) {
	_, err := s.config.Engine.Hold(context.WithoutCancel(ctx), 0, callerOf(ctx).actor)
	return nil, err
}

func answer(result provisioning.Result, err error) (*resultOutput, error) {
	if err != nil {
		return nil, err
	}
	result.Plan = whole(result.Plan)
	return &resultOutput{ETag: etag(result.Revision), Body: result}, nil
}

// whole is a plan with lists that are empty rather than null.
func whole(p provisioning.Plan) provisioning.Plan {
	p.Changes, p.Steps = listed(p.Changes), listed(p.Steps)
	return p
}

// request is documents for the box that this is. A box that does not know which Site it is would make nothing of them, silently.
func (s *Server) request(ctx context.Context, d Documents, match string) (provisioning.Request, error) {
	r, err := requestOf(ctx, d, match)
	if err == nil && s.config.Site == "" {
		err = &Problem{Type: typeSiteless, Title: "No site", Status: http.StatusConflict, Detail: "this box does not know which Site it is",
			Hint: "write the name of its Site document into /etc/shekara/site (shekara init does), then systemctl restart shekarad"}
	}
	return r, err
}

func requestOf(ctx context.Context, d Documents, match string) (provisioning.Request, error) {
	r := provisioning.Request{Files: documentFiles(d.Files), Whole: d.Whole, Actor: callerOf(ctx).actor, Message: d.Message}
	if len(d.Files) == 0 && !d.Whole {
		return r, badRequest("body.files", "there are no documents", "give at least one file; whole: true with no files removes everything")
	}
	if d.ConfirmWithin != "" {
		within, err := duration("body.confirmWithin", d.ConfirmWithin, time.Second, 24*time.Hour)
		if err != nil {
			return r, err
		}
		r.ConfirmWithin = within
	}
	base, err := revisionOf(match)
	r.Base = base
	return r, err
}

func duration(field, text string, least, most time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d < least || d > most {
		return 0, badRequest(field, fmt.Sprintf("%q is not a duration from %s to %s", text, least, most), "write it as 90s, 5m or 1h30m")
	}
	return d, nil
}

func badRequest(field, detail, hint string) *Problem {
	return &Problem{Type: typeRequest, Title: "Bad request", Status: http.StatusUnprocessableEntity, Detail: detail, Hint: hint,
		Fields: []FieldProblem{{Location: field, Message: detail}}}
}

func etag(revision int) string { return `"` + strconv.Itoa(revision) + `"` }

var entityTag = regexp.MustCompile(`^"([0-9]{1,9})"$`)

// revisionOf reads If-Match (RFC 9110, section 13.1.1): "" and * are whichever is newest; weak tags do not match. The plan of an empty
// box bears "0": it fits as long as nothing was applied.
func revisionOf(match string) (int, error) {
	if match == "" || match == "*" {
		return 0, nil
	}
	parts := entityTag.FindStringSubmatch(match)
	if parts == nil {
		return 0, badRequest("header.If-Match", fmt.Sprintf("%q is not the ETag of a plan", match), `it is a revision in double quotes: "12"`)
	}
	revision, err := strconv.Atoi(parts[1])
	if revision == 0 {
		revision = provisioning.NoRevision
	}
	return revision, err
}

const base = "/api/v1"

func operation(method, id, path, tag, summary string) huma.Operation {
	return huma.Operation{Method: method, OperationID: id, Path: base + path, Tags: []string{tag}, Summary: summary,
		MaxBodyBytes: maxSmallBytes, BodyReadTimeout: bodyTimeout}
}

func get(id, path, tag, summary string) huma.Operation {
	return operation(http.MethodGet, id, path, tag, summary)
}

func post(id, path, tag, summary string) huma.Operation {
	return operation(http.MethodPost, id, path, tag, summary)
}

func put(id, path, tag, summary string) huma.Operation {
	return operation(http.MethodPut, id, path, tag, summary)
}

func remove(id, path, tag, summary string) huma.Operation {
	return operation(http.MethodDelete, id, path, tag, summary)
}

func large(op huma.Operation) huma.Operation {
	op.MaxBodyBytes = maxBodyBytes
	return op
}

// register adds an operation with the role that it needs; errors of the handler become problems.
func register[In, Out any](s *Server, needs Role, op huma.Operation, handle func(context.Context, *In) (*Out, error)) {
	op.Middlewares = huma.Middlewares{s.require(needs), s.queueLarge}
	op.Description = "Needs a caller that " + needs.String() + "."
	op.Responses = map[string]*huma.Response{"default": {
		Description: "Problem",
		Content: map[string]*huma.MediaType{"application/problem+json": {
			Schema: s.api.OpenAPI().Components.Schemas.Schema(problemType, true, "Problem"),
		}},
	}}
	if contentType, ok := op.Metadata["contentType"].(string); ok {
		op.Responses["200"] = &huma.Response{Description: "OK", Content: map[string]*huma.MediaType{contentType: {Schema: &huma.Schema{Type: "string"}}}}
	}
	huma.Register(s.api, op, func(ctx context.Context, in *In) (*Out, error) {
		out, err := handle(ctx, in)
		if err != nil {
			return nil, problemOf(err)
		}
		return out, nil
	})
}
