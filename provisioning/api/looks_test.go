package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"shekara/journal"
	"shekara/provisioning"
	"shekara/provisioning/api"
	"shekara/provisioning/api/apitest"
	"shekara/provisioning/client"
	"shekara/provisioning/document"
)

func TestBoxWithoutASite(t *testing.T) {
	server := api.New(api.Config{Engine: apitest.NewMemory(), Metrics: api.NewMetrics("test"), Log: slog.New(slog.DiscardHandler)})
	for _, path := range []string{"/api/v1/plans", "/api/v1/applies"} {
		answer := server.HandleAsRoot("POST", path, documents, "")
		if text := answer.Body.String(); answer.Code != http.StatusConflict || !strings.Contains(text, "no-site") || !strings.Contains(text, "/etc/shekara/site") {
			t.Errorf("%s answered %d %s", path, answer.Code, text)
		}
	}
}

func TestHealth(t *testing.T) {
	b := start(t, as("view"))
	c := client.New(b.directory)
	expect := func(which string, want bool) {
		t.Helper()
		if ok, reason, err := c.Healthy(t.Context(), which); err != nil || ok != want || ok == (reason != "") {
			t.Errorf("%s = %v, %q, %v; want %v", which, ok, reason, err, want)
		}
	}
	expect("live", true)
	expect("ready", false)
	if _, err := b.engine.Apply(t.Context(), provisioning.Request{Files: []document.File{{Name: "a", Data: []byte("a")}}}); err != nil {
		t.Fatal(err)
	}
	expect("ready", true)
	b.engine.Turn(time.Now().Add(-2 * api.Stalled))
	expect("live", false)
}

func TestMetrics(t *testing.T) {
	b := start(t, as("view"))
	b.send(t, client.ViewSocket, "POST", "/api/v1/applies", documents) // refused, and counted
	text, err := client.New(b.directory).Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"# TYPE wireguard_sent_bytes_total counter",
		`wireguard_sent_bytes_total{interface="sk-agencies",public_key="QUFB=",tunnel="agency-a"} 99`,
		`wireguard_received_bytes_total{interface="sk-agencies",public_key="QUFB=",tunnel="agency-a"} 1234`,
		`wireguard_latest_handshake_seconds{interface="sk-agencies",public_key="QUFB=",tunnel="agency-a"} 1.7e+09`,
		`wireguard_latest_handshake_seconds{interface="sk-agencies",public_key="QkJC=",tunnel="agency-b"} 0`,
		`shekara_tunnel_state{state="passing",tunnel="agency-a"} 1`,
		`shekara_tunnel_state{state="down",tunnel="agency-a"} 0`,
		`shekara_tunnel_probe_latency_seconds{tunnel="agency-a"} 0.0015`,
		`shekara_applies_total{result="finished"} 0`,
		"shekara_access_refusals_total 1",
		`shekara_flow_bytes_total{direction="to",flow="agency-a-https"} 64000`,
		`shekara_flow_packets_total{direction="back",flow="agency-a-https"} 2000`,
		`shekara_flow_connections_opened_total{flow="agency-a-https"} 70`,
		`shekara_flow_connections{flow="agency-b-https"} 0`,
		"shekara_flows_looked_seconds 1.7e+09",
		"shekara_flows_missed_connections_total 1",
		"shekara_flows_without_series 0",
		`shekara_build_info{goversion="`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	lintMetrics(t, text)
	if t.Failed() {
		t.Logf("%s", text)
	}
}

func lintMetrics(t *testing.T, text []byte) {
	t.Helper()
	problems, err := promlint.New(bytes.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("promlint: %s: %s", p.Metric, p.Text)
	}
}

func TestFlowsComeInPages(t *testing.T) {
	b := start(t, as("view"))
	var names []string
	after := ""
	for {
		var page provisioning.FlowReport
		_, text := b.send(t, client.ViewSocket, "GET", "/api/v1/flows?limit=2&name=a*&after="+after, "")
		if err := json.Unmarshal([]byte(text), &page); err != nil || len(page.Flows) > 2 {
			t.Fatalf("%v: %s", err, text)
		}
		for _, f := range page.Flows {
			names = append(names, f.Name)
		}
		if after = page.Next; after == "" {
			break
		}
	}
	if got := strings.Join(names, " "); got != "admin-ssh agency-a-https agency-a-ntp agency-b-https" {
		t.Errorf("the pages have %s", got)
	}
	report, err := client.New(b.directory).Flows(t.Context(), "agency-?-https")
	if err != nil || len(report.Flows) != 2 || report.Flows[0].BytesBack != 3<<20 || report.Missed != 1 {
		t.Errorf("%+v, %v", report, err)
	}
	if answer, text := b.send(t, client.ViewSocket, "GET", "/api/v1/flows?name=%5B", ""); answer.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(text, "query.name") {
		t.Errorf("a pattern that is none: %d %s", answer.StatusCode, text)
	}
}

func TestSecretsGoInAndComeOutSealed(t *testing.T) {
	b := start(t, as("root"))
	c := client.New(b.directory)
	if err := c.NewSecret(t.Context(), "agency-a"); err != nil {
		t.Fatal(err)
	}
	expectProblem(t, c.NewSecret(t.Context(), "agency-a"), http.StatusConflict, "urn:shekara:problem:bad-request")
	if err := c.ImportSecret(t.Context(), "agency-b", []byte("value")); err != nil {
		t.Fatal(err)
	}
	list, err := c.Secrets(t.Context())
	if err != nil || len(list.Secrets) != 2 || list.Recipient != "age1box" {
		t.Errorf("Secrets = %+v, %v", list, err)
	}
	if sealed, err := c.ExportSecret(t.Context(), "agency-b", "age1far"); err != nil || string(sealed) != "sealed to age1far" {
		t.Errorf("ExportSecret = %q, %v", sealed, err)
	}
	_, err = c.ExportSecret(t.Context(), "none", "age1far")
	expectProblem(t, err, http.StatusNotFound, "urn:shekara:problem:not-found")
	_, err = c.ExportSecret(t.Context(), "agency-b", "nobody")
	if p := expectProblem(t, err, http.StatusUnprocessableEntity, "urn:shekara:problem:bad-request"); !strings.Contains(p.Hint, "age1") {
		t.Errorf("hint is %q", p.Hint)
	}
}

// FuzzRequest: whatever is sent, the answer is a plan or a problem, and the server lives.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{documents, `{}`, `{"files":null}`, `{"files":[{"name":1}]}`, `[]`, `{"files":[{"name":"a","content":"bad"}],"whole":true,"confirmWithin":"-1s"}`, "\x00", `{"files":[{}]}`} {
		f.Add(seed, `"1"`)
	}
	engine := apitest.NewMemory()
	server := api.New(api.Config{Site: "owner", Engine: engine, Metrics: api.NewMetrics("test"), Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	f.Fuzz(func(t *testing.T, body, match string) {
		answer := server.HandleAsRoot("POST", "/api/v1/applies", body, match)
		if answer.Code >= 500 || answer.Code == http.StatusOK && !json.Valid(answer.Body.Bytes()) {
			t.Errorf("%q answered %d %s", body, answer.Code, answer.Body)
		}
		if answer.Code >= 400 && answer.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%q answered %d as %s", body, answer.Code, answer.Header().Get("Content-Type"))
		}
	})
}

// TestExplain: who may only look asks for what becomes of a packet; a question that is none is the caller's mistake.
func TestExplain(t *testing.T) {
	c := client.New(start(t, as("view")).directory)
	question := api.Explain{Question: provisioning.Question{Source: "10.64.1.5", Destination: "10.20.0.10", Service: "tcp/443"}}
	x, err := c.Explain(t.Context(), question)
	if err != nil || !x.Pass || len(x.Documents) != 1 || len(x.Verdict.Trace) == 0 {
		t.Errorf("Explain = %+v, %v", x, err)
	}
	question.Question.Service = "tcp/80"
	question.Files = []api.File{{Name: "more.yaml", Content: "apiVersion: shekara/v1\nkind: Flow\nmetadata: {name: more}\nspec: {tunnel: agency-a, from: [10.64.1.5/32], to: [10.20.0.10/32], allow: [tcp]}\n"}}
	if x, err = c.Explain(t.Context(), question); err != nil || !x.Pass || x.Documents[0].Name != "more" {
		t.Errorf("Explain with a document = %+v, %v", x, err)
	}
	question.Question.Destination = "10.20.0"
	_, err = c.Explain(t.Context(), question)
	if p := expectProblem(t, err, http.StatusUnprocessableEntity, "urn:shekara:problem:bad-request"); p.Hint == "" || !strings.Contains(p.Detail, "10.20.0") {
		t.Errorf("problem is %+v", p)
	}
}

// TestLooksAtTheJournalAreOnRecord: once a minute for each user, however often he looks.
func TestLooksAtTheJournalAreOnRecord(t *testing.T) {
	b := start(t, as("view"))
	for range 5 {
		if answer, text := b.send(t, client.ViewSocket, "GET", "/api/v1/events", ""); answer.StatusCode != http.StatusOK {
			t.Fatalf("%d %s", answer.StatusCode, text)
		}
	}
	limited, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := b.journal.Wait(limited, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := b.journal.Append(t.Context(), journal.Event{Type: journal.DriftFind, Severity: journal.Warning}); err != nil {
		t.Fatal(err)
	}
	events, err := b.journal.Read(t.Context(), 0, 100)
	if err != nil || len(events) != 2 || events[0].Type != journal.JournalLook || events[0].Actor.User != "viktor" || events[0].Fields["operation"] != "list-events" {
		t.Errorf("%+v, %v", events, err)
	}
}

// TestWhoFollowsTheJournalLooksOnce: who reads the lines on from where he ended is on record when he begins, not for each page.
func TestWhoFollowsTheJournalLooksOnce(t *testing.T) {
	b := start(t, as("view"))
	for range 3 {
		if _, err := b.journal.Append(t.Context(), journal.Event{Type: journal.DriftFind, Severity: journal.Warning}); err != nil {
			t.Fatal(err)
		}
	}
	read := func(after int) {
		t.Helper()
		if answer, text := b.send(t, client.ViewSocket, "GET", fmt.Sprintf("/api/v1/journal/lines?limit=1&after=%d", after), ""); answer.StatusCode != http.StatusOK {
			t.Fatalf("%d %s", answer.StatusCode, text)
		}
	}
	for after := range 3 {
		read(after)
	}
	if _, err := b.journal.Append(t.Context(), journal.Event{Type: journal.DriftFind, Severity: journal.Warning}); err != nil {
		t.Fatal(err)
	}
	events, err := b.journal.Read(t.Context(), 3, 100)
	if err != nil || len(events) != 2 || events[0].Type != journal.JournalLook || events[0].Fields["operation"] != "read-journal" {
		t.Fatalf("%+v, %v", events, err)
	}
}

// TestAnExportIsOnRecord: who has taken what; and half of an export is not taken for one.
func TestAnExportIsOnRecord(t *testing.T) {
	b := start(t, as("view"))
	c := client.New(b.directory)
	for n := range 3 {
		if _, err := b.journal.Append(t.Context(), journal.Event{Type: journal.TunnelState, Severity: journal.Notice, Object: "tunnel/a", Message: fmt.Sprint(n)}); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if err := c.ExportPartition(t.Context(), "tunnel/a", &out); err != nil || bytes.Count(out.Bytes(), []byte("\n")) != 4 || !bytes.HasPrefix(out.Bytes(), []byte(`{"partition":"tunnel/a"}`)) {
		t.Errorf("%q, %v", out.String(), err)
	}
	if _, err := b.journal.Append(t.Context(), journal.Event{Type: journal.DriftFind, Severity: journal.Warning}); err != nil {
		t.Fatal(err)
	}
	events, err := b.journal.Read(t.Context(), 3, 100)
	if err != nil || len(events) != 2 || events[0].Type != journal.JournalExport || events[0].Actor.User != "viktor" || events[0].Fields["partition"] != "tunnel/a" {
		t.Errorf("%+v, %v", events, err)
	}
	for _, bad := range []string{"", "tunnel/", "nothing/a"} {
		if err := c.ExportPartition(t.Context(), bad, io.Discard); err == nil {
			t.Errorf("%q is exported", bad)
		}
	}
	file := filepath.Join(b.directory, "journal", "00000000000000000001.jsonl")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, bytes.Replace(text, []byte(`"message":"2"`), []byte(`"message":"7"`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.ExportPartition(t.Context(), "tunnel/a", io.Discard); err == nil {
		t.Error("half of an export is taken for one")
	}
}
