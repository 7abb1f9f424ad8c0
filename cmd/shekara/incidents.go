package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"shekara/journal"
	"shekara/journal/incident"
	"shekara/provisioning"
)

func (p *program) incidentsCommand() *cobra.Command {
	var asJSON, all bool
	c := &cobra.Command{
		Use:   "incidents",
		Short: "Show what events come to: scans, flapping tunnels, a clock that is lost",
		Long: "incidents shows those that are open, the oldest first, and with --all the last ones that are over too. What is an incident the rules say: those that are\n" +
			"built in, and documents of kind IncidentRule. That one opened or is over is on record: shekara journal list --type 'incident.*'.",
		Example: "  shekara incidents\n  shekara incidents --all --json",
		Args:    arguments(0, 0, "nothing"),
		RunE: func(c *cobra.Command, _ []string) error {
			report, err := p.daemon().Incidents(c.Context(), all)
			if err != nil {
				return err
			}
			if asJSON {
				return p.json("IncidentList", report)
			}
			p.incidents(report, time.Now())
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().BoolVar(&all, "all", false, "also the last ones that are over")
	return c
}

func (p *program) incidents(r provisioning.IncidentReport, now time.Time) {
	shown := slices.Concat(r.Open, r.Closed)
	if len(shown) == 0 {
		p.line("No incidents. %s in force.", plural(len(r.Rules), "rule is", "rules are"))
	} else {
		rows := make([][]cell, len(shown))
		for n, i := range shown {
			state := "open"
			if !i.Closed.IsZero() {
				state = "over, " + span(now.Sub(i.Closed)) + " ago"
			}
			rows[n] = []cell{{text: string(i.Severity), colour: severityColour(i)}, {text: i.Rule}, {text: orNone(i.Key)}, {text: state}, {text: span(now.Sub(i.Opened)) + " ago"}, {text: span(now.Sub(i.Last)) + " ago"},
				{text: fmt.Sprint(i.Count)}, {text: i.Summary}}
		}
		header := []string{"SEVERITY", "RULE", "ABOUT", "STATE", "OPENED", "LAST EVENT", "EVENTS", "MEANS"}
		p.table(p.brief(160, []string{"SEVERITY", "RULE", "ABOUT", "STATE", "OPENED", "EVENTS"}, header, rows))
	}
	if r.Unopened > 0 {
		p.note("%s not opened, as there were too many at a time.", plural(int(r.Unopened), "further incident was", "further incidents were"))
	}
	if r.Forgotten > 0 {
		p.note("What was seen of %s was let go, as there were too many.", plural(int(r.Forgotten), "key", "keys"))
	}
}

func severityColour(i incident.Incident) string {
	switch {
	case !i.Closed.IsZero():
		return ""
	case i.Severity == journal.Alert || i.Severity == journal.Error:
		return red
	}
	return yellow
}

// openIncidents is "3 open: 1 alert, 2 warning", the gravest first.
func openIncidents(open map[journal.Severity]int) string {
	total, parts := 0, []string{}
	for _, severity := range journal.Severities() {
		if n := open[severity]; n > 0 {
			total += n
			parts = append(parts, fmt.Sprintf("%d %s", n, severity))
		}
	}
	return fmt.Sprintf("%d open: %s. shekara incidents shows them", total, strings.Join(parts, ", "))
}
