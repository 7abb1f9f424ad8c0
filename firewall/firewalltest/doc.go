// Package firewalltest is what every engine of the packet filter must do, as tests with real packets in network namespaces.
//
// Owns: Contract (packets), LoaderContract (the way a Loader behaves), the rig of a box and its neighbours, and the reference: what a Policy means, written
// without the compiler.
// Never: is imported by a program; knows how an engine writes its rules.
// Imports: firewall, provisioning's folders that compile documents, testbed's oracle and packets, netctl's test helpers, testing.
// Test: go test ./firewall/nft ./firewall/iptables (live) run it; go test ./firewall/firewalltest compares the explainer with the reference.
package firewalltest
