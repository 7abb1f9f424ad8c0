package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"shekara/provisioning"
	"shekara/provisioning/api"
	"shekara/timesync"
	"shekara/timesync/server"
)

func (p *program) timeStatusCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "status",
		Short: "Show how good the appliance's clock is, and by which sources",
		Long: "status shows by how much the clock may be wrong as shekarad time measured it, what each source says and what is thought of it, and whom the time was\n" +
			"given to. Exit code 3 while the clock is not synchronised, or nobody tells.",
		Example: "  shekara time status\n  shekara time status --json",
		Args:    arguments(0, 0, "nothing"),
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := p.daemon().Time(c.Context())
			if err != nil {
				return err
			}
			if asJSON {
				if err := p.json("TimeStatus", s); err != nil {
					return err
				}
			} else {
				p.timeStatus(s, time.Now())
			}
			if s.Error != "" || s.Report.Status.Standing.State == timesync.Unsynchronised {
				return &exit{code: 3}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (p *program) timeStatus(s provisioning.TimeStatus, now time.Time) {
	if s.Error != "" {
		p.loud("shekarad time does not answer since %s: %s", s.Since.Local().Format(time.DateTime), s.Error)
		p.note("systemctl status shekara-time. What follows is the last that was known.")
	}
	r, standing := s.Report, s.Report.Status.Standing
	state := fmt.Sprintf("%s since %s", standing.State, standing.Since.Local().Format(time.DateTime))
	switch standing.State {
	case timesync.Synchronised:
		p.line("Clock      %s, wrong by at most %s", state, standing.Bound(r.Time).Round(time.Microsecond))
	case timesync.Holdover:
		p.line("Clock      %s, wrong by at most %s, and that grows by %.1f ms an hour", p.paint(yellow, state, p.width > 0), standing.Bound(r.Time).Round(time.Microsecond), standing.Drift*3600e3)
	case timesync.Unsynchronised:
		p.line("Clock      %s", p.paint(red, state, p.width > 0))
	default: // no report has come yet
		p.line("Clock      not known")
	}
	if r.Engine == timesync.EngineChrony {
		p.line("Engine     chronyd, which %s", map[bool]string{true: "steers this host's clock", false: "is not let to steer this host's clock, and leaves it as it is"}[r.Steers])
	}
	if standing.Reference != "" {
		p.line("Follows    %s, stratum %d, last measured %s ago", standing.Reference, standing.Stratum, span(now.Sub(standing.ReferenceTime)))
		p.line("Offset     %s", signed(standing.Offset))
		p.line("Distance   root delay %s, root dispersion %s", standing.RootDelay.Round(time.Microsecond), standing.RootDispersion.Round(time.Microsecond))
	}
	v := r.Requests
	p.line("Served     %d requests; refused %d unregistered, %d unauthenticated, %d too often, %d malformed, %d while not synchronised", v.Served, v.Refused, v.Unauthenticated, v.Limited, v.Malformed+v.OtherMode, v.Withheld)
	if len(r.Status.Sources) > 0 {
		p.line("")
		rows := make([][]cell, len(r.Status.Sources))
		for i, source := range r.Status.Sources {
			rows[i] = []cell{{text: source.Name}, {text: string(source.Verdict), colour: verdictColour(source.Verdict)}, {text: source.Authentication}, {text: fmt.Sprint(source.Stratum)}, {text: fmt.Sprintf("%08b", source.Reach)},
				{text: signed(source.Offset)}, {text: source.Delay.Round(time.Microsecond).String()}, {text: source.Jitter.Round(time.Microsecond).String()}, {text: orNone(source.Error)}}
		}
		header := []string{"SOURCE", "VERDICT", "BY", "STRATUM", "REACH", "OFFSET", "DELAY", "JITTER", "ERROR"}
		p.table(p.brief(140, []string{"SOURCE", "VERDICT", "REACH", "OFFSET", "DELAY"}, header, rows))
	}
	for _, w := range r.Status.Warnings {
		p.note("warning: %s", w.Message)
	}
	for _, trouble := range r.Troubles {
		p.note("trouble: %s", trouble)
	}
}

func verdictColour(v timesync.Verdict) string {
	switch v {
	case timesync.Followed, timesync.Agrees:
		return green
	case timesync.Waiting:
		return ""
	case timesync.Falseticker, timesync.Unconfigurable:
		return red
	}
	return yellow
}

// signed is a length of time with its sign, to the microsecond.
func signed(d time.Duration) string {
	if d = d.Round(time.Microsecond); d > 0 {
		return "+" + d.String()
	}
	return d.String()
}

// timePage is how many clients are asked for at once.
const timePage = 1000

func (p *program) timeClientsCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "clients",
		Short: "Show who asked the appliance for the time",
		Long: "clients shows the addresses that asked, the System that each is of, what was answered and refused, and its clock's offset from ours where its requests\n" +
			"tell that (most clients today put a random number there).",
		Example: "  shekara time clients\n  shekara time clients --json",
		Args:    arguments(0, 0, "nothing"),
		RunE: func(c *cobra.Command, _ []string) error {
			var all api.TimeClients
			for after := ""; ; {
				page, err := p.daemon().TimeClients(c.Context(), after, timePage)
				if err != nil {
					return err
				}
				if all.Clients = append(all.Clients, page.Clients...); page.Next == "" {
					break
				}
				after = page.Next
			}
			if asJSON {
				return p.json("TimeClientList", all)
			}
			p.timeClients(all.Clients, time.Now())
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (p *program) timeClients(all []server.Client, now time.Time) {
	if len(all) == 0 {
		p.line("Nobody asked for the time yet.")
		return
	}
	rows := make([][]cell, len(all))
	for i, c := range all {
		offset := "-"
		if c.OffsetKnown {
			offset = signed(c.Offset)
		}
		by := "none"
		switch {
		case c.NTS:
			by = "nts"
		case c.Key != 0:
			by = fmt.Sprintf("key %d", c.Key)
		}
		rows[i] = []cell{{text: c.Address.String()}, {text: orNone(c.System)}, {text: span(now.Sub(c.LastSeen)) + " ago"}, {text: fmt.Sprint(c.Served)}, {text: fmt.Sprint(c.Limited)}, {text: fmt.Sprint(c.Refused)},
			{text: fmt.Sprint(c.Version)}, {text: by}, {text: offset}}
	}
	header := []string{"ADDRESS", "SYSTEM", "LAST SEEN", "ANSWERED", "LIMITED", "REFUSED", "NTP", "BY", "OFFSET"}
	p.table(p.brief(120, []string{"ADDRESS", "SYSTEM", "LAST SEEN", "ANSWERED", "REFUSED"}, header, rows))
}
