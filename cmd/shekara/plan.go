package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"shekara/provisioning"
	"shekara/provisioning/api"
	"shekara/provisioning/client"
	"shekara/provisioning/document"
	"shekara/provisioning/source"
)

func (p *program) planCommand() *cobra.Command {
	var whole, asJSON, all bool
	c := &cobra.Command{
		Use:   "plan FILE|DIR...",
		Short: "Say what would change; nothing does",
		Long:  "plan compares documents with the revision in force and with the host. Exit code: 0 nothing to change, 2 changes, 1 error.",
		Args:  arguments(1, -1, "files or directories"),
		RunE: func(c *cobra.Command, args []string) error {
			documents, err := p.documents(args, whole)
			if err != nil {
				return err
			}
			done := p.progress("planning")
			daemon := p.daemon()
			if !asJSON && !all {
				daemon = daemon.Briefly()
			}
			plan, err := daemon.Plan(c.Context(), documents)
			done()
			if err != nil {
				return err
			}
			if asJSON {
				err = p.json("Plan", plan)
			} else {
				p.plan(plan, all)
			}
			if err == nil && !plan.Empty() {
				return &exit{code: 2}
			}
			return err
		},
	}
	c.Flags().BoolVar(&whole, "whole", false, "the documents are all there are: what is absent would be removed")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().BoolVar(&all, "all", false, "list every document and every step, however many")
	return c
}

type applyFlags struct {
	whole, yes, asJSON bool
	within             time.Duration
	message            string
}

func (p *program) applyCommand() *cobra.Command {
	var f applyFlags
	c := &cobra.Command{
		Use:   "apply FILE|DIR... [--whole] [--confirm-within 5m]",
		Short: "Make documents real, with a way back",
		Long: "apply prints the plan, asks, and makes it real. Documents are merged by kind and name; with --whole what is absent is removed.\n" +
			"With --confirm-within the change is undone unless shekara confirm follows in time, even if the daemon is killed meanwhile.\n" +
			"A change to management, interfaces or the Site always opens such a window of 120 seconds.\n" +
			"Exit code: 0 all in force, 1 error, 3 in force but for the tunnels named.",
		Example: "  shekara apply /etc/shekara/agency-a.yaml --confirm-within 5m\n  shekara apply --whole /etc/shekara -m 'spring cleaning'",
		Args:    arguments(1, -1, "files or directories"),
		RunE:    func(c *cobra.Command, args []string) error { return p.apply(c.Context(), args, f) },
	}
	c.Flags().BoolVar(&f.whole, "whole", false, "the documents are all there are: remove what is absent")
	c.Flags().BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	c.Flags().BoolVar(&f.asJSON, "json", false, "print JSON")
	c.Flags().DurationVar(&f.within, "confirm-within", 0, "undo unless confirmed within this time (1s to 24h)")
	c.Flags().StringVarP(&f.message, "message", "m", "", "why, for the history")
	return c
}

func (p *program) documents(names []string, whole bool) (api.Documents, error) {
	files, err := source.Read(names, p.stdin)
	if err != nil {
		return api.Documents{}, err
	}
	if len(files) == 0 {
		return api.Documents{}, nothingIn(names)
	}
	return api.Documents{Files: overTheWire(files), Whole: whole}, nil
}

func nothingIn(names []string) error {
	next := "files in a directory must be named *.yaml or *.yml"
	if slices.Equal(names, []string{"-"}) {
		names, next = []string{"standard input"}, "give it YAML documents, or name a file"
	}
	return hint(errors.New("there are no documents in "+strings.Join(names, ", ")), next)
}

func (p *program) apply(ctx context.Context, names []string, f applyFlags) error {
	documents, err := p.documents(names, f.whole)
	if err != nil {
		return err
	}
	documents.Message = f.message
	if f.within != 0 {
		documents.ConfirmWithin = f.within.String()
	}
	daemon := p.daemon()
	if !f.asJSON {
		daemon = daemon.Briefly()
	}
	base, going, err := p.settle(ctx, daemon, documents, f)
	if err != nil || !going {
		return err
	}
	done := p.progress("applying")
	result, err := daemon.Apply(ctx, documents, base)
	done()
	if err != nil {
		return err
	}
	if f.direct() && !f.asJSON {
		p.plan(result.Plan, false)
		if result.Plan.Empty() && len(result.Failed) == 0 {
			return nil
		}
	}
	return p.result("Applied", result, f.asJSON)
}

// direct says that nobody looks at the plan before it is applied: it is then made once, not twice. Where documents are removed the
// plan is printed first all the same, so that a log shows what was about to go.
func (f applyFlags) direct() bool { return f.yes && !f.whole }

// settle finds the revision to apply to, and whether to: by the plan and an answer, or at once.
func (p *program) settle(ctx context.Context, daemon *client.Client, documents api.Documents, f applyFlags) (base int, going bool, err error) {
	if f.direct() {
		status, err := daemon.Status(ctx)
		return status.Revision, err == nil, err
	}
	if f.asJSON && !f.yes {
		return 0, false, hint(errors.New("--json cannot ask whether to apply the plan"), "add --yes, or look with shekara plan --json first")
	}
	done := p.progress("planning")
	plan, err := daemon.Plan(ctx, documents)
	done()
	if err != nil {
		return 0, false, err
	}
	if !f.asJSON {
		p.plan(plan, false)
	}
	if plan.Empty() {
		return plan.Base, f.asJSON, nil
	}
	if !f.yes {
		if err := p.approve(ctx, "Apply this plan?"); err != nil {
			return 0, false, err
		}
	}
	return plan.Base, true, nil
}

// approve asks on a terminal; where there is none, only --yes approves.
func (p *program) approve(ctx context.Context, question string) error {
	if !p.asks {
		return hint(errors.New("this changes the host and nobody can be asked: standard input is no terminal"), "add --yes if that is what you want")
	}
	if !p.ask(ctx, question) {
		return &exit{code: 1, err: errNotAsked}
	}
	return nil
}

// result says what is in force now, what is not, and until when it must be confirmed.
func (p *program) result(verb string, r provisioning.Result, asJSON bool) error {
	if asJSON {
		if err := p.json("Result", r); err != nil {
			return err
		}
	} else {
		took := ""
		if r.Took >= time.Millisecond {
			took = " (" + r.Took.Round(time.Millisecond).String() + ")"
		}
		p.line("%s: revision %d is in force%s.", verb, r.Revision, took)
	}
	for _, failed := range r.Failed {
		what := "the site"
		if failed.Tunnel != "" {
			what = "tunnel " + failed.Tunnel
		}
		p.loud("%s is not in force: %s", what, failed.Error)
		if failed.Hint != "" {
			p.note("  hint: %s", failed.Hint)
		}
	}
	if r.ConfirmBy != nil {
		p.loud("UNDONE AT %s (in %s) UNLESS CONFIRMED. To keep it:  shekara confirm", r.ConfirmBy.Local().Format(time.DateTime),
			time.Until(*r.ConfirmBy).Round(time.Second))
		p.note("  To go back at once:  shekara rollback")
	}
	if len(r.Failed) > 0 {
		return &exit{code: 3}
	}
	return nil
}

func (p *program) plan(plan provisioning.Plan, all bool) {
	if plan.Empty() {
		p.line("Nothing to change: the documents are revision %d, and the host is as it says.", plan.Base)
		return
	}
	from := fmt.Sprintf("revision %d", plan.Base)
	if plan.Base == 0 {
		from = "nothing"
	}
	p.line("Plan %s for site %s, from %s:", plan.ID, plan.Site, from)
	if !all {
		plan = plan.Brief()
	}
	documents, steps := map[string]int{}, len(plan.Steps)
	for _, o := range plan.Omitted {
		documents[o.Verb] += o.Count
		if o.Phase != "" {
			steps += o.Count
		}
	}
	for _, c := range plan.Changes {
		documents[c.Verb]++
	}
	p.changes(plan.Changes, plan.Omitted)
	if len(plan.Steps) > 0 {
		p.line("")
		p.line("On the host, in this order:")
		p.steps(plan.Steps, plan.Omitted)
	}
	p.line("")
	p.line("%d to add, %d to change, %d to remove; %s.", documents["add"], documents["change"], documents["remove"], plural(steps, "step on the host", "steps on the host"))
	if len(plan.Omitted) > 0 {
		p.note("shekara plan --all lists every document and step.")
	}
	for _, risk := range plan.Risks {
		p.loud("risky: %s", risk)
	}
	if len(plan.Risks) > 0 {
		p.loud("what is risky must be confirmed within 120 s, or within --confirm-within, or it is undone")
	}
}

// groups puts a list in order by the name of each item's group, without changing the order within or of first appearance.
func groups[T any](list []T, name func(T) string) (names []string, groups map[string][]T) {
	groups = map[string][]T{}
	for _, item := range list {
		n := name(item)
		if _, seen := groups[n]; !seen {
			names = append(names, n)
		}
		groups[n] = append(groups[n], item)
	}
	return names, groups
}

// changes lists documents by what becomes of them and by kind.
func (p *program) changes(changes []provisioning.Change, omitted []provisioning.Omitted) {
	signs := map[string]cell{"add": {"+", green}, "change": {"~", yellow}, "remove": {"-", red}}
	names, kinds := groups(changes, func(c provisioning.Change) string { return c.Verb + " " + string(c.Kind) })
	for _, name := range names {
		for _, c := range kinds[name] {
			sign := signs[c.Verb]
			p.line("  %s", p.paint(sign.colour, fmt.Sprintf("%s %s %s", sign.text, c.Kind, c.Name), p.width > 0))
			if c.Verb == "change" {
				for _, line := range difference(c.Before, c.After) {
					colour := map[byte]string{'+': green, '-': red}[line[0]]
					p.line("      %s", p.paint(colour, line, p.width > 0))
				}
			}
		}
		for _, o := range omitted {
			if o.Verb+" "+o.Kind == name {
				p.line("  %s and %d more of kind %s", signs[o.Verb].text, o.Count, o.Kind)
			}
		}
	}
}

// steps lists what is done on the host under the name of each phase.
func (p *program) steps(steps []provisioning.Step, omitted []provisioning.Omitted) {
	names, phases := groups(steps, func(s provisioning.Step) string { return s.Phase })
	for _, phase := range names {
		p.line("  %s", phase)
		for _, s := range phases[phase] {
			p.line("    %s", s.Text)
		}
		for _, o := range omitted {
			if o.Phase == phase {
				p.line("    and %s", plural(o.Count, "more step", "more steps"))
			}
		}
	}
}

func summary(format string, changes []provisioning.Change) string {
	count := map[string]int{}
	for _, c := range changes {
		count[c.Verb]++
	}
	return fmt.Sprintf(format, count["add"], count["change"], count["remove"])
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// difference is the lines that differ, "-" and "+", by the longest common subsequence, without what stays the same.
func difference(before, after string) []string {
	a, b := strings.Split(strings.TrimRight(before, "\n"), "\n"), strings.Split(strings.TrimRight(after, "\n"), "\n")
	// lengths[i][j] is the longest common subsequence of a[i:] and b[j:]. One document is some tens of lines.
	lengths := make([][]int, len(a)+1)
	for i := range lengths {
		lengths[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				lengths[i][j] = lengths[i+1][j+1] + 1
			} else {
				lengths[i][j] = max(lengths[i+1][j], lengths[i][j+1])
			}
		}
	}
	var out []string
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && lengths[i+1][j] >= lengths[i][j+1]:
			out = append(out, "-"+a[i])
			i++
		default:
			out = append(out, "+"+b[j])
			j++
		}
	}
	return out
}

// overTheWire is files as the API takes them.
func overTheWire(files []document.File) []api.File {
	out := make([]api.File, len(files))
	for i, f := range files {
		out[i] = api.File{Name: f.Name, Content: string(f.Data)}
	}
	return out
}
