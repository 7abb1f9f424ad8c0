// Package verification says what came of holding what a box has loaded against what its documents ask: statements, each proved, violated
// with a witness, or indeterminate with its reasons.
//
//	filter       for all packets, the rules that the kernel holds let pass exactly what the documents allow (firewall/proof)
//	beside       nothing that nft does not list decides about packets (netctl/filters); what is there makes it indeterminate
//	routes       routes and rules are those that are asked for, and nobody else's take a far prefix past its tunnel
//	peers        each WireGuard peer holds exactly the prefixes of its tunnel
//	connections  no tracked connection lives that the documents do not allow
//	assertions   what Assertion documents say holds by the rules that the documents make
//	contours     the documents break no rule of the acts, but where a waiver in force lets them (provisioning/contour)
//
// Owns: the report and its verdict: violated if any statement is, else indeterminate if any is, else proved.
// Never: touches the host, reads documents, calls proved what was not looked at.
// Imports: firewall and its proof, tunnels, netctl, provisioning/contour.
// Test: go test ./provisioning/verification (unprivileged); the daemon's own path is tested live in cmd/shekarad.
package verification
