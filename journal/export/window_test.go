package export

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestWindow(t *testing.T) {
	begin := time.Now()
	at := func(seconds float64) time.Time { return begin.Add(time.Duration(seconds * float64(time.Second))) }
	var w window
	expect := func(what string, acknowledged int64, now time.Time, want uint64) {
		t.Helper()
		if got := w.settled(acknowledged, now); got != want {
			t.Errorf("%s: settled %d, want %d", what, got, want)
		}
	}
	w.sent(50, 50, 5000)
	w.sent(100, 50, 10000)
	w.sent(200, 100, 20000)
	expect("nothing is acknowledged", 0, at(30), 0)
	expect("the first is acknowledged now", 9999, at(30), 0)
	expect("and all ten seconds later, but the second only now", 20000, at(40), 50)
	expect("nothing new", 20000, at(49.9), 0)
	expect("a hundred records are behind the second", 20000, at(50), 100)
	expect("the last has none behind it", 20000, at(5000), 0)
	w.sent(300, 0, 20000) // all of which the filter passed over
	expect("still not", 20000, at(5020), 0)
	w.sent(400, 100, 30000)
	expect("now both, which the other end has for long", 20000, at(5040), 300)
	// What anchors the journal needs no hundred records behind it.
	var quiet window
	quiet.sent(7, 1, 100)
	holds := func(what string, acknowledged int64, now time.Time, want uint64) {
		t.Helper()
		if got := quiet.holds(acknowledged, now); got != want {
			t.Errorf("%s: %d is held, want %d", what, got, want)
		}
	}
	holds("nothing is acknowledged", 99, at(0), 0)
	holds("it is now", 100, at(20), 0)
	for n := range 10 { // each of which makes the last mark anew
		quiet.sent(uint64(8+n), 0, 100)
		quiet.sent(uint64(8+n), 1, 200)
		holds("not for long enough", 100, at(20.9+float64(n)), 0)
	}
	holds("for ten seconds", 100, at(30), 7)
	holds("what came meanwhile is not acknowledged", 199, at(50), 0)
	holds("it is now", 200, at(50), 0)
	holds("for ten seconds", 200, at(60), 17)
	// One by one, as on a quiet day, and never more marks than are needed.
	for i := range 1000 {
		w.sent(uint64(401+i), 1, int64(30000+i))
	}
	if len(w.marks) > 1000/markRecords+2 {
		t.Errorf("%d marks for 1,100 records", len(w.marks))
	}
	expect("seen now", 40000, at(6000), 0)
	if got := w.settled(40000, at(6010)); got < 1400-settleRecords-markRecords || got > 1400-settleRecords {
		t.Errorf("of 1,400 records %d are settled", got)
	}
}

// TestWindowIsPatient: at any time what is settled was acknowledged ten seconds before, and a hundred records behind it were sent.
func TestWindowIsPatient(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type place struct {
			records      uint64
			bytes        int64
			acknowledged time.Time
		}
		var w window
		places := map[uint64]*place{}
		var sequence, records, settled uint64
		var bytes, acknowledged int64
		now := time.Now()
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "pause")) * time.Millisecond)
			if n := rapid.IntRange(0, 60).Draw(t, "records"); n > 0 {
				sequence, records, bytes = sequence+uint64(n), records+uint64(n), bytes+int64(100*n)
				w.sent(sequence, n, bytes)
				places[sequence] = &place{records: records, bytes: bytes}
			}
			acknowledged = rapid.Int64Range(acknowledged, bytes).Draw(t, "acknowledged")
			for _, p := range places {
				if p.acknowledged.IsZero() && p.bytes <= acknowledged {
					p.acknowledged = now
				}
			}
			s := w.settled(acknowledged, now)
			if s == 0 {
				continue
			}
			if p := places[s]; s <= settled || p.acknowledged.IsZero() || now.Sub(p.acknowledged) < settleAfter || records-p.records < settleRecords {
				t.Fatalf("settled %d after %d: %+v of %d records", s, settled, p, records)
			}
			settled = s
		}
	})
}

// TestPauses: each is drawn from the upper half, and is no longer than is said, so that a centre that is back is noticed within it.
func TestPauses(t *testing.T) {
	for failures, want := range []time.Duration{firstPause, firstPause, 2 * firstPause, longestRefused, longestRefused} {
		for range 100 {
			if got := pauseAfter(failures, longestRefused); got < want/2 || got >= want {
				t.Fatalf("after %d failures %s, want up to %s", failures, got, want)
			}
		}
	}
	if got := pauseAfter(1000, longestPause); got < longestPause/2 || got >= longestPause {
		t.Errorf("after many %s", got)
	}
}
