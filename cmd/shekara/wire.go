package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"shekara/provisioning/client"
)

// program is what the verbs share.
type program struct {
	*terminal
	runDirectory string
}

// daemon is a client of the daemon. Nothing connects until it is asked.
func (p *program) daemon() *client.Client { return client.New(p.runDirectory) }

// commands joins all verbs under one root.
func commands(t *terminal) *cobra.Command {
	p := &program{terminal: t}
	root := &cobra.Command{
		Use:   "shekara",
		Short: "Provision site-to-site tunnels and the filter between contours",
		Long: "shekara speaks to the edge daemon shekarad: it shows what documents would change, makes them real with a way back, and says\n" +
			"how each tunnel truly is. Members of group shekara act, members of shekara-view look.",
		Version: version,
		Args:    cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.Help()
			}
			return noVerb(c, args[0])
		},
		SilenceErrors: true, // terminal.finish prints them
		SilenceUsage:  true,
	}
	root.SetIn(t.stdin)
	root.SetOut(t.stdout)
	root.SetErr(t.stderr)
	root.SetVersionTemplate("shekara {{.Version}}\n")
	root.CompletionOptions.DisableDefaultCmd = true // ours has an example for each shell
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return hint(err, fmt.Sprintf("%s --help shows the flags", c.CommandPath()))
	})
	root.PersistentFlags().StringVar(&p.runDirectory, "run-dir", "/run/shekara", "directory of the daemon's sockets")
	root.AddGroup(
		&cobra.Group{ID: "documents", Title: "From documents to traffic:"},
		&cobra.Group{ID: "look", Title: "How it is:"},
		&cobra.Group{ID: "act", Title: "Secrets and work by hand:"},
		&cobra.Group{ID: "offline", Title: "Without a daemon:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("documents", p.initCommand(), p.validateCommand(), p.planCommand(), p.applyCommand(), p.confirmCommand(), p.rollbackCommand(),
		p.historyCommand(), p.compareCommand())
	add("look", p.statusCommand(), p.tunnelCommand(), p.flowsCommand(), p.explainCommand(), p.matrixCommand(), p.verifyCommand(), p.incidentsCommand(), p.timeCommand(), p.journalCommand(), p.metricsCommand())
	add("act", p.peerCommand(), p.secretCommand(), p.holdCommand())
	add("offline", p.timeCommand(), p.testbedCommand(), p.completionCommand(), p.manCommand(), p.versionCommand())
	root.SetHelpCommandGroupID("offline")
	return root
}

// group is a command that only holds others: without a verb it says which there are.
func group(use, short string, verbs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: cobra.ArbitraryArgs, RunE: func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return hint(fmt.Errorf("%s needs a verb", c.CommandPath()), c.CommandPath()+" --help lists them")
		}
		return noVerb(c, args[0])
	}}
	c.AddCommand(verbs...)
	return c
}

func noVerb(c *cobra.Command, word string) error {
	next := c.CommandPath() + " --help lists them"
	c.SuggestionsMinimumDistance = 2
	if near := c.SuggestionsFor(word); len(near) > 0 {
		next = fmt.Sprintf("did you mean %s %s? %s", c.CommandPath(), near[0], next)
	}
	return hint(fmt.Errorf("%s has no verb %q", c.CommandPath(), word), next)
}

// arguments says in words how many arguments there must be.
func arguments(least, most int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) >= least && (most < 0 || len(args) <= most) {
			return nil
		}
		return hint(fmt.Errorf("%s takes %s, not %s", c.CommandPath(), what, plural(len(args), "argument", "arguments")), "usage: "+c.UseLine())
	}
}

var errNotAsked = errors.New("nothing was changed")
