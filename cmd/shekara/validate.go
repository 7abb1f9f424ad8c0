package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"shekara/provisioning"
	"shekara/provisioning/document"
	"shekara/provisioning/source"
	"shekara/provisioning/validate"
)

// verdict is what validate answers to programs.
type verdict struct {
	Files     int                `json:"files"`
	Documents int                `json:"documents"`
	Problems  []document.Problem `json:"problems"`
	Waived    []string           `json:"waived,omitempty"` // flows that pass only by a waiver
	Ending    []string           `json:"ending,omitempty"` // contracts and certificates that end within endingDays
	// Unverified are the sinks whose format nobody has compared with the act that it is named after.
	Unverified []string `json:"unverified,omitempty"`
}

// endingDays is how long before its end a contract or a certificate is told of.
const endingDays = 30

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
			set, options := document.NewSet(documents...), validate.Options{Site: site}
			problems = append(problems, validate.Check(set, options)...)
			if len(problems) == 0 {
				if problems, err = assertions(set, site); err != nil {
					return err
				}
			}
			document.Sort(problems)
			found := verdict{Files: len(files), Documents: len(documents), Problems: problems,
				Waived: validate.Waived(set, options), Ending: validate.Ending(set, options, endingDays), Unverified: validate.Unverified(set)}
			if len(documents) == 0 && len(problems) == 0 {
				return &exit{code: 2, err: nothingIn(args)}
			}
			if asJSON {
				if found.Problems == nil {
					found.Problems = []document.Problem{}
				}
				err = p.json("Verdict", found)
			} else {
				p.problems(problems)
				for _, s := range found.Waived {
					p.loud("waived: %s", s)
				}
				for _, s := range found.Ending {
					p.loud("ending: %s", s)
				}
				for _, s := range found.Unverified {
					p.loud("unverified: %s", s)
				}
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

// assertions are those that do not hold, about one site or every one. They are asked of the rules that valid documents make.
func assertions(set *document.Set, site string) ([]document.Problem, error) {
	sites := set.Sites()
	if site != "" {
		sites = []string{site}
	}
	var failed []document.Problem
	for _, name := range sites {
		found, err := provisioning.CheckAssertions(set, name)
		if err != nil {
			return nil, fmt.Errorf("check the assertions about site %s: %w", name, err)
		}
		failed = append(failed, found...)
	}
	return failed, nil
}
