// Package conntrack forgets connections that are no longer allowed: a firewall that accepts what is established goes on
// with a connection until its entry is deleted.
//
// Owns: nothing on the host; it deletes entries between prefixes that its caller names.
// Never: flushes the table.
// Imports: ti-mo/conntrack, mdlayher/netlink.
// Test: go test ./netctl/conntrack (live, needs root and nft).
package conntrack
