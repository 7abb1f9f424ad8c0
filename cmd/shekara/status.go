package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"shekara/provisioning"
)

func (p *program) statusCommand() *cobra.Command {
	var asJSON bool
	var check string
	c := &cobra.Command{
		Use:   "status",
		Short: "The box at a glance",
		Long: "status shows the revision in force, how many tunnels are in which state, and what is wrong.\n" +
			"With --check it prints one line and answers by its exit code: 0 yes, 1 no.",
		Args: arguments(0, 0, "nothing"),
		RunE: func(c *cobra.Command, _ []string) error {
			if check != "" {
				return p.check(c, check)
			}
			status, err := p.daemon().Status(c.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return p.json("Status", status)
			}
			p.status(status, time.Now())
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().StringVar(&check, "check", "", "live: the daemon's loop turns; ready: a revision is in force and was seen on the host")
	return c
}

func (p *program) check(c *cobra.Command, which string) error {
	if which != "live" && which != "ready" {
		return hint(fmt.Errorf("--check %q: there is no such check", which), "it is live or ready")
	}
	ok, reason, err := p.daemon().Healthy(c.Context(), which)
	switch {
	case err != nil:
		return err
	case !ok:
		p.line("not %s: %s", which, reason)
		return &exit{code: 1}
	}
	p.line("%s", which)
	return nil
}

func (p *program) status(s provisioning.Status, now time.Time) {
	revision := "none: nothing was applied yet"
	if s.Revision > 0 {
		revision = fmt.Sprintf("%d, %s", s.Revision, s.State)
	}
	p.line("Site      %s", orNone(s.Site))
	p.line("Daemon    shekarad %s, engine %s, up %s", s.Version, orNone(s.Engine), span(now.Sub(s.Started)))
	p.line("Revision  %s", revision)
	p.line("Tunnels   %s", p.tally(s.Tunnels))
	if len(s.AtLimit) > 0 {
		p.line("At limit  %s", atLimit(s.AtLimit))
	}
	if !s.LastObserved.IsZero() {
		p.line("Observed  %s ago", span(now.Sub(s.LastObserved)))
	}
	if s.Proof != nil {
		p.line("Proof     %s", p.proof(*s.Proof, now))
	}
	if s.Clock != nil {
		p.line("Clock     %s", p.clock(*s.Clock))
	}
	if s.Units != "" {
		p.line("Units     %s", s.Units)
	}
	if s.HoldUntil != nil {
		p.line("Hold      drift is only reported until %s", s.HoldUntil.Local().Format(time.DateTime))
	}
	if s.ConfirmBy != nil {
		p.loud("revision %d is UNDONE AT %s (in %s) UNLESS CONFIRMED. To keep it:  shekara confirm", s.Revision,
			s.ConfirmBy.Local().Format(time.DateTime), span(s.ConfirmBy.Sub(now)))
	}
	if len(s.Incidents) > 0 {
		p.loud("incidents: %s", openIncidents(s.Incidents))
	}
	for _, a := range s.Alarms {
		p.loud("alarm: %s", a)
	}
	p.list("Journal sent to", len(s.Sinks), func(i int) string { return sinkLine(s.Sinks[i], now) })
	p.list("Failed", len(s.Failed), func(i int) string { return failedLine(s.Failed[i]) })
	p.list("Drift", len(s.Drift), func(i int) string { return s.Drift[i] })
	p.list("Changed by", len(s.DriftBy), func(i int) string { return s.DriftBy[i] })
	p.waivers(s.Waivers)
	p.list("Documents that are not in force because they are invalid", len(s.Problems), func(i int) string { return s.Problems[i] })
}

// clock says how far the box's time can be believed.
func (p *program) clock(c provisioning.ClockStatus) string {
	text := p.paint(yellow, "nobody keeps it", p.width > 0)
	if c.Synchronised {
		text = fmt.Sprintf("kept, wrong by at most %s", c.MaxError.Round(time.Microsecond))
	}
	if c.Steps > 0 {
		text += fmt.Sprintf("; set by more than a second %d times since the daemon started", c.Steps)
	}
	return text
}

// sinkLine says how far the journal got on its way to one centre.
func sinkLine(s provisioning.SinkStatus, now time.Time) string {
	text := fmt.Sprintf("%s: all %d records", s.Name, s.Sequence)
	if s.Behind > 0 {
		text = fmt.Sprintf("%s: %d records behind, the oldest of %s ago", s.Name, s.Behind, span(now.Sub(s.Oldest)))
	}
	if s.Refused > 0 {
		text += fmt.Sprintf(", %d of them refused for good", s.Refused)
	}
	if s.Error != "" {
		text += ": " + s.Error
	}
	return text
}

// atLimit names some tunnels, and how many more there are.
func atLimit(names []string) string {
	const shown = 5
	if more := len(names) - shown; more > 0 {
		return fmt.Sprintf("%s and %d more: shekara status --json", strings.Join(names[:shown], ", "), more)
	}
	return strings.Join(names, ", ") + ": what is more than their limits is dropped"
}

func failedLine(f provisioning.Failed) string {
	name := "site"
	if f.Tunnel != "" {
		name = f.Tunnel
	}
	text := name + ": " + f.Error
	if f.Hint != "" {
		text += " (hint: " + f.Hint + ")"
	}
	return text
}

// shownLines is how many lines of one kind status shows.
const shownLines = 20

func (p *program) list(title string, n int, line func(int) string) {
	if n == 0 {
		return
	}
	p.line("")
	p.line("%s:", title)
	for i := range min(n, shownLines) {
		p.line("  %s", line(i))
	}
	if n > shownLines {
		p.line("  and %d more: --json has all", n-shownLines)
	}
}

// tally is "3 passing, 1 down", the worst last.
func (p *program) tally(states map[string]int) string {
	if len(states) == 0 {
		return "none"
	}
	names := slices.SortedFunc(maps.Keys(states), func(a, b string) int { return rank(a) - rank(b) })
	parts := make([]string, 0, len(names))
	for _, name := range names {
		if states[name] > 0 {
			parts = append(parts, p.paint(stateColour(name), fmt.Sprintf("%d %s", states[name], name), p.width > 0))
		}
	}
	return strings.Join(parts, ", ")
}

// states are those of a tunnel, the worst last.
func states() []string {
	return []string{"passing", "idle", "handshaking", "configured", "stale", "one-way", "down", "failed"}
}

func rank(state string) int { return slices.Index(states(), state) }

func stateColour(state string) string {
	switch state {
	case "passing", "idle":
		return green
	case "down", "failed", "one-way":
		return red
	}
	return yellow
}

func orNone(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// span is a length of time as people say it: two units at most.
func span(d time.Duration) string {
	switch d = d.Round(time.Second); {
	case d < 0:
		return "0s"
	case d < time.Minute:
		return d.String()
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}
