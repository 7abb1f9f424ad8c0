package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"shekara/journal"
	"shekara/netctl/durable"
)

const (
	maxAuditFile = 1 << 20 // bytes of a key, a checkpoint or a proof
)

func (p *program) journalKeyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "key",
		Short: "Print the public key that the journal's signatures are verified by",
		Long:  "key prints the public key of the journal's checkpoints. Whoever is to verify the journal gets it from the box once, by a way that he trusts.",
		Args:  arguments(0, 0, "nothing"),
		RunE: func(c *cobra.Command, _ []string) error {
			head, err := p.daemon().JournalHead(c.Context())
			if err != nil {
				return err
			}
			if head.Key == "" {
				return hint(errors.New("the journal is not signed"), "shekara journal list: its last journal.unsigned says why")
			}
			p.line("%s", head.Key)
			return nil
		},
	}
}

func (p *program) journalRotateKeyCommand() *cobra.Command {
	var lost, asJSON bool
	c := &cobra.Command{
		Use:   "rotate-key",
		Short: "Have the journal go on with a new signing key",
		Long: "rotate-key makes a new key on the box, which signs the journal from now on, and prints its public half. The key before and the new one both sign the record of that, so that\n" +
			"shekara journal verify with either verifies the whole journal. The key before is deleted.\n" +
			"With --lost, and only where the box has lost its key, the new one begins without it: changes are taken again, and verification names the break in the chain of signatures for ever.",
		Example: "  shekara journal rotate-key > journal.key",
		Args:    arguments(0, 0, "nothing"),
		RunE: func(c *cobra.Command, _ []string) error {
			key, err := p.daemon().RotateJournalKey(c.Context(), lost)
			if err != nil {
				return err
			}
			if asJSON {
				return p.json("JournalKey", key)
			}
			p.line("%s", key.Key)
			p.note("Give it to who verifies the journal, by a way that he trusts.")
			return nil
		},
	}
	c.Flags().BoolVar(&lost, "lost", false, "begin without the key before, which is lost")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (p *program) journalCheckpointCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "checkpoint",
		Short: "Print a signed checkpoint of all records, to be kept elsewhere",
		Long: "checkpoint prints a signed checkpoint of what is recorded: how many records there are, and the root of the tree over them.\n" +
			"Kept off the box, it shows later that none of these was changed, and that the end was not cut off: shekara journal verify --checkpoint.",
		Example: "  shekara journal checkpoint > checkpoint-$(date +%F)",
		Args:    arguments(0, 0, "nothing"),
		RunE: func(c *cobra.Command, _ []string) error {
			head, err := p.daemon().JournalHead(c.Context())
			if err != nil {
				return err
			}
			if head.Checkpoint == "" {
				return hint(errors.New("there is no signed checkpoint"), "shekara journal list: its last journal.unsigned or journal.miss says why")
			}
			_, err = fmt.Fprint(p.stdout, head.Checkpoint)
			return err
		},
	}
}

func (p *program) journalProveCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "prove SEQUENCE",
		Short:   "Print the proof that one record is among those of a signed checkpoint",
		Long:    "prove prints one record with the proof that it is among those of a signed checkpoint, for who has none of the others: shekara journal verify checks it.",
		Example: "  shekara journal prove 1234 > record-1234.proof",
		Args:    arguments(1, 1, "the sequence of one record"),
		RunE: func(c *cobra.Command, args []string) error {
			sequence, err := strconv.ParseUint(args[0], 10, 64)
			if err != nil || sequence == 0 {
				return hint(fmt.Errorf("%q is no sequence", args[0]), "shekara journal list --json shows those of the records")
			}
			proof, err := p.daemon().ProveEvent(c.Context(), sequence)
			if err != nil {
				return err
			}
			encoder := json.NewEncoder(p.stdout)
			encoder.SetEscapeHTML(false)
			encoder.SetIndent("", "  ")
			return encoder.Encode(proof)
		},
	}
}

func (p *program) journalExportCommand() *cobra.Command {
	var tunnel, organisation, system string
	c := &cobra.Command{
		Use:   "export [FOLDER] --tunnel NAME|--organisation NAME|--system NAME",
		Short: "Print the records of one tunnel or legal entity, so that who has nothing else can verify them, or of one system",
		Long: "export prints the records of one tunnel or legal entity as they stand in the journal, up to the last that a signed checkpoint covers, and the proof of that. Each is\n" +
			"linked to the one before it, so that shekara journal verify finds any that is changed or missing. Those of a system are\n" +
			"not linked: each can be proved alone (shekara journal prove), and that none is missing shows in the whole journal or in the exports of its tunnels. It asks the daemon, who puts it on record, or reads a folder: a copy of a journal.",
		Example: "  shekara journal export --tunnel agency-a > agency-a.jsonl\n  shekara journal verify agency-a.jsonl --key journal.key",
		Args:    arguments(0, 1, "at most one folder"),
		RunE: func(c *cobra.Command, args []string) error {
			of := "tunnel/" + tunnel
			if organisation != "" {
				of = "organisation/" + organisation
			} else if system != "" {
				of = "system/" + system
			}
			out, err := &lineCounter{to: p.stdout}, error(nil)
			if len(args) > 0 {
				_, err = journal.Export(c.Context(), args[0], of, out)
			} else {
				err = p.daemon().ExportPartition(c.Context(), of, out)
			}
			if err == nil && out.lines < 2 { // the first names the partition
				return hint(fmt.Errorf("%s: there are no records of it", of), "names are as in the documents; what was recorded in the last minute is covered by no checkpoint yet: shekara journal checkpoint makes one")
			}
			return err
		},
	}
	c.Flags().StringVar(&tunnel, "tunnel", "", "name of the tunnel")
	c.Flags().StringVar(&organisation, "organisation", "", "name of the legal entity, as Peer documents have it")
	c.Flags().StringVar(&system, "system", "", "name of the registered system")
	c.MarkFlagsOneRequired("tunnel", "organisation", "system")
	c.MarkFlagsMutuallyExclusive("tunnel", "organisation", "system")
	if err := c.RegisterFlagCompletionFunc("tunnel", p.completeTunnels); err != nil {
		panic(err) // the flag is defined right above
	}
	return c
}

// lineCounter counts the lines that it passes on.
type lineCounter struct {
	to    io.Writer
	lines int
}

func (c *lineCounter) Write(b []byte) (int, error) {
	c.lines += bytes.Count(b, []byte("\n"))
	return c.to.Write(b)
}

func (p *program) journalVerifyCommand() *cobra.Command {
	var asJSON bool
	var keys, held []string
	c := &cobra.Command{
		Use:   "verify FOLDER|EXPORT|PROOF --key KEY",
		Short: "Say whether a journal is whole: nothing changed, taken out, put in or cut off",
		Long: "verify reads a journal's folder, or a copy of it, and needs nothing else but the public key: no daemon, and no trust in the box.\n" +
			"It names each record that is not as it was signed. A checkpoint that was kept elsewhere shows besides that the end was not cut off. Of what\n" +
			"shekara journal export printed it says whether it is whole from its first number to its last. Given a proof, as shekara journal prove prints it, it prints\n" +
			"the record that is proved.\n" +
			"Exit code: 0 whole, 1 not (or an error).",
		Example: "  shekara journal verify /var/lib/shekara/journal --key \"$(shekara journal key)\"\n" +
			"  shekara journal verify copy/ --key journal.key --checkpoint checkpoint-2026-11-25\n" +
			"  shekara journal verify agency-a.jsonl --key journal.key\n" +
			"  shekara journal verify record-1234.proof --key journal.key",
		Args: arguments(1, 1, "one folder, export or proof"),
		RunE: func(c *cobra.Command, args []string) error {
			verifiers, err := openKeys(keys)
			if err != nil {
				return err
			}
			info, err := os.Stat(args[0])
			if err != nil {
				return err
			}
			if !info.IsDir() {
				return p.verifyFile(c.Context(), args[0], verifiers, asJSON)
			}
			checkpoints, strange, err := openCheckpoints(c.Context(), held, args[0], verifiers)
			if err != nil {
				return err
			}
			done := p.progress("verifying")
			v, err := journal.Verify(c.Context(), args[0], verifiers, checkpoints)
			done()
			if err != nil {
				return err
			}
			v.Findings = append(strange, v.Findings...)
			if asJSON {
				err = p.json("JournalVerification", v)
			} else {
				p.journalVerification(v)
			}
			if err == nil && !v.Whole() {
				return &exit{code: 1}
			}
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().StringArrayVar(&keys, "key", nil, "public key, as shekara journal key prints it, or a file of such; may be given again")
	c.Flags().StringArrayVar(&held, "checkpoint", nil, "file with a checkpoint that was kept elsewhere; may be given again")
	return c
}

// openKeys reads keys, each as it is printed or a file of lines.
func openKeys(given []string) (note.Verifiers, error) {
	if len(given) == 0 {
		return nil, hint(errors.New("--key is missing"), "get it from the box by a way that you trust: shekara journal key")
	}
	var list []note.Verifier
	seen := map[string]bool{} // a key given twice is one
	for _, text := range given {
		data, err := durable.ReadFile(text, maxAuditFile)
		switch {
		case err == nil:
			text = string(data)
		case !errors.Is(err, fs.ErrNotExist) || !strings.Contains(text, "+"):
			return nil, err
		}
		for _, line := range strings.Fields(text) {
			if seen[line] {
				continue
			}
			seen[line] = true
			v, err := note.NewVerifier(line)
			if err != nil {
				return nil, hint(fmt.Errorf("--key %.120q is no public key: %w", line, err), "it is what shekara journal key prints, or a file of it")
			}
			list = append(list, v)
		}
	}
	return note.VerifierList(list...), nil
}

// openCheckpoints reads those that were kept elsewhere. They may be signed by any key that the journal's handovers lead to from those that are given.
// One that another key signed is a finding: where a handover was tampered with nothing leads to its key, and what else is wrong has to be said.
func openCheckpoints(ctx context.Context, files []string, folder string, keys note.Verifiers) (list []journal.Checkpoint, strange []journal.Finding, err error) {
	if len(files) > 0 {
		if keys, err = journal.Successors(ctx, folder, keys); err != nil {
			return nil, nil, err
		}
	}
	for _, name := range files {
		data, err := durable.ReadFile(name, maxAuditFile)
		if err != nil {
			return nil, nil, err
		}
		c, err := journal.OpenCheckpoint(data, keys)
		var unsigned *note.UnverifiedNoteError
		switch {
		case errors.As(err, &unsigned):
			strange = append(strange, journal.Finding{What: fmt.Sprintf("checkpoint %s, which is held, is signed by no key that is given, nor by one that the journal's handovers lead to from these", name)})
		case err != nil:
			return nil, nil, hint(fmt.Errorf("%s: %w", name, err), "it is what shekara journal checkpoint printed")
		default:
			list = append(list, c)
		}
	}
	return list, strange, nil
}

// verifyFile tells what was exported from a proof.
func (p *program) verifyFile(ctx context.Context, name string, keys note.Verifiers, asJSON bool) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	reader := bufio.NewReader(file)
	begins, _ := reader.Peek(64)
	if journal.IsView(begins) {
		return hint(fmt.Errorf("%s holds the records of a system, which are not linked to each other", name), "verify the journal's folder, or the exports of the tunnels; shekara journal prove proves one record")
	}
	if !journal.IsPartition(begins) {
		return p.verifyProof(name, keys, asJSON)
	}
	v, err := journal.VerifyPartition(ctx, reader, keys)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if asJSON {
		err = p.json("JournalPartition", v)
	} else {
		p.partition(v)
	}
	if err == nil && !v.Whole() {
		return &exit{code: 1}
	}
	return err
}

func (p *program) partition(v journal.Partition) {
	if v.Whole() {
		p.line("%s  %s, its records %d to %d.", p.paint(green, "WHOLE", p.width > 0), v.Of, v.First, v.Last)
	} else {
		p.line("%s  %s, %d records, %d findings.", p.paint(red, "NOT WHOLE", p.width > 0), v.Of, v.Records, len(v.Findings)+v.More)
	}
	p.line("")
	if v.Records > 0 {
		p.line("from     %s  (record %d of the journal)", v.Begins.Time.Local().Format(time.DateTime), v.Begins.Sequence)
		p.line("to       %s  (record %d)", v.Ends.Time.Local().Format(time.DateTime), v.Ends.Sequence)
	}
	if v.Proved {
		p.line("settled  by a checkpoint with a good signature")
	}
	p.list("Not as a whole one has it", len(v.Findings), func(i int) string {
		f := v.Findings[i]
		if f.Line == 0 {
			return f.What
		}
		return fmt.Sprintf("line %d: %s", f.Line, f.What)
	})
	if v.More > 0 {
		p.line("and %d more", v.More)
	}
}

func (p *program) verifyProof(name string, keys note.Verifiers, asJSON bool) error {
	data, err := durable.ReadFile(name, maxAuditFile)
	if err != nil {
		return err
	}
	var proof journal.Proof
	if err := json.Unmarshal(data, &proof); err != nil {
		return hint(fmt.Errorf("%s is no proof: %w", name, err), "it is what shekara journal prove printed")
	}
	e, err := proof.Verify(keys)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if asJSON {
		return p.json("Event", e)
	}
	p.line("%s  record %d is among those of the checkpoint.", p.paint(green, "PROVED", p.width > 0), e.Sequence)
	p.line("")
	p.event(e)
	return nil
}

func (p *program) journalVerification(v journal.Verification) {
	if v.Whole() {
		p.line("%s  records %d to %d.", p.paint(green, "WHOLE", p.width > 0), v.First, v.Last)
	} else {
		p.line("%s  records %d to %d, %d findings.", p.paint(red, "NOT WHOLE", p.width > 0), v.First, v.Last, len(v.Findings)+v.More)
	}
	p.line("")
	if !v.Begins.IsZero() {
		p.line("from         %s", v.Begins.Local().Format(time.DateTime))
		p.line("to           %s", v.Ends.Local().Format(time.DateTime))
	}
	p.line("checkpoints  %d with a good signature", v.Checkpoints)
	p.line("settled      up to record %d; nobody vouches yet for the %d after it", v.Settled, v.Last-min(v.Last, v.Settled))
	if v.Root != "" {
		p.line("root         %s", v.Root)
	}
	p.list("Keys that sign from a record on", len(v.Keys), func(i int) string {
		k := v.Keys[i]
		if k.Lost {
			return fmt.Sprintf("record %d, %s: the key was lost, the chain of signatures is broken; from here on %s", k.Sequence, k.Time.Local().Format(time.DateTime), k.New)
		}
		return fmt.Sprintf("record %d, %s: handed over, from here on %s", k.Sequence, k.Time.Local().Format(time.DateTime), k.New)
	})
	// A handover that is none makes every signature behind it one of nobody: it is said first, since a list for people is short.
	findings := slices.Clone(v.Findings)
	slices.SortStableFunc(findings, func(a, b journal.Finding) int { return cmp.Compare(ofHandover(b), ofHandover(a)) })
	p.list("Not as a whole journal has it", len(findings), func(i int) string {
		f := findings[i]
		if f.File == "" {
			return f.What
		}
		return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.What)
	})
	if v.More > 0 {
		p.line("and %d more", v.More)
	}
}

// ofHandover is 1 for a finding about a handover of the key, else 0.
func ofHandover(f journal.Finding) int {
	if strings.HasPrefix(f.What, "handover of the key") {
		return 1
	}
	return 0
}
