package provisioning

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"shekara/firewall"
	"shekara/firewall/nft/nfttest"
	"shekara/journal"
	"shekara/netctl"
	"shekara/netctl/netctltest"
	"shekara/netctl/secret"
	"shekara/provisioning/document"
	"shekara/provisioning/document/documenttest"
	"shekara/tunnels"
	"shekara/tunnels/tunnelstest"
)

// box is a host of small kernels, with an engine on it that can be killed and started again.
type box struct {
	*Engine
	t           testing.TB
	dir         string
	network     *netctltest.Kernel
	tunnels     *tunnelstest.Kernel
	filter      *nfttest.Fake
	events      *events
	names       *resolver
	disk        disk
	boot        Boot
	connections Connections
	news        News
	prover      Prover
	beside      Beside
	others      netctl.Others // what is not ours in routing

	heardMu       sync.Mutex
	heard         netctl.Heard // what the kernel has told and nobody has asked for
	foreignChains []string
	inEngine      firewall.Engine // that holds the rules; "": nftables

	tracing sync.Mutex
	trace   func(step string) // called before each step of the host

	cancel context.CancelFunc
	done   errgroup.Group
}

func newBox(t testing.TB) *box {
	b := &box{t: t, dir: t.TempDir(), network: netctltest.NewKernel(), tunnels: &tunnelstest.Kernel{}, filter: &nfttest.Fake{},
		events: newEvents(t), names: &resolver{}, disk: realDisk{}, boot: KernelBoot}
	b.network.AddLink("ext0", "203.0.113.10/24")
	b.network.AddLink("dmz0", "10.20.0.1/24")
	b.network.AddLink("adm0", "192.168.100.1/24")
	b.network.AddLink("adm1")
	return b
}

// start makes an engine without its loops: what happens by itself does not, and each step is the test's own.
func (b *box) start() *box {
	b.t.Helper()
	b.open()
	if err := b.Engine.start(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	close(b.ready)
	return b
}

func (b *box) open() {
	b.t.Helper()
	s, err := openStore(filepath.Join(b.dir, "revisions"), b.disk)
	if err != nil {
		b.t.Fatal(err)
	}
	keys, err := secret.Open(filepath.Join(b.dir, "keys"))
	if err != nil {
		b.t.Fatal(err)
	}
	host := &tracedHost{b}
	b.Engine = newEngine(Options{Site: "owner", StateDir: b.dir, RunDir: b.dir, Version: "test", Network: host, Tunnels: tracedTunnels{b}, Filter: tracedFilter{b},
		Secrets: keys, Journal: b.events, Resolver: b.names, Connections: b.connections, News: b.news, Prover: b.prover, Beside: b.beside, Witness: b, Boot: b.boot, Log: discard()}, s)
	b.Engine.openLedger()
	b.t.Cleanup(b.kill)
}

// run starts an engine with its loops.
func (b *box) run() *box {
	b.t.Helper()
	b.open()
	return b.runOpened()
}

func (b *box) runOpened() *box {
	ctx, cancel := context.WithCancel(context.Background())
	b.cancel = cancel
	engine := b.Engine
	b.done.Go(func() error { return engine.Run(ctx) })
	<-engine.Ready()
	return b
}

// kill ends the engine as SIGKILL would: nothing is said, the host and the disk stay as they are.
func (b *box) kill() {
	if b.Engine == nil {
		return
	}
	if b.cancel != nil {
		b.cancel()
		if err := b.done.Wait(); err != nil {
			b.t.Error(err)
		}
		b.cancel = nil
	}
	if err := b.Engine.Close(); err != nil {
		b.t.Error(err)
	}
	b.Engine = nil
	b.filter.Restart()
}

func (b *box) step(text string) {
	b.tracing.Lock()
	defer b.tracing.Unlock()
	if b.trace != nil {
		b.trace(text)
	}
}

// onStep has each step on the host told before it is done; nil ends it.
func (b *box) onStep(tell func(step string)) {
	b.tracing.Lock()
	defer b.tracing.Unlock()
	b.trace = tell
}

// tracedHost is netctltest's kernel, with the links that the tunnel driver makes and the sysctls that it does not know.
type tracedHost struct{ *box }

func (h *tracedHost) known(key string) bool {
	return !strings.Contains(key, "redirects") && !strings.HasPrefix(key, "net.netfilter.") && !strings.HasPrefix(key, "net.ipv6.conf.")
}

func (h *tracedHost) Observe(ctx context.Context, keys []string) (netctl.State, error) {
	state, err := h.network.Observe(ctx, keys)
	if state.Sysctls == nil {
		state.Sysctls = map[string]string{}
	}
	for _, key := range keys {
		if !h.known(key) {
			state.Sysctls[key] = map[bool]string{true: "1", false: "0"}[strings.HasSuffix(key, "forwarding") || strings.HasPrefix(key, "net.netfilter.")]
		}
	}
	return state, err
}

func (h *tracedHost) Apply(ctx context.Context, ops []netctl.Op) []netctl.Failure {
	var failures []netctl.Failure
	for _, op := range ops {
		h.step(op.String())
		if op.Key == "" || h.known(op.Key) {
			failures = append(failures, h.network.Apply(ctx, []netctl.Op{op})...)
		}
	}
	return failures
}

func (h *tracedHost) RouteHeld(r netctl.Route) (bool, error) { return h.network.RouteHeld(r) }
func (h *tracedHost) Others(context.Context) (netctl.Others, error) {
	return h.others, nil
}
func (h *tracedHost) Cleanup(ctx context.Context) error { return h.network.Cleanup(ctx) }

type tracedTunnels struct{ *box }

func (d tracedTunnels) Observe(ctx context.Context) ([]tunnels.DeviceState, error) {
	return d.tunnels.Observe(ctx)
}

func (d tracedTunnels) Apply(ctx context.Context, ops []tunnels.Op) []tunnels.Failure {
	var failures []tunnels.Failure
	for _, op := range ops {
		d.step(op.String())
		failed := d.tunnels.Apply(ctx, []tunnels.Op{op})
		failures = append(failures, failed...)
		switch {
		case len(failed) > 0:
		case op.Kind == tunnels.DeviceAdd:
			d.network.AddLink(op.Device.Name)
		case op.Kind == tunnels.DeviceDelete:
			d.network.DeleteLink(op.Device.Name)
		}
	}
	return failures
}

func (d tracedTunnels) ResetPeer(ctx context.Context, device string, key tunnels.PublicKey) error {
	d.step("reset " + device)
	return d.tunnels.ResetPeer(ctx, device, key)
}

// newEvents is a journal whose events the catalogue has to declare, with their severities and fields.
func newEvents(t testing.TB) *events {
	e := &events{}
	t.Cleanup(func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, event := range e.list {
			if is := journal.Undeclared(event); len(is) > 0 {
				t.Errorf("the catalogue does not declare %q: %+v", is, event)
			}
		}
	})
	return e
}

// events is a journal in memory.
type events struct {
	mu     sync.Mutex
	list   []journal.Event
	err    error          // what Append answers
	health journal.Health // beside err
	stall  bool           // nothing that is posted is on disk, and nobody knows yet
}

func (e *events) Health() journal.Health {
	e.mu.Lock()
	defer e.mu.Unlock()
	h := e.health
	if h.Err == nil {
		h.Err = e.err
	}
	return h
}

// Post takes all: what the disk does not take waits.
func (e *events) Post(event journal.Event) <-chan error {
	posted := make(chan error, 1)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.add(event)
	if e.err == nil && !e.stall {
		posted <- nil
	}
	return posted
}

// setHealth is what the journal says of itself from now on.
func (e *events) setHealth(h journal.Health) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.health = h
}

// answer is what each Append answers from now on.
func (e *events) answer(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.err = err
}

func (e *events) add(event journal.Event) journal.Event {
	event.Sequence = uint64(len(e.list) + 1)
	e.list = append(e.list, event)
	return event
}

func (e *events) Append(_ context.Context, event journal.Event) (journal.Event, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil {
		return journal.Event{}, e.err
	}
	if len(event.Message) > 2000 {
		return journal.Event{}, errors.New("an event of an unseemly length")
	}
	return e.add(event), nil
}

func (e *events) types() []journal.Type {
	e.mu.Lock()
	defer e.mu.Unlock()
	var types []journal.Type
	for _, event := range e.list {
		types = append(types, event.Type)
	}
	return types
}

func (e *events) count(t journal.Type) int {
	n := 0
	for _, x := range e.types() {
		if x == t {
			n++
		}
	}
	return n
}

// resolver is a name service in memory: host to address, both text.
type resolver struct{ sync.Map }

func (r *resolver) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	if a, found := r.Load(host); found {
		return []netip.Addr{netip.MustParseAddr(a.(string))}, nil
	}
	return nil, fmt.Errorf("no such host %s", host)
}

// site is the documents of the box itself.
const site = documenttest.Zones + `apiVersion: shekara/v1
kind: Peer
metadata: {name: owner-edge}
spec:
  side: owner
  publicIP: 203.0.113.10
  wireguard: [{farZone: agencies, environment: production, port: 51820}]
---
apiVersion: shekara/v1
kind: Site
metadata: {name: owner}
spec:
  lab: true
  peers: [owner-edge]
  interfaces:
    - {name: ext0, zone: internet, addresses: [203.0.113.10/24], gateways: [203.0.113.1]}
    - {name: dmz0, zone: gateway-dmz}
    - {name: adm0, zone: admin}
  management: {zone: admin, from: [192.168.100.0/24], allow: [tcp/22]}
`

// agency is a far peer, its tunnel and its flow.
type agency struct {
	n        int
	key      string
	services string
	psk      string
	endpoint string
	prefix   string
}

func (a agency) name() string { return fmt.Sprintf("agency-%d", a.n) }

func (a agency) publicKey() tunnels.PublicKey {
	key, err := tunnels.ParsePublicKey(a.keyText())
	if err != nil {
		panic(err)
	}
	return key
}

func (a agency) keyText() string {
	if a.key != "" {
		return a.key
	}
	var raw [32]byte
	raw[0], raw[1], raw[2], raw[3] = 9, byte(a.n), byte(a.n>>8), byte(a.n>>16)
	return base64.StdEncoding.EncodeToString(raw[:])
}

func (a agency) prefixText() string {
	if a.prefix != "" {
		return a.prefix
	}
	return fmt.Sprintf("10.%d.%d.%d/28", 64+a.n>>12, a.n>>4&255, a.n&15<<4)
}

func (a agency) yaml() string {
	services, extra, peer := a.services, "", ""
	if services == "" {
		services = "tcp/443"
	}
	if a.psk != "" {
		extra = "\n  presharedKey: " + a.psk
	}
	if a.endpoint != "" {
		peer = "\n  endpoint: " + a.endpoint
	}
	return fmt.Sprintf(`---
apiVersion: shekara/v1
kind: Peer
metadata: {name: %[1]s-edge}
spec:
  side: initiator
  publicIP: 198.%[2]d.%[3]d.%[4]d%[7]s
  wireguard: [{farZone: gateway-dmz, environment: production, port: 51820, publicKey: "%[5]s"}]
---
apiVersion: shekara/v1
kind: Tunnel
metadata: {name: %[1]s}
spec:
  environment: production
  protocol: wireguard
  initiator: {peer: %[1]s-edge, zone: agencies, prefixes: [%[6]s]}
  owner: {peer: owner-edge, zone: gateway-dmz, prefixes: [10.20.0.10/32]}%[9]s
---
apiVersion: shekara/v1
kind: Flow
metadata: {name: %[1]s-https}
spec: {tunnel: %[1]s, from: [%[6]s], to: [10.20.0.10/32], allow: [%[8]s]}
`, a.name(), 18+a.n>>16, a.n>>8&255, a.n&255, a.keyText(), a.prefixText(), peer, services, extra)
}

func agencies(first, count int) string {
	var text strings.Builder
	for n := first; n < first+count; n++ {
		text.WriteString(agency{n: n}.yaml())
	}
	return text.String()
}

func request(text string) Request {
	return Request{Files: []document.File{{Name: "test.yaml", Data: []byte(text)}}}
}

func (b *box) mustApply(r Request) Result {
	b.t.Helper()
	result, err := b.Apply(b.t.Context(), r)
	if err != nil {
		var invalid *InvalidError
		if errors.As(err, &invalid) {
			for _, p := range invalid.Problems[:min(len(invalid.Problems), 10)] {
				b.t.Log(p)
			}
		}
		b.t.Fatal(err)
	}
	return result
}

// mustConfirm ends the window that the first apply of a Site opens.
func (b *box) mustConfirm() {
	b.t.Helper()
	if _, err := b.Confirm(b.t.Context(), journal.Actor{}); err != nil {
		b.t.Fatal(err)
	}
}

// established is a box with a site and so many agencies, confirmed.
func established(t testing.TB, count int) *box {
	t.Helper()
	b := newBox(t).start()
	b.mustApply(request(site + agencies(0, count)))
	b.mustConfirm()
	return b
}

// differences looks at the host anew and says what differs from what the documents in force ask.
func (b *box) mustBeAsAsked() {
	b.t.Helper()
	if err := b.observe(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	prog, err := b.compare(scope{whole: true}, patch{})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, step := range prog.steps() {
		b.t.Errorf("the host differs: %s: %s", step.Phase, step.Text)
	}
}

// peers are the tunnels that the driver has, by the far public key.
func (b *box) peers() []tunnels.PublicKey {
	states, err := b.tunnels.Observe(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	var keys []tunnels.PublicKey
	for _, d := range states {
		keys = append(keys, slices.Collect(maps.Keys(d.Peers))...)
	}
	return keys
}

func (b *box) mustHavePeers(want ...agency) {
	b.t.Helper()
	have := b.peers()
	for _, a := range want {
		if !slices.Contains(have, a.publicKey()) {
			b.t.Errorf("%s is not there", a.name())
		}
	}
	if len(have) != len(want) {
		b.t.Errorf("there are %d peers, want %d", len(have), len(want))
	}
}

func (b *box) revision() (int, RevisionState) {
	p := b.store.now()
	return p.Current, p.Phase
}

func TestApplyMakesItSo(t *testing.T) {
	b := newBox(t).start()
	result := b.mustApply(request(site + agencies(0, 3)))
	if result.Revision != 1 || len(result.Failed) > 0 || result.ConfirmBy == nil {
		t.Errorf("result: %+v", result)
	}
	b.mustBeAsAsked()
	b.mustHavePeers(agency{n: 0}, agency{n: 1}, agency{n: 2})
	b.mustConfirm()

	result = b.mustApply(request(agency{n: 3}.yaml()))
	if result.Revision != 2 || result.ConfirmBy != nil || len(result.Plan.Changes) != 3 {
		t.Errorf("result of a plain tunnel: %+v", result)
	}
	b.mustBeAsAsked()
	b.mustHavePeers(agency{n: 0}, agency{n: 1}, agency{n: 2}, agency{n: 3})
	status, err := b.Status(t.Context())
	if err != nil || status.Revision != 2 || status.State != Confirmed || len(status.Failed)+len(status.Drift)+len(status.Alarms) > 0 {
		t.Errorf("status: %+v, %v", status, err)
	}
}

func TestApplyingWhatIsThereTouchesNothing(t *testing.T) {
	b := established(t, 3)
	seen := len(b.events.types())
	b.onStep(func(step string) { t.Errorf("a step on the host: %s", step) })
	result := b.mustApply(request(site + agencies(0, 3)))
	if result.Revision != 1 || !result.Plan.Empty() {
		t.Errorf("result: %+v", result)
	}
	if types := b.events.types()[seen:]; len(types) > 0 {
		t.Errorf("events: %v", types)
	}
	b.onStep(nil)
	b.mustApply(request(agency{n: 4}.yaml())) // the control: a change does touch
	b.mustHavePeers(agency{n: 0}, agency{n: 1}, agency{n: 2}, agency{n: 4})
}

func TestRestartAdoptsWhatIsThere(t *testing.T) {
	b := established(t, 3)
	loads, changes := b.filter.Calls()
	b.kill()
	b.onStep(func(step string) { t.Errorf("a step on the host: %s", step) })
	b.start()
	if l, c := b.filter.Calls(); l != loads || c != changes {
		t.Errorf("the filter was loaded %d times and changed %d times", l-loads, c-changes)
	}
	b.mustBeAsAsked()
	b.onStep(nil)
	b.mustApply(request(agency{n: 9, services: "tcp/80"}.yaml()))
	b.mustBeAsAsked()
}

func TestConflicts(t *testing.T) {
	b := established(t, 1)
	old := request(agency{n: 1}.yaml())
	old.Base = 1
	b.mustApply(request(agency{n: 2}.yaml()))
	_, err := b.Apply(t.Context(), old)
	var conflict *ConflictError
	if !errors.As(err, &conflict) || conflict.Saw != 1 || conflict.Newest != 2 || conflict.Pending {
		t.Errorf("second applier: %v", err)
	}
	window := request(agency{n: 3}.yaml())
	window.ConfirmWithin = time.Minute
	b.mustApply(window)
	for _, base := range []int{0, 3} {
		r := request(agency{n: 4}.yaml())
		r.Base = base
		if _, err = b.Apply(t.Context(), r); !errors.As(err, &conflict) || !conflict.Pending || conflict.Newest != 3 {
			t.Errorf("apply while a window is open: %v", err)
		}
	}
	b.mustConfirm()
	b.mustApply(request(agency{n: 4}.yaml()))
}
