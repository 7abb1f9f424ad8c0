package api

import (
	"context"

	"shekara/provisioning"
)

type explainInput struct {
	Body Explain
}

type explainOutput struct {
	Body provisioning.Explanation
}

func (s *Server) registerExplanations() {
	register(s, Looks, large(post("explain", "/explanations", "Status", "Say what becomes of a packet, and why; none is sent")), s.explain)
}

func (s *Server) explain(ctx context.Context, in *explainInput) (*explainOutput, error) {
	r := provisioning.Request{Files: documentFiles(in.Body.Files), Whole: in.Body.Whole, Actor: callerOf(ctx).actor}
	x, err := s.config.Engine.Explain(ctx, in.Body.Question, r)
	return &explainOutput{Body: x}, err
}
