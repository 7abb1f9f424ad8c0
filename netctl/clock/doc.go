// Package clock says how far the host's clock can be believed, by the kernel's word (adjtimex(2)): whether anything keeps it, and how wrong it may be.
//
// Owns: nothing.
// Never: sets the clock, or says more than whoever keeps it told the kernel.
// Imports: golang.org/x/sys/unix.
// Test: go test ./netctl/clock (unprivileged).
package clock
