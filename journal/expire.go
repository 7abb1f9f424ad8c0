package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"shekara/netctl/durable"
)

const (
	// KeepMonths is the least time that records are kept, in calendar months (JRN-11: three years, and all of it stays in the journal's folder, where it is read
	// as ever; of these the first two months have to).
	KeepMonths = 36
	// expireEvery is how often one day's files may go.
	expireEvery = 24 * time.Hour
	// anchoredFor is how far the time of the newest record that is held outside may be from now.
	anchoredFor = time.Hour

	expiredName = "EXPIRED"
	maxExpired  = 4 << 10
)

// Fields of a JournalExpire, beside those of a checkpoint, which say what the tree was when the records that it is about ended.
const (
	fieldFirst = "first"
	fieldLast  = "last"
	fieldFiles = "files"
	fieldBytes = "bytes"
	fieldDay   = "day"
)

// expiry is what the file EXPIRED holds: the newest JournalExpire, and whether what it is about is removed.
type expiry struct {
	Event uint64    `json:"event"`
	Last  uint64    `json:"last"`
	Time  time.Time `json:"time"`
	Done  bool      `json:"done"`
}

func (j *Journal) lastExpiry() (e expiry) {
	text, err := durable.ReadFile(filepath.Join(j.dir, expiredName), maxExpired)
	if err != nil || json.Unmarshal(text, &e) != nil {
		return expiry{} // nothing hangs on it but that a removal goes on, and that the next waits
	}
	return e
}

func (j *Journal) saveExpiry(e expiry) error {
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return j.disk.write(filepath.Join(j.dir, expiredName), append(text, '\n'), openMode)
}

// outside is what is known of time by others than the box's own clock.
type outside struct {
	synchronised bool   // somebody keeps the clock
	anchored     uint64 // newest record that a centre has taken; 0: none
}

// expire removes the files of the oldest legal day, if that is over for so many calendar months, and the journal's own signed record of it is on disk. A clock that was set forward
// must not remove what is not old: it has to be synchronised; a centre has to hold a record of the last hour by it, and all that goes; and the journal has to have records of as many
// later days as the time has, so that days which the clock passed over do not count. What keeps a day that is over for long enough is in Stats until the next time.
func (j *Journal) expire(ctx context.Context, now time.Time, months int, o outside) error {
	kept, err := j.expireDay(ctx, now, months, o)
	if err != nil {
		kept = err.Error()
	}
	j.kept.Store(kept)
	return err
}

func (j *Journal) expireDay(ctx context.Context, now time.Time, months int, o outside) (kept string, err error) {
	before := j.lastExpiry()
	if before.Last > 0 && !before.Done {
		return "", j.remove(ctx, before)
	}
	firsts, err := segments(j.dir)
	if err != nil {
		return "", err
	}
	files, day, kept, err := j.aged(firsts, now, months)
	if err != nil || files == 0 {
		return kept, err
	}
	last := firsts[files] - 1
	if kept, err := j.keeps(ctx, now, last, before.Time, o); err != nil || kept != "" {
		return kept, err
	}
	return "", j.expireFiles(ctx, now, months, firsts[:files], last, day)
}

// keeps says why the records up to last, which are old enough, are not to be removed now; "": nothing speaks against it.
func (j *Journal) keeps(ctx context.Context, now time.Time, last uint64, before time.Time, o outside) (string, error) {
	held, err := j.Read(ctx, o.anchored-min(o.anchored, 1), 1)
	switch age := now.Sub(before); {
	case err != nil:
		return "", err
	case j.PublicKey() == "":
		return "nobody signs the journal, so the removal could not be proved", nil
	case !o.synchronised:
		return "nobody keeps the clock", nil
	case o.anchored == 0 || len(held) == 0:
		return "no centre outside the box holds the journal: a file on the box, syslog over UDP, and a sink that refused records do not count", nil
	case o.anchored < last || now.Sub(held[0].Time).Abs() > anchoredFor:
		return fmt.Sprintf("the newest record that a centre outside the box holds is %d, of %s, which is not within an hour of now", o.anchored, held[0].Time.UTC().Format(time.RFC3339)), nil
	case age < expireEvery && age > -expireEvery:
		return fmt.Sprintf("one day's records go in 24 hours, and the last went at %s", before.UTC().Format(time.RFC3339)), nil
	}
	return "", nil
}

// expireFiles puts it on record that files go, and removes them.
func (j *Journal) expireFiles(ctx context.Context, now time.Time, months int, firsts []uint64, last uint64, day string) error {
	record, err := j.expireRecord(firsts, last, months, day)
	if err != nil {
		return err
	}
	if err := j.queue.put(record); err != nil {
		return err
	}
	select {
	case err = <-record.done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	sequence := record.event.Sequence
	if head := j.Settle(); headSize(head) < sequence {
		return errors.New("the record of it is not signed")
	}
	next := expiry{Event: sequence, Last: last, Time: now.UTC()}
	if err := j.saveExpiry(next); err != nil {
		return err
	}
	return j.remove(ctx, next)
}

// aged is how many files, from the oldest on, are of one legal day that is over for long enough, and which that is, or why they are kept though it is. A file of which the day cannot be read counts as one of the
// day after it, so that it never goes too early.
func (j *Journal) aged(firsts []uint64, now time.Time, months int) (files int, oldest, kept string, err error) {
	days := make([]string, len(firsts))
	next := ""
	for n := len(firsts) - 1; n >= 0; n-- {
		if began, err := j.began(firsts[n]); err == nil {
			next = j.legalDay(began)
		}
		days[n] = next
	}
	if next == "" {
		return 0, "", "", fmt.Errorf("the day of %s is not known", segmentName(firsts[0]))
	}
	oldest = days[0]
	if !j.over(oldest, now, months) {
		return 0, oldest, "", nil
	}
	later := map[string]bool{}
	for n, day := range days {
		if day == oldest {
			continue
		}
		if files == 0 {
			files = n
		}
		later[day] = true
	}
	_, ends, err := Day(oldest)
	if want := int(ends.AddDate(0, months, 0).Sub(ends) / (24 * time.Hour)); err != nil || len(later) < want {
		return 0, oldest, fmt.Sprintf("the journal has records of %d days after it, and %d have to be: days that the clock passed over, or on which the box was off, do not count", len(later), want), err
	}
	return files, oldest, "", nil
}

// over says whether so many calendar months have passed since the end of a day.
func (j *Journal) over(day string, now time.Time, months int) bool {
	_, ends, err := Day(day)
	return err == nil && !now.Before(ends.AddDate(0, months, 0))
}

// expireRecord is what is recorded before files go. It is one of those that are written also while the disk has no room: it makes some.
func (j *Journal) expireRecord(firsts []uint64, last uint64, months int, day string) (*record, error) {
	before, err := treeBefore(j.dir, append(firsts[:len(firsts):len(firsts)], last+1))
	if err != nil {
		return nil, err
	}
	bytes := int64(0)
	for _, first := range firsts {
		hot, cold := j.fileBytes(first)
		bytes += hot + cold
	}
	return newRecord(Event{Type: JournalExpire, Severity: Notice, Object: "journal",
		Message: fmt.Sprintf("records %d to %d, of %s, are removed: %d months have passed", firsts[0], last, day, months),
		Fields: map[string]string{fieldFirst: strconv.FormatUint(firsts[0], 10), fieldLast: strconv.FormatUint(last, 10), fieldFiles: strconv.Itoa(len(firsts)), fieldBytes: strconv.FormatInt(bytes, 10),
			fieldDay: day, fieldSize: strconv.FormatUint(before.size, 10), fieldRoot: before.root().String(), fieldEdge: before.edgeText()}}, true, j.clock())
}

// remove removes the files that an expiry is about, the oldest first: whenever it is cut short, what is gone is a prefix, and the next turn goes on.
func (j *Journal) remove(ctx context.Context, e expiry) error {
	said, err := j.Read(ctx, e.Event-1, 1)
	if err != nil || len(said) == 0 || said[0].Type != JournalExpire || said[0].Fields[fieldLast] != strconv.FormatUint(e.Last, 10) {
		return errors.Join(fmt.Errorf("%s names record %d, which says nothing of it", expiredName, e.Event), err)
	}
	firsts, err := segments(j.dir)
	if err != nil {
		return err
	}
	for n, first := range firsts {
		if n+1 == len(firsts) || firsts[n+1] > e.Last+1 {
			break
		}
		for _, name := range []string{segmentName(first), coldName(first)} {
			if err := j.disk.remove(filepath.Join(j.dir, name)); err != nil {
				return err
			}
		}
	}
	e.Done = true
	return j.saveExpiry(e)
}

// headSize is how many records a signed checkpoint of our own has.
func headSize(signed string) uint64 {
	lines := strings.SplitN(signed, "\n", 3)
	if len(lines) < 3 {
		return 0
	}
	size, err := strconv.ParseUint(lines[1], 10, 63)
	if err != nil {
		return 0
	}
	return size
}

// expired is what a JournalExpire says of the tree when the records that it is about ended.
func expired(e Event) (tree, error) {
	t, err := settled(e)
	if err == nil && e.Fields[fieldLast] != e.Fields[fieldSize] {
		err = fmt.Errorf("its last record is %.40q, the tree has %d", e.Fields[fieldLast], t.size)
	}
	return t, err
}
