// Package iptables is the door to the kernel's older packet filter: single rules through github.com/coreos/go-iptables, whole groups of
// chains through iptables-restore(8), which that library has not, and sets through ipset(8).
//
// Owns: finding the programs, of the variant that this host has or that is asked for (nft or legacy); their bounds in time and output.
// Never: decides what a rule says; flushes anything; keeps state.
// Imports: netctl and its folders nftables and run.
// Test: go test ./netctl/iptables (live; needs root, iptables and ipset).
package iptables
