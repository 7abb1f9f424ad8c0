package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// manualDate is when the words of the manual last changed. It is not the day of the build, so that builds can be repeated.
const manualDate = "November 26, 2026"

func (p *program) manCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "Write the man pages to a directory",
		Args:  arguments(1, 1, "one directory"),
		RunE: func(c *cobra.Command, args []string) error {
			if info, err := os.Stat(args[0]); err != nil || !info.IsDir() {
				return hint(fmt.Errorf("%s is not a directory", args[0]), "make it first: mkdir -p "+args[0])
			}
			for _, each := range descendants(c.Root()) {
				name := pageName(each)
				if err := os.WriteFile(filepath.Join(args[0], name+".8"), []byte(page(each)), 0o644); err != nil {
					return fmt.Errorf("write man page of %s: %w", name, err)
				}
			}
			return nil
		},
	}
}

func descendants(c *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{c}
	for _, child := range c.Commands() {
		if child.IsAvailableCommand() {
			all = slices.Concat(all, descendants(child))
		}
	}
	return all
}

func pageName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// page is one command's manual in mdoc(7). cobra's own pages are roff of another dialect, with tabs that mandoc warns of.
func page(c *cobra.Command) string {
	var b strings.Builder
	name := pageName(c)
	fmt.Fprintf(&b, ".Dd %s\n.Dt %s 8\n.Os\n.Sh NAME\n.Nm %s\n.Nd %s\n", manualDate, strings.ToUpper(name), name, roff(lowerFirst(c.Short)))
	b.WriteString(".Sh SYNOPSIS\n")
	if c.HasAvailableSubCommands() {
		for _, child := range c.Commands() {
			if child.IsAvailableCommand() {
				synopsis(&b, child)
			}
		}
	} else {
		synopsis(&b, c)
	}
	b.WriteString(".Sh DESCRIPTION\n")
	text := c.Long
	if text == "" {
		text = c.Short + "."
	}
	paragraph(&b, text)
	if c.HasAvailableSubCommands() {
		b.WriteString(".Bl -tag -width Ds\n")
		for _, child := range c.Commands() {
			if child.IsAvailableCommand() {
				fmt.Fprintf(&b, ".It Ic %s\n", roff(child.Name()))
				paragraph(&b, child.Short+".")
			}
		}
		b.WriteString(".El\n")
	}
	options(&b, c)
	if c.Example != "" {
		b.WriteString(".Sh EXAMPLES\n.Bd -literal -offset indent\n")
		for line := range strings.Lines(c.Example) {
			b.WriteString(roff(strings.TrimSpace(line)) + "\n")
		}
		b.WriteString(".Ed\n")
	}
	if c.HasParent() {
		fmt.Fprintf(&b, ".Sh SEE ALSO\n.Xr %s 8\n", pageName(c.Parent()))
	}
	return b.String()
}

func synopsis(b *strings.Builder, c *cobra.Command) {
	usage := strings.TrimPrefix(c.UseLine(), c.CommandPath())
	fmt.Fprintf(b, ".Nm %s\n", c.CommandPath())
	if usage = strings.TrimSpace(strings.TrimSuffix(usage, "[flags]")); usage != "" {
		paragraph(b, usage)
	}
}

func options(b *strings.Builder, c *cobra.Command) {
	var flags []*pflag.Flag
	collect := func(f *pflag.Flag) {
		if !f.Hidden && f.Name != "help" {
			flags = append(flags, f)
		}
	}
	c.LocalFlags().VisitAll(collect)
	c.InheritedFlags().VisitAll(collect)
	if len(flags) == 0 {
		return
	}
	b.WriteString(".Sh OPTIONS\n.Bl -tag -width Ds\n")
	for _, f := range flags {
		b.WriteString(".It ")
		if f.Shorthand != "" {
			fmt.Fprintf(b, "Fl %s , ", f.Shorthand)
		}
		fmt.Fprintf(b, "Fl -%s", roff(f.Name))
		if kind := f.Value.Type(); kind != "bool" {
			fmt.Fprintf(b, " Ar %s", kind)
		}
		b.WriteString("\n")
		text := f.Usage
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" && f.DefValue != "0s" {
			text += " (default " + f.DefValue + ")"
		}
		paragraph(b, text)
	}
	b.WriteString(".El\n")
}

// paragraph writes filled text in lines of at most 78 bytes, as mandoc likes them.
func paragraph(b *strings.Builder, text string) {
	line := ""
	flush := func() {
		if line != "" {
			b.WriteString(line + "\n")
		}
		line = ""
	}
	for word := range strings.FieldsSeq(text) {
		word = roff(word)
		if line != "" && len(line)+1+len(word) > 78 {
			flush()
		}
		if line == "" {
			line = word
		} else {
			line += " " + word
		}
		// A sentence ends a line, so that the formatter can space it.
		if strings.HasSuffix(word, ".") && !strings.HasSuffix(word, "..") {
			flush()
		}
	}
	flush()
}

// roff escapes what roff(7) would read as its own: backslashes, and a dot or quote at the beginning of a line.
func roff(text string) string {
	text = strings.ReplaceAll(text, `\`, `\e`)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}

func lowerFirst(text string) string { return strings.ToLower(text[:1]) + text[1:] }
