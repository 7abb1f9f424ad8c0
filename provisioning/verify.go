package provisioning

import (
	"context"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"shekara/firewall"
	"shekara/firewall/engine"
	"shekara/firewall/proof"
	"shekara/journal"
	"shekara/netctl/filters"
	"shekara/provisioning/validate"
	"shekara/provisioning/verification"
)

const (
	verifyEvery = 5 * time.Minute // though nothing was seen to change
	verifyRest  = time.Second     // between two verifications that nobody asked for, and at least
	verifyShare = 4               // times as long as the last took: 10,000 flows take seconds of a processor
	verifyTries = 5               // when the box is changed while it is looked at
	largeProof  = 1 << 20         // nodes: some 30 MB, which are given back to the system
)

// Prover reads what the kernel's packet filter holds, of all tables, and proves it: engine.Prover.
type Prover interface {
	// Generation counts the changes of the packet filter, whoever makes them, as far as the kernel counts them.
	Generation() (uint32, error)
	// Read lists every table and set as of one moment; nft.ErrUnsteady: they kept changing.
	Read(ctx context.Context) (engine.Listing, error)
	// Prove decides for all packets whether what was listed lets pass what the policy allows, and nothing else.
	// One proof at a time.
	Prove(ctx context.Context, listing engine.Listing, policy firewall.Policy) (proof.Result, error)
}

// verified is what the last verification came to.
type verified struct {
	report   *verification.Report // nil: there was none yet
	began    time.Time
	recorded string // identity of the report that was journaled last
	beside   []filters.Found
	strangers
}

// ProofStatus is the last verification at a glance.
type ProofStatus struct {
	Verdict    proof.Verdict         `json:"verdict"`
	Revision   int                   `json:"revision"`           // whose documents it was held against
	Read       time.Time             `json:"read"`               // when the kernel was read
	Took       time.Duration         `json:"took"`               // nanoseconds
	Statements map[proof.Verdict]int `json:"statements"`         // how many there are of each verdict
	Findings   int                   `json:"findings,omitempty"` // violations, or else reasons why it is indeterminate
	Finding    string                `json:"finding,omitempty"`  // the first; shekara verify lists all
}

// Verify holds what is loaded now against what the documents in force ask. Whoever asks while another verification runs waits for it, and
// shares the next with all who wait too. The error is that of the context.
func (e *Engine) Verify(ctx context.Context) (verification.Report, error) {
	asked := time.Now()
	select {
	case <-e.ready:
	case <-ctx.Done():
		return verification.Report{}, fmt.Errorf("wait for the daemon's start: %w", ctx.Err())
	}
	select {
	case e.verifying <- struct{}{}:
		defer func() { <-e.verifying }()
	case <-ctx.Done():
		return verification.Report{}, fmt.Errorf("wait for another verification to end: %w", ctx.Err())
	}
	e.mu.Lock()
	last := e.verified
	e.mu.Unlock()
	if last.report != nil && last.began.After(asked) {
		return *last.report, nil
	}
	began := time.Now()
	report, err := e.verify(ctx)
	if err != nil {
		return verification.Report{}, err
	}
	report.Took = time.Since(began)
	e.mu.Lock()
	e.verified.report, e.verified.began = &report, began
	e.mu.Unlock()
	e.recordVerdict(ctx, report)
	return report, nil
}

// demand is what the documents in force ask, and where the count of changes stood then.
type demand struct {
	present  bool
	view     *view           // with documents and intent; without rules
	troubled map[string]bool // tunnels with an error of their own
	policy   firewall.Policy
	writes   int
}

// demands waits until nobody changes the host, so that the host is as the intent says, as far as it could be made so.
func (e *Engine) demands(ctx context.Context) (demand, error) {
	if err := e.lock(ctx); err != nil {
		return demand{}, err
	}
	defer e.unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	v := &view{set: e.documents, site: e.options.Site, revision: e.store.now().Current}
	v.intent = intent{present: e.intent.present, base: e.intent.base, tunnels: maps.Clone(e.intent.tunnels), flows: maps.Clone(e.intent.flows)}
	v.place(e.world.links)
	d := demand{present: e.intent.present, view: v, troubled: map[string]bool{}, writes: e.writes}
	for name, t := range e.troubles {
		d.troubled[name] = !t.soft
	}
	return d, nil
}

// policy is all that the documents ask of the filter.
func (i *intent) policy() firewall.Policy {
	p := policyOf(i.base)
	p.Offers = i.base.Offers
	for _, name := range slices.Sorted(maps.Keys(i.tunnels)) {
		holdingOf(i.tunnels[name]).addTo(&p)
	}
	for _, name := range slices.Sorted(maps.Keys(i.flows)) {
		p.Flows = append(p.Flows, i.flows[name].Flow)
	}
	return p
}

// verify looks at the host and asks every statement. A box that is changed meanwhile, by us or in nftables by anybody, is looked at again.
func (e *Engine) verify(ctx context.Context) (verification.Report, error) {
	for range verifyTries {
		e.awaitRevocation(ctx)
		d, err := e.demands(ctx)
		if err != nil {
			return verification.Report{}, err
		}
		d.policy = d.view.intent.policy() // of 10,000 tunnels it takes a while: nobody waits for it
		report := verification.Report{Site: e.options.Site, Revision: d.view.revision, Read: time.Now().UTC()}
		stop := func(reason string) (verification.Report, error) {
			report.Indeterminate(reason)
			return report, nil
		}
		switch {
		case e.options.Prover == nil:
			return stop("this daemon cannot read what the kernel's packet filter holds")
		case !d.present:
			return stop("nothing is in force: no Site document for this box was applied")
		}
		around, err := e.lookAround(ctx, d)
		if err != nil {
			return verification.Report{}, err
		}
		listing, err := e.options.Prover.Read(ctx)
		switch {
		case ctx.Err() != nil:
			return verification.Report{}, ctx.Err()
		case err != nil:
			return stop(err.Error())
		}
		tracked, found := e.tracked(ctx)
		// All was read of one moment, if nobody has changed anything since: to prove it takes longer than to read it.
		generation, err := e.options.Prover.Generation()
		if err != nil {
			return stop(err.Error())
		}
		e.mu.Lock()
		changed := d.writes != e.writes
		e.mu.Unlock()
		if changed || generation != listing.Generation {
			continue
		}
		report.Generation = listing.Generation
		proved := e.prove(ctx, listing, d.policy)
		d.crossings(proved.Violations)
		report.Add(verification.Filter, proved)
		report.Add(verification.Beside, e.ofBeside(around, listing))
		report.Add(verification.Routes, d.ofRouting(around))
		report.Add(verification.Peers, d.ofPeers(around))
		connections, strange := d.ofConnections(tracked, found)
		report.Add(verification.Connections, connections)
		report.Add(verification.Assertions, d.ofAssertions())
		report.Add(verification.Contours, d.ofContours())
		report.Waivers = validate.Waivers(d.view.set, validate.Options{Site: d.view.site})
		e.mu.Lock()
		e.verified.beside, e.verified.strangers = around.beside, strange
		e.mu.Unlock()
		return report, ctx.Err()
	}
	report := verification.Report{Site: e.options.Site, Revision: e.store.now().Current, Read: time.Now().UTC()}
	report.Indeterminate(fmt.Sprintf("the box was changed while it was looked at, %d times in a row: shekara verify looks again when that has ended", verifyTries))
	return report, nil
}

// prove asks the prover. A mistake in it must not take the daemon down with it.
func (e *Engine) prove(ctx context.Context, listing engine.Listing, policy firewall.Policy) (found verification.Found) {
	defer func() {
		if r := recover(); r != nil {
			e.options.Log.Error("prove the rules", "panic", r, "stack", string(debug.Stack()))
			found = verification.Unknown(fmt.Sprintf("the prover failed: %v", r))
		}
	}()
	result, err := e.options.Prover.Prove(ctx, listing, policy)
	if result.Nodes > largeProof {
		defer debug.FreeOSMemory()
	}
	if err != nil {
		return verification.Unknown(err.Error())
	}
	return verification.OfFilter(result)
}

// recordVerdict journals a report that says something else than the one before: of another revision, or another thing.
func (e *Engine) recordVerdict(ctx context.Context, r verification.Report) {
	identity := r.Identity()
	e.mu.Lock()
	news := e.verified.recorded != identity && r.Revision > 0
	e.verified.recorded = identity
	e.mu.Unlock()
	if !news {
		return
	}
	fields := []string{"generation", strconv.FormatUint(uint64(r.Generation), 10), "took", r.Took.Round(time.Millisecond).String()}
	event := journal.Event{Type: journal.ProofHold, Severity: journal.Notice, Object: revisionObject(r.Revision),
		Message: fmt.Sprintf("proved: what is loaded is what revision %d allows, for all packets", r.Revision)}
	findings := r.Findings()
	if len(findings) > 0 {
		fields = append(fields, "count", strconv.Itoa(len(findings)))
	}
	if len(r.Waivers) > 0 {
		fields = append(fields, "waived", shorten(waiversText(r.Waivers)))
	}
	switch r.Verdict {
	case proof.Violated:
		event.Type, event.Severity = journal.ProofBreak, journal.Alert
		event.Message = shorten("violated: " + findings[0])
		if w := r.Witness(); w != nil {
			fields = append(fields, "witness", w.Packet.String())
			if w.Crossing != nil {
				fields = append(fields, "crossing", shorten(w.Crossing.String()))
			}
			if w.Rule != nil {
				which, at := "handle", w.Rule.Handle
				if w.Rule.Number > 0 {
					which, at = "number", w.Rule.Number
				}
				fields = append(fields, "table", w.Rule.Table, "chain", w.Rule.Chain, which, strconv.Itoa(at), "rule", shorten(w.Rule.Text))
			}
		}
	case proof.Indeterminate:
		event.Type, event.Severity = journal.ProofDoubt, journal.Warning
		event.Message = shorten("indeterminate: " + strings.Join(findings, "; "))
	}
	event.Fields = fieldsOf(fields...)
	e.record(ctx, event)
}

// keepVerifying verifies what is loaded after each change that was made or seen, and now and then without one.
func (e *Engine) keepVerifying(ctx context.Context) {
	if e.options.Prover == nil {
		return
	}
	e.unverified.poke()
	for {
		tick := time.NewTimer(verifyEvery)
		select {
		case <-ctx.Done():
		case <-e.unverified:
		case <-tick.C:
		}
		tick.Stop()
		took := time.Duration(0)
		if ctx.Err() == nil {
			report, err := e.Verify(ctx)
			if err != nil && ctx.Err() == nil {
				e.options.Log.Error("verify what is loaded", "error", err)
			}
			took = report.Took
			e.cutStrangers()
		}
		rest := time.NewTimer(max(verifyRest, verifyShare*took))
		select {
		case <-ctx.Done():
			rest.Stop()
			return
		case <-rest.C:
		}
	}
}

// noticeRules has what is loaded verified if somebody changed the packet filter since it was read, or what decides beside it.
func (e *Engine) noticeRules() {
	if e.options.Prover == nil {
		return
	}
	now, err := e.options.Prover.Generation()
	if err != nil {
		e.options.Log.Warn("ask whether the packet filter changed", "error", err)
		return
	}
	e.mu.Lock()
	links := e.intent.links()
	e.mu.Unlock()
	var beside []filters.Found
	if e.options.Beside != nil {
		beside = e.options.Beside(links)
	}
	e.mu.Lock()
	news := e.verified.report != nil && (e.verified.report.Generation != now || !slices.Equal(e.verified.beside, beside))
	e.mu.Unlock()
	if news {
		e.unverified.poke()
	}
}

// proofStatus is the last verification at a glance; nil: there was none, or nothing is in force. Mu is held.
func (e *Engine) proofStatus() *ProofStatus {
	r := e.verified.report
	if r == nil || r.Revision == 0 {
		return nil
	}
	findings := r.Findings()
	s := &ProofStatus{Verdict: r.Verdict, Revision: r.Revision, Read: r.Read, Took: r.Took, Statements: map[proof.Verdict]int{}, Findings: len(findings)}
	for _, statement := range r.Statements {
		s.Statements[statement.Verdict]++
	}
	if len(findings) > 0 {
		s.Finding = findings[0]
	}
	return s
}
