package export

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	service "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"
	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"shekara/journal"
	"shekara/journal/export/cursor"
	"shekara/netctl/certificate/certificatetest"
)

// otlpServer takes logs, and reads them with OpenTelemetry's own types.
type otlpServer struct {
	t             *testing.T
	url           string
	mu            sync.Mutex
	count         int               // of requests
	lines         map[string]string // of records, by their log.record.uid
	newest, again int
}

func newOTLPServer(t *testing.T, of *certificatetest.Authority) *otlpServer {
	t.Helper()
	certificate, key := of.Leaf("soc.example.org")
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	s := &otlpServer{t: t, lines: map[string]string{}}
	server := httptest.NewUnstartedServer(s)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: of.Pool()}
	server.StartTLS()
	t.Cleanup(server.Close)
	s.url = server.URL + "/v1/logs"
	return s
}

func (s *otlpServer) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	body, err := io.ReadAll(q.Body)
	if err != nil {
		s.t.Error(err)
	}
	w.Header().Set("Content-Type", protobufType)
	response := &service.ExportLogsServiceResponse{}
	switch s.count {
	case 2:
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	case 4:
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
		return
	case 3:
		response.PartialSuccess = &service.ExportLogsPartialSuccess{RejectedLogRecords: 2, ErrorMessage: "too old"}
	case 5:
		response.PartialSuccess = &service.ExportLogsPartialSuccess{ErrorMessage: "a remark"}
	case 6:
		w.Header().Set("Content-Type", "text/plain")
		s.take(q, body)
		_, _ = w.Write([]byte("ok"))
		return
	}
	s.take(q, body)
	raw, err := proto.Marshal(response)
	if err != nil {
		s.t.Error(err)
	}
	_, _ = w.Write(raw)
}

func (s *otlpServer) take(q *http.Request, body []byte) {
	if q.Header.Get("Content-Type") != protobufType || q.Header.Get("Content-Encoding") != "" || q.Header["Idempotency-Key"] != nil {
		s.t.Errorf("header %v", q.Header)
	}
	var request service.ExportLogsServiceRequest
	if err := proto.Unmarshal(body, &request); err != nil {
		s.t.Error(err)
	}
	for _, of := range request.GetResourceLogs() {
		for _, scope := range of.GetScopeLogs() {
			for _, r := range scope.GetLogRecords() {
				e, err := journal.ParseLine([]byte(attribute(r.Attributes, "log.record.original")))
				if err != nil || r.EventName != string(e.Type) || r.GetBody().GetStringValue() != e.Message || int(e.Sequence) > s.newest+1 {
					s.t.Errorf("record %d after %d: %v: %v", e.Sequence, s.newest, err, r)
				}
				uid := attribute(r.Attributes, "log.record.uid")
				if _, known := s.lines[uid]; known {
					s.again++
				}
				s.lines[uid] = attribute(r.Attributes, "log.record.original")
				s.newest = max(s.newest, int(e.Sequence))
			}
		}
	}
}

func attribute(all []*common.KeyValue, key string) string {
	for _, a := range all {
		if a.Key == key {
			return a.Value.GetStringValue()
		}
	}
	return ""
}

// TestOTLPHasEveryRecord: a server that says all that the specification lets it say has every record, and what it refused for good is counted.
func TestOTLPHasEveryRecord(t *testing.T) {
	of := certificatetest.New(t, "authority")
	server := newOTLPServer(t, of)
	l := newLocal(t)
	sink := Sink{Name: "soc", Site: "owner", Protocol: OTLP, URL: server.url, ServerName: "soc.example.org", CA: of.File(), Version: "v1"}
	sink.Certificate, sink.Key = of.Leaf("owner")
	l.set(sink)
	dir := t.TempDir()
	runs(t, l, dir)
	var s cursor.State
	for range 4 {
		l.record(1000, journal.DriftFind)
		await(t, "all records", func() bool {
			var err error
			s, err = cursor.Read(dir, "soc")
			return err == nil && s.Delivered == l.Journal.Last() && s.Error == ""
		})
	}
	if s.Refused != 2 || s.Failures != 2 {
		t.Errorf("%+v: want two refused records and two failures", s)
	}
	server.mu.Lock()
	defer server.mu.Unlock()
	if server.count < 7 || len(server.lines) != int(l.Journal.Last()) {
		t.Errorf("%d requests, %d records; the journal has %d", server.count, len(server.lines), l.Journal.Last())
	}
	for after := uint64(0); after < l.Journal.Last(); {
		lines, err := l.Journal.Lines(t.Context(), after, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range lines {
			after++
			if got := server.lines[fmt.Sprintf("owner/%d", after)]; got != string(line) {
				t.Fatalf("record %d is %s", after, got)
			}
		}
	}
}

func TestLogRecord(t *testing.T) {
	r := sample()
	r.line = []byte("LINE")
	r.event.Fields = map[string]string{"source": "10.64.1.5", "sourcePort": "1000", "destinationPort": "none", "protocol": "tcp", "rule": "no_flow"}
	got, err := protojson.Marshal(logsRequest(Sink{Site: "owner", Version: "v1"}, []record{r}))
	if err != nil {
		t.Fatal(err)
	}
	s := func(key, value string) string {
		return fmt.Sprintf(`{"key":%q,"value":{"stringValue":%q}}`, key, value)
	}
	n := func(key, value string) string { return fmt.Sprintf(`{"key":%q,"value":{"intValue":%q}}`, key, value) }
	want := `{"resourceLogs":[{"resource":{"attributes":[` + strings.Join([]string{s("service.name", "shekara"), s("service.version", "v1"), s("host.name", "owner")}, ",") + `]},` +
		`"scopeLogs":[{"scope":{"name":"shekara/journal","version":"v1"},"logRecords":[{"timeUnixNano":"1795665906000000789","severityNumber":"SEVERITY_NUMBER_WARN","severityText":"warning",` +
		`"body":{"stringValue":"шекара: \"down\" [a]\nnext"},"attributes":[` + strings.Join([]string{s("log.record.original", "LINE"), s("log.record.uid", "owner/4711"), s("network.transport", "tcp"),
		n("process.pid", "7"), n("shekara.clock_error_us", "250"), s("shekara.fields.destinationPort", "none"), s("shekara.fields.rule", "no_flow"), s("shekara.object", "tunnel/agency-a"),
		s("shekara.organisation", "body"), s("shekara.sequence", "4711"), s("shekara.systems", "registry, tax"), s("source.address", "10.64.1.5"), n("source.port", "1000"), s("user.id", "1001"), s("user.name", "anna")}, ",") +
		`],"observedTimeUnixNano":"1795665906000000789","eventName":"tunnel.state"}]}]}]}`
	var wanted, found any
	if err := errors.Join(json.Unmarshal([]byte(want), &wanted), json.Unmarshal(got, &found)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wanted, found); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestLogSeverities(t *testing.T) {
	for i, of := range journal.Severities() {
		if want := []int{19, 17, 13, 10, 9}[i]; int(logSeverity(of)) != want {
			t.Errorf("%s is %d, want %d", of, logSeverity(of), want)
		}
	}
}

// FuzzPartialSuccess: no answer counts more records than were sent.
func FuzzPartialSuccess(f *testing.F) {
	raw, err := proto.Marshal(&service.ExportLogsServiceResponse{PartialSuccess: &service.ExportLogsPartialSuccess{RejectedLogRecords: 1 << 40, ErrorMessage: "x"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(protobufType, raw)
	f.Add("text/plain", []byte("ok"))
	f.Fuzz(func(t *testing.T, kind string, body []byte) {
		var r refusal
		if r.add(answer{kind, body}, 7); r.records > 7 {
			t.Errorf("%d of 7", r.records)
		}
	})
}
