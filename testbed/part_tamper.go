package testbed

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"shekara/testbed/lab"
	"shekara/testbed/report"
	"shekara/testbed/tamper"
)

// tampered does to copies of a host's journal ("of") whatever somebody might, each on the host of an auditor ("on"), who has the public key and a
// checkpoint ("key", "checkpoint": files): verification must say of each what it is. A copy to which nothing was done is whole before and after. With a file of the key that signs now ("now")
// it is the handover from the auditor's key to that one which is manipulated.
func tampered(ctx context.Context, e *engine, step *report.Step, with map[string]string) error {
	auditor := e.network.Host(with["on"])
	journal, signer, err := e.seized(with)
	if err != nil {
		return err
	}
	if len(journal) < 3 {
		return fmt.Errorf("the journal has %d files, three at least are needed", len(journal))
	}
	lies := tamper.Journal{}
	try := func(name, says string, copied tamper.Journal) (err error) {
		began := time.Now()
		found := &report.Step{Name: name, Outcome: report.Passed}
		if lies, err = lay(auditor, tamperedFolder, lies, copied); err == nil {
			err = e.audited(ctx, auditor, found, says, with)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		found.Took = time.Since(began)
		step.Steps = append(step.Steps, found)
		return nil
	}
	if err := try("Nothing: it is whole", whole, journal); err != nil {
		return err
	}
	list := tamper.All()
	if with["now"] != "" {
		list = tamper.Handovers()
	}
	for _, m := range list {
		done := m.Do(journal, signer)
		if maps.EqualFunc(done, journal, bytes.Equal) {
			return fmt.Errorf("%s: changes nothing", m.Name)
		}
		if err := try(m.Name, m.Says, done); err != nil {
			return err
		}
	}
	return try("Nothing any more: it is whole again", whole, journal)
}

const (
	tamperedFolder = "/run/testbed/tampered"
	whole          = "^WHOLE"
)

// forged makes a host's journal anew ("of") without the records of a type ("without") and signs it with the host's own key, as who has root there could. What
// comes of it lies in a folder ("to") of an auditor's host ("on"), who has the public key in a file ("key").
func forged(ctx context.Context, e *engine, step *report.Step, with map[string]string) error {
	journal, signer, err := e.seized(with)
	if err != nil {
		return err
	}
	_, err = lay(e.network.Host(with["on"]), with["to"], nil, journal.Without(with["without"], signer))
	return err
}

// seized is a host's journal and its key.
func (e *engine) seized(with map[string]string) (tamper.Journal, tamper.Signer, error) {
	appliance := e.network.Host(with["of"])
	names, err := filepath.Glob(appliance.Path("/var/lib/shekara/journal/") + "/*.jsonl")
	if err != nil {
		return nil, tamper.Signer{}, err
	}
	journal := tamper.Journal{}
	for _, name := range names {
		if journal[filepath.Base(name)], err = os.ReadFile(name); err != nil {
			return nil, tamper.Signer{}, err
		}
	}
	public, err := os.ReadFile(e.network.Host(with["on"]).Path(cmp.Or(with["now"], with["key"])))
	if err != nil {
		return nil, tamper.Signer{}, err
	}
	secret, err := os.ReadFile(appliance.Path("/var/lib/shekara/keys/signing/journal"))
	if err != nil {
		return nil, tamper.Signer{}, err
	}
	seed, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(secret)))
	if err != nil {
		return nil, tamper.Signer{}, err
	}
	signer, err := tamper.NewSigner(string(public), seed)
	return journal, signer, err
}

// lay puts a journal into a folder where another one lies, and writes what differs.
func lay(host *lab.Host, folder string, lies, journal tamper.Journal) (tamper.Journal, error) {
	for name := range lies {
		if _, stays := journal[name]; !stays {
			if err := os.Remove(host.Path(folder + "/" + name)); err != nil {
				return nil, err
			}
		}
	}
	for name, data := range journal {
		if old, is := lies[name]; is && bytes.Equal(old, data) {
			continue
		}
		if err := host.WriteFile(folder+"/"+name, data, 0o644); err != nil {
			return nil, err
		}
	}
	return journal, nil
}

// audited verifies what was laid, and notes the first of what verification says that fits.
func (e *engine) audited(ctx context.Context, auditor *lab.Host, step *report.Step, says string, with map[string]string) error {
	result, err := e.execute(ctx, auditor, []string{"shekara", "journal", "verify", tamperedFolder, "--key", with["key"], "--checkpoint", with["checkpoint"]}, "")
	if err != nil {
		return err
	}
	pattern, err := regexp.Compile("(?m)" + says)
	if err != nil {
		return err
	}
	text := result.Stdout + result.Stderr
	switch {
	case !pattern.MatchString(text):
		step.Outcome, step.Problem, step.Output = report.Failed, "verification does not say "+says, text
	case (says == whole) != (result.Exit == 0):
		step.Outcome, step.Problem, step.Output = report.Failed, fmt.Sprintf("exit code %d", result.Exit), text
	case says != whole:
		for line := range strings.Lines(text) {
			if pattern.MatchString(line) {
				step.Facts = append(step.Facts, report.Fact{Name: "found", Value: strings.TrimSpace(line)})
				break
			}
		}
	}
	return nil
}
