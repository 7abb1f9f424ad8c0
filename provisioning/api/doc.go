// Package api serves the engine over HTTP on unix sockets: OpenAPI 3.1 at /openapi.json, problems as in RFC 9457 with a hint,
// newline-delimited JSON for streams, Prometheus text for metrics. The kernel's word about the other end (peer credentials) says who asks.
//
// Owns: the paths, the messages on the wire, who may do what, the metrics' names.
// Never: listens on a network; decides anything about tunnels (the engine does); shows a private key.
// Imports: provisioning and its documents, journal; huma and client_golang.
// Test: go test ./provisioning/api (unprivileged, over real unix sockets, with an engine in memory).
//
// Two sockets, since a socket file has one group: shekarad.sock (0660 root:shekara) acts, shekarad-view.sock (0660 root:shekara-view)
// only looks, whoever connects to it. Which operation needs what stands beside each operation as act or look.
package api
