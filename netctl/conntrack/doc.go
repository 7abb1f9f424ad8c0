// Package conntrack tells which connections are tracked, forgets those that are no longer allowed, exactly these, and says what was known of
// them: a firewall that accepts what is established goes on with a connection until its entry is deleted.
//
// Owns: nothing on the host; it deletes entries that its caller selects.
// Never: flushes the table; deletes an entry that something else allows.
// Imports: ti-mo/conntrack, mdlayher/netlink, vishvananda/netlink/nl.
// Test: go test ./netctl/conntrack (live, needs root and nft).
package conntrack
