package timesync

import (
	"testing"
	"time"
)

func TestTheBoundGrows(t *testing.T) {
	at := time.Now()
	s := Standing{RootDelay: 10 * time.Millisecond, RootDispersion: 2 * time.Millisecond, Drift: 1e-6, At: at}
	for after, want := range map[time.Duration]time.Duration{
		-time.Hour:     7 * time.Millisecond, // an older moment is known no better
		0:              7 * time.Millisecond,
		time.Second:    7*time.Millisecond + 15*time.Microsecond, // never slower than a clock that nobody measures
		24 * time.Hour: 7*time.Millisecond + 1296*time.Millisecond,
	} {
		if got := s.Bound(at.Add(after)); got != want {
			t.Errorf("after %s: %s, want %s", after, got, want)
		}
	}
	s.Drift = 100e-6
	if got, want := s.Bound(at.Add(time.Second)), 7*time.Millisecond+100*time.Microsecond; got != want {
		t.Errorf("with the measured drift: %s, want %s", got, want)
	}
	if s := Unknown(at); s.State != Unsynchronised || s.Leap != LeapUnknown || s.Stratum != MaxStratum {
		t.Errorf("%+v", s)
	}
}
