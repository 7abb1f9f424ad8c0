package journal

import (
	"fmt"
	"slices"
	"time"

	"shekara/netctl/durable"
)

// statsDays is of how many days, at most, what a day takes is the mean.
const statsDays = 7

// Stats is what the journal takes on its disk, and how long that can go on.
type Stats struct {
	First     uint64    `json:"first"`          // sequences; 0: there are no records
	Last      uint64    `json:"last"`           //
	Oldest    time.Time `json:"oldest"`         // when the first happened
	Expires   time.Time `json:"expires"`        // before this none is removed for its age
	Kept      string    `json:"kept,omitempty"` // why the oldest, which are old enough, were not removed when that was looked at last (it is each hour)
	Files     int       `json:"files"`
	ColdFiles int       `json:"coldFiles"` // of these compressed
	HotBytes  int64     `json:"hotBytes"`
	ColdBytes int64     `json:"coldBytes"`
	// DayBytes is what a day takes, on the mean of the last seven at most: of those that are compressed where there are any, else of those that are over. 0: no day is over yet.
	DayBytes  int64 `json:"dayBytes"`
	FreeBytes int64 `json:"freeBytes"` // of the disk, for the daemon
	DaysLeft  int64 `json:"daysLeft"`  // until the disk is full at this rate, if nothing is removed; -1: not known
}

// Stats looks at the journal's files.
func (j *Journal) Stats() (s Stats, err error) {
	s = Stats{Last: j.Last(), DaysLeft: -1}
	s.Kept, _ = j.kept.Load().(string)
	firsts, err := segments(j.dir)
	if err != nil {
		return Stats{}, fmt.Errorf("look at the journal's files: %w", err)
	}
	var order []string
	hotDays, coldDays := map[string]int64{}, map[string]int64{}
	for n, first := range firsts {
		hot, cold := j.fileBytes(first)
		s.Files, s.HotBytes, s.ColdBytes = s.Files+1, s.HotBytes+hot, s.ColdBytes+cold
		if hot == 0 && cold > 0 {
			s.ColdFiles++
		}
		began, err := j.began(first)
		if err != nil { // empty, or damaged
			continue
		}
		day := j.legalDay(began)
		if n == 0 {
			s.First, s.Oldest = first, began
			if _, ends, err := Day(day); err == nil {
				s.Expires = ends.AddDate(0, max(int(j.months.Load()), KeepMonths), 0).UTC()
			}
		}
		if !slices.Contains(order, day) {
			order = append(order, day)
		}
		hotDays[day], coldDays[day] = hotDays[day]+hot, coldDays[day]+cold
	}
	s.DayBytes = dayBytes(order, hotDays, coldDays)
	if s.FreeBytes, err = durable.Free(j.dir); err != nil {
		return Stats{}, fmt.Errorf("look at the journal's disk: %w", err)
	}
	if s.DayBytes > 0 {
		s.DaysLeft = s.FreeBytes / s.DayBytes
	}
	return s, nil
}

// dayBytes is the mean of the newest days that are cold, else of those that are over. The last is not over, and the first may have begun late.
func dayBytes(order []string, hot, cold map[string]int64) int64 {
	over := order[min(1, max(0, len(order)-1)):max(0, len(order)-1)]
	kept := slices.DeleteFunc(slices.Clone(over), func(day string) bool { return hot[day] > 0 })
	if len(kept) == 0 {
		kept = over
	}
	kept = kept[max(0, len(kept)-statsDays):]
	sum := int64(0)
	for _, day := range kept {
		sum += hot[day] + cold[day]
	}
	return sum / max(1, int64(len(kept)))
}
