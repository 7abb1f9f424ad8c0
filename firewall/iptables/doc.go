// Package iptables loads rulesets into kernels too old for our nftables rules: iptables, ip6tables and ipset instead of one nftables table.
// What passes is what the Policy says, as with firewall/nft; docs/decisions says how each judgement is written here.
//
// Owns: the chains SHEKARA-* of the tables raw and mangle, and of nat if a device translates, the jumps to them, and the sets shekara-* of its network namespace.
// Never: touches a chain, rule or set of another name; decides who may reach what; says of a policy that it cannot keep exactly that it is loaded
// (UnsupportedError names the field).
// Imports: firewall, netctl and its folders iptables and nftables.
// Test: go test ./firewall/iptables (live, both variants of iptables; needs root, iptables and ipset).
package iptables
