package journal

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// secondPrefix is what the second verifier knows of records that were removed: it shares no code with the first.
type secondPrefix struct {
	cut   bool // the journal does not begin with record 1
	first string
	roots map[string]string // where files begin
	gone  []uint64          // records that say that all before the first file is removed
}

// begin gives the edge of the tree before the first file, and how many records it has.
func (p *secondPrefix) begin(names []string) (edge [][]byte, records uint64, err error) {
	if len(names) == 0 {
		return nil, 0, nil
	}
	p.first = filepath.Base(names[0])
	if _, err := fmt.Sscanf(p.first, "%020d.", &records); err != nil || records == 1 {
		return nil, 0, err
	}
	p.cut = true
	data, err := secondFile(names[0], records)
	if err != nil {
		return nil, 0, err
	}
	var record struct{ Fields map[string]string }
	line, _, _ := bytes.Cut(data, []byte("\n"))
	if err := json.Unmarshal(line, &record); err != nil {
		return nil, 0, err
	}
	for _, part := range strings.Split(record.Fields["edge"], ",") {
		raw, err := base64.StdEncoding.DecodeString(part)
		if err != nil {
			return nil, 0, err
		}
		edge = append(edge, raw)
	}
	return edge, records - 1, nil
}

func (p *secondPrefix) follow(kind string, sequence uint64, fields map[string]string) error {
	if kind != "journal.expire" {
		return nil
	}
	root, known := p.roots[fields["last"]]
	if known && root != fields["root"] {
		return errors.New("what it says is removed is not what was there")
	}
	if known { // what begins with a later file vouches for an earlier one as well
		p.gone = append(p.gone, sequence)
	}
	return nil
}

func (p *secondPrefix) end(settled uint64) error {
	if !p.cut {
		return nil
	}
	for _, sequence := range p.gone {
		if sequence <= settled {
			return nil
		}
	}
	return fmt.Errorf("nothing signed says why it begins with %s", p.first)
}
