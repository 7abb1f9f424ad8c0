package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"shekara/netctl/durable"
)

const (
	hotSuffix  = ".jsonl"
	coldSuffix = hotSuffix + ".zst"
)

func segmentName(first uint64) string { return fmt.Sprintf("%020d", first) + hotSuffix }

func coldName(first uint64) string { return fmt.Sprintf("%020d", first) + coldSuffix }

// segments lists the first sequence numbers of the files in dir, ascending.
func segments(dir string) ([]uint64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var firsts []uint64
	for _, entry := range entries {
		number, _, _ := strings.Cut(entry.Name(), ".")
		var first uint64
		if _, err := fmt.Sscanf(number, "%020d", &first); err != nil || entry.Type() != fs.FileMode(0) {
			continue
		}
		if name := entry.Name(); name == segmentName(first) || name == coldName(first) {
			firsts = append(firsts, first)
		}
	}
	slices.Sort(firsts)
	return slices.Compact(firsts), nil
}

// lines are what a file of the journal holds, as it was when it was opened.
type lines struct {
	*io.SectionReader
	name string    // of the file
	file io.Closer // nil: they lie in memory
}

// Close lets the file go.
func (l *lines) Close() error {
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}

// coldError says why a cold file does not give its lines.
type coldError struct {
	name string
	err  error
}

func (e *coldError) Error() string {
	return fmt.Sprintf("%s cannot be decompressed: %v", e.name, e.err)
}

func (e *coldError) Unwrap() error { return e.err }

// openLines opens the file whose first record has this sequence. All who read the journal's files do it so, and need not know whether it is cold. Where it is there
// in both forms, as it is while it becomes cold, the hot one counts. The error is fs.ErrNotExist where there is none, and a coldError where it is damaged.
func openLines(dir string, first uint64) (*lines, error) {
	file, err := os.Open(filepath.Join(dir, segmentName(first)))
	if errors.Is(err, fs.ErrNotExist) {
		return openCold(dir, first)
	}
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return &lines{io.NewSectionReader(file, 0, info.Size()), segmentName(first), file}, nil
}

func openCold(dir string, first uint64) (*lines, error) {
	cold, err := durable.ReadFile(filepath.Join(dir, coldName(first)), maxColdBytes)
	if err != nil && !errors.Is(err, durable.ErrTooLarge) {
		return nil, err
	}
	var hot []byte
	if err == nil {
		hot, err = thaw(first, cold)
	}
	if err != nil {
		return nil, &coldError{coldName(first), err}
	}
	return &lines{io.NewSectionReader(bytes.NewReader(hot), 0, int64(len(hot))), coldName(first), nil}, nil
}
