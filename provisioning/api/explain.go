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

type matrixInput struct {
	Body MatrixRequest
}

type matrixOutput struct {
	Body provisioning.Matrix
}

func (s *Server) registerExplanations() {
	register(s, Looks, large(post("explain", "/explanations", "Status", "Say what becomes of a packet, and why; none is sent")), s.explain)
	register(s, Looks, large(post("matrix", "/matrices", "Status", "Say who may open connections to whom")), s.matrix)
}

func (s *Server) explain(ctx context.Context, in *explainInput) (*explainOutput, error) {
	r := provisioning.Request{Files: documentFiles(in.Body.Files), Whole: in.Body.Whole, Actor: callerOf(ctx).actor}
	x, err := s.config.Engine.Explain(ctx, in.Body.Question, r)
	return &explainOutput{Body: x}, err
}

func (s *Server) matrix(ctx context.Context, in *matrixInput) (*matrixOutput, error) {
	r := provisioning.Request{Files: documentFiles(in.Body.Files), Whole: in.Body.Whole, Actor: callerOf(ctx).actor}
	m, err := s.config.Engine.Matrix(ctx, r)
	return &matrixOutput{Body: m}, err
}
