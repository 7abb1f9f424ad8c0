package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"shekara/provisioning"
)

// flowOrders are by what flows can be sorted, the largest first but for the name.
func flowOrders() map[string]func(a, b provisioning.FlowStatus) int {
	seen := func(f provisioning.FlowStatus) time.Time {
		if f.LastSeen == nil {
			return time.Time{}
		}
		return *f.LastSeen
	}
	return map[string]func(a, b provisioning.FlowStatus) int{
		"name": func(a, b provisioning.FlowStatus) int { return 0 }, // as the daemon lists them
		"bytes": func(a, b provisioning.FlowStatus) int {
			return cmp.Compare(b.BytesTo+b.BytesBack, a.BytesTo+a.BytesBack)
		},
		"packets": func(a, b provisioning.FlowStatus) int {
			return cmp.Compare(b.PacketsTo+b.PacketsBack, a.PacketsTo+a.PacketsBack)
		},
		"connections": func(a, b provisioning.FlowStatus) int { return cmp.Compare(b.Connections, a.Connections) },
		"opened":      func(a, b provisioning.FlowStatus) int { return cmp.Compare(b.Opened, a.Opened) },
		"seen":        func(a, b provisioning.FlowStatus) int { return seen(b).Compare(seen(a)) },
	}
}

const flowOrderNames = "name, bytes, packets, connections, opened, seen"

func (p *program) flowsCommand() *cobra.Command {
	var asJSON bool
	var by string
	c := &cobra.Command{
		Use:   "flows [NAME|PATTERN]",
		Short: "Show what each flow carried",
		Long: "flows shows the connections of each flow, now and opened in all, and the packets and bytes that passed: to the target, which is the way\n" +
			"in which connections are opened, and back. Bytes are those of IP packets, with their headers. Figures are of a look taken now, or of seconds\n" +
			"ago on a busy box; they outlive changes of the documents, reloads of the filter, restarts and kills of the daemon, and up to a minute of them is\n" +
			"lost with the power. What could not be counted is said below.",
		Example:           "  shekara flows\n  shekara flows 'agency-*' --sort bytes",
		Args:              arguments(0, 1, "one name or pattern"),
		ValidArgsFunction: p.completeFlows,
		RunE: func(c *cobra.Command, args []string) error {
			order := flowOrders()[by]
			if order == nil {
				return hint(fmt.Errorf("--sort %q: there is no such order", by), "it is one of "+flowOrderNames)
			}
			report, err := p.daemon().Flows(c.Context(), strings.Join(args, ""))
			if err != nil {
				return err
			}
			slices.SortStableFunc(report.Flows, order)
			if asJSON {
				return p.json("FlowList", report)
			}
			p.flows(report, time.Now())
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().StringVar(&by, "sort", "name", "by one of "+flowOrderNames)
	if err := c.RegisterFlagCompletionFunc("sort", cobra.FixedCompletions(strings.Split(flowOrderNames, ", "), cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag stands right above
	}
	return c
}

func (p *program) flows(r provisioning.FlowReport, now time.Time) {
	if len(r.Flows) == 0 {
		p.line("No flows.")
	} else {
		rows := make([][]cell, len(r.Flows))
		for i, f := range r.Flows {
			rows[i] = []cell{{text: f.Name}, {text: f.From}, {text: f.To}, {text: orNone(f.Tunnel)}, {text: fmt.Sprint(f.Connections)}, {text: fmt.Sprint(f.Opened)},
				{text: fmt.Sprint(f.PacketsTo)}, {text: size(f.BytesTo)}, {text: fmt.Sprint(f.PacketsBack)}, {text: size(f.BytesBack)}, {text: ago(f.LastSeen, now)}}
		}
		header := []string{"FLOW", "FROM", "TO", "TUNNEL", "NOW", "OPENED", "PACKETS TO", "BYTES TO", "PACKETS BACK", "BYTES BACK", "SEEN"}
		p.table(p.brief(140, []string{"FLOW", "NOW", "OPENED", "BYTES TO", "BYTES BACK", "SEEN"}, header, rows))
	}
	switch {
	case r.Looked == nil:
		p.note("Nothing was counted yet: this box has not looked at its connections.")
	case now.Sub(*r.Looked) > time.Minute:
		p.note("Connections were looked at %s ago.", span(now.Sub(*r.Looked)))
	}
	for _, x := range []struct {
		n    uint64
		what string
	}{
		{uint64(r.Uncounted), "live and are not counted: there are too many, or they are older than the accounting"},
		{r.Missed, "ended unheard: what they carried after they were looked at last is missing"},
		{r.Unattributed, "ended, and no flow is known for them"},
	} {
		if x.n > 0 {
			p.note("%s %s.", plural(int(x.n), "connection", "connections"), x.what)
		}
	}
}

func (p *program) completeFlows(c *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(c.Context(), 2*time.Second)
	defer cancel()
	report, err := p.daemon().Flows(ctx, "")
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, f := range report.Flows {
		if strings.HasPrefix(f.Name, prefix) {
			names = append(names, f.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
