package journal

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

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

// firstLine is the first line of a file, without its end: of a cold one no more is decompressed than it takes.
func firstLine(dir string, first uint64) ([]byte, error) {
	file, err := os.Open(filepath.Join(dir, segmentName(first)))
	cold := errors.Is(err, fs.ErrNotExist)
	if cold {
		file, err = os.Open(filepath.Join(dir, coldName(first)))
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	if cold {
		line, err := firstCold(first, file)
		if err != nil {
			return nil, &coldError{coldName(first), err}
		}
		return line, nil
	}
	line, err := bufio.NewReader(io.LimitReader(file, MaxEventBytes)).ReadBytes('\n')
	return bytes.TrimSuffix(line, []byte("\n")), err
}

// began is when the first record of a file that can be read happened. It is remembered: of the files of three years nobody reads all more than once.
func (j *Journal) began(first uint64) (time.Time, error) {
	j.begun.Lock()
	defer j.begun.Unlock()
	if at, known := j.begun.of[first]; known {
		return at, nil
	}
	line, err := firstLine(j.dir, first)
	if err != nil {
		return time.Time{}, err
	}
	e, _, err := decode(line)
	if err != nil {
		return time.Time{}, err
	}
	if j.begun.of == nil {
		j.begun.of = map[uint64]time.Time{}
	}
	j.begun.of[first] = e.Time
	return e.Time, nil
}

// fileBytes is what a file takes on the disk in either form.
func (j *Journal) fileBytes(first uint64) (hot, cold int64) {
	if info, err := os.Stat(filepath.Join(j.dir, segmentName(first))); err == nil {
		hot = info.Size()
	}
	if info, err := os.Stat(filepath.Join(j.dir, coldName(first))); err == nil {
		cold = info.Size()
	}
	return hot, cold
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
