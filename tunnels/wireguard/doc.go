// Package wireguard makes tunnels real with WireGuard: by the kernel's own device where it has one, else by a userspace device in a
// process of its own (folder dataplane) that outlives the daemon. One Driver, both engines under one contract suite (folder wireguardtest).
//
// Owns: links named sk-*, their keys, ports, marks and peers; UAPI sockets /var/run/wireguard/sk-*.sock; RunDir/dataplane.
// Never: replaces all peers of a device; touches a peer that no Op names; makes routes, rules or filters; decides what should be.
// Imports: tunnels, netctl and its folders, wgctrl (generic netlink of the kernel's device; written for nothing else and hard to do better).
// Test: go test ./tunnels/wireguard/... (live tests need root; the kernel's engine is tested in a virtual machine by testbed/vm).
package wireguard
