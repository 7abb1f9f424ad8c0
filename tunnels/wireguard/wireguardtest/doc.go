// Package wireguardtest is the one exam that both engines sit: Contract, with real packets and wg(8) as the foreign side.
//
// Owns: the namespaces, devices and processes that a test makes; all go with it.
// Never: works in the initial namespace; is imported by a program.
// Imports: tunnels/wireguard, netctl/nstest.
// Test: go test ./tunnels/wireguard (needs root).
package wireguardtest
