package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"shekara/journal"
	"shekara/provisioning/api"
)

func (p *program) journalCommand() *cobra.Command {
	return group("journal", "The record of events", p.journalListCommand(), p.journalTailCommand(), p.journalKeyCommand(), p.journalRotateKeyCommand(), p.journalCheckpointCommand(),
		p.journalProveCommand(), p.journalExportCommand(), p.journalStatsCommand(), p.journalVerifyCommand())
}

// eventFlags choose events by flags.
type eventFlags struct {
	filter       api.EventFilter
	tunnel       string
	since, until string
}

func (p *program) newEventFlags(c *cobra.Command) *eventFlags {
	f := &eventFlags{}
	flags := c.Flags()
	flags.StringSliceVar(&f.filter.Types, "type", nil, "only of these types, as drift.find or drift.*")
	flags.StringSliceVar(&f.filter.Severities, "severity", nil, "only of these: alert, error, warning, notice, info")
	flags.StringVar(&f.filter.Object, "object", "", "only about this, as flow/NAME; flow/ is about any flow")
	flags.StringVar(&f.tunnel, "tunnel", "", "only about this tunnel")
	flags.StringVar(&f.filter.Organisation, "organisation", "", "only of this legal entity, by its name")
	flags.StringVar(&f.filter.System, "system", "", "only what concerns this registered system, by the name of its document")
	flags.StringVar(&f.filter.Text, "text", "", "only with this in message, object, organisation, system, user or a field")
	flags.StringVar(&f.filter.Day, "day", "", "only of this legal day (Asia/Almaty), as 2026-11-26")
	flags.StringVar(&f.since, "since", "", "only at this time or later: 2026-11-26T08:00:00Z, \"2026-11-26 13:00\" by this terminal's clock, or 2h for two hours ago")
	flags.StringVar(&f.until, "until", "", "only before this time, written alike")
	flags.BoolVar(&f.filter.Checkpoints, "checkpoints", false, "also the signed checkpoints, one a minute")
	c.MarkFlagsMutuallyExclusive("object", "tunnel")
	var types, severities []string
	nouns := map[string]bool{}
	for _, entry := range journal.Catalogue() {
		types = append(types, string(entry.Type))
		noun, _, _ := strings.Cut(string(entry.Type), ".")
		if !nouns[noun] {
			nouns[noun] = true
			types = append(types, noun+".*")
		}
	}
	for _, severity := range journal.Severities() {
		severities = append(severities, string(severity))
	}
	for flag, complete := range map[string]cobra.CompletionFunc{"tunnel": p.completeTunnels,
		"type":     cobra.FixedCompletions(types, cobra.ShellCompDirectiveNoFileComp),
		"severity": cobra.FixedCompletions(severities, cobra.ShellCompDirectiveNoFileComp)} {
		if err := c.RegisterFlagCompletionFunc(flag, complete); err != nil {
			panic(err) // the flags are defined right above
		}
	}
	return f
}

// chosen is what the flags say.
func (f *eventFlags) chosen() (api.EventFilter, error) {
	filter := f.filter
	if f.tunnel != "" {
		filter.Object = "tunnel/" + f.tunnel
	}
	for _, bound := range []struct {
		flag, text string
		to         *time.Time
	}{{"--since", f.since, &filter.Since}, {"--until", f.until, &filter.Until}} {
		if bound.text == "" {
			continue
		}
		at, ok := moment(bound.text, time.Now())
		if !ok {
			return api.EventFilter{}, hint(fmt.Errorf("%s %q is no time", bound.flag, bound.text), `write 2026-11-26T08:00:00Z, "2026-11-26 13:00" by this terminal's clock, or 2h for two hours ago`)
		}
		*bound.to = at
	}
	return filter, nil
}

// moment reads a time, or how long ago it was.
func moment(text string, now time.Time) (time.Time, bool) {
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), true
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, true
	}
	for _, layout := range []string{time.DateTime, "2006-01-02 15:04", time.DateOnly} {
		if at, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return at, true
		}
	}
	return time.Time{}, false
}

func (p *program) journalListCommand() *cobra.Command {
	var asJSON bool
	var after uint64
	var limit int
	c := &cobra.Command{
		Use:     "list",
		Short:   "List events, oldest first",
		Example: "  shekara journal list --tunnel agency-a --since 24h\n  shekara journal list --day 2026-11-26 --severity alert,error\n  shekara journal list --type 'drift.*' --text nft",
		Args:    arguments(0, 0, "nothing"),
	}
	chosen := p.newEventFlags(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if limit < 1 || limit > 10000 {
			return hint(fmt.Errorf("--limit %d: that many cannot be listed at once", limit), "it is 1 to 10000; --after reads on")
		}
		filter, err := chosen.chosen()
		if err != nil {
			return err
		}
		page, err := p.daemon().Events(c.Context(), after, limit, filter)
		if err != nil {
			return err
		}
		if asJSON {
			return p.json("EventList", page)
		}
		if len(page.Events) == 0 {
			p.line("No such events after %d.", after)
			return nil
		}
		rows := make([][]cell, len(page.Events))
		for i, e := range page.Events {
			rows[i] = eventCells(e)
		}
		p.table(p.brief(120, []string{"TIME", "TYPE", "OBJECT", "MESSAGE"}, eventHeader(), rows))
		if len(page.Events) == limit {
			p.note("There may be more:  the same with --after %d", page.Next)
		}
		return nil
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().Uint64Var(&after, "after", 0, "only events with a greater sequence")
	c.Flags().IntVar(&limit, "limit", 1000, "at most so many (1 to 10000)")
	return c
}

func (p *program) journalTailCommand() *cobra.Command {
	var asJSON bool
	var last int
	c := &cobra.Command{
		Use:     "tail",
		Short:   "Print events as they come, until interrupted",
		Example: "  shekara journal tail --severity alert,error\n  shekara journal tail --tunnel agency-a --json",
		Args:    arguments(0, 0, "nothing"),
	}
	chosen := p.newEventFlags(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		filter, err := chosen.chosen()
		if err != nil {
			return err
		}
		err = p.daemon().FollowEvents(c.Context(), -int64(last)-1, filter, func(e journal.Event) error {
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
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	c.Flags().IntVarP(&last, "lines", "n", 10, "look at so many of the past first")
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
