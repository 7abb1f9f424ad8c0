package api

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"shekara/journal"
	"shekara/provisioning"
)

const (
	sinkLookEvery = 10 * time.Second
	// sinkSettles is how long a sink must be otherwise than is on record before that is recorded: two events in two minutes are the most that one can
	// cause, and a centre that restarts causes none.
	sinkSettles = time.Minute
	// sinkLookBack is how many records a start looks back for what is on record of the sinks: at most some seconds where the journal has no indexes yet.
	sinkLookBack = 1_000_000
	sinkPage     = 1000
)

// watchSinks records when sinks fail and when they are well again, until ctx ends.
func (s *Server) watchSinks(ctx context.Context) {
	var watch sinkWatch // nil: what is on record is not known yet
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(sinkLookEvery):
		}
		if watch == nil {
			recalled, err := recallSinks(ctx, s.config.Journal)
			if err != nil {
				s.config.Log.Warn("look for what is on record of the sinks", "error", err)
				continue
			}
			watch = recalled
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

// recallSinks reads what the last life of the daemon recorded: a failure that goes on is not told again, and one that ended meanwhile is told to be over.
func recallSinks(ctx context.Context, from Journal) (sinkWatch, error) {
	watch, last := sinkWatch{}, from.Last()
	for after := last - min(last, sinkLookBack); after < last; {
		events, looked, err := from.Query(ctx, after, sinkPage, journal.Filter{Types: []journal.Type{journal.SinkFail, journal.SinkRecover}})
		if err != nil {
			return nil, err
		}
		for _, e := range events {
			name := strings.TrimPrefix(e.Object, "sink/")
			if e.Type == journal.SinkRecover {
				delete(watch, name)
				continue
			}
			r := sinkRecord{failed: true, began: e.Time}
			if since, err := time.Parse(time.RFC3339, e.Fields["since"]); err == nil {
				r.began = since
			}
			watch[name] = &r
		}
		if looked <= after {
			break
		}
		after = looked
	}
	return watch, nil
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
	for _, name := range slices.Sorted(maps.Keys(w)) {
		r := w[name]
		switch {
		case there[name]:
		case !r.failed:
			delete(w, name)
		case r.otherwise.IsZero():
			r.otherwise = now
		case now.Sub(r.otherwise) >= sinkSettles: // who starts has no documents for a moment
			failed := r.otherwise.Sub(r.began).Round(time.Second)
			events = append(events, journal.Event{Type: journal.SinkRecover, Severity: journal.Notice, Object: "sink/" + name, Message: "its document is gone: nothing is sent to it any more, after a failure of " + failed.String(),
				Fields: map[string]string{"seconds": strconv.FormatInt(int64(failed.Seconds()), 10)}})
			delete(w, name)
		}
	}
	return events
}
