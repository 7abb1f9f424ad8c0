package main

import (
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"

	"shekara/journal"
	"shekara/journal/export"
	"shekara/provisioning/client"
)

func (s *settings) exportCommand(stderr io.Writer) *cobra.Command {
	return &cobra.Command{
		Use:   "export",
		Short: "Carry the journal to the monitoring centres that EventSink documents name",
		Long: "export asks the daemon, over its socket, for the sinks and for the journal's records, and hands these over. It needs no right but to look\n" +
			"(group shekara-view), and to write its cursors. It waits for a daemon that does not run.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			log, err := s.logger(stderr)
			if err != nil {
				return err
			}
			err = export.Run(c.Context(), export.Options{Source: ownJournal{client.New(s.runDir)}, Dir: s.exportDir, Log: log})
			if err != nil {
				return hint(err, "one export runs on a box, as a user who may write "+s.exportDir)
			}
			return nil
		},
	}
}

// ownJournal is the daemon as the exporter asks it.
type ownJournal struct{ daemon *client.Client }

// linesWait is how long the daemon may keep a question for records that are yet to come.
const linesWait = 5 * time.Second

func (s ownJournal) Last(ctx context.Context) (uint64, error) {
	head, err := s.daemon.JournalHead(ctx)
	return head.Last, err
}

func (s ownJournal) Lines(ctx context.Context, after uint64, limit int) ([][]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, linesWait+time.Minute)
	defer cancel()
	return s.daemon.JournalLines(ctx, after, limit, linesWait)
}

func (s ownJournal) Sinks(ctx context.Context) ([]export.Sink, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	found, err := s.daemon.Sinks(ctx)
	if err != nil {
		return nil, err
	}
	sinks := make([]export.Sink, len(found.Sinks))
	for i, d := range found.Sinks {
		sinks[i] = export.Sink{Name: d.Name, Site: found.Site, Protocol: d.Protocol, Address: d.Address, URL: d.URL, ServerName: d.ServerName, CA: d.CA, Certificate: d.Certificate,
			Key: d.Key, Format: d.Format, Path: d.Path, Subject: d.Subject, Version: version, NewOnly: d.NewOnly, Filter: journal.Filter{Object: d.Object, Text: d.Text}}
		for _, t := range d.Types {
			sinks[i].Filter.Types = append(sinks[i].Filter.Types, journal.Type(t))
		}
		for _, severity := range d.Severities {
			sinks[i].Filter.Severities = append(sinks[i].Filter.Severities, journal.Severity(severity))
		}
	}
	return sinks, nil
}
