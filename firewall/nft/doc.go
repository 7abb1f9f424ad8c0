// Package nft loads rulesets into the kernel with nft(8), each in one transaction, changes elements of them, and says whether what is there is what was loaded.
//
// List lists what the kernel holds of all tables as of one generation: firewall/engine has it proved.
//
// Owns: the table "inet shekara" of its network namespace, and for moments the dormant (unhooked) table "inet shekara-check",
// in which the kernel and nft bring a ruleset into the form in which they list it.
// Never: touches another table, but reports those that could drop what ours lets pass (Foreign); decides what the rules say.
// Imports: firewall, netctl and its folders run and nftables.
// Test: go test ./firewall/nft (live; needs root and nft). firewalltest is its contract, nfttest a Loader without kernel.
package nft
