package api_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"shekara/journal"
	"shekara/provisioning"
	"shekara/provisioning/api"
	"shekara/provisioning/api/apitest"
)

// TestSinkEvents: a failure and its end are recorded once each, when they have lasted a minute; what comes and goes within one is not.
func TestSinkEvents(t *testing.T) {
	look := api.NewSinkWatch()
	began := time.Date(2026, 11, 26, 4, 0, 0, 0, time.UTC)
	var got []string
	at := func(from, to int, sinks ...provisioning.SinkStatus) {
		for second := from; second < to; second += 10 {
			for _, e := range look(sinks, began.Add(time.Duration(second)*time.Second)) {
				got = append(got, fmt.Sprintf("%d %s %s: %s %v", second, e.Type, e.Object, e.Message, e.Fields))
			}
		}
	}
	well, away := provisioning.SinkStatus{Name: "soc", Sequence: 7}, provisioning.SinkStatus{Name: "soc", Error: "refused", Sequence: 7, Behind: 3}
	at(0, 100, well)
	at(100, 150, away) // a restart of the centre
	at(150, 200, well)
	at(200, 500, away)
	at(500, 550, well) // it takes a connection, and ends it again
	at(550, 600, away)
	at(600, 800, well)
	at(800, 900, away)
	at(900, 910) // its document is removed, and back
	at(910, 920, away)
	at(920, 1000) // it is removed
	at(1000, 1100, well)
	want := []string{
		"260 sink.fail sink/soc: nothing reaches it: refused map[behind:3 sequence:7 since:2026-11-26T04:03:20Z]",
		"660 sink.recover sink/soc: it is sent to again, after 6m40s map[behind:0 seconds:400 sequence:7]",
		"860 sink.fail sink/soc: nothing reaches it: refused map[behind:3 sequence:7 since:2026-11-26T04:13:20Z]",
		"980 sink.recover sink/soc: its document is gone: nothing is sent to it any more, after a failure of 2m0s map[seconds:120]",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestSinkEventsAreRecorded by the server, from what the exporter writes.
func TestSinkEventsAreRecorded(t *testing.T) {
	directory := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		events, err := journal.Open(filepath.Join(directory, "journal"), nil)
		if err != nil {
			t.Fatal(err)
		}
		engine := apitest.NewMemory()
		engine.Centres = []provisioning.Sink{{Name: "soc", Protocol: "file"}}
		metrics := api.NewMetrics("test")
		live := func() (end func()) {
			server := api.New(api.Config{Site: "owner", Engine: engine, Journal: events, Recorder: metrics.Recorder(&declared{Recorder: events, t: t}), Metrics: metrics, ExportDir: directory,
				Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Version: "test"})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- server.Run(ctx) }()
			return func() {
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
		}
		say := func(text string) {
			t.Helper()
			written := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
			if err := os.WriteFile(filepath.Join(directory, "soc.json"), []byte(`{"delivered":0,"sent":0,"error":"`+text+`","written":"`+written+`"}`), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		say("no route")
		end := live()
		time.Sleep(3*time.Minute + 5*time.Second) // between two looks
		say("")
		time.Sleep(3 * time.Minute)
		// Lives that end while it fails: the next one does not tell it again, the one after it finds the sink well, and the last one finds it removed.
		say("no answer")
		time.Sleep(2*time.Minute + 5*time.Second)
		end()
		end = live()
		time.Sleep(2*time.Minute + 5*time.Second)
		end()
		say("")
		end = live()
		time.Sleep(2*time.Minute + 5*time.Second)
		say("gone")
		time.Sleep(2*time.Minute + 5*time.Second)
		end()
		engine.Centres = nil
		end = live()
		time.Sleep(2*time.Minute + 5*time.Second)
		end()
		var got []string
		all, _, err := events.Query(t.Context(), 0, 10_000, journal.Filter{Object: "sink/soc"})
		if err != nil {
			t.Error(err)
		}
		for _, e := range all {
			got = append(got, string(e.Type)+" "+e.Message)
		}
		if err := events.Close(); err != nil {
			t.Error(err)
		}
		if want := "sink.fail nothing reaches it: no route; sink.recover it is sent to again, after 3m0s; sink.fail nothing reaches it: no answer; " +
			"sink.recover it is sent to again, after 4m15s; sink.fail nothing reaches it: gone; sink.recover its document is gone: nothing is sent to it any more, after a failure of 2m10s"; strings.Join(got, "; ") != want {
			t.Errorf("%q, want %q", got, want)
		}
	})
}
