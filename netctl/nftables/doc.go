// Package nftables asks the kernel for its nftables generation, which nft(8) does not print.
//
// Owns: Generation.
// Never: reads or writes rules (nft does, run by firewall/nft).
// Imports: vishvananda/netlink/nl, golang.org/x/sys/unix.
// Test: go test ./netctl/nftables (needs root).
package nftables
