package journal

import (
	"bytes"
	"context"
	"fmt"
)

// MaxLinesBytes is the most that one Lines gives, but for the last line.
const MaxLinesBytes = 4 << 20

// Lines gives the acknowledged records with sequences above after as they stand in the files, so as they are leaves of the tree: oldest
// first, without the ends of the lines, at most limit (and at most MaxRead). None: there are none yet. Where some cannot be had it ends before them; asked again from there it begins behind, and they are
// put on record, unless they were removed for their age.
func (j *Journal) Lines(ctx context.Context, after uint64, limit int) ([][]byte, error) {
	limit = min(limit, MaxRead)
	lines, size := [][]byte{}, 0
	_, err := j.scan(ctx, after, Filter{}, func(e Event, line []byte) bool {
		if e.Sequence != after+1 {
			if len(lines) > 0 {
				return false
			}
			j.missing(ctx, after, e.Sequence)
		}
		after = e.Sequence
		lines, size = append(lines, bytes.Clone(line)), size+len(line)
		return len(lines) < limit && size < MaxLinesBytes
	})
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	return lines, nil
}

// ParseLine reads a record as Lines gives it, and holds it to its checksum.
func ParseLine(line []byte) (Event, error) {
	if len(line) >= MaxEventBytes {
		return Event{}, fmt.Errorf("a record of %d bytes, at most %d", len(line), MaxEventBytes-1)
	}
	e, _, err := decode(line)
	return e, err
}
