package api

import (
	"context"
	"fmt"
	"io/fs"

	"shekara/provisioning"
)

type revisionsOutput struct {
	Body Revisions
}

type revisionInput struct {
	ID int `path:"id" minimum:"1"`
}

type revisionOutput struct {
	ETag string `header:"ETag"`
	Body provisioning.Revision
}

type comparisonInput struct {
	From int `path:"id" minimum:"0" doc:"0: before the first"`
	To   int `query:"to" minimum:"0" doc:"0: the one in force"`
}

type comparisonOutput struct {
	Body Comparison
}

type documentsInput struct {
	Revision int `query:"revision" minimum:"0" doc:"0: the one in force"`
}

type textOutput struct {
	ContentType string `header:"Content-Type"`
	Body        []byte
}

func (s *Server) registerRevisions() {
	register(s, Looks, get("list-revisions", "/revisions", "Revisions", "The history, newest first"), s.listRevisions)
	register(s, Looks, get("get-revision", "/revisions/{id}", "Revisions", "One revision"), s.getRevision)
	register(s, Looks, get("compare-revisions", "/revisions/{id}/comparison", "Revisions", "What differs between two revisions"), s.compareRevisions)
	register(s, Looks, textual(get("get-documents", "/documents", "Revisions", "The documents of a revision"), "application/yaml"), s.getDocuments)
}

func (s *Server) listRevisions(ctx context.Context, _ *struct{}) (*revisionsOutput, error) {
	revisions, err := s.config.Engine.History(ctx)
	return &revisionsOutput{Body: Revisions{Revisions: listed(revisions)}}, err
}

func (s *Server) getRevision(ctx context.Context, in *revisionInput) (*revisionOutput, error) {
	revisions, err := s.config.Engine.History(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range revisions {
		if r.ID == in.ID {
			return &revisionOutput{ETag: etag(r.ID), Body: r}, nil
		}
	}
	return nil, fmt.Errorf("revision %d: %w", in.ID, fs.ErrNotExist)
}

func (s *Server) compareRevisions(ctx context.Context, in *comparisonInput) (*comparisonOutput, error) {
	to := in.To
	if to == 0 {
		status, err := s.config.Engine.Status(ctx)
		if err != nil {
			return nil, err
		}
		to = status.Revision
	}
	changes, err := s.config.Engine.Compare(ctx, in.From, to)
	return &comparisonOutput{Body: Comparison{From: in.From, To: to, Changes: listed(changes)}}, err
}

func (s *Server) getDocuments(ctx context.Context, in *documentsInput) (*textOutput, error) {
	text, err := s.config.Engine.Documents(ctx, in.Revision)
	return &textOutput{ContentType: "application/yaml", Body: text}, err
}

// listed makes an absent list an empty one: programs get [] and never null.
func listed[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
