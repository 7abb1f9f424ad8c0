// Package probetest lets a test say what it needs of the host.
//
// Owns: the meaning of SHEKARA_REQUIRE (features that must not be missing: "nftables,tun", "all", "all,-kernel-wireguard")
// and of SHEKARA_SKIPS (a file that gets one line "feature<TAB>test<TAB>reason" for each skip).
// Never: is imported by a program, since it brings testing along.
// Imports: netctl/probe.
// Test: go test ./netctl/probe/...
package probetest
