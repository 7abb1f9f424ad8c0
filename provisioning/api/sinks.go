package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"shekara/journal"
	"shekara/journal/export/cursor"
	"shekara/provisioning"
)

const (
	// silentAfter is how long shekarad export may say nothing before it counts as dead: it reports twice a minute at least.
	silentAfter = 2 * time.Minute
	// unanchoredAfter is how long a sink may have got nothing, and nobody outside a checkpoint, before it is an alarm.
	unanchoredAfter = time.Hour
)

type sinksOutput struct {
	Body Sinks
}

type linesInput struct {
	After uint64 `query:"after" doc:"only those with a greater sequence"`
	Limit int    `query:"limit" minimum:"1" maximum:"10000" default:"1000"`
	Wait  int    `query:"wait" minimum:"0" maximum:"30" default:"0" doc:"seconds to wait for the first one, if there is none yet"`
}

func (s *Server) registerSinks() {
	register(s, Looks, get("list-sinks", "/sinks", "Events", "To whom the journal goes, by the documents in force"), s.listSinks)
	register(s, Looks, textual(get("read-journal", "/journal/lines", "Events", "The journal's records as they stand in its files, oldest first, one a line"), lines), s.readLines)
}

func (s *Server) listSinks(ctx context.Context, _ *struct{}) (*sinksOutput, error) {
	sinks, err := s.config.Engine.Sinks(ctx)
	return &sinksOutput{Body: Sinks{Site: s.config.Site, Sinks: listed(sinks)}}, err
}

func (s *Server) readLines(ctx context.Context, in *linesInput) (*textOutput, error) {
	if last := s.config.Journal.Last(); in.After > last {
		return nil, &Problem{Type: typeJournal, Title: "Another journal", Status: http.StatusConflict, Detail: fmt.Sprintf("the journal has %d records, and is asked for those after %d", last, in.After),
			Hint: "who asks has read another journal: let it begin anew, from 0"}
	}
	if in.Wait > 0 {
		wait, cancel := context.WithTimeout(ctx, time.Duration(in.Wait)*time.Second)
		go func() {
			select {
			case <-s.closing:
				cancel()
			case <-wait.Done():
			}
		}()
		err := s.config.Journal.Wait(wait, in.After)
		cancel()
		if err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
			return nil, err
		}
	}
	found, err := s.config.Journal.Lines(ctx, in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	end := in.After
	if len(found) > 0 {
		var last struct{ Sequence uint64 }
		if err := json.Unmarshal(found[len(found)-1], &last); err != nil {
			return nil, fmt.Errorf("read the journal's lines: %w", err)
		}
		end = last.Sequence
	}
	if !s.followers.goesOn(callerOf(ctx).actor.UID, in.After, end) {
		s.recordLook(ctx, "read-journal")
	}
	return &textOutput{ContentType: lines, Body: append(bytes.Join(found, []byte("\n")), "\n"[:min(len(found), 1)]...)}, nil
}

// followers remembers where those ended who read the journal's lines: who goes on from there has looked once, as one who follows the events has.
type followers struct {
	mu   sync.Mutex
	ends map[uint32][]uint64 // by user; guarded by mu
}

// followed is how many reads of one user can go on at once.
const followed = 64

// goesOn notes that a user has read from one sequence to another, and says whether that goes on from where one of its reads ended.
func (f *followers) goesOn(user uint32, after, end uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	ends, known := f.ends[user]
	if at := slices.Index(ends, after); at >= 0 {
		ends[at] = end
		return true
	}
	if !known && len(f.ends) >= budgetUsers || f.ends == nil {
		f.ends = map[uint32][]uint64{}
	}
	f.ends[user] = append(ends[max(0, len(ends)-followed+1):], end)
	return false
}

// glance is the engine's status, with what shekarad export says of each sink.
func (c Config) glance(ctx context.Context) (provisioning.Status, error) {
	status, err := c.Engine.Status(ctx)
	if err != nil {
		return status, err
	}
	status.Sinks, err = c.delivered(ctx)
	if err != nil {
		return status, err
	}
	alarms, err := c.unanchored(ctx, time.Now())
	status.Alarms = append(append(status.Alarms, behind(status.Sinks, time.Now())...), alarms...)
	return status, err
}

// Anchored is the newest record up to which a centre outside the box has taken all that it is to get; 0: none. Checkpoints pass every filter, so it holds one that vouches for those before it.
// A cursor beyond the journal's end is of another journal, and says nothing of this one.
func (c Config) Anchored(ctx context.Context) (newest uint64, err error) {
	sinks, err := c.Engine.Sinks(ctx)
	if err != nil {
		return 0, err
	}
	for _, sink := range sinks {
		state, err := cursor.Read(c.ExportDir, sink.Name)
		if sink.Protocol == "file" || sink.Protocol == "syslog-udp" || err != nil || state.Refused > 0 { // the box itself, nobody known, and one that throws away
			continue
		}
		if held := max(state.Delivered, state.Held); held <= c.Journal.Last() { // read after the cursor, which may have grown meanwhile
			newest = max(newest, held)
		}
	}
	return newest, nil
}

// unanchored is the alarm that nobody outside the box holds a checkpoint of the last hour, by which what was changed since would show. Not in a box's first hour, nor
// of a journal that cannot be read: others tell of that.
func (c Config) unanchored(ctx context.Context, now time.Time) ([]string, error) {
	newest, err := c.Anchored(ctx)
	if err != nil {
		return nil, err
	}
	since := "nor any before"
	if newest > 0 {
		held, known := c.timeAfter(ctx, newest-1)
		if !known || now.Sub(held) < unanchoredAfter {
			return nil, nil
		}
		since = "the newest there is of " + held.UTC().Format(time.RFC3339)
	}
	if stats, err := c.Journal.Stats(); err != nil || stats.Last == 0 || now.Sub(stats.Oldest) < unanchoredAfter {
		return nil, nil
	}
	return []string{"no centre outside this box holds a checkpoint of the last hour, " + since +
		": what is on record could be changed without a trace. Apply an EventSink (files and syslog over UDP do not count), or see in the status why the sink gets nothing"}, nil
}

// behind are the alarms of sinks that got nothing for long.
func behind(sinks []provisioning.SinkStatus, now time.Time) (alarms []string) {
	for _, s := range sinks {
		age := now.Sub(s.Oldest)
		if s.Behind == 0 || s.Oldest.IsZero() || age < unanchoredAfter {
			continue
		}
		reason := s.Error
		if reason == "" {
			reason = "it takes less than is recorded"
		}
		alarms = append(alarms, fmt.Sprintf("sink %s lacks what was recorded %s ago: %s", s.Name, age.Round(time.Minute), reason))
	}
	return alarms
}

// delivered is how far each sink is. What is behind is counted by the journal as it is now, not by what the exporter knew.
func (c Config) delivered(ctx context.Context) ([]provisioning.SinkStatus, error) {
	sinks, err := c.Engine.Sinks(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]provisioning.SinkStatus, 0, len(sinks))
	for _, sink := range sinks {
		of := c.told(sink.Name)
		if of.Behind > 0 {
			of.Oldest, _ = c.timeAfter(ctx, of.Sequence)
		}
		all = append(all, of)
	}
	return all, nil
}

// told is what shekarad export says of a sink, and how many records the journal has beyond.
func (c Config) told(sink string) provisioning.SinkStatus {
	state, err := cursor.Read(c.ExportDir, sink)
	of := provisioning.SinkStatus{Name: sink, Connected: state.Connected, Sequence: state.Sent, Sent: state.Records, Refused: state.Refused, Failures: state.Failures, Error: state.Error, Since: state.Since}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		of.Error = "shekarad export has not begun: systemctl status shekara-export"
	case err != nil:
		of.Error = err.Error()
	case time.Since(state.Written) > silentAfter:
		of.Connected, of.Error, of.Since = false, "shekarad export does not run: systemctl status shekara-export", state.Written
	}
	last := c.Journal.Last() // read after the cursor, which is never beyond it but of another journal
	if sent := max(state.Sent, state.Held); sent > last {
		of.Sequence = 0
		if of.Error == "" {
			of.Error = fmt.Sprintf("the journal has %d records, and the sink was sent those up to %d, of another journal: stop shekara-export, remove %s.json in %s, and start it again", last, sent, sink, c.ExportDir)
		}
	}
	of.Behind = last - of.Sequence
	return of
}

// recordTimes remembers when records were recorded: to read the one where a sink stands that has been away for long a compressed file may have to be read whole, and each scrape, status and
// followed change asks for it.
type recordTimes struct {
	mu    sync.Mutex
	after map[uint64]time.Time // of the first record after a sequence; guarded by mu
}

// mostTimes is how many are remembered before all are forgotten: many more than there are sinks, as each that is sent to asks for others all the time.
const mostTimes = 1000

// timeAfter is when the first record after a sequence was recorded.
func (c Config) timeAfter(ctx context.Context, after uint64) (at time.Time, known bool) {
	t := c.times
	if t != nil {
		t.mu.Lock()
		at, known = t.after[after]
		t.mu.Unlock()
		if known {
			return at, true
		}
	}
	next, _, err := c.Journal.Query(ctx, after, 1, journal.Filter{}) // not under the lock: a disk may not answer
	if err != nil || len(next) == 0 {
		return time.Time{}, false
	}
	if t != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.after == nil || len(t.after) >= mostTimes {
			t.after = map[uint64]time.Time{}
		}
		t.after[after] = next[0].Time
	}
	return next[0].Time, true
}

// sinkCollector asks at each scrape, as tunnelCollector does.
type sinkCollector struct{ config Config }

type sinkDescriptions struct{ behind, age, sent, refused, failures, connected *prometheus.Desc }

func describeSinks() sinkDescriptions {
	return sinkDescriptions{
		behind:    description("shekara_sink_lag_records", "Records of the journal that the sink has not been sent, nor its filter passed over.", "sink"),
		age:       description("shekara_sink_lag_seconds", "How long ago the first of these was recorded; 0: there is none.", "sink"),
		sent:      description("shekara_sink_sent_records_total", "Records that the sink was sent, those sent again included.", "sink"),
		refused:   description("shekara_sink_refused_records_total", "Records that the sink took and threw away, by its own word.", "sink"),
		failures:  description("shekara_sink_failures_total", "Connections to the sink that failed.", "sink"),
		connected: description("shekara_sink_connected", "1 while the sink can be sent to.", "sink"),
	}
}

func (sinkCollector) Describe(to chan<- *prometheus.Desc) {
	d := describeSinks()
	for _, each := range []*prometheus.Desc{d.behind, d.age, d.sent, d.refused, d.failures, d.connected} {
		to <- each
	}
}

func (c sinkCollector) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTime)
	defer cancel()
	d := describeSinks()
	all, err := c.config.delivered(ctx)
	if err != nil {
		to <- prometheus.NewInvalidMetric(d.behind, err)
		return
	}
	send := func(desc *prometheus.Desc, of prometheus.ValueType, value float64, sink string) {
		to <- prometheus.MustNewConstMetric(desc, of, value, sink)
	}
	for _, s := range all {
		age := 0.0
		if !s.Oldest.IsZero() {
			age = max(0, time.Since(s.Oldest).Seconds())
		}
		send(d.behind, prometheus.GaugeValue, float64(s.Behind), s.Name)
		send(d.age, prometheus.GaugeValue, age, s.Name)
		send(d.sent, prometheus.CounterValue, float64(s.Sent), s.Name)
		send(d.refused, prometheus.CounterValue, float64(s.Refused), s.Name)
		send(d.failures, prometheus.CounterValue, float64(s.Failures), s.Name)
		send(d.connected, prometheus.GaugeValue, boolean(s.Connected), s.Name)
	}
}
