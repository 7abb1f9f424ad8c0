package api

import (
	"context"

	"shekara/provisioning"
)

type incidentsInput struct {
	Closed bool `query:"closed" doc:"also the last ones that are over"`
}

type incidentsOutput struct {
	Body provisioning.IncidentReport
}

func (s *Server) registerIncidents() {
	register(s, Looks, get("list-incidents", "/incidents", "Events", "Incidents that are open: what events come to by the rules"), s.listIncidents)
}

func (s *Server) listIncidents(ctx context.Context, in *incidentsInput) (*incidentsOutput, error) {
	report, err := s.config.Engine.Incidents(ctx)
	report.Open, report.Rules = listed(report.Open), listed(report.Rules)
	if !in.Closed {
		report.Closed = nil
	}
	return &incidentsOutput{Body: report}, err
}
