// Package conntrack tells which connections are tracked and what passed in each, hears of those that begin and end, forgets those that are no longer
// allowed, exactly these, and says what was known of them: a firewall that accepts what is established goes on with a connection until its
// entry is deleted.
//
// Owns: the decoder of conntrack's netlink messages, of dumps and of news; nothing on the host: it deletes entries that its caller selects.
// Never: flushes the table; deletes an entry that something else allows; keeps figures, or says whose they are.
// Imports: netctl, netctl/multicast, ti-mo/conntrack, golang.org/x/sys/unix.
// Test: go test ./netctl/conntrack (live, needs root and nft).
package conntrack
