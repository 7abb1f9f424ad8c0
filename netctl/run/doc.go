// Package run runs programs: an argument vector, never a shell; found in a fixed PATH; a cleared environment; input,
// output and time bounded. Start starts one that outlives this process.
//
// Owns: how programs of the host are run.
// Never: builds a command out of text; passes on this process's environment; puts a secret into an argument.
// Imports: netctl, os/exec, golang.org/x/sys/unix.
// Test: go test ./netctl/run (unprivileged).
package run
