package proof

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"shekara/firewall"
)

// Verdict is what a proof comes to.
type Verdict string

const (
	Proved        Verdict = "proved"        // for all packets, what passes is what the policy allows
	Violated      Verdict = "violated"      // at least one packet passes that may not, or does not pass that may: see Violations
	Indeterminate Verdict = "indeterminate" // something is loaded, or asked, that the model does not know: see Reasons
)

// Result is a proof's. It never says Proved while there is a Reason.
type Result struct {
	Verdict    Verdict     `json:"verdict"`
	Violations []Violation `json:"violations,omitempty"`
	Reasons    []string    `json:"reasons,omitempty"` // each names table, chain, handle and expression as far as they go
	Nodes      int         `json:"nodes"`             // of decision diagrams: what the proof took
}

// Violation is one way in which the loaded rules are not the policy, with a packet that shows it.
type Violation struct {
	Path    string  `json:"path"`    // through this box: forward, input or output
	Class   string  `json:"class"`   // what conntrack says of the packet: "new", "established, reply direction" …
	Kind    Kind    `json:"kind"`    //
	Witness Packet  `json:"witness"` //
	Rule    Loaded  `json:"rule"`    // the loaded rule that lets it through, or stops it
	Trace   []Trace `json:"trace"`   // all loaded rules that decided on its way, in order
}

// Kind says what is wrong with a packet.
type Kind string

const (
	PassesWrongly Kind = "passes, but the policy does not allow it"
	PassesSpoofed Kind = "passes, but its interface cannot have its source"
	IsStopped     Kind = "is stopped, but the policy allows it"
	// These two are about limits: they stop what is too much.
	LimitedWrongly Kind = "meets a limit that the policy does not set"
	Unlimited      Kind = "passes, but does not meet its tunnel's limit"
	ShowsHidden    Kind = "leaves with a source that is to be hidden"
	Mistranslated  Kind = "passes, but translated to another address than the policy says"
	Estranged      Kind = "answers, but in another conntrack zone than its connection's"
)

// maxNodes bounds the memory: 12 bytes for each node and 8 to 16 for the table beside them, which would double at one node more.
const maxNodes = 1<<24 - 1

// Prover proves again and again, and keeps the diagrams from one proof for the next: what did not change is not built anew. It keeps
// nothing that is true of one ruleset or policy only: each diagram is known by all that it was made from, so no answer is ever stale.
// The zero value is ready. Not safe for concurrent use.
type Prover struct {
	kept  *engine // nil: nothing
	limit int     // of nodes; 0: maxNodes
}

// Prove decides for all packets whether what the loaded rules let pass is what the policy allows. The result depends on the arguments alone.
// An error says that the policy is none (firewall.Compile would refuse it as well), or that ctx ended.
func (p *Prover) Prove(ctx context.Context, loaded *Ruleset, policy firewall.Policy) (Result, error) {
	if err := check(policy); err != nil {
		return Result{}, err
	}
	if len(loaded.unmodelled) > 0 {
		return Result{Verdict: Indeterminate, Reasons: slices.Clone(loaded.unmodelled)}, nil
	}
	limit := p.limit
	if limit == 0 {
		limit = maxNodes
	}
	names, translates := interfaces(loaded, policy), loaded.translates || translates(policy)
	reused := p.kept != nil && slices.Equal(p.kept.interfaces, names) && p.kept.translates == translates && int(p.kept.count) < limit/2
	if !reused {
		p.kept = newEngine(names, translates, limit)
	}
	result, err := prove(ctx, p.kept, loaded, policy)
	var large tooLarge
	if errors.As(err, &large) && reused { // with what earlier proofs left behind
		p.kept = newEngine(names, translates, limit)
		result, err = prove(ctx, p.kept, loaded, policy)
	}
	if err != nil {
		p.kept = nil
	}
	if errors.As(err, &large) {
		return Result{Verdict: Indeterminate, Reasons: []string{large.Error()}, Nodes: large.nodes}, nil
	}
	return result, err
}

// Prove proves once, from nothing.
func Prove(loaded *Ruleset, policy firewall.Policy) (Result, error) {
	return new(Prover).Prove(context.Background(), loaded, policy)
}

// check refuses policies whose names lead nowhere: they would silently allow less.
func check(p firewall.Policy) error {
	base, err := firewall.CompileBase(p)
	if err == nil {
		_, err = base.Elements(p)
	}
	if err != nil {
		return fmt.Errorf("prove policy: %w", err)
	}
	return nil
}

// prove throws nothing: what the depths of the evaluation throw ends here.
func prove(ctx context.Context, e *engine, loaded *Ruleset, policy firewall.Policy) (result Result, err error) {
	defer func() {
		result.Nodes = int(e.count)
		switch r := recover().(type) {
		case nil:
		case unmodelled:
			result.Verdict, result.Violations, result.Reasons = Indeterminate, nil, []string{r.what}
		case tooLarge:
			result, err = Result{}, r
		case ended:
			result, err = Result{}, fmt.Errorf("prove policy: %w", r.cause)
		default:
			panic(r)
		}
	}()
	c := newComparison(ctx, e, loaded, policy)
	c.evaluate()
	c.compare()
	result.Verdict, result.Violations = Proved, c.violations
	if len(c.violations) > 0 {
		result.Verdict = Violated
	}
	return result, nil
}

func newComparison(ctx context.Context, e *engine, loaded *Ruleset, policy firewall.Policy) *comparison {
	c := &comparison{evaluation: &evaluation{engine: e, ctx: ctx, ruleset: loaded, hooks: map[string][]step{}}}
	c.allowed = c.newAllowed(policy, loaded.ofXTables())
	return c
}

// interfaces are all that the ruleset or the policy names, sorted.
func interfaces(loaded *Ruleset, policy firewall.Policy) []string {
	names := []string{"lo"}
	for name := range loaded.names {
		names = append(names, name)
	}
	for _, i := range policy.Interfaces {
		names = append(names, i.Name)
	}
	for _, d := range policy.Devices {
		names = append(names, d.Name)
	}
	slices.Sort(names)
	return append([]string{noInterface}, append(slices.Compact(names), otherInterface)...)
}
