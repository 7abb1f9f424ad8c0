// Package socket tells who is at the other end of a unix socket, passes open files through one, and asks and sets what package net
// does not of TCP sockets.
//
// Owns: peer credentials (SO_PEERCRED, SO_PEERGROUPS) and descriptor passing (SCM_RIGHTS), what TCP has not been acknowledged (SIOCOUTQ), whether a connection was refused (ECONNREFUSED),
// listening at addresses that are not there yet (IP_FREEBIND).
// Never: decides what a peer may do.
// Imports: golang.org/x/sys/unix.
// Test: go test ./netctl/socket (unprivileged).
package socket
