package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"shekara/journal"
	"shekara/provisioning"
	"shekara/provisioning/api"
	"shekara/provisioning/api/apitest"
	"shekara/provisioning/client"
)

const actGroup, viewGroup = 500, 501

// box is a server over real unix sockets, with an engine in memory and a real journal.
type box struct {
	engine    *apitest.Memory
	journal   *journal.Journal
	server    *api.Server
	directory string
	stop      context.CancelFunc
	stopped   chan error
}

// callers are those of the table of rights.
func callers() map[string]api.Credentials {
	return map[string]api.Credentials{
		"root":    {Actor: journal.Actor{UID: 0, User: "root", PID: 1}},
		"shekara": {Actor: journal.Actor{UID: 1001, User: "anna", PID: 2}, Groups: []uint32{1001, actGroup}},
		"view":    {Actor: journal.Actor{UID: 1002, User: "viktor", PID: 3}, Groups: []uint32{viewGroup}},
		"nobody":  {Actor: journal.Actor{UID: 65534, User: "nobody", PID: 4}, Groups: []uint32{65534}},
	}
}

func start(t *testing.T, identify api.Identify) *box {
	t.Helper()
	// Not t.TempDir: a unix socket's path holds 107 bytes, and test names are long.
	directory, err := os.MkdirTemp("", "sk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(directory) })
	events, err := journal.Open(filepath.Join(directory, "journal"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { events.Close() })
	act, view := uint32(actGroup), uint32(viewGroup)
	b := &box{engine: apitest.NewMemory(), journal: events, directory: directory, stopped: make(chan error, 1)}
	metrics := api.NewMetrics("test")
	b.server = api.New(api.Config{Site: "owner", Engine: b.engine, Journal: events, Recorder: metrics.Recorder(&declared{Recorder: events, t: t}), Metrics: metrics, Identify: identify, ExportDir: filepath.Join(directory, "export"),
		Groups: api.Groups{Act: &act, View: &view}, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Version: "test"})
	doors := []api.Door{{Listener: listen(t, filepath.Join(directory, client.ActSocket)), Most: api.Acts},
		{Listener: listen(t, filepath.Join(directory, client.ViewSocket)), Most: api.Looks}}
	ctx, cancel := context.WithCancel(context.Background())
	b.stop = cancel
	go func() { b.stopped <- b.server.Run(ctx, doors...) }()
	t.Cleanup(cancel)
	return b
}

// declared passes on the events that the server makes. Each has to be as the catalogue says.
type declared struct {
	provisioning.Recorder
	t *testing.T
}

func (d *declared) Post(e journal.Event) <-chan error {
	if is := journal.Undeclared(e); len(is) > 0 {
		d.t.Errorf("the catalogue does not declare %q: %+v", is, e)
	}
	return d.Recorder.Post(e)
}

func listen(t *testing.T, path string) net.Listener {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func as(name string) api.Identify {
	return func(net.Conn) (api.Credentials, error) { return callers()[name], nil }
}

// through is an HTTP client that uses one of the sockets.
func (b *box) through(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(b.directory, socket))
	}}}
}

func (b *box) send(t *testing.T, socket, method, path, body string, header ...string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequest(method, "http://box"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	answer, err := b.through(socket).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.Header.Get("Content-Type") == "application/x-ndjson" {
		return answer, "" // it does not end by itself
	}
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, string(text)
}

const documents = `{"files":[{"name":"a.yaml","content":"one\n"}]}`

func TestBriefAnswersCountWhatTheyLeaveOut(t *testing.T) {
	b := start(t, as("shekara"))
	c := client.New(b.directory)
	many := api.Documents{}
	for i := range 40 {
		many.Files = append(many.Files, api.File{Name: fmt.Sprintf("%d.yaml", i), Content: "one\n"})
	}
	whole, err := c.Plan(t.Context(), many)
	if err != nil || len(whole.Changes) != 40 || whole.Omitted != nil {
		t.Fatalf("Plan has %d changes, omitted %+v, %v", len(whole.Changes), whole.Omitted, err)
	}
	planned, planErr := c.Briefly().Plan(t.Context(), many)
	applied, applyErr := c.Briefly().Apply(t.Context(), many, whole.Base)
	if err := errors.Join(planErr, applyErr); err != nil {
		t.Fatal(err)
	}
	for what, plan := range map[string]provisioning.Plan{"Plan": planned, "Apply": applied.Plan} {
		left := 0
		for _, o := range plan.Omitted {
			left += o.Count
		}
		if left == 0 || len(plan.Changes)+left != 40 {
			t.Errorf("%s: %d changes, omitted %+v", what, len(plan.Changes), plan.Omitted)
		}
	}
}

func TestApplyConfirmRollBack(t *testing.T) {
	b := start(t, as("shekara"))
	c := client.New(b.directory)
	ctx := t.Context()
	one := api.Documents{Files: []api.File{{Name: "a.yaml", Content: "one\n"}}, Message: "first"}
	plan, err := c.Plan(ctx, one)
	if err != nil || plan.Empty() || len(plan.Changes) != 1 || plan.Changes[0].Verb != "add" {
		t.Fatalf("Plan = %+v, %v", plan, err)
	}
	if r, err := c.Apply(ctx, one, plan.Base); err != nil || r.Revision != 1 {
		t.Fatalf("Apply = %+v, %v", r, err)
	}
	two := api.Documents{Files: []api.File{{Name: "a.yaml", Content: "two\n"}}, ConfirmWithin: "5m"}
	result, err := c.Apply(ctx, two, 1)
	if err != nil || result.ConfirmBy == nil || time.Until(*result.ConfirmBy) > 5*time.Minute {
		t.Fatalf("Apply with a window = %+v, %v", result, err)
	}
	_, err = c.Apply(ctx, one, 0)
	expectProblem(t, err, http.StatusConflict, "urn:shekara:problem:confirmation-pending")
	if _, err := c.Confirm(ctx); err != nil {
		t.Fatal(err)
	}
	_, err = c.Confirm(ctx)
	expectProblem(t, err, http.StatusConflict, "urn:shekara:problem:nothing-to-confirm")
	if r, err := c.Rollback(ctx, 1); err != nil || r.Revision != 3 {
		t.Fatalf("Rollback = %+v, %v", r, err)
	}
	text, err := c.Documents(ctx, 0)
	if err != nil || string(text) != "one\n" {
		t.Errorf("Documents = %q, %v", text, err)
	}
	comparison, err := c.Compare(ctx, 2, 0)
	if err != nil || comparison.To != 3 || len(comparison.Changes) != 1 || comparison.Changes[0].After != "one\n" {
		t.Errorf("Compare = %+v, %v", comparison, err)
	}
	history, err := c.History(ctx)
	if err != nil || len(history) != 3 || history[2].Actor.User != "anna" || history[2].Message != "first" {
		t.Errorf("History = %+v, %v", history, err)
	}
}

func expectProblem(t *testing.T, err error, status int, kind string) *api.Problem {
	t.Helper()
	var e *client.Error
	if !errors.As(err, &e) || e.Problem == nil {
		t.Fatalf("error is %v, want a problem %d %s", err, status, kind)
	}
	if e.Problem.Status != status || e.Problem.Type != kind || e.Problem.Detail == "" || !strings.HasPrefix(e.Problem.Instance, "urn:shekara:request:") {
		t.Errorf("problem is %+v, want %d %s with a detail and an instance", e.Problem, status, kind)
	}
	return e.Problem
}

// TestOneOfManyAppliersWins: of those who planned from the same revision one is served, also where there was none yet.
func TestOneOfManyAppliersWins(t *testing.T) {
	b := start(t, as("root"))
	c := client.New(b.directory)
	for base := range 3 {
		const appliers = 8
		errs := make([]error, appliers)
		var all sync.WaitGroup
		for i := range appliers {
			all.Go(func() {
				_, errs[i] = c.Apply(t.Context(), api.Documents{Files: []api.File{{Name: "a.yaml", Content: strings.Repeat("x", base*appliers+i+1)}}}, base)
			})
		}
		all.Wait()
		won := 0
		for _, err := range errs {
			if err == nil {
				won++
				continue
			}
			p := expectProblem(t, err, http.StatusPreconditionFailed, "urn:shekara:problem:stale-revision")
			if p.NewestRevision != base+1 || p.NewestUser != "root" || p.Hint == "" {
				t.Errorf("conflict is %+v, want the newest revision %d by root and a hint", p, base+1)
			}
		}
		if won != 1 {
			t.Errorf("%d of %d appliers from revision %d won, want 1", won, appliers, base)
		}
	}
}

func TestInvalidDocumentsCarryEveryProblem(t *testing.T) {
	b := start(t, as("root"))
	_, err := client.New(b.directory).Plan(t.Context(), api.Documents{Files: []api.File{{Name: "a.yaml", Content: "  bad"}, {Name: "b.yaml", Content: "bad"}}})
	p := expectProblem(t, err, http.StatusUnprocessableEntity, "urn:shekara:problem:invalid-documents")
	if len(p.Problems) != 2 || p.Problems[0].String() != `a.yaml:1:3: bad word: "bad": write good` {
		t.Errorf("problems are %v", p.Problems)
	}
}

// rights says what each operation needs. An operation that is not here, or no longer there, fails the test.
func rights() map[string]struct {
	needs api.Role
	body  string
} {
	type right = struct {
		needs api.Role
		body  string
	}
	return map[string]right{
		"POST /api/v1/plans":                    {api.Looks, documents},
		"POST /api/v1/explanations":             {api.Looks, `{"question":{"source":"10.64.1.5","destination":"10.20.0.10"}}`},
		"POST /api/v1/matrices":                 {api.Looks, `{}`},
		"POST /api/v1/verifications":            {api.Looks, ""},
		"POST /api/v1/applies":                  {api.Acts, documents},
		"POST /api/v1/confirmations":            {api.Acts, ""},
		"POST /api/v1/rollbacks":                {api.Acts, `{}`},
		"POST /api/v1/holds":                    {api.Acts, `{"for":"1m"}`},
		"DELETE /api/v1/holds":                  {api.Acts, ""},
		"GET /api/v1/revisions":                 {api.Looks, ""},
		"GET /api/v1/revisions/{id}":            {api.Looks, ""},
		"GET /api/v1/revisions/{id}/comparison": {api.Looks, ""},
		"GET /api/v1/documents":                 {api.Looks, ""},
		"GET /api/v1/status":                    {api.Looks, ""},
		"GET /api/v1/tunnels":                   {api.Looks, ""},
		"GET /api/v1/tunnels/{name}":            {api.Looks, ""},
		"GET /api/v1/flows":                     {api.Looks, ""},
		"GET /api/v1/peers/export":              {api.Looks, ""},
		"GET /api/v1/secrets":                   {api.Acts, ""},
		"POST /api/v1/secrets":                  {api.Acts, `{"name":"x"}`},
		"PUT /api/v1/secrets/{name}":            {api.Acts, `{"value":"x"}`},
		"POST /api/v1/secrets/{name}/exports":   {api.Acts, `{"recipient":"age1x"}`},
		"GET /api/v1/events":                    {api.Looks, ""},
		"GET /api/v1/events/stream":             {api.Looks, ""},
		"GET /api/v1/events/{sequence}/proof":   {api.Looks, ""},
		"GET /api/v1/journal":                   {api.Looks, ""},
		"GET /api/v1/journal/stats":             {api.Looks, ""},
		"GET /api/v1/journal/partition":         {api.Looks, ""},
		"GET /api/v1/journal/lines":             {api.Looks, ""},
		"GET /api/v1/sinks":                     {api.Looks, ""},
		"GET /api/v1/incidents":                 {api.Looks, ""},
		"GET /api/v1/time":                      {api.Looks, ""},
		"GET /api/v1/time/clients":              {api.Looks, ""},
		"GET /api/v1/time/service":              {api.Looks, ""},
		"GET /api/v1/changes":                   {api.Looks, ""},
		"GET /api/v1/health/live":               {api.Looks, ""},
		"GET /api/v1/health/ready":              {api.Looks, ""},
		"GET /api/v1/metrics":                   {api.Looks, ""},
		"POST /api/v1/journal/key":              {api.Acts, `{}`},
		"GET /openapi.json":                     {api.Looks, ""},
		"GET /api/v1/nothing-such":              {api.Looks, ""},
	}
}

func TestRights(t *testing.T) {
	has := map[string]api.Role{"root": api.Acts, "shekara": api.Acts, "view": api.Looks, "nobody": api.Nobody}
	for caller, role := range has {
		b := start(t, as(caller))
		for socket, most := range map[string]api.Role{client.ActSocket: api.Acts, client.ViewSocket: api.Looks} {
			for operation, right := range rights() {
				method, path, _ := strings.Cut(operation, " ")
				path = strings.NewReplacer("{id}", "1", "{name}", "agency-a").Replace(path)
				answer, text := b.send(t, socket, method, path, right.body)
				refused := answer.StatusCode == http.StatusForbidden
				if want := min(role, most) < right.needs; refused != want {
					t.Errorf("%s through %s: %s answered %d, want refused %v\n%s", caller, socket, operation, answer.StatusCode, want, text)
				}
				if refused && (!strings.Contains(text, `"hint"`) || answer.Header.Get("Content-Type") != "application/problem+json") {
					t.Errorf("%s: refusal of %s is %s %s", caller, operation, answer.Header.Get("Content-Type"), text)
				}
			}
		}
		if caller == "nobody" {
			expectRefusals(t, b)
		}
	}
}

// expectRefusals: ten refusals a minute of one user are on record, the others wait to be counted.
func expectRefusals(t *testing.T, b *box) {
	t.Helper()
	limited, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := b.journal.Wait(limited, 9); err != nil {
		t.Fatal(err)
	}
	events, err := b.journal.Read(t.Context(), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	if len(events) != 10 || events[0].Type != journal.AccessRefuse || events[0].Actor.User != "nobody" || events[0].Fields["operation"] == "" {
		t.Errorf("the journal has %d events, %+v; want 10 refusals of nobody", len(events), events)
	}
}

func TestRightsCoverEveryOperation(t *testing.T) {
	b := start(t, as("root"))
	var document struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	text, err := b.server.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	known := rights()
	for path, methods := range document.Paths {
		for method := range methods {
			if _, ok := known[strings.ToUpper(method)+" "+path]; !ok {
				t.Errorf("%s %s is not in the table of rights", strings.ToUpper(method), path)
			}
			delete(known, strings.ToUpper(method)+" "+path)
		}
	}
	for operation := range known {
		if !strings.HasSuffix(operation, "/openapi.json") && !strings.HasSuffix(operation, "/nothing-such") {
			t.Errorf("%s is in the table of rights, but not in the API", operation)
		}
	}
}

func TestUnknownCallerIsRefused(t *testing.T) {
	b := start(t, func(net.Conn) (api.Credentials, error) { return api.Credentials{}, errors.New("no credentials") })
	// Zero credentials are root's number: the error must win.
	if answer, text := b.send(t, client.ActSocket, "GET", "/api/v1/status", ""); answer.StatusCode != http.StatusForbidden {
		t.Errorf("answer is %d %s, want 403", answer.StatusCode, text)
	}
}

func TestOpenAPIDocumentIsCurrent(t *testing.T) {
	b := start(t, as("root"))
	text, err := b.server.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	const path = "../../docs/openapi.json"
	if os.Getenv("SHEKARA_UPDATE") != "" {
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(kept, text) {
		t.Error("docs/openapi.json is stale: run SHEKARA_UPDATE=1 go test ./provisioning/api -run OpenAPI")
	}
	if answer, served := b.send(t, client.ViewSocket, "GET", "/openapi.json", ""); answer.StatusCode != http.StatusOK || !strings.Contains(served, `"openapi":"3.1.0"`) {
		t.Errorf("/openapi.json answers %d %.100s", answer.StatusCode, served)
	}
}

func TestBadRequestsAreProblems(t *testing.T) {
	b := start(t, as("root"))
	for _, c := range []struct {
		name, method, path, body string
		header                   []string
		status                   int
		want                     string
	}{
		{"no JSON", "POST", "/api/v1/plans", "{", nil, 400, `"status":400`},
		{"unknown field", "POST", "/api/v1/plans", `{"files":[],"wholly":true}`, nil, 422, `body.wholly`},
		{"no files", "POST", "/api/v1/plans", `{"files":[]}`, nil, 422, "there are no documents"},
		{"no duration", "POST", "/api/v1/applies", `{"files":[{"name":"a","content":"b"}],"confirmWithin":"soon"}`, nil, 422, `\"soon\" is not a duration from 1s to 24h0m0s`},
		{"too long a window", "POST", "/api/v1/applies", `{"files":[{"name":"a","content":"b"}],"confirmWithin":"25h"}`, nil, 422, "is not a duration"},
		{"no tag", "POST", "/api/v1/applies", documents, []string{"If-Match", `W/"1"`}, 422, "is not the ETag of a plan"},
		{"stale tag", "POST", "/api/v1/applies", documents, []string{"If-Match", `"7"`}, 412, "stale-revision"},
		{"no number", "GET", "/api/v1/revisions/x", "", nil, 422, "path.id"},
		{"no revision", "GET", "/api/v1/revisions/9", "", nil, 404, "revision 9"},
		{"no tunnel", "GET", "/api/v1/tunnels/zz", "", nil, 404, `tunnel \"zz\"`},
		{"no operation", "GET", "/api/v2/", "", nil, 404, "there is no operation GET /api/v2/"},
		{"no method", "PATCH", "/api/v1/status", "", nil, 404, "there is no operation PATCH"},
		{"unknown query", "GET", "/api/v1/tunnels?stat=down", "", nil, 422, "stat"},
		{"too large", "PUT", "/api/v1/secrets/x", `{"value":"` + strings.Repeat("x", 130<<10) + `"}`, nil, 413, `"status":413`},
		{"hold too long", "POST", "/api/v1/holds", `{"for":"48h"}`, nil, 422, "is not a duration"},
	} {
		answer, text := b.send(t, client.ActSocket, c.method, c.path, c.body, c.header...)
		if answer.StatusCode != c.status || !strings.Contains(text, c.want) {
			t.Errorf("%s: answer is %d %s\nwant %d with %s", c.name, answer.StatusCode, text, c.status, c.want)
		}
		if kind := answer.Header.Get("Content-Type"); kind != "application/problem+json" {
			t.Errorf("%s: content type is %q", c.name, kind)
		}
		if !strings.Contains(text, `"type":"urn:shekara:problem:`) {
			t.Errorf("%s: the problem has no type of ours: %s", c.name, text)
		}
	}
}

func TestRequestIdentity(t *testing.T) {
	b := start(t, as("root"))
	for given, kept := range map[string]bool{"ticket-12345": true, "short": false, strings.Repeat("x", 65): false, "with spaces in": false} {
		answer, _ := b.send(t, client.ActSocket, "GET", "/api/v1/status", "", api.RequestHeader, given)
		got := answer.Header.Get(api.RequestHeader)
		if (got == given) != kept || got == "" {
			t.Errorf("id %q became %q, want it kept: %v", given, got, kept)
		}
	}
}

func TestStreams(t *testing.T) {
	b := start(t, as("view"))
	c := client.New(b.directory)
	happen := func(kind journal.Type, object string) {
		if _, err := b.journal.Append(context.Background(), journal.Event{Type: kind, Severity: journal.Info, Object: object, Message: "m"}); err != nil {
			t.Error(err)
		}
	}
	var happening sync.WaitGroup
	defer happening.Wait()
	later := func(kind journal.Type, object string) { happening.Go(func() { happen(kind, object) }) }
	for range 3 {
		happen(journal.PlanMake, "")
	}
	enough := errors.New("enough")
	var sequences []uint64
	err := c.FollowEvents(t.Context(), -3, api.EventFilter{}, func(e journal.Event) error { // the newest two, then what comes
		sequences = append(sequences, e.Sequence)
		switch e.Sequence {
		case 3:
			later(journal.TunnelState, "tunnel/agency-a")
		case 4:
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || len(sequences) != 3 || sequences[0] != 2 {
		t.Errorf("followed %v, %v; want 2, 3, 4", sequences, err)
	}
	var tunnel, gone string
	err = c.FollowChanges(t.Context(), func(u api.Update) error {
		switch {
		case u.Status != nil && tunnel == "":
			later(journal.TunnelState, "tunnel/agency-a")
		case u.Tunnel != nil:
			tunnel = u.Tunnel.Name
			later(journal.TunnelState, "tunnel/no-more")
		case u.Gone != "":
			gone = u.Gone
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || tunnel != "agency-a" || gone != "no-more" {
		t.Errorf("changes ended with %v after tunnel %q and gone %q", err, tunnel, gone)
	}
}

func TestStopEndsStreamsAndFinishesChanges(t *testing.T) {
	b := start(t, as("root"))
	c := client.New(b.directory)
	following, streamed := make(chan struct{}), make(chan error, 1)
	go func() {
		streamed <- c.FollowChanges(context.Background(), func(api.Update) error { close(following); return nil })
	}()
	<-following
	b.engine.Block, b.engine.Entered = make(chan struct{}), make(chan struct{})
	applied := make(chan error, 1)
	go func() {
		_, err := c.Apply(context.Background(), api.Documents{Files: []api.File{{Name: "a", Content: "b"}}}, 0)
		applied <- err
	}()
	<-b.engine.Entered
	b.stop()
	if err := <-streamed; err == nil {
		t.Error("the stream ended without an error: a follower would think there is nothing more")
	}
	select {
	case err := <-b.stopped:
		t.Fatalf("Run returned %v while a change was under way", err)
	default:
	}
	close(b.engine.Block)
	if err := <-applied; err != nil {
		t.Errorf("the change under way at shutdown answered %v", err)
	}
	if err := <-b.stopped; err != nil {
		t.Errorf("Run = %v", err)
	}
	if _, err := c.Status(t.Context()); err == nil {
		t.Error("a stopped server still answers")
	}
}

func TestCallerWhoHangsUpDoesNotUndoTheApply(t *testing.T) {
	b := start(t, as("root"))
	c := client.New(b.directory)
	b.engine.Block, b.engine.Entered = make(chan struct{}), make(chan struct{})
	ctx, hangUp := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, err := c.Apply(ctx, api.Documents{Files: []api.File{{Name: "a", Content: "b"}}}, 0); err == nil {
			t.Error("the caller hung up, but has an answer")
		}
	}()
	<-b.engine.Entered
	hangUp()
	<-done
	close(b.engine.Block)
	b.stop() // waits for the change
	if err := <-b.stopped; err != nil {
		t.Fatal(err)
	}
	if revisions, _ := b.engine.History(context.Background()); len(revisions) != 1 {
		t.Errorf("%d revisions, want 1", len(revisions))
	}
}
