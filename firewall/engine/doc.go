// Package engine is the packet filter's Loader for whatever kernel there is: it hands rulesets to the engine that their policy names, or to the first
// that this host can run, and leaves nothing of the other behind.
//
// A Prover reads what all of them hold, and what others put beside it, and has firewall/proof decide on it.
//
// Owns: which engine is in use; that a listing is of one moment.
// Never: knows how an engine writes rules; lets a packet pass that one of the two policies forbids while engines change: for a moment both filter.
// Imports: firewall and its folders nft, iptables and proof, netctl's doors of the same names.
// Test: go test ./firewall/engine (live; needs root, nft, iptables and ipset).
package engine
