package api

import (
	"context"

	"shekara/provisioning"
)

type statusOutput struct {
	ETag string `header:"ETag" doc:"the revision in force"`
	Body provisioning.Status
}

type tunnelsInput struct {
	State string `query:"state" maxLength:"32" doc:"only those in this state"`
}

type tunnelsOutput struct {
	Body Tunnels
}

type tunnelInput struct {
	Name string `path:"name" maxLength:"63"`
}

type tunnelOutput struct {
	Body provisioning.TunnelStatus
}

func (s *Server) registerTunnels() {
	register(s, Looks, get("get-status", "/status", "Status", "The box at a glance"), s.status)
	register(s, Looks, get("list-tunnels", "/tunnels", "Status", "Every tunnel as it truly is"), s.listTunnels)
	register(s, Looks, get("get-tunnel", "/tunnels/{name}", "Status", "One tunnel as it truly is"), s.getTunnel)
	register(s, Looks, textual(get("export-peers", "/peers/export", "Status", "This box's Peer documents with its public keys"), "application/yaml"), s.exportPeers)
}

func (s *Server) status(ctx context.Context, _ *struct{}) (*statusOutput, error) {
	status, err := s.config.glance(ctx)
	return &statusOutput{ETag: etag(status.Revision), Body: status}, err
}

func (s *Server) listTunnels(ctx context.Context, in *tunnelsInput) (*tunnelsOutput, error) {
	all, err := s.config.Engine.Tunnels(ctx)
	if err != nil || in.State == "" {
		return &tunnelsOutput{Body: Tunnels{Tunnels: listed(all)}}, err
	}
	chosen := []provisioning.TunnelStatus{}
	for _, t := range all {
		if t.State == in.State {
			chosen = append(chosen, t)
		}
	}
	return &tunnelsOutput{Body: Tunnels{Tunnels: chosen}}, nil
}

func (s *Server) getTunnel(ctx context.Context, in *tunnelInput) (*tunnelOutput, error) {
	tunnel, err := s.config.Engine.Tunnel(ctx, in.Name)
	return &tunnelOutput{Body: tunnel}, err
}

func (s *Server) exportPeers(ctx context.Context, _ *struct{}) (*textOutput, error) {
	text, err := s.config.Engine.PeerExport(ctx)
	return &textOutput{ContentType: "application/yaml", Body: text}, err
}
