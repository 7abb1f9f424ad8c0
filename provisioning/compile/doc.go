// Package compile resolves a valid document set, for one site, to what this box should hold: Desired. Defaults are applied here, once.
//
// What was compiled is held to the contour rules once more, so that neither a mistake here nor a validation that was left out brings an
// unlawful flow to the filter (lawful.go).
//
// Owns: link names, marks, route tables of outer routes, the mapping of a Flow to the filter's places.
// Never: touches the host; judges the form of documents (validate has).
// Imports: provisioning/document, provisioning/contour, tunnels, firewall, netctl (for their specs).
// Test: go test ./provisioning/compile (unprivileged).
package compile
