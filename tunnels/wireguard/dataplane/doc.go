// Package dataplane is the process of one userspace WireGuard device, "shekarad dataplane NAME", and the ways to start and end it.
//
//	daemon                                     process
//	  makes the TUN sk-x in its namespace
//	  listens on RunDir/dataplane/sk-x.sock
//	  starts the process  ------------------>  Run
//	                      <------------------  connects
//	  order + descriptor of the TUN -------->  makes the device, opens the port with the mark,
//	                      <------------------  serves /var/run/wireguard/sk-x.sock, says ready (or why not)
//	  closes its descriptor, configures
//	  by UAPI as for any WireGuard             lives until its link is deleted or SIGTERM
//
// The same handover serves whether the process was started by exec (Exec) or by systemd (Unit). No key is in the order: keys
// come by UAPI. A daemon that restarts finds the link and the socket, and goes on with them.
//
// Owns: the process, its UAPI socket, its UDP ports.
// Never: outlives its TUN; makes links; reads documents; logs a key.
// Imports: netctl/run, netctl/socket, golang.zx2c4.com/wireguard.
// Test: go test ./tunnels/wireguard/... (live tests need root).
package dataplane
