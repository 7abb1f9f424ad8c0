package main

import (
	"github.com/spf13/cobra"

	"shekara/provisioning/document"
	"shekara/provisioning/source"
	"shekara/provisioning/validate"
)

// verdict is what validate answers to programs.
type verdict struct {
	Files     int                `json:"files"`
	Documents int                `json:"documents"`
	Problems  []document.Problem `json:"problems"`
}

func (p *program) validateCommand() *cobra.Command {
	var asJSON bool
	var site string
	c := &cobra.Command{
		Use:   "validate FILE|DIR...",
		Short: "Check documents without a daemon: every problem at once",
		Long: "validate decodes and judges documents by themselves: they must hold all that they refer to.\n" +
			"Exit code: 0 no problems, 1 problems (all of them, with file, line and column), 2 nothing to read.",
		Example: "  shekara validate /etc/shekara",
		Args:    arguments(1, -1, "files or directories"),
		RunE: func(_ *cobra.Command, args []string) error {
			files, err := source.Read(args, p.stdin)
			if err != nil {
				return &exit{code: 2, err: err}
			}
			documents, problems := document.Decode(files)
			problems = append(problems, validate.Check(document.NewSet(documents...), validate.Options{Site: site})...)
			document.Sort(problems)
			if len(documents) == 0 && len(problems) == 0 {
				return &exit{code: 2, err: nothingIn(args)}
			}
			if asJSON {
				if problems == nil {
					problems = []document.Problem{}
				}
				err = p.json("Verdict", verdict{Files: len(files), Documents: len(documents), Problems: problems})
			} else {
				p.problems(problems)
			}
			switch {
			case err != nil:
				return err
			case len(problems) > 0 && asJSON:
				return &exit{code: 1}
			case len(problems) > 0:
				p.note("%s in %s.", plural(len(problems), "problem", "problems"), plural(len(files), "file", "files"))
				return &exit{code: 1}
			case !asJSON:
				p.line("%s in %s: no problems.", plural(len(documents), "document", "documents"), plural(len(files), "file", "files"))
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().StringVar(&site, "site", "", "judge also what only this Site can break")
	return c
}
