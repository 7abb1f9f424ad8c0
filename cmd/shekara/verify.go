package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"shekara/firewall/proof"
	"shekara/provisioning"
	"shekara/provisioning/contour"
	"shekara/provisioning/verification"
)

func (p *program) verifyCommand() *cobra.Command {
	var asJSON, trace bool
	c := &cobra.Command{
		Use:   "verify",
		Short: "Prove that what is loaded is what the documents allow, or show a packet for which it is not",
		Long: "verify has the daemon read what the kernel holds now, also what others loaded, and holds it against the documents in force, for all packets.\n" +
			"Violated: it shows a packet, and which loaded rule lets it through or stops it. What the proof cannot judge makes it indeterminate, and is named.\n" +
			"The daemon does the same by itself after each change that it makes or sees; shekara status shows the last verdict.\n" +
			"Exit code: 0 proved, 2 violated, 3 indeterminate, 1 error.",
		Example: "  shekara verify\n  shekara verify --trace\n  shekara verify --json | jq '.statements[].violations[]?.packet'",
		Args:    arguments(0, 0, "nothing"),
		RunE: func(c *cobra.Command, _ []string) error {
			done := p.progress("verifying")
			r, err := p.daemon().Verify(c.Context())
			done()
			if err != nil {
				return err
			}
			if asJSON {
				err = p.json("Verification", r)
			} else {
				p.verification(r, trace)
			}
			if code := map[proof.Verdict]int{proof.Violated: 2, proof.Indeterminate: 3}[r.Verdict]; err == nil && code != 0 {
				return &exit{code: code}
			}
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().BoolVar(&trace, "trace", false, "list every loaded rule that decided on the way of a witness packet")
	return c
}

// verification is the verdict first, then each statement, then what is wrong.
func (p *program) verification(r verification.Report, trace bool) {
	p.line("%s  revision %d, read %s, in %s.", p.verdict(r.Verdict), r.Revision, r.Read.Local().Format(time.DateTime), r.Took.Round(time.Millisecond))
	p.line("")
	width := 0
	for _, s := range r.Statements {
		width = max(width, len(s.Name))
	}
	for _, s := range r.Statements {
		p.line("%-*s  %-13s  %s", width, s.Name, s.Verdict, s.Claim)
	}
	for _, s := range r.Statements {
		p.violations(s, trace)
		p.list("Not decided of "+s.Name+", because of", len(s.Reasons), func(i int) string { return s.Reasons[i] })
	}
	p.waivers(r.Waivers)
}

// waivers lists those in force, with the paragraph that each sets aside.
func (p *program) waivers(list []contour.Waived) {
	p.list("Flows that pass only by a waiver", len(list), func(i int) string {
		w := list[i]
		breaks := make([]string, len(w.Breaks))
		for i, b := range w.Breaks {
			breaks[i] = b.String()
		}
		return fmt.Sprintf("%s until %s, by %s: %s. It breaks %s", w.Flow, w.Expires, w.Approver, w.Reason, strings.Join(breaks, "; "))
	})
}

// violations shows one witness for each loaded rule at fault: a rule that lets new connections through does as much for all other packets.
func (p *program) violations(s verification.Statement, trace bool) {
	shown := 0
	for i, v := range s.Violations {
		same := func(o verification.Violation) bool { return v.Rule != nil && o.Rule != nil && *o.Rule == *v.Rule }
		if slices.ContainsFunc(s.Violations[:i], same) {
			continue
		}
		p.line("")
		if shown++; shown > shownLines {
			p.line("and more of %s: shekara verify --json", s.Name)
			return
		}
		p.line("%s: %s", s.Name, v.What)
		if v.Crossing != nil {
			p.line("  %s", v.Crossing)
		}
		if v.Rule != nil {
			p.line("  by %s", v.Rule)
		}
		for _, t := range v.Trace {
			if trace {
				p.line("  %-11s  %s", t.Hook, t.Loaded)
			}
		}
		more := 0
		for _, o := range s.Violations[i+1:] {
			if same(o) {
				more++
			}
		}
		if more > 0 {
			p.line("  and so for other kinds of packets, %d in all: shekara verify --json", more+1)
		}
	}
}

func (p *program) verdict(v proof.Verdict) string {
	colour := map[proof.Verdict]string{proof.Proved: green, proof.Violated: red, proof.Indeterminate: yellow}[v]
	return p.paint(colour, strings.ToUpper(string(v)), p.width > 0)
}

// proof is the last verification in a line.
func (p *program) proof(s provisioning.ProofStatus, now time.Time) string {
	text := fmt.Sprintf("%s of revision %d, %s ago", p.verdict(s.Verdict), s.Revision, span(now.Sub(s.Read)))
	if s.Finding != "" && s.Verdict == proof.Indeterminate { // a violation is an alarm as well
		text += ": " + s.Finding
	}
	return text
}
