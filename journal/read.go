package journal

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sort"
	"strconv"
)

// MaxRead is the most events that one Read or Query returns.
const MaxRead = 10_000

// Read gives at most limit events (and at most MaxRead) with sequences above after, oldest first. None: there are none yet.
func (j *Journal) Read(ctx context.Context, after uint64, limit int) ([]Event, error) {
	events, _, err := j.Query(ctx, after, limit, Filter{})
	return events, err
}

// Query is Read of those events that the filter chooses. It also says how far it looked: ask again from there.
func (j *Journal) Query(ctx context.Context, after uint64, limit int, filter Filter) ([]Event, uint64, error) {
	limit = min(limit, MaxRead)
	events, looked := []Event{}, after
	err := j.scan(ctx, after, func(e Event, _ []byte) bool {
		looked = e.Sequence
		if filter.Matches(e) {
			events = append(events, e)
		}
		return len(events) < limit
	})
	if err != nil {
		return nil, after, fmt.Errorf("read the journal: %w", err)
	}
	return events, looked, nil
}

// scan hands the acknowledged events above after, and their lines, to each until it answers false. A line is not to be kept.
func (j *Journal) scan(ctx context.Context, after uint64, each func(Event, []byte) bool) error {
	last := j.Last() // records behind it may still be cut
	firsts, err := segments(j.dir)
	if err != nil {
		return err
	}
	begin := max(0, sort.Search(len(firsts), func(i int) bool { return firsts[i] > after+1 })-1)
	enough := last <= after
	for _, first := range firsts[min(begin, len(firsts)):] {
		if enough || first > last {
			break
		}
		err := j.scanSegment(ctx, first, after, func(e Event, line []byte) bool {
			enough = e.Sequence > last || !each(e, line) || e.Sequence == last
			return !enough
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Tail gives the newest events, oldest first.
func (j *Journal) Tail(ctx context.Context, limit int) ([]Event, error) {
	last := j.Last()
	return j.Read(ctx, last-min(last, uint64(max(limit, 0))), limit)
}

// scanSegment hands the events above after to each until it answers false. Lines that cannot be read are passed over: the gap shows.
func (j *Journal) scanSegment(ctx context.Context, first, after uint64, each func(Event, []byte) bool) error {
	file, err := openLines(j.dir, first)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	offset, err := seek(file, after)
	if err != nil {
		return err
	}
	if _, err := file.Seek(offset, io.SeekStart); err != nil {
		return err
	}
	reader := bufio.NewReaderSize(file, 64<<10)
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		line, err := reader.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		line = line[:len(line)-1]
		e, _, err := decode(line)
		if err != nil || e.Sequence <= after {
			continue
		}
		if !each(e, line) {
			return nil
		}
	}
}

// seek finds, by halving, an offset at the beginning of a line before the first record above after and not far from it.
func seek(file *lines, after uint64) (int64, error) {
	low, high := int64(0), file.Size()
	for high-low > 4*MaxEventBytes {
		middle := low + (high-low)/2
		begin, sequence, err := lineAfter(file, middle)
		if err != nil {
			return 0, err
		}
		if sequence == 0 || sequence > after || begin >= high {
			high = middle
		} else {
			low = begin
		}
	}
	return low, nil
}

// lineAfter is where the first line behind offset begins, and its sequence; 0 where it cannot be read.
func lineAfter(file io.ReaderAt, offset int64) (int64, uint64, error) {
	buffer := make([]byte, MaxEventBytes+64)
	n, err := file.ReadAt(buffer, offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, 0, err
	}
	end := bytes.IndexByte(buffer[:n], '\n')
	if end < 0 {
		return offset, 0, nil
	}
	// A record begins with its sequence: {"sequence":123,
	digits, found := bytes.CutPrefix(buffer[end+1:n], []byte(`{"sequence":`))
	comma := bytes.IndexByte(digits, ',')
	if !found || comma < 0 {
		return offset, 0, nil
	}
	sequence, err := strconv.ParseUint(string(digits[:comma]), 10, 64)
	if err != nil {
		return offset, 0, nil
	}
	return offset + int64(end) + 1, sequence, nil
}
