package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"golang.org/x/sync/errgroup"

	"shekara/journal"
	"shekara/netctl/secret"
	"shekara/provisioning"
	"shekara/provisioning/api"
	"shekara/provisioning/api/apitest"
	"shekara/provisioning/client"
)

// TestMain lets scripts run this program as the command shekara.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"shekara": main})
}

// TestTranscripts runs testdata/*.txtar: what is typed and what is printed. Scripts that need a daemon begin with "daemon ROLE", which
// serves an engine in memory on a real socket; the live test has the real one.
func TestTranscripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		UpdateScripts:       os.Getenv("SHEKARA_UPDATE") != "",
		Setup: func(env *testscript.Env) error {
			env.Setenv("TZ", "UTC")
			// Not below WORK: a unix socket's path holds 107 bytes.
			run, err := os.MkdirTemp("", "sk")
			env.Setenv("RUN", run)
			env.Defer(func() { os.RemoveAll(run) })
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"daemon": serve, "mask": mask, "spoil": spoil},
	})
}

// auditKey is the public key of a journal.
const auditKey = "journal/owner+309cb1ed+Ac7MFQfcHd1ylZUcKQiI8JWtuQRNG3PWlubfBl1oO9T8"

// serve starts a daemon in memory at $RUN: daemon acts|looks [events that happened already].
func serve(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 && len(args) != 2 {
		ts.Fatalf("usage: daemon acts|looks [events]")
	}
	happened := 0
	if len(args) == 2 {
		var err error
		happened, err = strconv.Atoi(args[1])
		ts.Check(err)
	}
	stop, err := serveMemory(ts.Getenv("RUN"), args[0] == "acts", happened)
	ts.Check(err)
	ts.Defer(func() { ts.Check(stop()) })
}

// spoil copies a file with a byte more in its fifth line. With a number it copies that many lines as they are, and no more.
func spoil(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 && len(args) != 3 {
		ts.Fatalf("usage: spoil from to [lines]")
	}
	lines := strings.SplitAfter(ts.ReadFile(args[0]), "\n")
	if len(args) == 3 {
		kept, err := strconv.Atoi(args[2])
		ts.Check(err)
		lines = lines[:kept]
	} else {
		lines[4] = strings.Replace(lines[4], `"message":"`, `"message":"X`, 1)
	}
	ts.Check(os.MkdirAll(filepath.Dir(ts.MkAbs(args[1])), 0o755))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(strings.Join(lines, "")), 0o644))
}

// serveMemory serves an engine in memory to a caller who may act, or only look, and answers how to stop it.
func serveMemory(dir string, acts bool, happened int) (stop func() error, err error) {
	store, err := secret.Open(filepath.Join(dir, "keys"))
	if err != nil {
		return nil, err
	}
	events, err := journal.OpenKept(context.Background(), filepath.Join(dir, "journal"), journal.NewKeys(store, "journal/owner"))
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("unix", filepath.Join(dir, client.ActSocket))
	if err != nil {
		return nil, errors.Join(err, events.Close())
	}
	metrics := api.NewMetrics("test")
	actor := journal.Actor{UID: 1000, User: "anna", PID: 4711}
	group := uint32(1000)
	groups := api.Groups{View: &group}
	if acts {
		groups = api.Groups{Act: &group}
	}
	recorder := metrics.Recorder(events)
	server := api.New(api.Config{Site: "owner", Engine: apitest.NewMemory(), Journal: events, Recorder: recorder, Metrics: metrics, Version: "test", Groups: groups,
		Identify: func(net.Conn) (api.Credentials, error) {
			return api.Credentials{Actor: actor, Groups: []uint32{group}}, nil
		}, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if _, err := recorder.Append(context.Background(), journal.Event{Type: journal.DaemonStart, Severity: journal.Notice, Message: "the daemon starts"}); err != nil {
		return nil, errors.Join(err, listener.Close(), events.Close())
	}
	var appending errgroup.Group
	appending.SetLimit(16) // so many share a write, and the checkpoint stands as near to the thousandth
	for n := range happened {
		event := journal.Event{Type: journal.DriftFind, Severity: journal.Warning, Message: "something differs"}
		if n%100 == 99 {
			event = journal.Event{Type: journal.TunnelState, Severity: journal.Notice, Object: "tunnel/agency-a", Organisation: "Agency A", Systems: []string{"registry"}, Message: "passing, was idle"}
		}
		appending.Go(func() error {
			_, err := events.Append(context.Background(), event)
			return err
		})
	}
	if err := appending.Wait(); err != nil {
		return nil, errors.Join(err, listener.Close(), events.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- server.Run(ctx, api.Door{Listener: listener, Most: api.Acts}) }()
	return func() error {
		cancel()
		return errors.Join(<-done, events.Close())
	}, nil
}

// mask writes stdout or stderr to the file "masked", with times, lengths of time and the run directory replaced: mask stdout.
func mask(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: mask stdout|stderr")
	}
	ts.Check(os.WriteFile(ts.MkAbs("masked"), []byte(masked(ts.ReadFile(args[0]))), 0o644))
}

func masked(text string) string {
	for _, m := range []struct{ pattern, with string }{
		{`\d{4}-\d\d-\d\dT[0-9:.]+Z`, "<time>"},
		{`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`, "<time>"},
		{`\b\d+d\d+h\b`, "<span>"},
		{`\b(\d+h)?(\d+m)?\d+(\.\d+)?(ms|µs|s)\b`, "<span>"},
		{`(<span>|<time>) {2,}`, "$1  "}, // an age is padded to its column: it fills less of it as years pass
		{`/tmp/sk[0-9]+`, "<run>"},
	} {
		text = regexp.MustCompile(m.pattern).ReplaceAllString(text, m.with)
	}
	return text
}

func TestTableFitsTheTerminal(t *testing.T) {
	var out strings.Builder
	term := &terminal{stdout: &out, width: 30}
	rows := [][]cell{{{text: "agency-a"}, {"passing", green}, {text: strings.Repeat("x", 60)}}, {{text: "agentúra-б"}, {text: "down"}, {text: "short"}}}
	term.table([]string{"NAME", "STATE", "REASON"}, rows)
	want := "NAME        STATE    REASON\nagency-a    passing  xxxxxxxx…\nagentúra-б  down     short\n"
	if out.String() != want {
		t.Errorf("table is\n%swant\n%s", out.String(), want)
	}
	out.Reset()
	term.width = 0 // a pipe: nothing is cut
	term.table([]string{"NAME", "STATE", "REASON"}, rows)
	if !strings.Contains(out.String(), strings.Repeat("x", 60)) {
		t.Errorf("a table in a pipe is cut:\n%s", out.String())
	}
	out.Reset()
	term.width, term.colour = 200, true
	term.table([]string{"NAME", "STATE", "REASON"}, rows)
	if !strings.Contains(out.String(), green+"passing"+plain+"  xxx") {
		t.Errorf("colour is not where it should be: %q", out.String())
	}
}

func TestDifference(t *testing.T) {
	for _, c := range []struct{ before, after, want string }{
		{"a\nb\nc\n", "a\nb\nc\n", ""},
		{"a\nb\nc\n", "a\nx\nc\n", "-b +x"},
		{"a\n", "a\nb\n", "+b"},
		{"a\nb\n", "b\n", "-a"},
		{"x: 1\ny: 2\n", "y: 2\nx: 1\n", "-x: 1 +x: 1"},
	} {
		if got := strings.Join(difference(c.before, c.after), " "); got != c.want {
			t.Errorf("difference(%q, %q) = %q, want %q", c.before, c.after, got, c.want)
		}
	}
}

func TestSpanAndSize(t *testing.T) {
	for length, want := range map[time.Duration]string{0: "0s", -time.Second: "0s", 59 * time.Second: "59s", 61 * time.Second: "1m1s",
		3*time.Hour + 5*time.Minute + time.Second: "3h5m", 50 * time.Hour: "2d2h"} {
		if got := span(length); got != want {
			t.Errorf("span(%s) = %s, want %s", length, got, want)
		}
	}
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1024: "1.00 KiB", 5 << 30: "5.00 GiB", 1<<64 - 1: "16.00 EiB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %s, want %s", n, got, want)
		}
	}
}

// TestQuestionIsAnsweredOrInterrupted: an interrupt while a question waits is no.
func TestQuestion(t *testing.T) {
	for answer, want := range map[string]bool{"y\n": true, "YES\n": true, "n\n": false, "\n": false, "": false, "yesterday\n": false} {
		term := newTerminal(strings.NewReader(answer), io.Discard, io.Discard, false)
		if got := term.ask(t.Context(), "Sure?"); got != want {
			t.Errorf("answer %q counts as %v", answer, got)
		}
	}
	ctx, interrupt := context.WithCancel(t.Context())
	silent, writer := io.Pipe()
	defer writer.Close()
	interrupt()
	if newTerminal(silent, io.Discard, io.Discard, false).ask(ctx, "Sure?") {
		t.Error("an interrupt counts as yes")
	}
}

// TestDraw: a watch shows the worst tunnels first, and no more than the terminal has lines for.
func TestDraw(t *testing.T) {
	var out strings.Builder
	p := &program{terminal: &terminal{stdout: &out, width: 60, height: 7}}
	seen := map[string]provisioning.TunnelStatus{}
	for name, state := range map[string]string{"a": "passing", "b": "down", "c": "idle", "d": "failed", "e": "passing"} {
		seen[name] = provisioning.TunnelStatus{Name: name, State: state, RemotePeer: "edge"}
	}
	if err := p.draw(seen, time.Date(2026, 11, 22, 5, 0, 0, 0, time.UTC)); err != nil {
		t.Fatal(err)
	}
	const want = "\x1b[H\x1b[2J05:00:00  2 passing, 1 idle, 1 down, 1 failed   Ctrl-C ends\n" +
		"NAME  STATE   FOR  PEER  HANDSHAKE  REASON\nd     failed  -    edge  -\nb     down    -    edge  -\nc     idle    -    edge  -\nand 2 more\n"
	if out.String() != want {
		t.Errorf("drawn\n%q\nwant\n%q", out.String(), want)
	}
}

// TestWatchedTurns: without a terminal a change of state is one line with time and name; what is not asked for is not shown.
func TestWatchedTurns(t *testing.T) {
	var out strings.Builder
	since := time.Date(2026, 11, 22, 5, 0, 0, 0, time.Local)
	w := &watched{program: &program{terminal: &terminal{stdout: &out}}, names: []string{"a"}, changed: make(chan struct{}, 1), seen: map[string]provisioning.TunnelStatus{}}
	for _, u := range []api.Update{
		{Status: &provisioning.Status{}},
		{Tunnel: &provisioning.TunnelStatus{Name: "a", State: "idle", Since: since}},
		{Tunnel: &provisioning.TunnelStatus{Name: "a", State: "idle", Since: since, SentBytes: 7}},
		{Tunnel: &provisioning.TunnelStatus{Name: "b", State: "down", Since: since}},
		{Tunnel: &provisioning.TunnelStatus{Name: "a", State: "down", Reason: "nobody answers", Since: since}},
	} {
		if err := w.update(u); err != nil {
			t.Fatal(err)
		}
	}
	if want := "2026-11-22 05:00:00  a  - -> idle\n2026-11-22 05:00:00  a  idle -> down  nobody answers\n"; out.String() != want {
		t.Errorf("printed\n%swant\n%s", out.String(), want)
	}
}
