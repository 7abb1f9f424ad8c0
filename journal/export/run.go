package export

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"reflect"
	"sync"
	"time"

	"shekara/netctl/durable"
)

// lookEvery is how often the sinks in force are asked for.
const lookEvery = 5 * time.Second

// Options are what Run works with.
type Options struct {
	Source Source
	Dir    string // for the cursors; made if absent
	Log    *slog.Logger
}

// Run carries the journal to the sinks in force, as these change, until ctx ends.
func Run(ctx context.Context, o Options) (err error) {
	if err := durable.MkdirAll(o.Dir, 0o755); err != nil {
		return err
	}
	lock, err := durable.AcquireLock(filepath.Join(o.Dir, "LOCK"))
	if err != nil {
		return fmt.Errorf("another shekarad export runs: %w", err)
	}
	defer func() {
		if released := lock.Release(); err == nil {
			err = released
		}
	}()
	if err := durable.RemoveTemporary(o.Dir); err != nil {
		return err
	}
	e := &exporter{Options: o, carriers: map[string]*carrying{}}
	defer e.set(ctx, nil)
	for known := true; ctx.Err() == nil; pause(ctx, lookEvery) {
		sinks, err := o.Source.Sinks(ctx)
		switch {
		case err == nil:
			e.set(ctx, sinks)
		case known && ctx.Err() == nil:
			o.Log.Warn("ask for the sinks", "error", err)
		}
		known = err == nil
	}
	return nil
}

type exporter struct {
	Options
	carriers map[string]*carrying
}

// carrying is a carrier that runs.
type carrying struct {
	sink Sink
	end  context.CancelFunc
	done sync.WaitGroup
}

// set ends the carriers of sinks that are gone or changed, and starts those of new ones.
func (e *exporter) set(ctx context.Context, sinks []Sink) {
	wanted := map[string]Sink{}
	for _, s := range sinks {
		wanted[s.Name] = s
	}
	for name, c := range e.carriers {
		if now, still := wanted[name]; !still || !reflect.DeepEqual(now, c.sink) {
			c.end()
		}
	}
	for name, c := range e.carriers {
		if now, still := wanted[name]; !still || !reflect.DeepEqual(now, c.sink) {
			c.done.Wait()
			delete(e.carriers, name)
			e.Log.Info("sink ends", "name", name)
		}
	}
	for name, s := range wanted {
		if e.carriers[name] != nil {
			continue
		}
		running, end := context.WithCancel(ctx)
		c := &carrying{sink: s, end: end}
		e.carriers[name] = c
		e.Log.Info("sink begins", "name", name, "protocol", s.Protocol, "to", s.Address+s.Path)
		c.done.Go(func() { (&carrier{sink: s, source: e.Source, dir: e.Dir, log: e.Log}).run(running) })
	}
}
