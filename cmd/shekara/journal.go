package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"shekara/journal"
)

func (p *program) journalCommand() *cobra.Command {
	return group("journal", "The record of events", p.journalListCommand(), p.journalTailCommand(), p.journalKeyCommand(), p.journalCheckpointCommand(),
		p.journalProveCommand(), p.journalVerifyCommand())
}

const checkpointsUsage = "also the signed checkpoints, one a minute"

func (p *program) journalListCommand() *cobra.Command {
	var asJSON, checkpoints bool
	var after uint64
	var limit int
	c := &cobra.Command{
		Use:   "list",
		Short: "List events, oldest first",
		Args:  arguments(0, 0, "nothing"),
		RunE: func(c *cobra.Command, _ []string) error {
			if limit < 1 || limit > 10000 {
				return hint(fmt.Errorf("--limit %d: that many cannot be listed at once", limit), "it is 1 to 10000; --after reads on")
			}
			page, err := p.daemon().Events(c.Context(), after, limit, checkpoints)
			if err != nil {
				return err
			}
			if asJSON {
				return p.json("EventList", page)
			}
			if len(page.Events) == 0 {
				p.line("No events after %d.", after)
				return nil
			}
			rows := make([][]cell, len(page.Events))
			for i, e := range page.Events {
				rows[i] = eventCells(e)
			}
			p.table(p.brief(120, []string{"TIME", "TYPE", "OBJECT", "MESSAGE"}, eventHeader(), rows))
			if len(page.Events) == limit {
				p.note("There may be more:  shekara journal list --after %d", page.Next)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().BoolVar(&checkpoints, "checkpoints", false, checkpointsUsage)
	c.Flags().Uint64Var(&after, "after", 0, "only events with a greater sequence")
	c.Flags().IntVar(&limit, "limit", 1000, "at most so many (1 to 10000)")
	return c
}

func (p *program) journalTailCommand() *cobra.Command {
	var asJSON, checkpoints bool
	var last int
	c := &cobra.Command{
		Use:   "tail",
		Short: "Print events as they come, until interrupted",
		Args:  arguments(0, 0, "nothing"),
		RunE: func(c *cobra.Command, _ []string) error {
			err := p.daemon().FollowEvents(c.Context(), -int64(last)-1, checkpoints, func(e journal.Event) error {
				if asJSON {
					return p.jsonLine(e)
				}
				p.event(e)
				return nil
			})
			if c.Context().Err() != nil {
				return nil // interrupted is how a tail ends
			}
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	c.Flags().BoolVar(&checkpoints, "checkpoints", false, checkpointsUsage)
	c.Flags().IntVarP(&last, "lines", "n", 10, "begin with so many of the past")
	return c
}

func eventHeader() []string {
	return []string{"SEQUENCE", "TIME", "SEVERITY", "TYPE", "OBJECT", "BY", "MESSAGE"}
}

func eventCells(e journal.Event) []cell {
	colour := map[journal.Severity]string{journal.Alert: red, journal.Error: red, journal.Warning: yellow}[e.Severity]
	return []cell{{text: strconv.FormatUint(e.Sequence, 10)}, {text: e.Time.Local().Format(time.DateTime)}, {string(e.Severity), colour},
		{text: string(e.Type)}, {text: orNone(e.Object)}, {text: who(e.Actor)}, {text: e.Message}}
}

// event is one line of a stream: its columns are as wide as is usual, since those to come are not known. On a terminal it is one line at
// most, cut at its end.
func (p *program) event(e journal.Event) {
	c := eventCells(e)
	line := fmt.Sprintf("%6s  %s  %-7s  %-14s  %-20s  %-8s  %s", c[0].text, c[1].text, c[2].text, c[3].text, c[4].text, c[5].text, c[6].text)
	if p.width > 0 {
		line = cut(line, p.width)
	}
	p.line("%s", p.paint(c[2].colour, line, p.width > 0))
}

func (p *program) metricsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "metrics",
		Short: "Print metrics in Prometheus' text format, for a textfile collector or a look",
		Args:  arguments(0, 0, "nothing"),
		RunE: func(c *cobra.Command, _ []string) error {
			text, err := p.daemon().Metrics(c.Context())
			if err != nil {
				return err
			}
			return p.raw(text)
		},
	}
}
