package main

import (
	"context"
	"io"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"shekara/provisioning/client"
	"shekara/timesync"
	"shekara/timesync/server"
	"shekara/timesync/service"
)

func (s *settings) timeCommand(stderr io.Writer) *cobra.Command {
	var steer bool
	c := &cobra.Command{
		Use:   "time",
		Short: "Ask the time of the sources, and give it to the systems, that a TimeService document names",
		Long: "time asks the daemon, over its socket, for what the TimeService in force wants of this box, and remembers that: at boot it begins before the daemon. It needs\n" +
			"no right but to look (group shekara-view) and, to serve, the port 123 (CAP_NET_BIND_SERVICE). It never sets the clock: chronyd does, with --steer, where the\n" +
			"TimeService has engine chrony.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			runtime.GOMAXPROCS(server.Processors(runtime.NumCPU()))
			log, err := s.logger(stderr)
			if err != nil {
				return err
			}
			daemon := client.New(s.runDir)
			ask := func(ctx context.Context) (*timesync.Spec, error) {
				ctx, cancel := context.WithTimeout(ctx, time.Minute)
				defer cancel()
				wanted, err := daemon.TimeService(ctx)
				return wanted.Spec, err
			}
			err = service.Run(c.Context(), service.Options{Ask: ask, Dir: s.timeDir, RunDir: s.timeRunDir, Steer: steer, Log: log})
			if err != nil {
				return hint(err, "it needs "+s.timeDir+" and "+s.timeRunDir+" for itself, and one runs on a box")
			}
			return nil
		},
	}
	c.Flags().BoolVar(&steer, "steer", false, "let chronyd, where it is the engine, steer the host's clock (CAP_SYS_TIME); without, it follows the sources and leaves the clock alone")
	return c
}
