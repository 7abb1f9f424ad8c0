package api

import (
	"context"
	"strconv"
	"time"

	"shekara/journal"
	"shekara/provisioning"
)

const (
	sinkLookEvery = 10 * time.Second
	// sinkSettles is how long a sink must be otherwise than is on record before that is recorded: two events in two minutes are the most that one can
	// cause, and a centre that restarts causes none.
	sinkSettles = time.Minute
)

// watchSinks records when sinks fail and when they are well again, until ctx ends.
func (s *Server) watchSinks(ctx context.Context) {
	watch := sinkWatch{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(sinkLookEvery):
		}
		sinks, err := s.config.Engine.Sinks(ctx)
		if err != nil {
			s.config.Log.Warn("look at the sinks", "error", err)
			continue
		}
		all := make([]provisioning.SinkStatus, len(sinks))
		for i, sink := range sinks {
			all[i] = s.config.told(sink.Name)
		}
		for _, e := range watch.look(all, time.Now()) {
			s.config.Recorder.Post(e)
		}
	}
}

// sinkWatch is what is on record of each sink.
type sinkWatch map[string]*sinkRecord

type sinkRecord struct {
	failed    bool      // by the last event
	otherwise time.Time // since when it is the other way round; zero: it is not
	began     time.Time // of the failure on record
}

// look notes how the sinks are, and gives what is to be recorded.
func (w sinkWatch) look(all []provisioning.SinkStatus, now time.Time) (events []journal.Event) {
	there := map[string]bool{}
	for _, s := range all {
		there[s.Name] = true
		r := w[s.Name]
		if r == nil {
			r = &sinkRecord{}
			w[s.Name] = r
		}
		switch fails := s.Error != ""; {
		case fails == r.failed:
			r.otherwise = time.Time{}
		case r.otherwise.IsZero():
			r.otherwise = now
		case now.Sub(r.otherwise) < sinkSettles:
		case fails:
			events = append(events, journal.Event{Type: journal.SinkFail, Severity: journal.Error, Object: "sink/" + s.Name, Message: "nothing reaches it: " + s.Error,
				Fields: map[string]string{"sequence": strconv.FormatUint(s.Sequence, 10), "behind": strconv.FormatUint(s.Behind, 10), "since": r.otherwise.UTC().Format(time.RFC3339)}})
			*r = sinkRecord{failed: true, began: r.otherwise}
		default:
			failing := r.otherwise.Sub(r.began).Round(time.Second)
			events = append(events, journal.Event{Type: journal.SinkRecover, Severity: journal.Notice, Object: "sink/" + s.Name, Message: "it is sent to again, after " + failing.String(),
				Fields: map[string]string{"sequence": strconv.FormatUint(s.Sequence, 10), "behind": strconv.FormatUint(s.Behind, 10), "seconds": strconv.FormatInt(int64(failing.Seconds()), 10)}})
			*r = sinkRecord{}
		}
	}
	for name := range w {
		if !there[name] {
			delete(w, name)
		}
	}
	return events
}
