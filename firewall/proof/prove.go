package proof

import (
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
)

// maxNodes bounds the memory: 16 bytes or less for each node and about 20 with the tables beside them.
const maxNodes = 12 << 20

// Prove decides for all packets whether what the loaded rules let pass is what the policy allows. It is pure: the same arguments give the
// same result. An error says that the policy is none (firewall.Compile would refuse it as well).
func Prove(loaded *Ruleset, policy firewall.Policy) (Result, error) {
	if err := check(policy); err != nil {
		return Result{}, err
	}
	if len(loaded.unmodelled) > 0 {
		return Result{Verdict: Indeterminate, Reasons: slices.Clone(loaded.unmodelled)}, nil
	}
	return prove(loaded, policy, maxNodes), nil
}

// check refuses policies whose names lead nowhere: they would silently allow less.
func check(p firewall.Policy) error {
	base, err := firewall.CompileBase(p)
	if err == nil {
		_, err = base.Elements(p.Ports, p.Flows, p.Probes)
	}
	if err != nil {
		return fmt.Errorf("prove policy: %w", err)
	}
	return nil
}

func prove(loaded *Ruleset, policy firewall.Policy, limit int) (result Result) {
	p := newProver(loaded, policy, limit)
	defer func() {
		result.Nodes = int(p.diagrams.count)
		var large tooLarge
		switch r := recover().(type) {
		case nil:
		case unmodelled:
			result.Verdict, result.Violations, result.Reasons = Indeterminate, nil, []string{r.what}
		case error:
			if !errors.As(r, &large) {
				panic(r)
			}
			result.Verdict, result.Violations, result.Reasons = Indeterminate, nil, []string{large.Error()}
		default:
			panic(r)
		}
	}()
	p.allowed = p.newAllowed(policy)
	p.evaluate()
	p.compare()
	result.Verdict, result.Violations = Proved, p.violations
	if len(p.violations) > 0 {
		result.Verdict = Violated
	}
	return result
}

func newProver(loaded *Ruleset, policy firewall.Policy, limit int) *prover {
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
	d := newDiagrams(limit)
	return &prover{engine: &engine{diagrams: d, variables: newVariables(d, names), ruleset: loaded, lower: map[string]formula{}, hooks: map[string][]*chain{}}}
}
