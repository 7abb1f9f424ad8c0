// Package nflog reads the records that rules of the packet filter send about packets (NFLOG, "log group" of nft(8)).
//
// A record names the rule by its log prefix, the links, and what the first bytes of the packet say. Those bytes come from anywhere, so they
// are read by a decoder of our own that is bounded and fuzzed. Records that the kernel had no room for (ENOBUFS) are a gap, which is told.
//
// Owns: one listener on one netlink group of its network namespace (Group opens it anew for each Run).
// Never: decides what is recorded (rules do, with their limits); keeps records.
// Imports: netctl, florianl/go-nflog, vishvananda/netlink.
// Test: go test ./netctl/nflog (the decoder unprivileged; live, needs root and nft).
package nflog
