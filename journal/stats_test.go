package journal

import (
	"testing"
	"time"
)

// TestStats: what the files take, of which the compressed ones count for what a day takes.
func TestStats(t *testing.T) {
	empty := signedOpen(t, t.TempDir())
	if s, err := empty.Stats(); err != nil || s.First != 0 || s.DaysLeft != -1 || s.FreeBytes == 0 {
		t.Errorf("of an empty one: %+v, %v", s, err)
	}
	dir := daily(t, 12)
	j := signedOpen(t, dir)
	hot, err := j.Stats()
	if err != nil || hot.Files != 12 || hot.ColdFiles != 0 || hot.First != 1 || hot.Last != j.Last() || hot.ColdBytes != 0 || hot.DaysLeft <= 0 {
		t.Errorf("%+v, %v", hot, err)
	}
	if days := time.Since(hot.Oldest).Hours() / 24; days < 10.5 || days > 11.5 {
		t.Errorf("the oldest record is of %v", hot.Oldest)
	}
	if want := hot.Oldest.AddDate(3, 0, 0); hot.Expires.Before(want) || hot.Expires.After(want.Add(48*time.Hour)) {
		t.Errorf("it expires %v", hot.Expires)
	}
	if _, err := j.cool(t.Context(), time.Now(), 0); err != nil {
		t.Fatal(err)
	}
	cold, err := j.Stats()
	if err != nil || cold.Files != 12 || cold.ColdFiles < 8 || cold.ColdBytes == 0 || cold.HotBytes >= hot.HotBytes || cold.DayBytes >= hot.DayBytes || cold.DayBytes == 0 || cold.DaysLeft <= hot.DaysLeft {
		t.Errorf("%+v, %v; hot it was %+v", cold, err, hot)
	}
}

func TestDayBytes(t *testing.T) {
	for name, c := range map[string]struct {
		order     []string
		hot, cold map[string]int64
		want      int64
	}{
		"nothing":   {nil, nil, nil, 0},
		"one day":   {[]string{"a"}, map[string]int64{"a": 5}, nil, 0},
		"two days":  {[]string{"a", "b"}, map[string]int64{"a": 5, "b": 7}, nil, 0},
		"three":     {[]string{"a", "b", "c"}, map[string]int64{"a": 5, "b": 7, "c": 1}, nil, 7},
		"some cold": {[]string{"a", "b", "c", "d"}, map[string]int64{"c": 90, "d": 80}, map[string]int64{"a": 50, "b": 7}, 7},
	} {
		if got := dayBytes(c.order, c.hot, c.cold); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
