package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// Stalled is how long the engine's loop may stand still before the daemon counts as dead: the watchdog then stops pinging. The loop
// waits while somebody changes the host, and 10,000 tunnels on a slow box take their time.
const Stalled = 2 * time.Minute

type healthOutput struct {
	Status int
	Body   Health
}

func (s *Server) registerHealth() {
	register(s, Looks, get("live", "/health/live", "Health", "200 while the engine's loop turns, else 503"), s.live)
	register(s, Looks, get("ready", "/health/ready", "Health", "200 once a revision is in force and the host was seen to hold it, else 503"), s.ready)
	register(s, Looks, textual(get("metrics", "/metrics", "Health", "Metrics in Prometheus' text format"), "text/plain"), s.metrics)
}

func (s *Server) live(context.Context, *struct{}) (*healthOutput, error) {
	if idle := time.Since(s.config.Engine.Alive()); idle > Stalled {
		return unhealthy(fmt.Sprintf("the engine's loop last turned %s ago", idle.Round(time.Second))), nil
	}
	return &healthOutput{Status: http.StatusOK, Body: Health{OK: true}}, nil
}

func (s *Server) ready(ctx context.Context, _ *struct{}) (*healthOutput, error) {
	status, err := s.config.Engine.Status(ctx)
	switch {
	case err != nil:
		return nil, err
	case status.Revision == 0:
		return unhealthy("nothing was applied yet"), nil
	case status.LastObserved.IsZero():
		return unhealthy("the host was not looked at yet"), nil
	}
	return &healthOutput{Status: http.StatusOK, Body: Health{OK: true}}, nil
}

func unhealthy(reason string) *healthOutput {
	return &healthOutput{Status: http.StatusServiceUnavailable, Body: Health{Reason: reason}}
}

func (s *Server) metrics(context.Context, *struct{}) (*huma.StreamResponse, error) {
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		r, w := humago.Unwrap(hc)
		s.config.Metrics.Handler(s.config).ServeHTTP(w, r)
	}}, nil
}
