// Package tun makes TUN devices in the network namespace of the calling thread.
//
// Owns: the flags that golang.zx2c4.com/wireguard/tun.CreateTUNFromFile expects.
// Never: reads or writes packets; moves a device between namespaces (it races: make it where it belongs and pass the descriptor).
// Imports: netctl, golang.org/x/sys/unix.
// Test: go test ./netctl/tun (needs root and /dev/net/tun).
package tun
