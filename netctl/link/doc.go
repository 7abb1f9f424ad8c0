// Package link lists, makes, sets and deletes the links that bear our name (sk-*).
//
// Owns: links whose names begin with netctl.LinkPrefix, of kind wireguard or TUN.
// Never: deletes or changes any other link; decides what should be.
// Imports: netctl, netctl/ns, vishvananda/netlink.
// Test: go test ./netctl/link (needs root).
package link
