package api

import (
	"context"
	"maps"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"shekara/journal"
	"shekara/provisioning"
)

// Behind is behind.
func Behind(sinks []provisioning.SinkStatus, now time.Time) []string {
	return behind(sinks, now)
}

// Unanchored is unanchored.
func (c Config) Unanchored(ctx context.Context, now time.Time) ([]string, error) {
	return c.unanchored(ctx, now)
}

// HandleAsRoot asks the handler as root, without a socket.
func (s *Server) HandleAsRoot(method, path, body, match string) *httptest.ResponseRecorder {
	request := httptest.NewRequest(method, path, strings.NewReader(body))
	request.Header.Set("Content-Type", "application/json")
	if match != "" {
		request.Header["If-Match"] = []string{match}
	}
	answer := httptest.NewRecorder()
	s.handler.ServeHTTP(answer, request.WithContext(context.WithValue(request.Context(), callerKey{}, caller{role: Acts})))
	return answer
}

// NewSinkWatch is a sinkWatch's look.
func NewSinkWatch() func([]provisioning.SinkStatus, time.Time) []journal.Event {
	return sinkWatch{}.look
}

// MetricNames are the names of all metrics of our own that can be served.
func MetricNames(t *testing.T) []string {
	t.Helper()
	described := make(chan *prometheus.Desc)
	go func() {
		defer close(described)
		for _, c := range append(NewMetrics("test").processed, collectorsOf(Config{})...) {
			c.Describe(described)
		}
	}()
	names := map[string]bool{}
	for d := range described {
		name := strings.Split(d.String(), `"`)[1] // Desc{fqName: "NAME", ...
		if strings.HasPrefix(name, "shekara_") || strings.HasPrefix(name, "wireguard_") {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}
