package export

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"shekara/journal"
	"shekara/journal/export/cursor"
	"shekara/netctl/socket"
)

const (
	batchRecords = 1000
	// The first pause after a failure, and the longest. Each is drawn from its upper half, so that many edges do not come back to a centre at once.
	firstPause, longestPause = time.Second, 30 * time.Second
	// longestRefused is the longest pause where nobody listens: the other end says so at once, with one packet each way, and will be back.
	longestRefused = 4 * time.Second
	// The state is written once a second at most, and twice a minute at least.
	writeEvery, reportEvery = time.Second, 30 * time.Second
	// causeWithin is how long to wait, after a write failed, for the other end's word about it.
	causeWithin = 200 * time.Millisecond
	// emptyPause is the least time between questions to a source that had nothing.
	emptyPause = 100 * time.Millisecond
)

// link is an open way to a sink.
type link interface {
	// send hands records over in order. Position is the sequence up to which these are all that the sink gets.
	send(ctx context.Context, position uint64, records []record) error
	// settled is the newest position up to which all counts as delivered, so that a new connection begins after it, and the newest up to which the other end has all; 0: there is nothing new.
	settled(now time.Time) (delivered, held uint64)
	// ended tells why the other end has ended it; nil: it cannot.
	ended() <-chan error
	close() error
}

// open opens a way to a sink that has all up to a sequence.
func open(ctx context.Context, s Sink, after uint64) (link, error) {
	switch s.Protocol {
	case File:
		return openFile(s.Path)
	case NATS:
		return openStream(ctx, s)
	case HTTPS:
		return openBatches(ctx, s, after)
	case OTLP:
		return openTelemetry(ctx, s)
	}
	return dial(ctx, s)
}

// carrier carries the journal to one sink.
type carrier struct {
	sink   Sink
	source Source
	dir    string
	log    *slog.Logger

	state    cursor.State
	written  cursor.State // as the file has it
	failures int          // in a row
	missing  uint64       // up to here it was said which records the journal does not have
	lost     uint64       // up to here the sink acknowledged what it does not have any more; 0: nothing
}

// run returns when ctx ends.
func (c *carrier) run(ctx context.Context) {
	for known := false; ctx.Err() == nil; {
		err := error(nil)
		if !known {
			err = c.begin(ctx)
			known = err == nil
		}
		if err == nil {
			err = c.carry(ctx)
		}
		if ctx.Err() != nil {
			break
		}
		c.failed(err, known)
		wait := pauseAfter(c.failures, longestPause)
		if socket.Refused(err) || errors.Is(err, nats.ErrNoServers) { // the latter is what nats.go makes of the former
			wait = pauseAfter(c.failures, longestRefused)
		}
		var said later
		if errors.As(err, &said) {
			wait = max(wait, said.after+rand.N(firstPause))
		}
		pause(ctx, wait)
	}
	c.state.Connected = false
	if c.written != (cursor.State{}) {
		c.save(0)
	}
}

// pauseAfter is how long to wait after so many failures in a row.
func pauseAfter(failures int, most time.Duration) time.Duration {
	longest := min(firstPause<<min(max(failures-1, 0), 10), most)
	return longest/2 + rand.N(longest/2)
}

func pause(ctx context.Context, length time.Duration) {
	select {
	case <-time.After(length):
	case <-ctx.Done():
	}
}

// begin reads the cursor, or makes one.
func (c *carrier) begin(ctx context.Context) error {
	state, err := cursor.Read(c.dir, c.sink.Name)
	if errors.Is(err, fs.ErrNotExist) {
		if c.sink.NewOnly {
			if state.Delivered, err = c.source.Last(ctx); err != nil {
				return err
			}
		}
		state.Sent, state.Began, state.Written = state.Delivered, state.Delivered, time.Now().UTC()
		err = state.Write(c.dir, c.sink.Name)
	}
	if err != nil {
		return err
	}
	c.state, c.written = state, state
	if c.sink.NewOnly && c.state.Began == 0 { // of a cursor written before that was noted: what is before here it got, or was not to get
		c.state.Began = c.state.Delivered
	}
	return nil
}

// failed notes why nothing is sent. Known is whether the state was read: else it must not be overwritten.
func (c *carrier) failed(err error, known bool) {
	c.failures++
	if c.failures == 1 || c.state.Error != err.Error() {
		c.log.Warn("sink", "name", c.sink.Name, "error", err)
	}
	if c.state.Error == "" {
		c.state.Since = time.Now().UTC()
	}
	c.state.Failures++
	c.state.Connected, c.state.Error = false, err.Error()
	c.state.Sent = c.state.Delivered // what is between is sent again
	if known {
		c.save(0)
	}
}

// well notes that the sink takes what it is sent.
func (c *carrier) well() {
	if c.state.Error != "" {
		c.log.Info("sink", "name", c.sink.Name, "sequence", c.state.Sent)
	}
	c.failures, c.state.Error, c.state.Since = 0, "", time.Time{}
}

// carry opens a connection and hands over what comes, until one end fails or ctx ends.
func (c *carrier) carry(ctx context.Context) error {
	way, err := open(ctx, c.sink, c.state.Delivered)
	if err != nil {
		return err
	}
	if s, tells := way.(*stream); tells {
		c.goBack(s.have)
	}
	ctx, broken := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case err := <-way.ended():
			broken(err)
		case <-ctx.Done():
		}
	})
	err = c.deliver(ctx, way)
	pause(ctx, causeWithin)
	var failed net.Error
	if cause := context.Cause(ctx); cause != nil && !(errors.As(err, &failed) && failed.Timeout()) {
		err = cause // why the other end went says more than that a write failed
	}
	broken(nil)
	watching.Wait()
	_ = way.close()
	return err
}

// goBack moves the cursor to the newest record that the sink says it has, where that is behind: what was acknowledged may be lost since, by a purge or with a copy that was restored. What
// the filter passed over since then is looked at again, and is no loss.
func (c *carrier) goBack(have uint64) {
	if from := max(have, c.state.Began); from < c.state.Delivered {
		c.lost = max(c.lost, c.state.Delivered)
		c.state.Delivered, c.state.Held = from, from
	}
}

// sayAgain says, once, that records are sent again because the sink has lost them.
func (c *carrier) sayAgain(records []record) {
	if c.lost == 0 || len(records) == 0 {
		return
	}
	if first := records[0].event.Sequence; first <= c.lost {
		c.log.Warn("sink", "name", c.sink.Name, "again", fmt.Sprintf("records %d to %d, which it acknowledged and does not have any more", first, c.lost))
	}
	c.lost = 0
}

func (c *carrier) deliver(ctx context.Context, way link) error {
	c.state.Sent, c.state.Connected = c.state.Delivered, true
	opened := time.Now()
	for {
		asked := time.Now()
		lines, err := c.source.Lines(ctx, c.state.Sent, batchRecords)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			c.unread(err)
		}
		if len(lines) > 0 {
			records, position, err := c.choose(way, lines)
			if err != nil {
				return err
			}
			c.sayAgain(records)
			var refused refusal
			refused, err = asRefusal(way.send(ctx, position, records))
			c.refused(refused)
			c.settle(way, time.Now()) // also where only some were taken
			if err != nil {
				return err
			}
			c.state.Sent, c.state.Records = position, c.state.Records+uint64(len(records))
		}
		now := time.Now()
		c.settle(way, now)
		if err == nil && (c.state.Delivered == c.state.Sent || now.Sub(opened) >= settleAfter) {
			c.well()
		}
		c.save(writeEvery)
		switch {
		case err != nil:
			pause(ctx, pauseAfter(1, longestPause))
		case len(lines) == 0 && now.Sub(asked) < emptyPause:
			pause(ctx, emptyPause)
		}
	}
}

func (c *carrier) settle(way link, now time.Time) {
	delivered, held := way.settled(now)
	c.state.Delivered = max(c.state.Delivered, delivered)
	c.state.Held = max(c.state.Held, held, c.state.Delivered)
}

// refused notes what the sink took and threw away.
func (c *carrier) refused(r refusal) {
	if r.records > 0 {
		c.state.Refused += r.records
		c.log.Warn("sink", "name", c.sink.Name, "refused", r)
	}
}

// unread notes that the daemon does not answer. The connection to the sink is kept: a daemon that restarts is back in a moment.
func (c *carrier) unread(err error) {
	if text := fmt.Sprintf("read the journal: %v", err); c.state.Error != text {
		c.log.Warn("sink", "name", c.sink.Name, "error", text)
		c.state.Error, c.state.Since = text, time.Now().UTC()
	}
}

// choose reads the lines, between which none is missing, and keeps those that the sink gets.
func (c *carrier) choose(way link, lines [][]byte) (records []record, position uint64, err error) {
	position = c.state.Sent
	for n, line := range lines {
		e, err := journal.ParseLine(line)
		if err == nil && (e.Sequence <= position || n > 0 && e.Sequence != position+1) {
			err = fmt.Errorf("it is record %d", e.Sequence)
		}
		if err != nil {
			return nil, 0, fmt.Errorf("the record after %d: %w", position, err)
		}
		if e.Sequence > position+1 {
			c.pass(way, e.Sequence-1)
		}
		position = e.Sequence
		if c.sink.chosen(e) {
			records = append(records, record{e, line})
		}
	}
	return records, position, nil
}

// pass goes past records that the journal does not have any more: removed for their age before the sink got them, or damaged, which the daemon puts on record. A batch that said that it
// is all of them would lie.
func (c *carrier) pass(way link, last uint64) {
	if last > c.missing {
		c.log.Warn("sink", "name", c.sink.Name, "missing", fmt.Sprintf("the journal does not have the records %d to %d any more", c.state.Sent+1, last))
		c.missing = last
	}
	c.state.Sent = last
	if b, claims := way.(*batches); claims {
		b.done = last
	}
}

// save writes the state if it changed, or has not been written for long, but not within atMost of the last time. A disk that takes nothing stops
// nothing: after a restart more is sent again.
func (c *carrier) save(atMost time.Duration) {
	now := time.Now().UTC()
	age := now.Sub(c.written.Written)
	c.state.Written = c.written.Written
	if age >= 0 && (age < atMost || c.state == c.written && age < reportEvery) {
		return
	}
	c.state.Written = now
	if err := c.state.Write(c.dir, c.sink.Name); err != nil {
		c.log.Error("write the cursor", "sink", c.sink.Name, "error", err)
	}
	c.written = c.state // tried: not again at once
}
