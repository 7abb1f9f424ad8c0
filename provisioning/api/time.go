package api

import (
	"context"
	"net/http"

	"shekara/provisioning"
	"shekara/timesync/server"
)

type timeOutput struct {
	Body provisioning.TimeStatus
}

type timeServiceOutput struct {
	Body provisioning.TimeService
}

type timeClientsInput struct {
	After string `query:"after" maxLength:"64" doc:"only those with a greater address"`
	Limit int    `query:"limit" minimum:"1" maximum:"10000" default:"1000"`
}

// TimeClients is who asked for the time.
type TimeClients struct {
	Clients []server.Client `json:"clients"`
	Next    string          `json:"next,omitempty"` // ask for those after this; absent: there are no more
}

type timeClientsOutput struct {
	Body TimeClients
}

func (s *Server) registerTime() {
	register(s, Looks, get("show-time", "/time", "Time", "How good the clock is, by which sources, and whom it was given to"), s.showTime)
	register(s, Looks, get("list-time-clients", "/time/clients", "Time", "Who asked for the time, by address"), s.listTimeClients)
	register(s, Looks, get("show-time-service", "/time/service", "Time", "What the TimeService in force asks of this box, for shekarad time"), s.showTimeService)
}

func (s *Server) showTime(ctx context.Context, _ *struct{}) (*timeOutput, error) {
	status, err := s.config.Engine.TimeStatus(ctx)
	if err != nil {
		return nil, err
	}
	if status == nil {
		return nil, &Problem{Type: typeNotFound, Title: "No time service", Status: http.StatusNotFound, Detail: "no TimeService is in force on this box",
			Hint: "apply a document of kind TimeService: docs/time.md"}
	}
	return &timeOutput{Body: *status}, nil
}

func (s *Server) showTimeService(ctx context.Context, _ *struct{}) (*timeServiceOutput, error) {
	service, err := s.config.Engine.TimeService(ctx)
	return &timeServiceOutput{Body: service}, err
}

func (s *Server) listTimeClients(ctx context.Context, in *timeClientsInput) (*timeClientsOutput, error) {
	clients, err := s.config.Engine.TimeClients(ctx, in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	body := TimeClients{Clients: listed(clients)}
	if len(clients) == in.Limit {
		body.Next = clients[len(clients)-1].Address.String()
	}
	return &timeClientsOutput{Body: body}, nil
}
