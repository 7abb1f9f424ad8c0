package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"shekara/journal"
	"shekara/netctl/clock"
	"shekara/netctl/nstest"
	"shekara/netctl/probe"
	"shekara/netctl/probe/probetest"
	"shekara/provisioning"
	"shekara/provisioning/api"
	"shekara/provisioning/client"
)

// patience is how long something that must happen may take on a busy machine; nothing waits so long when all is well.
const patience = 60 * time.Second

// programs builds shekarad and shekara once for each test that needs them.
func programs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", dir, "shekara/cmd/shekarad", "shekara/cmd/shekara")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build, err, out)
	}
	return dir
}

// box is a host with a daemon of its own.
type box struct {
	*nstest.H
	t        *testing.T
	programs string
	dir      string // state, run and etc
	daemon   *exec.Cmd
	log      *lockedBuffer
	client   *client.Client
}

func newBox(t *testing.T, programs, name string) *box {
	t.Helper()
	// Not t.TempDir: a unix socket's path holds 107 bytes.
	dir, err := os.MkdirTemp("", "sk")
	if err != nil {
		t.Fatal(err)
	}
	b := &box{H: nstest.Host(t, name), t: t, programs: programs, dir: dir, log: &lockedBuffer{}, client: client.New(filepath.Join(dir, "run"))}
	t.Cleanup(func() {
		if b.daemon != nil && b.daemon.ProcessState == nil {
			b.stop(syscall.SIGTERM)
		}
		if _, err := b.Try(b.shekarad("cleanup")...); err != nil {
			t.Errorf("cleanup of %s: %v", name, err)
		}
		b.isDeclared()
		if t.Failed() {
			t.Logf("log of %s:\n%s", name, b.log)
		}
		os.RemoveAll(dir)
	})
	return b
}

// isDeclared holds all that is on record to the catalogue. No daemon runs any more.
func (b *box) isDeclared() {
	events, err := journal.Open(filepath.Join(b.dir, "state", "journal"), nil)
	if err != nil {
		b.t.Errorf("journal of %s: %v", b.Name, err)
		return
	}
	defer events.Close()
	all, err := events.Read(context.Background(), 0, journal.MaxRead)
	if err != nil || len(all) == 0 {
		b.t.Errorf("journal of %s: %d events, %v", b.Name, len(all), err)
	}
	for _, e := range all {
		if is := journal.Undeclared(e); len(is) > 0 {
			b.t.Errorf("the catalogue does not declare %q: %+v", is, e)
		}
	}
}

func (b *box) write(name, text string) string {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
	return path
}

func (b *box) shekarad(args ...string) []string {
	return append([]string{filepath.Join(b.programs, "shekarad"), "--state-dir", filepath.Join(b.dir, "state"), "--run-dir", filepath.Join(b.dir, "run"),
		"--etc", filepath.Join(b.dir, "etc"), "--log-level", "debug", "--engine", "userspace"}, args...)
}

// cli runs shekara and answers its standard output and exit code; standard error goes to the test's log.
func (b *box) cli(args ...string) (string, int) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	command := b.Command(ctx, append([]string{filepath.Join(b.programs, "shekara"), "--run-dir", filepath.Join(b.dir, "run")}, args...)...)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	err := command.Run()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		b.t.Fatalf("%s: shekara %v: %v", b.Name, args, err)
	}
	b.t.Logf("%s: shekara %s = %d\n%s%s", b.Name, strings.Join(args, " "), command.ProcessState.ExitCode(), &stdout, &stderr)
	return stdout.String(), command.ProcessState.ExitCode()
}

// describeItself begins as a new user does. It is called once the box has its links.
func (b *box) describeItself() {
	b.t.Helper()
	etc := filepath.Join(b.dir, "etc")
	b.must("init", etc, "--site", b.Name)
	starter, err := os.ReadFile(filepath.Join(etc, b.Name+".yaml"))
	if err != nil || !strings.Contains(string(starter), "metadata: {name: "+b.Name+"}\n") || !strings.Contains(string(starter), "- name: ext0\n    zone: internet\n") {
		b.t.Fatalf("init of %s: %v\n%s", b.Name, err, starter)
	}
	b.must("validate", etc, "--site", b.Name)
}

func (b *box) must(args ...string) string {
	b.t.Helper()
	out, code := b.cli(args...)
	if code != 0 {
		b.t.Fatalf("%s: shekara %s answered %d", b.Name, strings.Join(args, " "), code)
	}
	return out
}

// start starts the daemon and waits until it answers and the engine is ready.
func (b *box) start() {
	b.t.Helper()
	b.daemon = b.Command(context.Background(), b.shekarad()...)
	b.daemon.Stdout, b.daemon.Stderr = b.log, b.log
	if err := b.daemon.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.await("the daemon is ready", func() bool { return strings.Contains(b.log.String(), "msg=ready") })
}

// stop sends a signal, waits for the end, and answers the exit code.
func (b *box) stop(signal syscall.Signal) int {
	b.t.Helper()
	if err := b.daemon.Process.Signal(signal); err != nil {
		b.t.Fatal(err)
	}
	_ = b.daemon.Wait()
	b.log.Reset()
	return b.daemon.ProcessState.ExitCode()
}

// await asks again until it is so: there is no event to wait for outside the process. It fails the test after the patience.
func (b *box) await(what string, so func() bool) {
	b.t.Helper()
	deadline := time.Now().Add(patience)
	for !so() {
		if time.Now().After(deadline) {
			b.t.Fatalf("%s: not within %s: %s\n%s", b.Name, patience, what, b.log)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// pings reports whether an echo through whatever lies between is answered within a second.
func pings(h *nstest.H, address string) bool { return echoed(h, address, "1") }

// reaches is pings where the answer has to come, if later on a busy machine.
func reaches(h *nstest.H, address string) bool { return echoed(h, address, "10") }

func echoed(h *nstest.H, address, seconds string) bool {
	_, err := h.Try("ping", "-c", "1", "-W", seconds, address)
	return err == nil
}

// lockedBuffer collects what a process prints while the test reads it.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func (b *lockedBuffer) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text.Reset()
}

// network is two boxes with a host behind each, and the documents of both.
type network struct {
	owner, agency   *box
	gateway, office *nstest.H
	zones, tunnel   string
}

const zones = `
apiVersion: shekara/v1
kind: Zone
metadata: {name: internet}
spec: {contour: external, kind: internet}
---
apiVersion: shekara/v1
kind: Zone
metadata: {name: %[1]s}
spec: {contour: external, kind: partners, prefixes: [10.64.0.0/12]}
---
apiVersion: shekara/v1
kind: Zone
metadata: {name: %[2]s}
spec: {contour: integration, kind: screened-subnet, prefixes: [10.20.0.0/24]}
`

const sites = `
apiVersion: shekara/v1
kind: Site
metadata: {name: owner}
spec:
  lab: true
  peers: [owner-edge]
  interfaces: [{name: ext0, zone: internet, addresses: [203.0.113.10/24]}, {name: dmz0, zone: %[2]s}]
---
apiVersion: shekara/v1
kind: Site
metadata: {name: agency}
spec:
  lab: true
  peers: [agency-edge]
  interfaces: [{name: ext0, zone: internet, addresses: [203.0.113.20/24]}, {name: lan0, zone: %[1]s}]
`

const peers = `
apiVersion: shekara/v1
kind: Peer
metadata: {name: owner-edge}
spec:
  side: owner
  publicIP: 203.0.113.10
  wireguard: [{farZone: %[1]s, environment: production, port: 51820}]
---
apiVersion: shekara/v1
kind: Peer
metadata: {name: agency-edge}
spec:
  side: initiator
  publicIP: 203.0.113.20
  wireguard: [{farZone: %[2]s, environment: production, port: 51821}]
`

const tunnel = `
apiVersion: shekara/v1
kind: Tunnel
metadata: {name: agency}
spec:
  environment: production
  protocol: wireguard
  initiator: {peer: agency-edge, zone: %[1]s, prefixes: [10.64.1.0/28]}
  owner: {peer: owner-edge, zone: %[2]s, prefixes: [10.20.0.10/32]}
  keepalive: 5
---
apiVersion: shekara/v1
kind: Flow
metadata: {name: agency-ping}
spec: {tunnel: agency, from: [10.64.1.5/32], to: [10.20.0.10/32], allow: [icmp]}
`

func newNetwork(t *testing.T) *network {
	t.Helper()
	probetest.Need(t, probe.Root, probe.Namespaces, probe.NFTables, probe.TUN)
	bin := programs(t)
	n := &network{owner: newBox(t, bin, "owner"), agency: newBox(t, bin, "agency"), gateway: nstest.Host(t, "gateway"), office: nstest.Host(t, "office")}
	nstest.Link(t, n.owner.H, "ext0", []string{"203.0.113.10/24"}, n.agency.H, "ext0", []string{"203.0.113.20/24"})
	nstest.Link(t, n.owner.H, "dmz0", []string{"10.20.0.1/24"}, n.gateway, "eth0", []string{"10.20.0.10/24"})
	nstest.Link(t, n.agency.H, "lan0", []string{"10.64.1.1/28"}, n.office, "eth0", []string{"10.64.1.5/28"})
	n.gateway.Route("default", "10.20.0.1")
	n.office.Route("default", "10.64.1.1")
	// Names of devices follow those of zones, and sockets of userspace devices share one folder with all namespaces.
	mark := fmt.Sprintf("%x", time.Now().UnixNano()&0xffff)
	partners, subnet := "p"+mark, "s"+mark
	n.zones = fmt.Sprintf(zones, partners, subnet)
	n.tunnel = fmt.Sprintf(tunnel, partners, subnet)
	both := strings.Split(fmt.Sprintf(peers, partners, subnet), "---\n")
	each := strings.Split(fmt.Sprintf(sites, partners, subnet), "---\n")
	for i, b := range []*box{n.owner, n.agency} {
		b.describeItself()
		b.write("first/zones.yaml", n.zones)
		b.write("first/site.yaml", each[i])
		b.write("first/peer.yaml", both[i])
	}
	n.zones += "---\n" + strings.Join(each, "---\n")
	return n
}

// join lets each box make its key, exchanges the Peer documents, and applies the tunnel on both.
func (n *network) join(t *testing.T) {
	t.Helper()
	exports := map[string]string{}
	for _, b := range []*box{n.owner, n.agency} {
		b.start()
		if out, code := b.cli("status", "--check", "ready"); code != 1 {
			t.Errorf("%s is ready before anything was applied: %s", b.Name, out)
		}
		if out, code := b.cli("plan", filepath.Join(b.dir, "etc")); code != 2 || !strings.Contains(out, "+ Site "+b.Name) {
			t.Errorf("%s: plan of what init wrote answered %d:\n%s", b.Name, code, out)
		}
		b.must("apply", filepath.Join(b.dir, "first"), "--yes", "-m", "first")
		b.must("confirm") // a change of the Site opens a window by itself
		exports[b.Name] = b.must("peer", "export")
	}
	for _, b := range []*box{n.owner, n.agency} {
		for name, text := range map[string]string{"etc/zones.yaml": n.zones, "etc/owner.yaml": exports["owner"], "etc/agency.yaml": exports["agency"], "etc/tunnel.yaml": n.tunnel} {
			b.write(name, text)
		}
		etc := filepath.Join(b.dir, "etc")
		b.must("validate", etc)
		if _, code := b.cli("plan", "--whole", etc); code != 2 {
			t.Errorf("%s: plan answered %d, want 2: there is something to do", b.Name, code)
		}
		b.must("apply", "--whole", etc, "--yes", "-m", "the tunnel")
		if out := b.must("plan", "--whole", etc); !strings.Contains(out, "Nothing to change") {
			t.Errorf("%s: after apply the plan is not empty:\n%s", b.Name, out)
		}
	}
}

// TestFromInitToCleanup is the whole path with the real programs: two daemons, a tunnel, real packets.
func TestFromInitToCleanup(t *testing.T) {
	n := newNetwork(t)
	n.join(t)
	n.owner.await("the office reaches the gateway", func() bool { return pings(n.office, "10.20.0.10") })
	if pings(n.office, "10.20.0.1") {
		t.Error("the office reaches the owner's box, which no flow allows")
	}
	n.owner.await("the tunnel passes", func() bool {
		pings(n.office, "10.20.0.10") // the daemon says so when it sees data between two looks
		tunnel, err := n.owner.client.Tunnel(t.Context(), "agency")
		return err == nil && tunnel.State == "passing"
	})
	var status struct {
		APIVersion string `json:"apiVersion"`
		provisioning.Status
	}
	if err := json.Unmarshal([]byte(n.owner.must("status", "--json")), &status); err != nil || status.APIVersion != "shekara/v1" || status.Tunnels["passing"] != 1 {
		t.Errorf("status is %+v, %v", status, err)
	}
	n.owner.must("status", "--check", "ready")
	n.owner.must("status")
	n.owner.must("tunnel", "list")
	n.owner.must("tunnel", "show", "agency")
	if out := n.owner.must("metrics"); !strings.Contains(out, `shekara_tunnel_state{state="passing",tunnel="agency"} 1`) {
		t.Errorf("metrics do not say that the tunnel passes:\n%s", out)
	}
	t.Run("killed", func(t *testing.T) { n.killed(t) })
	t.Run("rollback", func(t *testing.T) { n.rollback(t) })
	t.Run("unconfirmed", func(t *testing.T) { n.unconfirmed(t) })
	t.Run("hangup", func(t *testing.T) { n.hangup(t) })
	t.Run("stop", func(t *testing.T) { n.stopped(t) })
	t.Run("boot", func(t *testing.T) { n.boots(t) })
}

// killed: the data plane does not notice that the daemon is killed and comes back, and a second daemon is refused.
func (n *network) killed(t *testing.T) {
	ping := n.office.Command(t.Context(), "ping", "-i", "0.1", "-c", "50", "10.20.0.10")
	var out bytes.Buffer
	ping.Stdout = &out
	if err := ping.Start(); err != nil {
		t.Fatal(err)
	}
	n.owner.stop(syscall.SIGKILL)
	n.owner.start()
	if text, err := n.owner.Try(n.owner.shekarad()...); err == nil || !strings.Contains(text+err.Error(), "another shekarad runs") {
		t.Errorf("a second daemon: %v %s", err, text)
	}
	if err := ping.Wait(); err != nil || !strings.Contains(out.String(), " 0% packet loss") {
		t.Errorf("ping while the daemon was killed: %v\n%s", err, &out)
	}
	if out := n.owner.must("plan", "--whole", filepath.Join(n.owner.dir, "etc")); !strings.Contains(out, "Nothing to change") {
		t.Errorf("after a restart the plan is not empty:\n%s", out)
	}
}

// rollback: the first revision has no tunnel, the third is the second again.
func (n *network) rollback(t *testing.T) {
	n.owner.must("history")
	n.owner.must("rollback", "1")
	if pings(n.office, "10.20.0.10") {
		t.Error("the tunnel was rolled back, but packets pass")
	}
	n.owner.must("compare", "1", "2")
	n.owner.must("rollback", "2")
	n.owner.await("packets pass again", func() bool { return pings(n.office, "10.20.0.10") })
}

// unconfirmed: what nobody confirms is undone, loudly.
func (n *network) unconfirmed(t *testing.T) {
	without := n.owner.write("without.yaml", strings.Replace(n.tunnel, "allow: [icmp]", "allow: [tcp/443]", 1))
	n.owner.must("apply", without, "--yes", "--confirm-within", "30s")
	if pings(n.office, "10.20.0.10") {
		t.Error("the flow is gone, but packets pass")
	}
	n.owner.await("the unconfirmed revision is undone", func() bool { return pings(n.office, "10.20.0.10") })
	n.owner.await("the journal speaks of the revert", func() bool { // after it is done
		out, _ := n.owner.cli("journal", "list")
		return strings.Contains(out, "revision.revert")
	})
}

// hangup: SIGHUP reads the directory as a whole; what is invalid is refused, and leaves everything as it was.
func (n *network) hangup(t *testing.T) {
	before, err := n.owner.client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if says, err := clock.Now(); err != nil || before.Clock == nil || before.Clock.Synchronised != says.Synchronised {
		t.Errorf("the status says %+v of the clock, and the kernel %+v, %v", before.Clock, says, err)
	}
	n.owner.write("etc/extra.yaml", "apiVersion: shekara/v1\nkind: Zone\nmetadata: {name: extra}\nspec: {contour: external, kind: partners, prefixes: [192.168.77.0/24], frob: 1}\n")
	n.hup(t)
	n.owner.await("the re-read is refused", func() bool { return strings.Contains(n.owner.log.String(), "re-read refused") })
	if after, err := n.owner.client.Status(t.Context()); err != nil || after.Revision != before.Revision {
		t.Errorf("a refused re-read made revision %d out of %d, %v", after.Revision, before.Revision, err)
	}
	n.owner.write("etc/extra.yaml", "apiVersion: shekara/v1\nkind: Zone\nmetadata: {name: extra}\nspec: {contour: external, kind: partners, prefixes: [192.168.77.0/24]}\n")
	n.hup(t)
	n.owner.await("the re-read is a new revision", func() bool {
		after, err := n.owner.client.Status(t.Context())
		return err == nil && after.Revision > before.Revision
	})
	if !reaches(n.office, "10.20.0.10") {
		t.Error("packets do not pass after a re-read that did not touch the tunnel")
	}
	// What the directory no longer holds goes, and the record names it.
	if err := os.Remove(filepath.Join(n.owner.dir, "etc/extra.yaml")); err != nil {
		t.Fatal(err)
	}
	n.hup(t)
	n.owner.await("the record names what the re-read removed", func() bool {
		page, err := n.owner.client.Events(t.Context(), 0, 10000, api.EventFilter{})
		return err == nil && slices.ContainsFunc(page.Events, func(e journal.Event) bool {
			return e.Type == journal.ApplyStart && e.Fields["removed"] == "Zone/extra"
		})
	})
}

func (n *network) hup(t *testing.T) {
	t.Helper()
	if err := n.owner.daemon.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
}

// stopped: an ordered stop leaves the data plane; cleanup takes everything of ours away, and nothing else.
func (n *network) stopped(t *testing.T) {
	followed := make(chan error, 1)
	go func() {
		followed <- n.owner.client.FollowChanges(t.Context(), func(api.Update) error { return nil })
	}()
	if text, err := n.owner.Try(n.owner.shekarad("cleanup")...); err == nil || !strings.Contains(text+err.Error(), "another shekarad runs") {
		t.Errorf("cleanup beside a daemon: %v %s", err, text)
	}
	if code := n.owner.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("the daemon ended with %d", code)
	}
	if err := <-followed; err == nil {
		t.Error("the stream ended without an error")
	}
	if !reaches(n.office, "10.20.0.10") {
		t.Error("packets do not pass while the daemon is stopped")
	}
	n.owner.Run(n.owner.shekarad("cleanup")...)
	for what, command := range map[string][]string{"links": {"ip", "-o", "link"}, "rules": {"ip", "rule"}, "routes": {"ip", "route", "show", "table", "all", "proto", "83"}} {
		out := n.owner.Run(command...)
		if strings.Contains(out, "sk-") || what == "routes" && strings.TrimSpace(out) != "" {
			t.Errorf("cleanup left %s:\n%s", what, out)
		}
	}
	if out := n.owner.Run("nft", "list", "tables"); strings.Contains(out, "shekara") {
		t.Errorf("cleanup left a table: %s", out)
	}
	if out := n.owner.Run("ip", "-o", "address", "show", "dev", "dmz0"); !strings.Contains(out, "10.20.0.1/24") {
		t.Errorf("cleanup took what is not ours: %s", out)
	}
	if entries, err := os.ReadDir(filepath.Join(n.owner.dir, "state", "revisions")); err != nil || len(entries) == 0 {
		t.Errorf("cleanup took the revisions: %v, %v", entries, err)
	}
	if _, err := os.Stat(filepath.Join(n.owner.dir, "run", client.ActSocket)); err == nil {
		t.Error("the socket is still there")
	} else if !os.IsNotExist(err) {
		t.Error(err)
	}
}
