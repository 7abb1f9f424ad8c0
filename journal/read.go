package journal

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
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
	all, err := j.scan(ctx, after, filter, func(e Event, _ []byte) bool {
		looked = e.Sequence
		if filter.Matches(e) {
			events = append(events, e)
		}
		return len(events) < limit
	})
	if err != nil {
		return nil, after, fmt.Errorf("read the journal: %w", err)
	}
	if len(events) < limit {
		looked = max(looked, all) // what was passed over is nothing for the filter
	}
	return events, looked, nil
}

// Tail gives the newest events, oldest first.
func (j *Journal) Tail(ctx context.Context, limit int) ([]Event, error) {
	last := j.Last()
	return j.Read(ctx, last-min(last, uint64(max(limit, 0))), limit)
}

// scan hands the acknowledged events above after, and their lines, to each until it answers false, but for those of which the indexes say that the filter does not
// choose them. A line is not to be kept. It says which is the newest that was looked at, if each never answered false.
func (j *Journal) scan(ctx context.Context, after uint64, filter Filter, each func(Event, []byte) bool) (all uint64, err error) {
	last := j.Last() // records behind it may still be cut
	firsts, err := segments(j.dir)
	if err != nil {
		return 0, err
	}
	begin := max(0, sort.Search(len(firsts), func(i int) bool { return firsts[i] > after+1 })-1)
	enough := last <= after
	for i := begin; i < len(firsts) && firsts[i] <= last && !enough; i++ {
		spans := wholeFile()
		if closed := i+1 < len(firsts); closed && filter.indexed() {
			if chosen, err := search(ctx, j.dir, firsts[i], filter); err == nil {
				spans = chosen
			} else if ctx.Err() != nil {
				return 0, ctx.Err()
			} // an index only helps: without it all is read
		}
		err := scanSegment(ctx, j.dir, firsts[i], spans, after, func(e Event, line []byte) bool {
			enough = e.Sequence > last || !each(e, line) || e.Sequence == last
			return !enough
		})
		if err != nil {
			return 0, err
		}
	}
	return last, nil
}

// wholeFile is the span of all lines.
func wholeFile() []span64 { return []span64{{0, math.MaxInt64}} }

// scanSegment hands the events above after, of those whose lines begin in the spans, to each until it answers false. Lines that cannot be read are passed over: the gap shows.
func scanSegment(ctx context.Context, dir string, first uint64, spans []span64, after uint64, each func(Event, []byte) bool) error {
	if len(spans) == 0 {
		return nil
	}
	file, err := openLines(dir, first)
	var damaged *coldError
	if errors.Is(err, fs.ErrNotExist) || errors.As(err, &damaged) {
		return nil // as one of which no line can be read
	}
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	begin, err := seek(file, after)
	if err != nil {
		return err
	}
	for _, s := range spans {
		if s.to <= begin {
			continue
		}
		more, err := scanSpan(ctx, file, span64{max(s.from, begin), s.to}, after, each)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

func scanSpan(ctx context.Context, file io.ReadSeeker, s span64, after uint64, each func(Event, []byte) bool) (more bool, err error) {
	if _, err := file.Seek(s.from, io.SeekStart); err != nil {
		return false, err
	}
	reader := bufio.NewReaderSize(file, 64<<10)
	for n, offset := 0, s.from; offset < s.to; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return false, ctx.Err()
		}
		line, err := reader.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		offset += int64(len(line))
		line = line[:len(line)-1]
		e, _, err := decode(line)
		if err != nil || e.Sequence <= after {
			continue
		}
		if !each(e, line) {
			return false, nil
		}
	}
	return true, nil
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
