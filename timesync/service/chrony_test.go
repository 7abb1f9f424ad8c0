package service

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
	"shekara/timesync"
	"shekara/timesync/timesynctest"
)

// TestEnginesTakeTurns: chronyd begins when the document says so, its word is reported, and it is gone with it.
func TestEnginesTakeTurns(t *testing.T) {
	probetest.Need(t, probe.Tool("chronyd"))
	upstream := timesynctest.Serve(t, "127.0.0.1")
	spec := func(engine timesync.Engine) *timesync.Spec {
		return &timesync.Spec{Name: "s", Engine: engine, Agreeing: 1, MaxDistance: 2 * time.Second, Sources: []timesync.Source{{Name: "a", Address: upstream.Address}}}
	}
	o := place(t)
	var told atomic.Pointer[timesync.Spec]
	told.Store(spec(timesync.EngineChrony))
	o.Ask = func(context.Context) (*timesync.Spec, error) { return told.Load(), nil }
	stop := starts(t, o)
	synchronised := func(engine timesync.Engine) func(Report) bool {
		return func(r Report) bool {
			return r.Engine == engine && r.Status.Standing.State == timesync.Synchronised && r.Status.Standing.Reference == "a" && len(r.Troubles) == 0
		}
	}
	if r := awaitReport(t, o, "synchronised by chronyd's word", synchronised(timesync.EngineChrony)); r.Steers || r.Status.Standing.Stratum != 3 || r.Digest != spec(timesync.EngineChrony).Digest() {
		t.Errorf("%+v", r)
	}
	pid := filepath.Join(o.RunDir, "chrony", "chronyd.pid")
	if _, err := os.Stat(pid); err != nil { // the control of what follows
		t.Errorf("chronyd runs without a file of its process: %v", err)
	}
	told.Store(spec(timesync.EngineOwn))
	awaitReport(t, o, "synchronised by our own measurements", synchronised(timesync.EngineOwn))
	if _, err := os.Stat(pid); err == nil {
		t.Error("chronyd still runs")
	}
	told.Store(spec(timesync.EngineChrony))
	awaitReport(t, o, "chronyd again", synchronised(timesync.EngineChrony))
	stop()
	if _, err := os.Stat(pid); err == nil {
		t.Error("chronyd runs on after us")
	}
}

// TestWhatChronydCannotDoIsATrouble: validation refuses such a document; one that came by all the same is told, and the process lives on.
func TestWhatChronydCannotDoIsATrouble(t *testing.T) {
	o := place(t)
	spec := &timesync.Spec{Name: "s", Engine: timesync.EngineChrony, Withhold: true, Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")},
		Clients: []timesync.Client{{System: "portal", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.64.1.0/28")}}}}
	o.Ask = func(context.Context) (*timesync.Spec, error) { return spec, nil }
	starts(t, o)
	awaitReport(t, o, "a trouble", func(r Report) bool {
		return len(r.Troubles) == 1 && strings.Contains(r.Troubles[0], "withhold") && r.Status.Standing.State == timesync.Unsynchronised
	})
}
