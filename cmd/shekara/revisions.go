package main

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"shekara/journal"
	"shekara/provisioning"
	"shekara/provisioning/api"
)

func (p *program) confirmCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "confirm",
		Short: "Keep the revision that waits for it",
		Args:  arguments(0, 0, "nothing"),
		RunE: func(c *cobra.Command, _ []string) error {
			result, err := p.daemon().Confirm(c.Context())
			if err != nil {
				return err
			}
			return p.result("Confirmed", result, asJSON)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (p *program) rollbackCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "rollback [REV]",
		Short: "Go back to an earlier revision",
		Long:  "rollback makes an earlier revision real again, as a new revision. Without REV: the one before; while a confirmation is pending, the one it replaced.",
		Args:  arguments(0, 1, "at most one revision"),
		RunE: func(c *cobra.Command, args []string) error {
			revision := 0
			if len(args) > 0 {
				var err error
				if revision, err = revisionArgument(args[0]); err != nil {
					return err
				}
			}
			done := p.progress("rolling back")
			result, err := p.daemon().Rollback(c.Context(), revision)
			done()
			if err != nil {
				return err
			}
			return p.result("Rolled back", result, asJSON)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func revisionArgument(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, hint(fmt.Errorf("%q is not a revision", text), "shekara history lists them")
	}
	return n, nil
}

func (p *program) historyCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "history",
		Short: "List the revisions, newest first",
		Args:  arguments(0, 0, "nothing"),
		RunE: func(c *cobra.Command, _ []string) error {
			revisions, err := p.daemon().History(c.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return p.json("RevisionList", api.Revisions{Revisions: revisions})
			}
			p.history(revisions)
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (p *program) history(revisions []provisioning.Revision) {
	if len(revisions) == 0 {
		p.line("Nothing was applied yet.")
		return
	}
	rows := make([][]cell, len(revisions))
	for i, r := range revisions {
		state := string(r.State)
		if r.State == provisioning.Unconfirmed && r.ConfirmBy != nil {
			state += " until " + r.ConfirmBy.Local().Format(time.TimeOnly)
		}
		rows[i] = []cell{{text: strconv.Itoa(r.ID)}, {text: r.Time.Local().Format(time.DateTime)}, {text: who(r.Actor)},
			{state, revisionColour(r.State)}, {text: fmt.Sprintf("+%d ~%d -%d", r.Added, r.Changed, r.Removed)}, {text: r.Message}}
	}
	header := []string{"REVISION", "TIME", "BY", "STATE", "DOCUMENTS", "MESSAGE"}
	p.table(p.brief(80, []string{"REVISION", "TIME", "STATE", "MESSAGE"}, header, rows))
}

func revisionColour(s provisioning.RevisionState) string {
	switch s {
	case provisioning.Confirmed:
		return green
	case provisioning.Reverted:
		return red
	}
	return yellow
}

// who names an actor; the daemon itself has no process.
func who(a journal.Actor) string {
	switch {
	case a == journal.Actor{}:
		return "shekarad"
	case a.User != "":
		return a.User
	}
	return strconv.FormatUint(uint64(a.UID), 10)
}

func (p *program) compareCommand() *cobra.Command {
	var asJSON, all bool
	c := &cobra.Command{
		Use:   "compare REV [REV]",
		Short: "Say what differs between two revisions",
		Long:  "compare shows what the second revision adds to, changes in and removes from the first. Without a second: the one in force.",
		Args:  arguments(1, 2, "one or two revisions"),
		RunE: func(c *cobra.Command, args []string) error {
			revisions := []int{0, 0}
			for i, text := range args {
				var err error
				if revisions[i], err = revisionArgument(text); err != nil {
					return err
				}
			}
			comparison, err := p.daemon().Compare(c.Context(), revisions[0], revisions[1])
			if err != nil {
				return err
			}
			if asJSON {
				return p.json("Comparison", comparison)
			}
			if len(comparison.Changes) == 0 {
				p.line("Revisions %d and %d hold the same documents.", comparison.From, comparison.To)
				return nil
			}
			p.line("From revision %d to %d:", comparison.From, comparison.To)
			shown := provisioning.Plan{Changes: comparison.Changes}
			if !all {
				shown = shown.Brief()
			}
			p.changes(shown.Changes, shown.Omitted)
			if len(shown.Omitted) > 0 {
				p.note("--all lists every document.")
			}
			p.line("")
			p.line("%s.", summary("%d added, %d changed, %d removed", comparison.Changes))
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().BoolVar(&all, "all", false, "list every document, however many")
	return c
}

func (p *program) holdCommand() *cobra.Command {
	var end bool
	c := &cobra.Command{
		Use:     "hold DURATION | hold --end",
		Short:   "Report drift but leave it, while someone works by hand",
		Example: "  shekara hold 30m\n  shekara hold --end",
		Args:    arguments(0, 1, "one duration"),
		RunE: func(c *cobra.Command, args []string) error {
			if end == (len(args) == 1) {
				return hint(errors.New("hold takes either a duration or --end"), "shekara hold 30m")
			}
			var length time.Duration
			if !end {
				var err error
				if length, err = time.ParseDuration(args[0]); err != nil || length <= 0 {
					return hint(fmt.Errorf("%q is not a duration", args[0]), "write it as 90s, 30m or 2h; at most 24h")
				}
			}
			until, err := p.daemon().Hold(c.Context(), length)
			if err != nil {
				return err
			}
			if end {
				p.line("Drift is repaired again.")
			} else {
				p.line("Drift is only reported until %s. To end it:  shekara hold --end", until.Local().Format(time.DateTime))
			}
			return nil
		},
	}
	c.Flags().BoolVar(&end, "end", false, "repair drift again")
	return c
}
