package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"shekara/journal"
	"shekara/journal/export/cursor"
	"shekara/provisioning"
	"shekara/provisioning/api"
	"shekara/provisioning/api/apitest"
	"shekara/provisioning/client"
)

func TestJournalLines(t *testing.T) {
	b := start(t, as("view"))
	c := client.New(b.directory)
	add := func(message string) {
		t.Helper()
		if _, err := b.journal.Append(context.Background(), journal.Event{Type: journal.DriftFind, Severity: journal.Notice, Message: message}); err != nil {
			t.Fatal(err)
		}
	}
	if lines, err := c.JournalLines(t.Context(), 0, 10, 0); err != nil || len(lines) != 0 {
		t.Errorf("of an empty journal: %q, %v", lines, err)
	}
	recorded, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := b.journal.Wait(recorded, 0); err != nil { // record 1 is that somebody reads
		t.Fatal(err)
	}
	add("one")
	add("two <&>")
	add("three")
	file, err := os.ReadFile(filepath.Join(b.directory, "journal", "00000000000000000001.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	lines, err := c.JournalLines(t.Context(), 0, 10, 0)
	if err != nil || !bytes.Equal(append(bytes.Join(lines, []byte("\n")), '\n'), file) {
		t.Errorf("lines are %q, %v; the file holds %q", lines, err, file)
	}
	if lines, err := c.JournalLines(t.Context(), 2, 1, 0); err != nil || len(lines) != 1 || !strings.Contains(string(lines[0]), "two <&>") {
		t.Errorf("one after the first: %q, %v", lines, err)
	}
	// Who waits has the record as soon as it is there.
	got := make(chan [][]byte, 1)
	go func() {
		lines, err := c.JournalLines(context.Background(), 4, 10, 30*time.Second)
		if err != nil {
			t.Error(err)
		}
		got <- lines
	}()
	add("four")
	if lines := <-got; len(lines) != 1 || !strings.Contains(string(lines[0]), "four") {
		t.Errorf("who waited got %q", lines)
	}
	var refused *client.Error
	if _, err := c.JournalLines(t.Context(), 6, 10, 0); !errors.As(err, &refused) || refused.Problem == nil || refused.Problem.Status != http.StatusConflict {
		t.Errorf("after more than there are: %v", err)
	}
	// A stop ends the wait.
	go func() {
		_, _ = c.JournalLines(context.Background(), 5, 10, 30*time.Second)
		close(got)
	}()
	time.Sleep(50 * time.Millisecond)
	b.stop()
	select {
	case <-got:
	case <-time.After(20 * time.Second):
		t.Error("a question that waits keeps the daemon from stopping")
	}
}

func TestSinks(t *testing.T) {
	b := start(t, as("view"))
	b.engine.Centres = []provisioning.Sink{{Name: "away", Protocol: "syslog-tls", Address: "192.0.2.7:6514"}, {Name: "dead", Protocol: "file"}, {Name: "none", Protocol: "file"}, {Name: "other", Protocol: "file"}, {Name: "well", Protocol: "file"}}
	now := time.Now().UTC()
	stamp := func(ago time.Duration) string { return now.Add(-ago).Format(time.RFC3339) }
	if err := os.Mkdir(filepath.Join(b.directory, "export"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"away":  `{"delivered":0,"sent":0,"records":5,"failures":3,"connected":false,"error":"no route","since":"` + stamp(time.Minute) + `","written":"` + stamp(0) + `"}`,
		"dead":  `{"delivered":1,"sent":1,"records":1,"failures":0,"connected":true,"written":"` + stamp(time.Hour) + `"}`,
		"other": `{"delivered":1000000,"sent":1000000,"records":1,"failures":0,"connected":true,"written":"` + stamp(0) + `"}`,
		"well":  `{"delivered":1,"sent":3,"records":3,"failures":0,"connected":true,"written":"` + stamp(0) + `"}`,
	} {
		if err := os.WriteFile(filepath.Join(b.directory, "export", name+".json"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if _, err := b.journal.Append(t.Context(), journal.Event{Type: journal.DriftFind, Severity: journal.Notice, Message: "x"}); err != nil {
			t.Fatal(err)
		}
	}
	c := client.New(b.directory)
	sinks, err := c.Sinks(t.Context())
	if err != nil || sinks.Site != "owner" || len(sinks.Sinks) != 5 || sinks.Sinks[0].Address != "192.0.2.7:6514" {
		t.Errorf("sinks are %+v, %v", sinks, err)
	}
	status, err := c.Status(t.Context())
	if err != nil || len(status.Sinks) != 5 {
		t.Fatalf("%+v, %v", status.Sinks, err)
	}
	for i, want := range []struct {
		behind    uint64
		connected bool
		problem   string
	}{{3, false, "no route"}, {2, false, "does not run"}, {3, false, "has not begun"}, {3, true, "of another journal"}, {0, true, ""}} {
		got := status.Sinks[i]
		if got.Behind != want.behind || got.Connected != want.connected || (got.Error == "") != (want.problem == "") || !strings.Contains(got.Error, want.problem) || (got.Behind > 0) == got.Oldest.IsZero() {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	text, err := c.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`shekara_sink_lag_records{sink="away"} 3`, `shekara_sink_lag_seconds{sink="well"} 0`, `shekara_sink_sent_records_total{sink="well"} 3`,
		`shekara_sink_failures_total{sink="away"} 3`, `shekara_sink_connected{sink="well"} 1`, `shekara_sink_connected{sink="dead"} 0`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	lintMetrics(t, text)
	if len(status.Alarms) != 0 {
		t.Errorf("alarms: %v", status.Alarms)
	}
	if alarms := api.Behind(status.Sinks, status.Sinks[0].Oldest.Add(61*time.Minute)); len(alarms) != 4 || !strings.Contains(alarms[0], "sink away lacks what was recorded 1h1m0s ago: no route") {
		t.Errorf("an hour later the alarms are %q", alarms)
	}
}

// countingJournal counts what is read of it.
type countingJournal struct {
	*journal.Journal
	queries atomic.Int64
}

func (c *countingJournal) Query(ctx context.Context, after uint64, limit int, filter journal.Filter) ([]journal.Event, uint64, error) {
	c.queries.Add(1)
	return c.Journal.Query(ctx, after, limit, filter)
}

// TestWhereASinkStandsIsReadOnce, however often it is asked for: the record may be in a compressed file.
func TestWhereASinkStandsIsReadOnce(t *testing.T) {
	opened, err := journal.Open(filepath.Join(t.TempDir(), "journal"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	for range 5 {
		if _, err := opened.Append(t.Context(), journal.Event{Type: journal.DriftFind, Severity: journal.Notice, Message: "x"}); err != nil {
			t.Fatal(err)
		}
	}
	all, err := opened.Read(t.Context(), 0, 5)
	if err != nil {
		t.Fatal(err)
	}
	events, engine, metrics, directory := &countingJournal{Journal: opened}, apitest.NewMemory(), api.NewMetrics("test"), t.TempDir()
	engine.Centres = []provisioning.Sink{{Name: "away", Protocol: "nats"}}
	server := api.New(api.Config{Site: "owner", Engine: engine, Journal: events, Recorder: metrics.Recorder(&declared{Recorder: opened, t: t}), Metrics: metrics, ExportDir: directory,
		Log: slog.New(slog.DiscardHandler), Version: "test"})
	stands := func(at int, reads int64) {
		t.Helper()
		if err := (cursor.State{Delivered: uint64(at), Sent: uint64(at), Written: time.Now()}).Write(directory, "away"); err != nil {
			t.Fatal(err)
		}
		before := events.queries.Load()
		for range 3 {
			var status provisioning.Status
			if err := json.Unmarshal(server.HandleAsRoot("GET", "/api/v1/status", "", "").Body.Bytes(), &status); err != nil || len(status.Sinks) != 1 || !status.Sinks[0].Oldest.Equal(all[at].Time) {
				t.Fatalf("%+v, %v; want one sink that lacks what is of %s", status.Sinks, err, all[at].Time)
			}
			if answer := server.HandleAsRoot("GET", "/api/v1/metrics", "", ""); answer.Code != http.StatusOK {
				t.Fatalf("metrics: %d %s", answer.Code, answer.Body)
			}
		}
		if got := events.queries.Load() - before; got != reads {
			t.Errorf("where the sink stands at %d the journal was read %d times, want %d", at, got, reads)
		}
	}
	stands(2, 2) // what it has, and what it lacks
	stands(3, 1) // what it lacked it has now
	stands(2, 0)
}

// agedJournal is a journal of which the first record is of a time before it was made.
type agedJournal struct {
	*journal.Journal
	age time.Duration
}

func (a agedJournal) Stats() (journal.Stats, error) {
	s, err := a.Journal.Stats()
	s.Oldest = s.Oldest.Add(-a.age)
	return s, err
}

// TestUnanchored: it is an alarm when nobody outside holds a record of the last hour, also where no sink could, but not in a box's first hour.
func TestUnanchored(t *testing.T) {
	folder := t.TempDir()
	events, err := journal.Open(filepath.Join(folder, "journal"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer events.Close()
	for range 5 {
		if _, err := events.Append(t.Context(), journal.Event{Type: journal.DriftFind, Severity: journal.Notice, Message: "x"}); err != nil {
			t.Fatal(err)
		}
	}
	now, old := time.Now(), 3*time.Hour
	for name, c := range map[string]struct {
		protocol, cursor string // "": there is none
		before, after    time.Duration
		want             string // in the alarm; "": there is none
	}{
		"no sink":                        {"", "", old, 0, "nor any before"},
		"no sink, in the first hour":     {"", "", 0, 50 * time.Minute, ""},
		"a file":                         {"file", `{"delivered":5,"sent":5}`, old, 0, "nor any before"},
		"datagrams":                      {"syslog-udp", `{"held":5,"delivered":5,"sent":5}`, old, 0, "nor any before"},
		"one that throws away":           {"otlp", `{"delivered":5,"sent":5,"refused":1}`, old, 0, "nor any before"},
		"one that has not been seen yet": {"nats", "", old, 0, "nor any before"},
		"one that was only sent to":      {"syslog-tls", `{"sent":5}`, old, 0, "nor any before"},
		"one that has all":               {"nats", `{"delivered":5,"sent":5}`, old, 50 * time.Minute, ""},
		"one whose kernel has all":       {"syslog-tls", `{"held":5,"sent":5}`, old, 50 * time.Minute, ""},
		"one that has another journal":   {"nats", `{"delivered":1000000,"sent":1000000}`, old, 0, "nor any before"},
		"one whose kernel has another":   {"syslog-tls", `{"held":6,"sent":6}`, old, 0, "nor any before"},
		"one that had all, long ago":     {"syslog-tls", `{"held":5,"sent":5}`, old, 2 * time.Hour, "the newest there is of"},
	} {
		config := api.Config{Engine: apitest.NewMemory(), Journal: agedJournal{events, c.before}, ExportDir: t.TempDir()}
		if c.protocol != "" {
			config.Engine.(*apitest.Memory).Centres = []provisioning.Sink{{Name: "s", Protocol: c.protocol}}
		}
		if c.cursor != "" {
			if err := os.WriteFile(filepath.Join(config.ExportDir, "s.json"), []byte(c.cursor), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		alarms, err := config.Unanchored(t.Context(), now.Add(c.after))
		if err != nil || (len(alarms) == 0) != (c.want == "") || len(alarms) > 0 && !strings.Contains(alarms[0], c.want) {
			t.Errorf("%s: %q, %v; want %q", name, alarms, err, c.want)
		}
	}
}
