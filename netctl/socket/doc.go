// Package socket tells who is at the other end of a unix socket, and passes open files through one.
//
// Owns: peer credentials (SO_PEERCRED, SO_PEERGROUPS) and descriptor passing (SCM_RIGHTS).
// Never: decides what a peer may do.
// Imports: golang.org/x/sys/unix.
// Test: go test ./netctl/socket (unprivileged).
package socket
