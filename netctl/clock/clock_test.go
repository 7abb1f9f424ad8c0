package clock

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestNow(t *testing.T) {
	s, err := Now()
	if err != nil || s.MaxError < 0 || s.Synchronised && s.MaxError > 16*time.Second {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestStateOf(t *testing.T) {
	for name, c := range map[string]struct {
		kept int
		t    unix.Timex
		want State
	}{
		"kept":             {unix.TIME_OK, unix.Timex{Maxerror: 2500}, State{true, 2500 * time.Microsecond}},
		"a leap second":    {unix.TIME_INS, unix.Timex{Status: unix.STA_INS, Maxerror: 1}, State{true, time.Microsecond}},
		"never kept":       {unix.TIME_ERROR, unix.Timex{Status: unix.STA_UNSYNC, Maxerror: 16_000_000}, State{false, 16 * time.Second}},
		"said by one word": {unix.TIME_OK, unix.Timex{Status: unix.STA_UNSYNC, Maxerror: 1}, State{false, time.Microsecond}},
	} {
		if got := stateOf(c.kept, &c.t); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
