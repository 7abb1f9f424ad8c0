package apitest

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"shekara/firewall/proof"
	"shekara/journal"
	"shekara/journal/incident"
	"shekara/provisioning"
	"shekara/provisioning/contour"
	"shekara/provisioning/document"
	"shekara/provisioning/verification"
	"shekara/timesync"
	"shekara/timesync/server"
	"shekara/timesync/service"
)

// Memory is an engine without a host: files are its documents, "bad" in one is a problem, "failing" a tunnel that cannot be made real. It keeps revisions, refuses a stale
// base and a second apply in a confirm window, as the real one does.
type Memory struct {
	mu        sync.Mutex // guards what follows
	revisions []revision
	secrets   map[string]string
	hold      *time.Time
	alive     time.Time

	Centres  []provisioning.Sink // to whom its journal goes; set it before anybody asks
	Siteless bool                // it does not know which Site it is; set it before anybody asks
	Block    chan struct{}       // Apply waits for it, if set; set it before anybody applies
	Entered  chan struct{}       // is told when Apply waits
}

type revision struct {
	provisioning.Revision
	files map[string]string
}

func (r revision) hole() bool {
	return slices.ContainsFunc(slices.Collect(maps.Values(r.files)), func(text string) bool { return strings.Contains(text, "hole") })
}

// NewMemory makes one to which nothing was applied.
func NewMemory() *Memory { return &Memory{secrets: map[string]string{}, alive: time.Now()} }

// Turn says when the loop last turned.
func (m *Memory) Turn(at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.alive = at
}

func (m *Memory) newest() revision {
	if len(m.revisions) == 0 {
		return revision{}
	}
	return m.revisions[len(m.revisions)-1]
}

func (m *Memory) plan(r provisioning.Request) (provisioning.Plan, map[string]string, error) {
	newest := m.newest()
	if saw := max(r.Base, 0); r.Base != 0 && saw != newest.ID {
		return provisioning.Plan{}, nil, &provisioning.ConflictError{Saw: saw, Newest: newest.ID, Actor: newest.Actor}
	}
	want := map[string]string{}
	if !r.Whole {
		maps.Copy(want, newest.files)
	}
	invalid := &provisioning.InvalidError{}
	for _, f := range r.Files {
		if line := strings.Index(string(f.Data), "bad"); line >= 0 {
			invalid.Problems = append(invalid.Problems, document.Problem{Position: document.Position{File: f.Name, Line: 1, Column: line + 1},
				What: "bad word", Value: "bad", Hint: "write good"})
		}
		want[f.Name] = string(f.Data)
	}
	if len(invalid.Problems) > 0 {
		return provisioning.Plan{}, nil, invalid
	}
	plan := provisioning.Plan{ID: "0123456789ab", Base: newest.ID, Site: "owner", Changes: compare(newest.files, want)}
	return plan, want, nil
}

func compare(before, after map[string]string) []provisioning.Change {
	var changes []provisioning.Change
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if old, ok := before[name]; !ok {
			changes = append(changes, provisioning.Change{Verb: "add", Kind: document.KindZone, Name: name, After: after[name]})
		} else if old != after[name] {
			changes = append(changes, provisioning.Change{Verb: "change", Kind: document.KindZone, Name: name, Before: old, After: after[name]})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if _, ok := after[name]; !ok {
			changes = append(changes, provisioning.Change{Verb: "remove", Kind: document.KindZone, Name: name, Before: before[name]})
		}
	}
	return changes
}

func (m *Memory) Plan(_ context.Context, r provisioning.Request) (provisioning.Plan, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	plan, _, err := m.plan(r)
	return plan, err
}

func (m *Memory) Apply(ctx context.Context, r provisioning.Request) (provisioning.Result, error) {
	if m.Block != nil {
		m.Entered <- struct{}{}
		select {
		case <-m.Block:
		case <-ctx.Done():
			return provisioning.Result{}, ctx.Err()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := m.newest(); n.State == provisioning.Unconfirmed {
		return provisioning.Result{}, &provisioning.ConflictError{Saw: r.Base, Newest: n.ID, Pending: true, Actor: n.Actor}
	}
	plan, want, err := m.plan(r)
	if err != nil || plan.Empty() {
		return provisioning.Result{Revision: plan.Base, Plan: plan}, err
	}
	next := revision{files: want, Revision: provisioning.Revision{ID: plan.Base + 1, Parent: plan.Base, Actor: r.Actor, Message: r.Message, State: provisioning.Confirmed}}
	if r.ConfirmWithin > 0 {
		by := time.Now().Add(r.ConfirmWithin)
		next.State, next.ConfirmBy = provisioning.Unconfirmed, &by
	}
	m.revisions = append(m.revisions, next)
	return provisioning.Result{Revision: next.ID, Plan: plan, Failed: failed(want), ConfirmBy: next.ConfirmBy}, nil
}

func failed(files map[string]string) []provisioning.Failed {
	var list []provisioning.Failed
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.Contains(files[name], "failing") {
			list = append(list, provisioning.Failed{Tunnel: name, Error: "its endpoint does not resolve", Hint: "correct the name"})
		}
	}
	return list
}

func (m *Memory) Confirm(context.Context, journal.Actor) (provisioning.Result, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.newest()
	if n.State != provisioning.Unconfirmed {
		return provisioning.Result{}, provisioning.ErrNothingToConfirm
	}
	m.revisions[len(m.revisions)-1].State = provisioning.Confirmed
	return provisioning.Result{Revision: n.ID}, nil
}

func (m *Memory) Rollback(_ context.Context, to int, by journal.Actor) (provisioning.Result, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.newest()
	if to == 0 {
		to = n.ID - 1
	}
	if to < 1 || to >= n.ID {
		return provisioning.Result{}, fmt.Errorf("revision %d: %w", to, fs.ErrNotExist)
	}
	files := m.revisions[to-1].files
	m.revisions = append(m.revisions, revision{files: files, Revision: provisioning.Revision{ID: n.ID + 1, Parent: n.ID, Actor: by, State: provisioning.Confirmed}})
	return provisioning.Result{Revision: n.ID + 1, Failed: failed(files)}, nil
}

func (m *Memory) Hold(_ context.Context, length time.Duration, _ journal.Actor) (time.Time, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if length == 0 {
		m.hold = nil
		return time.Time{}, nil
	}
	until := time.Now().Add(length)
	m.hold = &until
	return until, nil
}

func (m *Memory) History(context.Context) ([]provisioning.Revision, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []provisioning.Revision
	for _, r := range slices.Backward(m.revisions) {
		out = append(out, r.Revision)
	}
	return out, nil
}

func (m *Memory) files(id int) (map[string]string, error) {
	switch {
	case id == 0:
		return m.newest().files, nil
	case id > len(m.revisions):
		return nil, fmt.Errorf("revision %d: %w", id, fs.ErrNotExist)
	}
	return m.revisions[id-1].files, nil
}

func (m *Memory) Compare(_ context.Context, from, to int) ([]provisioning.Change, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before, err := m.files(from)
	if err != nil {
		return nil, err
	}
	after, err := m.files(to)
	return compare(before, after), err
}

func (m *Memory) Documents(_ context.Context, id int) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	files, err := m.files(id)
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(files)) {
		text.WriteString(files[name])
	}
	return []byte(text.String()), err
}

// Incidents has one of each: open, and over.
func (m *Memory) Incidents(context.Context) (provisioning.IncidentReport, error) {
	opened := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	scan := incident.Incident{Rule: "contour-scan", Key: "10.64.1.5", Severity: journal.Warning, Summary: "somebody looks for open ports across a contour", Opened: opened, Last: opened, Count: 7, Sequences: []uint64{3, 4, 5}}
	lost := incident.Incident{Rule: "clock-lost", Severity: journal.Error, Summary: "nobody keeps the clock", Opened: opened, Last: opened, Closed: opened, Reason: "ended by clock.synchronise", Count: 1}
	return provisioning.IncidentReport{Open: []incident.Incident{scan}, Closed: []incident.Incident{lost}, Rules: []string{"clock-lost", "contour-scan"}, Through: 9, Unopened: 2}, nil
}

// timeReport is of a clock that three sources confirm, one that lies, and one system that asked.
func timeReport() service.Report {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	source := func(name string, verdict timesync.Verdict, offset time.Duration) timesync.SourceStatus {
		return timesync.SourceStatus{Name: name, Address: name, Verdict: verdict, Authentication: "none", Stratum: 1, Reach: 255, Offset: offset, Delay: 2 * time.Millisecond, Distance: 3 * time.Millisecond, Poll: 16 * time.Second, LastHeard: at}
	}
	return service.Report{Service: "owner-time", Time: at, Status: timesync.Status{
		Standing: timesync.Standing{State: timesync.Synchronised, Since: at, Stratum: 2, Reference: "192.0.2.1:123", ReferenceTime: at, Offset: 120 * time.Microsecond, RootDelay: 2 * time.Millisecond,
			RootDispersion: 900 * time.Microsecond, Drift: timesync.Tolerance, At: at},
		Sources: []timesync.SourceStatus{source("192.0.2.1:123", timesync.Followed, 120*time.Microsecond), source("192.0.2.2:123", timesync.Agrees, 80*time.Microsecond),
			source("192.0.2.3:123", timesync.Agrees, 200*time.Microsecond), source("192.0.2.4:123", timesync.Falseticker, 2*time.Second)},
		Warnings: []timesync.Warning{{Kind: timesync.WarnFalseticker, Source: "192.0.2.4:123", Message: "192.0.2.4:123 tells another time"}}},
		Requests: server.Counters{Received: 15, Served: 12, Refused: 3},
		Systems:  []server.System{{Name: "portal-a", Served: 12, LastSeen: at, Offset: 40 * time.Millisecond, OffsetAt: at}}}
}

func (m *Memory) TimeService(context.Context) (provisioning.TimeService, error) {
	return provisioning.TimeService{Site: "owner", Spec: &timesync.Spec{Name: "owner-time", Agreeing: 3, Addresses: []netip.Addr{netip.MustParseAddr("10.20.0.1")}}}, nil
}

// TimeStatus is of a clock that is kept, unless there is a hole.
func (m *Memory) TimeStatus(context.Context) (*provisioning.TimeStatus, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := timeReport()
	if m.newest().hole() {
		r.Status.Standing = timesync.Unknown(r.Time)
	}
	return &provisioning.TimeStatus{Report: r}, nil
}

// TimeClients has one address.
func (m *Memory) TimeClients(_ context.Context, after string, _ int) ([]server.Client, error) {
	s := timeReport().Systems[0]
	if after != "" {
		return nil, nil
	}
	return []server.Client{{Address: netip.MustParseAddr("10.64.1.5"), System: s.Name, LastSeen: s.LastSeen, Served: s.Served, Version: 4, Offset: 40 * time.Millisecond, OffsetKnown: true}}, nil
}

func (m *Memory) Sinks(context.Context) ([]provisioning.Sink, error) { return m.Centres, nil }

func (m *Memory) Status(context.Context) (provisioning.Status, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.newest()
	s := provisioning.Status{Site: "owner", Revision: n.ID, State: n.State, ConfirmBy: n.ConfirmBy, HoldUntil: m.hold,
		Tunnels: map[string]int{"passing": 1, "down": 1}, LastObserved: m.alive}
	if n.hole() {
		s.Waivers = []contour.Waived{waivedExample()}
	}
	return s, nil
}

func (m *Memory) Tunnels(context.Context) ([]provisioning.TunnelStatus, error) {
	shaken := time.Unix(1700000000, 0)
	return []provisioning.TunnelStatus{
		{Name: "agency-a", State: "passing", Protocol: "wireguard", Device: "sk-agencies", PublicKey: "QUFB=", ReceivedBytes: 1234, SentBytes: 99,
			LastHandshake: &shaken, Probe: &provisioning.ProbeStatus{Sent: 20, Lost: 1, Latency: 1500 * time.Microsecond}},
		{Name: "agency-b", State: "down", Protocol: "wireguard", Device: "sk-agencies", PublicKey: "QkJC=", Reason: "no handshake"},
	}, nil
}

func (m *Memory) Tunnel(ctx context.Context, name string) (provisioning.TunnelStatus, error) {
	all, _ := m.Tunnels(ctx)
	for _, t := range all {
		if t.Name == name {
			return t, nil
		}
	}
	return provisioning.TunnelStatus{}, fmt.Errorf("tunnel %q: %w", name, fs.ErrNotExist)
}

// Flows are four, of which the first is busy.
func (m *Memory) Flows(_ context.Context, q provisioning.FlowQuery) (provisioning.FlowReport, error) {
	at := time.Unix(1700000000, 0).UTC()
	r := provisioning.FlowReport{Flows: []provisioning.FlowStatus{}, Looked: &at, Connections: 3, Missed: 1}
	for _, f := range []provisioning.FlowStatus{
		{Name: "agency-a-https", Tunnel: "agency-a", From: "agencies", To: "gateway-dmz", Connections: 3, Opened: 70, PacketsTo: 1000, BytesTo: 64000, PacketsBack: 2000,
			BytesBack: 3 << 20, Since: &at, LastSeen: &at},
		{Name: "agency-a-ntp", Tunnel: "agency-a", From: "agencies", To: "gateway-dmz", Opened: 90, PacketsTo: 90, BytesTo: 6840, PacketsBack: 90, BytesBack: 6840, Since: &at},
		{Name: "agency-b-https", Tunnel: "agency-b", From: "agencies", To: "gateway-dmz"},
		{Name: "admin-ssh", From: "admin", To: "gateway-dmz"},
	} {
		if f.Name > q.After && (q.Match == nil || q.Match(f.Name)) {
			r.Flows = append(r.Flows, f)
		}
	}
	slices.SortFunc(r.Flows, func(a, b provisioning.FlowStatus) int { return strings.Compare(a.Name, b.Name) })
	if q.Limit > 0 && len(r.Flows) > q.Limit {
		r.Flows = r.Flows[:q.Limit]
		r.Next = r.Flows[q.Limit-1].Name
	}
	return r, nil
}

// Explain answers by documents of its own, and those of the request.
func (m *Memory) Explain(_ context.Context, q provisioning.Question, r provisioning.Request) (provisioning.Explanation, error) {
	set, err := examples(r)
	if err != nil {
		return provisioning.Explanation{}, err
	}
	return provisioning.ExplainDocuments(set, "owner", q)
}

// Matrix answers by the same.
func (m *Memory) Matrix(_ context.Context, r provisioning.Request) (provisioning.Matrix, error) {
	set, err := examples(r)
	if err != nil {
		return provisioning.Matrix{}, err
	}
	return provisioning.MatrixOf(set, "owner")
}

func waivedExample() contour.Waived {
	return contour.Waived{Flow: "old-line", Reason: "the old line goes", Approver: "A. Director", Expires: "2099-12-31",
		Breaks: []contour.Breach{{Rule: "GWY-07", Act: "Order 124", Paragraph: "19(4)", What: "internal and external contour joined directly"}}}
}

// Verify finds a hole while a document has "hole" in it, and before anything was applied it cannot tell.
func (m *Memory) Verify(context.Context) (verification.Report, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.newest()
	r := verification.Report{Site: "owner", Revision: n.ID, Generation: 7, Read: m.alive.UTC(), Took: 70 * time.Millisecond}
	switch {
	case n.ID == 0:
		r.Indeterminate("nothing is in force: no Site document for this box was applied")
	case n.hole():
		rule := proof.Loaded{Table: "inet x", Chain: "f", Handle: 3, Text: "iifname ext0 oifname dmz0 accept"}
		first := proof.Violation{
			Path: "forward", Class: "new", Kind: proof.PassesWrongly, Rule: rule, Trace: []proof.Trace{{Loaded: rule, Hook: "forward"}},
			Witness: proof.Packet{In: "ext0", Out: "dmz0", Source: netip.MustParseAddr("198.51.100.9"), Destination: netip.MustParseAddr("10.20.0.10"),
				Protocol: 6, SourcePort: 40000, DestinationPort: 443, HopLimit: 64, Class: "new"},
		}
		second := first
		second.Class, second.Witness.Class = "invalid", "invalid"
		found := verification.OfFilter(proof.Result{Verdict: proof.Violated, Violations: []proof.Violation{first, second}})
		found.Violations[0].Crossing = &verification.Crossing{From: verification.Zone{Name: "internet", Contour: "external"}, To: verification.Zone{Name: "lan", Contour: "internal"},
			Breaks: waivedExample().Breaks}
		r.Add(verification.Filter, found)
		r.Waivers = []contour.Waived{waivedExample()}
	default:
		r.Add(verification.Filter, verification.Found{})
	}
	return r, nil
}

func examples(r provisioning.Request) (*document.Set, error) {
	documents, problems := document.Decode(append([]document.File{{Name: "example.yaml", Data: []byte(example)}}, r.Files...))
	if len(problems) > 0 {
		return nil, &provisioning.InvalidError{Problems: problems}
	}
	return document.NewSet(documents...), nil
}

func (m *Memory) PeerExport(context.Context) ([]byte, error) { return []byte("kind: Peer\n"), nil }
func (m *Memory) Alive() time.Time                           { m.mu.Lock(); defer m.mu.Unlock(); return m.alive }

func (m *Memory) Secrets(context.Context) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.secrets)), nil
}

func (m *Memory) NewSecret(_ context.Context, name string, _ journal.Actor) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.secrets[name]; ok {
		return fmt.Errorf("secret %q: %w", name, fs.ErrExist)
	}
	m.secrets[name] = "made"
	return nil
}

func (m *Memory) ImportSecret(_ context.Context, name string, value []byte, _ journal.Actor) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.secrets[name] = string(value)
	return nil
}

// ExportSecret refuses what is no recipient, as the real one does.
func (m *Memory) ExportSecret(_ context.Context, name, recipient string, _ journal.Actor) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.secrets[name]; !ok {
		return nil, fmt.Errorf("secret %q: %w", name, fs.ErrNotExist)
	}
	if !strings.HasPrefix(recipient, "age1") {
		return nil, fmt.Errorf("%q is not a recipient", recipient)
	}
	return []byte("sealed to " + recipient), nil
}

func (m *Memory) Recipient(context.Context) (string, error) { return "age1box", nil }
