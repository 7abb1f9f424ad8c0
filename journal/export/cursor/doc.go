// Package cursor is how far the journal got on its way to one sink: a small file that the exporter writes and the daemon reads, as data that another process made.
//
// Owns: the form of these files, their bounds.
// Never: connects anywhere, so that who only reads them links nothing that does.
// Imports: netctl/durable.
// Test: go test ./journal/export/cursor (unprivileged).
package cursor
