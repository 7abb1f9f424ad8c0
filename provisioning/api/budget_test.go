package api

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"shekara/journal"
	"shekara/provisioning"
)

// kept is a recorder.
type kept struct {
	provisioning.Recorder
	events []journal.Event
}

func (k *kept) Post(e journal.Event) <-chan error {
	k.events = append(k.events, e)
	done := make(chan error, 1)
	done <- nil
	return done
}

// TestWhatIsWithheldIsCounted: whatever a user causes beyond his budget is one record when the minute is over, or the server ends; others have budgets of their own.
func TestWhatIsWithheldIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		recorder := &kept{}
		s := New(Config{Recorder: recorder, Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics("test")})
		refuse := func(user uint32, times int) {
			for range times {
				s.recordRefusal(journal.Actor{UID: user}, "apply")
			}
		}
		expect := func(want ...string) {
			t.Helper()
			synctest.Wait()
			var got []string
			for _, e := range recorder.events {
				if undeclared := journal.Undeclared(e); len(undeclared) > 0 {
					t.Errorf("%+v: %q", e, undeclared)
				}
				got = append(got, e.Fields["withheld"])
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			recorder.events = nil
		}
		refuse(7, refusalsPerMinute)
		refuse(8, 1)
		expect("", "", "", "", "", "", "", "", "", "", "")
		refuse(7, 25)
		refuse(8, 1)
		expect("")
		time.Sleep(time.Minute)
		expect("25")
		time.Sleep(time.Hour)
		expect()
		refuse(7, refusalsPerMinute+3)
		expect("", "", "", "", "", "", "", "", "", "")
		s.refusals.end()
		expect("3")
		time.Sleep(time.Hour)
		expect()
	})
}
