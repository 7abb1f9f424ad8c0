package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"shekara/journal"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
	"shekara/provisioning/api"
	"shekara/provisioning/api/apitest"
)

// TestUsersAtTheDoors runs the command line as real users, against sockets that belong to real groups: the file modes decide who
// comes in, the kernel's word about the groups decides what he may do.
func TestUsersAtTheDoors(t *testing.T) {
	probetest.Need(t, probe.Root)
	const act, view = 60001, 60002
	dir, err := os.MkdirTemp("", "sk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "shekara")
	if out, err := exec.Command("go", "build", "-o", program, "shekara/cmd/shekara").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	serveMemory(t, dir, act, view)
	for _, c := range []struct {
		who         string
		uid         uint32
		groups      []uint32
		looks, acts int // exit codes of shekara status and shekara secret list
		says        string
	}{
		{who: "root", uid: 0, looks: 0, acts: 0},
		{who: "member of shekara", uid: 60010, groups: []uint32{act}, looks: 0, acts: 0},
		{who: "member of shekara-view", uid: 60011, groups: []uint32{view}, looks: 0, acts: 1, says: "may look, not act: list-secrets"},
		{who: "member of both", uid: 60012, groups: []uint32{view, act}, looks: 0, acts: 0},
		{who: "stranger", uid: 60013, groups: []uint32{60003}, looks: 1, acts: 1, says: "you may not speak to shekarad"},
	} {
		for verb, want := range map[string]int{"status": c.looks, "secret list": c.acts} {
			command := exec.CommandContext(t.Context(), program, append([]string{"--run-dir", dir}, strings.Fields(verb)...)...)
			command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: c.uid, Gid: 60099, Groups: c.groups}}
			out, err := command.CombinedOutput()
			if command.ProcessState == nil {
				t.Fatal(err)
			}
			if code := command.ProcessState.ExitCode(); code != want || code != 0 && (!strings.Contains(string(out), c.says) || !strings.Contains(string(out), "hint: ")) {
				t.Errorf("%s: shekara %s answered %d, want %d with %q and a hint\n%s", c.who, verb, code, want, c.says, out)
			}
		}
	}
}

func serveMemory(t *testing.T, dir string, act, view uint32) {
	t.Helper()
	events, err := journal.Open(filepath.Join(dir, "journal"), nil)
	if err != nil {
		t.Fatal(err)
	}
	groups := api.Groups{Act: &act, View: &view}
	doors, err := openDoors(dir, groups)
	if err != nil {
		t.Fatal(err)
	}
	metrics := api.NewMetrics("test")
	server := api.New(api.Config{Site: "owner", Engine: apitest.NewMemory(), Identify: identify, Groups: groups, Journal: events, Recorder: metrics.Recorder(events),
		Metrics: metrics, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Version: "test"})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- server.Run(ctx, doors...) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		events.Close()
	})
}
