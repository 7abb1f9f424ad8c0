package service

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"shekara/netctl/durable"
	"shekara/timesync"
	"shekara/timesync/chrony"
)

// engine is who asks the sources now.
type engine struct {
	Engine
	steers bool
}

// Engine knows how the clock stands.
type Engine interface {
	Run(context.Context) error
	Standing() timesync.Standing
	Status() timesync.Status
}

const closes = 20 * time.Millisecond // between two looks whether our own server has closed its sockets

func chronyFolders(o Options) (state, running string) {
	return filepath.Join(o.Dir, "chrony"), filepath.Join(o.RunDir, "chrony")
}

// chrony has chronyd ask, serve and, if it is let, steer.
func (s *service) chrony(spec timesync.Spec) func(context.Context) error {
	state, running := chronyFolders(s.options)
	before := s.engine.Load()
	_, again := before.Engine.(*chrony.Engine)
	e := chrony.New(chrony.Options{Spec: spec, State: state, Running: running, Steer: s.options.Steer, Again: again && before.Standing().State != timesync.Unsynchronised,
		Served: &s.chronyd, Log: os.Stderr, Complain: func(err error) {
			s.trouble(aboutChronyd, err)
			if err == nil {
				s.trouble("sources", nil) // whatever kept chronyd from being started is over
			}
		}})
	s.engine.Store(&engine{e, s.options.Steer})
	return func(ctx context.Context) error {
		for s.server.Listening() > 0 && ctx.Err() == nil {
			time.Sleep(closes)
		}
		return s.persist(ctx, "sources", func() error { // chronyd may be installed later
			for _, dir := range []string{state, running} {
				if err := errors.Join(durable.MkdirAll(dir, 0o700), os.Chmod(dir, 0o700)); err != nil { // chronyd wants its socket's folder to be nobody else's
					return err
				}
			}
			return e.Run(ctx)
		})
	}
}
