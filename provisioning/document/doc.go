// Package document holds the kinds of document, decodes them strictly with positions, and keeps them in an indexed Set.
//
// A Set never changes: editing gives a new one that shares all that is the same, so one document among thirty thousand costs
// microseconds, and Affected names the few others that the edit may matter to. Documents as nearly all are written take a short way past
// the YAML library (simple.go), to the very same nodes.
//
// Owns: the YAML form of every kind; their defaults; docs/documents.md is generated from the types.
// Never: judges (validate does), resolves (compile does), touches the host.
// Imports: go.yaml.in/yaml/v4, firewall for its vocabulary of services.
// Test: go test ./provisioning/document (unprivileged, with fuzz targets).
package document
