package api

import (
	"context"

	"shekara/provisioning"
	"shekara/provisioning/verification"
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

type verificationOutput struct {
	Body verification.Report
}

func (s *Server) registerExplanations() {
	register(s, Looks, large(post("explain", "/explanations", "Status", "Say what becomes of a packet, and why; none is sent")), s.explain)
	register(s, Looks, large(post("matrix", "/matrices", "Status", "Say who may open connections to whom")), s.matrix)
	register(s, Looks, post("verify", "/verifications", "Status", "Hold what is loaded now against what the documents in force ask"), s.verify)
}

func (s *Server) verify(ctx context.Context, _ *struct{}) (*verificationOutput, error) {
	r, err := s.config.Engine.Verify(ctx)
	return &verificationOutput{Body: r}, err
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
