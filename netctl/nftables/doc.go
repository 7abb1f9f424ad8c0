// Package nftables asks the kernel what nft(8) does not print, the generation of its nftables and who changed them, and does what nft(8) is slow
// to do, or cannot where there is none: say which tables there are, change a few elements of sets.
//
// Owns: Generation; HasTable; Tables; Commits, by which our transactions are told from those of others; Listener, which hears each transaction: the process that made it and what it touched;
// Grace, which waits for packets that are in old rules; Batch, a transaction of elements, and of rules with another number in them.
// Never: knows what rules say (nft writes them, run by firewall/nft).
// Imports: netctl/multicast, vishvananda/netlink/nl, golang.org/x/sys/unix.
// Test: go test ./netctl/nftables (needs root; the decoder has a fuzz target).
package nftables
