package api

import (
	"context"
	"net/http/httptest"
	"strings"
	"time"

	"shekara/journal"
	"shekara/provisioning"
)

// Unanchored is unanchored.
func Unanchored(sinks []provisioning.SinkStatus, now time.Time) []string {
	return unanchored(sinks, now)
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
