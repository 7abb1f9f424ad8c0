// Package netctl is the only door to the host: links, addresses, routes, rules and sysctls here; running programs,
// durable files, secrets, namespaces and probing what the kernel can do in its folders run, durable, secret, ns and probe.
//
// Owns: route protocol 83, the tables and rule priorities named in this package, links whose names begin with "sk-" and their addresses.
// Never: touches a route, rule, address or link that does not bear our protocol number or name, but for a route in a table of ours that
// took the place of one of ours; decides what should be; says who changed routing, which the kernel does not tell.
// Imports: the standard library, vishvananda/netlink, golang.org/x/sys. Nothing of Shekara above it.
// Test: go test ./netctl/... (the live tests need root and make their own network namespaces).
package netctl
