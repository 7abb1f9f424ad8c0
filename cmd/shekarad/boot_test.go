package main_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// boots: before the daemon's first policy nothing is forwarded, between the two neither, and killing whatever runs opens nothing. The
// host's memory is lost, its disk stays: that is a box without our table.
func (n *network) boots(t *testing.T) {
	owner := n.owner
	n.agency.stop(syscall.SIGTERM)
	n.agency.Run(n.agency.shekarad("cleanup")...)
	owner.Forwarding()
	n.agency.Route("10.20.0.0/24", "203.0.113.10")
	if !reaches(n.agency.H, "10.20.0.10") {
		t.Fatal("the control: without a table of ours a box that forwards passes packets, which no flow allows")
	}
	owner.Run(owner.shekarad("close")...)
	if pings(n.agency.H, "10.20.0.10") {
		t.Error("packets are forwarded after close")
	}
	closed := owner.Run("nft", "list", "table", "inet", "shekara")
	owner.Run(owner.shekarad("close")...)
	if again := owner.Run("nft", "list", "table", "inet", "shekara"); again != closed {
		t.Errorf("closed again the table is another:\n%s\nwas\n%s", again, closed)
	}

	// From here on until the policy stands, whoever is killed: not one packet.
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ping := n.agency.Command(ctx, "ping", "-i", "0.01", "-q", "10.20.0.10")
	ping.Cancel = func() error { return ping.Process.Signal(os.Interrupt) } // it sums up
	var out bytes.Buffer
	ping.Stdout = &out
	if err := ping.Start(); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		owner.daemon = owner.Command(context.Background(), owner.shekarad()...)
		if err := owner.daemon.Start(); err != nil {
			t.Fatal(err)
		}
		owner.await("the daemon has begun", func() bool { _, err := os.Stat(filepath.Join(owner.dir, "run", "shekarad.lock")); return err == nil })
		owner.stop(syscall.SIGKILL)
	}
	owner.start()
	if out := owner.must("plan", "--whole", filepath.Join(owner.dir, "etc")); !strings.Contains(out, "Nothing to change") {
		t.Errorf("after the boot the plan is not empty:\n%s", out)
	}
	stop()
	_ = ping.Wait()
	if !strings.Contains(out.String(), " 0 received,") {
		t.Errorf("packets were forwarded between close and the policy:\n%s", &out)
	}
	if out := owner.must("journal", "list"); !strings.Contains(out, "filter.close") {
		t.Errorf("the journal does not say that the border was closed:\n%s", out)
	}
	owner.Run(owner.shekarad("close")...) // beside the daemon it is nothing
	owner.stop(syscall.SIGTERM)

	// What cannot be read forwards nothing either, and leaves the box itself reachable.
	owner.Run("nft", "delete", "table", "inet", "shekara")
	pointers := filepath.Join(owner.dir, "state", "revisions", "POINTERS")
	kept, err := os.ReadFile(pointers)
	if err != nil {
		t.Fatal(err)
	}
	owner.write("state/revisions/POINTERS", "nonsense")
	if text, err := owner.Try(owner.shekarad("close")...); err == nil || !strings.Contains(text, "hint:") {
		t.Errorf("close with a damaged store answers %v\n%s", err, text)
	}
	if pings(n.agency.H, "10.20.0.10") || !reaches(n.agency.H, "203.0.113.10") {
		t.Error("a damaged store opens the way through the box, or closes the box itself")
	}
	owner.write("state/revisions/POINTERS", string(kept))
	owner.Run("nft", "delete", "table", "inet", "shekara")

	// Nothing was ever asked of this box.
	owner.Run(filepath.Join(owner.programs, "shekarad"), "close", "--state-dir", t.TempDir(), "--etc", t.TempDir())
	if !reaches(n.agency.H, "10.20.0.10") {
		t.Error("a box of which nothing was ever asked is closed")
	}
}
