// Package nstest builds hosts and links out of network namespaces for live tests: Host, Link, then real packets. WithOwnPIDs runs a test as in a container.
//
// Owns: what it makes; all of it goes with the test.
// Never: works in the initial namespace; is imported by a program, since it brings testing along.
// Imports: netctl/ns, netctl/probe, vishvananda/netlink, os/exec.
// Test: go test ./netctl/nstest (needs root).
package nstest
