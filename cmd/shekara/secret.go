package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"shekara/provisioning/source"
)

// maxSecret is more than any sealed preshared key; it only stops a wrong file.
const maxSecret = 64 << 10

func (p *program) peerCommand() *cobra.Command {
	return group("peer", "This box as a peer of others", &cobra.Command{
		Use:   "export",
		Short: "Print this box's Peer documents with its public keys, to hand to the other end",
		Args:  arguments(0, 0, "nothing"),
		RunE: func(c *cobra.Command, _ []string) error {
			text, err := p.daemon().PeerExport(c.Context())
			if err != nil {
				return err
			}
			return p.raw(text)
		},
	})
}

func (p *program) secretCommand() *cobra.Command {
	return group("secret", "Preshared keys: made here, or moved sealed; never an argument", p.secretListCommand(), p.secretNewCommand(),
		p.secretImportCommand(), p.secretExportCommand())
}

func (p *program) secretListCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List names of secrets, and the recipient to whom others seal for this box",
		Args:  arguments(0, 0, "nothing"),
		RunE: func(c *cobra.Command, _ []string) error {
			secrets, err := p.daemon().Secrets(c.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return p.json("SecretList", secrets)
			}
			p.line("Recipient: %s", secrets.Recipient)
			p.secrets(secrets.Secrets)
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// secrets tells what can be exported from what never leaves the box.
func (p *program) secrets(names []string) {
	if len(names) == 0 {
		p.line("No secrets.")
		return
	}
	kinds := map[string]string{"preshared": "preshared key", "wireguard": "private key of a device; it never leaves the box",
		"signing": "key that signs; it never leaves the box"}
	rows := make([][]cell, len(names))
	for i, name := range names {
		rows[i] = []cell{{text: name}, {text: "preshared key"}}
		if folder, rest, found := strings.Cut(name, "/"); found {
			rows[i] = []cell{{text: rest}, {text: kinds[folder]}}
		}
	}
	p.table([]string{"NAME", "KIND"}, rows)
}

func (p *program) secretNewCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "new NAME",
		Short: "Make a preshared key on the box",
		Args:  arguments(1, 1, "one name"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := p.daemon().NewSecret(c.Context(), args[0]); err != nil {
				return err
			}
			p.line("Secret %s is made. For the other end:  shekara secret export %s --to RECIPIENT", args[0], args[0])
			return nil
		},
	}
}

func (p *program) secretImportCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "import NAME [FILE]",
		Short: "Keep a preshared key that came from elsewhere: sealed to this box, or as wg genpsk prints it",
		Long:  "import reads the key from FILE or standard input, never from an argument, since arguments can be seen by everyone on the box.",
		Args:  arguments(1, 2, "a name and at most one file"),
		RunE: func(c *cobra.Command, args []string) error {
			from := "-"
			if len(args) == 2 {
				from = args[1]
			}
			files, err := source.Read([]string{from}, io.LimitReader(p.stdin, maxSecret))
			if err != nil {
				return err
			}
			if len(files) != 1 || len(files[0].Data) == 0 {
				return hint(fmt.Errorf("there is no secret in %s", from), "wg genpsk | shekara secret import "+args[0])
			}
			value := files[0].Data
			if err := p.daemon().ImportSecret(c.Context(), args[0], value); err != nil {
				return err
			}
			p.line("Secret %s is kept.", args[0])
			return nil
		},
	}
}

func (p *program) secretExportCommand() *cobra.Command {
	var to string
	c := &cobra.Command{
		Use:   "export NAME --to RECIPIENT",
		Short: "Print a preshared key sealed to a recipient, who alone can open it",
		Args:  arguments(1, 1, "one name"),
		RunE: func(c *cobra.Command, args []string) error {
			if to == "" {
				return hint(fmt.Errorf("secret %s is only exported sealed, and nobody is named to seal it to", args[0]),
					"give --to age1...: on the other box, shekara secret list prints it")
			}
			sealed, err := p.daemon().ExportSecret(c.Context(), args[0], to)
			if err != nil {
				return err
			}
			return p.raw(sealed)
		},
	}
	c.Flags().StringVar(&to, "to", "", "recipient (age1...), as the other box's shekara secret list prints it")
	return c
}
