// Package netctltest holds a fake of the host's network, which is a small kernel, and the exam that the fake and the real
// one both sit.
//
// Owns: Kernel, which refuses what Linux refuses of routes, rules and sysctls; Contract.
// Never: is imported by a program, since it brings testing along.
// Imports: netctl.
// Test: go test ./netctl/netctltest (the fake, unprivileged); go test ./netctl (the real one, needs root).
package netctltest
