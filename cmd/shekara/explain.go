package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"shekara/provisioning"
	"shekara/provisioning/api"
	"shekara/provisioning/document"
	"shekara/provisioning/source"
	"shekara/provisioning/validate"
)

// fromDocuments are the flags of verbs that answer by what is in force, or by documents.
type fromDocuments struct {
	files []string
	whole bool
	site  string
}

func (f *fromDocuments) flags(c *cobra.Command) {
	c.Flags().StringArrayVarP(&f.files, "file", "f", nil, "file or directory of documents, taken as applied on top of what is in force; may be repeated")
	c.Flags().BoolVar(&f.whole, "whole", false, "with --file: the documents are all there are")
	c.Flags().StringVar(&f.site, "site", "", "with --file: ask the documents alone, as this Site, without a daemon")
}

// offline is the documents' own set, valid for the site. It reports false if the daemon is to be asked.
func (f *fromDocuments) offline(p *program) (*document.Set, bool, error) {
	switch {
	case f.site == "" && (len(f.files) > 0 || !f.whole):
		return nil, false, nil
	case len(f.files) == 0:
		return nil, false, hint(errors.New("--site and --whole are for documents, and none are named"), "name them with --file")
	}
	files, err := source.Read(f.files, p.stdin)
	if err != nil {
		return nil, false, err
	}
	documents, problems := document.Decode(files)
	set := document.NewSet(documents...)
	if problems = append(problems, validate.Check(set, validate.Options{Site: f.site})...); len(problems) > 0 {
		document.Sort(problems)
		p.problems(problems)
		return nil, false, hint(fmt.Errorf("%s in the documents", plural(len(problems), "problem", "problems")), "correct them first; shekara validate checks them")
	}
	return set, true, nil
}

// wire is the documents for the daemon; none: what is in force is asked.
func (f *fromDocuments) wire(p *program) ([]api.File, error) {
	if len(f.files) == 0 {
		return nil, nil
	}
	documents, err := p.documents(f.files, f.whole)
	return documents.Files, err
}

func (p *program) explainCommand() *cobra.Command {
	var q provisioning.Question
	var from fromDocuments
	var asJSON, trace bool
	c := &cobra.Command{
		Use:   "explain SRC DST [PROTOCOL[/PORT]]",
		Short: "Say what becomes of a packet, by which rule and which document, and why",
		Long: "explain follows the packet that opens a connection from SRC to DST through the rules: passed or dropped, where, by which rule and document,\n" +
			"through which tunnel, and what to do if it should pass. No packet is sent and the kernel is not asked. Without a protocol it is an echo request.\n" +
			"Where the packet comes in and goes out follows from its addresses, as routing has it, unless flags say otherwise.\n" +
			"It answers by what is in force; with --file by what would be after an apply; with --file and --site by the documents alone, without a daemon.\n" +
			"Exit code: 0 it passes, 2 it is dropped, 1 error.",
		Example: "  shekara explain 10.64.1.5 10.20.0.10 tcp/443\n  shekara explain 10.64.1.5 10.20.0.10 tcp/443 --tunnel agency-b\n" +
			"  shekara explain 198.51.100.20 203.0.113.10 udp/51820 --from-interface ext0\n  shekara explain 10.64.1.5 10.20.0.10 tcp/80 --file new-flow.yaml",
		Args: arguments(2, 3, "a source, a destination and perhaps a service"),
		RunE: func(c *cobra.Command, args []string) error {
			q.Source, q.Destination = args[0], args[1]
			if len(args) == 3 {
				q.Service = strings.ToLower(args[2])
			}
			x, err := p.explained(c.Context(), q, &from)
			if err != nil {
				return err
			}
			if asJSON {
				err = p.json("Explanation", x)
			} else {
				p.explanation(x, trace)
			}
			if err == nil && !x.Pass {
				return &exit{code: 2}
			}
			return err
		},
	}
	c.Flags().StringVar(&q.FromInterface, "from-interface", "", "interface by which it arrives; local: this box sends it")
	c.Flags().StringVar(&q.FromTunnel, "tunnel", "", "tunnel by which it arrives")
	c.Flags().StringVar(&q.ToInterface, "to-interface", "", "interface by which it leaves; local: it is for this box")
	c.Flags().BoolVar(&q.Reply, "reply", false, "explain the first reply to it instead")
	c.Flags().BoolVar(&trace, "trace", false, "list every rule that matched")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.MarkFlagsMutuallyExclusive("from-interface", "tunnel")
	from.flags(c)
	if err := c.RegisterFlagCompletionFunc("tunnel", p.completeTunnels); err != nil {
		panic(err) // the flag is defined four lines above
	}
	return c
}

func (p *program) explained(ctx context.Context, q provisioning.Question, from *fromDocuments) (provisioning.Explanation, error) {
	set, offline, err := from.offline(p)
	if err != nil {
		return provisioning.Explanation{}, err
	}
	if offline {
		return provisioning.ExplainDocuments(set, from.site, q)
	}
	files, err := from.wire(p)
	if err != nil {
		return provisioning.Explanation{}, err
	}
	done := p.progress("asking")
	defer done()
	return p.daemon().Explain(ctx, api.Explain{Question: q, Files: files, Whole: from.whole})
}

// explanation is the answer in words: the verdict first, then where and why, then what to do.
func (p *program) explanation(x provisioning.Explanation, trace bool) {
	verdict := p.paint(green, "PASSES", p.width > 0)
	if !x.Pass {
		verdict = p.paint(red, "DROPPED", p.width > 0)
	}
	p.line("%s  %s.", verdict, x.Summary)
	p.line("")
	field := func(name, value string) {
		if value != "" {
			p.line("%-9s %s", name, value)
		}
	}
	field("From", x.Packet.From.String())
	field("To", x.Packet.To.String())
	for _, d := range x.Documents {
		field("By", strings.TrimSuffix(fmt.Sprintf("%s %s (%s)", d.Kind, d.Name, d.File), " ()"))
	}
	field("Hook", x.Verdict.Hook)
	field("Reason", x.Verdict.Reason)
	field("Rule ID", x.Verdict.ID)
	field("Built in", x.Verdict.BuiltIn)
	switch {
	case x.Verdict.Rule != "":
		field("Rule", x.Verdict.Chain+": "+x.Verdict.Rule)
	case x.Verdict.Chain != "":
		field("Rule", x.Verdict.Chain+": the policy of the hook")
	}
	if x.Verdict.Element != "" {
		field("Element", "@"+x.Verdict.Set+" "+x.Verdict.Element)
	}
	if x.MTU > 0 && x.Pass {
		mtu := fmt.Sprintf("%d bytes; a larger packet is answered with an ICMP error", x.MTU)
		if x.Verdict.MSS > 0 {
			mtu = fmt.Sprintf("%d bytes; TCP segments are kept to %d (MSS)", x.MTU, x.Verdict.MSS)
		}
		field("Path MTU", mtu)
	}
	if trace {
		p.line("")
		p.line("Rules that matched, in order:")
		for _, h := range x.Verdict.Trace {
			p.line("  %-10s  %s: %s", h.Hook, h.Chain, h.Rule)
		}
	}
	for _, note := range x.Notes {
		p.note("note: %s.", note)
	}
	if len(x.Advice) > 0 {
		p.line("")
		p.line("For it to pass:")
		for _, a := range x.Advice {
			p.line("  - %s", a)
		}
	}
	if x.Suggestion != "" {
		p.line("")
		for line := range strings.Lines(x.Suggestion) {
			p.line("    %s", strings.TrimRight(line, "\n"))
		}
	}
}
