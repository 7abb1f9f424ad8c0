// Package nfttest holds a Loader without a kernel (Fake).
//
// Owns: Fake.
// Never: touches the host; is imported by a program.
// Imports: firewall.
// Test: go test ./firewall/nft/nfttest: it sits the same exam as the real one (firewalltest.LoaderContract).
package nfttest
