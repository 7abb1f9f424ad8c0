package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"

	"github.com/spf13/cobra"

	"shekara/firewall/engine"
	"shekara/journal"
	"shekara/provisioning"
)

func (s *settings) closeCommand(stderr io.Writer) *cobra.Command {
	return &cobra.Command{
		Use:   "close",
		Short: "Forward nothing until the daemon has loaded its policy; run at boot, before the network",
		Long: "close loads rules that forward nothing and let in who may manage the box by the last confirmed revision, if none of ours are there:\n" +
			"with nftables or, on older kernels, iptables. The daemon's first ruleset takes their place without a gap. Where the revision cannot\n" +
			"be read or loaded nothing is forwarded either, the box itself stays open, and close says why and answers 1. A box of which nothing\n" +
			"was ever asked is left as it is.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			log, err := s.logger(stderr)
			if err != nil {
				return err
			}
			return s.closeBorder(c.Context(), log)
		},
	}
}

// closeBorder closes first: what is missing besides, as a journal that cannot be written, is no reason to leave the border open.
func (s *settings) closeBorder(ctx context.Context, log *slog.Logger) error {
	filter, err := engine.New(ctx)
	if err != nil {
		return fmt.Errorf("open the packet filter: %w", err)
	}
	site, unknown := s.site()
	options := provisioning.Options{Site: site, StateDir: s.stateDir, Log: log}
	closed, err := provisioning.Close(ctx, options, filter, s.recordClosing)
	if closed {
		log.Info("nothing is forwarded until shekarad has loaded its policy")
	}
	if err = errors.Join(err, unknown); err != nil {
		return hint(err, "see to what it says, then start shekarad")
	}
	return nil
}

// recordClosing opens the journal for one event.
func (s *settings) recordClosing(e journal.Event) error {
	events, err := journal.Open(filepath.Join(s.stateDir, "journal"), nil)
	if err != nil {
		return err
	}
	_, err = events.Append(context.Background(), e)
	return errors.Join(err, events.Close())
}
