package journal

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"golang.org/x/mod/sumdb/note"
)

// maxProof bounds the line of a proof: a record, a checkpoint, handovers and some 60 hashes, in JSON.
const maxProof = 4*MaxEventBytes + (1+maxHandovers)*maxNote + 64*64

// IsPartition says whether the beginning of a file is one of what Export writes.
func IsPartition(begins []byte) bool { return bytes.HasPrefix(begins, []byte(`{"partition":`)) }

// VerifyPartition reads what Export wrote and says whether it is whole: each record is as it was, none is missing from the first number to the
// last, and a signature covers them. That later ones were cut off shows by a last number that was kept elsewhere. The error is for what is no such file.
func VerifyPartition(ctx context.Context, from io.Reader, keys note.Verifiers) (Partition, error) {
	reader := bufio.NewReaderSize(from, maxProof)
	head, err := partitionLine(reader)
	if err != nil {
		return Partition{}, fmt.Errorf("verify a partition: %w", err)
	}
	var named partitionHead
	if err := json.Unmarshal(head, &named); err != nil || named.Partition == "" {
		return Partition{}, errors.New("verify a partition: its first line does not name one")
	}
	p := Partition{Of: named.Partition}
	c := chains{ends: map[string]chain{}}
	var last []byte // line of the last record
	for n := 2; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return Partition{}, ctx.Err()
		}
		line, err := partitionLine(reader)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Partition{}, fmt.Errorf("verify a partition: line %d: %w", n, err)
		}
		if bytes.HasPrefix(line, []byte(`{"record":`)) {
			p.prove(n, line, last, keys)
			continue
		}
		if p.Proved {
			p.find(n, 0, "it stands behind the proof, which covers nothing of it")
			p.Proved = false
		}
		if e, is := p.record(n, line, &c); is {
			last = bytes.Clone(line)
			p.Ends = e
		}
	}
	if !p.Proved && p.Whole() {
		p.find(0, 0, "no signature covers it: whoever handed it out may have made it")
	}
	return p, nil
}

// partitionLine reads a line, which may not be longer than a proof.
func partitionLine(reader *bufio.Reader) ([]byte, error) {
	line, err := reader.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, fmt.Errorf("more than %d bytes", maxProof)
	case errors.Is(err, io.EOF) && len(line) > 0:
		return nil, errors.New("no end of line: the rest of it is missing")
	case err != nil:
		return nil, err
	}
	return line[:len(line)-1], nil
}

func (p *Partition) find(line int, sequence uint64, format string, args ...any) {
	if len(p.Findings) >= MaxFindings {
		p.More++
		return
	}
	p.Findings = append(p.Findings, Finding{Line: line, Sequence: sequence, What: fmt.Sprintf(format, args...)})
}

// record looks at one record. is says whether it can be read and is one of the partition.
func (p *Partition) record(n int, line []byte, c *chains) (e Event, is bool) {
	e, summed, err := decode(line)
	if err == nil && !summed {
		err = errors.New("it bears no checksum")
	}
	if err != nil {
		p.find(n, e.Sequence, "it cannot be read: %v", err)
		return Event{}, false
	}
	for _, link := range e.Links {
		if link.Of != p.Of {
			continue
		}
		if says := c.step(link); says != "" {
			p.find(n, e.Sequence, "%s", says)
		}
		if p.Records > 0 && e.Sequence <= p.Ends.Sequence {
			p.find(n, e.Sequence, "record %d stands behind record %d", e.Sequence, p.Ends.Sequence)
		}
		c.ends[link.Of] = chain{link.Number, leaf(line)}
		if p.Records == 0 {
			p.First, p.Begins = link.Number, e
		}
		p.Records, p.Last = p.Records+1, link.Number
		return e, true
	}
	p.find(n, e.Sequence, "record %d is none of %s", e.Sequence, p.Of)
	return Event{}, false
}

// prove looks at the proof of the last record.
func (p *Partition) prove(n int, text, last []byte, keys note.Verifiers) {
	var proof Proof
	if err := json.Unmarshal(text, &proof); err != nil {
		p.find(n, 0, "it is no proof: %v", err)
		return
	}
	e, err := proof.Verify(keys)
	switch {
	case err != nil:
		p.find(n, 0, "%v", err)
	case proof.Record != string(last):
		p.find(n, e.Sequence, "record %d is proved, which is not the one before it: records at the end are missing, or were changed", e.Sequence)
	default:
		p.Proved, p.Settled = true, e.Sequence
	}
}
