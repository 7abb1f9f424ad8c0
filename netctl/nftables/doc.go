// Package nftables asks the kernel what nft(8) does not print, the generation of its nftables and who changed them, and what nft(8) is slow
// to tell, or cannot where there is none: which tables there are.
//
// Owns: Generation; HasTable; Tables; Commits, by which our transactions are told from those of others; Listener, which hears each transaction: the process that made it and what it touched;
// Grace, which waits for packets that are in old rules.
// Never: reads or writes rules (nft does, run by firewall/nft); makes a transaction itself.
// Imports: netctl/multicast, vishvananda/netlink/nl, golang.org/x/sys/unix.
// Test: go test ./netctl/nftables (needs root; the decoder has a fuzz target).
package nftables
