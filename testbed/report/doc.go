// Package report is what a run tells: as text, as JSON, and as one HTML page with the topology drawn and the matrix of who
// reached whom. The page needs nothing from elsewhere and no scripts.
//
// Owns: the form of reports; the drawing of a topology (a layered layout, made to SVG).
// Never: runs or judges anything.
// Imports: drawing.
// Test: go test ./testbed/report (unprivileged).
package report
