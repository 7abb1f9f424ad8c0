// Package compile resolves a valid document set, for one site, to what this box should hold: Desired. Defaults are applied here, once.
//
// Owns: link names, marks, route tables of outer routes, the mapping of a Flow to the filter's places.
// Never: touches the host; judges documents (validate has).
// Imports: provisioning/document, tunnels, firewall, netctl (for their specs).
// Test: go test ./provisioning/compile (unprivileged).
package compile
