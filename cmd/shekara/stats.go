package main

import (
	"time"

	"github.com/spf13/cobra"
)

func (p *program) journalStatsCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "stats",
		Short: "Show what the journal takes on the disk, and for how long that can go on",
		Long: "stats shows how many records and files there are, what they take as they are and compressed, what a day takes, and when the disk is full if nothing is removed.\n" +
			"Records are kept for three years, or longer if the Site says so. If the oldest are old enough and are not removed, it says why, as the last hourly look found.",
		Args: arguments(0, 0, "nothing"),
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := p.daemon().JournalStats(c.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return p.json("JournalStats", s)
			}
			p.line("records     %d to %d", s.First, s.Last)
			if !s.Oldest.IsZero() {
				p.line("oldest      %s, kept until %s at least", s.Oldest.Local().Format(time.DateTime), s.Expires.Local().Format(time.DateOnly))
			}
			if s.Kept != "" {
				p.line("            not removed because %s", s.Kept)
			}
			p.line("files       %d, of which %d are compressed", s.Files, s.ColdFiles)
			p.line("on disk     %s, and %s compressed", size(uint64(s.HotBytes)), size(uint64(s.ColdBytes)))
			if s.DaysLeft < 0 {
				p.line("a day       not known before some days are over")
			} else {
				p.line("a day       %s", size(uint64(s.DayBytes)))
			}
			p.line("free        %s", size(uint64(s.FreeBytes)))
			if s.DaysLeft >= 0 {
				p.line("days left   %d, if nothing is removed", s.DaysLeft)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}
