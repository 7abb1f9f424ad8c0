package verification

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"shekara/firewall/proof"
	"shekara/provisioning/contour"
)

// Report is what one verification came to.
type Report struct {
	Site       string        `json:"site"`
	Revision   int           `json:"revision"`   // whose documents it was held against; 0: nothing is in force
	Verdict    proof.Verdict `json:"verdict"`    // of all statements together
	Statements []Statement   `json:"statements"` //
	// Waivers are those in force: flows that pass only by one, and what they break.
	Waivers    []contour.Waived `json:"waivers,omitempty"`
	Generation uint32           `json:"generation,omitempty"` // of the kernel's nftables at which all its rules were read
	Read       time.Time        `json:"read"`                 // when the kernel was read
	Took       time.Duration    `json:"took"`                 // nanoseconds
}

// Statement is one claim about the box.
type Statement struct {
	Name       string        `json:"name"`
	Claim      string        `json:"claim"` // in one sentence; what is left out of it, and why, is said in it
	Verdict    proof.Verdict `json:"verdict"`
	Violations []Violation   `json:"violations,omitempty"`
	Reasons    []string      `json:"reasons,omitempty"` // why it is indeterminate
}

// Violation is something that is not as the documents ask.
type Violation struct {
	What       string        `json:"what"`                 // in one sentence
	Kind       proof.Kind    `json:"kind,omitempty"`       // of what a packet shows
	Packet     *proof.Packet `json:"packet,omitempty"`     // a packet that shows it
	Connection string        `json:"connection,omitempty"` // a tracked connection that shows it, as it was opened
	Rule       *proof.Loaded `json:"rule,omitempty"`       // the loaded rule that lets it through, or stops it
	Trace      []proof.Trace `json:"trace,omitempty"`      // all loaded rules that decided on its way, in order
	Crossing   *Crossing     `json:"crossing,omitempty"`   // of a packet that passes from zone to zone
}

// Crossing is which way a packet goes that the documents do not allow, and what a flow for it would break.
type Crossing struct {
	From   Zone             `json:"from"`
	To     Zone             `json:"to"`
	Breaks []contour.Breach `json:"breaks,omitempty"` // rules of the acts; none: only the documents lack the flow
}

// Zone is where a packet comes from or goes to.
type Zone struct {
	Name    string `json:"name"`
	Contour string `json:"contour"`
}

func (z Zone) String() string { return fmt.Sprintf("zone %s (%s contour)", z.Name, z.Contour) }

func (c Crossing) String() string {
	text := fmt.Sprintf("from %s to %s", c.From, c.To)
	for i, b := range c.Breaks {
		text += map[bool]string{true: ", which breaks ", false: "; "}[i == 0] + b.String()
	}
	return text
}

// Names of statements.
const (
	Filter      = "filter"
	Beside      = "beside"
	Routes      = "routes"
	Peers       = "peers"
	Connections = "connections"
	Assertions  = "assertions"
	Contours    = "contours"
)

// claims are in the order in which they are told.
func claims() []Statement {
	return []Statement{
		{Name: Filter, Claim: "for all packets, the rules that the kernel holds let pass exactly what the documents allow"},
		{Name: Beside, Claim: "nothing beside these rules decides about packets: legacy tables, filters of tc, programs, bridges, transformations"},
		{Name: Routes, Claim: "routes and rules are those that the documents ask for, and nobody else's take a far prefix past its tunnel"},
		{Name: Peers, Claim: "each WireGuard peer holds exactly the prefixes of its tunnel"},
		{Name: Connections, Claim: "no tracked connection lives that the documents do not allow"},
		{Name: Assertions, Claim: "what Assertion documents say must and must not be reachable is so"},
		{Name: Contours, Claim: "the documents break no rule of the acts for contours, but where a waiver in force lets them"},
	}
}

// Found is what came of asking one statement; nothing: it holds.
type Found struct {
	Violations []Violation
	Reasons    []string // why it cannot be decided
	Except     []string // what the claim is made without, and why
}

// Unknown is a statement that cannot be decided.
func Unknown(reasons ...string) Found { return Found{Reasons: reasons} }

// Indeterminate says of every statement that it could not be asked, and why.
func (r *Report) Indeterminate(reason string) {
	for _, s := range claims() {
		r.Add(s.Name, Unknown(reason))
	}
}

// Add takes in what came of one statement: violated if there are violations, else indeterminate if there are reasons, else proved.
func (r *Report) Add(name string, found Found) {
	all := claims()
	s := all[slices.IndexFunc(all, func(s Statement) bool { return s.Name == name })]
	s.Violations, s.Reasons, s.Verdict = found.Violations, found.Reasons, proof.Proved
	if len(found.Except) > 0 {
		s.Claim += "; except: " + strings.Join(found.Except, "; ")
	}
	switch {
	case len(found.Violations) > 0:
		s.Verdict = proof.Violated
	case len(found.Reasons) > 0:
		s.Verdict = proof.Indeterminate
	}
	r.Statements = append(r.Statements, s)
	if r.Verdict == "" || s.Verdict == proof.Violated || s.Verdict == proof.Indeterminate && r.Verdict == proof.Proved {
		r.Verdict = s.Verdict
	}
}

// OfFilter puts a proof in the words of a report.
func OfFilter(p proof.Result) Found {
	found := Found{Reasons: p.Reasons}
	for _, v := range p.Violations {
		found.Violations = append(found.Violations, Violation{What: fmt.Sprintf("a packet %s: %s", v.Kind, v.Witness), Kind: v.Kind, Packet: &v.Witness, Rule: &v.Rule, Trace: v.Trace})
	}
	return found
}

func (v Violation) String() string {
	if v.Rule == nil {
		return v.What
	}
	return fmt.Sprintf("%s (by %s)", v.What, v.Rule)
}

// Findings are all violations, else all reasons, in words and in order.
func (r Report) Findings() []string {
	var violations, reasons []string
	for _, s := range r.Statements {
		for _, v := range s.Violations {
			violations = append(violations, v.String())
		}
		reasons = append(reasons, s.Reasons...)
	}
	if len(violations) > 0 {
		return violations
	}
	return slices.Compact(reasons)
}

// Witness is the first violation that has a packet; nil if none has.
func (r Report) Witness() *Violation {
	for _, s := range r.Statements {
		for i := range s.Violations {
			if s.Violations[i].Packet != nil {
				return &s.Violations[i]
			}
		}
	}
	return nil
}

// Identity is the same for two reports which say the same of the same revision: whichever packet shows it, however long it took.
func (r Report) Identity() string {
	var said []string
	for _, s := range r.Statements {
		said = append(said, s.Name+" "+string(s.Verdict))
		for _, v := range s.Violations {
			if v.Rule != nil {
				said = append(said, v.Rule.String())
			}
		}
		said = append(said, s.Reasons...)
	}
	for _, w := range r.Waivers {
		said = append(said, w.String())
	}
	return fmt.Sprintf("%d %s", r.Revision, strings.Join(slices.Compact(said), "\n"))
}
