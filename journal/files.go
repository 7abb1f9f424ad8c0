package journal

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

func segmentName(first uint64) string { return fmt.Sprintf("%020d.jsonl", first) }

// segments lists the first sequence numbers of the files in dir, ascending.
func segments(dir string) ([]uint64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var firsts []uint64
	for _, entry := range entries {
		var first uint64
		if _, err := fmt.Sscanf(entry.Name(), "%020d.jsonl", &first); err == nil && segmentName(first) == entry.Name() && entry.Type() == fs.FileMode(0) {
			firsts = append(firsts, first)
		}
	}
	slices.Sort(firsts)
	return firsts, nil
}

// lines are what a file of the journal holds, as it was when it was opened.
type lines struct {
	*io.SectionReader
	file io.Closer
}

// Close lets the file go.
func (l *lines) Close() error { return l.file.Close() }

// openLines opens the file whose first record has this sequence. All who read the journal's files do it so. The error is fs.ErrNotExist where there is none.
func openLines(dir string, first uint64) (*lines, error) {
	file, err := os.Open(filepath.Join(dir, segmentName(first)))
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return &lines{io.NewSectionReader(file, 0, info.Size()), file}, nil
}
