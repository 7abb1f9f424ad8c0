package main

import (
	"github.com/spf13/cobra"

	"shekara/testbed"
)

// testbedCommand hands everything on unread: the testbed starts its hosts from this same program, with words of its own.
func (p *program) testbedCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "testbed list|run|up|exec|capture|down",
		Short:              "Virtual networks on one machine: build, break, send real packets, read a report",
		DisableFlagParsing: true,
		RunE: func(c *cobra.Command, args []string) error {
			return &exit{code: testbed.Main(c.Context(), args, p.stdout, p.stderr)}
		},
	}
}
