// Package multicast hears what the kernel multicasts on netlink: a socket that is waited for, and emptied without waiting;
// and the walk through a message's attributes.
//
// Owns: the socket and its buffer; whether messages were lost.
// Never: knows what attributes mean; takes one that a process sent for one of the kernel's.
// Imports: golang.org/x/sys/unix.
// Test: go test ./netctl/multicast (needs root); netctl's and netctl/nftables' live tests use it.
package multicast
