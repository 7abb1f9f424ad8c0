package service

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"shekara/timesync"
	"shekara/timesync/server"
)

// place is where a service lives: a unix socket's path holds 107 bytes.
func place(t *testing.T) Options {
	t.Helper()
	dir, err := os.MkdirTemp("", "sk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return Options{Dir: filepath.Join(dir, "state"), RunDir: filepath.Join(dir, "run"), Log: slog.New(slog.DiscardHandler)}
}

// starts runs one until the test, or stop, ends it.
func starts(t *testing.T, o Options) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, o) }()
	stop = func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		ended <- nil
	}
	t.Cleanup(stop)
	return stop
}

// await waits until it acts by a service's document.
func await(t *testing.T, o Options, service string) Report {
	t.Helper()
	return awaitReport(t, o, "a report of service "+service, func(r Report) bool { return r.Service == service })
}

// awaitReport waits until a report is as it should be.
func awaitReport(t *testing.T, o Options, what string, is func(Report) bool) Report {
	t.Helper()
	reporter := NewReporter(o.RunDir)
	var last Report
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if r, err := reporter.Report(t.Context()); err == nil {
			if last = r; is(r) {
				return r
			}
		}
	}
	t.Fatalf("%s: never: %+v", what, last)
	return last
}

// TestWhatItWasToldLastIsRemembered: at boot nobody may be there to tell, and what it was told last goes on.
func TestWhatItWasToldLastIsRemembered(t *testing.T) {
	o := place(t)
	spec := &timesync.Spec{Name: "owner-time", Agreeing: 3, MaxDistance: time.Second, Clients: []timesync.Client{{System: "portal", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.64.1.0/28")}}}}
	o.Ask = func(context.Context) (*timesync.Spec, error) { return spec, nil }
	stop := starts(t, o)
	r := await(t, o, "owner-time")
	if s := r.Status.Standing; s.State != timesync.Unsynchronised || s.Stratum != timesync.MaxStratum || len(r.Systems) != 1 || r.Systems[0].Name != "portal" || len(r.Troubles) != 0 {
		t.Errorf("%+v", r)
	}
	if err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "one time service runs on a box") {
		t.Errorf("a second one: %v", err)
	}
	stop()
	if _, err := NewReporter(o.RunDir).Report(t.Context()); err == nil {
		t.Error("it is stopped, and answers")
	}
	told := atomic.Bool{}
	o.Ask = func(context.Context) (*timesync.Spec, error) {
		if told.Load() {
			return nil, nil
		}
		return nil, errors.New("the daemon does not run")
	}
	stop = starts(t, o)
	await(t, o, "owner-time")
	told.Store(true)
	await(t, o, "") // no TimeService is in force any more
	stop()
	starts(t, o)
	await(t, o, "")
}

// TestADamagedMemoryKeepsItNotFromStarting.
func TestADamagedMemoryKeepsItNotFromStarting(t *testing.T) {
	o := place(t)
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(o.Dir, "service.json"), []byte(`{"name": 7`), 0o600); err != nil {
		t.Fatal(err)
	}
	o.Ask = func(context.Context) (*timesync.Spec, error) { return &timesync.Spec{Name: "told"}, nil }
	starts(t, o)
	await(t, o, "told")
}

// TestTroublesAreToldAndTheRestGoesOn: a certificate that is not there keeps nobody from the time.
func TestTroublesAreToldAndTheRestGoesOn(t *testing.T) {
	o := place(t)
	spec := &timesync.Spec{Name: "s", KeyFile: "/nowhere/keys", Clients: []timesync.Client{{System: "portal", Key: 3, Prefixes: []netip.Prefix{netip.MustParsePrefix("10.64.1.0/28")}}}}
	o.Ask = func(context.Context) (*timesync.Spec, error) { return spec, nil }
	starts(t, o)
	if r := await(t, o, "s"); len(r.Troubles) != 1 || !strings.Contains(r.Troubles[0], "/nowhere/keys") {
		t.Errorf("troubles: %q", r.Troubles)
	}
}

func TestClientsComeByPages(t *testing.T) {
	at := func(s string) server.Client { return server.Client{Address: netip.MustParseAddr(s)} }
	all := []server.Client{at("10.64.1.7"), at("10.64.1.5"), at("10.64.1.6")}
	for _, c := range []struct {
		after string
		limit int
		want  string
	}{{"", 2, "10.64.1.5 10.64.1.6 "}, {"10.64.1.6", 2, "10.64.1.7 "}, {"10.64.1.7", 2, ""}, {"10.64.1.4", 9, "10.64.1.5 10.64.1.6 10.64.1.7 "}} {
		after, _ := netip.ParseAddr(c.after)
		got := ""
		for _, client := range page(all, after, c.limit) {
			got += client.Address.String() + " "
		}
		if got != c.want {
			t.Errorf("after %q: %q, want %q", c.after, got, c.want)
		}
	}
}
