package journal

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"shekara/netctl/clock"
)

const (
	// checkpointEvery and checkpointRecords are when the journal signs what it holds.
	checkpointEvery   = time.Minute
	checkpointRecords = 1000
	maxNote           = 2048 // bytes; a checkpoint has some 250

	checkpointObject = "journal/checkpoint"
)

// Fields of a JournalCheckpoint.
const (
	fieldSize = "size"     // records before it
	fieldRoot = "root"     // of the tree over these
	fieldEdge = "edge"     // of that tree, from which whoever begins here goes on
	fieldNote = "note"     // the signed note; absent: nobody could sign
	fieldSet  = "clockSet" // by so much somebody set the clock since the signed checkpoint before; absent: by a second at most, or the daemon started in between
)

// Checkpoint is the head of the journal at a size: which records it holds is settled by it.
type Checkpoint struct {
	Size uint64
	Root tlog.Hash
}

// text is what is signed: a checkpoint of C2SP's tlog-checkpoint, whose origin is the signer's name.
func (c Checkpoint) text(origin string) string {
	return fmt.Sprintf("%s\n%d\n%s\n", origin, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]))
}

// OpenCheckpoint reads a signed note and holds its signature to the keys. It fails if none of them signed it.
func OpenCheckpoint(signed []byte, keys note.Verifiers) (Checkpoint, error) {
	o, err := openNote(signed, keys)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint: %w", err)
	}
	return o.Checkpoint, nil
}

// opened is a signed checkpoint that one of the keys signed.
type opened struct {
	Checkpoint
	by   signature // the first of them that did
	more []string  // lines beyond a checkpoint's three
}

// signature is whose one is.
type signature struct {
	name string
	hash uint32
}

func (s signature) String() string { return fmt.Sprintf("%s+%08x", s.name, s.hash) }

func openNote(signed []byte, keys note.Verifiers) (o opened, err error) {
	if len(signed) > maxNote {
		return o, fmt.Errorf("%d bytes, at most %d", len(signed), maxNote)
	}
	n, err := note.Open(signed, keys)
	if err != nil {
		return o, err
	}
	o.by = signature{n.Sigs[0].Name, n.Sigs[0].Hash}
	lines := strings.Split(strings.TrimSuffix(n.Text, "\n"), "\n")
	if len(lines) < 3 || lines[0] != o.by.name {
		return o, errors.New("not three lines that begin with the signer's name")
	}
	if o.Size, err = strconv.ParseUint(lines[1], 10, 63); err != nil {
		return o, fmt.Errorf("size %.40q is no number", lines[1])
	}
	if o.Root, err = tlog.ParseHash(lines[2]); err != nil {
		return o, fmt.Errorf("root %.80q is no hash", lines[2])
	}
	o.more = lines[3:]
	return o, nil
}

// checkpointOf is the record that settles a tree. Without a signer it settles nothing, but whoever reads on from here knows the tree.
func checkpointOf(t tree, signer *Key) (Event, error) {
	c := Checkpoint{Size: t.size, Root: t.root()}
	e := Event{Type: JournalCheckpoint, Severity: Info, Object: checkpointObject, Message: fmt.Sprintf("%d records", c.Size),
		Fields: map[string]string{fieldSize: strconv.FormatUint(c.Size, 10), fieldRoot: c.Root.String(), fieldEdge: t.edgeText()}}
	if signer == nil {
		return e, nil
	}
	signed, err := note.Sign(&note.Note{Text: c.text(signer.Name())}, signer)
	if err != nil {
		return Event{}, fmt.Errorf("sign a checkpoint: %w", err)
	}
	e.Fields[fieldNote] = string(signed)
	return e, nil
}

// setBetween is by how much somebody set the clock between two readings; 0: by less than leap seconds do, or there is no first one.
func setBetween(from, to clock.Reading) time.Duration {
	by := to.Wall.Sub(from.Wall) - (to.Boot - from.Boot)
	if from.Wall.IsZero() || by.Abs() <= time.Second+from.Gap+to.Gap {
		return 0
	}
	return by
}

// setBefore is by how much a checkpoint says that somebody set the clock since the one before.
func setBefore(e Event) (time.Duration, error) {
	text, is := e.Fields[fieldSet]
	if !is {
		return 0, nil
	}
	by, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%s %.40q is no length of time", fieldSet, text)
	}
	return by, nil
}

// settled reads a JournalCheckpoint's own words: the tree before it.
func settled(e Event) (tree, error) {
	size, err := strconv.ParseUint(e.Fields[fieldSize], 10, 63)
	if err != nil {
		return tree{}, fmt.Errorf("size %.40q is no number", e.Fields[fieldSize])
	}
	t, err := parseTree(size, e.Fields[fieldEdge])
	if err != nil {
		return tree{}, err
	}
	if root := t.root().String(); root != e.Fields[fieldRoot] {
		return tree{}, fmt.Errorf("its edge comes to root %s, its root is %.80q", root, e.Fields[fieldRoot])
	}
	return t, nil
}
