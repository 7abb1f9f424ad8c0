// Package probe asks what this host can do, by doing it: a link made in a throwaway namespace, a table loaded with
// --check, a program run. Tests call probetest.Need, which skips with the feature's name and fails where SHEKARA_REQUIRE names it.
//
// Owns: the names of features.
// Never: looks at versions; remembers an answer (so none can be stale); leaves anything on the host.
// Imports: netctl/ns, vishvananda/netlink, golang.org/x/sys/unix, os/exec.
// Test: go test ./netctl/probe/...
package probe
