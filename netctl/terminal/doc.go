// Package terminal asks the kernel whether an open file is a terminal, and how large it is.
//
// Owns: nothing.
// Never: changes a terminal's settings; writes to it.
// Imports: golang.org/x/sys/unix.
// Test: go test ./netctl/terminal (unprivileged, on a pseudo-terminal).
package terminal
