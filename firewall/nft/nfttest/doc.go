// Package nfttest holds a Loader without a kernel (Fake), and the contract that it and the real one keep.
//
// Owns: Fake, Contract.
// Never: touches the host; is imported by a program.
// Imports: firewall and its folder nft, testing.
// Test: go test ./firewall/nft/... runs the contract on both.
package nfttest
