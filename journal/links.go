package journal

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"shekara/netctl/durable"
)

// Link binds a record to the one before it that is about the same tunnel, or the same legal entity: so that what is handed out of one of these alone
// shows a gap.
type Link struct {
	Of     string `json:"of"`               // "tunnel/NAME" or "organisation/NAME"
	Number uint64 `json:"number"`           // from 1, no gaps
	Before string `json:"before,omitempty"` // the tree's leaf of the record of the number before, in base64
}

const (
	channelPrefix = "tunnel/"
	entityPrefix  = "organisation/"
	systemPrefix  = "system/"
	// linksName is the file of how far all were linked when the newest file began: what can be had from all records is had from it and the newest ones.
	linksName    = "LINKS"
	maxLinksFile = 256 << 20 // bytes: more than a million tunnels have
)

// partitions are what a record is linked by.
func (e *Event) partitions() (names []string) {
	if strings.HasPrefix(e.Object, channelPrefix) {
		names = append(names, e.Object)
	}
	if e.Organisation != "" {
		names = append(names, entityPrefix+e.Organisation)
	}
	return names
}

// longestLinks are as long as those of an event can be.
func (e *Event) longestLinks() (links []Link) {
	for _, name := range e.partitions() {
		links = append(links, Link{Of: name, Number: 1 << 63, Before: tlog.Hash{}.String()})
	}
	return links
}

// chain is the newest record of a partition.
type chain struct {
	Number uint64    `json:"number"`
	Leaf   tlog.Hash `json:"leaf"`
}

// links are all chains, and what is to be added to them when it is on disk.
type links struct {
	ends map[string]chain
	next map[string]chain
}

// of links an event to what came before.
func (l *links) of(e *Event) (made []Link) {
	for _, name := range e.partitions() {
		end, known := l.next[name]
		if !known {
			end = l.ends[name]
		}
		link := Link{Of: name, Number: end.Number + 1}
		if end.Number > 0 {
			link.Before = end.Leaf.String()
		}
		made = append(made, link)
	}
	return made
}

// add notes a record that has its links.
func (l *links) add(made []Link, leaf tlog.Hash) {
	for _, link := range made {
		l.next[link.Of] = chain{link.Number, leaf}
	}
}

// scanLinks goes through a file's whole records and notes those that are linked.
func scanLinks(file io.Reader, ends map[string]chain) error {
	reader := bufio.NewReaderSize(file, 256<<10)
	for {
		line, err := reader.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if line = line[:len(line)-1]; !bytes.Contains(line, []byte(`"links":[`)) {
			continue
		}
		if e, _, err := decode(line); err == nil {
			for _, link := range e.Links {
				ends[link.Of] = chain{link.Number, leaf(line)}
			}
		}
	}
}

// linksFile is what the file LINKS holds: how all chains ended before a record, and the root of the tree then, which says of which journal.
type linksFile struct {
	After uint64           `json:"after"`
	Root  tlog.Hash        `json:"root"`
	Ends  map[string]chain `json:"ends"`
}

// saveLinks writes it. It is a copy of what the records say: where it cannot be written the next start reads more of them.
func saveLinks(dir string, before tree, ends map[string]chain) error {
	text, err := json.Marshal(linksFile{before.size, before.root(), ends})
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, linksName), fmt.Appendf(text, "\n%x\n", sha256.Sum256(text)), openMode)
}

func loadLinks(dir string) (linksFile, error) {
	data, err := durable.ReadFile(filepath.Join(dir, linksName), maxLinksFile)
	if err != nil {
		return linksFile{}, err
	}
	return decodeLinks(data)
}

func decodeLinks(data []byte) (file linksFile, err error) {
	text, sum, _ := bytes.Cut(data, []byte("\n"))
	if string(sum) != fmt.Sprintf("%x\n", sha256.Sum256(text)) {
		return linksFile{}, errDamaged
	}
	return file, json.Unmarshal(text, &file)
}

// linksBefore is how all chains ended before the newest file, and whether the file LINKS says so: else it was had from the records.
func linksBefore(dir string, firsts []uint64) (ends map[string]chain, saved bool, err error) {
	newest := len(firsts) - 1
	file, err := loadLinks(dir)
	for at := newest; err == nil && at > 0 && firsts[at] > file.After; at-- {
		if firsts[at] != file.After+1 {
			continue
		}
		if before, err := treeBefore(dir, firsts[:at+1]); err == nil && before.root() == file.Root {
			if file.Ends == nil {
				file.Ends = map[string]chain{}
			}
			return file.Ends, at == newest, scanLinksOf(dir, firsts[at:newest], file.Ends)
		}
	}
	ends = map[string]chain{}
	return ends, newest == 0, scanLinksOf(dir, firsts[:newest], ends)
}

func scanLinksOf(dir string, firsts []uint64, ends map[string]chain) error {
	for _, first := range firsts {
		file, err := openLines(dir, first)
		var damaged *coldError
		if errors.As(err, &damaged) {
			continue // as one of which no line can be read
		}
		if err != nil {
			return err
		}
		err = scanLinks(file, ends)
		_ = file.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// chains holds a journal's links to each other.
type chains struct {
	ends    map[string]chain
	from    bool // what is linked was seen from its beginning
	linking bool // a linked record was seen: all that follow are linked as well
}

// follow says what is wrong with a record's links.
func (c *chains) follow(e Event, hash tlog.Hash) (wrong []string) {
	names := e.partitions()
	if len(e.Links) == 0 && (len(names) == 0 || !c.linking) {
		return nil
	}
	c.linking = true
	if len(e.Links) != len(names) {
		return []string{fmt.Sprintf("it has %d links, and is about %d partitions", len(e.Links), len(names))}
	}
	for i, link := range e.Links {
		if link.Of != names[i] {
			wrong = append(wrong, fmt.Sprintf("it is linked as one of %.100q, and is about %.100q", link.Of, names[i]))
			continue
		}
		if says := c.step(link); says != "" {
			wrong = append(wrong, says)
		}
		c.ends[link.Of] = chain{link.Number, hash}
	}
	return wrong
}

// step says what is wrong between a link and the record before it.
func (c *chains) step(link Link) string {
	end, known := c.ends[link.Of]
	switch {
	case !known && !c.from && link.Number > 0: // what came before it was not seen
		return ""
	case link.Number != end.Number+1:
		return fmt.Sprintf("it is number %d of %s, and %d is due: records of it are missing, or were put in", link.Number, link.Of, end.Number+1)
	case end.Number == 0 && link.Before != "", end.Number > 0 && link.Before != end.Leaf.String():
		return fmt.Sprintf("the record before it of %s is not the one that it is linked to", link.Of)
	}
	return ""
}

// Partition is what is handed out of one tunnel or legal entity, and whether it is whole.
type Partition struct {
	Of       string    `json:"of"`
	Records  int       `json:"records"`
	First    uint64    `json:"first"` // numbers within the partition
	Last     uint64    `json:"last"`
	Begins   Event     `json:"-"`
	Ends     Event     `json:"-"`
	Proved   bool      `json:"proved"` // a signed checkpoint covers the last record, and by its link all before it
	Settled  uint64    `json:"settled,omitempty"`
	Findings []Finding `json:"findings,omitempty"`
	More     int       `json:"more,omitempty"` // findings beyond MaxFindings
}

// Whole says whether nothing was found.
func (p *Partition) Whole() bool { return len(p.Findings) == 0 }

// partitionHead is the first line of what is handed out.
type partitionHead struct {
	Partition string `json:"partition"`
}

// viewHead is the first line of what is handed out of a system, whose records are not linked.
type viewHead struct {
	System string `json:"system"`
}

// IsView says whether the beginning of a file is one of what Export writes of a system.
func IsView(begins []byte) bool { return bytes.HasPrefix(begins, []byte(`{"system":`)) }

// Export writes the records of one tunnel ("tunnel/NAME") or legal entity ("organisation/NAME") of the journal in a folder, up to the last that a signed
// checkpoint covers, as they stand there: a line that names the partition, theirs, and the proof of the last. Nothing signed: all, and no proof. Those of a system
// ("system/NAME") are not linked: nothing proves that none is missing, and so no proof stands behind them.
func Export(ctx context.Context, dir, of string, to io.Writer) (records int, err error) {
	if !strings.HasPrefix(of, channelPrefix) && !strings.HasPrefix(of, entityPrefix) && !strings.HasPrefix(of, systemPrefix) {
		return 0, fmt.Errorf("export %.100q: it is neither %sNAME nor %sNAME nor %sNAME", of, channelPrefix, entityPrefix, systemPrefix)
	}
	if records, err = export(ctx, dir, of, to); err != nil {
		return records, fmt.Errorf("export %s: %w", of, err)
	}
	return records, nil
}

func export(ctx context.Context, dir, of string, to io.Writer) (records int, err error) {
	settled := uint64(0)
	if err := eachLine(ctx, dir, 1, func(e Event, _ []byte) bool {
		if e.Type == JournalCheckpoint && e.Fields[fieldNote] != "" {
			settled = e.Sequence - 1
		}
		return true
	}); err != nil {
		return 0, err
	}
	out := bufio.NewWriter(to)
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	system, isView := strings.CutPrefix(of, systemPrefix)
	var head any = partitionHead{of}
	if isView {
		head = viewHead{system}
	}
	if err := encoder.Encode(head); err != nil {
		return 0, err
	}
	last := uint64(0)
	var written error
	if err := eachLine(ctx, dir, 1, func(e Event, line []byte) bool {
		if settled > 0 && e.Sequence > settled {
			return false
		}
		if isView && slices.Contains(e.Systems, system) || slices.ContainsFunc(e.Links, func(l Link) bool { return l.Of == of }) {
			_, written = out.Write(append(line, '\n'))
			records, last = records+1, e.Sequence
		}
		return written == nil
	}); err != nil || written != nil {
		return records, errors.Join(err, written)
	}
	if last > 0 && settled > 0 && !isView {
		proof, err := Prove(ctx, dir, last)
		if err != nil {
			return records, err
		}
		if err := encoder.Encode(proof); err != nil {
			return records, err
		}
	}
	return records, out.Flush()
}
