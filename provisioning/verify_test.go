package provisioning

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"shekara/firewall"
	"shekara/firewall/engine"
	"shekara/firewall/nft"
	"shekara/firewall/proof"
	"shekara/journal"
	"shekara/netctl"
	"shekara/netctl/conntrack"
	"shekara/netctl/filters"
	"shekara/provisioning/verification"
	"shekara/tunnels"
)

// scripted is a packet filter that somebody else changes, and what a proof over it comes to.
type scripted struct {
	mu         sync.Mutex // guards what follows
	generation uint32
	result     proof.Result
	unread     error
	panics     bool
	beside     []filters.Found
	reads      int
	policy     firewall.Policy // of the last proof
	reading    func()          // called in Read, before the listing is handed over
	proving    chan struct{}   // Prove waits for it, if set
	entered    chan struct{}   // is told when Prove waits
	held       proof.Kernel    // what Read gives
}

func (s *scripted) become(r proof.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation++
	s.result = r
}

func (s *scripted) Generation() (uint32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.generation, nil
}

func (s *scripted) Read(context.Context) (engine.Listing, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	if s.reading != nil {
		s.reading()
	}
	return engine.Listing{Kernel: s.held, Generation: s.generation}, s.unread
}

func (s *scripted) Prove(_ context.Context, _ engine.Listing, p firewall.Policy) (proof.Result, error) {
	s.mu.Lock()
	proving := s.proving
	s.mu.Unlock()
	if proving != nil {
		s.entered <- struct{}{}
		<-proving
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.panics {
		panic("a mistake")
	}
	s.policy = p
	return s.result, nil
}

// entries is a table of connections.
type entries struct {
	reading func()     // called before the table is handed over
	mu      sync.Mutex // guards what follows
	list    []conntrack.Entry
	unread  error
}

func (t *entries) Each(_ context.Context, do func(*conntrack.Account) bool) error {
	if t.reading != nil {
		t.reading()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.list {
		if !do(&conntrack.Account{Entry: e}) {
			break
		}
	}
	return t.unread
}

func (t *entries) Delete(_ context.Context, s conntrack.Selection) (conntrack.Cut, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before, taken := len(t.list), map[conntrack.Selector]int{}
	t.list = slices.DeleteFunc(t.list, func(e conntrack.Entry) bool {
		i := slices.IndexFunc(s.Revoked, func(r conntrack.Selector) bool {
			return r.Source.Contains(e.Source) && r.Destination.Contains(e.Destination) && r.FirstPort == e.DestinationPort
		})
		if i >= 0 {
			taken[s.Revoked[i]]++
		}
		return i >= 0
	})
	return conntrack.Cut{Count: before - len(t.list), Taken: taken}, nil
}

func (t *entries) Count(context.Context, conntrack.Selection) (int, error) { return 0, nil }

// verifiable gives the box what a verification looks at.
func (b *box) verifiable(s *scripted) *entries {
	table := &entries{}
	b.prover, b.connections = s, table
	b.beside = func([]string) []filters.Found {
		s.mu.Lock()
		defer s.mu.Unlock()
		return slices.Clone(s.beside)
	}
	return table
}

// keep applies documents, and confirms them if they need it.
func (b *box) keep(text string) {
	b.t.Helper()
	if b.mustApply(request(text)).ConfirmBy != nil {
		b.mustConfirm()
	}
}

var (
	isProved   = proof.Result{Verdict: proof.Proved}
	isHole     = proof.Result{Verdict: proof.Violated, Violations: []proof.Violation{{Kind: proof.PassesWrongly, Rule: proof.Loaded{Table: "inet x", Chain: "f", Handle: 3, Text: "accept"}}}}
	isDoubtful = proof.Result{Verdict: proof.Indeterminate, Reasons: []string{"table inet x, chain f, handle 4: statement queue"}}
)

func proofTypes(e *events) (types []journal.Type) {
	for _, t := range e.types() {
		if strings.HasPrefix(string(t), "proof.") {
			types = append(types, t)
		}
	}
	return types
}

// TestVerdictIsOnRecord: the verdict on what is loaded is journaled when it changes and not else, and the status has it.
func TestVerdictIsOnRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		s := &scripted{result: isProved}
		b.verifiable(s)
		b.run()
		b.wait(time.Minute)
		if got := proofTypes(b.events); len(got) != 0 || s.reads != 0 {
			t.Errorf("nothing is in force, and %d looks made events %v", s.reads, got)
		}
		b.keep(site + agency{n: 0}.yaml())
		b.wait(30 * time.Second)
		for _, c := range []struct {
			result proof.Result
			want   journal.Type
			alarms int
		}{{isProved, journal.ProofHold, 0}, {isHole, journal.ProofBreak, 1}, {isHole, journal.ProofBreak, 1}, {isDoubtful, journal.ProofDoubt, 0}, {isProved, journal.ProofHold, 0}} {
			s.become(c.result)
			b.wait(30 * time.Second)
			status, err := b.Status(t.Context())
			if err != nil || status.Proof == nil || status.Proof.Verdict != c.result.Verdict || len(status.Alarms) != c.alarms {
				t.Fatalf("want %s and %d alarms; status is %+v, %v", c.result.Verdict, c.alarms, status, err)
			}
			types := proofTypes(b.events)
			if types[len(types)-1] != c.want {
				t.Errorf("the last event is %s, want %s", types[len(types)-1], c.want)
			}
		}
		want := []journal.Type{journal.ProofHold, journal.ProofBreak, journal.ProofDoubt, journal.ProofHold}
		if got := proofTypes(b.events); !slices.Equal(got, want) {
			t.Errorf("events are %v, want %v: one for each change", got, want)
		}
		before := s.reads
		b.wait(time.Hour)
		if looks := s.reads - before; looks < 10 || looks > 13 {
			t.Errorf("%d looks in an hour in which nothing changed, want one in five minutes", looks)
		}
		b.keep(agency{n: 1}.yaml())
		b.wait(30 * time.Second)
		if got := proofTypes(b.events); len(got) != len(want)+1 {
			t.Errorf("events are %v: the new revision is not on record", got)
		}
	})
}

// TestProofIsHeldToDocuments: the policy is that of the documents in force, whatever is loaded.
func TestProofIsHeldToDocuments(t *testing.T) {
	b := newBox(t)
	s := &scripted{result: isProved}
	b.verifiable(s)
	b.start()
	b.keep(site + agency{n: 0}.yaml())
	b.filter.Vanish()
	if _, err := b.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(s.policy.Flows) != 1 || len(s.policy.Ports) != 1 || len(s.policy.Devices) != 1 || len(s.policy.Zones) == 0 || len(s.policy.Interfaces) != 3 {
		t.Errorf("the policy is %+v", s.policy)
	}
}

// TestApplyDoesNotWaitForProof: an apply is done while a proof goes on, and the proof after it is of the new revision.
func TestApplyDoesNotWaitForProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		s := &scripted{result: isProved}
		b.verifiable(s)
		b.run()
		b.keep(site)
		b.wait(30 * time.Second)
		s.mu.Lock()
		s.proving, s.entered = make(chan struct{}), make(chan struct{})
		s.mu.Unlock()
		go b.Verify(t.Context()) // its answer is seen in the status
		<-s.entered
		b.keep(agency{n: 0}.yaml())
		if status, err := b.Status(t.Context()); err != nil || status.Proof.Revision != 1 {
			t.Errorf("while the proof goes on the status is %+v, %v", status.Proof, err)
		}
		close(s.proving)
		<-s.entered // of the one after the apply
		b.wait(30 * time.Second)
		if status, err := b.Status(t.Context()); err != nil || status.Proof.Revision != 2 {
			t.Errorf("after the apply the status is %+v, %v", status.Proof, err)
		}
	})
}

// TestHalfChangedIsNotJudged: what was listed while this daemon changed the box is listed anew; if it never rests that is said.
func TestHalfChangedIsNotJudged(t *testing.T) {
	b := newBox(t)
	s := &scripted{result: isProved}
	b.verifiable(s)
	b.start()
	b.keep(site)
	n := 0
	change := func() {
		n++
		b.keep(agency{n: n}.yaml())
	}
	s.reading = func() {
		if n == 0 {
			change()
		}
	}
	r, err := b.Verify(t.Context())
	if err != nil || r.Verdict != proof.Proved || r.Revision != 2 || s.reads != 2 || len(s.policy.Flows) != 1 {
		t.Errorf("verdict %s on revision %d after %d looks with %d flows, %v", r.Verdict, r.Revision, s.reads, len(s.policy.Flows), err)
	}
	s.reading = nil
	b.connections.(*entries).reading = func() {
		if s.reads == 3 { // somebody else changed the rules after they were read, and once
			s.become(isProved)
		}
	}
	if r, err := b.Verify(t.Context()); err != nil || r.Verdict != proof.Proved || r.Generation != s.generation || s.reads != 4 {
		t.Errorf("verdict %s on generation %d of %d after %d looks, %v", r.Verdict, r.Generation, s.generation, s.reads, err)
	}
	s.reading = change
	if r, err := b.Verify(t.Context()); err != nil || r.Verdict != proof.Indeterminate || !strings.Contains(fmt.Sprint(r.Findings()), "5 times") {
		t.Errorf("a box that never rests: %+v, %v", r, err)
	}
}

// TestProofThatCannotBe: what cannot be read or proved is indeterminate and says why, and the daemon goes on.
func TestProofThatCannotBe(t *testing.T) {
	b := newBox(t)
	b.start()
	if r, err := b.Verify(t.Context()); err != nil || r.Verdict != proof.Indeterminate {
		t.Errorf("without a prover: %+v, %v", r, err)
	}
	b.kill()
	s := &scripted{result: isProved}
	b.verifiable(s)
	b.start()
	for _, c := range []struct {
		damage func()
		reason string
	}{
		{func() {}, "nothing is in force"},
		{func() { b.keep(site); s.unread = nft.ErrUnsteady }, "keep changing"},
		{func() { s.unread = errors.New("nft is missing") }, "nft is missing"},
		{func() { s.unread, s.panics = nil, true }, "a mistake"},
	} {
		c.damage()
		r, err := b.Verify(t.Context())
		if err != nil || r.Verdict != proof.Indeterminate || !strings.Contains(fmt.Sprint(r.Findings()), c.reason) {
			t.Errorf("want %q: %+v, %v", c.reason, r, err)
		}
	}
	s.panics = false
	if r, err := b.Verify(t.Context()); err != nil || r.Verdict != proof.Proved {
		t.Errorf("when all is well again: %+v, %v", r, err)
	}
}

// TestAskersShare: those who ask while a verification runs share one that began after they asked.
func TestAskersShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		s := &scripted{result: isProved}
		b.verifiable(s)
		b.start()
		b.keep(site)
		s.proving, s.entered = make(chan struct{}), make(chan struct{}, 10)
		var asking sync.WaitGroup
		ask := func() {
			if r, err := b.Verify(t.Context()); err != nil || r.Verdict != proof.Proved {
				t.Errorf("%+v, %v", r, err)
			}
		}
		asking.Go(ask)
		<-s.entered
		time.Sleep(time.Second)
		for range 5 {
			asking.Go(ask)
		}
		synctest.Wait()
		time.Sleep(time.Second)
		close(s.proving)
		asking.Wait()
		if s.reads != 2 {
			t.Errorf("six asked and %d looks were made, want 2", s.reads)
		}
	})
}

// statement is one of a report's.
func statement(r verification.Report, name string) verification.Statement {
	i := slices.IndexFunc(r.Statements, func(s verification.Statement) bool { return s.Name == name })
	return r.Statements[i]
}

// TestStatementsBesideTheRules: each other statement holds on a box that is as the documents ask, and is violated, or indeterminate, by
// exactly what breaks it.
func TestStatementsBesideTheRules(t *testing.T) {
	prefix := netip.MustParsePrefix(agency{n: 0}.prefixText())
	flow := conntrack.Entry{Source: prefix.Addr().Next(), Destination: netip.MustParseAddr("10.20.0.10"), Protocol: 6, SourcePort: 40000, DestinationPort: 443}
	for name, c := range map[string]struct {
		damage    func(b *box, s *scripted, table *entries) error
		statement string
		verdict   proof.Verdict
		says      string
	}{
		"a legacy table that was read": {func(b *box, s *scripted, _ *entries) error {
			s.beside = []filters.Found{{Kind: filters.XTables, What: "table filter", Table: "ip6tables-legacy filter"}}
			s.held.XTables = []proof.XTables{{IPv6: true, Legacy: true, Saved: []byte("*filter\nCOMMIT\n")}}
			return nil
		}, verification.Beside, proof.Proved, ""},
		"another legacy table": {func(b *box, s *scripted, _ *entries) error {
			s.beside = []filters.Found{{Kind: filters.XTables, What: "table mangle", Table: "ip6tables-legacy mangle"}}
			s.held.XTables = []proof.XTables{{IPv6: true, Legacy: true, Saved: []byte("*filter\nCOMMIT\n")}, {Legacy: true, Saved: []byte("*mangle\nCOMMIT\n")}}
			return nil
		}, verification.Beside, proof.Indeterminate, "table mangle"},
		"a legacy table": {func(b *box, s *scripted, _ *entries) error {
			s.beside = []filters.Found{{Kind: filters.XTables, What: "table filter"}}
			return nil
		}, verification.Beside, proof.Indeterminate, "table filter"},
		"programs that could not be asked for": {func(b *box, s *scripted, _ *entries) error {
			s.beside = []filters.Found{{Kind: filters.BPF, What: "programs could not be listed", Unasked: true}}
			return nil
		}, verification.Beside, proof.Proved, "; except: programs could not be listed"},
		"a route deleted": {func(b *box, _ *scripted, _ *entries) error { b.breakRoute(agency{n: 0}); return nil }, verification.Routes, proof.Violated, "is missing"},
		"a route of somebody's in ours": {func(b *box, _ *scripted, _ *entries) error {
			b.others.Routes = []netctl.Route{{Table: netctl.InnerTable, Prefix: prefix, Link: "ext0"}}
			return nil
		}, verification.Routes, proof.Violated, "takes packets for " + prefix.String()},
		"a rule of somebody's": {func(b *box, _ *scripted, _ *entries) error {
			b.others.Rules = []netctl.OtherRule{{Rule: netctl.Rule{Priority: 100, Table: 7}, Text: "rule 100"}}
			b.others.Routes = []netctl.Route{{Table: 7, Prefix: netip.MustParsePrefix("0.0.0.0/0"), Link: "ext0"}}
			return nil
		}, verification.Routes, proof.Violated, "rule 100 of somebody else comes before ours: its route 0.0.0.0/0"},
		"a rule with conditions": {func(b *box, _ *scripted, _ *entries) error {
			b.others.Rules = []netctl.OtherRule{{Rule: netctl.Rule{Priority: 100, Table: 7}, More: true, Text: "rule 100"}}
			return nil
		}, verification.Routes, proof.Indeterminate, "what it takes is not known"},
		"a peer with another's prefix": {func(b *box, _ *scripted, _ *entries) error {
			return b.tunnels.Pass(b.device(), agency{n: 1}.publicKey(), func(p *tunnels.PeerState) { p.AllowedIPs = append(p.AllowedIPs, prefix) })
		}, verification.Peers, proof.Violated, "the peer of tunnel agency-1 holds the prefix " + prefix.String() + ", which is that of tunnel agency-0"},
		"a connection that is not allowed": {func(_ *box, _ *scripted, table *entries) error {
			other := flow
			other.DestinationPort = 22
			table.list = []conntrack.Entry{flow, other}
			return nil
		}, verification.Connections, proof.Violated, "40000"},
		"a connection into the zone": {func(_ *box, _ *scripted, table *entries) error {
			table.list = []conntrack.Entry{{Source: netip.MustParseAddr("203.0.113.99"), Destination: flow.Destination, Protocol: 6, SourcePort: 40000, DestinationPort: 443}}
			return nil
		}, verification.Connections, proof.Violated, "203.0.113.99 > 10.20.0.10"},
		"a connection that somebody translates": {func(_ *box, _ *scripted, table *entries) error {
			other := flow
			other.AnswersFrom, other.AnswersTo = netip.MustParseAddr("10.20.0.11"), flow.Source
			table.list = []conntrack.Entry{other}
			return nil
		}, verification.Connections, proof.Violated, "is answered 10.20.0.11 > "},
		"a connection in a zone of somebody's": {func(_ *box, _ *scripted, table *entries) error {
			other := flow
			other.Zone = 77
			table.list = []conntrack.Entry{other}
			return nil
		}, verification.Connections, proof.Indeterminate, "no document has conntrack zone 77"},
		"a table that cannot be read": {func(_ *box, _ *scripted, table *entries) error {
			table.unread = errors.New("no buffer space")
			return nil
		},
			verification.Connections, proof.Indeterminate, "no buffer space"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			s := &scripted{result: isProved}
			table := b.verifiable(s)
			b.start()
			b.keep(site + agencies(0, 2))
			closing := flow
			closing.DestinationPort, closing.Closed = 22, true
			table.list = []conntrack.Entry{flow, closing,
				{Source: netip.MustParseAddr("198.18.0.0"), Destination: netip.MustParseAddr("203.0.113.10"), Protocol: 17, SourcePort: 51820, DestinationPort: 51820},
				{Source: netip.MustParseAddr("192.168.100.7"), Destination: netip.MustParseAddr("192.168.100.1"), Protocol: 6, SourcePort: 40000, DestinationPort: 22},
				{Source: netip.MustParseAddr("203.0.113.10"), Destination: netip.MustParseAddr("198.18.0.0"), Protocol: 17, SourcePort: 51820, DestinationPort: 51820},
				{Source: netip.MustParseAddr("10.20.0.1"), Destination: netip.MustParseAddr("10.20.0.10"), Protocol: 6, SourcePort: 40000, DestinationPort: 80},
			}
			if r, err := b.Verify(t.Context()); err != nil || r.Verdict != proof.Proved {
				t.Fatalf("before any damage: %v, %v", r.Findings(), err)
			}
			if err := c.damage(b, s, table); err != nil {
				t.Fatal(err)
			}
			r, err := b.Verify(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got := statement(r, c.statement); got.Verdict != c.verdict || r.Verdict != c.verdict || !strings.Contains(fmt.Sprint(r.Findings(), got.Claim), c.says) {
				t.Errorf("%s is %s, all is %s, want %s: %v", c.statement, got.Verdict, r.Verdict, c.verdict, r.Findings())
			}
			for _, other := range r.Statements {
				if other.Name != c.statement && other.Verdict != proof.Proved {
					t.Errorf("%s is %s too: %v %v", other.Name, other.Verdict, other.Violations, other.Reasons)
				}
			}
		})
	}
}

// twins are two agencies with one range, each mapped to another here, and the host that both reach shown to the second alone.
func twins() string {
	var text strings.Builder
	text.WriteString(strings.Replace(site, "port: 51820}]", "port: 51820}, {farZone: agencies, environment: production, tunnel: agency-0, port: 51821}, {farZone: agencies, environment: production, tunnel: agency-1, port: 51822}]", 1))
	for n, mapped := range []string{"10.79.1.0/28", "10.79.2.0/28"} {
		a := agency{n: n, prefix: "192.168.1.0/28"}
		y := strings.Replace(a.yaml(), "prefixes: [192.168.1.0/28]", "prefixes: [192.168.1.0/28], mapped: ["+mapped+"]", 1)
		if n == 1 {
			y = strings.Replace(y, "environment: production, port: 51820,", "environment: production, tunnel: agency-1, port: 51820,", 1)
			y = strings.Replace(y, "prefixes: [10.20.0.10/32]", "prefixes: [10.20.0.10/32], hide: [10.99.0.10/32]", 1)
		}
		text.WriteString(y)
	}
	return text.String()
}

// TestTranslatedConnections: each is judged in the notation in which it was opened, in its conntrack zone, and must be translated as the
// documents say. One that is not is selected by its answers, as another with the same addresses may be right.
func TestTranslatedConnections(t *testing.T) {
	address := netip.MustParseAddr
	b := newBox(t)
	table := b.verifiable(&scripted{result: isProved})
	b.start()
	b.keep(twins())
	zones := map[string]uint16{}
	for name, tunnel := range b.intent.tunnels {
		zones[name] = b.intent.base.Devices[tunnel.Spec.Device].Filter.Translation.Zone
	}
	entry := func(zone uint16, source, destination, from, to string) conntrack.Entry {
		return conntrack.Entry{Source: address(source), Destination: address(destination), AnswersFrom: address(from), AnswersTo: address(to),
			Protocol: 6, SourcePort: 40000, DestinationPort: 443, Zone: zone}
	}
	first := entry(zones["agency-0"], "192.168.1.5", "10.20.0.10", "10.20.0.10", "10.79.1.5")
	second := entry(zones["agency-1"], "192.168.1.5", "10.99.0.10", "10.20.0.10", "10.79.2.5")
	for _, c := range []struct {
		name  string
		entry conntrack.Entry
		says  string // "": it is allowed
	}{
		{"of the first", first, ""},
		{"of the second", second, ""},
		{"of the first with the second's address", entry(first.Zone, "192.168.1.5", "10.20.0.10", "10.20.0.10", "10.79.2.5"), "is answered 10.20.0.10 > 10.79.2.5, and should be 10.20.0.10 > 10.79.1.5"},
		{"of the first with its own address", conntrack.Entry{Source: first.Source, Destination: first.Destination, Protocol: 6, SourcePort: 40000, DestinationPort: 443, Zone: first.Zone}, "is not translated as the documents say"},
		{"in the other's zone", entry(second.Zone, "192.168.1.5", "10.20.0.10", "10.20.0.10", "10.79.1.5"), "no document allows"},
		{"past what is shown", entry(second.Zone, "192.168.1.5", "10.20.0.10", "10.20.0.10", "10.79.2.5"), "no document allows"},
		{"from here, which no flow allows", entry(first.Zone, "10.20.0.10", "10.79.1.5", "192.168.1.5", "10.20.0.10"), "no document allows"},
		{"of a host that no flow names", entry(first.Zone, "192.168.1.77", "10.20.0.10", "10.20.0.10", "10.79.1.77"), "no document allows"},
	} {
		table.list = []conntrack.Entry{first, second, c.entry}
		r, err := b.Verify(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := map[bool]proof.Verdict{true: proof.Proved, false: proof.Violated}[c.says == ""]
		if got := statement(r, verification.Connections); got.Verdict != want || !strings.Contains(fmt.Sprint(r.Findings(), got.Claim), c.says) {
			t.Errorf("%s: %s, want %s %q: %v", c.name, got.Verdict, want, c.says, r.Findings())
		}
	}
}

// TestStrangersAreCut: what was let in by hand does not live on after the repair, on a box whose drift is repaired; on others it is told.
func TestStrangersAreCut(t *testing.T) {
	for drift, left := range map[string]int{"repair": 1, "report": 2} {
		t.Run(drift, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBox(t)
				table := b.verifiable(&scripted{result: isProved})
				b.run()
				b.keep(strings.Replace(site, "  lab: true\n", "  lab: true\n  drift: "+drift+"\n", 1))
				b.wait(30 * time.Second)
				table.mu.Lock()
				table.list = []conntrack.Entry{
					{Source: netip.MustParseAddr("203.0.113.99"), Destination: netip.MustParseAddr("10.20.0.10"), Protocol: 6, SourcePort: 40000, DestinationPort: 443},
					{Source: netip.MustParseAddr("192.168.100.7"), Destination: netip.MustParseAddr("192.168.100.1"), Protocol: 6, SourcePort: 40000, DestinationPort: 22},
				}
				table.mu.Unlock()
				b.wait(verifyEvery + time.Minute)
				status, err := b.Status(t.Context())
				if err != nil || len(table.list) != left || (status.Proof.Verdict == proof.Proved) != (left == 1) {
					t.Errorf("%d connections are left, want %d; %+v, %v", len(table.list), left, status.Proof, err)
				}
				if cut := b.events.count(journal.FlowRevoke); cut != 2-left {
					t.Errorf("%d events of a cut, want %d", cut, 2-left)
				}
			})
		})
	}
}
