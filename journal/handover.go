package journal

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// Fields of a KeyRotate and a KeyLose, beside the note, which is a checkpoint of all before it with a line for each of these.
const (
	fieldOldKey = "old" // public key that signed until here; of a KeyRotate only
	fieldNewKey = "new" // public key that signs from here on
)

const keyObject = "journal/key"

// handover is what the note of a KeyRotate or a KeyLose says: from here on another key signs.
type handover struct {
	Checkpoint               // all records before it
	from, to   note.Verifier // from is nil where the key was lost
	text       string        // the note
}

// handOver adds a record by which the next key signs from here on, and its first checkpoint.
func (p *page) handOver(r *record) error {
	c := Checkpoint{p.tree.size, p.tree.root()}
	text, signers := c.text(r.next.Name()), []note.Signer{r.next}
	r.event.Fields = map[string]string{fieldNewKey: r.next.Public}
	if r.event.Type == KeyRotate {
		r.event.Fields[fieldOldKey] = p.signer.Public
		text += fieldOldKey + " " + p.signer.Public + "\n"
		signers = []note.Signer{p.signer, r.next}
	}
	signed, err := note.Sign(&note.Note{Text: text + fieldNewKey + " " + r.next.Public + "\n"}, signers...)
	if err != nil {
		return fmt.Errorf("sign the handover to another key: %w", err)
	}
	r.event.Fields[fieldNote] = string(signed)
	if err := p.add(&r.event, nil); err != nil {
		return err
	}
	p.signer = r.next
	return p.settle()
}

// handoverOf reads a KeyRotate or a KeyLose. Both keys that it names have signed it.
func handoverOf(e Event) (handover, error) {
	h, err := openHandover(e.Fields[fieldNote])
	if err != nil {
		return handover{}, err
	}
	lines := fieldNewKey + " " + e.Fields[fieldNewKey]
	if e.Type == KeyRotate {
		lines = fieldOldKey + " " + e.Fields[fieldOldKey] + "\n" + lines
	}
	if !strings.Contains(h.text, "\n"+lines+"\n\n") || (h.from != nil) != (e.Type == KeyRotate) {
		return handover{}, errors.New("the note names other keys than the record")
	}
	return h, nil
}

// openHandover reads the note of one.
func openHandover(signed string) (h handover, err error) {
	h.text = signed
	head, _, _ := strings.Cut(signed, "\n\n")
	lines := strings.Split(head, "\n")
	named := func(n int, what string) (note.Verifier, error) {
		key, is := strings.CutPrefix(lines[n], what+" ")
		if !is {
			return nil, fmt.Errorf("the note's line %d names no %s key", n+1, what)
		}
		return note.NewVerifier(key)
	}
	if len(lines) != 4 && len(lines) != 5 {
		return h, errors.New("its note is not a checkpoint and the keys")
	}
	if h.to, err = named(len(lines)-1, fieldNewKey); err != nil {
		return h, err
	}
	if len(lines) == 5 {
		if h.from, err = named(3, fieldOldKey); err != nil {
			return h, err
		}
		if _, err := openNote([]byte(signed), note.VerifierList(h.from)); err != nil {
			return h, fmt.Errorf("the old key has not signed it: %w", err)
		}
	}
	o, err := openNote([]byte(signed), note.VerifierList(h.to))
	if err != nil {
		return h, fmt.Errorf("the new key has not signed it: %w", err)
	}
	h.Checkpoint = o.Checkpoint
	return h, nil
}

// handovers are all of the journal in a folder in which one key hands over to the next, as far as it can be read.
func handovers(ctx context.Context, dir string) (found []handover, err error) {
	firsts, err := segments(dir)
	if err != nil {
		return nil, err
	}
	mark := []byte(`"type":"` + KeyRotate + `"`)
	for _, first := range firsts {
		err := marked(ctx, dir, first, [][]byte{mark}, func(e Event) {
			if h, err := handoverOf(e); err == nil && e.Type == KeyRotate {
				found = append(found, h)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// marked hands on the records of a file in whose line one of the marks stands. What cannot be read is passed over.
func marked(ctx context.Context, dir string, first uint64, marks [][]byte, each func(Event)) error {
	file, err := openLines(dir, first)
	var damaged *coldError
	if errors.As(err, &damaged) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	reader := bufio.NewReaderSize(file, 256<<10)
	for ctx.Err() == nil {
		line, err := reader.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, mark := range marks {
			if !bytes.Contains(line, mark) {
				continue
			}
			if e, summed, err := decode(bytes.TrimSuffix(line, []byte("\n"))); err == nil && summed {
				each(e)
			}
			break
		}
	}
	return ctx.Err()
}

// ring is the keys that are given to who verifies, and those that handovers lead to from them, on and back.
type ring struct {
	given note.Verifiers
	led   map[signature]note.Verifier
	alien map[signature]bool // of led: what began after a loss, and what came of that; it is followed, and vouches for nothing
}

// Verifier is the key of a name and a hash.
func (r *ring) Verifier(name string, hash uint32) (note.Verifier, error) {
	v, err := r.given.Verifier(name, hash)
	if err == nil {
		return v, nil
	}
	if led, is := r.led[signature{name, hash}]; is {
		return led, nil
	}
	return nil, err
}

func (r *ring) add(v note.Verifier, alien bool) {
	if r.knows(v) {
		return
	}
	if r.led == nil {
		r.led, r.alien = map[signature]note.Verifier{}, map[signature]bool{}
	}
	r.led[signatureOf(v)], r.alien[signatureOf(v)] = v, alien
}

func (r *ring) knows(v note.Verifier) bool {
	_, err := r.Verifier(v.Name(), v.KeyHash())
	return err == nil
}

// follow takes in the keys that handovers lead to. They come as the journal has them: once on and once back is enough, but for who has them otherwise.
func (r *ring) follow(all []handover) {
	lead := func(h handover) (more bool) {
		if r.knows(h.from) == r.knows(h.to) {
			return false
		}
		if o, err := openNote([]byte(h.text), r); err != nil || r.alien[o.by] {
			return false
		}
		r.add(h.from, false)
		r.add(h.to, false)
		return true
	}
	for more := true; more; {
		more = false
		for _, h := range all {
			more = lead(h) || more
		}
		for _, h := range slices.Backward(all) {
			more = lead(h) || more
		}
	}
}

func signatureOf(v note.Verifier) signature { return signature{v.Name(), v.KeyHash()} }

// Successors are the keys that are given, and those that the handovers of the journal in a folder lead to from them, to later keys and to earlier ones.
func Successors(ctx context.Context, dir string, given note.Verifiers) (note.Verifiers, error) {
	all, err := handovers(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("read the journal's handovers of its key: %w", err)
	}
	r := &ring{given: given}
	r.follow(all)
	return r, nil
}
